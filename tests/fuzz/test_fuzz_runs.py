"""Altered and damaged folders of runs: read and shown, or refused in one line."""

import json

import pytest
from hypothesis import strategies as st
from support.disk import contents
from support.fuzz import fresh_folder, fuzz
from support.reported import write_run
from support.strategies import changed, damaged, json_bytes

from report.judged import judge
from report.reading import read_run
from report.sections import run_sections
from utils.errors import InputError


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of a run, by name."""
    return contents(write_run(tmp_path_factory.mktemp("runs") / "first"))


def read_and_show(files):
    """Read a run of these files and make the sections of its report, or be refused in one line."""
    with fresh_folder() as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        try:
            run = read_run(folder)
        except InputError as error:
            refusal = str(error)
        else:
            refusal = f"{folder}"
            run_sections(judge(run))
        assert "\n" not in refusal and str(folder) in refusal


@fuzz(120, data=st.data(), name=st.sampled_from(["results.json", "detections_best.json"]))
def test_altered_results(written, data, name):
    document = data.draw(changed(json.loads(written[name])))
    read_and_show({**written, name: json_bytes(document)})


@fuzz(60, data=st.data(), name=st.sampled_from(["results.json", "curves.jsonl", "timelines.npz", "options.json"]))
def test_damaged_files(written, data, name):
    read_and_show({**written, name: data.draw(damaged(written[name]))})
