"""A checkpoint altered anywhere: loaded with the weights that were saved, or refused in one line."""

import io

import pytest
import torch
from hypothesis import strategies as st
from support.fuzz import called, fresh_folder, fuzz, promised
from support.strategies import argument_texts, changed_plain, damaged, odd_json
from support.tiny import TINY_FLAGS, write_tiny_set

import main
from run.checkpoint import load_checkpoint
from utils.errors import InputError

RUN = [*TINY_FLAGS, "--num_epochs", "2", "--eval_from_epoch", "1", "--hidden_size", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The tiny set's folder, and the bytes of every file of an experiment that was trained on it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    data = write_tiny_set(folder / "tiny").path
    flags = ["--data_path", str(data), "--output_dir", str(folder / "out"), "--exp_name", "x", *RUN]
    assert called(main.main, flags).code == 0
    names = ("last.pt", "best.pt", "options.json", "results.json")
    return data, {name: (folder / "out" / "x" / name).read_bytes() for name in names}


def loaded(content):
    return torch.load(io.BytesIO(content), weights_only=True)


def saved(content, *, old_format=False):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old_format)
    return file.getvalue()


def infer(data, folder, checkpoint):
    (folder / "m.pt").write_bytes(checkpoint)
    flags = ["--inference_only", "--model_file", str(folder / "m.pt"), "--data_path", str(data)]
    return promised(main.main, [*flags, "--output_dir", str(folder / "out"), "--device", "cpu"], folder)


def resume(data, folder, files):
    experiment = folder / "out" / "x"
    experiment.mkdir(parents=True)
    for name, content in files.items():
        (experiment / name).write_bytes(content)
    flags = ["--resume", "--exp_name", "x", "--output_dir", str(folder / "out"), "--data_path", str(data)]
    return promised(main.main, [*flags, "--device", "cpu"], folder)


@fuzz(150, name=st.sampled_from(("best.pt", "last.pt")), data=st.data())
def test_damaged_bytes_never_load_as_other_weights(trained, name, data):
    content = trained[1][name]
    with fresh_folder() as folder:
        (folder / "m.pt").write_bytes(data.draw(damaged(content)))
        try:
            checkpoint = load_checkpoint(folder / "m.pt")
        except InputError:
            return
        (folder / "whole.pt").write_bytes(content)
        expected = load_checkpoint(folder / "whole.pt")
        assert same(checkpoint.model, expected.model) and same(checkpoint.training, expected.training)
        assert checkpoint.options == expected.options and checkpoint.classes == expected.classes


def same(value, other):
    """Equality of nested values with tensors in them."""
    if isinstance(value, torch.Tensor):
        return isinstance(other, torch.Tensor) and value.dtype == other.dtype and torch.equal(value, other)
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(same(value[key], other[key]) for key in value)
    if isinstance(value, list | tuple):
        return len(value) == len(other) and all(map(same, value, other))
    return value == other or (value != value and other != other)


# Contents that torch loads, and that no run wrote


# What no network can have as a parameter, from the parameter as it is
UNUSABLE = {
    "NaN": lambda tensor: tensor * float("nan"),
    "one NaN": lambda tensor: torch.cat([tensor.flatten()[1:], torch.tensor([float("nan")])]).reshape(tensor.shape),
    "infinity": lambda tensor: torch.full_like(tensor, float("inf")),
    "huge": lambda tensor: torch.full_like(tensor, 1e30),
    "integers": lambda tensor: tensor.to(torch.int64),
    "booleans": lambda tensor: tensor > 0,
    "complex": lambda tensor: tensor.to(torch.complex64),
    "one axis more": lambda tensor: tensor[..., None],
    "nothing": lambda tensor: tensor.flatten()[:0],
    "one row more": lambda tensor: torch.cat([tensor, tensor])[: len(tensor) + 1],
    "sparse": lambda tensor: tensor.to_sparse(),
    "meta": lambda tensor: tensor.to("meta"),
    "a list": lambda tensor: tensor.tolist(),
}
# Further tensors that a file can hold in the place of another
ODD = {
    **UNUSABLE,
    "float64": lambda tensor: tensor.to(torch.float64),
    "float16": lambda tensor: tensor.to(torch.float16),
    "flat": lambda tensor: tensor.flatten(),
    "a number": lambda tensor: torch.zeros((), dtype=tensor.dtype),
    "expanded": lambda tensor: torch.zeros(1, dtype=tensor.dtype).expand(tensor.shape),
    "parameter": lambda tensor: torch.nn.Parameter(tensor.float()),
    "expanded without end": lambda tensor: torch.empty_strided((10**9,), (0,), dtype=tensor.dtype),
}


def odd_tensors(tensor):
    """Odd tensors in the place of one; an odd one may only become of another type, since torch can do little else with it."""
    usual = tensor.dim() and tensor.is_floating_point() and tensor.layout is torch.strided and not tensor.is_meta
    makers = ODD if usual else {"float64": ODD["float64"]}
    return st.sampled_from(list(makers)).map(lambda name: makers[name](tensor))


def plain_values(value):
    """Values that weights_only loads: plain ones of any kind, and odd tensors where a tensor was."""
    odd = odd_json.filter(loads_back)
    return odd_tensors(value) | odd if isinstance(value, torch.Tensor) else odd


def loads_back(value):
    """Whether torch can save and load it: it has no integers beyond some thousand digits and no lone surrogates."""
    try:
        loaded(saved(value))
    except Exception:
        return False
    return True


@fuzz(60, kind=st.sampled_from(list(UNUSABLE)), published=st.booleans(), data=st.data())
def test_no_parameter_may_be_unusable(trained, kind, published, data):
    """Weights that are no numbers would give detections too, and a mAP of 0, without a word."""
    place, files = trained
    content = loaded(files["best.pt"])
    name = data.draw(st.sampled_from(sorted(content["model"])), label="parameter")
    content["model"][name] = UNUSABLE[kind](content["model"][name])
    with fresh_folder() as folder:
        (folder / "m.pt").write_bytes(saved(content["model"] if published else content))
        flags = ["--inference_only", "--model_file", str(folder / "m.pt"), "--data_path", str(place), *RUN]
        outcome = promised(main.main, [*flags, "--output_dir", str(folder / "out")], folder)
        assert outcome.code == 2 and str(folder / "m.pt") in outcome.err


@fuzz(60, data=st.data())
def test_inference_from_an_altered_checkpoint(trained, data):
    place, files = trained
    content = data.draw(changed_plain(loaded(files["best.pt"]), plain_values))
    with fresh_folder() as folder:
        infer(place, folder, saved(content))


@fuzz(60, data=st.data())
def test_resuming_from_an_altered_checkpoint(trained, data):
    place, files = trained
    content = loaded(files["last.pt"])
    content["options"]["num_epochs"] = 3  # so that there is something to do
    content = data.draw(changed_plain(content, plain_values))
    with fresh_folder() as folder:
        resume(place, folder, {**files, "last.pt": saved(content)})


PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


@fuzz(40, data=st.data(), old_format=st.booleans(), prefix=st.sampled_from(("", *PREFIXES)))
def test_inference_from_an_altered_state_dict(trained, data, old_format, prefix):
    place, files = trained
    state = {prefix + name: value for name, value in loaded(files["best.pt"])["model"].items()}
    wrapped = data.draw(st.sampled_from((state, {"state_dict": state}, {"state_dict": state, "epoch": 3})))
    whole = data.draw(st.booleans(), label="unaltered")
    content = wrapped if whole else data.draw(changed_plain(wrapped, plain_values))
    with fresh_folder() as folder:
        (folder / "m.pt").write_bytes(saved(content, old_format=old_format))
        flags = ["--inference_only", "--model_file", str(folder / "m.pt"), "--data_path", str(place), *RUN]
        outcome = promised(main.main, [*flags, "--output_dir", str(folder / "out")], folder)
        assert outcome.code == 0 or not whole, outcome.err


@fuzz(40, data=st.data(), name=st.sampled_from(("options.json", "results.json")))
def test_resuming_beside_damaged_json(trained, data, name):
    place, files = trained
    with fresh_folder() as folder:
        resume(place, folder, {**files, name: data.draw(damaged(files[name]))})


@fuzz(40, name=argument_texts)
def test_any_name_of_an_experiment(trained, name):
    """Names reach folders, the terminal and JSON."""
    place, _ = trained
    with fresh_folder() as folder:
        flags = ["--data_path", str(place), "--output_dir", str(folder / "out"), *RUN, "--num_epochs", "1"]
        promised(main.main, [*flags, f"--exp_name={name}"], folder)
