"""Pickled .npy files: the same arrays as numpy gives, and nothing of a file that was made to harm."""

import contextlib
import io
import pickle
import random
import re

import numpy as np
import pytest
import torch
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer
from support import layouts
from support.disk import Exploit

from formats.pickled import read_pickled
from utils.errors import InputError

VALUES = {
    "float arrays": [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((4, 3), np.float16)],
    "Fortran order": [np.asfortranarray(np.arange(6.0).reshape(2, 3))],
    "big endian": [np.arange(4, dtype=">f4"), np.arange(3, dtype=">i8")],
    "no dimension, no entries": [np.array(3.5), np.zeros((0, 5)), np.zeros(0, dtype="U3")],
    "texts": ["v_a", "ü", "", np.array(["a", "bcd"]), np.array([b"x", b"yz"]), np.str_("q")],
    "numbers": [1, 2.5, np.float64(3.5), np.int32(-4), True, None, 10**30],
    "lists of lists": [[["a", "b"], [1.5, 2.5]], [], [[np.float32(1), np.array([2.0, 3.0])]]],
    "objects in objects": [layouts.object_array([np.ones(2), "a"]), layouts.object_array([])],
}


def write(path, dump, count=1):
    """A .npy file whose header promises `count` objects and whose body is a pickle."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (count,)})
        file.write(dump)
    return path


def assert_same(actual, expected):
    if isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray) and actual.shape == expected.shape
        assert actual.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        if expected.dtype != object:
            assert np.array_equal(actual, expected)
            return
    if isinstance(expected, list | np.ndarray):
        assert len(actual) == len(expected)
        for a, b in zip(actual, expected, strict=True):
            assert_same(a, b)
        return
    assert type(actual) is type(expected) and actual == expected


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("case", VALUES)
def test_the_same_as_numpy_reads(tmp_path, case, protocol):
    array = layouts.object_array(VALUES[case])
    path = write(tmp_path / "x.npy", pickle.dumps(array, protocol=protocol), len(array))
    assert_same(read_pickled(path, allowed=True), np.load(path, allow_pickle=True))


def test_arrays_of_one_shape_are_one_array_of_objects(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((3, 4, 2)).astype(object))
    assert read_pickled(tmp_path / "x.npy", allowed=True).shape == (3, 4, 2)


def test_plain_arrays_need_no_leave(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(5))
    assert read_pickled(tmp_path / "x.npy", allowed=False).tolist() == [0, 1, 2, 3, 4]


class Crafted:
    """Reduces to whatever it is given."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def structured():
    """A type of which numpy believes that it holds an object, and a file that it holds eight bytes."""
    return Crafted(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0))


EIGHT = b"AAAAAAAA"
CRAFTED = {
    "bytes as a pointer": lambda: Crafted(np.ndarray, ((1,), np.dtype("O"), EIGHT)),
    "pointer in a structure": lambda: Crafted(np.ndarray, ((1,), structured(), EIGHT)),
    "from a buffer": lambda: Crafted(_frombuffer, (EIGHT, structured(), (1,), "C")),
    "by its state": lambda: Crafted(_reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), structured(), False, EIGHT)),
    "a scalar": lambda: Crafted(scalar, (structured(), EIGHT)),
    "a scalar object": lambda: Crafted(scalar, (np.dtype("O"), EIGHT)),
    "too large": lambda: Crafted(np.ndarray, ((10**10,), np.dtype("f8"))),
    "strides beyond the end": lambda: Crafted(np.ndarray, ((2,), np.dtype("f8"), None, 0, (10**9,))),
    "fewer bytes than its shape": lambda: Crafted(
        _reconstruct, (np.ndarray, (0,), b"b"), (1, (9,), np.dtype("f8"), False, EIGHT)
    ),
    "negative shape": lambda: Crafted(_reconstruct, (np.ndarray, (0,), b"b"), (1, (-1,), np.dtype("f8"), False, EIGHT)),
    "invalid text": lambda: Crafted(
        _reconstruct, (np.ndarray, (0,), b"b"), (1, (2,), np.dtype("U1"), False, b"\xff" * 8)
    ),
    "in itself": lambda: Crafted(_reconstruct, (np.ndarray, (0,), b"b")),
    "a function": lambda: Exploit("never"),
}


@pytest.mark.parametrize("inside", [False, True], ids=["whole", "an entry"])
@pytest.mark.parametrize("case", CRAFTED)
def test_what_was_made_to_harm_is_refused(tmp_path, monkeypatch, case, inside):
    monkeypatch.chdir(tmp_path)
    content = CRAFTED[case]()
    if inside:
        content = layouts.object_array([content])
    path = write(tmp_path / "x.npy", pickle.dumps(content, protocol=4))
    with pytest.raises(InputError, match=r"not an array of arrays|not a complete"):
        read_pickled(path, allowed=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("function", [eval, print, getattr, __import__, np.load, np.save, np.frombuffer, torch.load])
def test_nothing_is_called(tmp_path, function):
    content = layouts.object_array([Crafted(function, ("1",)), ["a"]])
    path = write(tmp_path / "x.npy", pickle.dumps(content, protocol=4), 2)
    with pytest.raises(InputError, match=f"{path}: .*asks for .*{function.__name__}"):
        read_pickled(path, allowed=True)


@pytest.mark.parametrize(
    "name", ["os\nsystem", "numpy.core.multiarray\nfromfile", "numpy\nload", "numpy.core.numeric\nload"]
)
@pytest.mark.parametrize("opcode", ["c", "inst", "stack"])
def test_nothing_is_named_in_other_ways(tmp_path, name, opcode):
    """The three opcodes that name something."""
    module, attribute = name.split("\n")
    texts = [b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, attribute)]
    code = {
        "c": f"c{name}\n(S'x'\ntR.".encode(),
        "inst": f"(S'x'\ni{name}\n.".encode(),
        "stack": b"\x80\x04" + b"".join(texts) + b"\x93\x8c\x01x\x85R.",
    }[opcode]
    path = write(tmp_path / "x.npy", code)
    words = f"{path}: not an array of arrays and strings (asks for {module}.{attribute})"
    with pytest.raises(InputError, match=re.escape(words)):
        read_pickled(path, allowed=True)


@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("damage", ["empty", "text", "zeros", "half", "last bytes", "first bytes", "start overwritten"])
def test_damaged_file(tmp_path, python, damage):
    path = tmp_path / "x.npy"
    layouts.save_objects(path, [np.ones((3, 4), np.float32), ["a", "b"]], python=python)
    good = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "text": b"404: Not Found\n",
            "zeros": bytes(200),
            "half": good[: len(good) // 2],
            "last bytes": good[:-9],
            "first bytes": good[9:],
            "start overwritten": bytes(64) + good[64:],
        }[damage]
    )
    for allowed in (True, False):
        with pytest.raises(InputError, match=f"{path}: "):
            read_pickled(path, allowed=allowed)


def test_a_pickle_that_asks_for_all_memory(tmp_path):
    """Nine bytes, after which the unpickler in C has a table of 4 billion entries."""
    path = write(tmp_path / "x.npy", b"\x80\x02]r\xff\xff\xff\xff.")
    with pytest.raises(InputError):
        read_pickled(path, allowed=True)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_anywhere(tmp_path, seed):
    """A few bytes changed: InputError, or arrays and plain values."""
    generator = random.Random(seed)
    buffer = io.BytesIO()
    np.save(buffer, layouts.object_array([np.ones((3, 4), np.float32), [b"a", b"bc"], np.array(["x", "y"])]))
    for _ in range(40):
        data = bytearray(buffer.getvalue())
        for _ in range(generator.randint(1, 3)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = tmp_path / "x.npy"
        path.write_bytes(data)
        with contextlib.suppress(InputError):
            repr(read_pickled(path, allowed=True).tolist())
