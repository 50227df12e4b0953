"""data_tools.export on files changed anywhere, with odd names and numbers: it writes, or refuses in one line."""

from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, promised
from support.strategies import changed, damaged, json_bytes, odd_numbers, odd_texts

from data_tools import export

DETECTIONS = {
    "version": "SAL 1",
    "results": {
        "test_0": [
            {"label": "Dive", "score": 0.9, "segment": [1.0, 4.0]},
            {"label": "Dive", "score": 0.5, "segment": [3.0, 9.0]},
        ],
        "test_1": [{"label": "Jump", "score": 0.25, "segment": [0, 5]}],
    },
    "external_data": {},
}
GROUND_TRUTH = {"database": {"test_0": {"subset": "test", "annotations": [{"label": "Dive", "segment": [1.5, 4.0]}]}}}


def result_file(videos):
    entries = [{"label": label, "score": 0.5, "segment": [0, i + 1]} for i, label in enumerate(videos)]
    return json_bytes({"results": dict.fromkeys(videos, entries)})


def files_of(document):
    return changed(document).map(json_bytes) | damaged(json_bytes(document))


@fuzz(
    150,
    detections=files_of(DETECTIONS) | st.lists(odd_texts, min_size=1, max_size=3, unique=True).map(result_file),
    ground_truth=st.none() | files_of(GROUND_TRUTH),
    formats=st.sets(st.sampled_from(export.FORMATS), min_size=1),
    flags=st.dictionaries(st.sampled_from(("min_score", "top")), odd_numbers),
    encoding=st.sampled_from(("utf-8", "ascii")),
)
def test_changed_files(detections, ground_truth, formats, flags, encoding):
    with fresh_folder() as folder:
        (folder / "found.json").write_bytes(detections)
        arguments = [str(folder / "found.json"), "--out", str(folder / "out"), "--format", *sorted(formats)]
        arguments += [f"--{name}={value}" for name, value in flags.items()]
        if ground_truth is not None:
            (folder / "gt.json").write_bytes(ground_truth)
            arguments += ["--ground_truth", str(folder / "gt.json")]
        outcome = promised(export.main, arguments, folder, encoding=encoding)
        written = list((folder / "out").glob("*")) if outcome.code == 0 else []
        assert {path.suffix for path in written} == ({f".{name}" for name in formats} if written else set())
        assert {path.name for path in folder.iterdir()} <= {"found.json", "gt.json", "out"}
