"""python -m eval diagnose, compare and tables, given anything: a table or JSON, or one line that says what is wrong."""

import json

from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, promised, strict_json
from support.strategies import ODD_GRIDS, changed, damaged, json_bytes, odd_values

from eval.__main__ import main
from eval.run_tables import FORMATS

SEGMENTS = [{"label": "Dive", "segment": [1.5, 4.0]}, {"label": "Jump", "segment": ["6", "9.25"]}]
GROUND_TRUTH = {
    "database": {
        "test_0": {"subset": "test", "annotations": SEGMENTS, "duration": 31},
        "test_1": {"subset": "test", "annotations": SEGMENTS[:1]},
    }
}
DETECTIONS = {
    "results": {
        "test_0": [
            {"label": "Dive", "score": 0.9, "segment": [1.0, 4.0]},
            {"label": "Jump", "score": 0.5, "segment": [6.0, 7.0]},
        ],
        "test_1": [{"label": "Jump", "score": 0.25, "segment": [0, 5]}],
    }
}
DURATIONS = {"test_0": 31, "test_1": "40.5"}
EVALUATION = {
    "step": 3,
    "epoch": 1,
    "mAP": {"0.3": 0.5, "0.5": 0.25},
    "average_mAP": {"0.3:0.5": 0.375},
    "video_accuracy": None,
    "per_class_AP": {"Dive": {"0.3": 0.5, "0.5": 0.25}},
}
RESULTS = {
    "best": EVALUATION,
    "last": EVALUATION,
    "history": [{"step": 3, "epoch": 1, "average_mAP": 0.375, "video_accuracy": None}],
    "seed": 1,
    "options": {"seed": 1, "lr": 0.1},
    "data": {"name": "set", "path": "/set"},
}


def files_of(document):
    """The document changed as JSON, or damaged as a file."""
    return changed(document).map(json_bytes) | changed(document).map(json_bytes) | damaged(json_bytes(document))


def write(folder, **files):
    """The files from bytes, valid ones where none are given."""
    for name, document in (("gt", GROUND_TRUTH), ("a", DETECTIONS), ("b", DETECTIONS), ("seconds", DURATIONS)):
        (folder / f"{name}.json").write_bytes(files.get(name, json_bytes(document)))
    return ["--ground_truth", str(folder / "gt.json")]


def kept(command, arguments, folder, *, as_json):
    outcome = promised(main, [command, *arguments, *(["--json"] if as_json else [])], folder)
    assert not (outcome.code and outcome.out), "a table, and yet an error"
    if as_json and outcome.code == 0:
        strict_json(outcome.out)


@fuzz(
    150,
    truth=files_of(GROUND_TRUTH) | st.just(json_bytes(GROUND_TRUTH)),
    found=files_of(DETECTIONS),
    as_json=st.booleans(),
)
def test_diagnosing_any_files(truth, found, as_json):
    with fresh_folder() as folder:
        flags = write(folder, gt=truth, a=found)
        kept("diagnose", [*flags, "--detections", str(folder / "a.json")], folder, as_json=as_json)


@fuzz(60, seconds=files_of(DURATIONS), as_json=st.booleans())
def test_diagnosing_with_any_durations(seconds, as_json):
    with fresh_folder() as folder:
        flags = [*write(folder, seconds=seconds), "--durations", str(folder / "seconds.json")]
        kept("diagnose", [*flags, "--detections", str(folder / "a.json")], folder, as_json=as_json)


@fuzz(
    100,
    truth=files_of(GROUND_TRUTH) | st.just(json_bytes(GROUND_TRUTH)),
    found=files_of(DETECTIONS),
    as_json=st.booleans(),
)
def test_comparing_any_files(truth, found, as_json):
    with fresh_folder() as folder:
        flags = write(folder, gt=truth, b=found)
        files = [str(folder / "a.json"), str(folder / "b.json"), "--draws", "4"]
        kept("compare", [*flags, *files], folder, as_json=as_json)


@fuzz(
    200,
    results=files_of(RESULTS),
    form=st.sampled_from(tuple(FORMATS)),
    which=st.sampled_from(("best", "last", "both")),
)
def test_a_table_of_any_results(results, form, which):
    with fresh_folder() as folder:
        for name, content in (("good", json_bytes(RESULTS)), ("odd", results)):
            (folder / name).mkdir()
            (folder / name / "results.json").write_bytes(content)
        for runs in (["odd"], ["good", "odd"]):
            arguments = [*(str(folder / run) for run in runs), "--format", form, "--which", which]
            kept("tables", arguments, folder, as_json=False)


FLAGS = (
    "--subset",
    "--split",
    "--tious",
    "--ties",
    "--buckets",
    "--draws",
    "--seed",
    "--format",
    "--which",
    "--durations",
)


@fuzz(
    100,
    command=st.sampled_from(("diagnose", "compare", "tables")),
    typed=st.lists(st.tuples(st.sampled_from(FLAGS), odd_values | st.sampled_from(ODD_GRIDS)), min_size=1, max_size=2),
)
def test_any_flags(command, typed):
    with fresh_folder() as folder:
        flags = write(folder)
        (folder / "run").mkdir()
        (folder / "run" / "results.json").write_text(json.dumps(RESULTS))
        usual = {
            "diagnose": [*flags, "--detections", str(folder / "a.json")],
            "compare": [*flags, str(folder / "a.json"), str(folder / "b.json"), "--draws=3"],
            "tables": [str(folder / "run")],
        }[command]
        # Many draws take long, and that is no fault.
        chosen = [f"{flag}={value}" for flag, value in typed if flag != "--draws" or len(value) < 3]
        promised(main, [command, *usual, *chosen], folder)


@fuzz(30, word=odd_values)
def test_any_command(word):
    with fresh_folder() as folder:
        promised(main, [word], folder)
