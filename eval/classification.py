"""Video-level classification accuracy."""

import numpy as np
from numpy.typing import NDArray


def video_accuracy(predicted: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """Fraction of videos whose set of predicted classes [videos,C] equals their label set [videos,C]."""
    return float((predicted == labels).all(1).mean())
