"""The forms in which the field stores features besides the documented layouts: read where only one reading is possible."""

import json
import pathlib
from collections.abc import Callable

import h5py
import numpy as np
import pytest
import torch
from support import layouts
from support.layouts import Content, save_npy, save_npz, save_pt, write_json
from support.tiny import FEATURE_SIZE, load_tiny_set

from data_tools.convert import main as convert
from formats.array_files import stream_of
from formats.feature_files import FeatureFiles, looks_transposed
from formats.feature_folders import features_in
from formats.problems import raise_problem
from utils.errors import InputError

Writer = Callable[[pathlib.Path, str, str, str, np.ndarray], object]  # DATA, split, stream, video, array

FORMS: dict[str, Writer] = {
    "VIDEO_rgb.npy": lambda d, split, stream, v, a: save_npy(d / f"features/{split}/{v}_{stream}.npy", a),
    "VIDEO-rgb.npz": lambda d, split, stream, v, a: save_npz(d / f"features/{v}-{stream}.npz", {"x": a}),
    "VIDEO.RGB.npy": lambda d, split, stream, v, a: save_npy(d / f"features/{v}.{stream.upper()}.npy", a),
    "rgb_VIDEO.pt": lambda d, split, stream, v, a: save_pt(d / f"{split}/{stream}_{v}.pt", layouts.tensor(a)),
    "rgb/VIDEO_rgb.npy": lambda d, split, stream, v, a: save_npy(d / f"features/{split}/{stream}/{v}_{stream}.npy", a),
    "RGB/VIDEO.npy": lambda d, split, stream, v, a: save_npy(
        d / f"features/{split}/{ {'rgb': 'RGB', 'flow': 'Flow'}[stream] }/{v}.npy", a
    ),
    "Class/": lambda d, split, stream, v, a: save_npy(d / f"features/{split}/{stream}/Class{v[-1]}/{v}.npy", a),
    "Class/rgb/": lambda d, split, stream, v, a: save_npy(d / f"features/{split}/Class{v[-1]}/{stream}/{v}.npy", a),
    "Class/VIDEO_rgb.npy": lambda d, split, stream, v, a: save_npy(d / f"{split}/Class{v[-1]}/{v}_{stream}.npy", a),
    "VIDEO/rgb.npy": lambda d, split, stream, v, a: save_npy(d / f"features/{v}/{stream}.npy", a),
    "rgb/train/": lambda d, split, stream, v, a: save_npy(d / f"features/{stream}/{split}/{v}.npy", a),
    "rgb/train/ alone": lambda d, split, stream, v, a: save_npy(d / f"{stream}/{split}/{v}.npy", a),
    "RGB/train/Class/": lambda d, split, stream, v, a: save_npy(d / f"{stream.upper()}/{split}/C{v[-1]}/{v}.npy", a),
    "rgb/ alone": lambda d, split, stream, v, a: save_npy(d / f"{stream}/{v}.npy", a),
    "i3d_rgb/": lambda d, split, stream, v, a: save_npy(d / f"features/{split}/i3d_{stream}/{v}.npy", a),
    "Features/": lambda d, split, stream, v, a: save_npy(d / f"Features/{stream}/{v}.npy", a),
    "h5 VIDEO/x/rgb": lambda d, split, stream, v, a: put(d / "all.h5", f"{v}/x/{stream}", a),
    "VIDEO.NPY": lambda d, split, stream, v, a: (
        save_npy(d / f"features/{stream}/{v}.npy", a),
        (d / f"features/{stream}/{v}.npy").rename(d / f"features/{stream}/{v}.NPY"),
    ),
    "h5 rgb/VIDEO": lambda d, split, stream, v, a: put(d / "all.h5", f"{stream}/{v}", a),
    "h5 RGB/VIDEO/x": lambda d, split, stream, v, a: put(d / "all.h5", f"{stream.upper()}/{v}/x", a),
    "rgb.h5": lambda d, split, stream, v, a: put(d / f"{stream}.h5", v, a),
    "features/set_rgb.hdf5": lambda d, split, stream, v, a: put(d / f"features/set_{stream}.hdf5", v, a),
    "h5 VIDEO/RGB and more": lambda d, split, stream, v, a: (
        put(d / "all.h5", f"{v}/{stream.upper()}", a),
        put(d / "all.h5", f"{v}/{stream}_fps", np.float64(25)),
    ),
}


def put(file: pathlib.Path, key: str, array: object) -> None:
    file.parent.mkdir(exist_ok=True)
    with h5py.File(file, "a") as opened:
        opened[key] = array


def write(content: Content, data: pathlib.Path, form: Writer) -> None:
    for video, streams in content.videos.items():
        for stream, array in streams.items():
            form(data, content.split(video), stream, video, array)
    write_json(data / "gt.json", layouts.own_json(content))


def assert_read(data: pathlib.Path, content: Content) -> None:
    videos = {video.video_id: video.features for video in load_tiny_set(data).videos}
    assert videos.keys() == content.videos.keys()
    for video, features in videos.items():
        np.testing.assert_allclose(features, layouts.joint(content.videos[video]), rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_read(content, place, form):
    write(content, place, FORMS[form])
    assert_read(place, content)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("VIDEO_rgb.npy", "train_0_rgb.npy and "),
        ("RGB/VIDEO.npy", "RGB/train_0.npy and "),
        ("rgb/train/", "rgb/train/train_0.npy and "),
        ("h5 rgb/VIDEO", "'rgb/test_0'"),
    ],
)
def test_where_features_were_found_is_said(content, place, form, words):
    write(content, place, FORMS[form])
    note, *_ = load_tiny_set(place).notes  # of both splits
    assert "found in" in note and words in note


@pytest.mark.parametrize("base", ["", "features"])
def test_a_set_in_a_folder_of_a_streams_name(content, tmp_path, base):
    data = tmp_path / "rgb"
    layouts.write_folders(content, data, base=base)
    write_json(data / "gt.json", layouts.own_json(content))
    assert_read(data, content)


def test_nothing_is_said_of_the_documented_forms(content, place, tiny):
    assert load_tiny_set(tiny.path).notes == ()
    layouts.write_hdf5(content, place / "all.h5", groups=True)
    write_json(place / "gt.json", layouts.own_json(content))
    assert load_tiny_set(place).notes == ()


def test_files_beside_the_streams(content, place):
    """What the field's extractors leave: VIDEO_fps.npy, VIDEO_timestamps_ms.npy."""
    write(content, place, FORMS["VIDEO-rgb.npz"])
    for video in content.videos:
        save_npy(place / f"features/{video}_fps.npy", np.float64(25))
        save_npy(place / f"features/{video}_timestamps_ms.npy", np.arange(9))
    assert_read(place, content)
    assert features_in(place / "features", raise_problem).keys() == content.videos.keys()


@pytest.mark.parametrize("name", ["pour_flow", "flow_pour", "rgb", "flow", "_rgb", "x.rgb"])
@pytest.mark.parametrize("by_stream", [False, True])
def test_videos_whose_names_end_like_streams(content, place, name, by_stream):
    renamed = content.renamed(lambda video: name if video == "train_1" else video)
    layouts.write_folders(renamed, place, base="features", by_stream=by_stream)
    write_json(place / "gt.json", layouts.own_json(renamed))
    assert_read(place, renamed)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("a.npy", "a_rgb.npy", "a_flow.npy"), "'a'"),
        (("a_rgb.npy", "a-rgb.npy", "a_flow.npy"), "'a'"),
        (("One/a.npy", "Two/a.npy"), "'a'"),
        (("rgb/a.npy", "RGB/a.npy"), "'a'"),
        (("a.npy", "a.npz"), "a.npy"),
    ],
)
def test_two_files_of_a_video_are_no_guess(tmp_path, files, words):
    for file in files:
        save_npy(tmp_path / file, np.ones((3, 6), np.float32))
        if file.endswith("npz"):
            save_npz(tmp_path / file, {"x": np.ones((3, 6))})
    with pytest.raises(InputError, match="remove one") as caught:
        features_in(tmp_path, raise_problem)
    assert words in str(caught.value)


def test_names_with_a_stream():
    assert stream_of("clip_rgb") == stream_of("RGB-clip") == stream_of("clip.Rgb") == ("clip", "rgb")
    assert stream_of("flow") == ("", "flow") and stream_of("overflow") == ("overflow", None)
    assert stream_of("clip_rgb_flow") == ("clip_rgb_flow", None) and stream_of("a_rgb_flow_rgb") == (
        "a_rgb_flow",
        "rgb",
    )


@pytest.mark.parametrize("suffix", ["_rgb", "_flow", "_rgb_flow"])
@pytest.mark.parametrize("by_stream", [False, True])
def test_videos_that_are_all_named_like_streams(content, place, suffix, by_stream):
    """Those of NTU RGB+D are called S001C001P001R001A001_rgb."""
    renamed = content.renamed(lambda video: f"{video}{suffix}")
    layouts.write_folders(renamed, place, base="features", by_stream=by_stream)
    write_json(place / "gt.json", layouts.own_json(renamed))
    assert_read(place, renamed)


def test_a_stream_alone_that_is_told_by_names(content, place, run):
    for video, streams in content.videos.items():
        save_npy(place / f"features/{video}_rgb.npy", streams["rgb"])
    write_json(place / "gt.json", layouts.own_json(content))
    data = load_tiny_set(place, modal="rgb")
    np.testing.assert_allclose(data.train.videos[1].features, content.videos["train_1"]["rgb"], rtol=1e-6)
    assert "no split names" not in run(place, "--modal", "rgb", "--check_data").out


def test_an_hdf5_file_whose_name_ends_like_a_stream(content, place):
    layouts.write_hdf5(content, place / "i3d_flow.h5", groups=False)
    write_json(place / "gt.json", layouts.own_json(content))
    assert_read(place, content)


# What a missing file is said to be


def test_a_file_that_is_missing_is_compared_with_what_is_there(tiny, refused_with):
    for file in (tiny.path / "features/train/rgb").iterdir():
        file.rename(file.with_name(f"{file.stem}_i3d.npy"))
    line = refused_with(tiny.path)
    assert f"there is {tiny.feature('train', 'rgb', 'train_0_i3d')}" in line


def test_a_stream_that_is_missing_everywhere(tiny, refused_with):
    for file in tiny.path.glob("features/*/flow/*"):
        file.unlink()
    line = refused_with(tiny.path)
    assert "flow/train_0.npy: no such feature file" in line and "--modal rgb" in line


def test_a_missing_file_has_the_name_that_the_others_have(content, place, refused_with):
    write(content, place, FORMS["VIDEO_rgb.npy"])
    file = place / "features/train/train_1_flow.npy"
    file.unlink()
    assert f"{file}: no such feature file" in refused_with(place)


# Streams of different length


def shorten(tiny, cuts: dict[str, int], stream: str = "flow") -> None:
    for video, snippets in cuts.items():
        file = tiny.feature(video.split("_")[0], stream, video)
        np.save(file, np.load(file)[:-snippets])


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("cache", ["ram", "device", "mmap"])
def test_one_or_two_snippets_more_are_cut(tiny, run, cache, stream):
    whole = {video.video_id: video.features for video in load_tiny_set(tiny.path).videos}
    shorten(tiny, {"train_0": 1, "train_1": 2, "test_0": 2}, stream)
    data = load_tiny_set(tiny.path, cache=cache)
    lengths = {video.video_id: video.num_snippets for video in data.videos}
    assert [len(whole[v]) - lengths[v] for v in ("train_0", "train_1", "test_0", "test_1")] == [1, 2, 2, 0]
    some = np.array([lengths["train_1"] - 1, 0])
    video = data.train.videos[1]
    assert np.array_equal(video.features[some], whole["train_1"][some])
    outcome = run(tiny.path, "--cache", cache)
    assert outcome.code == 0
    assert "whose streams differ by 1 or 2 snippets: 3" in outcome.out


def test_larger_differences_can_be_left_out(tiny, run, refused_with):
    shorten(tiny, {"train_0": 3})
    assert "--skip_unusable" in refused_with(tiny.path)
    outcome = run(tiny.path, "--skip_unusable")
    assert outcome.code == 0 and "left out, streams of different length: 1" in outcome.out


def test_a_split_of_which_nothing_is_left(tiny, refused_with):
    shorten(tiny, {f"test_{i}": 5 for i in range(len(list(tiny.path.glob("features/test/rgb/*"))))})
    assert "no test video is left" in refused_with(tiny.path, "--skip_unusable")


def test_cut_streams_are_counted_by_check_data(tiny, run):
    shorten(tiny, {"train_0": 1, "test_1": 2})
    outcome = run(tiny.path, "--check_data")
    assert "streams that differ by 1 or 2 snippets, cut to the shorter (2)" in outcome.out
    shorten(tiny, {"train_0": 4})
    assert run(tiny.path, "--check_data").code == 2
    outcome = run(tiny.path, "--check_data", "--skip_unusable")
    assert "left out, with --skip_unusable" in outcome.out and "error: features" not in outcome.out


def test_converted_streams_have_the_shorter_length(tiny, place, capsys):
    shorten(tiny, {"train_0": 1, "train_1": 4})
    flags = ["--feature_size", str(FEATURE_SIZE), "--skip_unusable"]
    assert convert([str(tiny.path), str(place), *flags]) == 0
    out = capsys.readouterr().out
    assert "differ by 1 or 2 snippets: 1" in out and "left out, streams of different length: 1" in out
    rgb, flow = (np.load(place / f"features/train/{stream}/train_0.npy") for stream in ("rgb", "flow"))
    assert len(rgb) == len(flow) and not (place / "features/train/rgb/train_1.npy").exists()
    assert "train_1" not in json.loads((place / "gt.json").read_text())["database"]


# Shapes


PLAIN = np.random.default_rng(0).random((9, 12)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 9, 12), (9, 12, 1, 1), (9, 1, 1, 12), (1, 9, 1, 12), (1, 1, 9, 12)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_axes_of_length_1(tmp_path, shape, suffix):
    layouts.FILES[{".npy": "npy", ".npz": "npz of one array", ".pt": "pt tensor"}[suffix]](
        str(tmp_path / "video"), {"rgb": PLAIN[:, :6].reshape(9, 6), "flow": PLAIN[:, 6:]}
    )
    path = tmp_path / f"video{suffix}"
    array = PLAIN.reshape(shape)
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez(path, feats=array)
    else:
        torch.save(torch.from_numpy(array), path)
    files = FeatureFiles("video", {"joint": path}, streams=("rgb", "flow"), feature_size=6)
    some = np.array([7, 2, 2])
    assert np.array_equal(files.load(), PLAIN) and np.array_equal(files[some], PLAIN[some])
    alone = FeatureFiles("video", {"joint": path}, streams=("flow",), feature_size=6)
    assert np.array_equal(alone.load(), PLAIN[:, 6:])


def test_a_single_snippet_with_more_axes(tmp_path):
    for shape in ((1, 1, 12), (1, 1, 1, 12)):
        np.save(tmp_path / "video.npy", PLAIN[:1].reshape(shape))
        files = FeatureFiles("video", {"joint": tmp_path / "video.npy"}, streams=("rgb", "flow"), feature_size=6)
        assert np.array_equal(files.load(), PLAIN[:1])


MEMBERS = {
    "numbers and names": {"feature": PLAIN, "frame_cnt": np.int64(9), "video_name": np.array("clip")},
    "frame ids": {"feats": PLAIN, "frames": np.arange(9), "mask": np.ones((9, 12), bool)},
    "stream names within": {"rgb_feat": PLAIN[:, :6], "flow_feat": PLAIN[:, 6:], "rgb_fps": np.float32(25)},
    "capitals": {"RGB": PLAIN[:, :6], "Flow": PLAIN[:, 6:], "fps": np.float32(25)},
    "single axes": {"x": PLAIN[None], "times": np.linspace(0, 1, 9)},
}


@pytest.mark.parametrize("members", MEMBERS)
@pytest.mark.parametrize("suffix", [".npz", ".pt"])
def test_members_beside_the_features(tmp_path, members, suffix):
    path, arrays = tmp_path / f"video{suffix}", MEMBERS[members]
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        torch.save(
            {k: torch.from_numpy(a) if a.dtype.kind in "fib" and a.ndim else a.item() for k, a in arrays.items()}, path
        )
    files = FeatureFiles("video", {"joint": path}, streams=("rgb", "flow"), feature_size=6)
    assert np.array_equal(files.load(), PLAIN)


def test_members_that_leave_a_choice(tmp_path):
    np.savez(tmp_path / "video.npz", one=PLAIN, two=PLAIN, frames=np.arange(9))
    with pytest.raises(InputError, match="holds 'one', 'two'; expected arrays named 'rgb' and 'flow'"):
        FeatureFiles("video", {"joint": tmp_path / "video.npz"}, streams=("rgb", "flow"), feature_size=6)


@pytest.mark.parametrize(
    ("widths", "flags", "words"),
    [
        ({"joint": 768}, (), "--modal rgb --feature_size 768 would fit"),
        ({"joint": 768}, (), "--feature_size 384"),
        ({"joint": 768}, ("--modal", "flow"), "--feature_size 768 would fit"),
        ({"joint": 11}, (), "--modal rgb --feature_size 11 would fit"),
        ({"rgb": 8, "flow": 8}, (), "--feature_size 8 would fit"),
        ({"rgb": 8, "flow": 4}, (), "--modal rgb --feature_size 8 or --modal flow --feature_size 4 would fit"),
        ({"rgb": 8}, ("--modal", "rgb"), "--feature_size 8 would fit"),
    ],
)
def test_the_flags_that_would_fit(content, place, refused_with, widths, flags, words):
    for video in content.videos:
        for stream, width in widths.items():
            folder = "" if stream == "joint" else f"{stream}/"
            save_npy(place / f"features/{folder}{video}.npy", np.ones((40, width), np.float32))
    write_json(place / "gt.json", layouts.own_json(content))
    assert words in refused_with(place, *flags)


# Transposed arrays


def test_what_looks_transposed():
    assert looks_transposed([(256, 19), (256, 21)]) and looks_transposed([(1, 256, 19), (1, 256, 21)])
    assert looks_transposed([(256, 20), (256, 20)]) and not looks_transposed([(256, 64)])
    assert not looks_transposed([(19, 256), (21, 256)]) and not looks_transposed([(40, 6), (41, 6)])
    assert not looks_transposed([]) and not looks_transposed([(5,), ()])


@pytest.mark.parametrize("size", [FEATURE_SIZE, 1024])
def test_transposed_arrays_are_recognised_whatever_the_flags(tiny, refused_with, run, size):
    for file in tiny.path.glob("features/*/*/*.npy"):
        np.save(file, np.load(file).T)
    line = refused_with(tiny.path, "--feature_size", str(size))
    assert "may be transposed: [snippets, channels] is wanted" in line and "--feature_size" not in line
    assert "may be transposed" in run(tiny.path, "--feature_size", str(size), "--check_data").out
