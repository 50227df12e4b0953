"""The benchmark of extraction runs, and counts what the network computes."""

import pytest

from benchmarks import video


def test_it_runs(capsys):
    assert video.main(["--quick", "--flow", "dis", "--batch", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    for row in ("decoding and resizing", "flow, dis", "network, batches of 1", "the whole, RGB", "RGB and flow, dis"):
        assert row in printed
    assert "too far" not in printed


def test_the_operations_of_a_snippet():
    """108 billion multiply-adds for 64 frames are the figure usually quoted of I3D: 27 for 16 frames, 54 operations."""
    assert video.flops_per_snippet(16) == pytest.approx(55.6e9, rel=0.01)
