"""Sets that are not quite tidy: what is left out is counted and said, and what is wrong is listed at once."""

import json

import pytest
from support.disk import complaint
from support.tiny import FEATURE_SIZE, load_tiny_set

from data_tools import convert
from formats.names import fold
from formats.spelling import similar_to, spelling_warnings


def test_an_annotated_video_in_no_split_is_left_out_and_said(tiny, run):
    tiny.edit_gt(lambda database: database.update(orphan=database["train_0"]))
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    assert outcome.code == 0 and "left out, annotated videos in no split: 1" in outcome.out
    checked = run(tiny.path, "--check_data")
    assert checked.code == 1 and "warning: annotated videos in no split\n    'orphan'" in checked.out


def test_a_class_that_only_test_videos_have_counts_if_it_is_meant(tiny, run, tmp_path):
    tiny.edit_gt(lambda database: database["test_1"]["annotations"].append({"label": "Jmup", "segment": [0.1, 2]}))
    refused = run(tiny.path)
    error, hint = refused.err.splitlines()
    assert refused.code == 2 and error.startswith("main.py: error: ") and hint.startswith("  -> --skip_unusable ")
    assert (
        str(tiny.gt) in error and "'test_1' has the label 'Jmup', which no training video has (is it 'Jump'?)" in error
    )
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--skip_unusable")
    assert outcome.code == 0, outcome.err
    assert "left out, classes of which no training video is left: 1" in outcome.out
    assert "warning: no training video shows 'Jmup' (is it 'Jump'?): its AP counts, and will be about 0" in outcome.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["best"]["mAP"] is not None
    checked = run(tiny.path, "--check_data", "--skip_unusable")
    assert checked.code == 1 and "test labels that never occur in training" in checked.out and "'Jmup'" in checked.out


def test_several_problems_are_listed_at_once(tiny, run):
    for i in range(5):
        tiny.feature("train", "rgb", f"train_{i}").unlink()
    tiny.edit_gt(lambda database: database["train_6"].update(annotations=[]))
    tiny.edit_gt(lambda database: database["test_0"]["annotations"][0].update(segment=["a", "b"]))
    outcome = run(tiny.path)
    line = complaint(outcome.code, outcome.err)
    assert "'test_0'" in line and "is not [start, end]" in line and line.endswith("(and 6 more, above)")
    others = outcome.err.splitlines()[:-1]
    assert len(others) == 6 and "'train_6' has no labels" in others[0]
    assert all(f"train_{i}.npy: no such feature file" in others[1 + i] for i in range(5))


def test_very_many_problems_are_counted(tiny, run):
    tiny.edit_gt(lambda database: [entry.update(annotations="none") for entry in database.values()])
    lines = run(tiny.path).err.splitlines()
    assert len(lines) == 11 and lines[-1].endswith("(and 10 more, above)")
    assert lines[-2] == "    and 1 more, which --check_data --list shows"


def test_a_listed_video_that_the_ground_truth_lacks_can_be_skipped(tiny, run):
    tiny.edit_gt(lambda database: [database.pop("test_1"), database.pop("train_1")])
    assert "or leave such videos out with --skip_unusable" in complaint(2, run(tiny.path).err)
    outcome = run(tiny.path, "--skip_unusable", "--exp_name", "x", "--num_epochs", "1")
    assert outcome.code == 0 and "left out, without annotation: 2" in outcome.out


def test_nothing_left_says_what_is_there(tiny, run):
    for i in range(4):
        for stream in ("rgb", "flow"):
            tiny.feature("test", stream, f"test_{i}").rename(tiny.feature("test", stream, f"clip-{i}"))
    line = complaint(2, run(tiny.path, "--skip_unusable").err)
    assert str(tiny.path / "split_test.txt") in line and "'test_0'" in line and "'clip-0'" in line


# Three-way splits


def with_split_files(tiny, **names):
    for file in tiny.path.glob("split_*.txt"):
        file.unlink()
    for name, videos in names.items():
        (tiny.path / f"split_{name}.txt").write_text("\n".join(videos) + "\n")


TRAIN, TEST = [f"train_{i}" for i in range(7)], [f"test_{i}" for i in range(4)]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "testing"])
def test_a_validation_file_takes_the_place_of_the_one_that_is_missing(tiny, name):
    with_split_files(tiny, train=TRAIN, **{name: TEST})
    assert [video.video_id for video in load_tiny_set(tiny.path).test] == TEST
    if name != "testing":
        tiny.edit_gt(
            lambda database: [entry.update(subset="validation") for v, entry in database.items() if v in TRAIN]
        )
        with_split_files(tiny, test=TEST, **{name: TRAIN})
        assert [video.video_id for video in load_tiny_set(tiny.path).train] == TRAIN


def test_a_third_split_file_is_used_for_nothing_and_said(tiny, run):
    with_split_files(tiny, train=TRAIN[:5], val=TRAIN[5:], test=TEST)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    assert outcome.code == 0, outcome.err
    assert "left out, listed in split_val.txt, which is neither trained nor tested on: 2" in outcome.out
    assert "5 training and 4 test videos" in outcome.out


def test_two_files_of_one_split_are_refused(tiny, run):
    with_split_files(tiny, train=TRAIN, val=TEST[:2], validation=TEST[2:])
    assert "both list validation videos" in complaint(2, run(tiny.path).err)


def test_subsets_may_have_spaces_around_them(tiny):
    with_split_files(tiny)
    tiny.edit_gt(lambda database: [entry.update(subset=f" {entry['subset'].upper()} ") for entry in database.values()])
    assert len(load_tiny_set(tiny.path).train) == 7


def test_streams_in_folders_of_other_names_are_not_to_be_removed(tiny, run):
    """Following 'remove one of them' would lose half of the features."""
    for split in ("train", "test"):
        for stream, name in (("rgb", "spatial"), ("flow", "temporal")):
            (tiny.path / "features" / split / stream).rename(tiny.path / "features" / split / name)
    line = complaint(2, run(tiny.path).err)
    assert "second file" in line and "or, if they are its streams, name the folders rgb and flow" in line


# Class names


@pytest.mark.parametrize("other", ["dive", " Dive", "Di_ve", "DIVE", "D-ive"])
def test_class_names_that_look_like_one(tiny, run, other):
    tiny.edit_gt(lambda database: database["train_3"]["annotations"][0].update(label=other))
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    warnings = [line for line in outcome.out.splitlines() if line.startswith("warning: ")]
    assert outcome.code == 0 and len(warnings) == 1
    assert "'Dive'" in warnings[0] and f"'{other}'" in warnings[0] and "spelt in 2 ways" in warnings[0]
    checked = run(tiny.path, "--check_data")
    assert checked.code == 1 and f"'{other}'" in checked.out and "classes that look like one" in checked.out


def test_spellings_that_look_the_same_are_told_apart(tiny, run):
    names = ("caf\u00e9", "cafe\u0301")
    for video, name in zip(("train_3", "train_4"), names, strict=True):
        tiny.edit_gt(lambda database, v=video, n=name: database[v]["annotations"][0].update(label=n))
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    (warning,) = [line for line in outcome.out.splitlines() if line.startswith("warning: ")]
    assert "'caf\\xe9'" in warning and "'cafe\\u0301'" in warning


@pytest.mark.parametrize("other", ["dive", "DIVE ", "d_i-ve"])
def test_a_label_that_only_test_videos_spell_so_names_both_spellings(tiny, run, other):
    tiny.edit_gt(lambda database: database["test_0"]["annotations"][0].update(label=other))
    line = complaint(2, run(tiny.path).err.split("\n  ->")[0])
    assert f"'{other}'" in line and "(is it 'Dive'?)" in line


def test_folding():
    assert fold("Long Jump") == fold("long_jump") == fold("LongJump") == fold("long-jump")
    assert fold("caf\u00e9") == fold("cafe\u0301") and fold("Run") != fold("Runs")
    assert not list(spelling_warnings(["Dive", "Jump", "Throw"]))
    assert similar_to("Juggling", {"Jump", "Dive"}) == ""


# Names that are no text


@pytest.mark.parametrize("where", ["video", "label", "labels"])
def test_names_of_half_a_character(tiny, run, tmp_path, capsys, where):
    """JSON can hold them; no file or terminal can."""

    def edit(database):
        if where == "video":
            database["odd\ud800"] = database["train_0"]
        elif where == "label":
            database["train_0"]["annotations"][0]["label"] = "Di\udcffve"
        else:
            database["train_0"]["labels"] = ["Di\udcffve"]

    tiny.edit_gt(edit)
    line = complaint(2, run(tiny.path).err)
    assert str(tiny.gt) in line and ("not valid text" in line or where == "labels")
    assert run(tiny.path, "--check_data").code == 2
    assert convert.main([str(tiny.path), str(tmp_path / "new"), "--feature_size", str(FEATURE_SIZE)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "new").exists()


def test_video_names_that_would_be_two_lines_are_not_converted(tiny, tmp_path, capsys):
    for stream in ("rgb", "flow"):
        tiny.feature("train", stream, "train_0").rename(tiny.feature("train", stream, "a\nb"))
    tiny.edit_gt(lambda database: database.update({"a\nb": database.pop("train_0")}))
    for split in ("train", "test"):
        (tiny.path / f"split_{split}.txt").unlink()
    assert convert.main([str(tiny.path), str(tmp_path / "new"), "--feature_size", str(FEATURE_SIZE)]) == 2
    assert r"video 'a\nb': its name can't be a file name" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
