"""Reading the "thumos" layout, and batches that depend on the seed and the step alone."""

import json
import random

import numpy as np
import pytest
import torch
from support.networks import host_split
from support.tiny import CLASSES, FEATURE_SIZE

from dataset import inference_batches, inference_groups, load_dataset, train_batches, uniform_indices
from formats.annotations import ground_truth_segments
from formats.feature_files import FeatureFiles
from options import OptimisationOptions, resolve

CPU = torch.device("cpu")


def load(tiny, *, splits=("train", "test"), **flags):
    options = resolve({"cache": "ram", "feature_size": FEATURE_SIZE, **flags}).data
    return load_dataset(tiny.path, options, device=CPU, splits=splits)


def sample(video, indices):
    out = np.empty((len(indices), video.features.shape[1]), np.float32)
    video.sample(np.asarray(indices), out)
    return out


def batches(split, *, seed=1, first=0, last=8, workers=0, drop_last=False):
    return list(
        train_batches(
            split,
            resolve({"num_segments": 20, "num_workers": workers, "pseudo_extra": 0}).data,
            optimisation=OptimisationOptions(batch_size=2, drop_last=drop_last),
            seed=seed,
            first_step=first,
            last_step=last,
        )
    )


def assert_same_batches(a, b):
    assert [batch.video_ids for batch in a] == [batch.video_ids for batch in b]
    assert all(torch.equal(x.features.dense(), y.features.dense()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("cache", ["ram", "mmap", "device"])
def test_what_is_read(tiny, cache):
    data = load(tiny, cache=cache)
    assert data.classes == CLASSES
    assert [v.video_id for v in data.train] == [f"train_{i}" for i in range(7)]
    assert [v.video_id for v in data.test] == [f"test_{i}" for i in range(4)]
    for split, videos in (("train", data.train), ("test", data.test)):
        for i, video in enumerate(videos):
            rgb, flow = (np.load(tiny.feature(split, stream, video.video_id)) for stream in ("rgb", "flow"))
            assert video.num_snippets == len(rgb)
            expected = np.concatenate([rgb, flow], 1).astype(np.float32)[[0, 2, 2, 5]]
            assert np.array_equal(sample(video, [0, 2, 2, 5]), expected)
            labelled = video.video_id != "test_3"
            assert video.labels.tolist() == [float(labelled and c == i % 3) for c in range(3)]
    if cache == "mmap":
        assert all(isinstance(video.features, FeatureFiles) for video in data.train)


def test_segments_may_be_strings(tiny):
    data = load(tiny)
    truth = ground_truth_segments(data.annotations, tuple(v.video_id for v in data.test), data.classes)
    notes = {name: entry["annotations"] for name, entry in json.loads(tiny.gt.read_text())["database"].items()}
    assert any(isinstance(n["segment"][0], str) for v in data.test for n in notes[v.video_id])
    expected = [float(n["segment"][0]) for v in data.test for n in notes[v.video_id]]
    assert truth.start.tolist() == expected and len(truth) == 3


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_single_stream_needs_no_files_of_the_other(tiny, stream):
    other = "flow" if stream == "rgb" else "rgb"
    for split in ("train", "test"):
        for file in (tiny.path / "features" / split / other).iterdir():
            file.unlink()
    data = load(tiny, modal=stream)
    assert sample(data.train.videos[0], range(3)).shape == (3, FEATURE_SIZE)


def test_a_split_that_is_not_asked_for_is_not_read(tiny):
    tiny.feature("train", "rgb", "train_0").unlink()
    data = load(tiny, splits=("test",))
    assert len(data.train) == 0 and len(data.test) == 4


def test_the_seed_fixes_the_batches(tiny):
    videos = load(tiny).train
    assert_same_batches(batches(videos), batches(videos))
    other = batches(videos, seed=2)
    assert [b.video_ids for b in other] != [b.video_ids for b in batches(videos)]


@pytest.mark.parametrize("cache", ["ram", "mmap", "device"])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_neither_workers_nor_the_cache_change_batches(tiny, cache, workers):
    expected = batches(load(tiny).train, workers=0)
    assert_same_batches(expected, batches(load(tiny, cache=cache).train, workers=workers))


@pytest.mark.parametrize("first", [1, 4, 6])
def test_a_resumed_run_gets_the_later_batches(tiny, first):
    videos = load(tiny).train
    assert_same_batches(batches(videos)[first:], batches(videos, first=first))


def test_global_generators_are_neither_used_nor_moved(tiny):
    videos = load(tiny).train
    torch.manual_seed(0)
    np.random.seed(0)
    first = batches(videos)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    torch.manual_seed(0)
    np.random.seed(0)
    assert torch.equal(states[0], torch.get_rng_state()) and np.array_equal(states[1], np.random.get_state()[1])
    torch.manual_seed(5)
    np.random.seed(5)
    assert_same_batches(first, batches(videos))


def test_an_epoch_has_every_video_once(tiny):
    videos = load(tiny).train
    names = {v.video_id for v in videos}
    steps = batches(videos)
    assert [len(b.video_ids) for b in steps] == [2, 2, 2, 1] * 2  # the partial batch is kept
    orders = [[name for b in steps[e : e + 4] for name in b.video_ids] for e in (0, 4)]
    assert all(set(order) == names and len(order) == 7 for order in orders)
    assert orders[0] != orders[1]
    dropped = batches(videos, last=6, drop_last=True)
    assert [len(b.video_ids) for b in dropped] == [2] * 6


@pytest.mark.parametrize(("drop_last", "steps"), [(False, 4), (True, 3)])
def test_steps_per_epoch(drop_last, steps):
    options = OptimisationOptions(batch_size=2, drop_last=drop_last)
    assert options.steps_per_epoch(7) == steps
    assert options.steps_per_epoch(200) == 100


def test_snippets_are_drawn_anew_every_epoch(tiny):
    videos = host_split(load(tiny).train.videos[:2])
    first, second = batches(videos, last=2)
    order = [second.video_ids.index(name) for name in first.video_ids]
    assert not torch.equal(first.features.dense(), second.features.dense()[order])


def test_test_batches_are_uniform_and_in_order(tiny):
    videos = load(tiny).test
    options = resolve({"num_segments": 20, "pseudo_extra": 0}).data
    steps = list(inference_batches(videos, inference_groups(videos, options, batch_size=3), options))
    assert [b.video_ids for b in steps] == [("test_0", "test_1", "test_2"), ("test_3",)]
    for batch in steps:
        for features, name, count in zip(batch.features.dense(), batch.video_ids, batch.num_snippets, strict=True):
            (video,) = (v for v in videos if v.video_id == name)
            assert count == video.num_snippets
            assert np.array_equal(features.numpy(), sample(video, uniform_indices(count, 20)))


def test_classes_are_sorted_whatever_comes_first(tiny):
    """The first video's class becomes the last of the list, and its labels move along."""
    new = {"Dive": "Zumba"}

    def rename(database):
        for entry in database.values():
            for note in entry["annotations"]:
                note["label"] = new.get(note["label"], note["label"])

    tiny.edit_gt(rename)
    data = load(tiny)
    assert data.classes == ("Jump", "Throw", "Zumba")
    assert [v.labels.tolist() for v in data.train.videos[:3]] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_a_video_may_have_several_classes(tiny):
    tiny.edit_gt(lambda d: d["train_0"]["annotations"].extend([{"label": "Throw", "segment": [1, 2]}] * 2))
    assert load(tiny).train.videos[0].labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_global_generator_is_touched(tiny, workers):
    videos = load(tiny).train
    before = random.getstate(), torch.get_rng_state(), str(np.random.get_state())
    batches(videos, workers=workers)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert str(np.random.get_state()) == before[2]


def test_dropping_the_last_batch_starts_a_new_epoch(tiny):
    """Three steps of two videos, then another order of all seven."""
    videos = load(tiny).train
    steps = batches(videos, last=60, drop_last=True)
    epochs = [[name for b in steps[e : e + 3] for name in b.video_ids] for e in range(0, 60, 3)]
    assert all(len(set(epoch)) == 6 for epoch in epochs)
    assert len({name for epoch in epochs for name in epoch}) == 7  # not always the same one is left out
    kept = batches(videos, last=4)  # the partial batch is what is left out
    assert [b.video_ids for b in kept[:3]] == [b.video_ids for b in steps[:3]]
    assert_same_batches(steps[4:], batches(videos, first=4, last=60, drop_last=True))


def test_labels_and_lengths_go_with_their_videos(tiny):
    videos = {v.video_id: v for v in load(tiny).train.videos}
    for batch in batches(host_split(videos.values())):
        assert batch.features.dense().dtype == batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == [videos[name].labels.tolist() for name in batch.video_ids]
        assert batch.num_snippets == tuple(videos[name].num_snippets for name in batch.video_ids)
        assert batch.fps == tuple(videos[name].fps for name in batch.video_ids)
