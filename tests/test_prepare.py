"""data_tools.prepare: your own features and a CSV of labels, to training and inference, with and without segments."""

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
import torch
from support.tiny import CLASSES, FEATURE_SIZE, load_tiny_set

from data_tools import prepare
from data_tools.set_plan import split_videos
from eval.summary import EvaluationSummary, evaluation_report

VIDEOS = [f"train_{i}" for i in range(7)]


@pytest.fixture
def own(tiny, tmp_path):
    """Someone's features, two folders of files, and their labels."""
    folder = tmp_path / "own"
    shutil.copytree(tiny.path / "features" / "train", folder / "features")
    write_csv(folder / "labels.csv", "video,label", *[f"{v},{CLASSES[i % 3]}" for i, v in enumerate(VIDEOS)])
    return folder


def write_csv(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def prepared(own, capsys):
    """prepared(*flags): run data_tools.prepare on what is there; exit code, stdout, lines of stderr."""

    def call(*flags, features=None):
        places = ["--features", str(features or own / "features"), "--labels", str(own / "labels.csv")]
        code = prepare.main([*places, "--out", str(own / "data"), *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def refusal(result):
    code, out, err = result
    *others, line = err
    assert code == 2 and out == "" and all(other.startswith("    ") for other in others)
    assert line.startswith("data_tools.prepare: error: ")
    return line


def test_labels_alone_make_a_set(prepared, own, tiny):
    code, out, err = prepared()
    assert (code, err) == (0, [])
    assert "5 training and 2 test videos, 3 classes" in out
    assert "mAP will not be computed" in out and f"--feature_size {FEATURE_SIZE}" in out
    data = load_tiny_set(own / "data")
    assert data.classes == CLASSES
    for video in (*data.train, *data.test):
        i = VIDEOS.index(video.video_id)
        assert video.labels.tolist() == [float(c == i % 3) for c in range(3)]
        rgb = np.load(tiny.feature("train", "rgb", video.video_id))
        assert np.array_equal(video.features[:, :FEATURE_SIZE], rgb)
        assert data.annotations[video.video_id].instances == ()


def test_train_and_infer_without_segments(prepared, own, run, tmp_path):
    assert prepared()[0] == 0
    outcome = run(own / "data", "--exp_name", "x", "--verbose")
    assert outcome.code == 0, outcome.err
    assert "mAP: not computed, no test video has temporal annotations" in outcome.out
    assert "video accuracy: best " in outcome.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["best"]["mAP"] is None and results["best"]["average_mAP"] is None
    accuracies = [entry["video_accuracy"] for entry in results["history"]]
    assert results["best"]["video_accuracy"] == max(accuracies)
    assert results["best"]["step"] == results["history"][int(np.argmax(accuracies))]["step"]
    outcome = run(own / "data", "--inference_only", "--exp_name", "x", "--verbose")
    assert outcome.code == 0 and "mAP: not computed" in outcome.out
    found = json.loads((tmp_path / "out" / "x" / "inference" / "detections.json").read_text())["results"]
    assert any(found[video.video_id] for video in load_tiny_set(own / "data").test)


def test_resume_without_segments(prepared, own, run, tmp_path):
    assert prepared()[0] == 0
    assert run(own / "data", "--exp_name", "x").code == 0
    outcome = run(own / "data", "--exp_name", "x", "--resume")
    assert outcome.code == 0 and "mAP: not computed" in outcome.out


def test_test_videos_without_any_label(prepared, own, run, tmp_path):
    """The last evaluation is then the best, for want of anything to choose by."""
    lines = [f"{v},{CLASSES[i % 3]},train" for i, v in enumerate(VIDEOS[:5])] + ["train_5,,test", "train_6,,test"]
    write_csv(own / "labels.csv", "video,label,subset", *lines)
    assert prepared()[0] == 0
    outcome = run(own / "data", "--exp_name", "x")
    assert outcome.code == 0
    assert "video accuracy: not computed, no test video has labels" in outcome.out
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["best"]["step"] == results["steps"] and results["best"]["video_accuracy"] is None


def test_segments_are_for_measuring(prepared, own, run):
    segments = [f"{v},{CLASSES[i % 3]},{1 + i},{3.5 + i}" for i, v in enumerate(VIDEOS)]
    write_csv(own / "segments.csv", "video,label,start,end", *segments)
    code, out, _ = prepared("--annotations", str(own / "segments.csv"))
    assert code == 0 and "2 segments in 2 test videos" in out
    data = load_tiny_set(own / "data")
    for i, video in enumerate(VIDEOS):
        (instance,) = data.annotations[video].instances
        assert (instance.label, instance.start, instance.end) == (CLASSES[i % 3], 1 + i, 3.5 + i)
    outcome = run(own / "data")
    assert outcome.code == 0 and "avg 0.1:0.7" in outcome.out


def test_labelled_test_videos_without_segments_are_named(prepared, own):
    write_csv(
        own / "labels.csv", "video,label,subset", *[f"{v},Dive,{'test' if v > 'train_4' else 'train'}" for v in VIDEOS]
    )
    write_csv(own / "segments.csv", "video,label,start,end", "train_5,Dive,1,2")
    out = prepared("--annotations", str(own / "segments.csv"))[1]
    assert "1 segment in 1 test video to" in out
    assert "not evaluated: 1 test video with labels but no segments, such as 'train_6'" in out
    assert [video.video_id for video in load_tiny_set(own / "data").test] == ["train_5"]


def test_several_labels_of_a_video(prepared, own):
    rows = [
        "train_0,Dive;Jump",
        "train_1,Jump",
        "train_1,Throw",
        "train_2, Throw ; Dive",
        *[f"{v},Jump" for v in VIDEOS[3:]],
    ]
    write_csv(own / "labels.csv", "Video , Label", *rows)
    assert prepared()[0] == 0
    annotations = load_tiny_set(own / "data").annotations
    assert [sorted(annotations[v].labels) for v in VIDEOS[:3]] == [
        ["Dive", "Jump"],
        ["Jump", "Throw"],
        ["Dive", "Throw"],
    ]


@pytest.mark.parametrize("form", ["joint", "npz", "pt"])
def test_other_files(prepared, own, tmp_path, form):
    folder = tmp_path / "other"
    folder.mkdir()
    for video in VIDEOS:
        rgb, flow = (np.load(own / "features" / s / f"{video}.npy") for s in ("rgb", "flow"))
        if form == "joint":
            np.save(folder / f"{video}.npy", np.concatenate([rgb, flow], axis=1))
        elif form == "npz":
            np.savez(folder / f"{video}.npz", rgb=rgb, flow=flow)
        else:
            torch.save(torch.from_numpy(np.concatenate([rgb, flow], axis=1)), folder / f"{video}.pt")
    assert prepared(features=folder)[0] == 0
    for video in load_tiny_set(own / "data").train:
        flow = np.load(own / "features" / "flow" / f"{video.video_id}.npy")
        assert np.array_equal(video.features[:, FEATURE_SIZE:], flow)


def test_one_stream(prepared, own, run):
    one = own / "features" / "rgb"
    line = refusal(prepared("--modal", "rgb", features=one))
    assert "are its 6 channels one stream, or both side by side? Give --feature_size 6 or 3" in line
    code, out, _ = prepared("--modal", "rgb", "--feature_size", "6", features=one)
    assert code == 0 and "--modal rgb" in out
    assert run(own / "data", "--modal", "rgb").code == 0


def test_a_set_that_was_interrupted_is_finished(prepared, own, monkeypatch):
    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    code, _, err = prepared()
    assert code == 1 and "continues" in err[0]
    monkeypatch.undo()
    assert prepared()[0] == 0 and len(load_tiny_set(own / "data").train) == 5


def test_the_usual_joint_file_has_two_streams(prepared, own, tmp_path):
    """[L,2048] is RGB and flow; --modal takes its half."""
    (tmp_path / "wide").mkdir()
    generator = np.random.default_rng(0)
    for video in VIDEOS:
        np.save(tmp_path / "wide" / f"{video}.npy", generator.random((5, 2048), dtype=np.float32))
    assert prepared("--modal", "flow", features=tmp_path / "wide")[0] == 0
    (file,) = (own / "data").glob("features/*/flow/train_0.npy")
    assert np.array_equal(np.load(file), np.load(tmp_path / "wide" / "train_0.npy")[:, 1024:])


def test_what_an_earlier_try_wrote_elsewhere_goes(prepared, own, monkeypatch):
    """Other videos for test the second time: the first's files are not left in both splits."""
    written = 0

    def fail(_):
        nonlocal written
        written += 1
        if written > 13:
            raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    assert prepared("--seed", "0")[0] == 1
    monkeypatch.undo()
    assert prepared("--seed", "5")[0] == 0
    data = load_tiny_set(own / "data")
    for split, videos in (("train", data.train), ("test", data.test)):
        files = {file.stem for file in (own / "data" / "features" / split).rglob("*.npy")}
        assert files == {video.video_id for video in videos}


# Who is tested on


def labels_of(counts):
    return {f"{c}{i}": [c] for c, n in counts.items() for i in range(n)}


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_split_keeps_every_class_in_training(fraction, seed):
    labels = {**labels_of({"a": 40, "b": 20, "c": 3, "d": 1}), "ab": ["a", "b"], "dc": ["d", "c"]}
    names = split_videos(labels, fraction, seed)
    assert set(names["train"]) | set(names["test"]) == set(labels) and not set(names["train"]) & set(names["test"])
    assert {label for v in names["train"] for label in labels[v]} == set("abcd")
    assert abs(len(names["test"]) - fraction * len(labels)) <= 1
    assert list(names["train"]) == [v for v in labels if v in names["train"]]  # in the order of the table


def test_split_is_in_proportion():
    names = split_videos(labels_of({"a": 100, "b": 10}), 0.3, 0)
    assert len([v for v in names["test"] if v[0] == "b"]) == 3


def test_split_goes_by_the_seed():
    labels = labels_of({"a": 30, "b": 30})
    assert split_videos(labels, 0.3, 5) == split_videos(labels, 0.3, 5) != split_videos(labels, 0.3, 6)


def test_videos_with_segments_are_tested_on_first(prepared, own):
    write_csv(own / "segments.csv", "video,label,start,end", "train_3,Dive,1,2", "train_4,Jump,1,2")
    out = prepared("--annotations", str(own / "segments.csv"))[1]
    assert "2 segments in 2 test videos" in out
    assert [v.video_id for v in load_tiny_set(own / "data").test] == ["train_3", "train_4"]


def test_the_table_may_say_who(prepared, own):
    rows = [f"{v},{CLASSES[i % 3]},{'Training' if i < 4 else 'val'}" for i, v in enumerate(VIDEOS)]
    write_csv(own / "labels.csv", "video,label,subset", *rows)
    assert prepared()[0] == 0
    assert [v.video_id for v in load_tiny_set(own / "data").test] == VIDEOS[4:]


# Mistakes


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "line 1: expected the columns video,label"),
        (["train_0,Dive"], "line 1: expected the columns video,label, found 'train_0,dive'"),
        (["video,label"], "no lines after the header"),
        (["video,verb", "train_0,Dive"], "line 1: expected the columns video,label, found 'video,verb'"),
        (["video,label", "train_0,Dive,Jump"], "line 2: 3 columns, the first line has 2"),
        (["video,label", ",Dive"], "line 2: no video name"),
        (["video,label", "train_0,Dive", "stranger,Dive"], "line 3: no features for video 'stranger' in"),
        (["video,label", "train_0.npy,Dive"], "there are some of 'train_0': write the name so"),
        (["video,label", "train_0,Dive;Dive"], "line 2: video 'train_0': label 'Dive' is repeated"),
        (["video,label", "train_0,Dive", "train_1,"], "line 3: video 'train_1' has no label"),
        (["video,label", "train_0,Dive", "train_1,Jump"], "every class needs a second video"),
        (["video,label,subset", "train_0,Dive,holdout"], "line 2: video 'train_0': subset 'holdout' is neither"),
        (["video,label,subset", "train_0,Dive,train", "train_1,Dive,"], "line 3: video 'train_1' has no subset"),
        (
            ["video,label,subset", "train_0,Dive,train", "train_0,Jump,test"],
            "line 3: video 'train_0': subset 'test', but",
        ),
        (["video,label,subset", "train_0,Dive,train"], "names no test video"),
        (["video,label", '"train_0,Dive'], "not CSV"),
        (["video,label,notes", "train_0,Dive,x"], "the only known columns are video, label, subset"),
    ],
)
def test_wrong_labels(prepared, own, lines, words):
    table = write_csv(own / "labels.csv", *lines) if lines else own / "labels.csv"
    if not lines:
        table.write_text("")
    line = refusal(prepared())
    assert str(table) in line or "second video" in words
    assert words in line
    assert not (own / "data").exists()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("train_0,Dive,3,2", "ends at or before its start"),
        ("train_0,Dive,1,one", "is not [start, end]"),
        ("train_0,Dive,1,inf", "is not finite"),
        ("train_0,Jump,1,2", "has label 'Jump', but not in"),
        ("stranger,Dive,1,2", "'stranger' is not in"),
        ("train_0,Dive,1", "3 columns"),
    ],
)
def test_wrong_segments(prepared, own, row, words):
    table = write_csv(own / "segments.csv", "video,label,start,end", "train_0,Dive,0,1", row)
    line = refusal(prepared("--annotations", str(table)))
    assert f"{table} line 3" in line and words in line and not (own / "data").exists()


def test_wrong_flags_and_folders(prepared, own, tmp_path):
    assert "--features" in refusal(prepared(features=tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "holds no features" in refusal(prepared(features=tmp_path / "empty"))
    assert "--test_fraction 1" in refusal(prepared("--test_fraction", "1"))
    assert "--test_fraction" in refusal(prepared("--test_fraction", "some"))
    assert "--test_fraction nan" in refusal(prepared("--test_fraction", "nan"))
    assert "--seed -1" in refusal(prepared("--seed", "-1"))
    assert f"--out {own}: holds" in refusal(prepared("--out", str(own)))
    assert str(own / "none.csv") in refusal(prepared("--annotations", str(own / "none.csv")))
    assert f"expected [snippets, {FEATURE_SIZE + 1}]" in refusal(prepared("--feature_size", str(FEATURE_SIZE + 1)))
    (own / "data").mkdir()
    (own / "data" / "mine.txt").write_text("mine")
    assert "exists and is not an unfinished set" in refusal(prepared())
    assert [p.name for p in (own / "data").iterdir()] == ["mine.txt"]


def test_an_odd_joint_width_is_no_two_streams(prepared, own, tmp_path):
    (tmp_path / "odd").mkdir()
    for video in VIDEOS:
        np.save(tmp_path / "odd" / f"{video}.npy", np.ones((9, 7), np.float32))
    assert "7 channels are not two streams side by side; give --modal" in refusal(prepared(features=tmp_path / "odd"))


def test_report_of_some_with_and_some_without():
    nothing = EvaluationSummary(mAP=None, average_mAP=None, video_accuracy=None, per_class_AP=None)
    assert "video accuracy: not computed" in evaluation_report({"best": nothing})
    labelled = dataclasses.replace(nothing, video_accuracy=0.5)
    assert evaluation_report({"best": labelled}).splitlines()[1] == "video accuracy: best 50.0 %"
    measured = dataclasses.replace(nothing, mAP={"0.5": 0.25}, average_mAP={"0.5:0.5": 0.25})
    assert evaluation_report({"best": measured}).startswith(
        "tIoU "
    )  # of a checkpoint that has not kept what was compared
    counted = dataclasses.replace(measured, compared={"videos": 1, "instances": 2, "detections": 3})
    last = dataclasses.replace(counted, compared={"videos": 1, "instances": 2, "detections": 4})
    first = evaluation_report({"best": counted, "last": last}).splitlines()[0]
    assert first == "mAP % by protocol sal, 1 video, 2 instances, detections: best 3, last 4"


def one_stream_by_name(features):
    for video in VIDEOS:
        (features / "rgb" / f"{video}.npy").rename(features / f"{video}_rgb.npy")
    for stream in ("rgb", "flow"):
        shutil.rmtree(features / stream)


def two_hdf5_files(features):
    for stream in ("rgb", "flow"):
        with h5py.File(features / f"{stream}.h5", "w") as file:
            for video in VIDEOS:
                file[video] = np.load(features / stream / f"{video}.npy")
        shutil.rmtree(features / stream)


def with_v(features):
    for file in [*features.rglob("*.npy")]:
        file.rename(file.with_name(f"v_{file.name}"))


@pytest.mark.parametrize(
    ("spoil", "flags"), [(one_stream_by_name, ["--modal", "rgb"]), (two_hdf5_files, []), (with_v, [])]
)
def test_features_in_the_forms_that_sets_have(prepared, own, spoil, flags):
    spoil(own / "features")
    code, out, err = prepared(*flags)
    assert (code, err) == (0, []) and "5 training and 2 test videos" in out and "left out" not in out


def test_one_stream_of_two_is_named_with_the_flag_that_fits(prepared, own):
    one_stream_by_name(own / "features")
    assert "--modal rgb would fit" in refusal(prepared())


def test_what_is_there_is_said(prepared, own):
    write_csv(own / "labels.csv", "video,label", "clip,Dive", "train_0,Dive")
    line = refusal(prepared())
    assert "no features for video 'clip'" in line and "it has 'train_0', 'train_1', 'train_2' and 4 more" in line
