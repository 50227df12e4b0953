"""How well whole videos are classified: accuracy, top-1 accuracy, and mAP over classes.

video_accuracy(predicted, labels)        # classes [V,C] against labels [V,C]
top1_accuracy(scores, labels)            # scores [V,C]
classification_ap(scores, labels)        # [C]
"""

import numpy as np
from numpy.typing import NDArray

from eval.average_precision import raw_average_precision
from utils.segments import Floats

Labels = NDArray[np.bool_]


def video_accuracy(predicted: Labels, labels: Labels) -> float:
    """The fraction of videos whose predicted classes [V,C] equal their labels [V,C]."""
    return float((predicted == labels).all(1).mean())


def top1_accuracy(scores: NDArray[np.floating], labels: Labels) -> float:
    """The fraction of videos whose class of the highest score [V,C] is one of their labels [V,C]. V > 0."""
    return float(labels[np.arange(len(labels)), scores.argmax(1)].mean())


def classification_ap(scores: NDArray[np.floating], labels: Labels) -> Floats:
    """Rank the videos by their score for each class -> AP [C] as the mean precision at the videos that have it (W-TALC).

    Scores and labels are [V,C]; equal scores keep the videos' order. NaN for classes that no video has.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    has = np.take_along_axis(labels, order, 0).T
    counts = has.sum(1)
    return np.array(
        [raw_average_precision(row[None], int(n))[0] if n else np.nan for row, n in zip(has, counts, strict=True)]
    )
