"""Pictures of a video's timeline: as wide as a column, in vectors; an unknown name is answered with one that is like it."""

import re
import sys

import pytest
from support.reported import write_run
from support.small_timelines import small_timelines

from report import vega
from report.drawing import PicturesJob, draw_pictures
from report.pictures import COLUMN, FORMATS, find_video, picture, write_picture
from report.reading import read_run
from report.vega import can_draw, load_vl_convert
from utils.errors import InputError
from utils.segments import Segments

FOUND = Segments.from_rows([(0, 0, 4.0, 6.0, 0.9), (1, 1, 0.0, 3.0, 0.5)])
HOSTILE = ("</svg><script>x</script>", 'a"b\x00\n\x1b[2J', "half \ud800 {x}")


@pytest.fixture(autouse=True)
def _needs_vl_convert():
    pytest.importorskip("vl_convert", reason="the report's packages are not installed")


def test_every_format_is_what_it_is_called(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    begins = {"pdf": b"%PDF", "svg": b"<svg", "png": b"\x89PNG"}
    for format in FORMATS:
        path = tmp_path / "new" / f"x.{format.upper()}"
        write_picture(path, run, "a")
        assert path.read_bytes().startswith(begins[format])


def test_a_picture_is_as_wide_as_a_column():
    svg = picture(small_timelines(), FOUND, 0, format="svg", tiou=0.5).decode()
    width = float(re.match(r'<svg[^>]* width="([\d.]+)pt"', svg)[1])
    assert 0.9 * COLUMN < width < 1.02 * COLUMN
    sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)px"', svg)}
    assert sizes <= {7.0, 8.0}
    pdf = picture(small_timelines(), FOUND, 0, format="pdf", tiou=0.5)
    assert float(re.search(rb"/MediaBox \[0 0 ([\d.]+)", pdf)[1]) == width
    assert b"/Subtype /Image" not in pdf  # nothing in it is of pixels


def test_what_is_true_and_detected_is_drawn():
    """A bar of seconds 4 to 6 of 10 for the truth, and the same for the detection, on the row's width."""
    svg = picture(small_timelines(), FOUND, 0, format="svg", tiou=0.5).decode()
    assert {"Dive", "Jump", "first"} <= set(re.findall(r">([^<>]+)</text>", svg))
    assert "Throw" not in svg
    without = picture(small_timelines(), FOUND.take(FOUND.video == 9), 0, format="svg", tiou=0.5).decode()
    assert svg.count("<path") > without.count("<path")


def test_classes_may_be_all_there_is():
    svg = picture(small_timelines(bare=True, truth=False), FOUND, 0, format="svg", tiou=0.5).decode()
    assert "class probability" in svg and "seconds" in svg
    assert "CAS" not in svg and "actionness" not in svg and "targets" not in svg


@pytest.mark.parametrize("shape", [{"mask": False}, {"streams": ("rgb",)}, {"truth": False}])
def test_less_can_be_known(shape):
    svg = picture(small_timelines(**shape), FOUND, 1, format="svg", tiou=0.5).decode()
    assert ("adaptive mask" in svg) == shape.get("mask", True) and ("flow" in svg) == ("streams" not in shape)
    assert ("not known" in svg) == (shape.get("truth") is False)


def test_names_are_text():
    svg = picture(small_timelines(classes=HOSTILE, videos=HOSTILE), FOUND, 0, format="svg", tiou=0.5).decode()
    assert "<script" not in svg and "&lt;script" in svg and "\x1b" not in svg


def test_an_unknown_video_is_answered_with_one_like_it(tmp_path):
    run = read_run(write_run(tmp_path / "run"))
    assert find_video(run, "b.mp4") == 1
    with pytest.raises(InputError, match=r"--plot zz: no test video of .*run; it has 'a', 'b'"):
        write_picture(tmp_path / "x.pdf", run, "zz")
    with pytest.raises(InputError, match=r"--out .*x.gif: pictures are pdf, svg, png"):
        write_picture(tmp_path / "x.gif", run, "a")
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("name", ["toString", "constructor", "__proto__", "valueOf"])
def test_names_of_javascripts_own_are_names(name):
    names = (name, "b", "c")
    svg = picture(small_timelines(videos=names, classes=names), FOUND, 0, format="svg", tiou=0.5).decode()
    assert svg.count(f">{name}</text>") >= 2


def test_hits_are_outlined_and_missed_instances_hollow():
    """Video 0 has a Dive, which the detection of seconds 4 to 6 hits, and a Jump, which nothing does."""
    svg = picture(small_timelines(), FOUND, 0, format="svg", tiou=0.5).decode()
    assert svg.count('fill-opacity="0.1"') == 1
    one = FOUND.take(FOUND.video == 0)
    late = Segments.from_rows([(0, 0, 7.0, 9.0, 0.9)])
    outlined, not_outlined = (
        picture(small_timelines(), found, 0, format="svg", tiou=0.5).decode().count("<path") for found in (one, late)
    )
    assert outlined == not_outlined + 1


def test_tensorboards_pictures_outline_hits_too():
    near = Segments.from_rows([(0, 0, 4.0, 5.5, 0.9)])  # a tIoU of 0.75 with the Dive
    low, high = (draw_pictures(PicturesJob(timelines=small_timelines(), detections=near, tiou=t)) for t in (0.5, 0.9))
    assert low["timeline/first"] != high["timeline/first"] and low["timeline/second"] == high["timeline/second"]


def test_what_fails_to_be_drawn_is_one_line(monkeypatch):
    def fails(*_, **__):
        raise ValueError("Conversion failed:\nError: no\n    at l (https://x.net/y.js:7)")

    monkeypatch.setattr("vl_convert.vegalite_to_svg", fails)
    with pytest.raises(
        InputError, match=r"^video first: can't be drawn \(Conversion failed: Error: no\); name another"
    ):
        picture(small_timelines(), FOUND, 0, format="svg", tiou=0.5)


def test_a_missing_or_broken_package_says_why(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(InputError, match=r"is not installed: pip install -r requirements-report.txt$"):
        load_vl_convert()
    assert not can_draw()
    monkeypatch.setattr(vega, "REQUIREMENTS", tmp_path / "none")
    monkeypatch.setattr(vega, "requires", lambda _: ['vl-convert-python>=1.9; extra == "report"'])
    with pytest.raises(InputError, match=r'pip install "vl-convert-python>=1.9"$'):
        load_vl_convert()
    monkeypatch.delitem(sys.modules, "vl_convert")
    (tmp_path / "vl_convert.py").write_text("raise ImportError('libx.so: too old')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"can't be loaded \(libx.so: too old\)"):
        load_vl_convert()
