"""python -m eval: its list of commands, diagnose and compare."""

import json
import resource
import subprocess
import sys

import pytest
from support.paths import ROOT, SHARED

from command_line.progress import Progress
from eval import commands
from eval.__main__ import main

REAL_DETECTIONS = SHARED / "golden" / "detections" / "thumos14_test.json"
REAL_TRUTH = SHARED / "data" / "thumos14" / "gt.json"
REAL_DURATIONS = SHARED / "data" / "thumos14" / "durations.json"
needs_real = pytest.mark.skipif(not REAL_DETECTIONS.exists(), reason="the real detections are not part of the project")


def entry(label, start, end, score=None):
    return {"label": label, "segment": [start, end], **({} if score is None else {"score": score})}


@pytest.fixture
def files(tmp_path):
    """Two videos with a duration, one without; A finds an instance and a half, B everything."""
    videos = {
        "x": {"subset": "test", "duration": 100, "annotations": [entry("Jump", 0, 10), entry("Dive", 20, 30)]},
        "y": {"subset": "test", "duration": 50, "annotations": [entry("Jump", 5, 15)]},
        "z": {"subset": "test", "annotations": [entry("Dive", 1, 2)]},
    }
    (tmp_path / "gt.json").write_text(json.dumps({"database": videos}))
    results = {
        "a": {"x": [entry("Jump", 0, 10, 0.9), entry("Dive", 20, 24, 0.8)]},
        "b": {
            "x": [entry("Jump", 0, 10, 0.9), entry("Dive", 20, 30, 0.8)],
            "y": [entry("Jump", 5, 15, 0.7)],
            "z": [entry("Dive", 1, 2, 0.6)],
        },
    }
    for name, found in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"results": found}))
    return tmp_path


def run(capsys, command, files, *arguments):
    code = main([command, "--ground_truth", str(files / "gt.json"), *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_list_of_commands(capsys):
    for arguments in ([], ["--help"]):
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in ("detection", "diagnose", "compare", "tables"))
    assert main(["diagnoze"]) == 2
    assert capsys.readouterr().err == "eval: error: no command diagnoze; did you mean diagnose?; --help lists them\n"


def test_detection_is_one_of_them(files, capsys):
    code, out, _ = run(capsys, "detection", files, "--detections", files / "b.json", "--json")
    assert code == 0 and json.loads(out)["average_mAP"] == 1


def test_diagnose(files, capsys):
    code, out, err = run(capsys, "diagnose", files, "--detections", files / "a.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    # Dive has two instances: its one detection, a false positive, is right with other boundaries.
    assert lines[0].startswith("localization is worth +25.0 mAP_N if fixed: with their instance's boundaries")
    assert lines[0].endswith("it is 50.0; next is missed instances, +25.0")
    assert lines[1] == (
        "protocol sal, tIoU 0.5, subset test: 3 videos, 4 instances, 2 classes, 2 detections; "
        "the best 10 G of each class, 2, enter"
    )
    assert "note: without a duration, their instances are in no bucket of coverage" in out
    rows = {line[:17].strip(): line.split() for line in lines}
    assert rows["localization"] == ["localization", "1", "+0.00", "+25.00"]
    assert rows["true positive"] == ["true", "positive", "1"]
    assert rows["missed"] == ["missed", "2", "+25.00"]
    assert rows["1G"] == ["1G", "2", "50.0", "0.0", "0.0", "50.0", "0.0", "0.0"]
    assert ["length", "S", "3", "6", "0", "-", "-"] in [line.split() for line in lines]
    assert ["length", "M", "6", "12", "3", "25.0", "66.7"] in [line.split() for line in lines]


def test_diagnose_in_json(files, capsys):
    (files / "durations.json").write_text(json.dumps({"v_z": "40", "x": 7}))
    flags = ["--detections", files / "a.json", "--durations", files / "durations.json", "--json"]
    code, out, _ = run(capsys, "diagnose", files, *flags, "--tious", "0.5:0.6:0.1")
    content = json.loads(out)
    assert code == 0 and content["tious"] == [0.5, 0.6] and content["protocol"] == "sal"
    assert content["notes"] and "no_duration" not in {note["key"] for note in content["notes"]}
    assert content["buckets"]["length"] == [30, 60, 120, 180]  # ActivityNet's, by the grid
    assert content["counts"]["localization"] == 1 and content["fix_gains"]["localization"] == 0.25
    assert content["bucket_sizes"]["coverage"]["XS"] == 4  # y's covers just a fifth; z is 40 s long
    assert content["sensitivity"]["length"]["XL"] is None
    _, out, _ = run(capsys, "diagnose", files, *flags, "--tious", "0.5:0.6:0.1", "--buckets", "thumos14")
    assert json.loads(out)["buckets"]["length"] == [3, 6, 12, 18]


def test_ties_are_a_flag(files, capsys):
    videos = {"x": {"subset": "test", "annotations": [entry("Jump", 0, 10), entry("Dive", 0, 10)]}}
    (files / "gt.json").write_text(json.dumps({"database": videos}))
    (files / "a.json").write_text(json.dumps({"results": {"x": [entry("Dive", 0, 4, 0.5)]}}))
    for ties, kind in (("own", "localization"), ("original", "confusion")):
        _, out, _ = run(capsys, "diagnose", files, "--detections", files / "a.json", "--ties", ties, "--json")
        assert json.loads(out)["counts"][kind] == 1


def test_compare(files, capsys):
    code, out, err = run(capsys, "compare", files, files / "a.json", files / "b.json", "--draws", "200")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("B is better than A: +60.71 [")  # A: Jump 1/2, Dive 1/2 up to a tIoU of 0.4
    assert lines[0].endswith("(95% interval, 200 draws of 3 videos, the same for both)")
    assert lines[1] == "protocol sal, tIoU 0.1:0.7:0.1, subset test"
    assert lines[2] == f"A is {files / 'a.json'}: 3 videos, 4 instances, 2 classes, 2 detections"
    rows = {line.split()[0]: line.split() for line in lines if line}
    assert rows["0.5"][:2] == ["0.5", "25.0"] and "100.0" in rows["0.5"] and "+75.00" in rows["0.5"]
    assert rows["Jump"][1:4] == ["50.0", "100.0", "+50.00"]


def test_compare_in_json_and_again(files, capsys):
    arguments = [files / "a.json", files / "b.json", "--draws", "150", "--seed", "4", "--json"]
    _, out, _ = run(capsys, "compare", files, *arguments)
    content = json.loads(out)
    assert content["draws"] == 150 and set(content["difference"]["mAP"]) == {f"0.{i}" for i in range(1, 8)}
    assert content["difference"]["average_mAP"]["value"] == pytest.approx(
        content["second"]["average_mAP"]["value"] - content["first"]["average_mAP"]["value"]
    )
    assert content["difference"]["average_mAP"]["low"] <= content["difference"]["average_mAP"]["high"]
    assert set(content["difference"]["per_class_AP"]) == {"Dive", "Jump"}
    assert run(capsys, "compare", files, *arguments)[1] == out


def test_without_spread_there_is_no_interval_and_it_is_said(files, capsys):
    """One video of one class, found by B alone."""
    videos = {"x": {"subset": "test", "annotations": [entry("Jump", 0, 10)]}}
    (files / "gt.json").write_text(json.dumps({"database": videos}))
    (files / "a.json").write_text(json.dumps({"results": {"x": []}}))
    (files / "b.json").write_text(json.dumps({"results": {"x": [entry("Jump", 0, 10, 0.9)]}}))
    code, out, _ = run(capsys, "compare", files, files / "a.json", files / "b.json", "--tious", "0.5")
    assert code == 0 and out.startswith("no clear difference of B from A: +100.00 (no interval) average mAP")
    assert (
        "note: differences without an interval, for all draws are the same (too few videos, or no difference), at tIoU 0.5, "
        "average: 1 class ('Jump')\n"
    ) in out
    assert "note: no BCa interval, for all draws are the same" in out and "A at tIoU 0.5, A at average, B at" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["0.5"] == ["0.5", "0.0", "-", "100.0", "-", "+100.00", "-"]
    assert rows["Jump"] == ["Jump", "0.0", "100.0", "+100.00", "-"]
    _, out, _ = run(capsys, "compare", files, files / "a.json", files / "b.json", "--tious", "0.5", "--json")
    content = json.loads(out)
    assert content["difference"]["average_mAP"] == {"value": 1, "sd": 0, "low": None, "high": None}
    assert [note["key"] for note in content["notes_on_intervals"]] == ["no_interval", "no_bca_interval"]


def test_the_videos_are_named_by_subset_and_list(files, capsys):
    listed = files / "videos.txt"
    listed.write_text("x\ny\n")
    for command, given in (
        ("diagnose", ["--detections", files / "a.json"]),
        ("compare", [files / "a.json", files / "b.json"]),
    ):
        arguments = [*given, "--split", listed]
        assert f", subset test, listed in {listed}" in run(capsys, command, files, *arguments)[1]
        content = json.loads(run(capsys, command, files, *arguments, "--json")[1])
        assert (content["subset"], content["listed_in"]) == ("test", str(listed))
        assert json.loads(run(capsys, command, files, *given, "--json")[1])["listed_in"] is None


def test_drawing_shows_all_that_it_does(files, capsys, monkeypatch):
    """The draws, and the evaluations without each of the 3 videos."""
    made = []
    monkeypatch.setattr(commands, "Progress", lambda **settings: made.append(Progress(**settings)) or made[-1])
    run(capsys, "compare", files, files / "a.json", files / "b.json", "--draws", "100")
    (progress,) = made
    assert progress.done == progress.total == 103


def test_help_waits_for_no_heavy_import():
    """In a process of its own; a mistyped command neither."""
    check = (
        "import sys; from eval.__main__ import main; main(['--help']); main(['tabels']); "
        "assert not {'numpy', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, capture_output=True)


def test_videos_that_the_ground_truth_lacks_are_the_same_for_both(files, capsys):
    """Each file has one of its own and one in common, in another order: 3 videos and 3 more are drawn."""
    for name, unknown in (("a", ("p", "q")), ("b", ("r", "p"))):
        content = json.loads((files / f"{name}.json").read_text())
        content["results"] |= {video: [entry("Jump", 0, 1, 0.99)] for video in unknown}
        (files / f"{name}.json").write_text(json.dumps(content))
    _, out, _ = run(capsys, "compare", files, files / "a.json", files / "b.json", "--draws", "100")
    assert "100 draws of 6 videos" in out and out.count("note: not in the ground truth") == 2
    arguments = [files / "a.json", files / "b.json", "--draws", "100", "--unknown", "skip"]
    assert "100 draws of 3 videos" in run(capsys, "compare", files, *arguments)[1]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        ("diagnose", ["--detections", "absent.json"], "absent.json"),
        ("diagnose", ["--detections", "a.json", "--ties", "none"], "--ties"),
        ("diagnose", ["--detections", "a.json", "--tious", "2"], "'2' is not a grid"),
        ("diagnose", ["--detections", "a.json", "--durations", "list.json"], "expected {video: seconds}"),
        ("diagnose", ["--detections", "a.json", "--durations", "null.json"], "video 'x': has no duration"),
        ("diagnose", ["--detections", "a.json", "--durations", "bad.json"], "duration -1 is not a number above 0"),
        ("compare", ["a.json"], "B.json"),
        ("compare", ["a.json", "gt.json"], "gt.json"),
        ("compare", ["a.json", "b.json", "--draws", "99"], "--draws 99: give 100 to"),
        ("compare", ["a.json", "b.json", "--seed=-1"], "--seed -1"),
        ("compare", ["a.json", "b.json", "--subset", "val"], "--subset val"),
        ("compare", ["a.json", "b.json", "--missing", "skip"], "lack different videos"),
    ],
)
def test_mistakes_are_one_line(files, capsys, monkeypatch, command, arguments, says):
    monkeypatch.chdir(files)
    for name, content in (("list", []), ("null", {"x": None}), ("bad", {"x": -1})):
        (files / f"{name}.json").write_text(json.dumps(content))
    code, out, err = run(capsys, command, files, *arguments)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_only_empty_instances(files, capsys):
    videos = {"x": {"subset": "test", "annotations": [entry("Jump", 5, 5)]}}
    (files / "gt.json").write_text(json.dumps({"database": videos}))
    code, out, err = run(capsys, "diagnose", files, "--detections", files / "a.json")
    assert (code, out) == (2, "") and "no ground-truth" in err


@needs_real
def test_two_thousand_draws_of_the_real_detections(tmp_path):
    """Against the same detections, 5 % shorter: a difference far smaller than either result's own interval is clear."""
    content = json.loads(REAL_DETECTIONS.read_text())
    for detection in (d for found in content["results"].values() for d in found):
        start, end = detection["segment"]
        detection["segment"] = [start + 0.025 * (end - start), end - 0.025 * (end - start)]
    (tmp_path / "shorter.json").write_text(json.dumps(content))
    command = [sys.executable, "-m", "eval", "compare", "--ground_truth", str(REAL_TRUTH), "--json"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, str(REAL_DETECTIONS), str(tmp_path / "shorter.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < 30
    found = json.loads(done.stdout)
    difference = found["difference"]["average_mAP"]
    assert found["draws"] == 2000 and found["verdict"].startswith("B is worse than A: -0.5")
    assert difference["sd"] < 0.0015 < 0.013 < found["first"]["average_mAP"]["sd"]


@needs_real
def test_diagnosis_of_the_real_detections(capsys):
    arguments = ["--ground_truth", REAL_TRUTH, "--detections", REAL_DETECTIONS, "--durations", REAL_DURATIONS]
    assert main(["diagnose", *map(str, arguments), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sentence"].startswith("localization is worth +10.")
    assert "no_duration" not in {note["key"] for note in content["notes"]}
