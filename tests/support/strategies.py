"""What the fuzz is made of: odd numbers, texts and JSON values, and changes of a valid document or file.

Valid inputs are changed in a few places: an input that is random throughout is refused at its first byte.
"""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import note
from hypothesis import strategies as st

# Texts and numbers that programs stumble over
# fmt: off
ODD_NUMBERS = (
    "0", "-1", "1e-11", "1e-308", "5e-324", "1e18", "3e38", "1e39", "1e308", "1e400", "-1e400", "nan", "inf", "-inf",
    "9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775809", "9" * 400,
    "0x10", "1_000", "1e3", " 7 ", "٣", "1.", ".5", "+3", "--3", "1,5",
)
ODD_TEXTS = (
    "", " ", "-", "--", "---", ".", "..", "/", "\\", "a/b", "a\tb", "a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x07",
    "\x9b31m", "\x00", "\x7f", "\u2028", "\u202eevil", "\ufeff", "e\u0301", "é", "日本語", "\ud800", "\udcff", "\U0010ffff",
    "~", "$HOME", "*", "%s", "{}", "'", '"', "x" * 300, "x" * 100_000, "NaN", "null", "None", "true", "-0", "v_", "v_v_",
    "a;b", "a,b", "=1+1",
)
ODD_GRIDS = (
    "0.1:0.7:0.1", "0.5", "0.1:0.9", "0.9:0.1:0.1", "1e-11", "0.1:0.9:1e-6", "0.1:0.1:0.1", "0:1:0.1", "nan", "nan:nan:nan",
    "0.5:0.5:1e-5", "0.1:inf:0.1", ":", "::", "0.1:0.2:0.3:0.4", "1e-300:0.5:0.1", "0.9999999999999999", "0.1:0.7:-0.1",
)
# Numbers that most flags take, from small ones to the ends of number formats
COUNTS = (1, 2, 3, 5, 7, 24, 100, 1000, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 10**30, 10**308)
AMOUNTS = (0.0, 1e-308, 1e-45, 1e-38, 1e-11, 1e-7, 0.1, 0.5, 0.999, 1.0, 1.5, 7.0, 1e4, 1e18, 3e38, 3.5e38, 1e39, 1e154, 1e308)
ODD_JSON_NUMBERS = (
    0, -1, 1, -0.0, 0.5, 1e-9, 5e-324, 3e38, 1e39, 1e154, 1e308, -1e308, 2**31, 2**53 + 1, 2**63, 10**400, -(10**400),
    float("nan"), float("inf"), -float("inf"), True, False, None, "7", "0.5", "1e400", "nan", "9" * 400, "٣", "1_0", "0x1",
)
# fmt: on


def can_be_argument(text: str) -> bool:
    """Whether a process can get this text on its command line, where only bytes that are not UTF-8 become surrogates."""
    surrogates = {character for character in text if "\ud800" <= character <= "\udfff"}
    return "\0" not in text and all("\udc80" <= character <= "\udcff" for character in surrogates)


odd_numbers = st.sampled_from(ODD_NUMBERS) | st.integers().map(str) | st.floats().map(repr)
odd_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
argument_texts = odd_texts.filter(can_be_argument)
odd_values = odd_numbers | argument_texts | st.sampled_from(ODD_GRIDS)

odd_json_numbers = st.sampled_from(ODD_JSON_NUMBERS) | st.integers() | st.floats()
odd_json = st.recursive(
    odd_json_numbers | odd_texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=5,
)


class Repeated(str):
    """A key that stands beside the same key in its object: str equality would keep only one of them."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@st.composite
def changed(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A copy of a JSON document with 1 to `most` changes: a value replaced, removed, repeated, renamed, or one more."""
    return draw(_changed(document, _like, odd_json, most=most, repeat=True))


def changed_plain(
    document: Any, values: Callable[[Any], st.SearchStrategy[Any]], most: int = 2
) -> st.SearchStrategy[Any]:
    """The same of nested dicts and lists with tensors in them; `values` gives what may stand in the place of a value."""
    return _changed(document, values, values(None), most=most, repeat=False)


@st.composite
def _changed(
    draw: st.DrawFn,
    document: Any,
    values: Callable[[Any], st.SearchStrategy[Any]],
    new: st.SearchStrategy[Any],
    *,
    most: int,
    repeat: bool,
) -> Any:
    document = {"": copy.deepcopy(document)}  # so that the whole can be replaced too
    changes = ("replace",) * 8 + ("remove", "rename", "add", "wrap") + (("repeat",) if repeat else ())
    for _ in range(draw(st.integers(1, most))):
        places = list(_places(document))
        leaves = [(holder, key) for holder, key in places if not isinstance(holder[key], dict | list)]
        choice = leaves or places
        holder, key = draw(st.sampled_from(choice) | st.sampled_from(choice) | st.sampled_from(places))
        change = "replace" if key == "" else draw(st.sampled_from(changes))
        old, added, name = holder[key], draw(values(holder[key]) | new), draw(odd_texts)
        if change == "replace":
            holder[key] = added
        elif change == "remove":
            del holder[key]
        elif change == "wrap":
            holder[key] = draw(st.sampled_from(([old], {"x": old})))
        elif isinstance(holder, list):
            holder.insert(key, old if change == "repeat" else added)
        elif change == "repeat":
            holder[Repeated(key)] = added
        elif change == "rename":
            holder[name] = holder.pop(key)
        else:
            holder[name] = added
        note(f"{change} at {key!r}: old {_short(old)}, new {_short(added)}, name {name[:40]!r}")
    return document.get("")


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key or position) in a document."""
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    for key in list(keys):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places(document[key])


def _short(value: Any) -> str:
    text = f"{type(value).__name__} of {len(value)}" if isinstance(value, dict | list) and value else repr(value)
    return " ".join(text.split())[:200]


def _like(value: Any) -> st.SearchStrategy[Any]:
    """Odd values of the same kind, which pass for the old one at first."""
    if isinstance(value, str):
        return odd_texts | odd_json_numbers
    return odd_json if isinstance(value, dict | list) else odd_json_numbers


def json_bytes(document: Any) -> bytes:
    """The document as a file; odd texts that UTF-8 can't hold are escaped, as Python's json does."""
    return json.dumps(document).encode()


@st.composite
def damaged(draw: st.DrawFn, content: bytes, most: int = 3) -> bytes:
    """A copy of a file's bytes with 1 to `most` damages: a bit flipped, bytes overwritten, removed, added, or the end lost."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(data) - 1)) | st.integers(0, min(127, max(0, len(data) - 1))))
        damage = draw(st.sampled_from(("flip", "flip", "overwrite", "remove", "insert", "truncate")))
        if damage == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif damage == "overwrite":
            new = draw(st.binary(min_size=1, max_size=8) | st.sampled_from((b"\xff" * 8, b"\0" * 8)))
            data[place : place + len(new)] = new
        elif damage == "remove":
            del data[place : place + draw(st.integers(1, 16))]
        elif damage == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif damage == "truncate":
            del data[place:]
        note(f"{damage} at byte {place}")
    return bytes(data)


@st.composite
def damaged_text(draw: st.DrawFn, text: str, pieces: st.SearchStrategy[str], most: int = 3) -> str:
    """A copy of a text with 1 to `most` pieces put between or in the place of its parts."""
    parts = list(_parts(text))
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, max(0, len(parts) - 1)))
        if draw(st.booleans()):
            parts.insert(place, draw(pieces))
        else:
            parts[place : place + 1] = [draw(pieces)]
    return "".join(parts)


def _parts(text: str) -> Iterator[str]:
    """Words and the single marks between them."""
    word = ""
    for character in text:
        if character in ",;\n\t\"'":
            yield from (word, character)
            word = ""
        else:
            word += character
    yield word
