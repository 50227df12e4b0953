"""Video-level classification accuracy."""

import numpy as np
from numpy.typing import NDArray


def video_accuracy(predicted: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    """The fraction of videos whose predicted classes [V,C] equal their labels [V,C]."""
    return float((predicted == labels).all(1).mean())
