"""Prediction and what came with it: --classes, --init_from, the API, the digest of a resumed run, flags of the evaluation."""

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from support.fuzz import fresh_folder, fuzz, promised
from support.strategies import (
    ODD_GRIDS,
    argument_texts,
    changed,
    changed_plain,
    damaged,
    odd_json,
    odd_texts,
    odd_values,
)
from support.tiny import CLASSES, FEATURE_SIZE, TINY_FLAGS, write_tiny_set
from support.trained import write_bare_model, write_tiny_model

import main
from data_tools.prepare import main as prepare
from eval.detection import main as evaluate
from localizer import Localizer
from run.data_digest import compare_digests
from run.training_state import damage_named
from utils.errors import InputError

CHANNELS = 2 * FEATURE_SIZE


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A set, models and a feature file that no case changes."""
    folder = tmp_path_factory.mktemp("predict")
    write_tiny_set(folder / "tiny")
    write_tiny_model(folder / "m.pt")
    write_bare_model(folder / "bare.pt")
    np.save(folder / "v.npy", np.random.default_rng(0).random((20, CHANNELS)).astype(np.float32))
    return folder


def predict(folder, *arguments):
    return promised(main.main, ["--predict", *arguments, "--device", "cpu", "--out", str(folder / "out")], folder)


encodings = st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"))
names = odd_texts | st.sampled_from(CLASSES)


@fuzz(60, lines=st.lists(names, max_size=4), encoding=encodings, damage=st.booleans(), data=st.data())
def test_predicting_with_any_class_names(here, lines, encoding, damage, data):
    content = "\n".join(lines).encode(encoding, "replace")
    with fresh_folder() as folder:
        (folder / "c.txt").write_bytes(data.draw(damaged(content)) if damage and content else content)
        flags = ["--model_file", str(here / "bare.pt"), "--classes", str(folder / "c.txt"), "--num_segments", "24"]
        predict(folder, str(here / "v.npy"), *flags)


@fuzz(60, name=argument_texts, data=st.data())
def test_predicting_on_any_file(here, name, data):
    content = data.draw(st.just((here / "v.npy").read_bytes()) | damaged((here / "v.npy").read_bytes()))
    name = name.replace("/", "_")[:40] + ".npy"
    with fresh_folder() as folder:
        (folder / name).write_bytes(content)
        predict(folder, str(folder / name), "--model_file", str(here / "m.pt"))


sizes = st.sampled_from((1, 1e-30, 1e4, 1e15, 1e19, 1e25, 1e38))
odd_objects = st.sampled_from((10**400, "25", [25], np.float32(25), b"x", 1j))
odd_arguments = st.none() | st.booleans() | st.integers() | st.floats() | odd_objects
OPTIONS = (
    "fps",
    "min_score",
    "top",
    "soft_nms",
    "class_th",
    "proposal_th",
    "scale",
    "gamma",
    "num_segments",
    "threads",
)
flags_of_models = st.dictionaries(st.sampled_from(OPTIONS), odd_arguments | odd_texts, max_size=2)


@fuzz(100, size=sizes, length=st.integers(0, 40), fps=odd_arguments, duration=odd_arguments)
def test_any_call_of_the_api_is_detections_or_a_value_error(here, size, length, fps, duration):
    model = Localizer.load(here / "m.pt", device="cpu")
    features = (np.random.default_rng(length).random((length, CHANNELS)) * size).astype(np.float32)
    try:
        found = model(features, fps=fps, duration=duration)
        curves = model.sequences(features, fps=fps)
    except ValueError:
        return
    numbers = [value for one in found for value in (one.start, one.end, one.score)]
    assert np.isfinite(numbers).all() and all(0 <= one.start < one.end for one in found)
    assert np.isfinite(curves.times).all() and np.isfinite(curves.combined).all()


@fuzz(60, flags=flags_of_models)
def test_any_options_of_the_api_are_taken_or_a_value_error(here, flags):
    with contextlib.suppress(ValueError):
        Localizer.load(here / "m.pt", device="cpu", **flags)


def altered(content):
    """Classes and options as an altered file could hold them, with the weights as they are."""
    parts = {"classes": content["classes"], "options": content["options"]}
    return changed_plain(parts, lambda value: odd_json.filter(loads_back)).map(
        lambda parts: content | parts if isinstance(parts, dict) else parts
    )


def loads_back(value):
    try:
        file = io.BytesIO()
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:
        return False
    return True


@fuzz(60, data=st.data(), start=st.booleans())
def test_predicting_with_and_starting_from_altered_checkpoints(here, data, start):
    content = data.draw(altered(torch.load(here / "m.pt", weights_only=True)))
    with fresh_folder() as folder:
        try:
            torch.save(content, folder / "m.pt")
        except Exception:  # integers beyond what pickle writes, in names
            return
        if not start:
            predict(folder, str(here / "v.npy"), "--model_file", str(folder / "m.pt"))
            return
        flags = ["--data_path", str(here / "tiny"), "--output_dir", str(folder / "out"), *TINY_FLAGS]
        promised(main.main, [*flags, "--num_epochs", "1", "--init_from", str(folder / "m.pt")], folder)


SPLIT = {
    "videos": ["a", "b"],
    "labels": [1, 2],
    "segments": [1, 2],
    "durations": [None, 1.5],
    "frame rates": [25.0, 30.0],
}
SPLIT |= {"lengths": [[9, 4], [8, 4]], "feature values": [1, 2], "feature files": [3, 4]}
DIGEST = {"rows": 4, "classes": ["Dive", "Jump"], "train": SPLIT, "test": SPLIT}


@fuzz(100, saved=changed(DIGEST))
def test_any_digest_is_compared_or_damaged(here, saved):
    try:
        with damage_named(here / "last.pt"):
            changes, notes = compare_digests(json.loads(json.dumps(saved)), DIGEST)
    except InputError:
        return
    assert all(isinstance(text, str) for text in (*changes, *notes))


TABLE = "video;label\n" + "".join(f"train_{i};{CLASSES[i % 3]}\n" for i in range(7))


@fuzz(60, encoding=encodings, mark=st.sampled_from(",;\t"), text=odd_texts, data=st.data())
def test_preparing_from_a_table_in_any_encoding(here, encoding, mark, text, data):
    content = TABLE.replace(";", mark).replace("Jump", text).encode(encoding, "replace")
    with fresh_folder() as folder:
        (folder / "l.csv").write_bytes(data.draw(st.just(content) | damaged(content)))
        flags = ["--features", str(here / "tiny" / "features" / "train"), "--labels", str(folder / "l.csv")]
        promised(prepare, [*flags, "--feature_size", str(FEATURE_SIZE), "--out", str(folder / "out")], folder)


FLAGS = (
    *("--subset", "--split", "--missing", "--unknown", "--average", "--tious", "--skip_empty", "--strict", "--json"),
    *("--protocol", "--ambiguous", "--snippet_frames", "--snippet_stride", "--fps"),
    *("--recall", "--operating_point", "--calibration"),
)


@fuzz(
    100,
    typed=st.lists(st.tuples(st.sampled_from(FLAGS), odd_values | st.sampled_from(ODD_GRIDS)), min_size=1, max_size=2),
)
def test_evaluating_with_any_flags(here, typed):
    with fresh_folder() as folder:
        (folder / "r.json").write_text(json.dumps({"results": {"test_0": []}}))
        files = ["--ground_truth", str(here / "tiny" / "gt.json"), "--detections", str(folder / "r.json")]
        promised(evaluate, [*files, *(f"{flag}={value}" for flag, value in typed)], folder)
