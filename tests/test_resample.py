"""Resampling against a loop over indices, straight from docs/method.md, section 1."""

import math

import numpy as np
import pytest

from dataset import random_indices, uniform_indices

SHAPES = [(1, 1), (1, 9), (9, 1), (5, 12), (12, 5), (12, 12), (47, 64), (300, 100), (2600, 750), (14, 750)]


def allowed(i, snippets, segments):
    """The integers that the i-th draw may be."""
    low, high = math.floor(i * snippets / segments), math.floor((i + 1) * snippets / segments)
    if snippets == segments:
        return [i]
    if i == segments - 1:
        return list(range(low, snippets))
    return list(range(low, high + 1)) if low != high else [low]


@pytest.mark.parametrize(("snippets", "segments"), SHAPES)
def test_uniform(snippets, segments):
    expected = [math.floor(i * snippets / segments) for i in range(segments)]
    assert uniform_indices(snippets, segments).tolist() == expected


@pytest.mark.parametrize(("snippets", "segments"), SHAPES)
def test_random_draws_every_allowed_integer_and_no_other(snippets, segments):
    generator = np.random.default_rng(0)
    draws = np.stack([random_indices(snippets, segments, generator, short_videos="stretch") for _ in range(60)])
    assert draws.shape == (60, segments) and draws.min() >= 0 and draws.max() < snippets
    for i in range(segments):
        options = allowed(i, snippets, segments)
        seen = set(draws[:, i].tolist())
        assert seen <= set(options)
        if len(options) <= 3:  # each is missed with probability (2/3)^60 at most
            assert seen == set(options)


@pytest.mark.parametrize(("snippets", "segments"), SHAPES)
def test_random_draws_follow_time(snippets, segments):
    indices = random_indices(snippets, segments, np.random.default_rng(1), short_videos="stretch")
    low = uniform_indices(snippets, segments)
    assert np.all(np.diff(low) >= 0)
    # Each draw lies between its own boundary and the next one's: time never runs backwards past a shared boundary.
    assert np.all(indices >= low) and np.all(indices[:-1] <= low[1:]) and indices[-1] <= snippets - 1
    assert np.all(np.diff(indices) >= 0)


def test_the_same_generator_draws_the_same():
    a, b = (random_indices(300, 100, np.random.default_rng(7), short_videos="stretch").tolist() for _ in range(2))
    assert a == b != random_indices(300, 100, np.random.default_rng(8), short_videos="stretch").tolist()


def test_every_small_shape():
    """All L and T up to 12, so that no corner is left out."""
    generator = np.random.default_rng(0)
    for snippets in range(1, 13):
        for segments in range(1, 13):
            draws = np.stack([random_indices(snippets, segments, generator, short_videos="stretch") for _ in range(8)])
            sets = [allowed(i, snippets, segments) for i in range(segments)]
            assert all(set(draws[:, i].tolist()) <= set(options) for i, options in enumerate(sets))
            assert np.all(np.diff(draws, axis=1) >= 0)
            expected = [math.floor(i * snippets / segments) for i in range(segments)]
            assert uniform_indices(snippets, segments).tolist() == expected


@pytest.mark.parametrize(("snippets", "segments", "index"), [(23, 5, 1), (23, 5, 4), (9, 1, 0), (4, 6, 2)])
def test_random_draws_are_uniform(snippets, segments, index):
    """Each allowed integer as often as another, within five standard deviations."""
    generator, count = np.random.default_rng(3), 4000
    drawn = [int(random_indices(snippets, segments, generator, short_videos="stretch")[index]) for _ in range(count)]
    options = allowed(index, snippets, segments)
    share = 1 / len(options)
    for value in options:
        assert abs(drawn.count(value) - count * share) <= 5 * (count * share * (1 - share)) ** 0.5
