"""Checkpoints that somebody altered, wrapped or saved in another way: read, or refused in one line; never a wrong number."""

import argparse
import copy
import zipfile
from unittest import mock

import numpy as np
import pytest
import torch
from support.networks import build_model
from support.tiny import TINY_FLAGS, write_tiny_set

import main
from options import resolve
from run.checkpoint import load_checkpoint, load_model, to_published
from run.rewrite import rewrite
from utils.errors import InputError

OPTIONS = resolve({"feature_size": 4, "hidden_size": 8})


@pytest.fixture
def state():
    return to_published(build_model(OPTIONS, 3, seed=1).state_dict())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "c.pt"


def refusal(read, path):
    """The line that reading is refused with."""
    with pytest.raises(InputError) as caught:
        read()
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < len(str(path)) + 500
    assert "weights_only" not in line
    return line


# Weights that are none

WEIGHTS = {
    "NaN": (lambda w: w.fill_(float("nan")), "NaN or infinity"),
    "one infinity": (lambda w: w.index_fill_(0, torch.tensor([1]), -float("inf")), "NaN or infinity"),
    "1e30": (lambda w: w.fill_(1e30), "holds 1e+30"),
    "one large negative": (lambda w: w.index_fill_(0, torch.tensor([0]), -2e6), "holds -2e+06"),
    "1e300 in float64": (lambda w: w.double().fill_(1e300), "holds 1e+300"),
    "integers": (lambda w: w.to(torch.int64), "int64"),
    "bytes": (lambda w: w.to(torch.uint8), "uint8"),
    "booleans": (lambda w: w > 0, "bool"),
    "complex": (lambda w: w.to(torch.complex64), "complex64"),
    "float8": (lambda w: w.to(torch.float8_e4m3fn), "float8"),
    "sparse": (lambda w: w.to_sparse(), "sparse"),
    "meta": (lambda w: w.to("meta"), "meta tensor"),
    "expanded": (lambda w: w.flatten()[0].expand(w.shape), "expanded"),
    "overlapping": (lambda w: w.flatten()[:8].as_strided(w.shape, (1,) * w.ndim), "expanded"),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("ours", [True, False], ids=["our file", "state dict"])
def test_weights_that_no_training_leaves(state, path, kind, ours):
    change, said = WEIGHTS[kind]
    state["cls.0.weight"] = change(state["cls.0.weight"].clone())
    own = {"format": 1, "model": state, "options": {}, "classes": ["a", "b", "c"], "training": {}}
    torch.save(own if ours else state, path)
    line = refusal(lambda: load_checkpoint(path), path)
    assert "cls.0.weight" in line and said in line


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted_and_said(state, path, dtype):
    torch.save({name: value.to(dtype) for name, value in state.items()}, path)
    checkpoint = load_checkpoint(path)
    model = build_model(OPTIONS, 3, seed=2)
    load_model(model, checkpoint.model, path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.snippet_classifier.weight, state["cls.0.weight"].to(dtype).float())
    assert checkpoint.notes == (f"{path}: weights of {str(dtype)[6:]} converted to float32",)


# How others save


def prefixed(prefix):
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


FORMS = {
    "module": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "both": prefixed("module._orig_mod."),
    "both, the other way": prefixed("_orig_mod.module."),
    "twice": prefixed("module.module."),
    "model": prefixed("model."),
    "model and module": prefixed("model.module."),
    "compiled layers": lambda state: {name.replace(".weight", "._orig_mod.weight"): v for name, v in state.items()},
    **{
        f"in {key}": lambda state, key=key: {"epoch": 3, key: state, "optimizer": {"state": {}, "param_groups": []}}
        for key in ("state_dict", "model", "model_state_dict", "net", "anything")
    },
    "beside an average": lambda state: {"state_dict_ema": {"x": torch.ones(1)}, "state_dict": state},
    "nested": lambda state: {"checkpoint": {"epoch": 1, "model": prefixed("module.")(state)}},
    "parameters": lambda state: {name: torch.nn.Parameter(value) for name, value in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_prefixes_and_wrappers_are_opened(state, path, form):
    torch.save(FORMS[form](state), path)
    checkpoint = load_checkpoint(path)
    load_model(build_model(OPTIONS, 3, seed=2), checkpoint.model, path)
    read = to_published(checkpoint.model)
    assert read.keys() == state.keys() and all(torch.equal(read[name], state[name]) for name in state)
    assert len(checkpoint.notes) == (form != "parameters")  # what was done is said


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (lambda state: {"a": state, "b": dict(state)}, "several state dicts: a, b"),
        (lambda state: {**state, "module.fc.bias": state["fc.bias"]}, "fc.bias and module.fc.bias are both fc.bias"),
        (lambda state: {**state, "base_module.0.bias": state["encoder.0.bias"]}, "under two names"),
        (lambda state: {"epoch": 3, "args": {"lr": 1.0}}, "it holds epoch, args"),
        (lambda state: {**state, "epoch": 3}, "encoder.0.weight"),
    ],
    ids=["two", "with and without", "both published names", "none", "numbers among them"],
)
def test_what_is_not_clear_is_refused(state, path, form, said):
    torch.save(form(state), path)
    assert said in refusal(lambda: load_checkpoint(path), path)


def test_modal_is_named_only_where_streams_are_missing(state, path):
    target = build_model(OPTIONS, 3)
    others = {f"backbone.{i}.weight": torch.ones(1) for i in range(30)}
    line = refusal(lambda: load_model(target, others, path), path)
    assert "--modal" not in line and "left over backbone.0.weight" in line and "and 24 more" in line
    one_stream = {name: value for name, value in state.items() if "flow" not in name}
    assert "check --modal" in refusal(lambda: load_model(target, one_stream, path), path)


def test_programs_and_compressed_archives_are_refused(state, path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program/constants.pkl", "")
    assert "TorchScript" in refusal(lambda: load_checkpoint(path), path)
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert "compressed" in refusal(lambda: load_checkpoint(path), path)


def test_objects_beside_the_weights_are_named(state, path):
    torch.save({"state_dict": state, "args": argparse.Namespace(lr=1), "best": np.float64(0.5)}, path)
    line = refusal(lambda: load_checkpoint(path), path)
    assert "argparse.Namespace" in line and "scalar" in line and "save model.state_dict() alone" in line


def test_the_old_format_is_said_to_have_no_checksums_and_can_be_rewritten(state, path, tmp_path, capsys):
    torch.save(state, path, _use_new_zipfile_serialization=False)
    (note,) = load_checkpoint(path).notes
    assert "without checksums" in note and "run.rewrite" in note
    rewrite([str(path), str(tmp_path / "new.pt")])
    again = load_checkpoint(tmp_path / "new.pt")
    assert not again.notes and torch.equal(to_published(again.model)["fc.weight"], state["fc.weight"])
    for arguments in ([str(path), str(tmp_path / "new.pt")], [str(path)], [__file__, str(tmp_path / "other.pt")]):
        with pytest.raises(InputError):
            rewrite(arguments)
    assert not (tmp_path / "other.pt").exists()


# A last.pt with other values in it


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """The trainer of a finished run of the tiny set, ready to resume."""
    folder, kept = tmp_path_factory.mktemp("altered"), []
    tiny = write_tiny_set(folder / "tiny")
    flags = ["--data_path", str(tiny.path), "--output_dir", str(folder / "out"), *TINY_FLAGS, "--keep_state"]
    flags += ["--teacher_decay", "0.9", "--w_self", "1"]
    torch.set_num_threads(1)
    assert main.main([*flags, "--exp_name", "x"]) == 0
    with mock.patch("train.Trainer.run", lambda self, evaluate: kept.append(self)):
        assert main.main([*flags, "--exp_name", "x", "--resume"]) == 0
    return kept[0]


@pytest.fixture(scope="module")
def saved(trainer):
    return torch.load(trainer.experiment.last, weights_only=True)


NAN, META = torch.full((3,), float("nan")), torch.ones(2, device="meta")
NO_NUMBERS = (None, "text", float("nan"), float("inf"), [], {"a": 1}, NAN)
ALTERED = {
    ("format",): (2, "1", None, True, META),
    ("model",): (None, {}, [], NAN),
    ("options",): (None, [], {"unknown": 1}, {"model": {"hidden_size": 8}}, {1: 2}),
    ("options", "hidden_size"): ("512", None, 8.0, [8], {"a": 8}, NAN, True, -1),
    ("options", "lr"): ("0.1", None, float("nan"), -1.0),
    ("options", "soft_nms"): (1, None, "yes"),
    ("options", "modal"): (1, None, "audio"),
    ("options", "select"): (1, None, "best"),
    ("options", "average_tious"): ("0.1:0.7", [], [1], None, ["x"]),
    ("classes",): (None, [], [1, 2, 3], ["Dive", "Dive", "Jump"], ["Dive", None], "Dive"),
    ("training",): (None, [], "text", {}),
    ("training", "step"): (*NO_NUMBERS, -1, 13, 10**30, 4.0, True),
    ("training", "best"): (None, "text", [], {"step": 1}, NAN),
    ("training", "best", "mAP"): (None, [], {"a": 1.0}, {"0.1": float("nan")}, {"0.1": 2.0}),
    ("training", "best", "average_mAP", "0.1:0.7"): NO_NUMBERS,
    ("training", "best", "video_accuracy"): NO_NUMBERS,
    ("training", "best", "compared"): ([], "text", {}, {"videos": 1}, NAN),
    ("training", "best", "compared", "videos"): (*NO_NUMBERS, -1, 1.0),
    ("training", "val"): ("text", [], {"step": 1}, NAN),
    ("training", "last", "step"): (None, 3, "4", META),
    ("training", "last", "per_class_AP"): (None, [], {"Dive": None}, {"Dive": {"0.1": "x"}}),
    ("training", "history"): (None, "text", {}, [1], [{"step": 1}], META),
    ("training", "history", 0): (None, "text", [], {"a": 1}, NAN),
    ("training", "history", 0, "step"): (*NO_NUMBERS, -1, 12),
    ("training", "history", 0, "val_loss"): (*NO_NUMBERS[1:], -1.0, 1.0),  # None, since nothing is held out
    ("training", "seconds"): (
        None,
        [],
        {"training": -1.0, "evaluation": 0.0},
        {"training": "x", "evaluation": 0.0},
        META,
    ),
    ("training", "data"): (None, [], {}, "text", NAN),
    ("training", "data", "rows"): (None, "64", 0, -1, 1.5, NAN),
    ("training", "data", "train"): (None, [], {"videos": []}, META),
    ("training", "data", "test", "labels"): (None, [], {"a": 1}, [1, 2, 3, 4], NAN),
    ("training", "data", "classes"): (None, [], [1], "Dive"),
    ("training", "machine"): (None, [], {"device": "cpu"}, {"device": 1, "precision": 2, "torch": 3}),
    ("training", "optimizer"): ([], "text", {}, {"state": {}, "param_groups": []}, NAN),
    ("training", "optimizer", "state"): (None, [], {}, {0: {}}, NAN),
    ("training", "optimizer", "state", 0): (None, [], {"step": torch.tensor(1.0)}, NAN),
    ("training", "optimizer", "state", 0, "step"): (3, NAN, torch.tensor(-1.0), torch.tensor(float("inf")), META),
    ("training", "optimizer", "state", 0, "exp_avg"): (None, NAN, torch.ones(2, 3), META, torch.eye(2).to_sparse()),
    ("training", "optimizer", "param_groups"): (None, [], {"lr": 1}, [1], NAN),
    ("training", "optimizer", "param_groups", 0, "lr"): (*NO_NUMBERS, 0.02),
    ("training", "optimizer", "param_groups", 0, "params"): (None, [], [0], list(range(15))),
    ("training", "mask"): (None, [], {}, NAN, {"mean": torch.tensor(0.5)}),
    ("training", "mask", "var"): (None, 1.0, NAN, torch.tensor(-1.0), torch.tensor(1), META),
    ("training", "teacher"): ([], "text", {}, {"weights": {}, "updates": torch.tensor(1.0)}, NAN),
    ("training", "teacher", "updates"): (3, None, NAN, torch.tensor(-1.0), torch.tensor(float("inf")), META),
    ("training", "teacher", "weights"): (None, [], {}, {"encoder.conv.weight": NAN}, NAN),
    ("training", "teacher", "weights", "video_classifier.weight"): (None, 1.0, NAN, torch.ones(2, 3), META),
    ("training", "lessons"): (None, [], "text", {}, NAN),
    ("training", "lessons", "taught"): (None, 1.0, NAN, torch.ones(7, 3), torch.full((7, 24), 0.5), META),
    ("training", "random"): (None, [], {}, NAN),
    ("training", "random", "cpu"): (None, "text", NAN, torch.zeros(16, dtype=torch.uint8), META),
}


# In files of earlier versions, which still load.
MAY_BE_MISSING = {
    ("training", "machine"),
    ("training", "history"),
    ("training", "val"),
    ("training", "best", "compared"),
    *(where[:2] for where in ALTERED if where[0] == "options"),
}


@pytest.mark.parametrize("where", ALTERED, ids=lambda where: ".".join(map(str, where)))
def test_an_altered_last_pt_is_one_line(trainer, saved, where, path):
    *parents, key = where
    for value in (*ALTERED[where], "missing"):
        content = copy.deepcopy(saved)
        place = content
        for name in parents:
            place = place[name]
        if not (isinstance(value, str) and value == "missing"):
            place[key] = value
        elif where not in MAY_BE_MISSING and where[:2] not in MAY_BE_MISSING:
            del place[key]
        else:
            continue
        torch.save(content, path)
        with mock.patch.object(type(trainer.experiment), "last", path):
            refusal(lambda: trainer.resume(load_checkpoint(path)), path)


def test_an_unaltered_last_pt_is_read(trainer, saved, path, capsys):
    torch.save(saved, path)
    trainer.resume(load_checkpoint(path))
    assert trainer.step == 12 and capsys.readouterr().out == ""
