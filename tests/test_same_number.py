"""A run's mAP is that of eval.detection on its ground truth and its detections, or a line says why not."""

import json

import pytest

from eval.detection import main as evaluate_files


def rename(tiny, names):
    """Give videos of the tiny set other names, in the ground truth, the lists and the features."""
    tiny.edit_gt(lambda database: [database.update({new: database.pop(old)}) for old, new in names.items()])
    for file in [*tiny.path.rglob("*.npy")]:
        if file.stem in names:
            file.rename(file.with_stem(names[file.stem]))
    for file in tiny.path.glob("split_*.txt"):
        listed = file.read_text().split()
        file.write_text("".join(f"{names.get(name, name)}\n" for name in listed))


def without_lists(tiny):
    for file in tiny.path.glob("split_*.txt"):
        file.unlink()


def thumos(tiny):
    rename(tiny, {"test_0": "video_test_0000270", "test_1": "video_test_0001496"})
    without_lists(tiny)


def thumos_listed(tiny):
    rename(tiny, {"test_0": "video_test_0000270", "test_1": "video_test_0001496"})


def unmarked(tiny):
    tiny.edit_gt(lambda database: database["test_0"].update(annotations=[], labels=["Dive"]))


def fewer_listed(tiny):
    (tiny.path / "split_test.txt").write_text("test_0\ntest_3\n")


def listed_as_validation(tiny):
    fewer_listed(tiny)
    (tiny.path / "split_test.txt").rename(tiny.path / "split_val.txt")


def listed_as_testing(tiny):
    fewer_listed(tiny)
    (tiny.path / "split_test.txt").rename(tiny.path / "split_testing.txt")


def listed_of_other_subsets(tiny):
    """ActivityNet's own ground truth, with split files of the usual names."""
    activitynet_subsets(tiny)
    tiny.edit_gt(lambda database: database.update(secret={"subset": "testing", "annotations": []}))
    for split, count in (("train", 7), ("test", 2)):
        (tiny.path / f"split_{split}.txt").write_text("".join(f"{split}_{i}\n" for i in range(count)))


def activitynet_subsets(tiny):
    subsets = {"train": "training", "test": "validation"}
    tiny.edit_gt(lambda database: [entry.update(subset=subsets[entry["subset"]]) for entry in database.values()])
    without_lists(tiny)


def empty_segment(tiny):
    tiny.edit_gt(lambda database: database["test_0"]["annotations"].append({"label": "Dive", "segment": [3, 3]}))


def only_an_empty_segment(tiny):
    tiny.edit_gt(lambda database: database["test_0"].update(annotations=[{"label": "Dive", "segment": [3, 3]}]))


def without_features(tiny):
    for stream in ("rgb", "flow"):
        tiny.feature("test", stream, "test_1").unlink()


def listed_alone(tiny):
    with open(tiny.path / "split_test.txt", "a") as file:
        file.write("unheard_of\n")


def short_durations(tiny):
    tiny.edit_gt(lambda database: [entry.update(duration=9.5) for entry in database.values()])


SETS = {
    "as it is": (None, [], []),
    "thumos": (thumos, [], []),
    "thumos, listed": (thumos_listed, [], []),
    "unmarked": (unmarked, [], []),
    "fewer listed": (fewer_listed, ["--skip_unusable"], []),
    "listed as validation": (listed_as_validation, ["--skip_unusable"], []),
    "listed as testing": (listed_as_testing, ["--skip_unusable"], []),
    "listed, of other subsets": (listed_of_other_subsets, ["--skip_unusable"], ["--subset", "validation"]),
    "activitynet": (activitynet_subsets, [], ["--subset", "validation"]),
    "empty segment": (empty_segment, ["--skip_unusable"], ["--skip_empty"]),
    "only an empty segment": (only_an_empty_segment, ["--skip_unusable"], ["--skip_empty"]),
    "without features": (without_features, ["--skip_unusable"], ["--missing", "skip"]),
    "listed, not annotated": (listed_alone, ["--skip_unusable"], []),
    "short durations": (short_durations, [], []),
}


@pytest.mark.parametrize("kind", SETS)
def test_both_commands_give_the_same_number(tiny, run, tmp_path, capsys, kind):
    spoil, flags, evaluation_flags = SETS[kind]
    if spoil:
        spoil(tiny)
    outcome = run(tiny.path, "--exp_name", "x", "--num_epochs", "1", *flags)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "out" / "x"
    best = json.loads((folder / "results.json").read_text())["best"]

    def evaluated(*chosen):
        files = ["--ground_truth", str(tiny.gt), "--detections", str(folder / "detections_best.json")]
        assert evaluate_files([*files, "--json", *chosen]) == 0
        return json.loads(capsys.readouterr().out)

    assert evaluated(*evaluation_flags)["mAP"] == best["mAP"]
    assert sum(best["mAP"].values()) > 0
    if "--subset" not in evaluation_flags:
        plain = evaluated()
        said = {note["key"] for note in plain["notes"]} & {"missing_videos", "empty_instances"}
        assert plain["mAP"] == best["mAP"] or said
