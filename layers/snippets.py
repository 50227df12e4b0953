"""The features of a batch: each distinct snippet once, and which of them each of a video's T snippets is.

    snippets = Snippets(parts=(Part(rows, placement),))     # or Snippets.of(features [B,T,D])
    snippets.dense()                                        # [B,T,D]

A video of fewer than T snippets repeats them to fill T, on THUMOS'14 nine in ten do. What is computed of one snippet alone is
computed once for each row, then put in place.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.int64]
PLACEMENTS_KEPT = 32  # of batches without repetition: one for each size that occurs


@dataclass(frozen=True)
class Bags:
    """Sums over chosen rows of a matrix: bag i adds up the rows members[offsets[i] : offsets[i + 1]]."""

    members: Tensor
    offsets: Tensor

    def sums(self, rows: Tensor) -> Tensor:
        """[R,H] -> [bags,H], in the order of the members: the same bits every time. An empty bag gives zeros."""
        sums: Tensor = F.embedding_bag(self.members, rows, self.offsets, mode="sum")
        return sums


class Placement:
    """Which row each snippet of some videos is. What convolutions need of it is worked out once, at the first use."""

    def __init__(self, index: Numbers, num_rows: int) -> None:
        self.index, self.num_rows = index, num_rows  # [B,T] rows' numbers; R
        self._bags: dict[tuple[str, range, torch.device], Bags] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)"""
        videos, t = self.index.shape
        return videos, t

    def neighbours(self, shifts: range, device: torch.device) -> Bags:
        """For each snippet the sum over its neighbours at these shifts in time: rows [R * shifts] -> [B * T].

        Row r's part for the j-th shift is row r * len(shifts) + j. Beyond a video's ends there is nothing to add.
        """
        return self._kept("neighbours", shifts, device, lambda: _neighbours(self.index, shifts))

    def shares(self, shifts: range, device: torch.device) -> Bags:
        """The transpose of `neighbours`: for each row and shift the sum over the snippets that took it."""

        def transposed() -> tuple[Numbers, Numbers]:
            members, counts = _neighbours(self.index, shifts)
            snippet = np.repeat(np.arange(self.index.size), counts)  # that each member is added to
            order = np.argsort(members, kind="stable")
            return snippet[order], np.bincount(members, minlength=self.num_rows * len(shifts))

        return self._kept("shares", shifts, device, transposed)

    def _kept(
        self, name: str, shifts: range, device: torch.device, make: Callable[[], tuple[Numbers, Numbers]]
    ) -> Bags:
        """The bags of that name; `make` gives their members and how many each has."""
        key = (name, shifts, device)
        if key not in self._bags:
            members, counts = make()
            offsets = np.cumsum(counts) - counts
            self._bags[key] = Bags(torch.from_numpy(members).to(device), torch.from_numpy(offsets).to(device))
        return self._bags[key]


@dataclass(frozen=True)
class Part:
    """Some videos of a batch."""

    rows: Tensor  # [R,D]
    placement: Placement


@dataclass(frozen=True)
class Snippets:
    """Features [B,T,D] of a batch. Parts follow each other along B; each is computed at a time, which bounds memory."""

    parts: tuple[Part, ...]

    @staticmethod
    def of(features: "Tensor | Snippets") -> "Snippets":
        """Features [B,T,D] as snippets that are all distinct."""
        if isinstance(features, Snippets):
            return features
        videos, t, channels = features.shape
        return Snippets((Part(features.reshape(videos * t, channels), _all_distinct(videos, t)),))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, T, D)"""
        (_, t), channels = self.parts[0].placement.shape, self.parts[0].rows.shape[1]
        return sum(part.placement.shape[0] for part in self.parts), t, channels

    def __len__(self) -> int:
        return self.shape[0]

    def dense(self) -> Tensor:
        """[B,T,D], without a copy where all snippets are distinct."""
        laid_out = []
        for rows, placement in ((part.rows, part.placement) for part in self.parts):
            index = placement.index
            if index.size != len(rows) or not np.array_equal(index.ravel(), np.arange(index.size)):
                rows = rows.index_select(0, torch.from_numpy(index.ravel()).to(rows.device))
            laid_out.append(rows.view(*placement.shape, -1))
        return laid_out[0] if len(laid_out) == 1 else torch.cat(laid_out)

    def to(self, dtype: torch.dtype) -> "Snippets":
        return self._with(part.rows.to(dtype) for part in self.parts)

    def split(self, sizes: Sequence[int], dim: int = 2) -> tuple["Snippets", ...]:
        """As of a tensor, but along the channels alone: in groups of these sizes, without a copy."""
        assert dim in (2, -1)
        groups = zip(*(part.rows.split(list(sizes), dim=1) for part in self.parts), strict=True)
        return tuple(self._with(rows) for rows in groups)

    def _with(self, rows: Iterable[Tensor]) -> "Snippets":
        return Snippets(tuple(Part(r, part.placement) for r, part in zip(rows, self.parts, strict=True)))


@lru_cache(PLACEMENTS_KEPT)
def _all_distinct(videos: int, t: int) -> Placement:
    return Placement(np.arange(videos * t).reshape(videos, t), videos * t)


def _neighbours(index: Numbers, shifts: range) -> tuple[Numbers, Numbers]:
    """The members of `Placement.neighbours`, snippet by snippet, and how many each has: fewer at a video's ends."""
    taps, t = len(shifts), index.shape[1]
    before, after = max(0, -shifts[0]), max(0, shifts[-1])
    padded = np.pad(index, ((0, 0), (before, after)), constant_values=-1)
    windows = sliding_window_view(padded[:, shifts[0] + before :], taps, axis=1)[:, :t]  # [B,T,taps]
    inside = windows >= 0
    return (windows * taps + np.arange(taps))[inside], inside.sum(2).ravel()
