"""The golden files' weights, at the speed that the tests need."""

import math
from unittest import mock

import numpy as np
import recipe

# `recipe.uniform` numbers its values by key * KEY_STEP + position * VALUE_STEP, modulo 2**64: a larger key skips values.
KEY_STEP, VALUE_STEP = 0xD1B54A32D192ED03, 0x9E3779B97F4A7C15
SKIP_ONE = VALUE_STEP * pow(KEY_STEP, -1, 1 << 64)
BLOCK = 1 << 16  # values


def golden_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """`recipe.weight`, a few rows at a time: in the cache it takes a fraction of the time."""
    row = math.prod(shape[1:])
    count = max(1, BLOCK // row)
    weight, uniform = np.empty(shape, np.float32), recipe.uniform
    for first in range(0, shape[0], count):
        rows = weight[first : first + count]
        skipped = SKIP_ONE * first * row
        with mock.patch.object(recipe, "uniform", lambda part, key, skipped=skipped: uniform(part, key + skipped)):
            rows[:] = recipe.weight(name, rows.shape)
    return weight
