"""The rows of what only a GPU has, each beside what it takes the place of: a graph, Adam from factors, a product.

gpu_rows(bench)     # list[Row], empty on a CPU
"""

import functools

import torch

from benchmarks import ours
from benchmarks.rows import Bench, Row, relative_error, timed_row
from benchmarks.timing import FLOAT_BYTES

FACTOR_PASSES = 6  # Adam from factors reads and writes the weights and two moments
GRAPH_NOTE, FACTORS_NOTE, PRODUCT_NOTE = (
    "plain: eager",
    "plain: gradient by a product, fused Adam",
    "plain: one product",
)


def gpu_rows(bench: Bench) -> list[Row]:
    return [] if bench.device.type != "cuda" else [graph_row(bench), factors_row(bench), product_row(bench)]


def graph_row(bench: Bench, record: ours.Record[ours.StepResult] | None = None) -> Row:
    """A training step as one graph and eagerly; `record` stands in for a graph."""
    features, labels = bench.features(bench.sizes.batch_size), bench.labels(bench.sizes.batch_size)
    found, timings = [], []
    for graphed in (True, False):
        step = ours.TrainingStep(ours.build_model(bench.sizes, bench.device), features, labels)
        take = functools.partial(step.graphed(record), step.batch) if graphed else step.whole
        torch.manual_seed(0)
        found.append(torch.stack([take().losses for _ in range(2)]))
        timings.append(bench.time(take))
        del step, take
    return timed_row("step as one graph", *timings, error=relative_error(*found), note=GRAPH_NOTE)


def factors_row(bench: Bench) -> Row:
    """One update of the widest layer from the factors of its gradient, and from the gradient."""
    timings, found = [], []
    for plain in (False, True):
        layer = ours.WideLayer(bench.sizes, bench.device)
        update = layer.plain_updater() if plain else layer.updater()
        found.append(update().clone())
        timings.append(bench.time(update))
        del update
    floor = bench.limits.floor(moved=FACTOR_PASSES * FLOAT_BYTES * layer.weight.numel())
    return timed_row("Adam from factors", *timings, floor=floor, error=relative_error(*found), note=FACTORS_NOTE)


def product_row(bench: Bench) -> Row:
    """The product of the widest layer with a batch: in chunks, and as one."""
    layer = ours.WideLayer(bench.sizes, bench.device)
    timings = [bench.time(work) for work in (layer.forward, layer.plain_forward)]
    floor = bench.limits.floor(moved=FLOAT_BYTES * layer.weight.numel())
    error = relative_error(layer.forward(), layer.plain_forward())
    return timed_row("wide layer: forward", *timings, floor=floor, error=error, note=PRODUCT_NOTE)
