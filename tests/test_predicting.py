"""main.py --predict: a trained model on videos without labels."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from support.disk import complaint, contents
from support.fuzz import time_limit
from support.tiny import CLASSES, FEATURE_SIZE
from support.trained import write_bare_model, write_tiny_model

import main
from run.predicting import PredictedVideo, Predictions, write_table
from utils.segments import Segments


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """A working folder with a model and the features of two videos; here.predict(*arguments) runs main.py --predict."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, length in (("long", 50), ("short", 10)):
        np.save(tmp_path / f"{name}.npy", generator.random((length, 2 * FEATURE_SIZE)).astype(np.float32))
    write_tiny_model(tmp_path / "model.pt")

    class Here:
        path = tmp_path

        def predict(self, *arguments, model="model.pt"):
            capsys.readouterr()
            code = main.main(["--predict", *map(str, arguments), "--model_file", str(model), "--device", "cpu"])
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        def out(self, *arguments, **model):
            code, out, err = self.predict(*arguments, **model)
            assert code == 0, err
            return out

        def refused(self, *arguments, **model):
            before = contents(tmp_path)
            code, _, err = self.predict(*arguments, **model)
            line = complaint(code, err)
            assert contents(tmp_path) == before
            return line

        def detections(self, folder):
            return json.loads((tmp_path / folder / "detections.json").read_text())["results"]

    return Here()


def test_one_file_in_one_command(here):
    out = here.out("long.npy")
    assert "model.pt: 3 classes, on cpu (fp32)" in out
    assert "frame rate: 25 frames per second ASSUMED for 1 video; give --fps if it is another" in out
    assert "long (32.0 s): " in out and "results in predictions/long" in out
    (video,) = here.detections("predictions/long").items()
    name, found = video
    assert name == "long" and found and {d["label"] for d in found} <= set(CLASSES)
    assert found == sorted(found, key=lambda d: -d["score"])
    with open("predictions/long/detections.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [
        {"label": r["label"], "score": float(r["score"]), "segment": [float(r["start"]), float(r["end"])]} for r in rows
    ] == found
    results = json.loads((here.path / "predictions/long/results.json").read_text())
    assert results["model_file"] == str(here.path / "model.pt") and results["detections"] == len(found)
    assert results["videos"] == {"long": {"seconds": 32.0, "fps": 25.0}}
    assert results["options"]["hidden_size"] == 8 and "torch" in results["versions"]


def test_a_stream_that_is_cut_is_said(here):
    rgb, flow = np.hsplit(np.load(here.path / "long.npy"), 2)
    np.save(here.path / "pair_rgb.npy", rgb)
    np.save(here.path / "pair_flow.npy", flow[:-1])
    out = here.out("pair_rgb.npy")
    assert "streams that differ by 1 or 2 snippets, cut to the shorter: 1 video, such as 'pair'" in out
    results = json.loads((here.path / "predictions/pair_rgb/results.json").read_text())
    assert results["videos"]["pair"]["cut"] == 1


def test_every_video_is_listed(here):
    here.out("long.npy", "short.npy", "--min_score", "1e6", "--out", "empty")
    assert here.detections("empty") == {"long": [], "short": []}


@pytest.mark.parametrize("short_videos", ["stretch", "keep"])
def test_the_same_as_inference_on_a_set(here, tiny, short_videos):
    """To the bit, apart from the order: here the best come first."""
    write_tiny_model(here.path / "m.pt", short_videos=short_videos)
    place = ["--data_path", str(tiny.path), "--output_dir", "output", "--device", "cpu"]
    assert main.main(["--inference_only", "--model_file", "m.pt", *place]) == 0
    here.out(tiny.path / "features" / "test", "--out", "x", model="m.pt")
    inferred = here.detections("output/m/inference")
    assert here.detections("x") == {v: sorted(found, key=lambda d: -d["score"]) for v, found in inferred.items()}


def test_features_may_stand_anywhere(here):
    here.out("--out", "x", "long.npy", "--top", "1", "short.npy")
    assert {video: len(found) for video, found in here.detections("x").items()} == {"long": 1, "short": 1}


def test_nothing_is_overwritten(here):
    first, second = here.out("long.npy"), here.out("long.npy")
    assert "results in predictions/long\n" in first and "results in predictions/long-2\n" in second
    assert "--out predictions/long: exists, and nothing is overwritten" in here.refused(
        "long.npy", "--out", "predictions/long"
    )


def test_never_into_an_experiment(here):
    shutil.copy("model.pt", "best.pt")
    experiment = here.path / "output" / "x"
    experiment.mkdir(parents=True)
    (experiment / "options.json").write_text("{}")
    shutil.copy("model.pt", experiment / "best.pt")
    for out in ("output/x/new", "output/x/deep/er"):
        assert "is a trained experiment's folder" in here.refused("long.npy", "--out", out, model="output/x/best.pt")
    (here.path / "link").symlink_to(experiment)
    assert "is a trained experiment's folder" in here.refused("long.npy", "--out", "link/new")


def test_the_frame_rate_in_use_is_said(here):
    assert "frame rate: 50 frames per second, --fps" in here.out("long.npy", "--fps", "50")
    write_tiny_model(here.path / "slow.pt", fps=10.0)
    assert "frame rate: 10 frames per second, as the model was trained with" in here.out("long.npy", model="slow.pt")
    database = {"long": {"subset": "", "annotations": [], "fps": 30, "duration": 27}}
    (here.path / "gt.json").write_text(json.dumps({"database": database}))
    out = here.out("long.npy", "short.npy", "--ground_truth", "gt.json")
    assert "30 frames per second, as a ground truth states for 1 video; 25 frames per second ASSUMED for 1 video" in out
    assert "long (27.0 s)" in out


def test_what_an_experiment_says_of_its_data_does_not_matter(here):
    write_tiny_model(here.path / "m.pt", data_path="/gone", ground_truth="/gone/gt.json", layout="hdf5")
    here.out("long.npy", model="m.pt")


@pytest.mark.parametrize(
    ("array", "complains"),
    [
        (np.full((9, 12), np.nan, np.float32), "bad.npy: NaN or infinity"),
        (np.zeros((9, 10), np.float32), "bad.npy: shape (9, 10), expected [snippets, 12]"),
        (np.zeros((0, 12), np.float32), "bad.npy: no snippets"),
        (np.zeros((9, 12), int), "bad.npy: an array of int64"),
    ],
    ids=["nan", "width", "empty", "type"],
)
def test_one_unusable_video(here, array, complains):
    """Refused in one line, or left out and said; a NaN is found wherever it is, though T snippets are drawn of L."""
    np.save("bad.npy", array)
    line = here.refused("long.npy", "bad.npy", "short.npy")
    assert complains in line and "or leave such videos out with --skip_unusable" in line
    out = here.out("long.npy", "bad.npy", "short.npy", "--skip_unusable", "--out", "x")
    assert f"left out: {complains}" in out
    assert list(here.detections("x")) == ["long", "short"]
    here.out("long.npy", "short.npy", "--out", "y")
    assert here.detections("x") == here.detections("y")
    assert list(json.loads((here.path / "x" / "results.json").read_text())["left_out"].values()) == [1]


def test_how_to_leave_a_video_out_is_said_once(here):
    for stream, length in (("rgb", 9), ("flow", 5)):
        np.save(f"v_{stream}.npy", np.ones((length, FEATURE_SIZE), np.float32))
    assert here.refused("v_rgb.npy").count("--skip_unusable") == 1
    assert "--skip_unusable" not in here.out("v_rgb.npy", "long.npy", "--skip_unusable")


def test_files_of_a_folder_that_are_not_read_are_named(here):
    (here.path / "new" / "more").mkdir(parents=True)
    shutil.copy("long.npy", "new/a.npy")
    assert "not read" not in here.out("new")
    for name in ("b", "c"):
        shutil.copy("long.npy", f"new/more/{name}.npy")
    assert "note: new: not read: new/more/b.npy, new/more/c.npy; to predict on these too" in here.out("new")


def test_durations_that_contradict_the_features_are_said(here):
    (here.path / "new").mkdir()
    shutil.copy("long.npy", "new/a.npy")  # 32 s
    for duration, said in ((31.5, False), (5, True)):
        (here.path / "new" / "gt.json").write_text(json.dumps({"database": {"a": {"duration": duration}}}))
        assert ("warning: the durations of 1 of 1 videos contradict their features" in here.out("new")) == said


def test_a_file_beside_folders_of_streams_is_named(here):
    for i, stream in enumerate(("rgb", "flow")):
        (here.path / "new" / stream).mkdir(parents=True)
        np.save(here.path / "new" / stream / "a.npy", np.load("long.npy")[:, i * FEATURE_SIZE :][:, :FEATURE_SIZE])
    assert "not read" not in here.out("new")
    shutil.copy("long.npy", "new/c.NPY")
    assert "note: new: not read: new/c.NPY" in here.out("new")
    assert here.out("new", "new/c.NPY", "--out", "out") and set(here.detections("out")) == {"a", "c"}


@pytest.mark.parametrize("names", [("Dive/a.npy", "Jump/b.npy"), ("x/y/a.npy", "x/y/b.npy")])
def test_folders_in_a_folder(here, names):
    for name in names:
        (here.path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("long.npy", here.path / "new" / name)
    assert "not read" not in here.out("new", "--out", "out") and set(here.detections("out")) == {"a", "b"}


def test_a_folder_for_each_video(here):
    for name in ("a", "b"):
        (here.path / "new" / name).mkdir(parents=True)
        for i, stream in enumerate(("rgb", "flow")):
            np.save(
                here.path / "new" / name / f"{stream}.npy", np.load("long.npy")[:, i * FEATURE_SIZE :][:, :FEATURE_SIZE]
            )
    here.out("new", "--out", "out")
    assert set(here.detections("out")) == {"a", "b"}


def test_a_nan_in_a_snippet_that_is_not_drawn(here):
    features = np.load("long.npy")
    features[1] = np.nan  # 24 of 50 snippets are drawn: 0, 2, 4 ..
    np.save("bad.npy", features)
    assert "first at snippet 1" in here.refused("bad.npy")


def test_no_video_is_left(here):
    np.save("bad.npy", np.zeros((9, 10), np.float32))
    assert "no video is left whose features can be used" in here.refused("bad.npy", "--skip_unusable")


def test_what_the_model_needs_is_said(here):
    needed = "model.pt takes rgb and flow of 6 channels each, in two arrays or side by side"
    for name, width in (("bad_rgb.npy", 6), ("bad.npy", 10), ("flat.npy", 1)):
        np.save(name, np.zeros((9, width), np.float32))
        assert needed in here.refused(name)


def test_a_bare_state_dict_needs_class_names(here):
    write_bare_model(here.path / "bare.pt")
    assert "bare.pt: names no classes; name its 3" in here.refused("long.npy", model="bare.pt")
    (here.path / "names.txt").write_text("Dive\nJump\r\n\nThrow\n")
    t = ("--num_segments", "24", "--class_th", "0")
    here.out("long.npy", "--classes", "names.txt", "--out", "bare", *t, model="bare.pt")
    here.out("long.npy", "--out", "own")
    assert here.detections("bare") == here.detections("own")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("names.json", '["Throw", "Jump", "Dive"]'),
        ("names.txt", "7 Throw\n9 Jump\n12 Dive\n"),
        ("names.txt", "0\tThrow\r\n1\tJump\r\n2\tDive"),
        ("names.txt", "1: Throw\n2: Jump\n3: Dive"),
    ],
)
def test_class_names_in_the_forms_that_are_around(here, file, text):
    write_bare_model(here.path / "bare.pt")
    (here.path / file).write_text(text)
    assert "in this order: Throw, Jump, Dive\n" in here.out(
        "long.npy", "--classes", file, "--out", "x", model="bare.pt"
    )


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("names.json", '{"Throw": 0}', "neither a list of names nor a ground truth"),
        ("names.json", '["Throw", 3, "Dive"]', "neither a list of names nor a ground truth"),
        ("names.txt", "2 Dive\n0 Throw\n1 Jump", "numbered, but not in ascending order"),
        ("names.txt", "1 Dive\n1 Throw\n1 Jump", "numbered, but not in ascending order"),
    ],
)
def test_class_names_in_no_order(here, file, text, said):
    write_bare_model(here.path / "bare.pt")
    (here.path / file).write_text(text)
    assert said in here.refused("long.npy", "--classes", file, model="bare.pt")


def test_names_that_begin_with_numbers_stay(here):
    write_bare_model(here.path / "bare.pt")
    (here.path / "names.txt").write_text("100m run\n4 x 100m\nDive")
    said = here.out("long.npy", "--classes", "names.txt", "--out", "x", model="bare.pt")
    assert "in this order: 100m run, 4 x 100m, Dive\n" in said


def test_what_is_assumed_of_a_bare_state_dict_is_said(here):
    write_bare_model(here.path / "bare.pt")
    (here.path / "names.txt").write_text("Throw\nJump\nDive\n")
    flags = ("--classes", "names.txt", "--pseudo_extra", "2")
    said = here.out("long.npy", *flags, "--num_segments", "24", "--out", "bare", model="bare.pt")
    assert "bare.pt states no options: those of --dataset thumos14 are assumed, T = 24 snippets" in said
    assert "its classes are taken to be in this order: Throw, Jump, Dive\n" in said
    assert "assumed, T" not in here.out("long.npy", "--out", "own")


def test_results_name_no_data_set(here):
    here.out("long.npy", "--out", "out")
    results = json.loads((here.path / "out" / "results.json").read_text())
    assert "data" not in results and results["options"]["predict"] == ["long.npy"]


@pytest.mark.parametrize(
    ("text", "complains"),
    [
        ("Dive\nJump\n", "names 2 classes, model.pt has 3"),
        ("Dive\nJump\nJump\n", "'Jump' is listed twice"),
        ("Dive\nThrow\nJump\n", "other names than model.pt states"),
        ("\n\n", "names no class"),
    ],
)
def test_wrong_class_names(here, text, complains):
    (here.path / "names.txt").write_text(text)
    assert complains in here.refused("long.npy", "--classes", "names.txt")


def test_flags_that_contradict_it(here):
    assert "--predict: name the features" in here.refused()
    assert "--predict and --data_path contradict" in here.refused("long.npy", "--data_path", "x")
    assert "--predict and --compile contradict" in here.refused("long.npy", "--compile")
    assert "--predict and --inference_only contradict" in here.refused("long.npy", "--inference_only")
    assert "unrecognized arguments: --wrong" in here.refused("long.npy", "--wrong", "3")
    assert complaint(main.main(["--out", "x"]), "main.py: error: ")


def test_the_table_of_many_videos_takes_no_longer_for_each(monkeypatch):
    """Looking up the names again for every row made 3,000 videos take a minute, and 30,000 most of an hour."""
    videos = tuple(PredictedVideo(name=f"v{i}", seconds=9.0, fps=25.0, fps_stated=False) for i in range(3000))
    rows = [(video, 0, 1.0, 2.0, 0.5) for video in range(3000) for _ in range(15)]
    predictions = Predictions(videos=videos, classes=("Dive",), detections=Segments.from_rows(rows))
    table = io.BytesIO()
    with time_limit(3):
        write_table(table, predictions.entries())
    assert table.getvalue().count(b"\n") == 45_001
