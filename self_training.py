"""Self-training: in later rounds of training, the network's own proposals on the training videos teach its classes.

    lessons = ProposalLessons(model, data.train, options)      # None with --w_self 0
    lessons.prepare(step, total_steps)                         # before every step; at the start of a round it makes them anew
    batch = lessons.attach(batch)                              # batch.taught [B,T,C]: 1 of the class, -1 not of it, 0 nothing

Only video-level labels are read: a video's proposals are those of the classes that it is labelled with. A snippet is taught a
class where two things agree: one of the class's dense proposals covers it, and it lies above Otsu's threshold of the class's
sequence. With --self_border a snippet just beside these proposals, and below the threshold, is taught that it is not of the
class. The formulas are in docs/method.md, section 9.
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("self_training.py", run="python main.py --recipe stable")

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from dataset import Batch, Split, inference_batches, inference_groups
from localization.proposals import Proposals, generate_proposals
from losses import evidence_threshold
from model import SAL, combined_sequence
from options import LocalizationOptions, Options, SelfTrainingOptions
from run.training_state import plain_dict, plain_tensor
from utils.segments import Floats, Indices, temporal_iou
from utils.snippet_grid import SnippetGrid

# Of this grid a snippet of T is a second long, so that proposals are in snippets.
_SNIPPETS = SnippetGrid(frames=1, stride=1)


def dense_proposals(start: Floats, end: Floats, score: Floats, options: SelfTrainingOptions) -> tuple[Floats, Floats]:
    """The proposals [N] of one class in one video -> starts and ends of the few that many of them agree on.

    A proposal's density is its score times the sum of all scores, each times the tIoU with it; scores below 0 count as 0. The
    densest stands for all that it overlaps. Where `self_fuse` is below 1, its edges are averaged, by density, with those of
    at least that tIoU with it. The next is the densest of the rest, as long as it has a share of `self_density` of the first's.
    """
    score = np.maximum(score, 0.0)
    overlap = temporal_iou(start[:, None], end[:, None], start[None], end[None])
    density = score * (overlap * score).sum(1)
    left, least = density > 0, options.self_density * density.max(initial=0.0)
    found: list[tuple[float, ...]] = []
    while left.any():
        best = np.flatnonzero(left)[density[left].argmax()]
        if density[best] < least:
            break
        alike = left & (overlap[best] > 0) & (overlap[best] >= options.self_fuse)
        weight = density[alike] / density[alike].sum()
        # Of differences, so that edges of proposals that are the same stay to the last digit.
        found.append(tuple(float(edge[best] + weight @ (edge[alike] - edge[best])) for edge in (start, end)))
        left &= overlap[best] <= 0
    edges = np.array(found, np.float64).reshape(-1, 2)
    return edges[:, 0], edges[:, 1]


def taught_snippets(
    sequences: NDArray[np.float32], options: SelfTrainingOptions, localization: LocalizationOptions
) -> NDArray[np.float32]:
    """Sequences [R,T], each of a class that its video has -> 1 where a snippet is to learn that class, [R,T].

    It is -1 where the snippet is to learn that it is not of the class, and 0 where it is taught nothing.
    """
    low, high = sequences.min(1, keepdims=True), sequences.max(1, keepdims=True)
    least = np.finfo(np.float32).tiny  # where a sequence is the same everywhere
    stretched = (sequences - low) / np.maximum(high - low, least)  # thresholds are shares of the range
    rows, snippets = sequences.shape
    proposals = generate_proposals(
        stretched,
        class_scores=np.zeros(rows, np.float32),
        num_snippets=np.full(rows, snippets),
        fps=np.ones(rows),
        options=localization,
        grid=_SNIPPETS,
    )
    covered, beside = _covered(proposals, sequences.shape, options)
    above = sequences > evidence_threshold(torch.from_numpy(sequences))[0].numpy()
    taught = covered if options.self_whole else covered & above
    return taught.astype(np.float32) - (beside & ~above)


def _covered(
    proposals: Proposals, shape: tuple[int, ...], options: SelfTrainingOptions
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a snippet lies in a dense proposal of its row, and whether beside one, in none, [R,T] each.

    It lies where the point is at which upsampling has the snippet's own value.
    """
    covered, near = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    point = np.arange(shape[1])
    ends = np.searchsorted(proposals.row, np.arange(shape[0] + 1))
    for row, (first, last) in enumerate(itertools.pairwise(ends)):
        of_row = slice(first, last)
        dense = dense_proposals(proposals.start[of_row], proposals.end[of_row], proposals.score[of_row], options)
        for start, end in zip(*dense, strict=True):
            covered[row] |= (point >= start) & (point < end)
            border = max(1.0, options.self_border * (end - start)) if options.self_border > 0 else 0.0
            near[row] |= (point >= start - border) & (point < end + border)
    return covered, near & ~covered


class ProposalLessons:
    """What each training video's snippets are taught at the moment: nothing before the first round."""

    def __init__(self, model: SAL, videos: Split, options: Options) -> None:
        self.model, self.videos, self.options = model, videos, options
        labels = np.stack([video.labels for video in videos]) > 0
        self.video_of_row, self.class_of_row = (np.asarray(index, np.int64) for index in np.nonzero(labels))
        self.ends: Indices = np.searchsorted(self.video_of_row, np.arange(len(videos) + 1))
        self.position = {name: v for v, name in enumerate(videos.names)}
        self.num_classes = labels.shape[1]
        rows, device = len(self.video_of_row), next(model.parameters()).device
        self.taught = torch.zeros(rows, options.data.num_segments, device=device)  # [R,T]: 1, -1 or 0

    @classmethod
    def of(cls, model: SAL, videos: Split, options: Options) -> Self | None:
        """None where nothing is to be taught."""
        return cls(model, videos, options) if options.losses.w_self > 0 else None

    def begins_round(self, step: int, total_steps: int) -> bool:
        """Whether a round begins before this step, counted from 0."""
        return step in self.options.self_training.round_steps(total_steps)

    def prepare(self, step: int, total_steps: int) -> None:
        """Before a step: at the start of a round, make the lessons with the model's weights of now."""
        if self.begins_round(step, total_steps):
            self.taught.copy_(torch.from_numpy(self._make()))

    def attach(self, batch: Batch) -> Batch:
        """The batch with what its snippets are taught, [B,T,C], on its device."""
        rows, places = self._rows_of([self.position[name] for name in batch.video_ids])
        shape = (len(batch.video_ids), self.taught.shape[1], self.num_classes)
        taught = torch.zeros(shape, device=self.taught.device)
        taught[places, :, self.class_of_row[rows]] = self.taught[rows]
        return batch._replace(taught=taught)

    def _rows_of(self, videos: Sequence[int]) -> tuple[Indices, Indices]:
        """The rows of these videos [N], and of which of them each is, as its place among them [N]."""
        rows = [np.arange(self.ends[v], self.ends[v + 1]) for v in videos]
        places = [np.full(len(own), place) for place, own in enumerate(rows)]
        nothing = np.zeros(0, np.int64)
        return np.concatenate([nothing, *rows]), np.concatenate([nothing, *places])

    @torch.inference_mode()
    def _make(self) -> NDArray[np.float32]:
        """Lessons [R,T]. Puts the model into evaluation mode. They are made batch by batch, so that memory does not grow."""
        self.model.eval()
        options = self.options
        groups = inference_groups(self.videos, options.data, batch_size=options.evaluation.test_batch_size)
        batches = inference_batches(self.videos, groups, options.data)
        shown = progress(batches, total=len(groups), desc="proposals that teach", unit="batch", leave=False)
        lessons = np.zeros(tuple(self.taught.shape), np.float32)
        with contextlib.closing(batches):
            for group, batch in zip(groups, shown, strict=True):
                sequences = combined_sequence(self.model(batch.features), options.fusion.weights).cpu().numpy()
                rows, places = self._rows_of(group)
                own = sequences[places, :, self.class_of_row[rows]]  # [rows,T]
                lessons[rows] = taught_snippets(own, options.self_training, options.localization)
        return lessons

    def state_dict(self) -> dict[str, Tensor]:
        return {"taught": self.taught}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """In place. Raises ValueError when it is not of these videos and this T."""
        saved = plain_dict(state, "the state of self-training", ("taught",))
        taught = plain_tensor(saved["taught"], "what proposals teach", like=self.taught)
        if not ((taught == 0) | (taught.abs() == 1)).all():
            raise ValueError("what proposals teach holds values besides -1, 0 and 1")
        self.taught.copy_(taught)
