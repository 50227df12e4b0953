"""The folder of a run, read for its report: what fits is read, anything else is refused in one line that says where."""

import json
import pathlib
import re

import numpy as np
import pytest
from support.reported import write_run

from formats.curve_file import append_point, damaged_lines, drop_points, read_points
from formats.run_results import COMPARED, read_results
from report.reading import model_of, read_run
from utils.errors import InputError


def edit(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = read_run(write_run(tmp_path / "first"))
    assert run.name == "first" and not run.is_inference
    assert run.results["best"]["mAP"] == {"0.5": 0.5}
    assert run.options.data.num_segments == 24
    # "b" comes first in the file of detections, and "jump" before "run": both are coded by the timelines.
    assert run.timelines.videos == ("a", "b") and run.timelines.classes == ("run", "jump")
    assert run.detections.video.tolist() == [1, 0] and run.detections.label.tolist() == [1, 0]
    assert run.detections.score.tolist() == [0.25, 0.75]
    assert run.curves.to_dict("list") == {
        "step": [1, 1, 2],
        "name": ["loss/total", "mAP/0.5", "loss/total"],
        "value": [3, 0.5, 2],
    }
    assert run.notes == ()


def test_an_inference_is_read_too(tmp_path):
    run = read_run(write_run(tmp_path / "first" / "inference", inference=True))
    assert run.name == "first/inference" and run.is_inference and len(run.curves) == 0
    assert list(run.curves.columns) == ["step", "name", "value"] and run.notes == ()


def test_a_run_without_curves_says_so(tmp_path):
    folder = write_run(tmp_path / "first")
    (folder / "curves.jsonl").unlink()
    assert "curves.jsonl" in read_run(folder).notes[0]


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["results.json"], "has no results.json: not the folder of a run"),
        (["timelines.npz"], "no timelines.npz; main.py --report"),
        (
            ["detections_best.json"],
            "no detections_best.json; copy detections_best.json back, or run main.py --inference_only",
        ),
        (["detections_best.json", "timelines.npz"], "no detections_best.json and no timelines.npz"),
    ],
)
def test_what_is_missing_is_named(missing, said, tmp_path):
    folder = write_run(tmp_path / "first")
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(InputError, match=re.escape(said)):
        read_run(folder)


def test_a_run_that_has_not_evaluated_is_told_from_a_folder_of_another_kind(tmp_path):
    folder = write_run(tmp_path / "first")
    (folder / "results.json").unlink()
    (folder / "last.pt").touch()
    with pytest.raises(InputError, match=r"no evaluation yet.*--resume --exp_name first"):
        read_results(folder)
    with pytest.raises(InputError, match="no such folder"):
        read_results(tmp_path / "other")
    with pytest.raises(InputError, match="a file; name the folder"):
        read_results(folder / "last.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["best"]["mAP"].update({"0.5": 1.5}), "best.mAP at '0.5' is 1.5, not a number from 0 to 1"),
        (lambda r: r["best"]["mAP"].update({"0.5": float("nan")}), "best.mAP at '0.5' is nan"),
        (lambda r: r["best"]["mAP"].update({"0.5": True}), "best.mAP at '0.5' is True"),
        (lambda r: r["last"]["mAP"].update({"0.5": None}), "last.mAP at '0.5' is None, not a number from 0 to 1"),
        (lambda r: r["last"].update(compared=dict.fromkeys(COMPARED, 10**400)), "last.compared, videos is 1000000"),
        (lambda r: r["last"].update(step=2**53 + 1), "last.step is 9007199254740993, not a count"),
        (lambda r: r.update(seconds={"training": 10**400}), "seconds training is 1000000"),
        (lambda r: r["last"].update(step="3"), "last.step is '3', not a count"),
        (lambda r: r["last"].update(average_mAP=[0.5]), "last.average_mAP is [0.5], not an object"),
        (lambda r: r["best"]["per_class_AP"].update(run=3), "best.per_class_AP of 'run' is 3, not an object"),
        (lambda r: r["best"].update(video_accuracy="x" * 999), "best.video_accuracy is 'xx"),
        (lambda r: r.update(best=None), "best is None, not an object"),
        (lambda r: r.update(history={}), "history is {}, not a list"),
        (lambda r: r["history"].append(3), "history, entry 1 is 3, not an object"),
        (lambda r: r["history"].append({"step": 1, "epoch": -1}), "history, entry 1, epoch is -1, not a count"),
        (lambda r: r.update(options=3), "options is 3, not an object"),
        (lambda r: r["options"].update(batch_size="x\x1b[2J"), "its option batch_size is 'x"),
        (lambda r: r["options"].update(bitch_size=3), "its option 'bitch_size' is unknown"),
        (lambda r: r["history"][0].update(val_loss=-1), "history, entry 0, val_loss is -1, not a number from 0"),
        (lambda r: r.update(select="most"), "select is 'most', not one of test, last, val"),
        (lambda r: r.update(select=[]), "select is [], not one of"),
        (lambda r: r.update(select="val", val=None), "has no val, which it selects"),
        (lambda r: r.update(val={}), "has no val.mAP"),
        (lambda r: r.update(held_out=[3]), "a held-out video is 3, not a text"),
        (lambda r: r.pop("best"), "is of no run of this program"),
        (lambda r: (r.pop("best"), r.update(videos={})), "is of a run of --predict, which measures nothing"),
    ],
)
def test_a_malformed_entry_is_named(change, said, tmp_path):
    folder = write_run(tmp_path / "first")
    edit(folder / "results.json", change)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        read_run(folder)
    assert str(folder / "results.json") in str(caught.value) and len(str(caught.value)) < 500


PREDICTED = {"videos": {"a": {"seconds": 4.0, "fps": 25}, "b": {"seconds": 6.0, "fps": 25}}, "detections": 2}


def write_predictions(folder):
    """Those of the run, without evaluations."""
    write_run(folder, inference=True)
    edit(folder / "results.json", lambda r: (r.pop("mAP"), r.pop("average_mAP"), r.update(PREDICTED)))
    return folder


def test_predictions_are_read_where_nothing_need_be_measured(tmp_path):
    run = read_run(write_predictions(tmp_path / "found"))
    assert run.is_prediction and not run.is_inference and len(run.curves) == 0
    # The timelines of this one have ground truth, which predictions never have.
    (note,) = run.notes
    assert "0 instances in results.json, 2 in timelines.npz" in note
    with pytest.raises(InputError, match="of a run of --predict, which measures nothing"):
        read_results(tmp_path / "found")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(videos=[]), "videos is [], not an object"),
        (lambda r: r["videos"].update(a=3), "video 'a' is 3, not an object"),
        (lambda r: r["videos"]["a"].update(fps=float("inf")), "video 'a', fps is inf, not a number from 0"),
        (lambda r: r["videos"]["a"].pop("seconds"), "video 'a', seconds is None"),
        (lambda r: r["videos"]["a"].update(file=3), "video 'a', file is 3, not a text"),
        (lambda r: r.update(detections=-1), "detections is -1, not a count"),
        (lambda r: r.update(method={}), "method is {}, not a text"),
        (lambda r: r.update(model_file=[]), "model_file is [], not a text"),
        (lambda r: r.update(extraction=[]), "extraction is [], not an object"),
        (lambda r: r.update(left_out=3), "left_out is 3, not an object"),
    ],
)
def test_a_malformed_entry_of_predictions_is_named(change, said, tmp_path):
    folder = write_predictions(tmp_path / "found")
    edit(folder / "results.json", change)
    with pytest.raises(InputError, match=re.escape(said)):
        read_run(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update({"c\x1b": []}), r"video 'c\x1b': not in timelines.npz"),
        (lambda r: r["a"][0].update(label="fly"), "label 'fly': not in timelines.npz beside it; fix the entry"),
        (lambda r: r["a"][0].update(score="high"), "video 'a', detection 0"),
    ],
)
def test_detections_that_do_not_fit_the_timelines_are_named(change, said, tmp_path):
    folder = write_run(tmp_path / "first")
    edit(folder / "detections_best.json", lambda content: change(content["results"]))
    with pytest.raises(InputError, match=re.escape(said)):
        read_run(folder)


def test_points_are_read_again_and_those_of_a_resumed_run_replace_earlier_ones(tmp_path):
    path = tmp_path / "curves.jsonl"
    with open(path, "ab") as file:
        append_point(file, {"a": 1.0, "b": float("inf")}, step=1)
        append_point(file, {"a": 2.0}, step=2)
        append_point(file, {"a": 3.0}, step=2)
        file.write(b'{"step": 3, "val')  # killed
    points = read_points(path)
    assert points[0] == (1, "a", 1.0) and points[2:] == [(2, "a", 3.0)]
    assert points[1][:2] == (1, "b") and np.isnan(points[1][2])
    drop_points(path, first_step=2)
    assert path.read_bytes() == b'{"step": 1, "values": {"a": 1.0, "b": null}}\n'
    assert read_points(tmp_path / "none") == []


@pytest.mark.parametrize(
    "line",
    [
        *("3", "{}", '{"step": -1, "values": {}}', '{"step": 1, "values": {"a": "x"}}', "[" * 9999),
        *('{"step": 9223372036854775808, "values": {}}', '{"step": 1, "values": {"a": 1' + "0" * 400 + "}}"),
    ],
)
def test_a_malformed_line_of_curves_is_left_out_and_named(line, tmp_path):
    folder = write_run(tmp_path / "first")
    path = folder / "curves.jsonl"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{line}\n{second}\n")
    assert damaged_lines(path) == [2]
    run = read_run(folder)
    assert run.curves["step"].tolist() == [1, 1, 2]
    assert run.notes == ("curves.jsonl: 1 damaged line, left out of the curves; the first is line 2",)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "detections_best.json",
            lambda d: d["results"].update(a=[]),
            "50.0 % in results.json, 0.0 % by detections_best",
        ),
        ("results.json", lambda r: r["best"]["mAP"].update({"0.5": 0.75}), "75.0 % in results.json, 50.0 % by"),
        (
            "results.json",
            lambda r: r["best"].update(mAP=None, average_mAP=None),
            "ground truth in timelines.npz, none in",
        ),
        (
            "results.json",
            lambda r: r["best"].update(compared={"videos": 2, "instances": 2, "detections": 3}),
            "3 detections in results.json, 2 in detections_best.json",
        ),
        (
            "results.json",
            lambda r: r["best"].update(compared={"videos": 4, "instances": 3, "detections": 2}),
            "4 videos in results.json, 2 in timelines.npz; 3 instances in results.json, 2 in timelines.npz",
        ),
    ],
)
def test_files_of_different_runs_are_told(name, change, said, tmp_path):
    folder = write_run(tmp_path / "first")
    edit(folder / name, change)
    (note,) = read_run(folder).notes
    assert note.startswith("these files are not of one run: ") and said in note


def test_what_ties_may_move_is_no_contradiction(tmp_path):
    folder = write_run(tmp_path / "first")
    edit(folder / "results.json", lambda r: r["best"]["mAP"].update({"0.5": 0.5009}))
    assert read_run(folder).notes == ()
    edit(folder / "results.json", lambda r: r["best"]["mAP"].update({"0.5": 0.5011}))
    assert len(read_run(folder).notes) == 1


def test_an_inference_is_held_against_its_own_numbers(tmp_path):
    folder = write_run(tmp_path / "first" / "inference", inference=True)
    edit(folder / "detections.json", lambda d: d["results"].update(a=[]))
    assert "by detections.json" in read_run(folder).notes[0]


def test_a_model_stated_relative_to_another_folder_is_found_beside_its_inference(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "first" / "inference"
    folder.mkdir(parents=True)
    stated = {"model_file": "output/first/last.pt"}
    assert model_of(folder, stated) == pathlib.Path("output/first/last.pt")  # nowhere: named as it is stated
    (tmp_path / "first" / "last.pt").touch()
    assert model_of(folder, stated) == tmp_path / "first" / "last.pt"
    assert model_of(folder.parent, {}) == folder.parent / "best.pt"


@pytest.mark.parametrize("select", ["test", "last", "val"])
def test_the_files_of_a_run_are_of_the_evaluation_it_selects(select, tmp_path):
    folder = write_run(tmp_path / "first")
    chosen = {"test": "best", "last": "last", "val": "val"}[select]

    def state(results):
        right = results["best"]
        for name in ("best", "last", "val"):
            results[name] = right if name == chosen else {**right, "mAP": {"0.5": 0.75}}
        results["select"] = select

    edit(folder / "results.json", state)
    assert read_run(folder).notes == ()
    edit(folder / "results.json", lambda results: results[chosen]["mAP"].update({"0.5": 0.75}))
    assert "75.0 % in results.json, 50.0 % by" in read_run(folder).notes[0]
