"""Curves in curves.jsonl and for TensorBoard, read back by TensorBoard's own reader."""

import errno
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest
from support.paths import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from eval.summary import EvaluationSummary
from formats.curve_file import read_points
from run.curves import CurveWriter, evaluation_curves, final_numbers

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (7).to_bytes(4, "big") + (5).to_bytes(4, "big") + b"rest"


def events(folder):
    return EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "scalars": 0}).Reload()


def scalars(folder):
    read = events(folder)
    return {name: [(e.step, e.value) for e in read.Scalars(name)] for name in read.Tags()["scalars"]}


def summary(**values):
    return EvaluationSummary(
        **{"mAP": None, "average_mAP": None, "video_accuracy": None, "per_class_AP": None, **values}
    )


def test_both_files_have_every_point(tmp_path):
    with CurveWriter(tmp_path, first_step=1) as curves:
        curves.add({"loss/total": 1.5, "loss/mil": 0.25}, 10)
        curves.add({"AP/a\x1b\ud800": 0.5}, 20)
        assert read_points(tmp_path / "curves.jsonl")[-1][0] == 20  # at once, not when it closes
    assert read_points(tmp_path / "curves.jsonl") == [
        (10, "loss/total", 1.5),
        (10, "loss/mil", 0.25),
        (20, "AP/a\x1b\ud800", 0.5),
    ]
    assert scalars(tmp_path) == {"loss/total": [(10, 1.5)], "loss/mil": [(10, 0.25)], "AP/a\x1b?": [(20, 0.5)]}


def test_a_run_that_goes_on_replaces_the_points_from_there(tmp_path):
    with CurveWriter(tmp_path, first_step=1) as curves:
        for step in (1, 2, 3):
            curves.add({"loss": float(step)}, step)
    with CurveWriter(tmp_path, first_step=3) as curves:
        curves.add({"loss": 30.0}, 3)
    expected = [(1, 1.0), (2, 2.0), (3, 30.0)]
    assert [(step, value) for step, _, value in read_points(tmp_path / "curves.jsonl")] == expected
    assert scalars(tmp_path) == {"loss": expected}


def test_tensorboard_gets_pictures_options_and_final_numbers(tmp_path):
    rows = {"best": summary(average_mAP={"0.1:0.5": 0.5}, video_accuracy=1.0), "last": summary(video_accuracy=0.75)}
    numbers = final_numbers(rows)
    assert numbers == {
        "final/best_average_mAP_0.1-0.5": 0.5,
        "final/best_video_accuracy": 1.0,
        "final/last_video_accuracy": 0.75,
    }
    options = {"lr": 1e-4, "batch_size": 2, "soft_nms": True, "modal": "all", "num_iters": None}
    with CurveWriter(tmp_path, first_step=1) as curves:
        curves.add_images({"timeline/a": PNG}, 5)
        curves.add_options(options, numbers, 9)
    read = events(tmp_path)
    (image,) = read.Images("timeline/a")
    assert (image.step, image.width, image.height, image.encoded_image_string) == (5, 7, 5, PNG)
    assert {name: read.Scalars(name)[0].value for name in numbers} == numbers
    contents = read.PluginTagToContent(metadata.PLUGIN_NAME)
    parts = {tag: plugin_data_pb2.HParamsPluginData.FromString(content) for tag, content in contents.items()}
    start = parts[metadata.SESSION_START_INFO_TAG].session_start_info.hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in start.items()} == {
        "lr": 1e-4,
        "batch_size": 2.0,
        "soft_nms": True,
        "modal": "all",
    }
    experiment = parts[metadata.EXPERIMENT_TAG].experiment
    assert [info.name.tag for info in experiment.metric_infos] == list(numbers)
    assert {info.name for info in experiment.hparam_infos} == set(start)
    assert parts[metadata.SESSION_END_INFO_TAG].session_end_info.end_time_secs > 0


def test_an_evaluation_as_curves():
    measured = summary(
        mAP={"0.1": 0.5, "0.2": 0.25},
        average_mAP={"0.1:0.2": 0.375},
        per_class_AP={"Dive": {"0.1": 1.0, "0.2": 0.5}},
    )
    assert evaluation_curves(measured) == {
        "mAP/0.1": 0.5,
        "mAP/0.2": 0.25,
        "average_mAP/0.1-0.2": 0.375,
        "AP/Dive": 0.75,
    }


@pytest.mark.parametrize("writer", ["append_point", "RecordWriter.write"])
def test_a_full_disk_is_said_once(tmp_path, monkeypatch, capsys, writer):
    with CurveWriter(tmp_path, first_step=1) as curves:
        curves.add({"loss": 1.0}, 1)

        def refuse(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(f"run.curves.{writer}", refuse)
        for step in (2, 3):
            curves.add({"loss": 2.0}, step)
            curves.add_images({"a": PNG}, step)
            curves.add_options({"lr": 1.0}, {"final": 1.0}, step)
    out = capsys.readouterr().out
    assert out.count("curves can't be written any more (No space left on device)") == 1 and out.count("\n") == 1


@pytest.mark.parametrize("name", ["tensorboard", "curves.jsonl"])
def test_a_place_that_is_taken_is_said(tmp_path, capsys, name):
    (tmp_path / name).mkdir() if name == "curves.jsonl" else (tmp_path / name).write_text("mine")
    with CurveWriter(tmp_path, first_step=1) as curves:
        curves.add({"loss": 1.0}, 1)
    assert capsys.readouterr().out.count("curves can't be written any more") == 1


def test_a_damaged_file_of_curves_is_kept_and_the_curves_go_on(tmp_path, capsys):
    path = tmp_path / "curves.jsonl"
    with CurveWriter(tmp_path, first_step=1) as curves:
        for step in (1, 2, 3):
            curves.add({"loss": float(step)}, step)
    damaged = path.read_text().replace('"step": 2', '"st')
    path.write_text(damaged)
    with CurveWriter(tmp_path, first_step=4) as curves:
        curves.add({"loss": 4.0}, 4)
    assert (tmp_path / "curves.jsonl.damaged").read_text() == damaged
    assert [step for step, *_ in read_points(path)] == [1, 3, 4]
    assert [step for step, _ in scalars(tmp_path)["loss"]] == [1, 2, 3, 4]
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "1 damaged line, the first is line 2; kept as curves.jsonl.damaged" in out


def test_no_thread_is_started_and_no_hook_is_set(tmp_path):
    before = threading.excepthook, threading.active_count()
    with CurveWriter(tmp_path, first_step=1) as curves:
        curves.add({"loss": 1.0}, 1)
        assert (threading.excepthook, threading.active_count()) == before


def test_torchs_writer_is_not_loaded():
    """It takes longer to import than everything else here."""
    code = "import sys, run.curves; sys.exit('torch.utils.tensorboard' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_killed_writer_leaves_whole_lines(tmp_path):
    """Whatever the moment: all lines but a torn last one are read."""
    code = (
        "import itertools, pathlib, sys\nfrom run.curves import CurveWriter\n"
        "with CurveWriter(pathlib.Path(sys.argv[1]), first_step=1) as curves:\n"
        "    for step in itertools.count(1):\n        curves.add({'loss': 1.0}, step)\n        print(step, flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    seen = [int(process.stdout.readline()) for _ in range(50)][-1]
    process.kill()
    process.communicate()
    steps = [step for step, _, _ in read_points(tmp_path / "curves.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) >= seen
    assert [step for step, _ in scalars(tmp_path)["loss"]][:seen] == steps[:seen]
    lines = pathlib.Path(tmp_path / "curves.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {"step": 1, "values": {"loss": 1.0}}
