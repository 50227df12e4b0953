"""Checkpoints: round trips, published state dicts, and strictness."""

import itertools
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from support.disk import Exploit, contents
from support.networks import build_model

from options import as_plain, resolve
from run.checkpoint import (
    Checkpoint,
    check_classes,
    from_published,
    load_checkpoint,
    load_model,
    load_network,
    save_checkpoint,
    to_published,
)
from utils.atomic import write_file, write_text
from utils.errors import InputError

OPTIONS = resolve({"feature_size": 4, "hidden_size": 8})
SEEDS = itertools.count()


def new_model(classes=3):
    return build_model(OPTIONS, classes, seed=next(SEEDS))


def saved(path, **changes):
    checkpoint = Checkpoint(
        model=new_model().state_dict(),
        options={"lr": 0.1},
        classes=("a", "b", "c"),
        training={"step": 3, "best": None},
    )
    save_checkpoint(path, checkpoint)
    return checkpoint


def same_tensors(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_round_trip(tmp_path):
    before, after = saved(tmp_path / "c.pt"), load_checkpoint(tmp_path / "c.pt")
    assert same_tensors(before.model, after.model)
    assert (after.options, after.classes, after.training) == (before.options, before.classes, before.training)
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def test_saving_replaces(tmp_path):
    saved(tmp_path / "c.pt")
    second = saved(tmp_path / "c.pt")
    assert same_tensors(load_checkpoint(tmp_path / "c.pt").model, second.model)


@pytest.mark.parametrize("encoder", ["encoder", "base_module"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_published_state_dicts(tmp_path, encoder, zipped):
    source, target = new_model(), new_model()
    published = to_published(source.state_dict())
    state = {name.replace("encoder", encoder): value for name, value in published.items()}
    torch.save(state, tmp_path / "published.pth", _use_new_zipfile_serialization=zipped)
    checkpoint = load_checkpoint(tmp_path / "published.pth")
    assert checkpoint.options is None and checkpoint.classes is None
    load_model(target, checkpoint.model, tmp_path / "published.pth")
    assert same_tensors(source.state_dict(), target.state_dict())


@pytest.mark.parametrize("modal", ["all", "flow"])
def test_files_hold_published_state_dicts(tmp_path, modal):
    """What a file calls "model" loads as a published state dict does, and comes back under our names."""
    model = build_model(resolve({"feature_size": 4, "hidden_size": 8, "modal": modal}), 3)
    save_checkpoint(tmp_path / "c.pt", Checkpoint(model=model.state_dict(), options={}, classes=("a", "b", "c")))
    inside = torch.load(tmp_path / "c.pt", weights_only=True)["model"]
    assert {"encoder.0.weight", "cls.0.bias", "action_flow.0.weight", "cls_flow.0.bias", "fc.weight"} < set(inside)
    assert same_tensors(from_published(inside), model.state_dict())
    assert not set(inside) & set(model.state_dict())
    assert same_tensors(to_published(from_published(inside)), inside)
    torch.save(inside, tmp_path / "published.pth")
    assert same_tensors(load_checkpoint(tmp_path / "published.pth").model, load_checkpoint(tmp_path / "c.pt").model)


def test_names_that_are_unknown_stay():
    assert to_published({"w": 1, "other.weight": 2}) == from_published({"w": 1, "other.weight": 2})
    assert list(to_published({"w": 1, "other.weight": 2})) == ["w", "other.weight"]


def test_parameters_come_in_the_order_that_optimizer_states_go_by():
    names = ["encoder.0", "action_rgb.0", "cls_rgb.0", "action_flow.0", "cls_flow.0", "cls.0", "fc", "fc1"]
    published = to_published(dict(new_model().named_parameters()))
    assert list(published) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def test_parameter_names_and_shapes_are_the_published_ones():
    with torch.device("meta"):
        parameters = to_published(dict(build_model(resolve({}), 20).named_parameters()))
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    streams = {
        f"{part}_{s}.0.weight": shape
        for s in ("rgb", "flow")
        for part, shape in (("action", (512, 1024, 3)), ("cls", (1, 512, 1)))
    }
    weights = {"encoder.0.weight": (512, 2048, 3), "cls.0.weight": (20, 512, 1), **streams}
    weights |= {"fc.weight": (20, 512 * 512), "fc1.weight": (512, 512 * 512)}
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in weights.items()}
    assert shapes == weights | biases


def test_missing_and_left_over_keys_are_named(tmp_path):
    state = new_model().state_dict()
    state["fc2.weight"] = state.pop("video_semantics.weight")
    with pytest.raises(InputError, match=r"missing fc1.weight; left over fc2.weight") as caught:
        load_model(new_model(), state, tmp_path / "x.pt")
    assert str(tmp_path / "x.pt") in str(caught.value)


class Standardized(torch.nn.Linear):
    """A layer with a number that files do not hold."""

    def __init__(self):
        super().__init__(2, 3)
        self.register_buffer("scale", torch.tensor([0.5, 2.0]), persistent=False)


@pytest.mark.parametrize("make", [new_model, Standardized])
def test_a_loaded_network_has_every_value(tmp_path, make):
    """Those of the file, and those that it is built with."""
    expected = make()
    checkpoint = Checkpoint(model=expected.state_dict())
    model = load_network(make, checkpoint, tmp_path, device=torch.device("cpu"))
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    assert all(map(torch.equal, model.parameters(), expected.parameters()))
    assert list(map(torch.Tensor.tolist, model.buffers())) == list(map(torch.Tensor.tolist, expected.buffers()))


def test_another_shape_is_named(tmp_path):
    other = new_model(4).state_dict()
    with pytest.raises(InputError, match=r"cls.0.weight has shape \[4, 8, 1\], the model needs \[3, 8, 1\]"):
        load_model(new_model(), other, tmp_path / "x.pt")


def test_class_lists(tmp_path):
    checkpoint = saved(tmp_path / "c.pt")
    check_classes(checkpoint, ("a", "b", "c"), tmp_path / "c.pt")
    check_classes(Checkpoint(model={}), ("x",), tmp_path / "c.pt")  # a published state dict has none to compare
    for other in (("a", "b", "d"), ("b", "a", "c"), ("a", "b")):
        with pytest.raises(InputError, match="other classes"):
            check_classes(checkpoint, other, tmp_path / "c.pt")


def test_values_of_every_plain_kind_survive(tmp_path):
    """What last.pt holds besides the model: optimiser and random states, and results with None in them."""
    training = {
        "step": 3,
        "best": None,
        "history": [{"mAP": 0.25, "name": "0.1:0.7", "done": True}],
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "random": {"cpu": torch.get_rng_state(), "cuda": None},
    }
    save_checkpoint(
        tmp_path / "c.pt", Checkpoint(model={"w": torch.ones(2)}, options={}, classes=("a",), training=training)
    )
    after = load_checkpoint(tmp_path / "c.pt").training
    assert torch.equal(after["random"].pop("cpu"), training["random"].pop("cpu"))
    assert after == training


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path, order, fsync, replace = tmp_path / "deep" / "er" / "f", [], os.fsync, os.replace
    write_text(path, "old")  # folders are made
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))

    def write(file):
        file.write(b"new")
        file.flush()
        order.append(path.read_text())

    write_file(path, write)
    assert order == ["old", "fsync", "replace"]  # on the disk before it takes the name
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_is_no_failure_of_the_disk_passes_through(tmp_path, error):
    path = tmp_path / "f"
    write_text(path, "old")

    def write(file):
        file.write(b"half")
        raise error

    with pytest.raises(error):
        write_file(path, write)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


# Damage


def break_checkpoint(case, path):
    """Spoil the checkpoint at `path`."""
    good, content = path.read_bytes(), torch.load(path, weights_only=True)
    tensor = content["model"]["fc1.weight"]
    at = good.index(tensor.numpy().tobytes())
    data = {
        "empty": b"",
        "text": b"404: Not Found\n",
        "cut in the middle": good[: len(good) // 2],
        "last byte lost": good[:-1],
        "first bytes overwritten": b"\0" * 64 + good[64:],
        "end overwritten": good[:-64] + b"\0" * 64,
        "one bit of a weight flipped": good[: at + 6] + bytes([good[at + 6] ^ 1]) + good[at + 7 :],
        "an array": np.zeros(3).dumps(),
        "pickle of another protocol": pickle.dumps({"a": 1}, protocol=4),
        "pickle cut short": b"\x80\x02X\x08",
    }
    saved = {
        "tensor": tensor,
        "list of tensors": [tensor],
        "dict of numbers": {"encoder.0.weight": 1.5},
        "empty dict": {},
        "numbered tensors": {0: tensor, 1: tensor},
        "whole module": torch.nn.Linear(2, 2),
        "future format": {**content, "format": 99},
        "no model": {key: value for key, value in content.items() if key != "model"},
        "model is a list": {**content, "model": [tensor]},
        "model of numbers": {**content, "model": dict.fromkeys(content["model"], 1.0)},
        "options are a list": {**content, "options": [1]},
    }
    if case in data:
        path.write_bytes(data[case])
    elif case in saved:
        torch.save(saved[case], path)
    elif case == "other zip file":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")
    else:
        assert case == "old format cut short"
        torch.save(content["model"], path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:-5])
    assert path.read_bytes() != good


BROKEN_CHECKPOINTS = [
    *("empty", "text", "cut in the middle", "last byte lost", "first bytes overwritten", "end overwritten"),
    *("one bit of a weight flipped", "an array", "pickle of another protocol", "pickle cut short"),
    *("tensor", "list of tensors", "dict of numbers", "empty dict", "numbered tensors"),
    *("whole module", "future format", "no model", "model is a list", "model of numbers", "options are a list"),
    *("other zip file", "old format cut short"),
]


@pytest.mark.parametrize("case", BROKEN_CHECKPOINTS)
def test_broken_checkpoint(tmp_path, case):
    """One line that names the file, from reading it or from loading it into a model."""
    path = tmp_path / "c.pt"
    saved(path)
    break_checkpoint(case, path)
    before = contents(tmp_path)
    with pytest.raises(InputError) as caught:
        load_model(new_model(), load_checkpoint(path).model, path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["zip", "old format", "bare pickle"])
def test_code_in_a_checkpoint_is_not_run(tmp_path, kind):
    marker, path = tmp_path / "marker", tmp_path / "c.pt"
    content = {"model": {"encoder.0.weight": Exploit(marker)}, "format": 1}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
        torch.load(path, weights_only=False)
    marker.rmdir()  # it existed: the file is a live one
    with pytest.raises(InputError, match=str(path)):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("classes", [("Dive", "Jump"), ("Dive", "Jump", "Throw", "More"), ("Dive", "Jump", "\ud800")])
def test_classes_that_are_not_those_of_the_outputs(tmp_path, classes):
    """Fewer names broke --predict, more of them gave every detection to a class that may be another's."""
    model = new_model(classes=3).state_dict()
    save_checkpoint(tmp_path / "m.pt", Checkpoint(model=model, options=as_plain(OPTIONS), classes=classes))
    with pytest.raises(InputError, match=r"m\.pt: (names . classes for 3 outputs|its classes are not valid text)"):
        load_checkpoint(tmp_path / "m.pt")
