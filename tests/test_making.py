"""Reports as main.py makes them: after training and inference, of runs that are there, and of what they lack."""

import json
import pathlib
import re
import shutil
import sys

import numpy as np
import pytest
from support.disk import complaint, contents
from support.jobs import die
from support.tiny import TINY_FLAGS, write_tiny_set
from support.trained import write_tiny_model

import main
from formats.timelines import read_timelines
from report.drawing import in_worker
from report.reading import read_run
from run.checkpoint import load_checkpoint, save_checkpoint
from run.lock import FolderLock

pytest.importorskip("vl_convert", reason="reports need vl-convert-python: pip install -r requirements-report.txt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The output folder of a run "x" of the tiny set that has written its report, and of its inference."""
    folder = tmp_path_factory.mktemp("made")
    data = write_tiny_set(folder / "tiny").path
    flags = ["--data_path", str(data), "--output_dir", str(folder / "out"), "--exp_name", "x"]
    assert main.main([*flags, *TINY_FLAGS, "--write_report", "--image_epochs", "2"]) == 0
    assert main.main([*flags, "--inference_only"]) == 0
    return folder / "out"


@pytest.fixture
def runs(trained, tmp_path):
    """A copy of the run, which a test may spoil, called "x", and another "y" beside it."""
    for name in ("x", "y"):
        shutil.copytree(trained / "x", tmp_path / "out" / name)
    return tmp_path / "out"


@pytest.fixture
def call(capsys):
    """call(*flags): code and output of main.py."""

    def called(*flags):
        capsys.readouterr()
        code = main.main([str(flag) for flag in flags])
        return code, *capsys.readouterr()

    return called


def test_training_ends_with_a_report_of_its_best_model(trained):
    run = read_run(trained / "x")
    page = (trained / "x" / "report.html").read_text()
    best = run.results["best"]["average_mAP"]["0.1:0.7"]
    assert page.lstrip().startswith("<!") and f"{100 * best:.1f}" in page
    assert set(run.timelines.videos) == {"test_0", "test_1", "test_2", "test_3"}
    assert all(video.mask is not None for video in run.timelines.sequences)
    assert {"loss/total", "average_mAP/0.1-0.7", "AP/Dive"} <= set(run.curves["name"])


def test_tensorboard_has_pictures_of_three_videos_and_the_final_numbers(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "x" / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == [
        "timeline/test_0",
        "timeline/test_1",
        "timeline/test_2",
    ]  # test_3 has no instance
    assert [image.step for image in events.Images("timeline/test_0")] == [8, 12]
    assert events.Images("timeline/test_0")[0].encoded_image_string.startswith(b"\x89PNG")
    results = json.loads((trained / "x" / "results.json").read_text())
    (final,) = events.Scalars("final/best_average_mAP_0.1-0.7")
    assert final.value == pytest.approx(results["best"]["average_mAP"]["0.1:0.7"])
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_inference_has_a_report_of_its_own(trained):
    run = read_run(trained / "x" / "inference")
    assert run.is_inference and (trained / "x" / "inference" / "report.html").exists()
    assert read_timelines(trained / "x" / "inference" / "timelines.npz").videos == run.timelines.videos


def test_a_report_is_written_again_with_what_the_run_lacks(runs, call):
    """Of the last run, since none is named; its timelines are recorded from its best.pt and its data."""
    before = (runs / "y" / "timelines.npz").read_bytes()
    for name in ("timelines.npz", "report.html"):
        (runs / "y" / name).unlink()
    (runs / "y" / "results.json").touch()
    code, out, err = call("--report", "--output_dir", runs)
    assert (code, err) == (0, "") and f"report: {runs / 'y' / 'report.html'}" in out
    assert "has no timelines.npz, which are recorded now" in out
    assert (runs / "y" / "report.html").exists() and len((runs / "y" / "timelines.npz").read_bytes()) == len(before)
    assert not list((runs / "y").glob("*.lock"))


def test_the_inference_of_a_run_can_be_reported_again(runs, call):
    for name in ("timelines.npz", "report.html"):
        (runs / "x" / "inference" / name).unlink()
    code, _, err = call("--report", runs / "x" / "inference", "--output_dir", runs)
    assert (code, err) == (0, "") and (runs / "x" / "inference" / "report.html").exists()


def test_two_runs_are_compared_in_a_page_of_their_own(runs, call, tmp_path):
    before = contents(runs)
    code, _, err = call("--report", "x", runs / "y", "--output_dir", runs, "--out", tmp_path / "both.html")
    assert (code, err) == (0, "") and (tmp_path / "both.html").exists()
    assert contents(runs) == before  # the runs stay as they are
    assert call("--report", "x", "y", "--output_dir", runs)[0] == 0 and (runs / "comparison.html").exists()


def test_an_earlier_version_kept_no_mask(runs, call):
    checkpoint = load_checkpoint(runs / "x" / "best.pt")
    del checkpoint.training["mask"]
    save_checkpoint(runs / "x" / "best.pt", checkpoint)
    (runs / "x" / "timelines.npz").unlink()
    code, out, _ = call("--report", "x", "--output_dir", runs)
    assert code == 0 and "what the adaptive mask has seen" in out
    assert all(video.mask is None for video in read_run(runs / "x").timelines.sequences)


def test_a_new_best_model_drops_the_timelines_of_the_one_before(runs, call, monkeypatch):
    """A run that is lengthened and then killed has none, rather than those of another model."""
    monkeypatch.setattr("run.history.History.score", lambda self, evaluation: evaluation.step)
    code, out, err = call(
        *("--resume", "--exp_name", "x", "--output_dir", runs, "--num_epochs", "4", "--save_minutes", "0"),
        "--no-write_report",
    )
    assert code == 0 and json.loads((runs / "x" / "results.json").read_text())["best"]["step"] == 16, out + err
    assert not (runs / "x" / "timelines.npz").exists() and not (runs / "x" / "report.html").exists()


def test_a_run_that_can_only_be_read_is_reported_elsewhere(runs, call, tmp_path, monkeypatch):
    def fails(self):
        raise OSError(30, "Read-only file system")

    (runs / "x" / "timelines.npz").unlink()
    monkeypatch.setattr(FolderLock, "__enter__", fails)
    before = contents(runs)
    code, _, err = call("--report", "x", "--output_dir", runs)
    assert "can't be written (Read-only file system); name another place with --out" in complaint(code, err)
    code, out, err = call("--report", "x", "--output_dir", runs, "--out", tmp_path / "a.html")
    assert (code, err) == (0, "") and "records timelines.npz again" in out and (tmp_path / "a.html").exists()
    plot = ("--plot", "test_1", "--exp_name", "x", "--output_dir", runs)
    assert call(*plot, "--out", tmp_path / "a.svg")[0] == 0
    assert contents(runs) == before


def test_a_picture_of_a_video(runs, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = ("--exp_name", "x", "--output_dir", runs)
    for out, start in (("a.svg", b"<svg"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")):
        assert call("--plot", "test_1", "--out", out, *place)[0] == 0
        assert pathlib.Path(out).read_bytes().startswith(start)
    assert call("--plot", "test_1", *place)[0] == 0 and pathlib.Path("test_1.pdf").exists()
    code, _, err = call("--plot", "tset_1", *place)
    assert "did you mean" in complaint(code, err)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "page"), ZeroDivisionError("bug"), MemoryError()]
)
def test_a_report_that_fails_does_not_fail_the_training(tiny, run, tmp_path, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr("report.making.in_worker", fails)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--write_report")
    assert outcome.code == 0 and outcome.err == ""
    assert outcome.out.count("without a report") == 1
    assert (tmp_path / "out" / "x" / "results.json").exists()


def test_a_drawing_process_that_dies_ends_nothing_else(tiny, run, tmp_path, monkeypatch):
    """As V8 does where memory is short, of which no exception tells."""
    monkeypatch.setattr("report.making.write_page", die)
    monkeypatch.setattr("report.snapshots.draw_pictures", die)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "2", "--write_report", "--image_epochs", "1")
    assert outcome.code == 0 and outcome.err == ""
    assert outcome.out.count("pictures for TensorBoard can't be drawn") == 1
    assert outcome.out.count("without a report: its process was killed (SIGKILL)") == 1
    assert (tmp_path / "out" / "x" / "timelines.npz").exists()


def test_without_the_drawing_package_one_note_says_how_to_get_it(tiny, run, tmp_path, monkeypatch):
    """Everything else is written, so that the report can be made elsewhere."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--write_report")
    assert outcome.code == 0 and outcome.err == ""
    notes = [line for line in outcome.out.splitlines() if "vl-convert-python" in line]
    assert len(notes) == 1 and "pip install" in notes[0]
    assert (tmp_path / "out" / "x" / "timelines.npz").exists()


def test_the_videos_files_are_played(runs, call, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "test_1.mp4").write_bytes(b"")
    assert call("--report", "x", "--output_dir", runs, "--video_dir", tmp_path / "videos")[0] == 0
    assert "test_1.mp4" in (runs / "x" / "report.html").read_text()


def test_mistakes_are_one_line(runs, call, tmp_path):
    place = ("--output_dir", runs)
    (runs / "y" / "results.json").unlink()
    for flags, said in (
        (("--report", "z"), "z: no such folder"),
        (("--report", "y"), "the run has made no evaluation yet"),
        (("--report", "x", runs / "x"), "names a run twice"),
        (("--report", "x", "--out", "x.pdf"), "ends in .html"),
        (("--plot", "test_1", "--out", "x.html"), "end the name with one of these"),
        (("--report", "x", "--plot", "test_1"), "contradict each other"),
        (("--plot", ""), "--plot: name a test video"),
        (("--report", "--exp_name", "x"), "contradict each other"),
        (("--report", "--resume"), "contradict each other"),
        (("--report", "x", "--video_dir", tmp_path / "none"), "no such folder"),
        (("--out", "x.html"), "only read with --predict or --report or --plot"),
        (("--report", "--output_dir", tmp_path / "none"), "no such file; train first"),
    ):
        before = contents(tmp_path)
        code, out, err = call(*(flags if "--output_dir" in flags else (*flags, *place)))
        assert said in complaint(code, err), flags
        assert out == "" and contents(tmp_path) == before


def test_a_run_in_training_is_left_alone(runs, call):
    with FolderLock(runs / "x"):
        before = contents(runs)
        code, _, err = call("--report", "x", "--output_dir", runs)
        assert re.search(r"in use by process \d+", complaint(code, err)) and "or give another run" in err
        assert contents(runs) == before


def test_data_that_are_not_the_runs_are_refused(runs, call, tmp_path):
    """Another test split than the one that the detections are of: nothing is written."""
    other = write_tiny_set(tmp_path / "other")
    for name in ("split_test.txt",):
        (other.path / name).write_text("test_0\ntest_2\n")
    (runs / "x" / "timelines.npz").unlink()
    code, _, err = call("--report", "x", "--output_dir", runs, "--data_path", other.path)
    assert "video 'test_1'" in complaint(code, err)
    assert not (runs / "x" / "timelines.npz").exists()


@pytest.fixture
def predicted(tmp_path, monkeypatch, call):
    """predicted(*flags) predicts on the tiny set's test videos into the folder "p", and gives the code and what is printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "report.making.in_worker", lambda function, job: function(job)
    )  # a process takes seconds to start
    data = write_tiny_set(tmp_path / "tiny").path / "features" / "test"
    write_tiny_model(tmp_path / "m.pt")

    def predict(*flags):
        return call("--predict", data, "--model_file", "m.pt", "--device", "cpu", "--out", "p", *flags)

    return predict


def test_predictions_end_with_a_report(predicted, tmp_path, monkeypatch):
    monkeypatch.setattr("report.making.in_worker", in_worker)
    code, out, err = predicted("--write_report")
    assert (code, err) == (0, "") and "report: p/report.html" in out
    run = read_run(tmp_path / "p")
    assert run.is_prediction and run.timelines.videos == ("test_0", "test_1", "test_2", "test_3")
    assert not run.timelines.labels.any() and len(run.timelines.truth) == 0 and not run.notes
    page = (tmp_path / "p" / "report.html").read_text()
    assert "What was found" in page and "SAL, trained on what happens in videos" in page
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        *("detections.json", "detections.csv", "results.json", "timelines.npz", "report.html")
    }


def test_timelines_of_predictions_are_those_of_the_set(predicted, tmp_path, call):
    """--inference_only on the same videos records the same, but for what it knows of labels."""
    assert predicted("--write_report")[0] == 0
    flags = ["--data_path", tmp_path / "tiny", "--output_dir", tmp_path / "out", "--device", "cpu", "--write_report"]
    assert call("--inference_only", "--model_file", "m.pt", *flags)[0] == 0
    one, other = (read_timelines(tmp_path / place / "timelines.npz") for place in ("p", "out/m/inference"))
    assert one.videos == other.videos
    np.testing.assert_array_equal(one.class_scores, other.class_scores)
    np.testing.assert_array_equal(one.predicted, other.predicted)
    for here, there in zip(one.sequences, other.sequences, strict=True):
        for name in ("actionness", "pseudo_label"):
            np.testing.assert_array_equal(getattr(here, name), getattr(there, name))


def test_the_mask_is_recorded_where_the_model_has_one(trained, predicted, tmp_path):
    shutil.copy(trained / "x" / "best.pt", tmp_path / "m.pt")
    assert predicted("--write_report")[0] == 0
    assert all(s.mask is not None for s in read_timelines(tmp_path / "p" / "timelines.npz").sequences)


def test_a_report_of_predictions_is_written_again_with_a_player(predicted, tmp_path, call):
    assert predicted("--write_report")[0] == 0
    (tmp_path / "p" / "report.html").unlink()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "test_1.mp4").touch()
    code, out, err = call("--report", "p", "--video_dir", "videos")
    assert (code, err) == (0, "") and "report: p/report.html" in out
    assert '"media":{"test_1":"../videos/test_1.mp4"}' in (tmp_path / "p" / "report.html").read_text()
    (tmp_path / "p" / "timelines.npz").unlink()
    code, _, err = call("--report", "p")
    assert code == 2 and "p: has no timelines.npz; make the predictions again" in err


def test_predictions_without_what_draws_reports(predicted, tmp_path, monkeypatch):
    """They are complete, and the note says how to get it."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    code, out, _ = predicted("--write_report")
    assert code == 0 and "note: p: without a report: " in out and "requirements-report.txt" in out
    assert (tmp_path / "p" / "timelines.npz").exists() and not (tmp_path / "p" / "report.html").exists()


def test_predictions_without_a_report_record_nothing(predicted, tmp_path):
    code, out, _ = predicted("--no-write_report")
    assert code == 0 and "report" not in out and not (tmp_path / "p" / "timelines.npz").exists()
