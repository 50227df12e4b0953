"""Each distinct snippet once: what is computed of the rows and put in place is what is computed of all T snippets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.networks import host_split

from dataset import (
    PART_ROWS,
    DeviceStore,
    HostStore,
    Video,
    distinct_snippets,
    grouped,
    random_indices,
    uniform_indices,
)
from layers.snippets import Part, Placement, Snippets
from layers.temporal_conv import TAPS_AT_ONCE, taps_first, temporal_conv

CPU = torch.device("cpu")


def made(*parts):
    """Snippets of parts that are given as the rows' numbers [B,T], with random rows, one more than are used."""
    generator = torch.Generator().manual_seed(0)
    made_parts = []
    for index in parts:
        count = int(np.max(index)) + 2
        rows = torch.rand(count, 4, generator=generator, dtype=torch.double)
        made_parts.append(Part(rows, Placement(np.array(index), count)))
    return Snippets(tuple(made_parts))


CASES = {
    "distinct": made([[0, 1, 2, 3, 4]]),
    "repeated": made([[0, 0, 1, 1, 1], [2, 3, 3, 3, 4]]),
    "one row": made([[0, 0, 0]]),
    "one snippet": made([[0], [1], [1]]),
    "rows in common": made([[0, 1, 1], [1, 1, 2]]),
    "parts": made([[0, 0, 1]], [[0, 1, 2], [3, 3, 3]]),
}


@pytest.mark.parametrize("snippets", CASES.values(), ids=CASES)
@pytest.mark.parametrize("taps", [1, 3, 7, 2 * TAPS_AT_ONCE + 1])
def test_convolution_is_that_of_all_snippets(snippets, taps):
    weight = taps_first(torch.randn(5, 4, taps, dtype=torch.double)).requires_grad_()
    bias = torch.randn(5, dtype=torch.double, requires_grad=True)
    dense = snippets.dense()
    expected = F.conv1d(dense.mT, weight, bias, padding=taps // 2).mT
    for x in (snippets, dense):
        actual = temporal_conv(x, weight, bias)
        torch.testing.assert_close(actual, expected)
        grad = torch.randn_like(expected)
        ours, plain = (torch.autograd.grad(out, (weight, bias), grad, retain_graph=True) for out in (actual, expected))
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("taps", [3, 2 * TAPS_AT_ONCE + 1])
def test_gradients_of_rows(taps):
    rows = torch.rand(3, 2, dtype=torch.double, requires_grad=True)
    weight = taps_first(torch.randn(2, 2, taps, dtype=torch.double)).requires_grad_()
    bias = torch.randn(2, dtype=torch.double, requires_grad=True)
    placement = Placement(np.array([[0, 0, 1, 2], [2, 2, 2, 2]]), 3)

    def convolve(rows, weight, bias):
        return temporal_conv(Snippets((Part(rows, placement),)), weight, bias)

    assert torch.autograd.gradcheck(convolve, (rows, weight, bias))


def test_dense_lays_out_every_snippet_and_copies_none_in_vain():
    snippets = CASES["parts"]
    expected = [part.rows[row] for part in snippets.parts for row in part.placement.index.ravel()]
    assert torch.equal(snippets.dense(), torch.stack(expected).view(3, 3, 4))
    assert snippets.shape == (3, 3, 4) and len(snippets) == 3
    features = torch.rand(2, 5, 4)
    assert Snippets.of(features).dense().data_ptr() == features.data_ptr()
    assert Snippets.of(snippets) is snippets


def test_channels_are_split_without_a_copy():
    snippets = CASES["repeated"]
    first, second = snippets.split([1, 3])
    assert torch.equal(torch.cat([first.dense(), second.dense()], 2), snippets.dense())
    assert second.parts[0].rows.untyped_storage().data_ptr() == snippets.parts[0].rows.untyped_storage().data_ptr()
    assert second.parts[0].placement is snippets.parts[0].placement
    assert first.to(torch.bfloat16).parts[0].rows.dtype == torch.bfloat16


def test_groups_are_neighbours_and_not_too_large():
    assert grouped([3, 3, 3, 9, 1], most=6) == [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    assert grouped([1], most=6) == [range(0, 1)]


LENGTHS = (1, 5, 19, 20, 21, 60)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", ["uniform", "random"])
@pytest.mark.parametrize("most", [1, 30, PART_ROWS])
def test_batches_hold_each_snippet_once(dtype, kind, most, monkeypatch):
    monkeypatch.setattr("dataset.PART_ROWS", most)
    generator = np.random.default_rng(0)
    features = [generator.random((length, 6)).astype(dtype) for length in LENGTHS]
    split = host_split(
        Video(video_id=str(i), labels=np.zeros(1, np.float32), features=x, fps=25.0) for i, x in enumerate(features)
    )
    if kind == "uniform":
        indices = np.stack([uniform_indices(length, 20) for length in LENGTHS])
    else:
        indices = np.stack([random_indices(length, 20, generator, short_videos="stretch") for length in LENGTHS])
    expected = np.stack([x[index] for x, index in zip(features, indices, strict=True)]).astype(np.float32)
    for store in (HostStore(split.videos, CPU), DeviceStore(split.videos, CPU)):
        batch = store.prepare(list(range(len(LENGTHS))), indices)()
        assert np.array_equal(batch.dense().numpy(), expected)
        assert sum(len(part.rows) for part in batch.parts) == sum(len(np.unique(index)) for index in indices)
        assert all(part.rows.dtype == torch.float32 for part in batch.parts)


def test_a_video_that_is_used_whole_is_not_copied(monkeypatch):
    monkeypatch.setattr("dataset.PART_ROWS", 1)
    features = np.random.default_rng(0).random((4, 6), np.float32)
    video = Video(video_id="v", labels=np.zeros(1, np.float32), features=features, fps=25.0)
    store = HostStore((video,), CPU)
    (part,) = store.prepare([0], uniform_indices(4, 9)[None])().parts
    assert part.rows.data_ptr() == features.ctypes.data
    features.flags.writeable = False  # torch would warn
    (part,) = store.prepare([0], uniform_indices(4, 9)[None])().parts
    assert part.rows.data_ptr() != features.ctypes.data


def test_placement_within_a_part():
    ((group, (first, second), placement),) = distinct_snippets(np.array([[0, 0, 2], [1, 1, 5]]))
    assert group == range(2) and first.tolist() == [0, 2] and second.tolist() == [1, 5]
    assert placement.index.tolist() == [[0, 0, 1], [2, 2, 3]] and placement.num_rows == 4
