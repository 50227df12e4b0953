"""--inference_only on sets that a trained model does not know: without labels, with some of its classes, or with others."""

import json

import numpy as np
import pytest
from support.tiny import CLASSES
from support.trained import write_bare_model, write_tiny_model


@pytest.fixture
def infer(run, tmp_path):
    """infer(path, *flags, model=...): the outcome, and the detections and results it wrote."""

    def call(path, *flags, model=None):
        file = model or write_tiny_model(tmp_path / "model.pt")
        outcome = run(path, "--inference_only", "--model_file", str(file), "--exp_name", "x", *flags)
        folder = tmp_path / "out" / "x" / "inference"
        assert outcome.code == 0, outcome.err
        detections = json.loads((folder / "detections.json").read_text())["results"]
        return outcome.out, detections, json.loads((folder / "results.json").read_text())

    return call


def keep(tiny, *names):
    """Leave only these files and folders of the set."""
    for path in sorted(tiny.path.rglob("*"), reverse=True):
        inside = path.relative_to(tiny.path)
        if not any(inside.is_relative_to(name) for name in names) and not (path.is_dir() and any(path.iterdir())):
            path.rmdir() if path.is_dir() else path.unlink()


def unlabel(database):
    for entry in database.values():
        entry["annotations"] = []


TEST = [f"test_{i}" for i in range(4)]


@pytest.mark.parametrize(
    ("kept", "listed"),
    [
        (["features/test"], TEST),
        (["features"], TEST),
        (["features/train"], [f"train_{i}" for i in range(7)]),
        (["features/test", "split_test.txt"], TEST),
        (["features", "split_train.txt", "split_test.txt"], TEST),
    ],
    ids=["test", "both", "train", "split file", "split files"],
)
def test_features_without_ground_truth(tiny, infer, kept, listed):
    keep(tiny, *kept)
    out, detections, results = infer(tiny.path)
    assert "mAP: not computed" in out and "video accuracy: not computed" in out
    assert list(detections) == listed and all(detections.values()) and results["mAP"] is None


def test_a_folder_without_layout(tiny, infer, tmp_path):
    (tmp_path / "flat").mkdir()
    for video in TEST:
        streams = [np.load(tiny.feature("test", stream, video)) for stream in ("rgb", "flow")]
        np.save(tmp_path / "flat" / f"{video}.npy", np.concatenate(streams, axis=1))
    assert infer(tmp_path / "flat")[1] == infer(tiny.path)[1]


@pytest.mark.parametrize("subset", ["test", "val", "validation"])
def test_a_ground_truth_of_test_videos_alone(tiny, infer, subset):
    expected = infer(tiny.path)[2]["mAP"]
    keep(tiny, "features/test", "gt.json")
    tiny.edit_gt(lambda database: [database.pop(f"train_{i}") for i in range(7)])
    tiny.edit_gt(lambda database: [entry.update(subset=subset) for entry in database.values()])
    if subset != "test":  # validation features alone: where nothing is trained, they are those of the test videos
        (tiny.path / "features" / "test").rename(tiny.path / "features" / subset)
    assert infer(tiny.path)[2]["mAP"] == expected


def test_a_ground_truth_without_annotations(tiny, infer):
    tiny.edit_gt(unlabel)
    out, detections, _ = infer(tiny.path)
    assert "mAP: not computed" in out and list(detections) == TEST


def test_some_of_the_classes(tiny, infer, tmp_path):
    """The numbers are those of the same videos among all classes: others have no ground truth, and so no AP."""
    model = write_tiny_model(tmp_path / "five.pt", classes=("Archery", *CLASSES, "Zumba"))
    out, detections, results = infer(tiny.path, model=model)
    assert "does not know" not in out and results["mAP"] is not None
    found = {d["label"] for found in detections.values() for d in found}
    assert found & {"Archery", "Zumba"}  # they are still predicted


def test_labels_that_the_model_does_not_know(tiny, infer, tmp_path):
    def rename(database):
        database["test_1"]["annotations"][0]["label"] = "Juggle"

    known = infer(tiny.path, "--verbose")
    tiny.edit_gt(rename)
    out, _, results = infer(tiny.path, "--verbose")
    assert "labels that the model does not know: 1 ('Juggle'); their AP is 0" in out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("Juggle")]
    assert set(row[1:]) == {"0.0"}
    assert results["mAP"]["0.1"] < known[2]["mAP"]["0.1"]


def test_none_of_the_labels(tiny, refused_with, tmp_path):
    model = write_tiny_model(tmp_path / "other.pt", classes=("A", "B", "C"))
    line = refused_with(tiny.path, "--inference_only", "--model_file", str(model))
    assert "other.pt: knows none of the data's 3 labels ('Dive', 'Jump', 'Throw'), but 'A', 'B', 'C'" in line


def test_the_assumed_order_of_a_bare_state_dict(tiny, infer, tmp_path):
    bare = write_bare_model(tmp_path / "bare.pt")
    out, detections, results = infer(tiny.path, "--class_th", "0", model=bare)
    assert "bare.pt names no classes; the data's classes are taken to be in this order: Dive, Jump, Throw" in out
    assert (detections, results["mAP"]) == (infer(tiny.path)[1], infer(tiny.path)[2]["mAP"])
    (tmp_path / "names.txt").write_text("Throw\nJump\nDive\n")
    out, renamed, _ = infer(tiny.path, "--classes", str(tmp_path / "names.txt"), "--class_th", "0", model=bare)
    assert "names no classes" not in out
    turned = {"Throw": "Dive", "Dive": "Throw", "Jump": "Jump"}
    sort = {v: sorted((turned[d["label"]], d["score"]) for d in found) for v, found in renamed.items()}
    assert sort == {v: sorted((d["label"], d["score"]) for d in found) for v, found in detections.items()}


def test_a_bare_state_dict_of_another_number_of_classes(tiny, refused_with, tmp_path):
    bare = write_bare_model(tmp_path / "bare.pt", classes=5)
    line = refused_with(tiny.path, "--inference_only", "--model_file", str(bare))
    assert "bare.pt: names no classes and has 5, the data have 3; name them" in line and "--classes FILE" in line


def test_shapes_need_not_be_typed(tiny, tmp_path, capsys):
    """A bare state dict's sizes are those of its weights."""
    import main

    bare = write_bare_model(tmp_path / "bare.pt")
    flags = ["--inference_only", "--model_file", str(bare), "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
    assert main.main(["--data_path", str(tiny.path), *flags]) == 0, capsys.readouterr().err


def test_resuming_still_needs_the_same_classes(tiny, run, tmp_path):
    def rename(database):
        for entry in database.values():
            for note in entry["annotations"]:
                note["label"] = note["label"].replace("Jump", "Leap")

    run(tiny.path, "--exp_name", "x", "--num_epochs", "1")
    tiny.edit_gt(rename)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--resume")
    assert outcome.code == 2 and "Leap" in outcome.err
    assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0


def test_other_data_do_not_inherit_the_ground_truth(tiny, run, tmp_path, infer):
    """A model trained with --ground_truth says nothing about where another set has its own."""
    elsewhere = tiny.gt.rename(tmp_path / "elsewhere.json")
    run(tiny.path, "--exp_name", "m", "--num_epochs", "1", "--ground_truth", str(elsewhere))
    model = tmp_path / "out" / "m" / "best.pt"
    (tmp_path / "new").mkdir()
    (tiny.path / "features" / "test").rename(tmp_path / "new" / "features")
    _, detections, results = infer(tmp_path / "new", model=model)
    assert list(detections) == TEST and results["mAP"] is None
