"""Feature files that no program of the field writes but somebody could: read, or refused in one line, and no code runs."""

import functools
import io
import os
import zipfile

import h5py
import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, memory_limit, promised, time_limit
from support.layouts import object_array
from support.strategies import COUNTS, odd_texts, odd_values
from support.tiny import FEATURE_SIZE, write_tiny_set

from command_line.console import run_tool
from data_tools import convert, prepare
from eval.detection import main as evaluate
from formats.feature_files import FeatureFiles
from formats.feature_folders import features_in
from formats.hdf5 import arrays_in_hdf5
from formats.pickled import read_pickled
from formats.problems import raise_problem

STREAMS = ("rgb", "flow")
NPY_HEADER = b"\x93NUMPY\x01\x00"


def read(located, feature_size=FEATURE_SIZE):
    features = FeatureFiles("video", located, streams=STREAMS, feature_size=feature_size).load()
    assert np.isfinite(features).all()


# .npy and .npz whose header promises something else than the values

axes = st.integers(-2, 12) | st.sampled_from(COUNTS) | st.just(FEATURE_SIZE * 2)
shapes = st.lists(axes, max_size=3).map(tuple).map(repr) | st.sampled_from(
    ("()", "(5,)", "5", "None", "(5, 12", "(" * 300)
)
# fmt: off
dtypes = st.sampled_from((
    "'<f4'", "'<f2'", "'>f4'", "'<f8'", "'<f16'", "'<i4'", "'|b1'", "'|O'", "'<c8'", "'|V4'", "'<U9999999'", "7",
    "[('a', '<f4'), ('b', '|O')]", "[('a', '<f4', (2, 3))]", "('<f4', (1000000,))", "'" + "f" * 500 + "'", "None",
))
# fmt: on


@st.composite
def npy_files(draw):
    """An array in the .npy format with any header, and few values."""
    order = draw(st.sampled_from(("False", "True", "1", "None", "__import__('os')")))
    header = f"{{'descr': {draw(dtypes)}, 'fortran_order': {order}, 'shape': {draw(shapes)}, }}\n".encode()
    stated = draw(st.sampled_from((len(header), len(header), len(header), 0, 65535)))
    return NPY_HEADER + stated.to_bytes(2, "little") + header + b"\0" * draw(st.sampled_from((0, 1, 240, 480)))


@fuzz(200, content=npy_files(), packed=st.booleans())
def test_arrays_with_any_header(content, packed):
    with fresh_folder() as folder:
        if packed:
            with zipfile.ZipFile(folder / "video.npz", "w") as archive:
                archive.writestr("feats.npy", content)
        else:
            (folder / "video.npy").write_bytes(content)
        command = lambda _: read(features_in(folder, raise_problem)["video"])  # noqa: E731
        promised(functools.partial(run_tool, "fuzz", command), [], folder)


# Pickles of any instructions, and lists that double with every few bytes

# fmt: off
INSTRUCTIONS = st.sampled_from((
    b"(", b"]", b"}", b")", b"N", b"\x88", b"e", b"a", b"s", b"u", b"l", b"t", b"d", b"0", b"1", b"2", b"\x85", b"\x86",
    b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"p0\n", b"g0\n", b"\x94", b"K\x05", b"I1\n", b"J\xff\xff\xff\x7f", b"F1e400\n",
    b"L" + b"9" * 400 + b"L\n",
    b"U\x01a", b"X\x01\x00\x00\x00a", b"C\x04\0\0\0\0", b"B\xff\xff\xff\x7f", b"\x8d" + b"\xff" * 8,
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n",
    b"cos\nmkdir\n", b"cbuiltins\neval\n", b"c_codecs\nencode\n", b"ccopyreg\n_reconstructor\n", b"R", b"b", b"\x81", b"o",
    b"Q",
))
# fmt: on
pickles = st.lists(st.tuples(INSTRUCTIONS, st.sampled_from((1, 1, 1, 2, 60)))).map(
    lambda parts: b"".join(part * times for part, times in parts) + b"."
)


def read_as_pickle(content):
    """Give these bytes to the reader of pickled arrays."""
    with fresh_folder() as folder:
        (folder / "x.npy").write_bytes(content)
        command = lambda _: read_pickled(folder / "x.npy", allowed=True) is None  # noqa: E731
        return promised(functools.partial(run_tool, "fuzz", command), [], folder)


@fuzz(200, content=pickles, protocol=st.sampled_from((2, 4)))
def test_pickles_of_any_instructions(content, protocol):
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    read_as_pickle(NPY_HEADER + len(header).to_bytes(2, "little") + header + b"\x80" + bytes([protocol]) + content)


@pytest.mark.parametrize("kind", [list, tuple, dict])
@pytest.mark.parametrize("depth", [1, 12, 120])
def test_small_pickles_that_grow(kind, depth):
    value = kind()
    for _ in range(depth):
        value = {0: value, 1: value} if kind is dict else kind((value, value))
    file = io.BytesIO()
    np.save(file, object_array([value, 1]), allow_pickle=True)
    with time_limit(10), memory_limit(1 << 30):
        read_as_pickle(file.getvalue())


# HDF5 files of any structure


def external_dataset(group, name, outside):
    group.create_dataset(name, (5, FEATURE_SIZE * 2), "f4", external=[(str(outside), 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(group, name, outside):
    layout = h5py.VirtualLayout((5, FEATURE_SIZE * 2), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "x", (5, FEATURE_SIZE * 2))
    group.create_virtual_dataset(name, layout)


def plain(shape, dtype):
    return lambda group, name, _: group.create_dataset(name, data=np.zeros(shape, dtype))


def linked(make):
    def put(group, name, outside):
        group[name] = make(outside)

    return put


OUTSIDE = {  # whose values are in another file
    "external storage": external_dataset,
    "virtual dataset": virtual_dataset,
    "external link": linked(lambda outside: h5py.ExternalLink(str(outside), "/x")),
}
ENTRIES = {
    **OUTSIDE,
    "whole": plain((5, FEATURE_SIZE * 2), np.float32),
    "half": plain((5, FEATURE_SIZE * 2), np.float16),
    "integers": plain((5, FEATURE_SIZE * 2), np.int32),
    "one axis": plain((5,), np.float32),
    "no rows": plain((0, FEATURE_SIZE * 2), np.float32),
    "a number": plain((), np.float32),
    "structures": plain((5,), [("a", "<f4"), ("b", "<i2")]),
    "bytes": plain((5,), "S3"),
    "texts": lambda group, name, _: group.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype()),
    "empty": lambda group, name, _: group.create_dataset(name, data=h5py.Empty("f4")),
    "huge": lambda group, name, _: group.create_dataset(
        name, (2**40, FEATURE_SIZE * 2), "f4", chunks=(1, FEATURE_SIZE * 2)
    ),
    "a type": linked(lambda _: np.dtype("<f4")),
    "loop": linked(lambda _: h5py.SoftLink("/")),
    "link to itself": linked(lambda _: h5py.SoftLink("/video")),
    "link to nothing": linked(lambda _: h5py.SoftLink("/nothing")),
    "group": lambda group, name, _: group.create_group(name),
}


@fuzz(
    100,
    kind=st.sampled_from(list(ENTRIES)),
    inner=st.none() | st.sampled_from(("rgb", "flow", "x")),
    beside=st.booleans(),
)
def test_hdf5_files_of_any_structure(kind, inner, beside):
    with fresh_folder() as folder:
        outside = folder / "outside.h5"
        with h5py.File(outside, "w") as file:
            file["x"] = np.zeros((5, FEATURE_SIZE * 2), np.float32)
        with h5py.File(folder / "all.h5", "w") as file:
            group = file.create_group("video") if inner else file
            ENTRIES[kind](group, inner or "video", outside)
            if beside:
                file["other"] = np.zeros((5, FEATURE_SIZE * 2), np.float32)
        command = lambda _: read(arrays_in_hdf5(folder / "all.h5")["video"])  # noqa: E731
        outcome = promised(functools.partial(run_tool, "fuzz", command), [], folder)
        assert outcome.code == 2 or kind not in OUTSIDE, "it has read another file"


# The tools' own flags


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("crafted") / "tiny")


OWN_FLAGS = (
    "test_fraction",
    "seed",
    "feature_size",
    "modal",
    "subset",
    "tious",
    "layout",
    "ground_truth",
    "json",
    "list",
    "x",
)
tool_flags = st.lists(st.tuples(st.sampled_from(OWN_FLAGS), odd_values), max_size=2).map(
    lambda pairs: [f"--{name}={value}" for name, value in pairs]
)


@fuzz(
    100,
    tool=st.sampled_from(("prepare", "convert", "evaluate")),
    flags=tool_flags,
    encoding=st.sampled_from(("utf-8", "ascii")),
)
def test_tools_with_odd_flags(tiny, tool, flags, encoding):
    with fresh_folder() as folder:
        (folder / "labels.csv").write_text("video,label\n" + "".join(f"train_{i},x\n" for i in range(6)))
        features, labels, out = str(tiny.path / "features/train"), str(folder / "labels.csv"), str(folder / "new")
        command, arguments = {
            "prepare": (prepare.main, ["--features", features, "--labels", labels, "--out", out]),
            "convert": (convert.main, [str(tiny.path), out, f"--feature_size={FEATURE_SIZE}"]),
            "evaluate": (evaluate, ["--ground_truth", str(tiny.gt), "--detections", str(tiny.gt)]),
        }[tool]
        promised(command, [*arguments, *flags], folder, encoding=encoding)


@fuzz(60, names=st.lists(odd_texts, min_size=1, max_size=3), encoding=st.sampled_from(("utf-8", "ascii")))
def test_prepare_with_files_of_any_name(names, encoding):
    with fresh_folder() as folder:
        (folder / "in").mkdir()
        written = []
        for name in {"first", *names}:
            try:
                (folder / "in" / f"{name}.npy").write_bytes(array_bytes())
                written.append(name)
            except (OSError, ValueError):  # no file can have this name
                continue
        table = "video,label,subset\n" + "".join(
            f'"{name.replace(chr(34), chr(34) * 2)}",x,train\n' for name in written
        )
        (folder / "labels.csv").write_bytes(
            os.fsencode(table) if can_encode(table) else table.encode("utf-8", "replace")
        )
        flags = ["--features", str(folder / "in"), "--labels", str(folder / "labels.csv"), "--out", str(folder / "new")]
        promised(prepare.main, flags, folder, encoding=encoding)


def array_bytes():
    file = io.BytesIO()
    np.save(file, np.ones((4, FEATURE_SIZE * 2), np.float32))
    return file.getvalue()


def can_encode(text):
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
