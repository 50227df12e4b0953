"""Names of videos and classes that two files spell differently."""

import unicodedata

import pytest

from formats.matching_names import CLASS_FOLDS, VIDEO_FOLDS, match_names
from formats.names import fold, fold_video, shown


@pytest.mark.parametrize(
    "name",
    [
        *(
            "x1",
            "v_x1",
            "x1.mp4",
            "x1.npy",
            "x1.3gp",
            "x1.mp4.npy",
            "x1.NPY",
            "videos/x1",
            "videos/val/v_x1.mkv",
            "X1",
            "v_X1",
            "V_x1",
        ),
        *("videos\\x1.MP4", "/abs/x1", "x1/", " x1 "),
    ],
)
def test_spellings_of_one_video(name):
    assert fold_video(name) == "x1"
    assert match_names([name], ["x1", "x2"], folds=VIDEO_FOLDS).known == {name: "x1"}
    assert match_names(["x1"], [name, "x2"], folds=VIDEO_FOLDS).known == {"x1": name}


def test_unicode_forms():
    composed, decomposed = (unicodedata.normalize(form, "vidéo_É") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert match_names([decomposed], [composed], folds=VIDEO_FOLDS).known == {decomposed: composed}
    assert fold(composed) == fold(decomposed)


@pytest.mark.parametrize(
    ("one", "other"),
    [("clip.001", "clip.002"), ("s1.cam1", "s1.cam2"), ("x1", "x11"), ("a_b", "ab"), ("x.mp4", "y.mp4")],
)
def test_different_videos(one, other):
    assert fold_video(one) != fold_video(other)


def test_an_extension_alone_is_a_name():
    assert fold_video(".mp4") == ".mp4"


def test_the_name_itself_comes_first_then_what_differs_least():
    """YouTube's ids are told apart by case."""
    matching = match_names(["abC", "ABC.mp4"], ["ABC", "abC", "abc"], folds=VIDEO_FOLDS)
    assert matching.known == {"abC": "abC", "ABC.mp4": "ABC"} and not matching.contested
    assert matching.respelled == {"ABC.mp4": "ABC"}


def test_a_name_that_fits_two_is_contested():
    matching = match_names(["ABC"], ["abC", "abc"], folds=VIDEO_FOLDS)
    assert (matching.known, matching.contested) == ({}, {"ABC": ("abC", "abc")})


@pytest.mark.parametrize("names", [("x1", "v_x1"), ("x1.mp4", "x1.avi"), ("a/x1", "b/x1"), ("X1", "x1")])
def test_two_names_that_fit_one_are_contested(names):
    matching = match_names(names, ["x1"], folds=VIDEO_FOLDS)
    exact = {"x1": "x1"} if "x1" in names else {}
    assert matching.known == exact
    assert matching.contested == {name: ("x1",) for name in names if name not in exact}


def test_an_unknown_name_is_neither():
    matching = match_names(["z"], ["x1"], folds=VIDEO_FOLDS)
    assert not matching.known and not matching.contested


def test_classes():
    known = ["CleanAndJerk", "high_jump", "Polka"]
    matching = match_names(["clean and jerk", "High-Jump", "Polka", "Tango"], known, folds=CLASS_FOLDS)
    assert matching.known == {"clean and jerk": "CleanAndJerk", "High-Jump": "high_jump", "Polka": "Polka"}


def test_shown_names_are_one_line_that_no_terminal_obeys():
    assert shown(["a", "b\n\x1b[31m", "\ud800", "d", "e"]) == "'a', 'b \\x1b[31m', '\\ud800' and 2 more"
    assert shown(["x" * 5000]) == f"'{'x' * 64}...{'x' * 33}'"
    assert shown(["é"] * 2, most=None) == "'é', 'é'"
