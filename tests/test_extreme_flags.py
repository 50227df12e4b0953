"""Values that no array, no float32 and no JSON holds: one line and exit code 2, before anything is written."""

import json
import math

import numpy as np
import pytest
import torch

from localization.instances import BLOCK_SNIPPETS, Prediction, _blocks
from options import FLAGS, parse_flags, resolve
from run.device import pick_device
from utils.errors import InputError

NUMBERS = [name for name, flag in FLAGS.flags.items() if flag.interval]
WHOLE = [name for name in NUMBERS if FLAGS.flags[name].kind in (int, int | None)]
DIGITS = 5000  # more than Python makes a number of

EXTREMES = ["3e38", "1e300", "1e308", "1e-308", "1e-320", "1e18", "-1e18", "inf", "-inf", "nan", "1e400"]
HUGE = [2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 10**400, -(2**63), -(10**30)]


def refusal(*words):
    """The line that refuses these flags."""
    with pytest.raises(InputError) as refused:
        resolve(parse_flags(words))
    line = str(refused.value)
    assert len(line) < 250
    return line


def test_every_range_is_bounded():
    """What lies in it can be multiplied by every other option's without leaving float64, or int64 for whole numbers."""
    for name in NUMBERS:
        interval = FLAGS.flags[name].interval
        assert math.isfinite(interval.low) and math.isfinite(interval.high), name
        assert interval.high <= (2**32 if name in WHOLE else 1e38), name


@pytest.mark.parametrize("value", HUGE, ids=lambda value: f"{len(str(value))} signs")
def test_whole_numbers_beyond_what_an_array_counts(value):
    for name in WHOLE:
        if value not in FLAGS.flags[name].interval:
            assert f"--{name} " in refusal(f"--{name}={value}")


@pytest.mark.parametrize("text", ["9" * DIGITS, "-" + "9" * DIGITS, "1" + "_0" * DIGITS, "x" * DIGITS])
def test_numbers_too_long_to_read(text):
    for name in WHOLE:
        line = refusal(f"--{name}={text}")
        assert f"--{name}: " in line and "is not a whole number" in line


ACCEPTED = [
    *(
        "scale 10000",
        "outer_margin 1000",
        "gamma 1000000",
        "nms_offset 1000000",
        "nms_alpha 1e-06",
        "nms_alpha 1000000",
    ),
    *("fps 0.01", "fps 10000", "snippet_stride 1000000", "snippet_frames 1000000", "q_val 0.001", "gce_eps 1e-30"),
    *("sqrt_eps 1e-30", "sqrt_eps 1", "mask_var_init 1e-30", "mask_var_init 1000000", "mask_var_factor 1e-06"),
    *(
        "mask_var_factor 1000000",
        "w_bg 1000000",
        "label_eps 1",
        "beta1 0.9999999999999999",
        "dropout 0.9999999999999999",
    ),
    *(
        "detection_inf_step 1000000000",
        "eval_from_epoch 1000000000",
        "save_epochs 1000000000",
        "test_batch_size 1000000",
    ),
    *("batch_size 1000000", "weight_decay 1000000", "seed 4294967295", "class_th 0", "class_th 1"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_ends_of_a_range_train(tiny, run, tmp_path, text):
    """To numbers that JSON has, or to a line that says which loss or weight is not finite."""
    flag, value = text.split()
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--eval_from_epoch", "1", f"--{flag}", value)
    assert outcome.code == 0 or (outcome.code == 1 and "not finite" in outcome.err and outcome.err.count("\n") == 1)
    for name in ("results.json", "detections_best.json", "options.json"):
        path = tmp_path / "out" / "x" / name
        if path.exists():
            json.loads(path.read_text(), parse_constant=pytest.fail)  # of Infinity and NaN
    assert outcome.code == 1 or (tmp_path / "out" / "x" / "results.json").exists()


@pytest.mark.parametrize("value", EXTREMES)
def test_extreme_values_are_within_the_range_or_refused(value):
    """Never something between: a traceback, or a value that becomes another."""
    for name in NUMBERS:
        flags = [f"--{name}={value}", "--select=val"]  # without which --val_share is refused
        if name not in WHOLE and float(value) in FLAGS.flags[name].interval:
            assert FLAGS.values(FLAGS.build(parse_flags(flags)))[name] == float(value)
        else:
            assert f"--{name}" in refusal(*flags)


def test_weights_of_the_sequence_that_vanish():
    """Those in use are scaled to make up for the others."""
    with pytest.raises(InputError, match="--fuse_flow"):
        resolve({"modal": "flow", "fuse_cas": 0.0, "fuse_flow": 1e-320})


@pytest.mark.parametrize(
    ("size", "free", "named"),
    [
        ("7", 10**9, "--batch_size 7: a batch needs 1.7 GB"),
        ("1", 5 * 10**8, "--test_batch_size 4: a batch needs 576.0 MB"),
    ],
)
def test_batches_that_do_not_fit(tiny, refused_with, monkeypatch, size, free, named):
    """A system that overcommits memory would kill the process in the middle of a batch."""
    monkeypatch.setattr("utils.memory.free_bytes", lambda device: free)
    line = refused_with(tiny.path, "--num_segments", "1000000", "--batch_size", size)
    assert line.startswith(f"main.py: error: --num_segments 1000000, {named}") and line.endswith("lower one of them")


@pytest.mark.parametrize("index", ["9" * DIGITS, "99999", "-1", "", "x", "1.0"])
def test_no_such_gpu(monkeypatch, index):
    """Where there are GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"--device cuda:.*: must be auto, cpu, cuda or cuda:INDEX") as refused:
        pick_device(f"cuda:{index}")
    assert len(str(refused.value)) < 200
    with pytest.raises(InputError, match="there are 2 CUDA GPUs"):
        pick_device("cuda:9999")


@pytest.mark.parametrize("length", [1, 750, 7500, 10**6])
def test_localization_takes_no_more_memory_for_longer_sequences(length):
    """Rows of many snippets are localized in smaller blocks, and every row is in one."""
    rows = np.broadcast_to(np.float32(0), (3, length))
    prediction = Prediction(
        num_snippets=1, fps=25.0, class_scores=np.ones(3, np.float32), classes=np.arange(3), sequences=rows
    )
    blocks = list(_blocks([prediction] * 400))
    assert [v for block in blocks for v in block] == list(range(400))
    assert all(3 * (len(block) - 1) * length < BLOCK_SNIPPETS for block in blocks)
    assert length > 750 or len(blocks[0]) == 43  # 128 rows and no more than the video's that completes them
