"""python -m eval.detection on files that do not fit each other: matched and said, counted and said, or refused in one line."""

import json
import subprocess
import sys

import pytest
from support.paths import ROOT

from eval.detection import main
from eval.printed import average_spans
from utils.errors import InputError
from utils.ranges import parse_grid


def found(label="Jump", segment=(1, 3), score=0.9):
    return {"label": label, "score": score, "segment": list(segment)}


def annotated(*segments, label="Jump", subset="test", **more):
    return {"subset": subset, "annotations": [{"label": label, "segment": list(s)} for s in segments], **more}


@pytest.fixture
def files(tmp_path):
    """files(database, results): the two files written, and their flags."""

    def write(database, results):
        (tmp_path / "gt.json").write_text(json.dumps({"database": database}))
        (tmp_path / "found.json").write_text(results if isinstance(results, str) else json.dumps({"results": results}))
        return ["--ground_truth", str(tmp_path / "gt.json"), "--detections", str(tmp_path / "found.json")]

    return write


@pytest.fixture
def evaluate(files, capsys):
    """evaluate(database, results, *flags): the JSON object, with notes by key."""

    def call(database, results, *flags):
        assert main([*files(database, results), "--tious", "0.5", "--json", *flags]) == 0, capsys.readouterr().err
        printed = json.loads(capsys.readouterr().out)
        printed["notes"] = {note.pop("key"): note for note in printed["notes"]}
        return printed

    return call


@pytest.fixture
def refused(files, capsys):
    """refused(database, results, *flags): the one line of the refusal."""

    def call(database, results, *flags):
        assert main([*files(database, results), "--tious", "0.5", *flags]) == 2
        out, err = capsys.readouterr()
        (line,) = err.splitlines()
        assert out == "" and len(line) < 600
        return line

    return call


ONE = {"a": annotated((1, 3))}
TWO = {"a": annotated((1, 3)), "b": annotated((5, 8))}
BOTH = {"a": [found()], "b": [found(segment=(5, 8))]}


def test_what_is_compared_is_said_by_name(evaluate, files, capsys):
    printed = evaluate(TWO, BOTH)
    assert printed["compared"] == {"videos": 2, "instances": 2, "classes": 1, "detections": 2}
    assert printed["notes"] == {} and printed["mAP"] == {"0.5": 1}
    assert main(files(TWO, BOTH)) == 0
    assert capsys.readouterr().out.startswith(
        "compared by sal, subset test: 2 videos, 2 instances, 1 class, 2 detections\n\n"
    )


# Names of videos


@pytest.mark.parametrize("spelled", ["v_{}", "{}.mp4", "{}.npy", "videos/{}", "test/v_{}.avi"])
def test_other_names_of_videos_are_matched_and_said(evaluate, spelled):
    other = {spelled.format(video): entries for video, entries in BOTH.items()}
    printed = evaluate(TWO, other)
    assert printed["mAP"] == {"0.5": 1} and printed["compared"]["detections"] == 2
    assert printed["notes"]["respelled_videos"]["videos"] == [
        f"{name} = {name_of}" for name, name_of in zip(other, "ab", strict=True)
    ]
    back = {spelled.format(video): entry for video, entry in TWO.items()}
    assert evaluate(back, BOTH)["mAP"] == {"0.5": 1}


def test_a_name_that_itself_begins_with_v(evaluate, refused):
    """YouTube's ids may; result files put one more before every name."""
    database = {"v_a": annotated((1, 3)), "b": annotated((5, 8))}
    printed = evaluate(database, {"v_v_a": [found()], "v_b": [found(segment=(5, 8))]})
    assert printed["mAP"] == {"0.5": 1} and len(printed["notes"]["respelled_videos"]["videos"]) == 2
    assert evaluate({"v_v_a": annotated((1, 3))}, {"v_a": [found()]})["mAP"] == {"0.5": 1}
    line = refused({"v_a": annotated((1, 3)), "a": annotated((5, 8))}, {"v_v_a": [found()], "v_a": []})
    assert "'v_v_a' may be 'v_a', 'a'" in line


def test_upper_case_and_unicode_forms(evaluate):
    database = {"Vid\u00e9o": annotated((1, 3))}
    for name in ("Vide\u0301o", "vid\u00e9o", "VIDE\u0301O"):
        printed = evaluate(database, {name: [found()]})
        assert printed["mAP"] == {"0.5": 1} and "respelled_videos" in printed["notes"]


def test_no_video_matches(refused):
    line = refused(TWO, {"x": [found()], "y": []})
    assert "none of its videos" in line and "'x', 'y'" in line and "'a', 'b'" in line


def test_videos_of_another_subset_alone(refused):
    line = refused({**TWO, "c": annotated((0, 1), subset="validation")}, {"c": [found()]})
    assert "validation" in line and "--subset" in line


@pytest.mark.parametrize("results", [{}, {"results": 3}])
def test_no_videos_at_all(refused, results):
    assert "result file" in refused(ONE, results if not results else json.dumps(results))


@pytest.mark.parametrize(
    "names", [("a", "v_a"), ("a.mp4", "a.avi"), ("x/a", "y/a"), ("A", "a")], ids=["v_", "extension", "path", "case"]
)
def test_a_video_twice_under_two_names_is_refused(refused, names):
    line = refused(ONE, {name: [found()] for name in names})
    assert names[0] in line or names[1] in line


def test_a_name_that_may_mean_two_videos_is_refused(refused):
    line = refused({"abC": annotated((1, 3)), "abc": annotated((1, 3))}, {"ABC": [found()]})
    assert "'ABC' may be 'abC', 'abc'" in line


def test_a_video_twice_under_one_name_is_refused(refused):
    entries = json.dumps([found()])
    assert "'a' twice" in refused(ONE, f'{{"results": {{"a": {entries}, "a": {entries}}}}}')


def test_exact_names_that_differ_in_case_are_two_videos(evaluate):
    printed = evaluate(
        {"ab": annotated((1, 3)), "AB": annotated((5, 8))}, {"AB": [found(segment=(5, 8))], "ab": [found()]}
    )
    assert printed["mAP"] == {"0.5": 1} and printed["notes"] == {}


def test_unknown_videos_are_false_positives_unless_skipped_or_refused(evaluate, refused):
    results = {**BOTH, "z": [found(score=1), found(score=1)]}
    printed = evaluate(TWO, results)
    assert printed["notes"]["unknown_videos"]["videos"] == ["z"]
    assert printed["notes"]["unknown_videos"]["detections"] == 2
    assert printed["mAP"]["0.5"] == pytest.approx(0.5) and printed["compared"]["detections"] == 4
    assert evaluate(TWO, results, "--unknown", "skip")["mAP"] == {"0.5": 1}
    assert "'z'" in refused(TWO, results, "--strict")


def test_missing_videos_count_as_missed_unless_skipped(evaluate):
    printed = evaluate(TWO, {"a": [found()]})
    note = printed["notes"]["missing_videos"]
    assert printed["mAP"] == {"0.5": 0.5} and note["videos"] == ["b"] and note["instances"] == 1
    printed = evaluate(TWO, {"a": [found()]}, "--missing", "skip")
    assert printed["mAP"] == {"0.5": 1} and printed["compared"]["videos"] == 1
    assert printed["notes"]["missing_videos"]["videos"] == ["b"]


def test_three_names_in_a_line_and_all_with_verbose(files, capsys):
    database = {f"v{i}": annotated((1, 3)) for i in range(9)}
    for flags, says in (([], "'v1', 'v2', 'v3' and 5 more"), (["--verbose"], "'v7', 'v8'")):
        assert main([*files(database, {"v0": [found()]}), *flags]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
        assert "8 videos, 8 instances" in line and says in line


# The videos that are evaluated


def test_detections_in_other_subsets_are_not_evaluated(evaluate):
    database = {**TWO, "c": annotated((1, 3), subset="train")}
    printed = evaluate(database, {**BOTH, "c": [found(score=1)]})
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["videos_of_other_subsets"]["detections"] == 1


@pytest.mark.parametrize("name", ["Test", "TESTING", "test"])
def test_a_subset_by_any_of_its_names(evaluate, name):
    assert evaluate({"a": annotated((1, 3), subset=name)}, {"a": [found()]})["mAP"] == {"0.5": 1}


def test_unmarked_videos_are_left_out(evaluate):
    database = {**ONE, "t": {"subset": "test", "annotations": [], "labels": ["Jump"]}}
    printed = evaluate(database, {"a": [found()], "t": [found(score=1)]})
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["left_out_videos"]["videos"] == ["t"]


def test_videos_without_actions_are_evaluated(evaluate):
    database = {**ONE, "t": {"subset": "test", "annotations": []}}
    printed = evaluate(database, {"a": [found()], "t": [found(score=1)]})
    assert printed["mAP"] == {"0.5": 0.5} and printed["notes"] == {}


THUMOS = {f"video_test_{n}": annotated((1, 3)) for n in ("0000270", "0000004", "0001292", "0001496")}


def test_thumos_leaves_out_three_unless_they_are_listed(evaluate, tmp_path):
    results = {video: [found()] if video.endswith("4") else [] for video in THUMOS}
    printed = evaluate(THUMOS, results)
    assert printed["mAP"] == {"0.5": 1} and len(printed["notes"]["left_out_videos"]["videos"]) == 3
    (tmp_path / "split_test.txt").write_text("video_test_0000270\nvideo_test_0000004\n")
    printed = evaluate(THUMOS, results)
    assert printed["mAP"] == {"0.5": 0.5} and printed["listed_in"] == str(tmp_path / "split_test.txt")
    assert evaluate(THUMOS, results, "--split", "none")["mAP"] == {"0.5": 1}


def test_a_split_file_of_ones_own(evaluate, refused, tmp_path):
    (tmp_path / "mine.txt").write_text("v_b\n")
    printed = evaluate(TWO, BOTH, "--split", str(tmp_path / "mine.txt"))
    assert printed["compared"]["videos"] == 1 and printed["notes"]["left_out_videos"]["videos"] == ["a"]
    (tmp_path / "mine.txt").write_text("zz\n")
    assert "'zz'" in refused(TWO, BOTH, "--split", str(tmp_path / "mine.txt"))


def test_the_split_file_is_that_of_the_subset_that_is_tested_on(evaluate, tmp_path):
    (tmp_path / "split_test.txt").write_text("a\n")
    database = {"a": annotated((1, 3), subset="val"), "b": annotated((5, 8), subset="val")}
    database["c"] = annotated((0, 1), subset="train")
    assert evaluate(database, BOTH, "--subset", "val")["compared"]["videos"] == 1
    assert evaluate(database, {"c": []}, "--subset", "train")["compared"]["videos"] == 1
    assert evaluate(database, {"c": []}, "--subset", "train")["listed_in"] is None


def test_a_split_file_of_another_subset_is_not_read(evaluate, tmp_path):
    """Where both are labelled, each subset has the videos of its own file, or all of its own."""
    database = {"a": annotated((1, 3), subset="val"), "b": annotated((5, 8)), "c": annotated((0, 1), subset="train")}
    (tmp_path / "split_train.txt").write_text("c\n")
    (tmp_path / "split_test.txt").write_text("b\n")
    printed = evaluate(database, {"a": [found()]}, "--subset", "val")
    assert printed["listed_in"] is None and printed["mAP"] == {"0.5": 1}
    (tmp_path / "split_val.txt").write_text("a\n")
    assert evaluate(database, {"a": [found()]}, "--subset", "val")["listed_in"] == str(tmp_path / "split_val.txt")
    assert evaluate(database, {"b": []})["listed_in"] == str(tmp_path / "split_test.txt")


# Segments


def test_an_empty_instance_is_missed_unless_left_out(evaluate):
    database = {"a": annotated((1, 3), (3, 3)), "b": annotated((5, 8), (8, 6))}
    printed = evaluate(database, BOTH)
    assert printed["mAP"] == {"0.5": 0.5} and printed["notes"]["empty_instances"]["instances"] == 2
    printed = evaluate(database, BOTH, "--skip_empty")
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["empty_instances"]["videos"] == ["a", "b"]


def test_skipping_the_only_instance_leaves_the_video_unmarked(evaluate):
    printed = evaluate({**ONE, "b": annotated((3, 3))}, {"a": [found()], "b": [found(score=1)]}, "--skip_empty")
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["left_out_videos"]["videos"] == ["b"]


@pytest.mark.parametrize("segment", [(3, 3), (9, 2), ("x", 1), (1,), (float("nan"), 2)])
def test_mistakes_outside_the_evaluated_videos_do_not_matter(evaluate, segment):
    printed = evaluate({**ONE, "c": annotated(segment, subset="training")}, {"a": [found()]})
    assert printed["mAP"] == {"0.5": 1} and printed["notes"] == {}


@pytest.mark.parametrize("segment", [("x", 1), (1,), (float("nan"), 2), (0, 10**400), (0, 1e12)])
def test_mistakes_in_the_evaluated_videos_are_refused(refused, segment):
    line = refused(
        {"a": annotated(segment), "b": annotated((5, 8))}, BOTH
    )  # not only left out as a video without segments
    assert "video 'a', annotation 0" in line


@pytest.mark.parametrize("segment", [(4.1, 4.1), (5, 4.9), ("2", "2")])
def test_an_empty_detection_is_a_false_positive_unless_left_out(evaluate, segment):
    results = {"a": [found(segment=segment, score=1), found()]}
    printed = evaluate(ONE, results)
    assert printed["mAP"] == {"0.5": 0.5} and printed["notes"]["empty_detections"]["detections"] == 1
    assert evaluate(ONE, results, "--skip_empty")["mAP"] == {"0.5": 1}


def test_detections_after_the_end_are_said(evaluate):
    printed = evaluate({"a": annotated((1, 3), duration=10)}, {"a": [found(), found(segment=(25, 75))]})
    assert printed["notes"]["late_detections"]["detections"] == 1


def test_numbers_may_be_strings(evaluate):
    assert evaluate(ONE, {"a": [found(segment=("1.0", "3"), score="0.5") | {"label_id": 3}]})["mAP"] == {"0.5": 1}


@pytest.mark.parametrize(
    "entry",
    [
        *(found(score=score) for score in (10**400, float("nan"), float("inf"), "high", None, True, [1])),
        *(found(segment=segment) for segment in ((0, 10**400), (0, 1e300), (1,), (1, 2, 3), (None, 1), (True, 2))),
        *(found(label=label) for label in (3, None, ["Jump"])),
        *({}, [], 5, {"label": "Jump"}),
    ],
)
def test_a_malformed_detection_is_refused(refused, entry):
    assert "video 'a', detection 1" in refused(ONE, {"a": [found(), entry]})


@pytest.mark.parametrize("text", ['{"results": {"a": 1e400}}', '{"results": {"a": [' + "[" * 9999, "", "[]", "\x00"])
def test_a_malformed_file_is_refused(refused, text):
    assert "found.json" in refused(ONE, text)


def test_a_number_of_5000_digits(refused):
    assert "found.json" in refused(ONE, json.dumps({"results": {"a": [found(score=0.5)]}}).replace("0.5", "9" * 5000))


@pytest.mark.parametrize("entry", [5, {}, {"subset": "test"}])
def test_a_video_of_unknown_subset_is_refused(refused, entry):
    assert "video 'c'" in refused({**TWO, "c": entry}, BOTH)


def test_all_mistakes_of_a_ground_truth_are_listed(files, capsys):
    database = {
        **TWO,
        "c": {"subset": ["test"]},
        "d": annotated((1, "x"), (2,)),
        "e": annotated((0, "y"), subset="train"),
    }
    assert main(files(database, BOTH)) == 2
    *others, line = capsys.readouterr().err.splitlines()
    assert "'c'" in line and line.endswith("(and 2 more, above)") and all("'d'" in other for other in others)


def test_a_ground_truth_without_one_readable_video_says_why(refused):
    line = refused({"a": {"subset": ["test"], "annotations": []}}, BOTH)
    assert "video 'a': expected" in line and "(it has: )" not in line


# Classes


def test_unknown_classes_do_not_enter_the_mean(evaluate, refused):
    results = {"a": [found(), found("Swim"), found("Swim"), found("Dive")]}
    database = {**ONE, "c": annotated((1, 3), label="Dive", subset="train")}
    printed = evaluate(database, results)
    assert printed["mAP"] == {"0.5": 1}
    assert printed["notes"]["unknown_classes"] | {"what": ""} == {"what": "", "classes": ["Swim"], "detections": 2}
    assert printed["notes"]["classes_without_instances"]["classes"] == ["Dive"]
    assert "'Swim'" in refused(database, results, "--strict")
    assert evaluate(database, {"a": [found(), found("Dive")]}, "--strict")["mAP"] == {"0.5": 1}


def test_ambiguous_is_no_class_of_thumos(evaluate):
    database = {"video_test_0000004": annotated((1, 3))}
    database["video_test_0000004"]["annotations"] += annotated((5, 8), label="Ambiguous")["annotations"]
    results = {"video_test_0000004": [found("Ambiguous", (5, 8), 1), found()]}
    printed = evaluate(database, results, "--strict")
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["no_class"]["classes"] == ["Ambiguous"]
    assert evaluate(ONE, {"a": [found(), found("Ambiguous")]})["notes"]["unknown_classes"]["classes"] == ["Ambiguous"]


@pytest.mark.parametrize("label", ["clean and jerk", "CLEAN_AND_JERK", "CleanAndJerk "])
def test_other_spellings_of_classes_are_matched_and_said(evaluate, label):
    printed = evaluate({"a": annotated((1, 3), label="CleanAndJerk")}, {"a": [found(label)]})
    assert printed["mAP"] == {"0.5": 1}
    assert printed["notes"]["respelled_classes"]["classes"] == [f"{label} = CleanAndJerk"]


def test_two_spellings_in_one_file_are_not_merged(evaluate):
    printed = evaluate(ONE, {"a": [found(), found("jump", score=1)]})
    assert printed["mAP"] == {"0.5": 1} and printed["notes"]["unknown_classes"]["classes"] == ["jump may mean Jump"]
    database = {"a": annotated((1, 3)), "b": annotated((5, 8), label="jump")}
    printed = evaluate(database, {"a": [found()], "b": [found("jump", (5, 8))]})
    assert printed["notes"]["similar_classes"]["classes"] == ["Jump / jump"] and len(printed["per_class_AP"]) == 2


@pytest.mark.parametrize("labels", [("jump", "JUMP"), ("Jump", "JUMP")])
def test_spellings_that_compete_for_a_class_are_said_as_such(evaluate, refused, labels):
    results = {"a": [found(label) for label in labels]}
    note = evaluate(ONE, results)["notes"]["unknown_classes"]
    assert "JUMP may mean Jump" in note["classes"] and "spelt in more than one way" in note["what"]
    assert "'JUMP may mean Jump'" in refused(ONE, results, "--strict")


# Averages and thresholds


@pytest.mark.parametrize(
    ("grid", "spans"),
    [
        ("0.1:0.7:0.1", ("0.1:0.5", "0.3:0.7", "0.1:0.7")),
        ("0.1:0.9:0.1", ("0.1:0.5", "0.3:0.7", "0.1:0.7", "0.1:0.9")),
        ("0.3:0.7:0.1", ("0.3:0.7",)),
        ("0.5:0.95:0.05", ("0.5:0.95",)),
        ("0.5", ("0.5:0.5",)),
    ],
)
def test_the_usual_averages_that_the_grid_covers(grid, spans):
    assert average_spans(None, parse_grid(grid)) == spans


def test_averages_of_ones_own(evaluate, refused):
    printed = evaluate(ONE, {"a": [found()]}, "--tious", "0.2:0.6:0.2", "--average", "0.2:0.4", "0.1:0.7")
    assert printed["average_mAP_by_span"] == {"0.2:0.4": 1, "0.1:0.7": 1}
    assert "0.1:0.7 is over 0.2, 0.4, 0.6" in printed["notes"]["partial_average"]["what"]
    assert "--average 0.7:0.9" in refused(ONE, {"a": [found()]}, "--average", "0.7:0.9")
    assert "nonsense" in refused(ONE, {"a": [found()]}, "--average", "nonsense")
    with pytest.raises(InputError):
        average_spans(["0.1:0.5", "0.8"], (0.5,))


@pytest.mark.parametrize(
    "grid", ["0.0001:0.9999:0.0000011", "1e-11", "1e-5:0.5:0.1", "0:0.5:0.1", "nan", "0.1:0.9:1e-5"]
)
def test_thresholds_that_would_be_zero_or_too_many(refused, grid):
    assert grid in refused(ONE, {"a": [found()]}, "--tious", grid)
    with pytest.raises(InputError):
        parse_grid(grid)


# The command


@pytest.mark.parametrize("command", [[str(ROOT / "eval" / "detection.py")], ["-m", "eval.detection"]])
def test_it_runs_in_any_folder_and_into_any_pipe(files, tmp_path, command):
    (tmp_path / "eval").mkdir()  # a folder of that name is not the program
    given = [sys.executable, *command, *files(TWO, BOTH)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(given, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and "mAP %" in done.stdout


def test_a_reader_that_has_gone_is_no_error(files):
    command = [sys.executable, "-m", "eval.detection", *files(TWO, BOTH)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
