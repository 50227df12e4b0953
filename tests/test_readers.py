"""The contract of every array reader, on sound and on damaged files.

header() and rows() give what is stored, or raise one InputError that names the file. Where the system refuses a file, it may be
an OSError that carries the file's name, which main.py turns into a line. Nothing is unpickled; nothing on the disk changes.
"""

import dataclasses
import io
import itertools
import os
import pathlib
import pickle
import re
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support.disk import Exploit, contents
from support.layouts import FILES, STREAM_FILES, rounding
from support.tiny import FEATURE_SIZE

from formats.array_files import NpyArray, NpzArray, StoredArray, TorchArray, arrays_in
from formats.feature_files import FeatureFiles
from formats.hdf5 import Hdf5Array, arrays_in_hdf5
from utils.errors import InputError

pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.filterwarnings("error::RuntimeWarning")]

GOOD = np.random.default_rng(0).random((12, 6)).astype(np.float32)
SOME = np.array([7, 2, 2, 11])
DAMAGED_COPIES = 150  # of each format: flipped bits, and as many truncations


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A way of storing an array: how to write it, and the reader of what was written."""

    suffix: str
    write: Callable[[pathlib.Path, np.ndarray], object]
    reader: Callable[[pathlib.Path], StoredArray]
    types: tuple[str, ...] = ("float16", "float32", "float64", "int32", "bool")

    def sound(self, path: pathlib.Path, array: np.ndarray = GOOD) -> StoredArray:
        self.write(path, array)
        return self.reader(path)


def write_npy(path: pathlib.Path, array: np.ndarray) -> None:
    np.save(path, array)


def write_npz(path: pathlib.Path, array: np.ndarray, **more: np.ndarray) -> None:
    np.savez(path, rgb=array, **more)


def write_pt(path: pathlib.Path, array: np.ndarray) -> None:
    torch.save(torch.from_numpy(array), path)


def write_hdf5(path: pathlib.Path, array: np.ndarray, **how: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("video/rgb", data=array, **how)


FLOATS = ("float16", "float32", "float64")
PACKED = {"chunks": True, "compression": "gzip", "fletcher32": True}
FORMATS = {
    "npy": Format(suffix=".npy", write=write_npy, reader=NpyArray),
    "npy Fortran order": Format(
        suffix=".npy", write=lambda path, array: np.save(path, np.asarray(array, order="F")), reader=NpyArray
    ),
    "npz": Format(suffix=".npz", write=write_npz, reader=lambda path: NpzArray(path, key="rgb")),
    "npz compressed": Format(
        suffix=".npz",
        write=lambda path, array: np.savez_compressed(path, flow=array + 1, rgb=array),
        reader=lambda path: NpzArray(path, key="rgb"),
    ),
    "pt tensor": Format(suffix=".pt", write=write_pt, reader=lambda path: TorchArray(path, key=None), types=FLOATS),
    "pt dict": Format(
        suffix=".pt",
        write=lambda path, array: torch.save({"rgb": torch.from_numpy(array)}, path),
        reader=lambda path: TorchArray(path, key="rgb"),
        types=FLOATS,
    ),
    "pt old format": Format(
        suffix=".pth",
        write=lambda path, array: torch.save(torch.from_numpy(array), path, _use_new_zipfile_serialization=False),
        reader=lambda path: TorchArray(path, key=None),
        types=FLOATS,
    ),
    "hdf5": Format(suffix=".h5", write=write_hdf5, reader=lambda path: Hdf5Array(path, key="video/rgb")),
    "hdf5 compressed": Format(
        suffix=".h5",
        write=lambda path, array: write_hdf5(path, array, **(PACKED if array.ndim else {})),
        reader=lambda path: Hdf5Array(path, key="video/rgb"),
    ),
}


@pytest.fixture(params=FORMATS)
def stored(request, tmp_path):
    """(format, path): a sound file of every format in turn."""
    chosen = FORMATS[request.param]
    path = tmp_path / f"video{chosen.suffix}"
    chosen.write(path, GOOD)
    return chosen, path


def read(reader: StoredArray, path: pathlib.Path) -> dict[str, Any]:
    """What each way of reading gives, a refusal being its message; no other exception may leave a reader.

    Rows are asked for when the header shows some, and at positions within it.
    """
    results = {"header": outcome(reader.header, path)}
    shape = (0,) if refused(results) else results["header"][0]
    if len(shape) and shape[0]:
        results["all rows"] = outcome(lambda: np.array(reader.rows(slice(None))), path)
        results["some rows"] = outcome(lambda: np.array(reader.rows(SOME % shape[0])), path)
    results["features"] = outcome(lambda: features(reader).load(), path)
    return results


def outcome(call: Callable[[], Any], path: pathlib.Path) -> Any:
    """What the call gives, or the one line that it is refused with."""
    try:
        return call()
    except InputError as error:
        line = str(error)
    except OSError as error:
        if error.filename != os.fspath(path):
            raise
        line = f"{error.filename}: {error.strerror}"
    assert str(path) in line and "\n" not in line
    return line


def features(reader: StoredArray) -> FeatureFiles:
    return FeatureFiles("video", {"rgb": reader}, streams=("rgb",), feature_size=GOOD.shape[1])


def refused(results: dict[str, Any], *names: str) -> bool:
    """True when all of these ways of reading, or else all ways, end in a refusal."""
    return all(isinstance(results[name], str) for name in names or results)


def damaged_copies(data: bytes) -> dict[str, bytes]:
    """Truncations and single flipped bits: everywhere in a small file, and at random places of a large one."""
    generator = np.random.default_rng(len(data))
    count = min(DAMAGED_COPIES, len(data))
    lengths = generator.choice(len(data), count, replace=False).tolist()
    places = [(at, int(generator.integers(8))) for at in generator.choice(len(data), count, replace=False).tolist()]
    copies = {f"{length} bytes of {len(data)}": data[:length] for length in lengths}
    for at, bit in places:
        copies[f"bit {bit} of byte {at}"] = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    return copies


def test_a_sound_file(stored):
    chosen, path = stored
    before = contents(path.parent)
    for name in chosen.types:
        array = np.nan_to_num(GOOD * 3).astype(name)
        reader = chosen.sound(path, array)
        shape, dtype = reader.header()
        assert (shape, dtype) == (array.shape, array.dtype)
        assert np.array_equal(reader.rows(slice(None)), array)
        assert np.array_equal(reader.rows(SOME), array[SOME])
    chosen.write(path, GOOD)
    results = read(chosen.reader(path), path)
    assert np.array_equal(results["features"], GOOD) and contents(path.parent).keys() == before.keys()


def test_another_shape_is_read_but_is_no_features(stored):
    chosen, path = stored
    for shape in ((), (6,), (2, 12, 6), (12, 5), (12, 12), (0, 6), (6, 12)):
        results = read(chosen.sound(path, np.ones(shape, np.float32)), path)
        line = results["features"]
        assert results["header"] == (shape, np.float32) and isinstance(line, str)
        assert ("no snippets" if shape == (0, 6) else f"shape {shape}, expected [snippets, 6]") in line
        assert ("(it may be transposed: [snippets, channels] is wanted)" in line) == (shape == (6, 12))


def test_another_type_is_no_features(stored):
    chosen, path = stored
    for name in ("int64", "uint8", "bool", "complex64"):
        results = read(chosen.sound(path, np.ones((12, 6), name)), path)
        assert f"an array of {name}, expected float32 or float16" in results["features"]
        assert refused(results) or results["header"] == ((12, 6), np.dtype(name))


@pytest.mark.parametrize("name", ["npy", "npz", "hdf5"])
def test_texts_are_no_features(tmp_path, name):
    chosen, path = FORMATS[name], tmp_path / f"video{FORMATS[name].suffix}"
    texts = np.full((12, 6), b"0.5") if name == "hdf5" else np.full((12, 6), "0.5")
    assert "expected float32 or float16" in read(chosen.sound(path, texts), path)["features"]


def test_float64_that_float32_does_not_hold(stored):
    """Batches are float32, in which such a value is infinite."""
    chosen, path = stored
    array = GOOD.astype(np.float64)
    array[3, 1] = 1e39
    assert "NaN or infinity" in read(chosen.sound(path, array), path)["features"]


def test_values_that_are_not_finite_are_no_features(stored):
    chosen, path = stored
    for value, dtype in itertools.product((np.nan, np.inf, -np.inf), ("float16", "float32")):
        array = GOOD.astype(dtype)
        array[7, 3] = value
        results = read(chosen.sound(path, array), path)
        assert "NaN or infinity" in results["features"] and "snippet 7" in results["features"]
        assert np.array_equal(results["all rows"], array, equal_nan=True)


def test_damage_anywhere(stored):
    """Whatever is cut off or flipped, a reader refuses, or what it gives has the shape and type that it says."""
    chosen, path = stored
    refusals = 0
    for name, data in damaged_copies(path.read_bytes()).items():
        path.unlink()
        path.write_bytes(data)
        results = read(chosen.reader(path), path)
        assert path.read_bytes() == data and len(list(path.parent.iterdir())) == 1, name
        refusals += refused(results, "features")
        if not isinstance(results.get("all rows", ""), str):
            rows = results["all rows"]
            assert (rows.shape, rows.dtype) == results["header"], name
        if not refused(results, "features"):
            assert results["features"].shape == GOOD.shape and np.isfinite(results["features"]).all(), name
    assert refusals > DAMAGED_COPIES / 2


def test_a_file_of_a_few_bytes(stored):
    chosen, path = stored
    data = path.read_bytes()
    for length in (0, 1, 6, 60):
        path.write_bytes(data[:length])
        assert refused(read(chosen.reader(path), path)), length


def other_files(path: pathlib.Path) -> dict[str, bytes]:
    """What may lie in the place of an array."""
    text = io.BytesIO()
    np.savetxt(text, GOOD)
    files = {"web page": b"<html>404: Not Found</html>\n", "zeros": bytes(1000), "numbers as text": text.getvalue()}
    files["pickle"] = pickle.dumps(GOOD)
    for name, chosen in FORMATS.items():
        other = path.with_name(f"other{chosen.suffix}")
        chosen.write(other, GOOD)
        files[name] = other.read_bytes()
        other.unlink()
    return files


def test_files_of_other_formats(stored):
    chosen, path = stored
    own = path.suffix.removesuffix("h")  # .pth is .pt
    for name, data in other_files(path).items():
        if name in FORMATS and FORMATS[name].suffix.removesuffix("h") == own:
            continue
        path.write_bytes(data)
        results = read(chosen.reader(path), path)
        assert refused(results), name
        if name in ("web page", "zeros"):  # a failed download; a word about code would mislead
            assert "code" not in results["header"] and "pickle" not in results["header"]


def test_more_than_the_array(stored):
    """Bytes after the end: a second array, say, or a download that was resumed wrongly."""
    chosen, path = stored
    path.write_bytes(path.read_bytes() + b"more")
    results = read(chosen.reader(path), path)
    assert refused(results) or np.array_equal(results["features"], GOOD)


def test_no_file(stored):
    chosen, path = stored
    path.unlink()
    assert refused(read(chosen.reader(path), path)) and not list(path.parent.iterdir())


def test_a_folder(stored):
    chosen, path = stored
    path.unlink()
    path.mkdir()
    assert refused(read(chosen.reader(path), path)) and not list(path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_no_permission(stored):
    chosen, path = stored
    path.chmod(0)
    assert refused(read(chosen.reader(path), path))


@pytest.mark.parametrize("name", ["npz", "hdf5", "pt dict"])
def test_no_such_array_in_the_file(tmp_path, name):
    chosen = FORMATS[name]
    path = tmp_path / f"video{chosen.suffix}"
    reader = chosen.sound(path)
    for key in ("flow", "", "rgb/more", "../rgb"):
        assert refused(read(dataclasses.replace(reader, key=key), path)), key


@pytest.mark.parametrize("held", ["a tensor", "a dict", "a list"])
@pytest.mark.parametrize("key", [None, "rgb"])
def test_a_pt_file_that_was_replaced(tmp_path, key, held):
    """Another program wrote it since its arrays were listed."""
    path, tensor = tmp_path / "video.pt", torch.from_numpy(GOOD)
    torch.save({"a tensor": tensor, "a dict": {"flow": tensor}, "a list": [tensor]}[held], path)
    results = read(TorchArray(path, key=key), path)
    assert refused(results) or (key is None and held == "a tensor")


PICKLED = {
    ".npy": lambda path, value: np.save(path, np.array([value], object), allow_pickle=True),
    ".npz": lambda path, value: np.savez(path, rgb=np.array([value], object)),
    ".pt": lambda path, value: torch.save({"rgb": value}, path),
    ".pth": lambda path, value: torch.save(value, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("suffix", PICKLED)
def test_nothing_is_unpickled(suffix, tmp_path):
    path, marker = tmp_path / f"video{suffix}", tmp_path / "marker"
    PICKLED[suffix](path, Exploit(marker))
    before = contents(tmp_path)
    for chosen in FORMATS.values():
        if chosen.suffix == suffix:
            results = read(chosen.reader(path), path)
            assert refused(results) and "could run code" in results["header"]
    assert contents(tmp_path) == before


# Which arrays a file holds


ARRAYS_IN = {
    ".npy": (write_npy, arrays_in),
    ".npz": (write_npz, arrays_in),
    ".pt": (lambda path, array: torch.save({"rgb": torch.from_numpy(array)}, path), arrays_in),
    ".h5": (write_hdf5, lambda path: arrays_in_hdf5(path)["video"]),
}


@pytest.mark.parametrize("suffix", ARRAYS_IN)
def test_the_arrays_of_a_damaged_file(suffix, tmp_path):
    """Listing a file's arrays keeps the same contract."""
    write, list_arrays = ARRAYS_IN[suffix]
    path = tmp_path / f"video{suffix}"
    write(path, GOOD)
    assert list(list_arrays(path)) == (["joint"] if suffix == ".npy" else ["rgb"])
    for data in damaged_copies(path.read_bytes()).values():
        path.unlink()
        path.write_bytes(data)
        try:
            arrays = list_arrays(path)
        except InputError as error:
            line = str(error)
            assert str(path) in line and "\n" not in line
        except KeyError:  # from `list_arrays`, where the damage is another name
            assert suffix == ".h5"
        else:
            assert all(str(path) in str(array) for array in arrays.values())
        assert path.read_bytes() == data


def refusal(path: pathlib.Path) -> str:
    """The one line with which a file of a video's features is refused, after the file's name."""
    data = path.read_bytes()
    line = outcome(lambda: FeatureFiles("video", {"joint": path}, streams=("rgb", "flow"), feature_size=6).load(), path)
    assert isinstance(line, str) and path.read_bytes() == data
    return line.split(str(path), 1)[1]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ([torch.zeros(3)], "list"),
        (None, "NoneType"),
        (1.5, "float"),
        ({"rgb": 1}, "dict"),
        ({None: torch.ones(9, 12)}, "dict"),
    ],
)
def test_pt_of_something_else(tmp_path, value, kind):
    torch.save(value, tmp_path / "video.pt")
    assert refusal(tmp_path / "video.pt").startswith(f": holds a {kind}, expected a tensor")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(9, 12).to(torch.float8_e5m2),
        torch.eye(12).to_sparse(),
        torch.ones(9, 12, dtype=torch.complex64).conj(),
        torch.ones(9, 12, device="meta"),
    ],
    ids=["float8", "sparse", "complex", "meta"],
)
def test_tensors_that_are_no_plain_arrays(tmp_path, tensor):
    torch.save(tensor, tmp_path / "video.pt")
    assert refusal(tmp_path / "video.pt").startswith(": an array of ")


@pytest.mark.parametrize("data", [b"<html>404: Not Found</html>", bytes(300), b""], ids=["text", "zeros", "nothing"])
def test_an_invalid_pt_file_is_not_called_dangerous(tmp_path, data):
    (tmp_path / "video.pt").write_bytes(data)
    line = refusal(tmp_path / "video.pt")
    assert line.startswith(": not a complete .pt file") and "code" not in line


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_no_arrays(tmp_path, suffix):
    path = tmp_path / f"video{suffix}"
    np.savez(path) if suffix == ".npz" else torch.save({}, path)
    assert refusal(path).startswith(": holds nothing")


def write_members(path: pathlib.Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy_of_shape(shape: tuple[int, ...], count: int) -> bytes:
    """A .npy file of `count` values whose header promises a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue() + bytes(4 * count)


def test_npz_of_another_program(tmp_path):
    write_members(tmp_path / "video.npz", {"readme.txt": b"hello"})
    refusal(tmp_path / "video.npz")


@pytest.mark.parametrize("shape", [(9, 6), (-5, 6)], ids=["more", "negative"])
def test_npz_member_of_another_size_than_it_says(tmp_path, shape):
    write_members(tmp_path / "video.npz", {f"{stream}.npy": npy_of_shape(shape, 25) for stream in ("rgb", "flow")})
    line = refusal(tmp_path / "video.npz")
    assert shape != (9, 6) or line.startswith(" 'rgb': its header promises 216 bytes, it holds 100")


@pytest.mark.parametrize("shape", [(9, 12), (-5, 12), (10**12, 12)], ids=["more", "negative", "absurd"])
def test_npy_of_another_size_than_it_says(tmp_path, shape):
    (tmp_path / "video.npy").write_bytes(npy_of_shape(shape, 25))
    refusal(tmp_path / "video.npy")


def test_npy_that_goes_on_after_its_end(tmp_path):
    """A digit of its header may have changed: it would be read as a shorter video."""
    (tmp_path / "video.npy").write_bytes(npy_of_shape((9, 12), 9 * 12 + 12))
    assert refusal(tmp_path / "video.npy").startswith(": 48 bytes more than its header states")


def test_one_bit_of_an_npz(tmp_path):
    """The archive has check sums."""
    path = tmp_path / "video.npz"
    write_npz(path, GOOD, flow=GOOD)
    data = bytearray(path.read_bytes())
    data[data.index(GOOD.tobytes()) + 20] ^= 1
    path.write_bytes(data)
    assert "not a complete member" in refusal(path)


def without_its_start(data: bytes) -> bytes:
    return data[40:]


def of_a_later_version(data: bytes) -> bytes:
    return re.sub(rb"(PK\x01\x02..)..", lambda match: match[1] + b"\xff\x00", data, flags=re.DOTALL)


@pytest.mark.parametrize("change", [without_its_start, of_a_later_version])
def test_damaged_archive(tmp_path, change):
    path = tmp_path / "video.npz"
    write_npz(path, GOOD, flow=GOOD)
    path.write_bytes(change(path.read_bytes()))
    refusal(path)


# Every way of saving a video


@pytest.mark.parametrize("name", FILES)
def test_every_way_of_saving_a_video(tmp_path, content, name):
    """Joint or by stream, in any type: the same features, whole or some rows, for both streams or one."""
    streams = content.videos["train_1"]
    FILES[name](str(tmp_path / "video"), streams)
    (path,) = tmp_path.iterdir()
    for chosen in (("rgb", "flow"), ("rgb",), ("flow",)):
        files = FeatureFiles("video", {"joint": path}, streams=chosen, feature_size=FEATURE_SIZE)
        expected = np.concatenate([streams[stream] for stream in chosen], axis=1).astype(np.float64)
        np.testing.assert_allclose(files.load(), expected, rtol=rounding(name), atol=rounding(name))
        np.testing.assert_allclose(files[SOME], expected[SOME], rtol=rounding(name), atol=rounding(name))
        assert files.shape == expected.shape == (len(files), FEATURE_SIZE * len(chosen))


@pytest.mark.parametrize("name", STREAM_FILES)
def test_every_way_of_saving_a_stream(tmp_path, content, name):
    streams = content.videos["train_1"]
    for stream, array in streams.items():
        STREAM_FILES[name](str(tmp_path / stream), array)
    located = {path.stem: path for path in tmp_path.iterdir()}
    for chosen in (("rgb", "flow"), ("rgb",), ("flow",)):
        files = FeatureFiles("video", located, streams=chosen, feature_size=FEATURE_SIZE)
        expected = np.concatenate([streams[stream] for stream in chosen], axis=1).astype(np.float64)
        np.testing.assert_allclose(files.load(), expected, rtol=rounding(name), atol=rounding(name))
