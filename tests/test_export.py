"""data_tools.export: each format is read back, whatever the labels hold, and nothing is written over in silence."""

import csv
import html
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools import export
from data_tools.export import FORMATS, plain, safe_name, write_subtitles
from formats.names import LONGEST_NAME
from formats.subtitles import WORD_JOINER, Cue, ass_text, vtt_text
from utils.printable import one_line

HOSTILE = ("a\n\nb --> c", "<b>x</b> & {\\an8}", "\\N\\h{", "\x00\x1b[2J", "half \ud800", "nothing \uffff", "Tür, 跳")
CLOCK = re.compile(r"(?:(\d+):)?(\d\d):(\d\d)\.(\d+)")


def seconds(clock):
    hours, minutes, rest, fraction = CLOCK.fullmatch(clock).groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(rest) + int(fraction) / 10 ** len(fraction)


def parse_vtt(text):
    """[(start, end, settings, payload)] by the rules of WebVTT: blocks between blank lines, one timing line each."""
    header, *blocks = text.rstrip("\n").split("\n\n")
    assert header == "WEBVTT"
    found = []
    for block in blocks:
        timing, *payload = block.split("\n")
        start, arrow, end, *settings = timing.split(" ")
        assert arrow == "-->" and not any("-->" in line for line in payload) and len(payload) == 1
        assert not re.search("<|&(?!amp;|lt;|gt;)", payload[0])
        found.append((seconds(start), seconds(end), settings, html.unescape(payload[0])))
    assert [start for start, *_ in found] == sorted(start for start, *_ in found)
    return found


def parse_ass(text):
    """[(start, end, style, text)] of the events; no override blocks or commands may be left in the text."""
    assert re.findall(r"^\[.*", text, re.M) == ["[Script Info]", "[V4+ Styles]", "[Events]"]
    found = []
    for line in text.split("\n[Events]\n")[1].splitlines()[1:]:
        kind, fields = line.split(": ", 1)
        _, start, end, style, _, _, _, _, _, shown = fields.split(",", 9)
        assert kind == "Dialogue" and re.fullmatch(r"\d+:\d\d:\d\d\.\d\d", start)
        plain = shown.replace("\\{", "").replace("\\}", "")
        assert not re.search(r"[{}]|\\[^" + WORD_JOINER + "]", plain)
        said = shown.replace("\\{", "{").replace("\\}", "}").replace("\\" + WORD_JOINER, "\\")
        found.append((seconds(start), seconds(end), style, said))
    return found


def cue(start, end, label="Dive", score=0.5):
    return Cue(start=start, end=end, label=label, score=score)


def test_times_are_right():
    cues = [cue(3725.25, 36000.0), cue(0.0005, 59.9996), cue(2.0, 2.0), cue(-3.0, 1.0), cue(-3.0, -1.0), cue(7, 7.0001)]
    assert [place[:2] for place in parse_vtt(vtt_text(cues))] == [(0, 1), (0, 60), (7, 7.001), (3725.25, 36000)]
    assert [place[:2] for place in parse_ass(ass_text(cues, title="t"))] == [
        (0, 1),
        (0, 60),
        (7, 7.01),
        (3725.25, 36000),
    ]
    assert "01:02:05.250 --> 10:00:00.000" in vtt_text(cues)
    assert "Dialogue: 0,1:02:05.25,10:00:00.00,Detection," in ass_text(cues, title="t")


def test_the_truth_stands_apart():
    cues = [cue(1, 2), cue(1, 2, score=None)]
    assert [(settings, text) for *_, settings, text in parse_vtt(vtt_text(cues))] == [
        ([], "Dive 0.50"),
        (["line:0"], "Dive (reference)"),
    ]
    assert [style for _, _, style, _ in parse_ass(ass_text(cues, title="t"))] == ["Detection", "Reference"]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.1, 100), st.text(max_size=40)), max_size=5))
def test_any_label_is_read_back(rows):
    cues = [cue(start, start + length, label) for start, length, label in rows]
    expected = sorted(f"{one_line(label, 200)} 0.50" for _, _, label in rows)
    assert sorted(text for *_, text in parse_vtt(vtt_text(cues))) == expected
    assert sorted(text for *_, text in parse_ass(ass_text(cues, title="\n[Events]"))) == expected
    vtt_text(cues).encode()


@pytest.fixture
def exported(tmp_path, capsys):
    """exported(results, *flags): run the command on a result file; exit code, stdout, lines of stderr."""

    def call(results, *flags):
        (tmp_path / "d.json").write_text(json.dumps({"results": results}))
        code = export.main([str(tmp_path / "d.json"), "--out", str(tmp_path / "out"), *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def detections(*rows):
    return [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in rows]


def test_every_format_holds_every_detection_whatever_its_label(exported, tmp_path):
    pympi = pytest.importorskip("pympi", reason="pympi-ling is not installed")
    rows = [(label, 10.0 * i, 10.0 * i + 15, (i + 1) / 10) for i, label in enumerate(HOSTILE)]
    code, out, err = exported({"a": detections(*rows), "b": []}, "--format", *FORMATS)
    assert (code, err) == (0, [])
    assert "2 videos as vtt, ass, csv, eaf, 7 of 7 detections" in out
    folder = tmp_path / "out"
    times = [(start, end) for _, start, end, _ in rows]
    assert [place[:2] for place in parse_vtt((folder / "a.vtt").read_text())] == times
    assert [place[:2] for place in parse_ass((folder / "a.ass").read_text())] == times
    with open(folder / "a.csv", newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0] == ["video", "label", "start", "end", "score"]
    assert [float(row[2]) for row in reversed(table[1:])] == [start for start, _ in times]
    document = pympi.Eaf(str(folder / "a.eaf"))
    found = {name: document.get_annotation_data_for_tier(name) for name in document.get_tier_names()}
    assert {"Tür, 跳", one_line(HOSTILE[0]), "nothing ?"} <= found.keys()
    assert sorted(a for annotations in found.values() for a in annotations) == [
        (int(start * 1000), int(end * 1000), f"{score:.4f}") for _, start, end, score in rows
    ]
    assert parse_vtt((folder / "b.vtt").read_text()) == []


def test_what_a_format_can_not_show_is_counted(exported):
    rows = [("run", 1, 3, 0.9), ("run", 5, 5, 0.8), ("run", -3, -1, 0.7), ("run", -3, 0, 0.7)]
    _, out, _ = exported({"a": detections(*rows)}, "--format", "vtt", "csv")
    assert "1 video as vtt, csv, vtt 1, csv 4 of 4 detections\n" in out
    assert "not in vtt: 3 segments that end at or before their start or second 0\n" in out
    _, out, _ = exported({"a": detections(*rows)}, "--format", "vtt", "ass", "--overwrite")
    assert "1 video as vtt, ass, 1 of 4 detections\nnot in vtt, ass: 3 segments" in out
    _, out, _ = exported({"a": detections(*rows)}, "--format", "csv", "--overwrite")
    assert "1 video as csv, 4 of 4 detections\n" in out and "not in" not in out


def test_a_table_gives_names_back_and_says_which_are_formulas(exported, tmp_path):
    labels = ["=1+1", "@x", "-y", "a\rb", "c\r\nd", 'q"', "plain"]
    _, out, _ = exported({"a": detections(*((label, 1, 2, 0.5) for label in labels))}, "--format", "csv")
    with open(tmp_path / "out" / "a.csv", newline="", encoding="utf-8") as file:
        assert [row[1] for row in csv.reader(file)][1:] == labels
    assert "a spreadsheet takes '=1+1', '@x', '-y' for formulas" in out
    _, out, _ = exported({"a": detections(("=1", 1, 2, 0.5))}, "--format", "vtt", "--overwrite")
    assert "spreadsheet" not in out


def test_overlapping_detections_lie_on_several_tiers(exported, tmp_path):
    pympi = pytest.importorskip("pympi", reason="pympi-ling is not installed")
    rows = [("x", 0.0, 2.0, 0.9), ("x", 1.0, 3.0, 0.8), ("x", 2.0, 4.0, 0.7), ("x (2)", 0.0, 1.0, 0.6)]
    assert exported({"a": detections(*rows)}, "--format", "eaf")[0] == 0
    document = pympi.Eaf(str(tmp_path / "out" / "a.eaf"))
    found = {name: document.get_annotation_data_for_tier(name) for name in document.get_tier_names()}
    assert {name: [a[:2] for a in sorted(annotations)] for name, annotations in found.items()} == {
        "x": [(0, 2000), (2000, 4000)],
        "x (2)'": [(1000, 3000)],
        "x (2)": [(0, 1000)],
    }
    slots = re.findall(r'TIME_VALUE="(\d+)"', (tmp_path / "out" / "a.eaf").read_text())
    assert [int(slot) for slot in slots] == sorted(int(slot) for slot in slots) and len(slots) == 8


def test_the_best_and_the_truth_and_the_video(exported, tmp_path):
    pympi = pytest.importorskip("pympi", reason="pympi-ling is not installed")
    truth = {"a": {"subset": "test", "annotations": [{"label": "run", "segment": [1, 2]}]}}
    (tmp_path / "gt.json").write_text(json.dumps({"database": truth}))
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "v_a.mp4").touch()
    results = {"a": detections(("run", 1, 3, 0.9), ("run", 5, 6, 0.8), ("run", 7, 8, 0.1)), "c": []}
    flags = ["--format", "csv", "eaf", "--min_score", "0.5", "--top", "1", "--ground_truth", str(tmp_path / "gt.json")]
    code, out, _ = exported(results, *flags, "--video_dir", str(tmp_path / "videos"))
    assert code == 0 and "1 of 3 detections" in out
    assert "reference: 1 instance in 1 video" in out and "linked" in out
    rows = (tmp_path / "out" / "a.csv").read_text().splitlines()[1:]
    assert rows == ["a,run,1.0,3.0,0.9", "a,run,1.0,2.0,"]
    document = pympi.Eaf(str(tmp_path / "out" / "a.eaf"))
    assert document.get_annotation_data_for_tier("run, reference") == [(1000, 2000, "run")]
    (media,) = document.get_linked_files()
    assert media["RELATIVE_MEDIA_URL"] == "../videos/v_a.mp4" and media["MIME_TYPE"] == "video/mp4"


def test_nothing_is_written_over_unasked(exported, tmp_path):
    results = {"a": detections(("run", 1, 3, 0.9))}
    assert exported(results)[0] == 0
    before = (tmp_path / "out" / "a.vtt").read_text()
    code, _, err = exported({"a": []})
    assert code == 2 and len(err) == 1 and "a.vtt: exists" in err[0] and "--overwrite" in err[0]
    assert (tmp_path / "out" / "a.vtt").read_text() == before
    assert exported({"a": []}, "--overwrite")[0] == 0
    assert (tmp_path / "out" / "a.vtt").read_text() == "WEBVTT\n"


def test_names_of_videos_stay_in_the_folder(exported, tmp_path):
    names = ["../../up", "..", "", "a/b", "a%2Fb", "n\x00l", "half \ud800", "x" * 300, "x" * 299 + "y", "plain"]
    code, out, err = exported({name: [] for name in names})
    assert (code, err) == (0, []) and "written under others" in out
    written = list((tmp_path / "out").iterdir())
    assert len(written) == len(names) and (tmp_path / "out" / "plain.vtt") in written
    assert not (tmp_path / "up.vtt").exists() and not (tmp_path.parent / "up.vtt").exists()


@given(st.lists(st.text(), unique=True))
def test_safe_names_are_unique_and_short(videos):
    names = [safe_name(video) for video in videos]
    assert len(set(names)) == len(names)
    assert all("/" not in name and "\0" not in name and len(name.encode()) <= LONGEST_NAME for name in names)


@pytest.mark.parametrize(
    ("results", "flags", "said"),
    [
        ({}, (), "names no videos"),
        ({"a": [{"label": "x"}]}, (), "video 'a', detection 0"),
        ({"a": []}, ("--format", "srt"), "choose from vtt, ass, csv, eaf"),
        ({"a": []}, ("--top", "0"), "--top 0: must be 1 or more"),
        ({"a": []}, ("--min_score", "nan"), "--min_score nan"),
        ({"a": []}, ("--ground_truth", "none.json"), "none.json: can't be read"),
        ({"a": []}, ("--video_dir", "nowhere"), "--video_dir nowhere: no such folder"),
    ],
)
def test_a_mistake_is_one_line(results, flags, said, exported, tmp_path):
    code, out, err = exported(results, *flags)
    assert (code, out, len(err)) == (2, "", 1) and said in err[0]
    assert not (tmp_path / "out").exists()


def test_a_ground_truth_of_other_videos_is_refused(exported, tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps({"database": {"z": {"subset": "test", "annotations": []}}}))
    code, _, err = exported({"a": []}, "--ground_truth", str(tmp_path / "gt.json"))
    assert code == 2 and "has none of the result file's videos, such as 'a'" in err[0]


def test_without_pympi_it_is_said_how_to_get_it(exported, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pympi.Elan", None)
    code, _, err = exported({"a": []}, "--format", "csv", "eaf")
    assert code == 2 and "pip install pympi-ling" in err[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("cues", "kept"),
    [
        ([], []),
        ([cue(0, 4), cue(1, 2), cue(4, 5), cue(3, 6)], [0, 2]),  # where one ends the next may begin
        ([cue(1, 2), cue(0, 4), cue(0, 1)], [0, 2]),  # the better one stays, whichever is longer
        ([cue(0, 4), cue(1, 2, "jump"), cue(3, 4, "jump")], [0, 1, 2]),  # classes do not hide each other
        ([cue(0, 4), cue(2, 6), cue(4, 8)], [0, 2]),  # what is left out hides nothing
    ],
)
def test_at_any_moment_a_class_stands_there_once(cues, kept):
    assert plain(cues) == [cues[i] for i in kept]


def test_subtitles_of_every_video(tmp_path):
    results = {
        "a/b": [{"label": "run", "score": s, "segment": [s, s + 1]} for s in (3, 2.5, 1, 0)],
        "empty": [],
    }
    (tmp_path / "d.json").write_text(json.dumps({"results": results}))
    write_subtitles(tmp_path / "d.json", tmp_path, most=2)
    found = parse_vtt((tmp_path / "a%2Fb.vtt").read_text())
    assert [(start, end) for start, end, *_ in found] == [(1, 2), (3, 4)]
    assert (tmp_path / "empty.vtt").read_text().strip() == "WEBVTT"
