"""Which of a video's L snippets stand for it when it is resampled to T: indices (docs/method.md, section 1)."""

import numpy as np
from numpy.typing import NDArray


def uniform_indices(num_snippets: int, num_segments: int) -> NDArray[np.int64]:
    """Test: floor(i * L / T) for i = 0 .. T-1."""
    return np.arange(num_segments) * num_snippets // num_segments


def inference_indices(num_snippets: int, num_segments: int, short_videos: str) -> NDArray[np.int64]:
    """Test: uniform to T; with short_videos "keep", all L snippets of a video that has fewer."""
    return uniform_indices(num_snippets, min(num_snippets, num_segments) if short_videos == "keep" else num_segments)


def random_indices(
    num_snippets: int, num_segments: int, generator: np.random.Generator, short_videos: str = "stretch"
) -> NDArray[np.int64]:
    """Training: the i-th uniform over the integers floor(i L / T) .. floor((i+1) L / T), the last over .. L-1.

    The identity when L == T. With short_videos "keep" and L < T: T draws with replacement, in the order of time.
    """
    if short_videos == "keep" and num_snippets < num_segments:
        return np.sort(generator.integers(0, num_snippets, num_segments))
    low = uniform_indices(num_snippets, num_segments)
    if num_snippets == num_segments:
        return low
    return generator.integers(low, np.append(low[1:], num_snippets - 1), endpoint=True)
