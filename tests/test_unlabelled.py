"""Features without labels, in every form a user may name them: the videos found, and what of them is read."""

import os

import h5py
import numpy as np
import pytest
import torch

from formats.feature_files import FeatureFiles
from formats.unlabelled import find_videos
from options import DataOptions
from utils.errors import InputError

OPTIONS = DataOptions(feature_size=3)


def rgb(length=4):
    return np.arange(length * 3, dtype=np.float32).reshape(length, 3)


def flow(length=4):
    return -rgb(length) - 1


def joint(length=4):
    return np.concatenate([rgb(length), flow(length)], axis=1)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


def found(*paths, **options):
    return find_videos(list(paths), DataOptions(feature_size=3, **options))


def read(videos):
    """{video: its features as the network gets them}"""
    return {
        name: FeatureFiles(name, located, streams=("rgb", "flow"), feature_size=3).load()
        for name, located in videos.items()
    }


def assert_is_one_video(videos, name="a"):
    assert list(videos) == [name]
    np.testing.assert_array_equal(read(videos)[name], joint())


def write_joint(path):
    return save(path / "a.npy", joint())


def write_npz(path):
    np.savez(path / "a.npz", rgb=rgb(), flow=flow())
    return path / "a.npz"


def write_pt(path):
    torch.save({"rgb": torch.from_numpy(rgb()), "flow": torch.from_numpy(flow())}, path / "a.pt")
    return path / "a.pt"


def write_pair(path):
    save(path / "a_flow.npy", flow())
    return save(path / "a_rgb.npy", rgb())


def write_capital_pair(path):
    save(path / "a-FLOW.npy", flow())
    return save(path / "a-RGB.npy", rgb())


def write_stream_folders(path):
    save(path / "flow" / "a.npy", flow())
    return save(path / "rgb" / "a.npy", rgb())


def write_hdf5(path):
    with h5py.File(path / "set.h5", "w") as file:
        file["a/rgb"], file["a/flow"] = rgb(), flow()
    return path / "set.h5"


def write_two_hdf5(path):
    for stream, array in (("flow", flow()), ("rgb", rgb())):
        with h5py.File(path / f"{stream}.h5", "w") as file:
            file["a"] = array
    return path / "rgb.h5"


def write_streams(form):
    """A writer of both streams under a name like "{stream}/a.npy"."""

    def write(path):
        save(path / form.format(stream="flow"), flow())
        return save(path / form.format(stream="rgb"), rgb())

    write.__name__ = form
    return write


FORMS = ["{stream}-a.npy", "a {stream}.npy", "i3d_{stream}/a.npy", "{stream}/a_{stream}.npy", "{stream}/Dive/a.npy"]
FORMS += ["a/{stream}.npy", "Dive/a_{stream}.npy", "Dive/{stream}/a.npy"]
FILES = [write_joint, write_npz, write_pt, write_pair, write_capital_pair, write_stream_folders, write_hdf5]
FILES += [write_two_hdf5, *map(write_streams, FORMS)]


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_a_file(tmp_path, write):
    """A file of one stream brings the other, which lies where it belongs."""
    assert_is_one_video(found(write(tmp_path)).videos)


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_the_folder_it_lies_in(tmp_path, write):
    write(tmp_path)
    assert_is_one_video(found(tmp_path).videos)


@pytest.mark.parametrize("place", ["features", "features/train", "features/test", "validation"])
@pytest.mark.parametrize("write", [write_joint, write_stream_folders], ids=lambda write: write.__name__)
def test_a_set_without_ground_truth(tmp_path, write, place):
    (tmp_path / place).mkdir(parents=True)
    write(tmp_path / place)
    assert_is_one_video(found(tmp_path).videos)


@pytest.mark.parametrize("write", FILES, ids=lambda write: write.__name__)
def test_all_files_by_name(tmp_path, write):
    write(tmp_path)
    assert_is_one_video(found(*sorted(file for file in tmp_path.rglob("*") if file.is_file())).videos)


@pytest.mark.parametrize("name", ["rgb-a.npy", "a rgb.npy", "a_rgb.npy", "rgb/a.npy", "a/rgb.npy"])
def test_one_stream_alone_is_never_taken_for_the_other(tmp_path, name):
    (located,) = found(save(tmp_path / name, rgb())).videos.values()
    assert located.keys() == {"rgb"}
    with pytest.raises(InputError, match="no stream 'flow'"):
        FeatureFiles("a", located, streams=("flow",), feature_size=3)


def test_a_folder_far_above_that_is_called_like_a_stream(tmp_path):
    assert_is_one_video(found(save(tmp_path / "flow" / "features" / "a.npy", joint())).videos)


def test_both_streams_given_as_files(tmp_path):
    first = write_pair(tmp_path)
    assert_is_one_video(found(first, tmp_path / "a_flow.npy").videos)


def test_several_paths_and_one_of_them_twice(tmp_path):
    first, second = save(tmp_path / "a.npy", joint()), save(tmp_path / "b" / "b.npy", joint())
    assert list(found(second, first, second, tmp_path / "b").videos) == ["b", "a"]


def test_both_splits_of_a_set(tmp_path):
    save(tmp_path / "features" / "train" / "a.npy", joint())
    save(tmp_path / "features" / "test" / "b.npy", joint(5))
    assert set(found(tmp_path).videos) == {"a", "b"}


def test_something_else(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"a\.npy: neither a file nor a folder"):
        found(tmp_path / "a.npy")


def test_a_video_in_both_splits(tmp_path):
    save(tmp_path / "features" / "train" / "a.npy", joint())
    save(tmp_path / "features" / "test" / "a.npy", joint(5))
    with pytest.raises(InputError, match="both belong to video 'a'"):
        found(tmp_path)


def test_rates_and_durations_of_a_ground_truth(tmp_path):
    """Its labels do not matter, nor do entries of other videos."""
    write_joint(tmp_path)
    database = '{"v_a": {"annotations": "none", "duration": 8, "fps": "30"}, "b": {"fps": -1}, "c": 3}'
    (tmp_path / "gt.json").write_text(f'{{"database": {database}}}')
    stated = found(tmp_path).stated("a")
    assert (stated.fps, stated.duration) == (30, 8)
    assert found(tmp_path / "a.npy").stated("a").fps is None
    assert found(tmp_path / "a.npy", ground_truth=str(tmp_path / "gt.json")).stated("a").fps == 30


def test_a_frame_rate_that_is_none(tmp_path):
    write_joint(tmp_path)
    (tmp_path / "gt.json").write_text('{"database": {"a": {"fps": "fast"}}}')
    with pytest.raises(InputError, match=r"gt\.json: video 'a': fps fast is not a number above 0"):
        found(tmp_path)


def test_another_json_file_is_no_ground_truth(tmp_path):
    write_joint(tmp_path)
    (tmp_path / "extraction.json").write_text('{"backbone": "i3d"}')
    assert_is_one_video(found(tmp_path).videos)
    (tmp_path / "second.json").write_text("{}")
    assert_is_one_video(found(tmp_path).videos)
    (tmp_path / "gt.json").write_text("{")
    with pytest.raises(InputError, match=r"gt\.json: not valid JSON"):
        found(tmp_path)


def test_two_files_of_a_video(tmp_path):
    first, second = save(tmp_path / "x" / "a.npy", joint()), save(tmp_path / "y" / "a.npy", joint())
    with pytest.raises(InputError, match=r"x/a\.npy and .*y/a\.npy: both belong to video 'a'"):
        found(first, second)
    write_pair(tmp_path / "x")
    with pytest.raises(InputError, match="second file of video 'a'"):
        found(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.npy", r"gone\.npy: no such file or folder"),
        ("notes.txt", r"notes\.txt: not a feature file; expected \.npy"),
        ("empty", r"empty: no features; looked for feature files .*; found nothing"),
        ("videos", r"videos: no features; .*; found a\.mp4"),
    ],
)
def test_nothing_there(tmp_path, name, message):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("")
    with pytest.raises(InputError, match=message):
        found(tmp_path / name)
