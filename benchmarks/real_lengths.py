"""Rows for videos as long as those of THUMOS'14, most of which have fewer than T snippets and repeat them.

The plain formulation has no use for repetition: it takes as long as for any other videos.
"""

import itertools

import torch

from benchmarks import inputs, ours
from benchmarks.rows import (
    ADAM_PASSES,
    Bench,
    PlainStep,
    Row,
    largest,
    losses_error,
    plain_parameters,
    plain_prediction,
    relative_error,
    test_flops,
    timed_row,
    training_flops,
)
from benchmarks.timing import FLOAT_BYTES, Timing


def distinct_share(batches: list[ours.Snippets]) -> float:
    """Of all snippets of these batches."""
    rows = sum(len(part.rows) for batch in batches for part in batch.parts)
    return rows / sum(part.placement.index.size for batch in batches for part in batch.parts)


def step_lengths_rows(bench: Bench) -> list[Row]:
    """A whole training step, averaged over batches that stand for the training split."""
    sizes, size = bench.sizes, bench.sizes.batch_size
    lengths = inputs.typical_lengths(sizes.typical_videos, prefix=inputs.TRAIN_PREFIX)
    pool = inputs.long_video(int(lengths.max()), sizes)
    videos = ours.shared_videos(pool, lengths, bench.device)
    batches = ours.resampled_batches(videos, sizes, batch_size=size, training=True)
    labels, model = bench.labels(size), ours.build_model(sizes, bench.device)
    params = plain_parameters(model)

    errors = []
    dropout = model.options.dropout
    ours.set_dropout(model, 0.0)
    for batch in (batches[0], batches[-1]):
        step, plain = ours.TrainingStep(model, batch, labels), PlainStep(params, batch.dense(), labels, dropout=0.0)
        step.forward()
        plain.forward()
        errors.append(losses_error(step, plain))
    ours.set_dropout(model, dropout)

    step = ours.TrainingStep(model, batches[0], labels)
    following = itertools.cycle(batches)

    def epoch() -> None:
        for _ in batches:
            step.take(next(following))
            step.whole()

    whole = bench.time(epoch)
    share = distinct_share(batches)
    plain = PlainStep(params, batches[0].dense(), labels)
    moved = ADAM_PASSES * FLOAT_BYTES * sum(p.numel() for p in params.values())
    return [
        timed_row(
            "step: whole, real lengths",
            Timing(seconds=whole.seconds / len(batches), runs=whole.runs),
            bench.time(plain.whole),
            floor=bench.limits.floor(flops=sum(training_flops(sizes, distinct=share)), moved=moved),
            error=largest(errors),
            note=f"{len(batches)} batches of the training split's lengths: {share:.0%} of the snippets are distinct",
        )
    ]


@torch.inference_mode()
def test_lengths_rows(bench: Bench) -> list[Row]:
    """The network in test, averaged over videos that stand for the test split."""
    sizes = bench.sizes
    lengths = inputs.typical_lengths(2 * sizes.typical_videos, prefix=inputs.TEST_PREFIX)
    pool = inputs.long_video(int(lengths.max()), sizes)
    videos = ours.shared_videos(pool, lengths, bench.device)
    batches = ours.resampled_batches(videos, sizes, batch_size=sizes.test_batch_size, training=False)
    model = ours.build_model(sizes, bench.device).eval()
    params, forward = plain_parameters(model), ours.TestForward(model)
    errors = []
    for video in range(min(len(lengths), sizes.test_batch_size, 4)):
        scores, sequences = (result[video] for result in forward(batches[0]))
        expected = plain_prediction(params, batches[0].dense()[video : video + 1])
        errors += [relative_error(scores, expected[0]), relative_error(sequences, expected[1])]
    whole = bench.time(lambda: [forward(batch) for batch in batches])
    share = distinct_share(batches)
    one = batches[0].dense()[:1]
    return [
        timed_row(
            "test forward, a video, real lengths",
            Timing(seconds=whole.seconds / len(lengths), runs=whole.runs),
            bench.time(lambda: plain_prediction(params, one)),
            floor=bench.limits.floor(flops=test_flops(sizes, distinct=share)),
            error=largest(errors),
            note=f"{len(lengths)} videos of the test split's lengths: {share:.0%} of the snippets are distinct",
        )
    ]


test_lengths_rows.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of its name

GROUPS = {"step_lengths": step_lengths_rows, "test_lengths": test_lengths_rows}
