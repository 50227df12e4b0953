"""The check that the pickle in a file of torch's stands for about as much as it holds.

check_torch_pickle(path)        # before torch.load

A few bytes can make a list of twice the same list of twice the same list, and so on. Loading it takes no memory, but looking at
it, even looking a key up, never ends. So its opcodes are followed first, without making any object: a node is the list of what
it holds, and the size of a node counts what it holds as often as it holds it.
"""

import io
import pathlib
import pickletools
import zipfile
from typing import IO, Any

from formats.problems import DataError, Kind, Problem

MOST_ITEMS, ITEMS_PER_BYTE = 1_000_000, 4  # the larger limit holds; honest files have less than one item for each byte
OLD_FORMAT_PICKLES = 5  # in a file of torch before 1.6: what it is, its version, the machine, the content, the storages

_GET = {"GET", "BINGET", "LONG_BINGET"}
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_ADD = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}

Node = list[Any]  # of nodes


def check_torch_pickle(path: pathlib.Path) -> None:
    """Raise DataError when the content is far larger than the file; for a damaged file, what reading it raises."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            for _ in range(OLD_FORMAT_PICKLES):
                _check(path, file, path.stat().st_size)
        return
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".pkl"):
                data = archive.read(name)
                _check(path, io.BytesIO(data), len(data))


def _check(path: pathlib.Path, file: IO[bytes], size: int) -> None:
    limit = max(MOST_ITEMS, ITEMS_PER_BYTE * size)
    sizes: dict[int, int] = {}  # of finished nodes, by id; 0 while what a node holds is looked at
    for start in _nodes(file):
        open_nodes = [(start, iter(start))]
        sizes.setdefault(id(start), 0)
        while open_nodes:
            node, rest = open_nodes[-1]
            inner = next(rest, None)
            if inner is None:
                sizes[id(node)] = 1 + sum(sizes[id(held)] for held in node)
                if sizes[id(node)] > limit:
                    raise DataError(_absurd(path))
                open_nodes.pop()
            elif id(inner) not in sizes:
                sizes[id(inner)] = 0
                open_nodes.append((inner, iter(inner)))
            elif sizes[id(inner)] == 0:
                raise DataError(_absurd(path))  # it holds itself


def _absurd(path: pathlib.Path) -> Problem:
    return Problem(
        kind=Kind.DAMAGED, where=str(path), what="stands for far more than it holds", fix="save plain tensors"
    )


def _nodes(file: IO[bytes]) -> list[Node]:
    """Follow the opcodes up to the end of the pickle; return every node."""
    nodes: list[Node] = []
    stack: list[Node] = []
    marks: list[int] = []  # heights of the stack
    memo: dict[int, Node] = {}
    for opcode, given, _ in pickletools.genops(file):
        argument = len(memo) if given is None else given
        if opcode.name == "MARK":
            marks.append(len(stack))
        elif opcode.name in _PUT:
            memo[int(argument)] = stack[-1]
        elif opcode.name in _GET:
            stack.append(memo[int(argument)])
        elif opcode.name == "DUP":
            stack.append(stack[-1])
        else:
            before = [item.name for item in opcode.stack_before]
            first = marks.pop() - before.index("mark") if "mark" in before else len(stack) - len(before)
            held, stack[first:] = stack[first:], []
            if opcode.stack_after:
                new = held[0] if opcode.name in _ADD else held
                if opcode.name in _ADD:
                    new.extend(held[1:])
                else:
                    nodes.append(new)
                stack.append(new)
    return nodes
