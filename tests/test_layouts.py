"""Every layout, file format and form of ground truth gives the records that the thumos layout gives."""

import itertools
import json
import pathlib
import re

import numpy as np
import pytest
import torch
from support import layouts
from support.layouts import FILES, STREAM_FILES, write_folders, write_hdf5, write_json, write_wtalc
from support.tiny import CLASSES, FEATURE_SIZE

from dataset import load_dataset
from formats.array_files import MemoryArray
from formats.feature_files import FeatureFiles
from formats.feature_set import Storage, StoredFeatures, StoredSet
from formats.layouts import AUTO, LAYOUTS, recognise
from formats.left_out import Cause
from formats.names import SPLITS, group_of, splits_of
from formats.opening import open_feature_set
from formats.problems import Kind
from formats.thumos14_quirks import LEFT_OUT
from options import DataOptions
from utils.errors import InputError
from utils.snippet_grid import SnippetGrid

pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.filterwarnings("error::RuntimeWarning")]

CPU = torch.device("cpu")
TRAIN, TEST = [f"train_{i}" for i in range(7)], [f"test_{i}" for i in range(4)]
MODALS = {"all": ("rgb", "flow"), "rgb": ("rgb",), "flow": ("flow",)}
NAMES = tuple(layout.name for layout in LAYOUTS)
WAYS = (("all", "ram"), ("all", "mmap"), ("all", "device"), ("rgb", "mmap"), ("flow", "device"))  # modal, cache
VALIDATES = {"train": "training", "test": "validation"}


def load(path, modal="all", *, splits=SPLITS, **options):
    flags = {"cache": "ram", "allow_pickle": True, "feature_size": FEATURE_SIZE, "modal": modal, **options}
    return load_dataset(path, DataOptions(**flags), device=CPU, splits=splits)


def rows(data, split, position, indices):
    """Snippets of a video, from wherever they are."""
    store = (data.train if split == "train" else data.test).store
    return store.prepare([position], indices[None])().dense()[0].numpy()


def assert_same(data, content, *, modal="all", rounding=0.0, train=tuple(TRAIN), test=tuple(TEST)):
    """The classes, videos, labels, lengths and features of the tiny set."""
    assert data.classes == CLASSES
    for split, names in (("train", train), ("test", test)):
        videos = data.train if split == "train" else data.test
        assert [video.video_id for video in videos] == list(names)
        for position, video in enumerate(videos):
            entry = content.database[video.video_id]
            labels = {note["label"] for note in entry["annotations"]}
            assert video.labels.tolist() == [float(name in labels) for name in CLASSES]
            streams = [content.videos[video.video_id][stream] for stream in MODALS[modal]]
            assert video.num_snippets == len(streams[0])
            indices = np.array([0, 3, 3, len(streams[0]) // 2, len(streams[0]) - 1])
            expected = np.concatenate(streams, axis=1).astype(np.float32)[indices]
            found = rows(data, split, position, indices)
            assert found.shape == expected.shape
            assert np.allclose(found, expected, rtol=rounding, atol=0)


def segments(data):
    return {v: [(i.label, i.start, i.end) for i in entry.instances] for v, entry in data.annotations.items()}


# Sets, by name: writes the content into a folder. Whatever has no other ground truth has a gt.json.


def thumos(**how):
    return lambda content, path: write_folders(content, path, base="features", **how)


def activitynet(test="validation", **how):
    return lambda content, path: write_folders(content, path, folders={"test": test}, **how)


def hdf5(name="all.h5", **how):
    return lambda content, path: write_hdf5(content, path / name, **how)


def mixed(content, path):
    """Every video in a format of its own."""
    for i, (video, streams) in enumerate(content.videos.items()):
        FILES[("npy", "npz rgb and flow", "pt tensor", "pth", "npz of one array")[i % 5]](
            str(path / "features" / content.split(video) / video), streams
        )


def streams_in_different_formats(content, path):
    for i, (video, streams) in enumerate(content.videos.items()):
        for stream, array in streams.items():
            kind = ("npy", "npz", "pt")[(i + (stream == "flow")) % 3]
            STREAM_FILES[kind](str(path / "features" / content.split(video) / stream / video), array)


def streams_of_both(content, path):
    """rgb/VIDEO.npz and flow/VIDEO.npz that each hold both: the folder's own is meant."""
    for video, streams in content.videos.items():
        for stream in streams:
            file = path / "features" / content.split(video) / stream / f"{video}.npz"
            layouts.save_npz(file, {"flow": streams["flow"], "rgb": streams["rgb"]})


def one_split_joint(content, path):
    """Joint files for training, streams for test."""
    for video, streams in content.videos.items():
        folder = path / "features" / content.split(video)
        if content.split(video) == "train":
            FILES["npy"](str(folder / video), streams)
        else:
            for stream, array in streams.items():
                STREAM_FILES["npy"](str(folder / stream / video), array)


# One of each suffix; tests/test_readers.py reads every way of saving a file.
SETS = {
    **{f"thumos joint {name}": thumos(save=name) for name in ("npy", "npz compressed", "pt dict bfloat16", "pth")},
    **{f"thumos streams {name}": thumos(save=name, by_stream=True) for name in ("npy", "pt bfloat16 old format")},
    "thumos validation and test": thumos(folders={"train": "validation", "test": "test"}),
    "thumos training and testing": thumos(folders={"train": "Training", "test": "Testing"}, by_stream=True),
    "thumos formats mixed": mixed,
    "thumos streams in different formats": streams_in_different_formats,
    "thumos each stream's file has both": streams_of_both,
    "thumos one split joint": one_split_joint,
    **{f"activitynet joint {name}": activitynet(name) for name in ("validation", "val", "test", "Validation")},
    **{f"activitynet streams {name}": activitynet(name, by_stream=True) for name in ("validation", "val", "test")},
    "activitynet v_ files": activitynet(prefix="v_"),
    "activitynet v_ streams npz": activitynet(prefix="v_", by_stream=True, save="npz"),
    "activitynet pt bfloat16": activitynet("val", save="pt bfloat16"),
    "hdf5 joint": hdf5(groups=False),
    "hdf5 groups": hdf5(groups=True),
    "hdf5 .hdf5": hdf5("all.hdf5", groups=True),
    "hdf5 float16": hdf5(groups=True, dtype=np.float16),
    "hdf5 float64": hdf5(groups=False, dtype=np.float64),
}


@pytest.mark.parametrize("name", SETS)
def test_same_records(content, place, name):
    SETS[name](content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    for modal, cache in WAYS:
        data = load(place, modal, cache=cache)
        assert_same(data, content, modal=modal, rounding=layouts.rounding(name))
        assert (data.layout, data.cache, data.left_out) == (name.split()[0], cache, {})
        assert all(isinstance(v.features, FeatureFiles) for v in (*data.train, *data.test)) == (cache != "ram")


@pytest.mark.parametrize("fps", [25.0, 30.0])
@pytest.mark.parametrize("python", [2, 3])
def test_wtalc(content, place, python, fps):
    """Pickles of Python 2 and of Python 3."""
    write_wtalc(content, place, python=python, fps=fps)
    for modal, cache in WAYS:
        data = load(place, modal, cache=cache)
        assert_same(data, content, modal=modal)
        assert (data.layout, data.left_out) == ("wtalc", {})
        assert {video.fps for video in (*data.train, *data.test)} == {fps}
    expected = {
        v: [(note["label"], *map(float, note["segment"])) for note in entry["annotations"]]
        for v, entry in content.database.items()
    }
    assert segments(data) == expected


def test_wtalc_of_python_2_is_what_it_says(content, place):
    """Bytes strings, the old names of numpy's modules, protocol 2."""
    write_wtalc(content, place, python=2)
    for name in ("Tiny-I3D-JOINTFeatures.npy", "Tiny-Annotations/labels.npy"):
        data = (place / name).read_bytes()
        assert b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n" in data and b"numpy._core" not in data
    labels = np.load(place / "Tiny-Annotations" / "labels.npy", allow_pickle=True, encoding="bytes")
    assert labels[0] == [b"Dive"]
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(place / "Tiny-Annotations" / "labels.npy")


def test_wtalc_with_what_training_needs_alone(content, place):
    """Names, subsets, labels and features."""
    write_wtalc(content, place)
    for name in ("labels_all", "segments", "duration", "classlist", "extracted_fps"):
        (place / "Tiny-Annotations" / f"{name}.npy").unlink()
    data = load(place)
    assert_same(data, content)  # no test video has segments: none is dropped for it
    assert not any(segments(data).values())


def wtalc_without_segments(content, place, videos):
    """A set whose labels_all alone says what these videos show."""
    write_wtalc(content, place, python=3)
    columns = layouts.wtalc_columns(content, {"train": "validation", "test": "test"})
    for name in ("labels", "segments"):
        values = [[] if v in videos else own for v, own in zip(columns["videoname"], columns[name], strict=True)]
        layouts.save_objects(place / "Tiny-Annotations" / f"{name}.npy", values, python=3)


def test_wtalc_labels_of_videos_without_segments(content, place):
    wtalc_without_segments(content, place, TRAIN)
    assert_same(load(place), content)


@pytest.mark.parametrize("form", ["arrays", "texts"])
def test_wtalc_segments_in_other_forms(content, place, form):
    """Each video's as one array, or as text."""
    write_wtalc(content, place, python=3)
    columns = layouts.wtalc_columns(content, {"train": "validation", "test": "test"})
    change = np.array if form == "arrays" else lambda own: [[str(t).encode() for t in pair] for pair in own]
    new = [change(own) for own in columns["segments"]]
    layouts.save_objects(place / "Tiny-Annotations" / "segments.npy", new, python=2 if form == "texts" else 3)
    data = load(place)
    assert_same(data, content)
    assert segments(data)["test_1"] == [("Jump", *map(float, content.database["test_1"]["annotations"][0]["segment"]))]


def test_wtalc_features_that_are_not_pickled(content, place):
    """Videos of one length can be an array of three dimensions."""
    equal = {
        v: {s: np.resize(a, (20, FEATURE_SIZE)) for s, a in streams.items()} for v, streams in content.videos.items()
    }
    short = layouts.Content(equal, content.database)
    write_wtalc(short, place)
    np.save(place / "Tiny-I3D-JOINTFeatures.npy", np.stack([layouts.joint(equal[v]) for v in equal]).astype(np.float32))
    assert_same(load(place), short)


def test_wtalc_subsets_of_activitynet(content, place):
    write_wtalc(content, place, subsets=VALIDATES)
    assert_same(load(place), content)


def test_wtalc_segments_from_elsewhere(content, place, tmp_path):
    """--ground_truth has the last word."""
    write_wtalc(content, place)
    file = write_json(tmp_path / "gt30.json", layouts.actionformer_json(content, kind="thumos", fps=30))
    data = load(place, ground_truth=str(file))
    assert_same(data, content)
    assert {video.fps for video in data.train} == {30.0}


@pytest.mark.parametrize("video", LEFT_OUT)
def test_wtalc_drops_what_common_practice_leaves_out(content, place, video):
    content = content.renamed(lambda v: video if v == "test_1" else v)
    write_wtalc(content, place)
    data = load(place)
    assert [v.video_id for v in data.test] == ["test_0", "test_2", "test_3"]
    assert data.left_out == {Cause.COMMON_PRACTICE: 1}


@pytest.mark.parametrize("video", LEFT_OUT)
def test_wtalc_keeps_what_a_split_file_lists(content, place, video):
    """Whatever common practice is, as in every layout."""
    content = content.renamed(lambda v: video if v == "test_1" else v)
    write_wtalc(content, place)
    layouts.write_split_files(content, place)
    data = load(place)
    assert [v.video_id for v in data.test] == ["test_0", video, "test_2", "test_3"]
    assert data.left_out == {}


def test_wtalc_drops_test_videos_with_labels_alone(content, place):
    """Whatever was found in them would count as wrong; test_3 has no labels either, so that it would rightly."""
    wtalc_without_segments(content, place, ["test_0", "test_1"])
    data = load(place)
    assert_same(data, content, test=TEST[2:])
    assert data.left_out == {"test videos without segments": 2}


def test_wtalc_keeps_videos_whose_segments_the_ground_truth_has(content, place, tmp_path):
    wtalc_without_segments(content, place, ["test_0", "test_1"])
    file = write_json(tmp_path / "gt.json", layouts.own_json(content))
    data = load(place, ground_truth=str(file))
    assert_same(data, content)
    assert data.left_out == {}


def test_every_layout_drops_the_same_videos(content, place, tmp_path):
    """One rule: the videos left out, and why, do not depend on how features are stored."""
    names = {"test_1": "video_test_0000270", "test_2": "video_test_0001558"}
    content = content.renamed(lambda v: names.get(v, v))
    truth = layouts.own_json(content)
    truth["database"]["video_test_0001558"].update(annotations=[], labels=["Throw"])
    file = write_json(tmp_path / "gt.json", truth)
    for i, write in enumerate((thumos(), activitynet("test"), hdf5(groups=True), write_wtalc)):
        write(content, place / str(i))
        data = load(place / str(i), ground_truth=str(file))
        assert [v.video_id for v in data.test] == ["test_0", "test_3"]
        assert data.left_out == {Cause.COMMON_PRACTICE: 1, "test videos without segments": 1}


def test_memory_arrays_name_their_entry(content, place):
    write_wtalc(content, place)
    data = load(place, cache="mmap")
    (part,) = data.train.videos[3].features.parts
    assert isinstance(part.array, MemoryArray)
    assert str(part.array) == f"{place / 'Tiny-I3D-JOINTFeatures.npy'} entry 3 ('train_3')"


# Ground truths


@pytest.mark.parametrize("hidden", [0, 2])
@pytest.mark.parametrize("where", ["gt.json", "activity_net.v1-3.min.json", "annotations/activity_net.v1-3.min.json"])
def test_official_activitynet_json(content, place, where, hidden):
    activitynet("val")(content, place)
    write_json(place / where, layouts.official_json(content, hidden=hidden))
    data = load(place)
    assert_same(data, content)
    assert data.left_out == ({"subset test has no labels": hidden} if hidden else {})
    assert data.annotations["train_0"].duration == 123.45 and data.annotations["train_0"].fps is None
    assert {video.fps for video in data.train} == {25.0}


def test_features_of_the_secret_test_set_are_allowed(content, place):
    activitynet("val")(content, place)
    for i in range(2):
        FILES["npy"](str(place / "test" / f"v_hidden_{i}"), content.videos["test_0"])
    write_json(place / "gt.json", layouts.official_json(content))
    assert_same(load(place), content)


@pytest.mark.parametrize("name", ["v_ in the files", "v_ in the ground truth", "v_ in both"])
def test_v_prefixes(content, place, name):
    prefix = {"v_ in the files": "v_", "v_ in the ground truth": "", "v_ in both": "v_"}[name]
    activitynet(prefix=prefix)(content, place)
    named = content if name == "v_ in the files" else content.renamed(lambda v: f"v_{v}")
    write_json(place / "gt.json", layouts.official_json(named))
    data = load(place)
    assert [v.video_id for v in data.train] == list(named.videos)[:7]
    assert np.array_equal(data.train.videos[0].features, layouts.joint(content.videos["train_0"]))


def test_v_prefixes_in_split_files(content, place):
    """Videos keep the names of the ground truth."""
    activitynet()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    layouts.write_split_files(content.renamed(lambda v: f"v_{v}"), place)
    assert_same(load(place), content)


def test_v_prefixes_in_hdf5(content, place):
    write_hdf5(content.renamed(lambda v: f"v_{v}"), place / "all.h5", groups=True)
    write_json(place / "gt.json", layouts.own_json(content))
    assert_same(load(place), content)


def test_a_video_whose_name_begins_with_v(content, place):
    """A video's own file is meant where both exist."""
    content = content.renamed(lambda v: {"train_0": "v_a", "train_1": "a"}.get(v, v))
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    data = load(place)
    for video in data.train.videos[:2]:
        assert np.array_equal(video.features, layouts.joint(content.videos[video.video_id]))


@pytest.mark.parametrize("kind", ["thumos", "activitynet"])
def test_actionformer_json(content, place, kind):
    (thumos() if kind == "thumos" else activitynet("val"))(content, place)
    write_json(place / "annotations" / f"{kind}14.json", layouts.actionformer_json(content, kind=kind))
    data = load(place)
    assert_same(data, content)
    assert {video.fps for video in (*data.train, *data.test)} == {30.0}
    assert data.annotations["train_0"].duration == 99.5


def test_actionformer_json_beside_thumos_folders(content, place):
    """Its Validation is features/train, or features/validation."""
    thumos(folders={"train": "validation"})(content, place)
    write_json(place / "thumos14.json", layouts.actionformer_json(content, kind="thumos"))
    assert_same(load(place), content)


def test_ground_truth_named(content, place, tmp_path):
    """The named one of several files, wherever it is."""
    thumos()(content, place)
    write_json(place / "a.json", layouts.own_json(content))
    file = write_json(tmp_path / "elsewhere" / "b.json", layouts.actionformer_json(content, kind="thumos"))
    assert {v.fps for v in load(place, ground_truth=str(place / "a.json")).train} == {25.0}
    data = load(place, ground_truth=str(file))
    assert_same(data, content)
    assert {v.fps for v in data.train} == {30.0}


def test_gt_json_is_the_ground_truth_whatever_lies_beside_it(content, place):
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    write_json(place / "classes.json", list(CLASSES))
    assert_same(load(place), content)


# Frame rates


def test_frame_rate_of_each_video(content, place):
    thumos()(content, place)
    truth = layouts.actionformer_json(content, kind="thumos")
    truth["database"]["train_1"]["fps"] = 24.5
    truth["database"]["test_2"]["fps"] = "29.97"
    del truth["database"]["test_0"]["fps"]
    truth["database"]["test_1"]["fps"] = None
    write_json(place / "gt.json", truth)
    data = load(place)
    assert [v.fps for v in data.train] == [30.0, 24.5, *[30.0] * 5]
    assert [v.fps for v in data.test] == [25.0, 25.0, 29.97, 30.0]
    data = load(place, fps=15.0)
    assert {v.fps for v in (*data.train, *data.test)} == {15.0}


def test_fps_overrides_wtalc(content, place):
    write_wtalc(content, place, fps=30)
    assert {v.fps for v in load(place, fps=10.0).test} == {10.0}


def test_frame_rate_moves_detections(content, place, run, tmp_path):
    """Twice the frame rate, half the seconds."""
    thumos()(content, place)
    times = {}
    for fps in (25.0, 50.0):
        write_json(place / "gt.json", layouts.actionformer_json(content, kind="thumos", fps=fps))
        assert run(place, "--exp_name", f"x{fps:g}", "--num_epochs", "1").code == 0
        found = json.loads((tmp_path / "out" / f"x{fps:g}" / "detections_best.json").read_text())["results"]
        times[fps] = sorted(tuple(d["segment"]) for d in found["test_0"])
    assert times[25.0] and len(times[50.0]) <= len(times[25.0])  # NMS adds a second to lengths: it removes others
    longest = {fps: max(end for _, end in own) for fps, own in times.items()}
    assert longest[50.0] == pytest.approx(longest[25.0] / 2, rel=0.05)


# Splits


def test_subsets_in_the_place_of_split_files(content, place):
    thumos()(content, place)
    for names in (VALIDATES, {"train": "Training", "test": "VAL"}, {"train": "validation", "test": "testing"}):
        write_json(place / "gt.json", layouts.own_json(content.with_subsets(names)))
        assert_same(load(place), content)


def test_split_files_have_the_last_word(content, place):
    """Whatever subsets are called."""
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content.with_subsets({"train": "a", "test": "b"})))
    layouts.write_split_files(content, place)
    assert_same(load(place), content)


def test_three_subsets_with_labels_need_split_files(content, place):
    thumos()(content, place)
    truth = layouts.own_json(content)
    truth["database"]["test_1"]["subset"] = "validation"
    file = write_json(place / "gt.json", truth)
    with pytest.raises(InputError, match=f"{re.escape(str(file))}: validation and test videos are both labelled"):
        load(place)
    layouts.write_split_files(content, place)
    assert_same(load(place), content)


def test_unlabelled_validation_is_left_out(content, place):
    thumos()(content, place)
    truth = layouts.own_json(content)
    truth["database"] |= {f"val_{i}": {"subset": "val", "annotations": []} for i in range(3)}
    write_json(place / "gt.json", truth)
    data = load(place)
    assert_same(data, content)
    assert data.left_out == {"subset validation has no labels": 3}


def test_a_subset_of_another_name_is_left_out(content, place):
    thumos()(content, place)
    truth = layouts.own_json(content)
    truth["database"]["train_6"]["subset"] = "background"
    write_json(place / "gt.json", truth)
    data = load(place)
    assert_same(data, content, train=TRAIN[:6])
    assert data.left_out == {"subset 'background' is neither training, validation nor test": 1}


@pytest.mark.parametrize("video", LEFT_OUT)
def test_what_common_practice_leaves_out_of_thumos(content, place, video):
    """Its subset alone drops it, with or without features; a split file may name it."""
    content = content.renamed(lambda v: video if v == "test_1" else v)
    thumos()(content, place)
    write_json(place / "gt.json", layouts.actionformer_json(content, kind="thumos"))
    data = load(place)
    assert [v.video_id for v in data.test] == ["test_0", "test_2", "test_3"]
    assert data.left_out == {Cause.COMMON_PRACTICE: 1}
    (place / "features" / "test" / f"{video}.npy").unlink()
    assert len(load(place).test) == 3
    thumos()(content, place)
    layouts.write_split_files(content, place)
    data = load(place)
    assert [v.video_id for v in data.test] == ["test_0", video, "test_2", "test_3"]
    assert data.left_out == {}


def test_left_out_video_that_no_split_file_names(content, place):
    """It is annotated, and no mistake."""
    video = next(iter(LEFT_OUT))
    thumos()(content, place)
    layouts.write_split_files(content, place)
    truth = layouts.own_json(content)
    truth["database"][video] = truth["database"]["test_1"]
    write_json(place / "gt.json", truth)
    data = load(place)
    assert_same(data, content)
    assert data.left_out == {Cause.COMMON_PRACTICE: 1}


def test_ambiguous_is_no_class(content, place):
    content = content.renamed(
        lambda v: {"test_1": "video_test_0000004", "train_1": "video_validation_0000051"}.get(v, v)
    )
    for video in ("video_test_0000004", "video_validation_0000051"):
        content.database[video]["annotations"].append({"label": "Ambiguous", "segment": [1, 2]})
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    data = load(place)
    assert data.classes == CLASSES
    assert [i.label for i in data.annotations["video_test_0000004"].instances] == ["Jump"]


def test_subset_names():
    for name, group in (("TRAIN", "train"), ("Training", "train"), ("val", "validation"), ("Valid", "validation")):
        assert group_of(name) == group
    assert group_of("testing") == "test" and group_of("Test") == "test"
    assert group_of("") is None and group_of("background") is None
    assert splits_of({"train", "validation", "test"}) == {"train": "train", "validation": "test", "test": "test"}
    assert splits_of({"train", "test"}) == {"train": "train", "test": "test"}
    assert splits_of({"validation", "test"}) == {"validation": "train", "test": "test"}


# --skip_unusable


def test_videos_without_features_are_skipped(content, place):
    thumos(by_stream=True)(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    for stream, split, video in (("rgb", "train", "train_0"), ("flow", "test", "test_1"), ("rgb", "test", "test_1")):
        (place / "features" / split / stream / f"{video}.npy").unlink()
    with pytest.raises(InputError, match="--skip_unusable"):
        load(place)
    data = load(place, skip_unusable=True)
    assert_same(data, content, train=TRAIN[1:], test=["test_0", "test_2", "test_3"])
    assert data.left_out == {"without features": 2}
    data = load(place, "flow", skip_unusable=True)  # of which train_0 has its file
    assert_same(data, content, modal="flow", test=["test_0", "test_2", "test_3"])


def test_empty_segments_are_skipped(content, place):
    """They still count for their video's labels."""
    content.database["train_1"]["annotations"].append({"label": "Jump", "segment": [3, 3]})
    content.database["test_0"]["annotations"].append({"label": "Dive", "segment": ["5", "2"]})
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    with pytest.raises(InputError, match="ends at or before its start"):
        load(place)
    data = load(place, skip_unusable=True)
    assert_same(data, content)
    assert data.left_out == {"segments that end at or before their start": 2}
    assert len(segments(data)["test_0"]) == 1


def test_empty_segments_of_wtalc_are_skipped(content, place):
    content.database["test_0"]["annotations"].append({"label": "Dive", "segment": [5, 5]})
    write_wtalc(content, place)
    with pytest.raises(InputError, match=r"entry 7 \('test_0'\).* ends at or before its start"):
        load(place)
    data = load(place, skip_unusable=True)
    assert_same(data, content)
    assert data.left_out == {"segments that end at or before their start": 1}


def test_annotated_videos_that_no_split_file_names_are_left_out(content, place):
    thumos()(content, place)
    layouts.write_split_files(content, place)
    truth = layouts.own_json(content)
    truth["database"]["orphan"] = truth["database"]["train_0"]
    write_json(place / "gt.json", truth)
    data = load(place)
    assert_same(data, content)
    assert data.left_out == {"annotated videos in no split": 1}


def test_skipping_leaves_nothing(content, place):
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    for video in TEST:
        (place / "features" / "test" / f"{video}.npy").unlink()
    with pytest.raises(InputError, match="no test video is left"):
        load(place, skip_unusable=True)


def test_skipping_does_not_skip_broken_files(content, place):
    thumos()(content, place)
    file = place / "features" / "train" / "train_2.npy"
    file.write_bytes(file.read_bytes()[:300])
    write_json(place / "gt.json", layouts.own_json(content))
    with pytest.raises(InputError, match=re.escape(str(file))):
        load(place, skip_unusable=True)


@pytest.mark.parametrize("form", ["json", "wtalc"])
def test_problems_name_their_video_whatever_reads_it(content, place, form):
    """Records, not messages, are what the report of a set is made of."""
    content.database["train_2"]["annotations"].append({"label": "Jump", "segment": [3, 3]})
    content.database["test_1"]["annotations"] = [{"label": "Jump", "segment": [0, float("nan")]}]
    if form == "wtalc":
        write_wtalc(content, place)
        source = place / "Tiny-Annotations"
    else:
        thumos()(content, place)
        source = write_json(place / "gt.json", layouts.own_json(content))
    reported = []
    open_feature_set(place, DataOptions(allow_pickle=True), report=reported.append)
    assert [(problem.kind, problem.video) for problem in reported] == [
        (Kind.EMPTY_SEGMENT, "train_2"),
        (Kind.INVALID_SEGMENT, "test_1"),
    ]
    assert all(problem.where.startswith(f"{source}: ") and str(problem).count("; ") == 1 for problem in reported)


# Recognition


def folders(*names):
    """A writer of empty folders, and of files where a name has a suffix."""

    def write(path):
        for name in names:
            place = path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix:
                place.write_bytes(b"")
            else:
                place.mkdir(parents=True, exist_ok=True)

    return write


# Folders that look like each layout.
LOOKS = {
    "thumos": [folders("features/train", "features/test"), folders("features")],
    "activitynet": [
        folders("train", "validation"),
        folders("train/rgb", "val/rgb"),
        folders("Training", "Testing"),
        folders("validation", "test", "annotations", "gt.json"),
    ],
    "wtalc": [
        folders("X-I3D-JOINTFeatures.npy", "X-Annotations"),
        folders("X-Annotations"),
        folders("X-I3D-JOINTFeatures.npy"),
    ],
    "hdf5": [folders("a.h5", "gt.json"), folders("a.hdf5")],
}


def test_every_layout_has_its_looks():
    assert set(NAMES) == set(LOOKS), "add the folders that a layout is recognised by to LOOKS"


@pytest.mark.parametrize(("layout", "case"), [(name, i) for name, cases in LOOKS.items() for i in range(len(cases))])
def test_recognised(tmp_path, layout, case):
    LOOKS[layout][case](tmp_path)
    assert recognise(tmp_path, AUTO).name == layout
    assert recognise(tmp_path, layout).name == layout
    for other in set(NAMES) - {layout}:
        with pytest.raises(InputError) as caught:
            recognise(tmp_path, other)
        message = str(caught.value)
        assert f"--layout {other}: looked for " in message and f"it looks like {layout}" in message
        first = sorted(entry.name for entry in tmp_path.iterdir())[0]
        assert f"found {first}" in message and str(tmp_path) in message


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(LOOKS, 2)))
def test_ambiguous_folders(tmp_path, first, second):
    LOOKS[first][0](tmp_path)
    LOOKS[second][0](tmp_path)
    with pytest.raises(InputError, match=f"{re.escape(str(tmp_path))}: looks like .* and .*--layout") as caught:
        recognise(tmp_path, AUTO)
    assert first in str(caught.value) and second in str(caught.value)
    assert recognise(tmp_path, first).name == first and recognise(tmp_path, second).name == second


def test_ambiguous_set_is_read_as_told(content, place):
    thumos()(content, place)
    other = layouts.Content(
        {v: {s: a + 1 for s, a in own.items()} for v, own in content.videos.items()}, content.database
    )
    activitynet()(other, place)
    write_json(place / "gt.json", layouts.own_json(content))
    with pytest.raises(InputError, match="thumos and activitynet"):
        load(place)
    assert_same(load(place, layout="thumos"), content)
    assert_same(load(place, layout="activitynet"), other)


@pytest.mark.parametrize("files", [(), ("gt.json",), ("a.h5", "b.h5"), ("train_0.npy",)])
def test_nothing_known(tmp_path, files):
    folders(*files)(tmp_path)
    with pytest.raises(InputError) as caught:
        recognise(tmp_path, AUTO)
    message = str(caught.value)
    assert str(tmp_path) in message and all(f"{layout}: " in message for layout in NAMES)
    assert (pathlib.PurePath(files[0]).parts[0] if files else "nothing") in message.split("Found")[1]


class MemoryLayout:
    """A layout that nothing else knows of: a folder with a file of its name, and the content elsewhere."""

    name, looked_for = "memory", "content.memory"

    def __init__(self, content):
        self.content = content

    def fits(self, path):
        return (path / "content.memory").exists()

    def read(self, path, *, allow_pickle, report):
        videos = {
            v: {"joint": MemoryArray(where=v, array=layouts.joint(own))} for v, own in self.content.videos.items()
        }
        features = StoredFeatures(videos=videos, expected="entry {video}", joint=True)
        return StoredSet(storage=Storage.undivided(features))


def test_a_new_layout_is_one_entry(content, place, monkeypatch):
    monkeypatch.setattr("formats.layouts.LAYOUTS", (*LAYOUTS, MemoryLayout(content)))
    (place / "content.memory").touch()
    write_json(place / "gt.json", layouts.own_json(content))
    for layout in (AUTO, "memory"):
        data = load(place, layout=layout)
        assert_same(data, content)
        assert data.layout == "memory"
    with pytest.raises(InputError, match=r"--layout hdf6: no such layout; give thumos, .*, memory, or auto"):
        load(place, layout="hdf6")


# Names


STRANGE = ("a b", "späti ✓", "v_", "-x", "a.b.c", "a'b", "{video}", "{stream}", "%s", "rgb", "x" * 200)


@pytest.mark.parametrize("kind", ["thumos", "streams", "hdf5", "wtalc"])
def test_strange_names(content, place, kind):
    names = dict(zip((*TRAIN, *TEST), STRANGE, strict=True))
    content = content.renamed(names.get)
    if kind == "wtalc":
        write_wtalc(content, place)
    else:
        {"thumos": thumos(), "streams": thumos(by_stream=True), "hdf5": hdf5(groups=True)}[kind](content, place)
        write_json(place / "gt.json", layouts.own_json(content))
    assert_same(load(place), content, train=STRANGE[:7], test=STRANGE[7:])


def test_strange_names_of_classes(content, place):
    names = dict(zip(CLASSES, ("A; b/ç", "B 'quoted'", "C {x}"), strict=True))
    for entry in content.database.values():
        for note in entry["annotations"]:
            note["label"] = names[note["label"]]
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    assert load(place).classes == tuple(names.values())


def test_other_files_between_the_features_are_no_matter(content, place):
    thumos(by_stream=True)(content, place)
    for name in ("readme.txt", ".DS_Store", "._train_0.npy", "Thumbs.db"):
        (place / "features" / "train" / "rgb" / name).write_bytes(b"x")
    write_json(place / "gt.json", layouts.own_json(content))
    assert_same(load(place), content)


def test_split_files_of_another_system(content, place):
    """A byte order mark, carriage returns, blank lines and spaces."""
    thumos()(content, place)
    write_json(place / "gt.json", layouts.own_json(content))
    for split, names in (("train", TRAIN), ("test", TEST)):
        (place / f"split_{split}.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*names, "", "  "]).encode())
    assert_same(load(place), content)


# From end to end


@pytest.mark.parametrize(
    "name", ["thumos joint pt dict bfloat16", "activitynet v_ streams npz", "hdf5 groups", "wtalc"]
)
@pytest.mark.parametrize("cache", ["ram", "mmap"])
def test_training(content, place, run, tmp_path, name, cache):
    if name == "wtalc":
        write_wtalc(content, place)
    else:
        SETS[name](content, place)
        write_json(place / "gt.json", layouts.own_json(content))
    flags = ["--cache", cache, "--num_epochs", "1", "--exp_name", "x", *["--allow_pickle"] * (name == "wtalc")]
    trained = run(place, *flags)
    assert (trained.code, trained.err) == (0, "")
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert set(results["best"]["per_class_AP"]) == set(CLASSES)
    tested = run(place, "--inference_only", "--exp_name", "x", *flags[6:])
    assert (tested.code, tested.err) == (0, "")


def test_layouts_train_the_same_network(tiny, content, place, run, tmp_path):
    """Features that a format keeps exactly give the same weights, to the last bit."""
    write_hdf5(content, place / "all.h5", groups=False)
    write_json(place / "gt.json", layouts.own_json(content))
    for name, path in (("a", tiny.path), ("b", place)):
        assert run(path, "--exp_name", name).code == 0
    models = [torch.load(tmp_path / "out" / name / "last.pt", weights_only=True)["model"] for name in ("a", "b")]
    assert all(torch.equal(models[0][key], models[1][key]) for key in models[0])


# Snippets and seconds


def test_seconds_of_snippets_without_overlap():
    """16 frames, 16 apart, 25 a second: snippet k lasts from 0.64 k to 0.64 (k + 1)."""
    grid = SnippetGrid(frames=16, stride=16)
    assert grid == SnippetGrid(16, 16)
    assert grid.seconds(np.arange(4), 25.0).tolist() == pytest.approx([0.0, 0.64, 1.28, 1.92])


def test_seconds_of_snippets_that_overlap():
    """16 frames, 4 apart, 30 a second, 10 snippets.

    Snippet 0 covers frames 0 .. 16, its middle is frame 8, its share the 4 frames around it: 6 .. 10, 0.2 s .. 1/3 s.
    Snippet 9 covers frames 36 .. 52, its middle is frame 44, its share 42 .. 46: 1.4 s .. 23/15 s.
    """
    grid = SnippetGrid(frames=16, stride=4)
    assert float(grid.seconds(0, 30.0)) == pytest.approx(0.2)
    assert float(grid.seconds(1, 30.0)) == pytest.approx(1 / 3)
    assert float(grid.seconds(9, 30.0)) == pytest.approx(1.4)
    assert float(grid.seconds(10, 30.0)) == pytest.approx(23 / 15)
    assert float(grid.seconds(0.5, 30.0)) == pytest.approx(
        8 / 30
    )  # the middle of a snippet is the middle of its frames


def test_seconds_of_snippets_with_gaps():
    """16 frames, 32 apart, 25 a second: the middle of snippet 0 is frame 8, that of snippet 1 is frame 40, the border between
    them is frame 24; 8 frames of the time that snippet 0 stands for would lie before the video."""
    grid = SnippetGrid(frames=16, stride=32)
    assert grid.seconds(np.array([0.5, 1.0, 1.5]), 25.0).tolist() == pytest.approx([8 / 25, 24 / 25, 40 / 25])
    assert float(grid.seconds(0, 25.0)) == pytest.approx(-8 / 25)


def test_seconds_at_different_frame_rates():
    grid = SnippetGrid(frames=16, stride=8)
    assert grid.seconds(np.array([1, 1]), np.array([25.0, 50.0])).tolist() == pytest.approx([12 / 25, 12 / 50])


@pytest.mark.parametrize(
    ("frames", "stride", "fps", "snippets", "last_frame"),
    [(16, 16, 25.0, 10, 160), (16, 4, 30.0, 10, 52), (16, 32, 25.0, 3, 80), (8, 1, 12.5, 1, 8)],
)
def test_snippets_of_a_duration(frames, stride, fps, snippets, last_frame):
    """The last of L snippets ends with frame (L - 1) stride + frames."""
    grid = SnippetGrid(frames, stride)
    assert grid.snippets(last_frame / fps, fps) == pytest.approx(snippets)
    assert grid.snippets((last_frame + stride / 2) / fps, fps) == pytest.approx(snippets + 0.5)


def test_an_id_that_begins_with_v_itself(content, place):
    """The files of one YouTube id in four thousand are called v_v_..."""
    content = content.renamed(lambda v: {"train_0": "v_a"}.get(v, v))
    write_folders(content.renamed(lambda v: f"v_{v}"), place)
    write_json(place / "gt.json", layouts.own_json(content))
    assert load(place).train.videos[0].video_id == "v_a"


@pytest.mark.parametrize("streams", [False, True])
def test_no_folder_a_split(content, place, streams):
    """The folders that users of ActionFormer have."""
    write_folders(content, place, base="features")
    for split in ("train", "test"):
        for file in (place / "features" / split).iterdir():
            file.rename(place / "features" / file.name)
        (place / "features" / split).rmdir()
    if streams:
        for stream, half in (("rgb", slice(None, 6)), ("flow", slice(6, None))):
            (place / "features" / stream).mkdir()
            for file in place.glob("features/*.npy"):
                np.save(place / "features" / stream / file.name, np.load(file)[:, half])
        for file in place.glob("features/*.npy"):
            file.unlink()
    write_json(place / "gt.json", layouts.own_json(content))
    data = load(place)
    assert (len(data.train), len(data.test)) == (7, 4)
    assert data.train.videos[0].features.shape[1] == 12


def test_skipping_leaves_the_classes_as_they_are(content, place, run):
    """A class whose training videos are all missing stays, so that a checkpoint fits the data in training and in inference."""
    write_folders(content, place, base="features")
    truth = layouts.own_json(content)
    truth["database"]["train_6"]["annotations"].append({"label": "Aaa", "segment": [1, 2]})
    truth["database"]["test_0"]["annotations"].append({"label": "Aaa", "segment": [1, 2]})
    write_json(place / "gt.json", truth)
    next((place / "features" / "train").glob("train_6.*")).unlink()
    outcome = run(place, "--skip_unusable", "--exp_name", "x", "--num_epochs", "1")
    assert outcome.code == 0 and "4 classes" in outcome.out
    assert "left out, classes of which no training video is left: 1" in outcome.out
    assert run(place, "--exp_name", "x", "--inference_only").code == 0


def test_labelled_test_videos_without_segments_are_not_evaluated(content, place):
    """Whatever was found in them would count as wrong; test_3 has no label either, so that it would rightly."""
    write_folders(content, place, base="features")
    truth = layouts.own_json(content)
    for video in ("test_0", "test_1"):
        entry = truth["database"][video]
        entry.update(labels=[entry["annotations"][0]["label"]], annotations=[])
    write_json(place / "gt.json", truth)
    data = load(place)
    assert [video.video_id for video in data.test] == ["test_2", "test_3"]
    assert data.left_out == {"test videos without segments": 2}


def test_accuracy_is_that_of_labelled_videos(content, place, run, tmp_path):
    """test_3 has no label: nothing that is predicted could be right."""
    write_folders(content, place, base="features")
    write_json(place / "gt.json", layouts.own_json(content))
    assert run(place, "--exp_name", "x", "--num_epochs", "1", "--class_th", "1").code == 0
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert (3 * results["last"]["video_accuracy"]) % 1 == pytest.approx(0, abs=1e-9)


def test_ambiguous_is_no_class_of_thumos(content, place):
    """Neither form of the annotations makes it a class, whatever the classlist says."""
    subsets = {"train": "validation", "test": "test"}
    names = {f"{s}_{i}": f"video_{subsets[s]}_{i:07d}" for s in subsets for i in range(9)}
    content = content.renamed(lambda v: names[v])
    columns = layouts.wtalc_columns(content, subsets)
    write_wtalc(content, place, python=3)
    folder = place / "Tiny-Annotations"
    labels = [[*row, "Ambiguous"] if row else row for row in columns["labels"]]
    segments = [[*row, [0.5, 1.5]] if len(row) else row for row in columns["segments"]]
    layouts.save_objects(folder / "labels.npy", labels, python=3)
    layouts.save_objects(folder / "segments.npy", segments, python=3)
    assert load(place).classes == CLASSES
