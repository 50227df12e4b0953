"""Feature files damaged anywhere, split files and tables of any text: read, or refused in one line."""

import functools
import json
import os

import h5py
import numpy as np
import pytest
from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, memory_limit, promised, time_limit
from support.layouts import FILES, content_of, write_wtalc
from support.strategies import damaged, damaged_text, odd_texts
from support.tiny import FEATURE_SIZE, TINY_FLAGS, write_tiny_set

import main
from command_line.console import run_tool
from data_tools import convert, prepare
from formats.feature_files import FeatureFiles
from formats.feature_folders import features_in
from formats.hdf5 import arrays_in_hdf5
from formats.pickled import read_pickled
from formats.problems import raise_problem

STREAMS = ("rgb", "flow")
SNIPPETS = 5
encodings = st.sampled_from(("utf-8", "ascii"))


def one_video():
    values = np.random.default_rng(0).random((2, SNIPPETS, FEATURE_SIZE)).astype(np.float32)
    return dict(zip(STREAMS, values, strict=True))


@functools.cache
def written(how):
    """(suffix, bytes) of a file with one video in it, saved in one of the ways that are read."""
    with fresh_folder() as folder:
        FILES[how](str(folder / "video"), one_video())
        (file,) = folder.iterdir()
        return file.suffix, file.read_bytes()


@functools.cache
def hdf5_bytes(groups):
    with fresh_folder() as folder:
        with h5py.File(folder / "all.h5", "w") as file:
            for stream, array in one_video().items():
                file.create_dataset(f"video/{stream}" if groups else stream, data=array)
        return (folder / "all.h5").read_bytes()


def load(located, *, feature_size=FEATURE_SIZE):
    """Read a video's features as training does; what is read has the stated shape, and is finite."""
    files = FeatureFiles("video", located, streams=STREAMS, feature_size=feature_size)
    features = files.load()
    assert features.shape == files.shape and features.dtype in (np.float16, np.float32)
    assert np.isfinite(features).all()
    assert np.array_equal(files[np.arange(len(files))], features)


@fuzz(300, how=st.sampled_from(list(FILES)), data=st.data())
def test_damaged_feature_files(how, data):
    suffix, content = written(how)
    with fresh_folder() as folder:
        (folder / f"video{suffix}").write_bytes(data.draw(damaged(content)))
        promised(lambda a: run_tool("fuzz", lambda _: load(features_in(folder, raise_problem)["video"]), a), [], folder)


@fuzz(100, groups=st.booleans(), data=st.data())
def test_damaged_hdf5_files(groups, data):
    def read(_):
        for located in arrays_in_hdf5(folder / "all.h5").values():
            load(located if groups else {"joint": located["joint"]}, feature_size=FEATURE_SIZE // (1 if groups else 2))

    with fresh_folder() as folder:
        (folder / "all.h5").write_bytes(data.draw(damaged(hdf5_bytes(groups))))
        promised(lambda a: run_tool("fuzz", read, a), [], folder)


PICKLED_FILES = ("labels", "segments", "videoname", "subset", "duration", "labels_all")


@pytest.fixture(scope="module")
def pickled_sets(tmp_path_factory):
    """A set in the wtalc layout for either Python, as {Python: folder}."""
    path = tmp_path_factory.mktemp("pickled")
    content = content_of(write_tiny_set(path / "tiny"))
    return {python: write_wtalc(content, path / f"python{python}", python=python) for python in (2, 3)}


@fuzz(200, python=st.sampled_from((2, 3)), name=st.sampled_from(("features", *PICKLED_FILES)), data=st.data())
def test_damaged_pickled_files(pickled_sets, python, name, data):
    source = pickled_sets[python]
    file = source / "Tiny-I3D-JOINTFeatures.npy" if name == "features" else source / f"Tiny-Annotations/{name}.npy"
    with fresh_folder() as folder:
        (folder / "x.npy").write_bytes(data.draw(damaged(file.read_bytes())))
        promised(
            lambda a: run_tool("fuzz", lambda _: read_pickled(folder / "x.npy", allowed=True) is None, a), [], folder
        )


@fuzz(40, name=st.sampled_from(("features", *PICKLED_FILES)), data=st.data())
def test_sets_with_a_damaged_pickled_file(pickled_sets, name, data):
    with fresh_folder() as folder:
        for file in pickled_sets[2].rglob("*.npy"):
            target = folder / "set" / file.relative_to(pickled_sets[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            damage = name in (file.stem, "features" if "Features" in file.stem else "")
            target.write_bytes(data.draw(damaged(file.read_bytes())) if damage else file.read_bytes())
        size = ["--feature_size", str(FEATURE_SIZE), "--num_segments", "24", "--pseudo_extra", "2"]
        promised(main.main, ["--check_data", "--allow_pickle", "--data_path", str(folder / "set"), *size], folder)


# Something else in the place of a file


def in_place_of(file, what):
    file.unlink()
    {
        "folder": lambda: file.mkdir(),
        "pipe": lambda: os.mkfifo(file),
        "zeros without end": lambda: file.symlink_to("/dev/zero"),
        "nothing": lambda: file.symlink_to("/dev/null"),
        "itself": lambda: file.symlink_to(file),
        "nowhere": lambda: file.symlink_to("nowhere"),
        "empty": lambda: file.write_bytes(b""),
        "the directory above": lambda: file.symlink_to(".."),
    }[what]()


KINDS = ("folder", "pipe", "zeros without end", "nothing", "itself", "nowhere", "empty", "the directory above")
PLACES = ("gt.json", "split_train.txt", "features/train/rgb/train_0.npy", "features/test/flow/test_1.npy")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", KINDS)
def test_something_else_in_the_place_of_a_file(place, what):
    with fresh_folder() as folder, time_limit(10), memory_limit(1 << 30):
        tiny = write_tiny_set(folder / "tiny")
        in_place_of(tiny.path / place, what)
        outcome = promised_beside_odd_files(
            ["--data_path", str(tiny.path), "--output_dir", str(folder / "out"), *TINY_FLAGS]
        )
        assert outcome.code == 2


def promised_beside_odd_files(arguments):
    """As `promised`, which would read every file."""
    with fresh_folder() as empty:
        return promised(main.main, arguments, empty)


# Text files


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("files") / "tiny")


SPLIT = "".join(f"train_{i}\n" for i in range(7))
pieces = odd_texts | st.sampled_from(
    ["train_0", "test_0", "\n", "\r", "\r\n", "\t", ",", ";", '"', '""', "#", "v_train_1", "train_1.npy"]
)


@fuzz(80, text=damaged_text(SPLIT, pieces), encoding=encodings)
def test_any_split_file(tiny, text, encoding):
    with fresh_folder() as folder:
        data = linked_set(tiny, folder / "set")
        (data / "split_train.txt").unlink()
        (data / "split_train.txt").write_bytes(text.encode("utf-8", "surrogatepass"))
        size = ["--feature_size", str(FEATURE_SIZE), "--num_segments", "24", "--pseudo_extra", "2"]
        promised(main.main, ["--check_data", "--data_path", str(data), *size], folder, encoding=encoding)


@fuzz(60, data=st.data(), encoding=encodings)
def test_damaged_split_file(tiny, data, encoding):
    with fresh_folder() as folder:
        copy = linked_set(tiny, folder / "set")
        (copy / "split_train.txt").unlink()
        (copy / "split_train.txt").write_bytes(data.draw(damaged(SPLIT.encode())))
        promised(
            convert.main,
            [str(copy), str(folder / "new"), "--feature_size", str(FEATURE_SIZE)],
            folder,
            encoding=encoding,
        )


def linked_set(tiny, path):
    """A folder that looks like the set; its files can be replaced."""
    path.mkdir()
    for file in tiny.path.iterdir():
        (path / file.name).symlink_to(file)
    return path


LABELS = (
    "video,label,subset\n"
    "train_0,Dive,train\ntrain_1,Jump;Dive,train\ntrain_2,Throw,test\n"
    "train_3,Dive,test\ntrain_4,Jump,train\ntrain_5,Throw,train\n"
)
SEGMENTS = "video,label,start,end\ntrain_2,Throw,1.5,4\ntrain_3,Dive,0.5,2e0\ntrain_3,Dive,3,7.25\n"
UNSPLIT = "video,label\n" + "".join(f"train_{i},{label}\n" for i, label in enumerate(("Dive", "Jump", "Throw") * 2))


@fuzz(200, labels=damaged_text(LABELS, pieces) | damaged_text(UNSPLIT, pieces), encoding=encodings)
def test_prepare_with_any_labels(tiny, labels, encoding):
    with fresh_folder() as folder:
        prepared(tiny, folder, labels.encode("utf-8", "surrogatepass"), encoding=encoding)


@fuzz(60, data=st.data())
def test_prepare_with_a_damaged_table(tiny, data):
    with fresh_folder() as folder:
        prepared(tiny, folder, data.draw(damaged(LABELS.encode())))


@fuzz(100, segments=damaged_text(SEGMENTS, pieces | st.sampled_from(["1e400", "nan", "inf", "-1", "1e308", "9" * 400])))
def test_prepare_with_any_segments(tiny, segments):
    with fresh_folder() as folder:
        prepared(tiny, folder, LABELS.encode(), segments.encode("utf-8", "surrogatepass"))


def prepared(tiny, folder, labels, segments=None, *, encoding="utf-8"):
    """Prepare the set: it is whole, and can be checked, or nothing of it is there."""
    (folder / "labels.csv").write_bytes(labels)
    flags = ["--features", str(tiny.path / "features/train"), "--labels", str(folder / "labels.csv")]
    if segments is not None:
        (folder / "segments.csv").write_bytes(segments)
        flags += ["--annotations", str(folder / "segments.csv")]
    outcome = promised(prepare.main, [*flags, "--out", str(folder / "new")], folder, encoding=encoding)
    assert (folder / "new" / "gt.json").exists() == (outcome.code == 0)
    if outcome.code == 0:
        json.loads((folder / "new" / "gt.json").read_text(encoding="utf-8"))
        data = ["--check_data", "--data_path", str(folder / "new"), "--feature_size", str(FEATURE_SIZE)]
        size = ["--num_segments", "24", "--pseudo_extra", "2"]
        assert "error: " not in promised(main.main, [*data, *size], folder, encoding=encoding).err
