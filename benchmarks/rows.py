"""The rows of the table: each times ours and the plain formulation on one input, after checking that they agree.

    bench = Bench(sizes=FULL, device=device, limits=limits)
    GROUPS["step"](bench)         # list[Row]

The plain formulation is reference/. A share is the least time that the machine's limits allow, divided by our time.
"""

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import inputs, ours
from benchmarks.inputs import Sizes
from benchmarks.timing import FLOAT_BYTES, Budget, Limits, Timing, measure, measure_parts, peak_memory
from eval.statistics import WeightedEvaluation, draw_weights
from reference import formulas, loops
from utils.segments import Segments

TOLERANCE = 1e-5  # of the largest magnitude, for float32
# Of a gradient's norm: where a hidden value is nearly 0, rounding decides whether its ReLU lets the gradient of a snippet pass.
FLIP_TOLERANCE = 1e-3
EXACT_TOLERANCE = 1e-9  # for what is computed in float64
TIOUS = ours.RECIPE.evaluation.tiou_grid
ADAM_PASSES = (
    7  # reads weights, gradients and two moments, writes all but the gradients; that of a wide layer can be spared
)
TAPS = ours.RECIPE.model.kernel_size
MULTIPLY_ADD = 2  # floating-point operations
MILLISECONDS = 1e3
MEBIBYTE = 1 << 20
ONCE = Budget(min_runs=1, max_runs=1, seconds=0.0, warm_up=0)


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    ours: float  # in `unit`
    runs: int
    plain: float | None = None
    plain_runs: int | None = None
    share: float | None = None  # of the machine's limit
    error: float | None = None  # ours against plain, relative to the largest magnitude
    tolerance: float = TOLERANCE
    unit: str = "ms"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.plain if self.plain else None

    @property
    def agrees(self) -> bool:
        return self.error is None or self.error <= self.tolerance


@dataclass(frozen=True, kw_only=True)
class Bench:
    sizes: Sizes
    device: torch.device
    limits: Limits
    budget: Budget = field(default_factory=Budget)

    def time(self, work: Callable[[], object]) -> Timing:
        return measure(work, self.device, self.budget)

    def time_parts(self, parts: Sequence[Callable[[], object]]) -> list[Timing]:
        return measure_parts(parts, self.device, self.budget)

    def features(self, count: int) -> Tensor:
        return inputs.features(count, self.sizes, self.device)

    def labels(self, count: int) -> Tensor:
        return inputs.labels(count, self.sizes, self.device)


def resample_rows(bench: Bench) -> list[Row]:
    sizes, generator = bench.sizes, np.random.default_rng(0)
    array = inputs.long_video(sizes.resampled_snippets, sizes)
    video, plain_video = ours.as_video(array), torch.from_numpy(array)
    t = sizes.num_segments
    out = np.empty((t, array.shape[1]), np.float32)
    ours.resample(video, t, None, out)
    error = relative_error(torch.from_numpy(out), loops.resample(plain_video, t))
    return [
        timed_row(
            "resample a video",
            bench.time(lambda: ours.resample(video, t, generator, out)),
            bench.time(lambda: loops.resample(plain_video, t, generator)),
            error=error,
            tolerance=0.0,
            note=f"{sizes.resampled_snippets} to {t} snippets, in memory",
        )
    ]


def step_rows(bench: Bench) -> list[Row]:
    sizes, batch = bench.sizes, bench.sizes.batch_size
    features, labels = bench.features(batch), bench.labels(batch)
    model = ours.build_model(sizes, bench.device)
    errors = _step_errors(model, features, labels)

    step = ours.TrainingStep(model, features, labels)
    parts = bench.time_parts([step.forward, step.backward, step.optimise])
    whole = bench.time(step.whole)
    params = plain_parameters(model)
    del step, model
    gc.collect()
    plain = PlainStep(params, features, labels)
    plain_parts = bench.time_parts([plain.forward, plain.backward, plain.optimise])
    plain_whole = bench.time(plain.whole)

    count = sum(p.numel() for p in params.values())
    pass_bytes = ADAM_PASSES * FLOAT_BYTES * count
    forward, backward = training_flops(sizes)
    floors = {
        "forward": bench.limits.floor(flops=forward),
        "backward": bench.limits.floor(flops=backward),
        "optimiser": bench.limits.floor(moved=pass_bytes),
        "whole": bench.limits.floor(flops=forward + backward, moved=pass_bytes),
    }
    timings = zip(floors, [*parts, whole], [*plain_parts, plain_whole], strict=True)
    return [
        timed_row(
            f"step: {name}",
            mine,
            other,
            floor=floors[name],
            error=errors.get(name),
            tolerance=FLIP_TOLERANCE if name == "backward" else TOLERANCE,
        )
        for name, mine, other in timings
    ]


def plain_parameters(model: ours.SAL) -> dict[str, Tensor]:
    """Copies of the parameters, laid out in memory as torch's own layers have them."""
    return {name: p.detach().clone().contiguous().requires_grad_() for name, p in ours.parameters(model).items()}


class PlainStep:
    """A training step of the plain formulation, in parts or whole."""

    def __init__(
        self, params: Mapping[str, Tensor], features: Tensor, labels: Tensor, dropout: float = ours.RECIPE.model.dropout
    ) -> None:
        self.params, self.features, self.labels, self.dropout = params, features, labels, dropout
        self.optimizer = formulas.adam(params)
        self.mask_state = formulas.new_mask_state(labels.shape[1], labels.device)
        self.losses: dict[str, Tensor] = {}
        self.total = features.new_zeros(())

    def forward(self) -> None:
        output = formulas.network(self.params, self.features, dropout=self.dropout)
        self.total, self.losses = formulas.training_loss(output, self.labels, self.mask_state)

    def backward(self) -> None:
        self.optimizer.zero_grad()
        self.total.backward()

    def optimise(self) -> None:
        self.optimizer.step()

    def whole(self) -> None:
        formulas.training_step(
            self.params, self.optimizer, self.features, self.labels, self.mask_state, dropout=self.dropout
        )


def conv_rows(bench: Bench) -> list[Row]:
    """The three large convolutions of a training step's batch, without the network around them."""
    sizes, rows = bench.sizes, bench.sizes.batch_size * bench.sizes.num_segments
    joint = bench.features(sizes.batch_size)
    layers = []
    for x in (joint, *(part.contiguous() for part in joint.chunk(2, 2))):
        weight = torch.randn(sizes.hidden_size, x.shape[2], TAPS, device=bench.device) / math.sqrt(TAPS * x.shape[2])
        layers.append((x, weight, torch.zeros(sizes.hidden_size, device=bench.device)))

    weights = {
        "ours": [ours.as_kept(weight).requires_grad_() for _, weight, _ in layers],
        "plain": [weight.requires_grad_() for _, weight, _ in layers],
    }

    def forward_of(convolve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[Tensor]:
        mine = weights["ours" if convolve is ours.convolution else "plain"]
        return [convolve(x, weight, bias) for (x, _, bias), weight in zip(layers, mine, strict=True)]

    def plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out: Tensor = formulas.convolution({"it.weight": weight, "it.bias": bias}, "it", x.transpose(1, 2))
        return out.transpose(1, 2)

    def time_both(convolve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[Timing]:
        outputs: list[Tensor] = []

        def forward() -> None:
            outputs[:] = forward_of(convolve)

        def backward() -> None:
            torch.autograd.grad(outputs, weights["ours" if convolve is ours.convolution else "plain"], gradients)

        return bench.time_parts([forward, backward])

    outputs, expected = forward_of(ours.convolution), forward_of(plain)
    gradients = [torch.randn_like(out) for out in expected]
    our_gradients = torch.autograd.grad(outputs, weights["ours"], gradients)
    expected_gradients = torch.autograd.grad(expected, weights["plain"], gradients)
    errors = (
        largest(relative_error(a, b) for a, b in zip(outputs, expected, strict=True)),
        largest(relative_error(a, b) for a, b in zip(our_gradients, expected_gradients, strict=True)),
    )
    del outputs, expected, our_gradients, expected_gradients
    floor = bench.limits.floor(flops=conv_flops(rows, sizes))
    notes = ("", "of the weights alone, as in training")
    columns = zip(("forward", "backward"), time_both(ours.convolution), time_both(plain), errors, notes, strict=True)
    return [
        timed_row(f"convolutions: {name}", mine, other, floor=floor, error=error, note=note)
        for name, mine, other, error, note in columns
    ]


@torch.inference_mode()
def test_forward_rows(bench: Bench) -> list[Row]:
    sizes = bench.sizes
    count = sizes.test_batch_size
    features = bench.features(count)
    model = ours.build_model(sizes, bench.device).eval()
    params = plain_parameters(model)
    errors = []
    for i, prediction in enumerate(ours.predict_videos(model, features)):
        scores, sequences, classes = ours.predicted(prediction)
        plain_scores, plain_sequence = plain_prediction(params, features[i : i + 1])
        errors += [relative_error(scores, plain_scores), relative_error(sequences, plain_sequence[:, classes])]
    forward = ours.TestForward(model)
    mine = bench.time(lambda: forward(features))
    return [
        timed_row(
            "test forward, a video",
            Timing(seconds=mine.seconds / count, runs=mine.runs),
            bench.time(lambda: plain_prediction(params, features[:1])),
            floor=bench.limits.floor(flops=test_flops(sizes)),
            error=largest(errors),
            note=f"ours in batches of {count}",
        ),
    ]


test_forward_rows.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name


def postprocess_rows(bench: Bench) -> list[Row]:
    video = inputs.busy_video(bench.sizes)
    prediction = ours.as_prediction(video)
    detections = ours.postprocess([prediction])
    return [
        timed_row(
            "post-processing, a video",
            bench.time(lambda: ours.postprocess([prediction])),
            bench.time(lambda: plain_localize(video)),
            error=detections_error(detections, plain_localize(video)),
            tolerance=EXACT_TOLERANCE,
            note=f"{len(detections)} proposals of {len(np.unique(detections.label))} classes",
        )
    ]


def nms_rows(bench: Bench) -> list[Row]:
    localization = ours.RECIPE.localization
    start, end, score = inputs.nms_proposals(bench.sizes)
    segments, scores = list(zip(start.tolist(), end.tolist(), strict=True)), score.tolist()

    def plain() -> list[tuple[int, float]]:
        kept: list[tuple[int, float]] = loops.nms(
            segments, scores, localization.nms_thresh, localization.nms_offset, localization.nms_alpha
        )
        return kept

    positions, final = ours.suppress(start, end, score)
    expected_positions, expected_final = (np.array(column) for column in zip(*plain(), strict=True))
    same = positions.tolist() == expected_positions.tolist()
    return [
        timed_row(
            f"NMS of {len(start)} proposals",
            bench.time(lambda: ours.suppress(start, end, score)),
            bench.time(plain),
            error=array_error(final, expected_final) if same else math.inf,
            tolerance=EXACT_TOLERANCE,
            note="soft, one class",
        )
    ]


def map_rows(bench: Bench) -> list[Row]:
    test_set, classes = inputs.test_set(bench.sizes), bench.sizes.num_classes
    expected: list[float] = []
    plain = measure(
        lambda: expected.extend(plain_map(test_set.truth, test_set.detections, classes)), bench.device, ONCE
    )
    return [
        timed_row(
            f"mAP of {len(test_set.detections)} detections",
            bench.time(lambda: ours.map_of(test_set.truth, test_set.detections, classes, TIOUS)),
            plain,
            error=array_error(ours.map_of(test_set.truth, test_set.detections, classes, TIOUS), np.array(expected)),
            tolerance=EXACT_TOLERANCE,
            note=f"{classes} classes, {len(TIOUS)} thresholds, {len(test_set.truth)} instances",
        ),
        draw_row(bench, test_set, ours.drawable(test_set, classes, TIOUS)),
    ]


def draw_row(bench: Bench, test_set: inputs.TestSet, evaluation: WeightedEvaluation) -> Row:
    """One draw of a bootstrap; the plain way makes the set that was drawn, and evaluates it."""
    classes, videos = bench.sizes.num_classes, len(test_set.durations)
    weight = next(draw_weights(videos, draws=1, seed=0))

    def plain() -> list[float]:
        truth, detections = (with_copies(segments, weight) for segments in (test_set.truth, test_set.detections))
        return plain_map(truth, detections, classes)

    expected: list[float] = []
    return timed_row(
        f"a draw of {videos} videos",
        bench.time(lambda: ours.drawn_map(evaluation, weight)),
        measure(lambda: expected.extend(plain()), bench.device, ONCE),
        error=array_error(ours.drawn_map(evaluation, weight), np.array(expected)),
        tolerance=EXACT_TOLERANCE,
        note="of a bootstrap; detections are matched once for all draws",
    )


def with_copies(segments: Segments, weight: NDArray[np.int64]) -> Segments:
    """Each segment once for every copy of its video, which gets a number of its own."""
    count = weight[segments.video]
    place = np.repeat(np.arange(len(segments)), count)
    copy = np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    first = np.cumsum(weight) - weight
    return replace(segments.take(place), video=first[segments.video[place]] + copy)


@torch.inference_mode()
def test_pass_rows(bench: Bench) -> list[Row]:
    """The whole test pass. Post-processing and mAP take synthetic sequences: a network of random weights finds nothing."""
    sizes, device = bench.sizes, bench.device
    test_set = inputs.test_set(sizes)
    model = ours.build_model(sizes, device).eval()
    params = plain_parameters(model)
    pool = inputs.long_video(int(test_set.num_snippets.max()), sizes)
    videos = ours.shared_videos(pool, test_set.num_snippets, device)
    predictions = [ours.as_prediction(v) for v in test_set.videos]
    few_videos = ours.shared_videos(pool, test_set.num_snippets[: sizes.test_batch_size], device)
    ours.predict_set(model, few_videos, sizes)  # warm-up
    detections = ours.postprocess(predictions)
    network, postprocessing, evaluation = measure_parts(
        [
            lambda: ours.predict_set(model, videos, sizes),
            lambda: ours.postprocess(predictions),
            lambda: ours.map_of(test_set.truth, detections, sizes.num_classes, TIOUS),
        ],
        device,
        ONCE,
    )

    few = test_set.num_snippets[:: -(-sizes.videos // sizes.scaled_videos)].tolist()
    plain_pool = torch.from_numpy(pool)

    def plain_networks() -> None:
        for snippets in few:
            features = loops.resample(plain_pool[:snippets], sizes.num_segments).unsqueeze(0).to(device)
            plain_prediction(params, features)

    plain_prediction(params, torch.zeros(1, sizes.num_segments, 2 * sizes.feature_size, device=device))  # warm-up
    plain_detections: list[list[ours.Detection]] = []
    expected: list[float] = []
    plain = measure_parts(
        [
            plain_networks,
            lambda: plain_detections.extend(plain_localize(video) for video in test_set.videos),
            lambda: expected.extend(plain_map(test_set.truth, detections, sizes.num_classes)),
        ],
        device,
        ONCE,
    )
    plain_parts = [plain[0].seconds * sizes.videos / len(few), plain[1].seconds, plain[2].seconds]
    parts = [network.seconds, postprocessing.seconds, evaluation.seconds]
    after = (parts[1] + parts[2]) / sum(parts)
    scaled = f"plain network: {len(few)} videos, scaled to {sizes.videos}"
    distinct = float(np.minimum(test_set.num_snippets, sizes.num_segments).mean() / sizes.num_segments)
    network_floor = bench.limits.floor(flops=sizes.videos * test_flops(sizes, distinct=distinct))
    mine = ours.map_of(test_set.truth, detections, sizes.num_classes, TIOUS)
    post_error = largest(
        detections_error(detections.take(np.flatnonzero(detections.video == video)), of_video)
        for video, of_video in enumerate(plain_detections)
    )

    def once(seconds: float) -> Timing:
        return Timing(seconds=seconds, runs=1)

    def row(name: str, seconds: float, plain_seconds: float, **rest: object) -> Row:
        return timed_row(f"test pass: {name}", once(seconds), once(plain_seconds), **rest)  # type: ignore[arg-type]

    return [
        row("network", parts[0], plain_parts[0], floor=network_floor, note=f"with resampling; {scaled}"),
        row(
            "post-processing",
            parts[1],
            plain_parts[1],
            error=post_error,
            tolerance=EXACT_TOLERANCE,
            note=f"{len(detections)} detections",
        ),
        row(
            "mAP",
            parts[2],
            plain_parts[2],
            error=array_error(mine, np.array(expected)),
            tolerance=EXACT_TOLERANCE,
            note="of these detections",
        ),
        row(
            f"whole, {sizes.videos} videos",
            sum(parts),
            sum(plain_parts),
            floor=network_floor,
            note=f"post-processing and mAP are {after:.1%} of ours; {scaled}",
        ),
    ]


test_pass_rows.__test__ = False  # type: ignore[attr-defined]  # see above


def memory_rows(bench: Bench) -> list[Row]:
    """Peaks of memory, each from building the model on, after everything earlier is freed."""
    sizes, batch = bench.sizes, bench.sizes.batch_size

    def our_steps() -> None:
        step = ours.TrainingStep(ours.build_model(sizes, bench.device), bench.features(batch), bench.labels(batch))
        for _ in range(2):  # the moments come with the first
            step.whole()

    def plain_steps() -> None:
        params = plain_parameters(ours.build_model(sizes, bench.device))
        step = PlainStep(params, bench.features(batch), bench.labels(batch))
        for _ in range(2):
            step.whole()

    def our_test() -> None:
        ours.predict_videos(ours.build_model(sizes, bench.device), bench.features(sizes.test_batch_size))

    @torch.inference_mode()
    def plain_test() -> None:
        params = plain_parameters(ours.build_model(sizes, bench.device))
        plain_prediction(params, bench.features(1))

    what = "tensors on the device" if bench.device.type == "cuda" else "the whole process, resident"
    pairs = {"training step": (our_steps, plain_steps), "test forward": (our_test, plain_test)}
    rows = []
    for name, works in pairs.items():
        mine, plain = (peak_memory(work, bench.device) / MEBIBYTE for work in works)
        rows.append(
            Row(name=f"peak memory: {name}", ours=mine, runs=1, plain=plain, plain_runs=1, unit="MiB", note=what)
        )
    return rows


GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "resample": resample_rows,
    "step": step_rows,
    "conv": conv_rows,
    "test_forward": test_forward_rows,
    "postprocess": postprocess_rows,
    "nms": nms_rows,
    "map": map_rows,
    "test_pass": test_pass_rows,
    "memory": memory_rows,
}


def timed_row(
    name: str,
    mine: Timing,
    plain: Timing | None = None,
    *,
    floor: float | None = None,
    error: float | None = None,
    tolerance: float = TOLERANCE,
    note: str = "",
) -> Row:
    """A row of two timings; `floor` is the fewest seconds that the machine's limits allow."""
    return Row(
        name=name,
        ours=mine.seconds * MILLISECONDS,
        runs=mine.runs,
        plain=plain.seconds * MILLISECONDS if plain else None,
        plain_runs=plain.runs if plain else None,
        share=floor / mine.seconds if floor else None,
        error=error,
        tolerance=tolerance,
        note=note,
    )


def conv_flops(rows: float, sizes: Sizes) -> float:
    """Operations of the joint encoder and both streams' encoders on that many snippets."""
    return MULTIPLY_ADD * rows * TAPS * 2 * (2 * sizes.feature_size) * sizes.hidden_size


def training_flops(sizes: Sizes, *, distinct: float = 1.0) -> tuple[float, float]:
    """Operations (forward, backward) that no formulation of the step can spare; the mixed-up videos need none of their own.

    `distinct` is the share of the snippets that are not repeated: one convolution of each is enough.
    Backward repeats every product for the weights, and those after the first layers once more for their inputs.
    """
    batch, h = sizes.batch_size, sizes.hidden_size
    convolutions = conv_flops(distinct * batch * sizes.num_segments, sizes)
    pooling = 3 * MULTIPLY_ADD * batch * sizes.num_segments * h**2  # the joint encoding and each stream's
    wide = MULTIPLY_ADD * batch * h**2 * (3 * sizes.num_classes + h)
    return convolutions + pooling + wide, convolutions + 2 * (pooling + wide)


def test_flops(sizes: Sizes, *, distinct: float = 1.0) -> float:  # noqa: PT028
    """Operations of one test video, as in `training_flops`; Q is symmetric, and half of it is enough."""
    t, h = sizes.num_segments, sizes.hidden_size
    return (
        conv_flops(distinct * t, sizes)
        + MULTIPLY_ADD * t * h**2 / 2
        + MULTIPLY_ADD * h**2 / 2 * (sizes.num_classes + h)
    )


test_flops.__test__ = False  # type: ignore[attr-defined]  # see above


def plain_prediction(params: Mapping[str, Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
    """Class scores [C] and combined sequence [T,C] of one video [1,T,D]."""
    output = formulas.network(params, features, training=False)
    sequence = formulas.combined_sequence(output)[0]
    return formulas.class_scores(output["cas"][0], sequence, output["video_logits"][0]), sequence


def plain_localize(video: inputs.VideoSequences) -> list[ours.Detection]:
    detections: list[ours.Detection] = formulas.localize_video(
        torch.from_numpy(video.sequences), torch.from_numpy(video.class_scores), video.num_snippets
    )
    return detections


def plain_map(truth: Segments, detections: Segments, num_classes: int) -> list[float]:
    def lists(segments: Segments, *more: NDArray[np.float64]) -> list[tuple[float, ...]]:
        columns = (segments.video, segments.label, segments.start, segments.end, *more)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    result: list[float] = formulas.mean_average_precision(
        lists(truth), lists(detections, detections.score), num_classes, TIOUS
    )
    return result


def largest(errors: Iterable[float]) -> float:
    """The largest error; NaN counts as infinite."""
    values = list(errors)
    return math.inf if any(math.isnan(v) for v in values) else max(values)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    if actual.shape != expected.shape:
        return math.inf
    difference = (actual.detach().to(expected.device) - expected.detach()).abs().max().item()
    return float(difference) / max(expected.detach().abs().max().item(), torch.finfo(torch.float32).tiny)


def losses_error(step: ours.TrainingStep, plain: PlainStep) -> float:
    """The error of all losses side by side: that of the background, a difference of logarithms, has few digits of its own."""
    names = sorted(plain.losses)
    return relative_error(*(torch.stack([losses[n] for n in names]) for losses in (step.losses, plain.losses)))


def norm_error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.detach() - expected.detach()).norm() / expected.detach().norm())


def array_error(actual: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return relative_error(torch.as_tensor(actual), torch.as_tensor(expected))


def detections_error(detections: Segments, expected: list[ours.Detection]) -> float:
    """The largest difference of two sets of detections of one video, in order of class, start, end, score: equal scores may
    change places."""
    mine = np.stack([detections.label, detections.start, detections.end, detections.score], 1)
    other = np.array(expected, np.float64).reshape(-1, mine.shape[1])
    # Rounded, so that the last bits of a start do not decide the order.
    mine, other = (rows[np.lexsort(np.round(rows, 7).T[::-1])] for rows in (mine, other))
    if mine.shape != other.shape:
        return math.inf
    return largest(array_error(a, b) for a, b in zip(mine.T, other.T, strict=True))


def _step_errors(model: ours.SAL, features: Tensor, labels: Tensor) -> dict[str, float]:
    """Differences in losses, gradients and updated weights after one step without dropout, from the same weights."""
    dropout = model.options.dropout
    ours.set_dropout(model, 0.0)
    step = ours.TrainingStep(model, features, labels)
    step.forward()
    step.backward()
    gradients = step.gradients()
    params = {name: p.detach().clone().requires_grad_() for name, p in ours.parameters(model).items()}
    plain = PlainStep(params, features, labels, dropout=0.0)
    plain.forward()
    plain.backward()
    errors = {
        "forward": losses_error(step, plain),
        "backward": largest(norm_error(gradients[name], _gradient(p)) for name, p in params.items()),
    }
    # The first update is nearly the gradient's sign, which the last bits decide near 0: so both take our gradients.
    for name, p in params.items():
        p.grad = gradients[name].clone()
    plain.optimise()
    step.optimise()
    errors["optimiser"] = largest(relative_error(p, params[name]) for name, p in ours.parameters(model).items())
    ours.set_dropout(model, dropout)
    return errors


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
