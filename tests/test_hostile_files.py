"""Files that are no files, or that were made to harm: refused at once in one line, and nothing outside the set is read."""

import contextlib
import io
import json
import os
import pathlib
import pickle
import signal
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import pytest
import torch
from support import layouts
from support.fuzz import memory_limit, time_limit
from support.layouts import save_npy, write_hdf5, write_json, write_wtalc
from support.tiny import FEATURE_SIZE, TinySet
from support.trained import write_tiny_model

import main
from data_tools.check.report import check_data
from data_tools.convert import main as convert
from data_tools.prepare import main as prepare
from formats.feature_files import FeatureFiles
from formats.hdf5 import Hdf5Array, arrays_in_hdf5
from formats.pickled import read_pickled
from options import DataOptions
from run.checkpoint import load_checkpoint
from utils.errors import InputError

GOOD = np.random.default_rng(0).random((12, 2 * FEATURE_SIZE)).astype(np.float32)
SECONDS = 20  # after which something hangs; each is a matter of milliseconds


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """No test may hang."""

    def stop(*_: object) -> None:
        raise AssertionError(f"still at it after {SECONDS} s")

    earlier = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, earlier)


# What lies in the place of a file


def socket_at(path: pathlib.Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the names of sockets are short
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as opened:
        opened.bind(path.name)
    os.chdir(here)


OTHERS: dict[str, Callable[[pathlib.Path], object]] = {
    "a named pipe": os.mkfifo,
    "a socket": socket_at,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
    "Too many levels": lambda path: path.symlink_to(path.name),
}


@pytest.fixture(params=OTHERS)
def spoil(request) -> Callable[[pathlib.Path], str]:
    """spoil(path): put something else in the place of a file; what the complaint says of it."""

    def call(path: pathlib.Path) -> str:
        path.unlink(missing_ok=True)
        OTHERS[request.param](path)
        return request.param

    return call


def refused(path: pathlib.Path, read: Callable[[], object]) -> str:
    """The one line with which reading the path is refused: an InputError's, or that of the system's error."""
    with pytest.raises((InputError, OSError)) as caught:
        read()
    line = str(caught.value)
    assert str(path) in line and "\n" not in line
    return line


@pytest.mark.parametrize("name", ["gt.json", "split_train.txt", "features/train/rgb/train_0.npy"])
def test_a_set_with_something_else_in_the_place_of_a_file(tiny, spoil, run, name):
    content = layouts.content_of(tiny)
    layouts.write_split_files(content, tiny.path)
    what = spoil(tiny.path / name)
    outcome = run(tiny.path)
    assert outcome.code == 2 and outcome.out == ""
    if what in ("a folder", "Too many levels") and name != "gt.json":
        return  # not there at all, as a link to nothing
    assert what in outcome.err and name in outcome.err and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth"])
def test_features(tmp_path, spoil, suffix):
    path = tmp_path / f"video{suffix}"
    what = spoil(path)
    located = {"joint": path}
    assert what in refused(path, lambda: FeatureFiles("video", located, streams=("rgb",), feature_size=FEATURE_SIZE))


def test_hdf5(tmp_path, spoil):
    path = tmp_path / "all.h5"
    what = spoil(path)
    assert what in refused(path, lambda: arrays_in_hdf5(path))
    assert what in refused(path, lambda: Hdf5Array(path, key="x").rows(slice(None)))


def test_pickle(tmp_path, spoil):
    path = tmp_path / "x.npy"
    what = spoil(path)
    assert what in refused(path, lambda: read_pickled(path, allowed=True))


def test_checkpoint(tmp_path, spoil):
    path = tmp_path / "best.pt"
    spoil(path)
    refused(path, lambda: load_checkpoint(path))


@pytest.mark.parametrize("name", ["labels.csv", "segments.csv", "features/a.npy"])
def test_prepare(tmp_path, spoil, capsys, name):
    (tmp_path / "labels.csv").write_text("video,label\na,One\nb,One\n")
    (tmp_path / "segments.csv").write_text("video,label,start,end\na,One,0,1\n")
    for video in "ab":
        save_npy(tmp_path / f"features/{video}.npy", GOOD)
    spoil(tmp_path / name)
    tables = ["--labels", str(tmp_path / "labels.csv"), "--annotations", str(tmp_path / "segments.csv")]
    assert prepare(["--features", str(tmp_path / "features"), *tables, "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [".unfinished", "features/train/rgb/train_0.npy"])
def test_the_target_of_a_conversion(tiny, place, spoil, capsys, name):
    flags = [str(tiny.path), str(place / "new"), "--feature_size", str(FEATURE_SIZE)]
    if name != ".unfinished":
        assert convert(flags) == 0
        (place / "new/.unfinished").write_text(f"converted from {tiny.path.resolve()} (thumos, both)")
    (place / "new").mkdir(exist_ok=True)
    spoil(place / "new" / name)
    capsys.readouterr()
    assert convert(flags) in (0, 2)  # a link may be replaced
    assert "Traceback" not in capsys.readouterr().err


# HDF5 files that point elsewhere


@pytest.fixture
def secret(tmp_path) -> pathlib.Path:
    """A file outside the set, of 12 snippets if taken for features."""
    path = tmp_path / "secret"
    path.write_bytes(GOOD.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = GOOD
    return path


def external(secret: pathlib.Path, file: h5py.File, name: str) -> None:
    file.create_dataset(name, GOOD.shape, "<f4", external=[(str(secret), 0, GOOD.nbytes)])


def virtual(secret: pathlib.Path, file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout(GOOD.shape, "<f4")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "x", GOOD.shape)
    file.create_virtual_dataset(name, layout)


def plugin(secret: pathlib.Path, file: h5py.File, name: str) -> None:
    """A filter that the reader would have to load from a library; an array that says so without having used it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(GOOD.shape)
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple(GOOD.shape)
    h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, properties).write(space, space, GOOD)


def itself(secret: pathlib.Path, file: h5py.File, name: str) -> None:
    file.create_group(name)
    file[name]["rgb"] = file[name]
    file[name]["flow"] = file["/"]


POINTERS: dict[str, Callable[[pathlib.Path, h5py.File, str], object]] = {
    "external link": lambda secret, file, name: file.__setitem__(
        name, h5py.ExternalLink(secret.with_suffix(".h5"), "x")
    ),
    "soft link": lambda secret, file, name: file.__setitem__(name, h5py.SoftLink("/train_0")),
    "soft link to itself": lambda secret, file, name: file.__setitem__(name, h5py.SoftLink(f"/{name}")),
    "external storage": external,
    "virtual dataset": virtual,
    "plugin": plugin,
    "group in itself": itself,
    "a type": lambda secret, file, name: file.__setitem__(name, np.dtype("f4")),
    "never written": lambda secret, file, name: file.create_dataset(name, GOOD.shape, "f4"),
    "a thousand GB of nothing": lambda secret, file, name: file.create_dataset(
        name, (10**11, GOOD.shape[1]), "f4", chunks=(10**4, GOOD.shape[1]), compression="gzip", data=None
    ),
}


@pytest.mark.parametrize("kind", POINTERS)
@pytest.mark.parametrize("inside", [False, True], ids=["entry", "stream"])
def test_hdf5_that_points_elsewhere(tmp_path, content, place, run, secret, capsys, kind, inside):
    """It is a problem of its video alone: the others are read. Nothing of the other file comes into a converted set."""
    write_hdf5(content, place / "all.h5", groups=inside)
    write_json(place / "gt.json", layouts.own_json(content))
    name = "train_1/rgb" if inside else "train_1"
    with contextlib.suppress(ValueError), h5py.File(place / "all.h5", "a") as file:
        del file[name]
        POINTERS[kind](secret, file, name)
    located = arrays_in_hdf5(place / "all.h5")
    assert located.keys() == content.videos.keys()
    for video, arrays in located.items():
        read = lambda: FeatureFiles(video, arrays, streams=("rgb", "flow"), feature_size=FEATURE_SIZE).load()  # noqa: B023, E731
        if video == "train_1":
            refused(place / "all.h5", read)
        else:
            np.testing.assert_allclose(read(), layouts.joint(content.videos[video]), rtol=1e-6)
    target = tmp_path / "converted"
    assert convert([str(place), str(target), "--feature_size", str(FEATURE_SIZE)]) == 2
    assert "train_1" in capsys.readouterr().err and not target.exists()


def test_hdf5_whose_entries_appear_twice(tmp_path):
    """A second hard link is the same array."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = GOOD
        file["b"] = file["a"]
    arrays = arrays_in_hdf5(tmp_path / "a.h5")
    assert np.array_equal(arrays["b"]["joint"].rows(slice(None)), GOOD)


# Small pickles that stand for large things


def object_file(path: pathlib.Path, dump: bytes, count: int = 1) -> pathlib.Path:
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (count,)})
        file.write(dump)
    return path


def array_of(inner: bytes) -> bytes:
    """The pickle of an array of one object, whose opcodes are given."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    kind = b"(cnumpy\ndtype\n(S'O8'\ntR"
    return b"\x80\x02" + empty + b"(I1\n(I1\nt" + kind[1:] + b"I00\n(" + inner + b"ltb."


DOUBLED = {
    "tuples": b")" + b"2\x86" * 60,
    "lists": b"]" + b"2\x86" * 60,
    "lists by memo": b"]q\x00"
    + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)),
    "a text many times": b"X" + struct.pack("<I", 1000) + b"a" * 1000 + b"2\x86" * 40,
    "a long number": b"\x8b" + struct.pack("<i", 100_000) + b"\x7f" * 100_000,
    "keys": b"}" + b")" + b"2\x86" * 60 + b"K\x01s",
    "a set": b"\x8f(" + b")" + b"2\x86" * 60 + b"\x90",
    "type": b"cnumpy\ndtype\n(" + b")" + b"2\x86" * 60 + b"tR",
    "bytes made again": b"".join(
        [b"X" + struct.pack("<I", 50_000) + b"a" * 50_000 + b"q\x00("]
        + [b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"] * 5000
        + [b"l\x86"]
    ),
    "itself": b"]q\x00h\x00a",
    "deep": b"]" * 5000 + b"a" * 4999,
}


@pytest.mark.parametrize("kind", DOUBLED)
def test_a_pickle_that_doubles(tmp_path, kind):
    path = object_file(tmp_path / "x.npy", array_of(DOUBLED[kind]))
    with pytest.raises(InputError, match=f"{path}: ") as caught:
        read_pickled(path, allowed=True)
    assert len(str(caught.value)) < 1000


def test_arrays_of_arrays_that_double(tmp_path):
    array = layouts.object_array([np.ones(3), np.ones(3)])
    for _ in range(40):
        array = layouts.object_array([array, array])
    path = object_file(tmp_path / "x.npy", pickle.dumps(array), 2)
    with pytest.raises(InputError, match="stands for far more than it holds"):
        read_pickled(path, allowed=True)


def test_a_shape_that_holds_nothing(tmp_path):
    """No bytes for 10 ** 15 texts of no letters."""
    array = np.empty(0, "S1")
    dump = pickle.dumps(layouts.object_array([array]), protocol=2)
    changed = dump.replace(b"K\x00\x85", b"\x8a\x07" + (10**15).to_bytes(7, "little") + b"\x85").replace(b"S1", b"S0")
    path = object_file(tmp_path / "x.npy", changed)
    with pytest.raises(InputError):
        read_pickled(path, allowed=True)


def test_the_same_list_twice_is_honest(tmp_path):
    labels = ["Dive", "Jump"]
    path = object_file(tmp_path / "x.npy", pickle.dumps(layouts.object_array([labels] * 30)), 30)
    assert read_pickled(path, allowed=True).tolist() == [labels] * 30


def test_a_wtalc_set_with_a_doubling_pickle(place, content, run):
    folder = write_wtalc(content, place) / "Tiny-Annotations"
    for name in ("labels", "segments", "duration", "videoname"):
        good = (folder / f"{name}.npy").read_bytes()
        object_file(folder / f"{name}.npy", array_of(DOUBLED["lists by memo"]))
        outcome = run(place, "--allow_pickle")
        assert outcome.code == 2 and f"{name}.npy: " in outcome.err and len(outcome.err.splitlines()) == 1
        (folder / f"{name}.npy").write_bytes(good)


# Archives and headers that promise more than there is


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


def read_joint(path: pathlib.Path) -> FeatureFiles:
    return FeatureFiles("video", {"joint": path}, streams=("rgb", "flow"), feature_size=FEATURE_SIZE)


def test_an_archive_that_unpacks_to_far_more(tmp_path):
    path, width = tmp_path / "video.npz", 2 * FEATURE_SIZE
    rows = 100_000_000 // (4 * width)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((rows, width)) + bytes(4 * rows * width))
    assert path.stat().st_size < 1_000_000
    assert "that unpack to" in refused(path, lambda: read_joint(path))


@pytest.mark.parametrize("shape", [(10**9, 12), (2**61, 12), (2**63, 12), (-1, 12), (12, 12)])
def test_a_header_that_promises_more_than_its_file_holds(tmp_path, shape):
    with zipfile.ZipFile(tmp_path / "video.npz", "w") as archive:
        archive.writestr("x.npy", npy_header(shape) + bytes(48))
    (tmp_path / "video.npy").write_bytes(npy_header(shape) + bytes(48))
    for path in tmp_path.iterdir():
        refused(path, lambda: read_joint(path))  # noqa: B023


def test_an_archive_that_lies_about_its_members(tmp_path):
    path = tmp_path / "video.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_header((12, 12)) + bytes(4 * 144))
    size = len(npy_header((12, 12))) + 4 * 144
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", size), struct.pack("<I", size + 4 * 12)))
    refused(path, lambda: read_joint(path))


def test_features_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    np.savez(tmp_path / "video.npz", x=GOOD)
    monkeypatch.setattr("utils.memory.free_bytes", lambda device: 100)
    line = refused(tmp_path / "video.npz", lambda: read_joint(tmp_path / "video.npz").load())
    assert "takes 576 bytes" in line


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["expanded", "overlapping", "sparse"])
def test_tensors_that_stand_for_more_than_they_hold(tmp_path, kind, old):
    row = torch.ones(1, 2 * FEATURE_SIZE)
    tensor = {
        "expanded": row.expand(10**9, -1),
        "overlapping": torch.ones(50).unfold(0, 2 * FEATURE_SIZE, 1),
        "sparse": torch.sparse_coo_tensor(
            torch.zeros(2, 1, dtype=torch.int64), torch.ones(1), (10**9, 2 * FEATURE_SIZE)
        ),
    }[kind]
    path = tmp_path / "video.pt"
    torch.save(tensor, path, _use_new_zipfile_serialization=not old)
    assert "expanded" in refused(path, lambda: read_joint(path)) or kind == "sparse"


def test_a_tensor_file_that_asks_for_more_memory_than_there_is(tmp_path):
    path = tmp_path / "video.pt"
    torch.save(torch.ones(12, 2 * FEATURE_SIZE), path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    count, absurd = bytes([24 * FEATURE_SIZE]), b"\x8a\x06" + (2**45).to_bytes(6, "little")
    path.write_bytes(data.replace(b"K" + count, absurd))
    assert path.read_bytes() != data
    refused(path, lambda: read_joint(path))


def doubled_torch(path: pathlib.Path, dump: bytes) -> None:
    """A file of torch's with another pickle."""
    torch.save({"rgb": torch.ones(12, 6)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, dump if name.endswith("data.pkl") else data)


def by_memo(start: bytes, double: bytes) -> bytes:
    steps = (double.replace(b"*", b"h" + bytes([i])) + b"q" + bytes([i + 1]) for i in range(60))
    return b"\x80\x02" + start + b"q\x00" + b"".join(steps)


TORCH = {
    "a list": by_memo(b"]", b"](**e") + b".",
    "a key": by_memo(b")", b"**\x86") + b"}h\x3cK\x01s.",
    "a value": by_memo(b"]", b"](**e") + b"}X\x03\x00\x00\x00rgbh\x3cs.",
    "filled later": b"\x80\x02" + b"".join(b"]q" + bytes([i]) for i in range(60))
    + b"".join(b"h%c(h%ch%ce" % (i, i + 1, i + 1) for i in range(59)) + b"h\x00.",
    "itself": b"\x80\x02]q\x00h\x00a.",
}  # fmt: skip


@pytest.mark.parametrize("kind", TORCH)
def test_a_tensor_file_that_doubles(tmp_path, kind):
    path = tmp_path / "video.pt"
    doubled_torch(path, TORCH[kind])
    assert "stands for far more than it holds" in refused(path, lambda: read_joint(path))
    assert "stands for far more than it holds" in refused(path, lambda: load_checkpoint(path))


# JSON


JSON = {
    "nested 100,000 deep": '{"database": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nested objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "nested in a segment": None,
    "a number of 5,000 digits": '{"database": ' + "1" * 5_000 + "}",
    "a time of 400 digits": None,
    "zeros": "\0" * 1_000,
    "half a character": '{"database": {"\\ud800": {"subset": "train", "annotations": []}}}',
    "half a character in a label": None,
    "a name with NUL": '{"database": {"a\\u0000b": {"subset": "train", "annotations": []}}}',
}


@pytest.mark.parametrize("kind", JSON)
@pytest.mark.parametrize("depth", [300, 900, 980])
def test_json(tiny: TinySet, run, kind, depth):
    note: dict[str, object] = {"label": "Dive", "segment": [0, 1]}
    text = JSON[kind]
    if text is None:
        content = json.loads(tiny.gt.read_text())
        content["database"]["train_0"]["annotations"] = [note]
        note["label" if kind.endswith("label") else "segment"] = "HERE"
        here = {"a": "[" * depth + "]" * depth, "b": "[0, " + "9" * 400 + "]", "c": '"\\udfff"'}
        value = here["a" if "nested" in kind else "b" if "digits" in kind else "c"]
        text = json.dumps(content).replace('"HERE"', value)
    elif depth > 300:
        return
    tiny.gt.write_text(text)
    for flags in ((), ("--check_data",)):
        outcome = run(tiny.path, *flags)
        said = outcome.err + outcome.out
        assert outcome.code == 2 and "gt.json" in said and "Traceback" not in said
        assert flags or outcome.err.count("main.py: error: ") == 1  # and a line for each further problem


# Names


def test_names_of_files_that_are_not_utf8(tiny, run):
    odd = os.fsdecode(b"caf\xe9")
    for stream in ("rgb", "flow"):
        file = tiny.feature("train", stream, "train_0")
        file.with_name(f"{odd}.npy").write_bytes(file.read_bytes())
    report = check_data(tiny.path, DataOptions(feature_size=FEATURE_SIZE))
    assert report.exit_code == 1 and "caf" in report.text(entire=True)  # the unused file
    for stream in ("rgb", "flow"):
        tiny.feature("train", stream, "train_0").unlink()
    outcome = run(tiny.path)
    assert outcome.code == 2 and "train_0.npy: no such feature file" in outcome.err


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/b", "..", "a\0b", "a\nb", "\x1b[2J", "x" * 300])
def test_names_of_videos_that_are_paths(tmp_path, content, capsys, name):
    renamed = content.renamed(lambda video: name if video == "train_1" else video)
    source = write_wtalc(renamed, tmp_path / "source" / "in", python=3)
    target = tmp_path / "target" / "in"
    flags = ["--feature_size", str(FEATURE_SIZE), "--allow_pickle"]
    before = sorted(tmp_path.rglob("*"))
    assert convert([str(source), str(target), *flags]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["pipe", "device", "nested"])
def test_results_that_cannot_be_read_do_not_hold_up_a_resumed_run(tiny, run, tmp_path, place):
    """They are written anew."""
    assert run(tiny.path, "--exp_name", "x").code == 0
    results = tmp_path / "out" / "x" / "results.json"
    results.unlink()
    if place == "pipe":
        os.mkfifo(results)
    elif place == "device":
        results.symlink_to("/dev/zero")
    else:
        results.write_text("[" * 100_000)
    with time_limit(10), memory_limit(2 << 30):
        assert run(tiny.path, "--exp_name", "x", "--resume").code == 0
    assert results.is_file() and not results.is_symlink() and "history" in json.loads(results.read_text())


@pytest.mark.parametrize("target", ["/nowhere/at/all", "link"])
def test_an_output_folder_that_leads_nowhere(tiny, run, tmp_path, capsys, target):
    """Such as to a disk that is not there: the search for a free name never ended."""
    (tmp_path / "link").symlink_to(target)
    with time_limit(10):
        outcome = run(tiny.path, "--output_dir", str(tmp_path / "link"))
    assert outcome.code == 2 and f"--output_dir {tmp_path / 'link'}: not a folder" in outcome.err
    assert (tmp_path / "link").is_symlink() and not (tmp_path / "out").exists()


def test_links_in_circles_are_one_line(tiny, run, tmp_path, capsys):
    (tmp_path / "link").symlink_to("link")
    write_tiny_model(tmp_path / "m.pt")
    np.save(tmp_path / "v.npy", np.ones((9, 2 * FEATURE_SIZE), np.float32))
    link = str(tmp_path / "link")
    (tmp_path / "l.csv").write_text("video,label\nv,a\n")
    predict = ["--predict", str(tmp_path / "v.npy"), "--model_file", str(tmp_path / "m.pt"), "--out"]
    for code in (
        main.main([*predict, link]),
        main.main([*predict, f"{link}/a"]),
        run(link).code,
        prepare(["--features", str(tmp_path), "--labels", str(tmp_path / "l.csv"), "--out", link]),
    ):
        assert code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_output_folder_that_is_not_utf8(tiny, run, tmp_path):
    """TensorBoard could not write there, and said so in a traceback."""
    outcome = run(tiny.path, "--output_dir", str(tmp_path / "\udcff"))
    assert outcome.code == 2 and "not UTF-8" in outcome.err and len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "\udcff").exists()
