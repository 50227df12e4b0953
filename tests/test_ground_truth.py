"""The contract of the ground truth's reader: annotations, or one line that names the file and the video.

tests/test_bad_input.py shows for one damage of each kind that main.py says that line.
"""

import json

import pytest
from support.disk import contents
from support.layouts import actionformer_json, own_json, write_json
from support.tiny import CLASSES

from formats.ground_truth import read_annotations
from utils.errors import InputError


@pytest.fixture
def refused(tmp_path):
    """refused(truth): the one line with which a ground truth, or the bytes of a file, is refused."""

    def call(truth):
        path = tmp_path / "gt.json"
        path.write_bytes(truth) if isinstance(truth, bytes) else write_json(path, truth)
        before = contents(tmp_path)
        with pytest.raises(InputError) as caught:
            read_annotations(path)
        line = str(caught.value)
        assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600
        assert contents(tmp_path) == before
        return line.removeprefix(f"{path}: ")

    return call


@pytest.mark.parametrize(
    "data",
    [b'{"database": {', b"", b"\xff\xfe{}", b"[" * 100_000],
    ids=["cut short", "empty file", "not UTF-8", "very deep"],
)
def test_no_json(refused, data):
    assert refused(data).startswith("not valid JSON")


@pytest.mark.parametrize(
    ("truth", "summary"),
    [
        ({"videos": [], "labels": {}}, 'found the keys "videos", "labels"'),
        ({"train_0": {"subset": "train", "annotations": []}}, 'found the keys "train_0"'),
        ({"results": {}, "version": "1.3", "external_data": {}}, '"results", "version", "external_data"'),
        ([{"video": "train_0"}], "found a list"),
        ([], "found a list"),
        ("text", "found a str"),
        ({}, "found nothing"),
        ({"database": {}}, "nothing"),
        ({"database": []}, 'a list as "database"'),
        ({"database": [1, 2]}, 'a list as "database"'),
        ({"database": None, "taxonomy": []}, 'a NoneType as "database"'),
        ({str(i): i for i in range(100)}, 'found the keys "0", "1", "2", "3", "4", "5"'),
    ],
    ids=[
        *("other keys", "no database", "detections", "a list", "an empty list", "a text", "empty", "no videos"),
        *("empty list of videos", "list", "null", "many keys"),
    ],
)
def test_json_of_an_unknown_form(refused, truth, summary):
    line = refused(truth)
    assert line.startswith("no videos; expected") and summary in line
    assert all(f'"{key}"' in line for key in ("database", "subset", "annotations", "label", "segment"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_other_encodings(tmp_path, content, encoding):
    """Windows' shell writes UTF-16."""
    truth = own_json(content)
    (tmp_path / "gt.json").write_bytes(json.dumps(truth, ensure_ascii=False).encode(encoding))
    assert list(read_annotations(tmp_path / "gt.json")) == list(truth["database"])


@pytest.mark.parametrize(
    "entry",
    [[], "train", {"subset": "train"}, {"annotations": []}, {"subset": "train", "annotations": {}}],
    ids=["list", "string", "no annotations", "no subset", "annotations not a list"],
)
def test_malformed_video(refused, content, entry):
    truth = own_json(content)
    truth["database"]["train_2"] = entry
    assert refused(truth).startswith("video 'train_2': expected")


def test_video_of_an_unknown_form(refused):
    """Charades' or MultiTHUMOS' actions, say."""
    line = refused({"database": {"train_0": {"subset": "train", "duration": 3, "actions": [[0, 1, 2]]}}})
    assert line.startswith("video 'train_0': expected") and '"annotations"' in line
    assert "found the keys subset, duration, actions" in line


@pytest.mark.parametrize("key", ["duration", "fps"])
@pytest.mark.parametrize("value", [0, -25, "fast", [25], True, 1e999, float("nan"), 10**400, 1e-320])
def test_invalid_number_of_a_video(refused, content, key, value):
    truth = actionformer_json(content, kind="thumos")
    truth["database"]["train_3"][key] = value
    line = refused(truth)
    assert line.startswith(f"video 'train_3': {key} ") and "not a number above 0" in line


@pytest.mark.parametrize("labels", ["Dive", [1], [""], [None], {"Dive": 1}])
def test_invalid_labels_of_a_video(refused, content, labels):
    truth = own_json(content)
    truth["database"]["train_3"]["labels"] = labels
    assert refused(truth).startswith("video 'train_3': \"labels\" must be a list")


@pytest.mark.parametrize("label", [None, 3, "", ["Dive"]], ids=["missing", "a number", "empty", "a list"])
def test_malformed_label(refused, content, label):
    truth = own_json(content)
    truth["database"]["train_2"]["annotations"][0]["label"] = label
    assert refused(truth).startswith("video 'train_2', annotation 0: ")


@pytest.mark.parametrize("case", ["one number, two labels", "one label, two numbers"])
def test_label_ids_that_contradict_labels(refused, content, case):
    truth = actionformer_json(content, kind="thumos")
    notes = truth["database"]["test_2"]["annotations"]
    if case == "one number, two labels":
        notes.append({"label": "Dive", "segment": [1, 2], "label_id": 2})
    else:
        notes[0]["label_id"] = 7
    line = refused(truth)
    assert line.startswith("video 'test_2': label ") and "label_id" in line


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        ([3.0, 3.0], "ends at or before its start"),
        ([5, 2], "ends at or before its start"),
        (["5", "2"], "ends at or before its start"),
        (["a", 3], "is not [start, end]"),
        ([None, 3], "is not [start, end]"),
        ([[1], [2]], "is not [start, end]"),
        ([1], "is not [start, end]"),
        ([1, 2, 3], "is not [start, end]"),
        (None, "is not [start, end]"),
        (4.5, "is not [start, end]"),
        ("12", "is not [start, end]"),  # two characters, each of them a number
        ({"1": 0, "2": 0}, "is not [start, end]"),  # two keys likewise
        ([False, True], "is not [start, end]"),  # Python's float() takes these for 0 and 1
        ([0, float("nan")], "is not finite"),
        ([0, float("inf")], "is not finite"),
        ([0, "inf"], "is not finite"),
        ([0, 10**400], "segment"),  # a whole number that no float holds
    ],
    ids=[
        *("no length", "backwards", "backwards strings", "a word", "null inside", "lists inside", "one number"),
        *("three numbers", "null", "a number", "a string", "an object", "true and false", "NaN", "infinity"),
        *("infinity as string", "a number too large"),
    ],
)
def test_malformed_segment(refused, content, segment, words):
    truth = own_json(content)
    truth["database"]["test_1"]["annotations"].append({"label": CLASSES[1], "segment": segment})
    line = refused(truth)
    assert line.startswith("video 'test_1', annotation 1") and words in line


def test_a_duplicate_video(refused, content):
    """JSON would keep the last and lose the first."""
    line = refused(json.dumps(own_json(content)).replace('"train_2"', '"train_1"', 1).encode())
    assert line.startswith("not valid JSON") and "has the key 'train_1' twice" in line
