"""Half of a symmetric matrix holds all of it."""

import pytest
import torch

from layers.second_order import SymmetricHalf


def symmetric(count, size):
    x = torch.randn(count, size, size, dtype=torch.double)
    return x + x.mT


@pytest.mark.parametrize("size", [1, 2, 5])
def test_take_is_the_upper_half_row_by_row(size):
    matrices = symmetric(2, size)
    expected = [[float(m[i, j]) for i in range(size) for j in range(i, size)] for m in matrices]
    assert SymmetricHalf(size).take(matrices).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 9])
def test_norm_is_that_of_the_whole(size):
    matrices = symmetric(3, size)
    half = SymmetricHalf(size)
    torch.testing.assert_close(half.norm(half.take(matrices)).squeeze(1), matrices.flatten(1).norm(dim=1))


@pytest.mark.parametrize("rows", [1, 8, 9, 20])
def test_folded_weights_give_the_same_product(rows):
    matrices, weight = symmetric(3, 6), torch.randn(rows, 36, dtype=torch.double)
    half = SymmetricHalf(6)
    folded = torch.empty(rows, 21, dtype=torch.double)
    half.fold(weight, out=folded)
    torch.testing.assert_close(half.take(matrices) @ folded.t(), matrices.flatten(1) @ weight.t())
