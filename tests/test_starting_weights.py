"""--init_from: what training takes over from another model, and what starts fresh."""

import json

import pytest
import torch
from support.tiny import CLASSES
from support.trained import tiny_network, write_bare_model, write_tiny_model

from run.checkpoint import Checkpoint, load_checkpoint
from run.starting_weights import Initial, take_over
from utils.errors import InputError


def initial(path, state, classes):
    return Initial(path=path, checkpoint=Checkpoint(model=state, classes=classes))


def test_rows_follow_their_classes(tmp_path):
    source, model = tiny_network(classes=3, seed=1), tiny_network(classes=4, seed=2)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    given = source.state_dict()
    classes = ("Archery", "Throw", "Juggle", "Dive")
    start = take_over(model, initial(tmp_path, given, ("Dive", "Jump", "Throw")), classes=classes)
    assert (start.taken_over, start.fresh, start.unused) == (("Throw", "Dive"), ("Archery", "Juggle"), ("Jump",))
    for name, value in model.state_dict().items():
        if not name.startswith(("snippet_classifier", "video_classifier")):
            assert torch.equal(value, given[name]), name
            continue
        assert torch.equal(value[[1, 3]], given[name][[2, 0]]), name
        assert torch.equal(value[[0, 2]], fresh[name][[0, 2]]), name


def test_a_file_without_class_names(tmp_path):
    source, model = tiny_network(seed=1), tiny_network(seed=2)
    fresh = model.state_dict()["snippet_classifier.weight"].clone()
    start = take_over(model, initial(tmp_path, source.state_dict(), None), classes=CLASSES)
    assert "all layers but the classifiers" in str(start) and not start.named
    assert torch.equal(model.state_dict()["snippet_classifier.weight"], fresh)
    assert torch.equal(model.state_dict()["encoder.conv.weight"], source.state_dict()["encoder.conv.weight"])


@pytest.mark.parametrize("damage", ["missing", "more", "shape"])
def test_other_networks(tmp_path, damage):
    state = dict(tiny_network().state_dict())
    if damage == "missing":
        del state["video_semantics.bias"]
    elif damage == "more":
        state["more.weight"] = torch.zeros(1)
    else:
        state["video_semantics.weight"] = torch.zeros(8, 9)
    with pytest.raises(InputError, match=r"--init_from .*(video_semantics|more\.weight)"):
        take_over(tiny_network(), initial(tmp_path, state, CLASSES), classes=CLASSES)


def test_training_starts_from_it(tiny, run, tmp_path):
    model = write_tiny_model(tmp_path / "m.pt", classes=("Dive", "Jump", "Other"))
    flags = ("--exp_name", "x", "--num_epochs", "1", "--lr", "1e-30", "--weight_decay", "0")
    outcome = run(tiny.path, "--init_from", str(model), *flags)
    assert outcome.code == 0, outcome.err
    assert f"starting from {model}: classes taken over: 2 ('Dive', 'Jump'); starting fresh: 1 ('Throw')" in outcome.out
    assert "not used: 1 ('Other')" in outcome.out
    given, trained = (load_checkpoint(file).model for file in (model, tmp_path / "out" / "x" / "best.pt"))
    torch.testing.assert_close(trained["encoder.conv.weight"], given["encoder.conv.weight"])
    torch.testing.assert_close(trained["snippet_classifier.weight"][:2], given["snippet_classifier.weight"][:2])
    results = json.loads((tmp_path / "out" / "x" / "results.json").read_text())
    assert results["starting_weights"]["fresh"] == ["Throw"] and results["options"]["init_from"] == str(model)
    model.unlink()  # it has done its work
    assert (
        run(tiny.path, "--exp_name", "x", "--num_epochs", "1", "--lr", "1e-30", "--weight_decay", "0", "--resume").code
        == 0
    )
    assert run(tiny.path, "--exp_name", "x", "--inference_only").code == 0


def test_mistakes(tiny, refused_with, tmp_path):
    model = write_tiny_model(tmp_path / "m.pt")
    assert f"--init_from {model}: a network of another shape; give --hidden_size 8" in refused_with(
        tiny.path, "--init_from", str(model), "--hidden_size", "16"
    )
    assert "--init_from gone.pt: no such file" in refused_with(tiny.path, "--init_from", "gone.pt")
    assert "--resume and --init_from contradict" in refused_with(tiny.path, "--init_from", str(model), "--resume")
    bare = write_bare_model(tmp_path / "bare.pt")
    (tmp_path / "names.txt").write_text("Dive\n")
    assert "names 1 class, " in refused_with(
        tiny.path, "--init_from", str(bare), "--classes", str(tmp_path / "names.txt")
    )
