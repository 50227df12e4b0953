"""What is wrong with feature sets of every layout: exit code 2, one line that names the file, nothing changed on disk."""

import builtins
import functools
import json
import os
import shutil

import h5py
import numpy as np
import pytest
import torch
from support import layouts
from support.disk import Exploit, complaint, contents
from support.layouts import (
    FILES,
    save_npz,
    save_objects,
    save_pt,
    write_folders,
    write_hdf5,
    write_json,
    write_wtalc,
)
from support.tiny import CLASSES, FEATURE_SIZE

import main

# A warning would be a second line on stderr, but pytest takes warnings aside.
pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.filterwarnings("error::RuntimeWarning")]

GOOD = np.ones((12, FEATURE_SIZE), np.float32)
SUBSETS = {"train": "validation", "test": "test"}


@pytest.fixture
def refused(place, refused_with):
    """refused(*flags): the line main.py complains with about the set."""
    return functools.partial(refused_with, place)


@pytest.fixture
def folders(content, place):
    """folders("pt tensor"): a thumos set of such joint files; the path of training video 1's."""

    def write(save="npy"):
        write_folders(content, place, base="features", save=save)
        write_json(place / "gt.json", layouts.own_json(content))
        (file,) = (place / "features" / "train").glob("train_1.*")
        return file

    return write


@pytest.fixture
def hdf5(content, place):
    """hdf5(edit): a set in one file, which `edit` may change."""

    def write(edit=None, *, groups=True):
        file = place / "all.h5"
        write_hdf5(content, file, groups=groups)
        write_json(place / "gt.json", layouts.own_json(content))
        if edit:
            with h5py.File(file, "a") as opened:
                edit(opened)
        return file

    return write


@pytest.fixture
def wtalc(content, place):
    """wtalc(column=values): a pickled set, with columns of other values; its folder of annotations."""

    def write(python=3, **columns):
        write_wtalc(content, place, python=python)
        folder = place / "Tiny-Annotations"
        for name, values in columns.items():
            file = features_file(place) if name == "features" else folder / f"{name}.npy"
            if values is None:
                file.unlink()
            elif isinstance(values, list):
                save_objects(file, values, python=python)
            else:
                np.save(file, values)
        return folder

    return write


def features_file(place):
    return place / "Tiny-I3D-JOINTFeatures.npy"


def columns_of(content):
    return layouts.wtalc_columns(content, SUBSETS)


def put(h5, name, value):
    """Replace what the file holds under this name."""
    if name in h5:
        del h5[name]
    h5[name] = value


# The folder


WRITERS = {
    "thumos": lambda content, path: write_folders(content, path, base="features"),
    "activitynet": lambda content, path: write_folders(content, path, folders={"test": "val"}),
    "wtalc": lambda content, path: write_wtalc(content, path),
    "hdf5": lambda content, path: write_hdf5(content, path / "all.h5", groups=True),
}


@pytest.mark.parametrize(
    ("written", "given"),
    [("thumos", "wtalc"), ("activitynet", "thumos"), ("wtalc", "hdf5"), ("hdf5", "activitynet")],
)
def test_wrong_layout(refused, content, place, written, given):
    WRITERS[written](content, place)
    line = refused("--layout", given, "--allow_pickle")
    looked_for = {
        "thumos": "features/train/",
        "activitynet": "validation/",
        "wtalc": "-I3D-JOINTFeatures.npy",
        "hdf5": ".h5",
    }
    names = {"thumos": "features/", "activitynet": "train/, val/", "wtalc": "Tiny-Annotations/", "hdf5": "all.h5"}
    asked, answer = line.split(f"in {place}, found ")
    assert f"--layout {given}: looked for" in asked and looked_for[given] in asked
    assert names[written] in answer and f"it looks like {written}" in answer


def test_layout_that_does_not_exist(refused, content, place):
    WRITERS["thumos"](content, place)
    line = refused("--layout", "charades")
    assert "--layout charades: no such layout" in line and all(name in line for name in (*WRITERS, "auto"))


def test_empty_folder(refused, place):
    line = refused()
    assert f"{place}: " in line and "Found nothing" in line and all(name in line for name in WRITERS)


def test_file_in_the_place_of_the_folder(refused, hdf5):
    file = hdf5()
    assert f"--data_path {file}: no such folder" in refused("--data_path", str(file))


def test_two_layouts_in_one_folder(refused, content, place):
    WRITERS["thumos"](content, place)
    WRITERS["hdf5"](content, place)
    line = refused()
    assert f"{place}: looks like thumos and hdf5" in line and "--layout" in line


def test_two_hdf5_files(refused, hdf5):
    file = hdf5()
    shutil.copy(file, file.with_name("b.h5"))
    line = refused()
    assert "one .h5 or .hdf5 file" in line and "all.h5, b.h5" in line
    assert "looked for one .h5 or .hdf5 file" in refused("--layout", "hdf5")


def test_two_wtalc_sets(refused, content, place):
    write_wtalc(content, place)
    write_wtalc(content, place, name="Other")
    line = refused("--allow_pickle")
    assert f"{place}: " in line and "Tiny" in line and "Other" in line


def test_many_names_are_not_all_listed(refused, place):
    for i in range(30):
        (place / f"folder_{i:02}").mkdir()
    line = refused()
    assert "folder_07/" in line and "folder_08/" not in line and "22 more" in line


def test_folder_that_may_not_be_read(refused, folders, place, monkeypatch):
    """The tests may run as root, who may read everything."""
    folder = folders().parent
    listed = os.scandir

    def scandir(path="."):
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(path)

    monkeypatch.setattr("formats.feature_folders.os.scandir", scandir)
    assert f"{folder}: Permission denied" in refused()


# Ground truth


def test_no_ground_truth(refused, folders, place):
    folders()
    (place / "gt.json").unlink()
    assert f"{place / 'gt.json'}: can't be read" in refused()


def test_two_json_files(refused, folders, place):
    folders()
    (place / "gt.json").rename(place / "b.json")
    shutil.copy(place / "b.json", place / "a.json")
    line = refused()
    assert f"{place}: which of a.json, b.json is the ground truth?" in line and "--ground_truth" in line


def test_ground_truth_that_does_not_exist(refused, folders, tmp_path):
    folders()
    assert f"{tmp_path / 'no.json'}: can't be read" in refused("--ground_truth", str(tmp_path / "no.json"))


def test_ground_truth_of_an_unknown_form(refused, folders, place):
    """One of those in test_ground_truth.py."""
    folders()
    write_json(place / "gt.json", {"videos": [], "labels": {}})
    assert f"{place / 'gt.json'}: no videos; expected" in refused()


@pytest.mark.parametrize(
    ("subset", "missing"), [("train", "test"), ("test", "train"), ("", "train"), ("mine", "train")]
)
def test_unknown_subsets(refused, content, folders, place, subset, missing):
    folders()
    truth = layouts.own_json(content.with_subsets({"train": subset, "test": subset}))
    write_json(place / "gt.json", truth)
    line = refused()
    assert f"{place / 'gt.json'}: no {missing} videos: its subsets are '{subset}'" in line
    assert f"split_{missing}.txt" in line


def test_three_labelled_subsets(refused, content, folders, place):
    folders()
    truth = layouts.own_json(content)
    truth["database"]["test_2"]["subset"] = "Validation"
    write_json(place / "gt.json", truth)
    line = refused()
    assert f"{place / 'gt.json'}: validation and test" in line and "split_train.txt" in line


# Names without files


@pytest.mark.parametrize("layout", WRITERS)
def test_name_without_a_file(refused, content, place, layout):
    WRITERS[layout](content, place)
    truth = layouts.own_json(content)
    truth["database"]["train_9"] = truth["database"]["train_0"]
    write_json(place / "gt.json", truth)
    where = {
        "thumos": place / "features" / "train" / "train_9.npy",
        "activitynet": place / "train" / "train_9.npy",
        "wtalc": f"{features_file(place)} entry 'train_9'",
        "hdf5": f"{place / 'all.h5'} entry 'train_9'",
    }[layout]
    flags = ["--allow_pickle", "--ground_truth", str(place / "gt.json")]
    line = refused(*flags)
    assert f"{where}: no such feature file" in line and "--skip_unusable" in line
    layouts.write_split_files(layouts.Content(content.videos, truth["database"]), place)
    assert f"{where}: no such feature file" in refused(*flags)


@pytest.mark.parametrize("save", ["npz rgb and flow", "pt tensor", "pth"])
def test_missing_file_is_called_as_the_others(refused, folders, save):
    file = folders(save)
    file.unlink()
    assert f"{file}: no such feature file" in refused()


def test_missing_stream_in_activitynet(refused, content, place):
    write_folders(content, place, folders={"test": "val"}, by_stream=True, prefix="v_")
    write_json(place / "gt.json", layouts.official_json(content))
    (place / "val" / "flow" / "v_test_1.npy").unlink()
    assert f"{place / 'val' / 'flow' / 'test_1.npy'}: no such feature file" in refused()


@pytest.mark.parametrize("layout", WRITERS)
def test_split_names_a_video_that_the_ground_truth_lacks(refused, content, place, layout):
    WRITERS[layout](content, place)
    if layout != "wtalc":
        write_json(place / "gt.json", layouts.own_json(content))
    layouts.write_split_files(content, place)
    split = place / "split_test.txt"
    split.write_text(split.read_text() + "stranger\n")
    line = refused("--allow_pickle")
    assert f"{split}: video 'stranger' is not in " in line


def test_folder_of_a_split_is_missing(refused, folders, place):
    folders()
    shutil.rmtree(place / "features" / "test")
    line = refused()
    assert str(place / "features" / "test") in line and "no such feature file" in line


@pytest.mark.parametrize("empty", ["", "a b", "../../etc/passwd", "/etc/passwd", "a/b", "x" * 300])
def test_names_that_no_file_has(refused, content, folders, place, empty):
    """They are looked up among the files that there are, never opened."""
    folders()
    truth = layouts.own_json(content)
    truth["database"][empty] = truth["database"]["train_0"]
    write_json(place / "gt.json", truth)
    assert f"{place / 'features' / 'train'}/{empty}.npy: no such feature file" in refused()


@pytest.mark.parametrize("pair", [("npy", "npz"), ("npy", "pt"), ("pt", "pth")], ids="+".join)
@pytest.mark.parametrize("streams", [False, True], ids=["joint", "streams"])
def test_two_files_of_one_video(refused, content, folders, place, pair, streams):
    if streams:
        write_folders(content, place, base="features", by_stream=True)
        write_json(place / "gt.json", layouts.own_json(content))
        folder = place / "features" / "test" / "flow"
    else:
        folder = folders().parent.parent / "test"
    for suffix in set(pair) - {"npy"}:
        (folder / f"test_1.{suffix}").write_bytes(b"")
    if "npy" not in pair:
        (folder / "test_1.npy").unlink()
    first, second = sorted(pair)
    assert f"{folder / 'test_1'}.{second}: the folder also holds test_1.{first}" in refused()


# Files of every format

# By the name in FILES: what it is that holds the features.
FORMATS = [
    "npy",
    "npz rgb and flow",
    "npz compressed",
    "npz of one array",
    "pt tensor",
    "pt dict",
    "pt old format",
    "pth",
]


# The first or the last half of a file: test_readers.py and test_pickled.py have every kind of damage.


def spoil(file, half):
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] if half == "first" else data[len(data) // 2 :])


@pytest.mark.parametrize(("save", "half"), [(save, ("first", "last")[i % 2]) for i, save in enumerate(FORMATS)])
def test_broken_file(refused, folders, save, half):
    file = folders(save)
    spoil(file, half)
    line = refused("--cache", "mmap" if half == "last" else "ram")
    assert str(file) in line and ": not a" in line


@pytest.mark.parametrize("half", ["first", "last"])
def test_broken_hdf5(refused, hdf5, half):
    file = hdf5(groups=half == "first")
    spoil(file, half)
    assert f"{file}: not a complete HDF5 file" in refused()


@pytest.mark.parametrize(
    ("name", "python", "half"), [("features", 2, "first"), ("labels", 3, "first"), ("videoname", 2, "last")]
)
def test_broken_wtalc(refused, wtalc, place, name, python, half):
    folder = wtalc(python)
    file = features_file(place) if name == "features" else folder / f"{name}.npy"
    spoil(file, half)
    assert f"{file}: not a" in refused("--allow_pickle")


@pytest.mark.parametrize("save", ["npz rgb and flow", "pt tensor"])
@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_no_file_at_all(refused, folders, save, kind):
    file = folders(save)
    file.unlink()
    if kind == "folder":
        file.mkdir()
    else:
        file.symlink_to(file.parent / "nowhere")
    assert f"{file}: " in refused()


def test_hdf5_that_is_a_folder(refused, hdf5):
    file = hdf5()
    file.unlink()
    file.mkdir()
    assert "all.h5/" in refused()


@pytest.mark.parametrize(
    ("save", "cache", "value"),
    [("npz compressed", "ram", np.nan), ("pt old format", "device", -np.inf), ("pt dict", "mmap", np.inf)],
)
def test_features_that_are_not_finite(refused, content, folders, run, place, save, cache, value):
    """Test video 0 is read whole, even when it is streamed."""
    folders(save)
    streams = {stream: array.astype(np.float32) for stream, array in content.videos["test_0"].items()}
    streams["flow"][:, 2] = value
    FILES[save](str(place / "features" / "test" / "test_0"), streams)
    if cache == "mmap":
        outcome = run(place, "--cache", cache, "--num_epochs", "1")
        line = complaint(outcome.code, outcome.err)
    else:
        line = refused("--cache", cache)
        assert "first at snippet 0" in line
    assert str(place / "features" / "test" / "test_0") in line and "'test_0'" in line and "NaN or infinity" in line


def test_hdf5_features_that_are_not_finite(refused, hdf5):
    name = "train_2/flow"

    def edit(file):
        values = file[name][:].astype(np.float32)
        values[7, -1] = np.nan
        put(file, name, values)

    file = hdf5(edit)
    line = refused()
    assert f"{file} '{name}': NaN or infinity in the features of video 'train_2', first at snippet 7" in line


def test_wtalc_features_that_are_not_finite(refused, content, wtalc, place):
    arrays = [layouts.joint(streams).astype(np.float32) for streams in content.videos.values()]
    arrays[2][5, 1] = -np.inf
    wtalc(features=arrays)
    line = refused("--allow_pickle")
    assert f"{features_file(place)} entry 2 ('train_2'): NaN or infinity" in line and "snippet 5" in line


# What is wrong with an array, whatever it lies in: made of a joint array that is right. test_readers.py has more.
ARRAYS = {
    "npy": (lambda a: a[:0].copy(), "no snippets"),
    "npz": (lambda a: a[None, :, None] + a[None, :, :, None], "shape (1, 41, 12, 12)"),
    "pt": (lambda a: np.ascontiguousarray(a.T), "(it may be transposed: [snippets, channels] is wanted)"),
    "hdf5": (lambda a: a > 0, "array of bool"),
    "wtalc": (lambda a: a[:, 1:].copy(), f"{2 * FEATURE_SIZE - 1})"),
    "wtalc of one value": (lambda a: np.array(a[0, 0]), "shape ()"),
    "wtalc of numbers": (lambda a: a.astype(np.int64), "array of int64"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_wrong_array(refused, content, folders, hdf5, wtalc, place, kind):
    change, words = ARRAYS[kind]
    array = change(layouts.joint(content.videos["train_1"]).astype(np.float32))
    if kind == "hdf5":
        where = f"{hdf5(lambda file: put(file, 'train_1', array), groups=False)} 'train_1'"
    elif kind.startswith("wtalc"):
        arrays = [layouts.joint(streams) for streams in content.videos.values()]
        arrays[1] = array
        wtalc(features=arrays)
        where = f"{features_file(place)} entry 1 ('train_1')"
    else:
        file = folders({"npy": "npy", "npz": "npz of one array", "pt": "pt tensor"}[kind])
        if kind == "npy":
            np.save(file, array)
        elif kind == "npz":
            save_npz(file, {"feats": array})
        else:
            save_pt(file, torch.from_numpy(array))
        where = f"{file} 'feats'" if kind == "npz" else str(file)
    line = refused("--allow_pickle")
    assert f"{where}: " in line and words in line


@pytest.mark.parametrize("kind", ["npz", "pt", "hdf5"])
def test_streams_of_different_length(refused, folders, hdf5, kind):
    arrays = {"rgb": GOOD, "flow": GOOD[:-3]}
    if kind == "hdf5":

        def edit(file):
            for stream, array in arrays.items():
                put(file, f"train_1/{stream}", array)

        where = {stream: f"{hdf5(edit)} 'train_1/{stream}'" for stream in arrays}
    else:
        file = folders("npz rgb and flow" if kind == "npz" else "pt dict")
        save_npz(file, arrays) if kind == "npz" else save_pt(file, layouts.tensors(arrays))
        where = {stream: f"{file} '{stream}'" for stream in arrays}
    line = refused()
    assert "video 'train_1'" in line and f"{where['rgb']} has 12" in line and f"{where['flow']} has 9" in line


@pytest.mark.parametrize("kind", ["npz", "pt", "hdf5"])
def test_arrays_of_other_names(refused, folders, hdf5, kind):
    arrays = {"spatial": GOOD, "temporal": GOOD}
    if kind == "hdf5":

        def edit(file):
            del file["train_1"]
            for name, array in arrays.items():
                file[f"train_1/{name}"] = array

        where = f"{hdf5(edit)} 'train_1'"
    else:
        where = folders("npz rgb and flow" if kind == "npz" else "pt dict")
        save_npz(where, arrays) if kind == "npz" else save_pt(where, layouts.tensors(arrays))
    line = refused()
    assert f"{where}: holds 'spatial', 'temporal'; expected arrays named 'rgb' and 'flow'" in line


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_one_stream_of_two(refused, folders, kind):
    file = folders("npz rgb and flow" if kind == "npz" else "pt dict")
    save_npz(file, {"rgb": GOOD}) if kind == "npz" else save_pt(file, layouts.tensors({"rgb": GOOD}))
    line = refused()
    assert "video 'train_1': no stream 'flow'" in line and f"{file} 'rgb'" in line and "--modal" in line


def test_the_other_stream_in_a_folder(refused, content, place):
    write_folders(content, place, base="features", by_stream=True, save="npz")
    write_json(place / "gt.json", layouts.own_json(content))
    file = place / "features" / "train" / "rgb" / "train_1.npz"
    save_npz(file, {"flow": GOOD})
    assert f"{file}: holds 'flow', expected the features of stream 'rgb'" in refused()


@pytest.mark.parametrize("change", ["a scalar", "texts", "a group without arrays", "one stream"])
def test_hdf5_of_something_else(refused, hdf5, change):
    def edit(file):
        if change == "a scalar":
            put(file, "train_1/rgb", np.float32(1))
        elif change == "texts":
            put(file, "train_1/rgb", ["a", "b"])
        elif change == "one stream":
            del file["train_1/flow"]
        else:
            del file["train_1"]
            file.create_group("train_1")

    assert f"{hdf5(edit)}" in (line := refused()) and "train_1" in line


def test_hdf5_that_is_empty(refused, hdf5):
    file = hdf5(lambda file: file.clear())
    line = refused()
    assert f"{file} entry 'train_0': no such feature file" in line and line.endswith("(and 10 more, above)")


@pytest.mark.parametrize("layout", ["hdf5", "auto"])
def test_without_h5py(refused, hdf5, monkeypatch, layout):
    file = hdf5()
    load = builtins.__import__

    def without(name, *rest, **options):
        if name.split(".")[0] == "h5py":
            raise ImportError("No module named 'h5py'")
        return load(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    line = refused("--layout", layout)
    assert f"{file}: " in line and "h5py" in line and "requirements-hdf5.txt" in line


# Code in files


def live(marker, load):
    """Show that loading runs the code where nothing forbids it."""
    load()
    marker.rmdir()


@pytest.mark.parametrize("flags", [[], ["--allow_pickle"]], ids=["", "allow_pickle"])
def test_pickled_npz_is_refused_without_unpickling(refused, folders, tmp_path, flags):
    """The flag is for sets that come pickled, as W-TALC's; test_readers.py has the other formats."""
    marker, file = tmp_path / "marker", folders("npz rgb and flow")
    np.savez(file, rgb=np.array([Exploit(marker)], object), flow=GOOD)
    live(marker, lambda: np.load(file, allow_pickle=True)["rgb"])
    assert f"{file} 'rgb': holds pickled objects" in refused(*flags)
    assert not marker.exists()


@pytest.mark.parametrize("flags", [[], ["--allow_pickle"]], ids=["", "allow_pickle"])
def test_pickled_pt_is_refused_without_unpickling(refused, folders, tmp_path, flags):
    marker, file = tmp_path / "marker", folders("pt tensor")
    save_pt(file, {"rgb": torch.from_numpy(GOOD), "flow": Exploit(marker)})
    live(marker, lambda: torch.load(file, weights_only=False))
    assert f"{file}: holds more than tensors" in refused(*flags)
    assert not marker.exists()


@pytest.mark.parametrize("python", [2, 3])
def test_wtalc_without_the_flag(refused, wtalc, python):
    folder = wtalc(python)
    line = refused()
    assert f"{folder}/labels.npy: holds pickled objects" in line
    assert "can run code" in line and "--allow_pickle" in line and "trust" in line


@pytest.mark.parametrize("flags", [[], ["--allow_pickle"]], ids=["", "allow_pickle"])
@pytest.mark.parametrize("name", ["features", "labels", "videoname"])
def test_code_in_a_wtalc_file_is_not_run(refused, content, wtalc, place, tmp_path, name, flags):
    """Allowed or not: only arrays and plain values are built."""
    marker = tmp_path / "marker"
    values = columns_of(content)["labels"]
    folder = wtalc(**{name: [Exploit(marker), *values[1:]]})
    file = features_file(place) if name == "features" else folder / f"{name}.npy"
    live(marker, lambda: np.load(file, allow_pickle=True))
    line = refused(*flags)
    assert not marker.exists()
    if flags:
        assert f"{file}: " in line and "asks for posix.mkdir" in line and "not loaded" in line
    else:
        assert "--allow_pickle" in line


# W-TALC's files against each other


@pytest.mark.parametrize("name", ["subset", "labels", "labels_all", "segments", "duration", "extracted_fps"])
def test_wtalc_columns_of_different_length(refused, content, wtalc, name):
    values = columns_of(content)[name][:-1]
    folder = wtalc(**{name: np.array(values) if name in ("subset", "duration", "extracted_fps") else values})
    line = refused("--allow_pickle")
    assert f"{folder / name}.npy: 10 entries for the 11 videos of {folder / 'videoname.npy'}" in line


def test_wtalc_features_of_another_number(refused, content, wtalc, place):
    wtalc(features=[layouts.joint(streams) for streams in content.videos.values()] * 2)
    assert f"{features_file(place)}: 22 entries for the 11 videos" in refused("--allow_pickle")


@pytest.mark.parametrize("name", ["videoname", "subset", "labels", "features"])
def test_wtalc_file_is_missing(refused, wtalc, place, name):
    folder = wtalc(**{name: None})
    file = features_file(place) if name == "features" else folder / f"{name}.npy"
    assert f"{file}: can't be read (No such file" in refused("--allow_pickle")


@pytest.mark.parametrize("part", ["features", "annotations"])
def test_half_of_a_wtalc_set(refused, wtalc, place, part):
    folder = wtalc()
    if part == "features":
        shutil.rmtree(folder)
        assert f"{folder / 'videoname.npy'}: can't be read" in refused("--allow_pickle")
    else:
        features_file(place).unlink()
        assert f"{features_file(place)}: can't be read" in refused("--allow_pickle")


def test_wtalc_segments_and_labels_of_different_counts(refused, content, wtalc):
    segments = columns_of(content)["segments"]
    segments[4] = [*segments[4], [1.0, 2.0]]
    folder = wtalc(segments=segments)
    assert f"{folder}: entry 4 ('train_4'): 2 segments with 1 labels" in refused("--allow_pickle")


@pytest.mark.parametrize("column", ["labels", "labels_all"])
@pytest.mark.parametrize("python", [2, 3])
def test_wtalc_label_that_is_not_in_the_classlist(refused, content, wtalc, column, python):
    values = columns_of(content)[column]
    values[3] = ["Jmup"]
    folder = wtalc(python, **{column: values})
    line = refused("--allow_pickle")
    assert f"{folder}: entry 3 ('train_3'): label 'Jmup' is not in {folder / 'classlist.npy'}" in line


def test_wtalc_classlist_of_too_few(refused, wtalc):
    folder = wtalc(classlist=np.array(CLASSES[:2]))
    line = refused("--allow_pickle")
    assert "label 'Throw' is not in" in line and str(folder / "classlist.npy") in line


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ([5.0, 2.0], "ends at or before its start"),
        ([1.0], "is not [start, end]"),
        (["a", 2], "is not [start, end]"),
        ([0.0, np.nan], "is not finite"),
        (None, "is not [start, end]"),
    ],
)
def test_wtalc_malformed_segment(refused, content, wtalc, segment, words):
    segments = columns_of(content)["segments"]
    segments[8] = [segment]
    folder = wtalc(segments=segments)
    line = refused("--allow_pickle")
    assert f"{folder}: entry 8 ('test_1'), segment 0: segment " in line and words in line


@pytest.mark.parametrize("name", ["videoname", "subset"])
@pytest.mark.parametrize(
    "value", [b"\xff\xfe", b"", 7, None, ["a", "b"]], ids=["no UTF-8", "empty", "a number", "None", "a list"]
)
def test_wtalc_invalid_names(refused, content, wtalc, name, value):
    values = columns_of(content)[name]
    values[5] = value
    folder = wtalc(**{name: values})
    assert str(folder) in (line := refused("--allow_pickle")) and f"{name}.npy" in line


@pytest.mark.parametrize("value", ["long", [1, 2], {"a": 1}])
@pytest.mark.parametrize("name", ["duration", "extracted_fps"])
def test_wtalc_invalid_numbers(refused, content, wtalc, name, value):
    values = columns_of(content)[name]
    values[5] = value
    folder = wtalc(**{name: values})
    assert f"{folder}: entry 5 ('train_5'), {name}.npy: " in refused("--allow_pickle")


def test_wtalc_duplicate_video(refused, content, wtalc):
    names = columns_of(content)["videoname"]
    folder = wtalc(videoname=np.array([*names[:-1], names[0]]))
    assert f"{folder / 'videoname.npy'}: video 'train_0' is listed twice" in refused("--allow_pickle")


def test_wtalc_unknown_subsets(refused, wtalc):
    folder = wtalc(subset=np.array([b"mine"] * 11))
    assert f"{folder}: no train videos: its subsets are 'mine'" in refused("--allow_pickle")


def test_wtalc_training_video_without_labels(refused, content, wtalc):
    columns = columns_of(content)
    for name in ("labels", "labels_all", "segments"):
        columns[name][2] = []
    folder = wtalc(**{name: columns[name] for name in ("labels", "labels_all", "segments")})
    assert f"{folder}: training video 'train_2' has no labels" in refused("--allow_pickle")


@pytest.mark.parametrize("value", [None, {"a": 1}, "text", ["a"]], ids=["None", "a dict", "text", "a list of text"])
def test_wtalc_features_of_something_else(refused, content, wtalc, place, value):
    arrays = [layouts.joint(streams) for streams in content.videos.values()]
    arrays[3] = value
    wtalc(features=arrays)
    assert f"{features_file(place)} entry 3 ('train_3'): " in refused("--allow_pickle")


def test_nothing_is_left_after_a_refused_overwrite(refused, hdf5, tmp_path):
    """A mistake in the set is found before the old experiment is touched."""
    hdf5(lambda file: put(file, "train_1/rgb", GOOD.T))
    old = tmp_path / "out" / "x"
    old.mkdir(parents=True)
    (old / "last.pt").write_bytes(b"precious")
    refused("--exp_name", "x", "--overwrite")


def test_inference_refuses_the_same_set(content, place, run, tmp_path):
    write_hdf5(content, place / "all.h5", groups=True)
    write_json(place / "gt.json", layouts.own_json(content))
    assert run(place, "--exp_name", "x", "--num_epochs", "1").code == 0
    with h5py.File(place / "all.h5", "a") as file:
        del file["test_1"]
    before = contents(tmp_path)
    outcome = run(place, "--inference_only", "--exp_name", "x")
    line = complaint(outcome.code, outcome.err)
    assert "all.h5 entry 'test_1': no such feature file" in line
    assert contents(tmp_path) == before


# Found by changing bytes at random and by searching for odd content


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/nowhere"), h5py.ExternalLink("gone.h5", "/x")], ids=["soft", "external"]
)
def test_hdf5_link_to_nothing(refused, hdf5, link):
    file = hdf5(lambda opened: put(opened, "train_1", link))
    line = refused()
    assert f"{file} 'train_1': a link to another place, which is not followed" in line


def test_hdf5_may_hold_other_things(content, hdf5, place, run):
    """What no video is called is nobody's business."""

    def edit(opened):
        opened["meta/made_by"] = "someone"
        opened["types"] = np.dtype("f4")
        opened["link"] = h5py.SoftLink("/nowhere")

    hdf5(edit)
    assert run(place, "--num_epochs", "1").code == 0


def test_hdf5_group_without_a_stream_names_it(refused, hdf5):
    file = hdf5(lambda opened: opened.pop("train_1/flow"))
    assert f"{file} entry 'train_1' stream 'flow': no such feature file" in refused()


@pytest.mark.parametrize("name", ["videoname", "labels", "classlist", "subset"])
def test_wtalc_column_that_is_a_single_value(refused, wtalc, name):
    folder = wtalc(**{name: np.array({"a": 1}, dtype=object)})
    assert f"{folder / f'{name}.npy'}" in refused("--allow_pickle")


@pytest.mark.parametrize(
    ("name", "value"), [("labels", 7), ("segments", 7), ("labels", None), ("duration", [1.0, [2.0]])]
)
def test_wtalc_entry_of_another_kind(refused, content, wtalc, name, value):
    values = columns_of(content)[name]
    wtalc(**{name: [*values[:3], value, *values[4:]]})
    assert f"{name}.npy" in refused("--allow_pickle")


def test_wtalc_features_that_are_ragged(refused, content, wtalc, place):
    wtalc(features=[[[1.0] * 12, [1.0] * 11]] * len(content.videos))
    assert f"{features_file(place)} entry 0" in refused("--allow_pickle")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\u2028b"])
def test_a_name_of_several_lines_is_said_in_one(refused, folders, place, text):
    folders()
    truth = json.loads((place / "gt.json").read_text())
    truth["database"][text] = {"subset": "train", "annotations": [{"label": text, "segment": [1, 2]}]}
    write_json(place / "gt.json", truth)
    assert "a b" in refused()


def test_a_video_listed_with_and_without_v(refused, folders, place):
    folders()
    (place / "split_train.txt").write_text("".join(f"train_{i}\n" for i in range(7)))
    (place / "split_test.txt").write_text("test_0\ntest_1\nv_test_1\n")
    assert "video 'test_1' is listed twice" in refused()


def test_two_videos_with_one_file(refused, folders, place):
    folders()
    truth = json.loads((place / "gt.json").read_text())
    truth["database"]["v_train_1"] = truth["database"]["train_1"]
    write_json(place / "gt.json", truth)
    assert "'v_train_1' and 'train_1' have the same features" in refused()


def test_two_files_of_one_name(refused, folders):
    """The name with and without v_: either could be meant."""
    file = folders()
    shutil.copy(file, file.with_name(f"v_{file.name}"))
    assert f"{file} and {file.with_name(f'v_{file.name}')}: both belong to 'train_1'" in refused()


def test_an_unknown_layout_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["--dataset", "demo", "--layout", "nope", "--device", "cpu"]) == 2
    assert "--layout nope: no such layout" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
