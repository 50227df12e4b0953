"""Labelled segments of time, in columns: detections and ground truth alike. Plain arrays, no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Segments:
    """N segments. Videos and classes are positions in the caller's lists; ground truth has score 1."""

    video: NDArray[np.int64]  # [N]
    label: NDArray[np.int64]  # [N]
    start: NDArray[np.float64]  # [N] seconds
    end: NDArray[np.float64]  # [N] seconds
    score: NDArray[np.float64]  # [N]

    def __len__(self) -> int:
        return len(self.video)

    def take(self, order: NDArray[np.int64]) -> "Segments":
        """The segments at these positions, in this order."""
        return Segments(*(getattr(self, f.name)[order] for f in fields(Segments)))

    @staticmethod
    def concatenate(parts: Iterable["Segments"]) -> "Segments":
        parts = [Segments.from_rows([]), *parts]
        return Segments(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Segments)))

    @staticmethod
    def from_rows(rows: list[tuple[int, int, float, float, float]]) -> "Segments":
        """Make segments from rows (video, label, start, end, score)."""
        columns = np.array(rows, np.float64).reshape(len(rows), 5).T
        return Segments(columns[0].astype(np.int64), columns[1].astype(np.int64), *columns[2:].copy())


def temporal_iou(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    other_start: NDArray[np.float64] | float,
    other_end: NDArray[np.float64] | float,
    *,
    offset: float = 0.0,
) -> NDArray[np.float64]:
    """Compute tIoU, elementwise under broadcasting; `offset` seconds are added to every length (the published NMS adds 1).

    It is 0 where the union has no length.
    """
    inter = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start) + offset, 0.0)
    union = (end - start + offset) + (other_end - other_start + offset) - inter
    return np.divide(inter, union, out=np.zeros_like(union), where=union > 0)
