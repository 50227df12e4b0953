"""main.py from end to end: train, then infer, as processes and in-process."""

import json
import subprocess
import sys

import pytest
import torch
from support.paths import ROOT
from support.tiny import TINY_FLAGS

import main
import train
from eval.detection import main as evaluate_files


def table_rows(text):
    return {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith(("tIoU", "best", "last"))
    }


def test_train_then_infer_as_processes(tiny, tmp_path):
    def call(*flags):
        command = [
            sys.executable,
            "main.py",
            "--data_path",
            str(tiny.path),
            "--output_dir",
            str(tmp_path / "out"),
            *flags,
        ]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    trained = call(*TINY_FLAGS, "--exp_name", "x")
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""  # no progress bars where nobody looks
    rows = table_rows(trained.stdout)
    assert "\nmAP % by protocol sal, 4 videos, " in trained.stdout
    assert rows["tIoU"] == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "avg", "0.1:0.5", "avg", "0.1:0.7"]
    inferred = call("--inference_only")  # the last experiment, with its own options
    assert inferred.returncode == 0, inferred.stderr
    assert table_rows(inferred.stdout)["best.pt"] == rows["best"]


def test_inference_writes_what_training_wrote_for_its_best(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x")
    folder = tmp_path / "out" / "x"
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert run(tiny.path, "--inference_only").code == 0
    detections = (folder / "inference" / "detections.json").read_text()
    assert detections == (folder / "detections_best.json").read_text()
    results = json.loads((folder / "inference" / "results.json").read_text())
    trained = json.loads((folder / "results.json").read_text())
    for name in ("mAP", "average_mAP", "video_accuracy"):
        assert results[name] == trained["best"][name]
    assert before == {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != "inference"}


def test_the_evaluator_agrees_with_the_run(tiny, run, tmp_path, capsys):
    run(tiny.path, "--exp_name", "x")
    folder = tmp_path / "out" / "x"
    files = ["--ground_truth", str(tiny.gt), "--detections", str(folder / "detections_best.json")]
    assert evaluate_files([*files, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    best = json.loads((folder / "results.json").read_text())["best"]
    assert printed["mAP"] == pytest.approx(best["mAP"], abs=1e-12)
    assert printed["average_mAP"] == pytest.approx(best["average_mAP"]["0.1:0.7"], abs=1e-12)


@pytest.mark.parametrize("renamed", [False, True], ids=["thumos names", "activitynet names"])
def test_a_published_state_dict_is_a_model_file(tiny, run, tmp_path, renamed):
    run(tiny.path, "--exp_name", "x")
    state = torch.load(tmp_path / "out" / "x" / "best.pt", weights_only=True)["model"]
    if renamed:
        state = {name.replace("encoder.", "base_module."): value for name, value in state.items()}
    torch.save(state, tmp_path / "published.pth")
    outcome = run(tiny.path, "--inference_only", "--model_file", str(tmp_path / "published.pth"), "--exp_name", "pub")
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "out" / "pub" / "inference" / "results.json").read_text())
    trained = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["mAP"] == trained["best"]["mAP"]


def test_inference_flags_override_the_experiments_own(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x")
    assert run(tiny.path, "--inference_only", "--nms_thresh", "0.9", "--no-soft_nms").code == 0
    options = json.loads((tmp_path / "out" / "x" / "inference" / "results.json").read_text())["options"]
    assert (options["nms_thresh"], options["soft_nms"], options["hidden_size"]) == (0.9, False, 8)


def test_verbose_ends_with_ap_per_class(tiny, run):
    out = run(tiny.path, "--exp_name", "x", "--verbose").out
    assert "AP per class" in out and all(name in out for name in ("Dive", "Jump", "Throw"))
    assert sum(line.startswith("step ") for line in out.splitlines()) == 2  # every evaluation
    quiet = run(tiny.path, "--exp_name", "y").out
    assert "AP per class" not in quiet


def test_overwrite_starts_anew(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x")
    run(tiny.path, "--inference_only")
    old_curves = set((tmp_path / "out" / "x" / "tensorboard").iterdir())
    assert run(tiny.path, "--exp_name", "x").code == 2
    assert run(tiny.path, "--exp_name", "x", "--overwrite", "--num_epochs", "1").code == 0
    assert json.loads((tmp_path / "out" / "x" / "results.json").read_text())["steps"] == 4
    assert not (tmp_path / "out" / "x" / "inference").exists()
    assert not old_curves & set((tmp_path / "out" / "x" / "tensorboard").iterdir())
    assert json.loads((tmp_path / "out" / "x.old" / "results.json").read_text())["steps"] == 12


def test_a_run_that_saved_nothing_gives_way(tiny, run, tmp_path, monkeypatch):
    def dies(*args, **kwargs):
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_step", dies)
        with pytest.raises(SystemError):
            run(tiny.path, "--exp_name", "x")
    assert run(tiny.path, "--exp_name", "x").code == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]


def test_runs_without_a_name_that_start_together_stay_apart(tiny, run, tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda _: "now")
    for _ in range(3):
        assert run(tiny.path, "--num_epochs", "1").code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"tiny_now{n}" for n in ("", "-2", "-3")]


def test_temporary_files_of_a_killed_run_are_removed_on_resume(tiny, run, tmp_path):
    run(tiny.path, "--exp_name", "x")
    (tmp_path / "out" / "x" / ".last.pt.123.tmp").write_bytes(b"half")
    assert run(tiny.path, "--exp_name", "x", "--resume").code == 0
    assert not list((tmp_path / "out" / "x").glob(".*.tmp"))


def test_a_relative_data_path_works_from_another_folder(tiny, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tiny.path.parent)
    assert run(tiny.path.name, "--exp_name", "x").code == 0
    monkeypatch.chdir("/")
    assert main.main(["--inference_only", "--model_file", str(tmp_path / "out" / "x" / "best.pt")]) == 0


def test_ctrl_c_outside_the_loop_is_one_line(tiny, run, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_tools.opening.load_dataset", interrupted)
    outcome = run(tiny.path)
    assert (outcome.code, outcome.err) == (1, "main.py: interrupted\n")


def test_an_experiment_without_a_name_gets_one(tiny, run, tmp_path):
    assert run(tiny.path).code == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("tiny_2")


def test_resampling_shorter_and_longer_videos_works_in_test(tiny, run):
    assert run(tiny.path, "--num_segments", "150").code == 0


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model_file", "m.pt"], "--model_file"),
        (["--resume", "--inference_only"], "--inference_only"),
        (["--resume", "--overwrite"], "--overwrite"),
    ],
)
def test_flags_that_contradict_each_other(tiny, run, tmp_path, flags, named):
    outcome = run(tiny.path, *flags)
    assert outcome.code == 2 and named in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
