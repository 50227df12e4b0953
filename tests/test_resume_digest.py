"""--resume on other data, with other options, for longer: what changed is named, and nothing is lost."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from support.disk import complaint, contents
from support.failing import dies_in_last_pt_after
from support.tiny import load_tiny_set

import main
import train
from run import saving
from run.checkpoint import load_checkpoint
from run.data_digest import compare_digests, data_digest


@pytest.fixture
def started(tiny, run, tmp_path):
    """The tiny set, with a run of two of its epochs in experiment x."""
    assert run(tiny.path, "--exp_name", "x", "--num_epochs", "2").code == 0
    return tiny


@pytest.fixture
def resumed(run, tmp_path):
    """resumed(path): the line with which --resume refuses the set; the disk stays as it is."""

    def call(path, *flags):
        before = contents(tmp_path)
        outcome = run(path, "--exp_name", "x", "--resume", "--num_epochs", "2", *flags)
        line = complaint(outcome.code, outcome.err)
        assert contents(tmp_path) == before
        return line

    return call


def last_pt(tmp_path):
    return tmp_path / "out" / "x" / "last.pt"


def change_features(file, change):
    features = np.load(file)
    np.save(file, change(features).astype(features.dtype))


def drop(tiny, split, *videos):
    file = tiny.path / f"split_{split}.txt"
    file.write_text("".join(f"{name}\n" for name in file.read_text().split() if name not in videos))
    tiny.edit_gt(lambda database: [database.pop(video) for video in videos])


def shifted(entry):
    entry["annotations"][0]["segment"] = [0.1, 0.9]


CHANGES = {
    "segments": (lambda s: s.edit_gt(lambda d: shifted(d["test_0"])), "segments of 1 test video ('test_0') changed"),
    "labels": (
        lambda s: s.edit_gt(lambda d: d["train_1"]["annotations"][0].update(label="Dive")),
        "labels of 1 training video ('train_1') changed",
    ),
    "durations": (
        lambda s: s.edit_gt(lambda d: d["test_1"].update(duration=99.0)),
        "durations of 1 test video ('test_1')",
    ),
    "frame rates": (
        lambda s: s.edit_gt(lambda d: [entry.update(fps=30.0) for entry in d.values()]),
        "frame rates of 4 test videos ('test_0', 'test_1', 'test_2' and 1 more) changed",
    ),
    "feature values": (
        lambda s: change_features(s.feature("test", "rgb", "test_2"), lambda x: x * 1.01),
        "feature values of 1 test video ('test_2') changed",
    ),
    "one value": (
        lambda s: change_features(
            s.feature("train", "flow", "train_3"), lambda x: x + (np.arange(x.size) == 17).reshape(x.shape)
        ),
        "feature values of 1 training video ('train_3') changed",
    ),
    "lengths": (
        lambda s: [
            change_features(s.feature("train", stream, "train_0"), lambda x: x[:-1]) for stream in ("rgb", "flow")
        ],
        "lengths of 1 training video ('train_0') changed",
    ),
    "test video gone": (
        lambda s: drop(s, "test", "test_1", "test_3"),
        "2 test videos are gone: 'test_1', 'test_3'",
    ),
    "training video gone": (
        lambda s: drop(s, "train", "train_6"),
        "1 training video is gone: 'train_6'",
    ),
    "order": (
        lambda s: (s.path / "split_train.txt").write_text("".join(f"train_{i}\n" for i in reversed(range(7)))),
        "the training videos stand in another order",
    ),
    "class gone": (
        lambda s: s.edit_gt(lambda d: [n.update(label="Dive") for e in d.values() for n in e["annotations"]]),
        "classes are gone: 'Jump', 'Throw'",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_changed_is_named(started, resumed, tmp_path, kind):
    change, said = CHANGES[kind]
    change(started)
    line = resumed(started.path)
    assert f"{last_pt(tmp_path)}: the data are not those" in line and said in line and "--init_from" in line


def test_several_changes_are_named_at_once(started, resumed):
    CHANGES["segments"][0](started)
    CHANGES["feature values"][0](started)
    line = resumed(started.path)
    assert CHANGES["segments"][1] in line and CHANGES["feature values"][1] in line


def test_a_copy_of_the_set_is_the_same_set(started, run, tmp_path):
    """A copy has other times, and a set in another layout other sizes."""
    copied = tmp_path / "copy"
    shutil.copytree(started.path, copied)
    for file in copied.rglob("*.npy"):
        os.utime(file, (1e9, 1e9))
    outcome = run(copied, "--exp_name", "x", "--resume", "--num_epochs", "2")
    assert outcome.code == 0, outcome.err
    assert (
        "the feature files of 7 training videos" in outcome.out and "the values looked at are the same" in outcome.out
    )
    again = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "2", "--cache", "mmap")
    assert again.code == 0 and "note" not in again.out


def test_a_large_set_is_sampled_and_compared_in_the_same_rows(started, run, tmp_path, monkeypatch):
    """The share of each video depends on their number: where one is gone, the others are still the same."""
    data = load_tiny_set(started.path)
    monkeypatch.setattr("run.data_digest.BYTES_LOOKED_AT", 11 * 12 * 4 * 6)
    digest = data_digest(data)
    assert (
        digest["rows"] == 6
        and digest["train"]["feature values"] != data_digest(data, rows=7)["train"]["feature values"]
    )
    CHANGES["training video gone"][0](started)
    fewer = data_digest(load_tiny_set(started.path), rows=6)
    assert compare_digests(digest, fewer) == (["1 training video is gone: 'train_6'"], [])


def test_the_files_of_earlier_versions_go_on_with_a_note(started, run, tmp_path, resumed):
    content = torch.load(last_pt(tmp_path), weights_only=True)
    del content["training"]["data"], content["training"]["machine"]
    content["training"]["videos"] = [f"train_{i}" for i in range(7)]
    torch.save(content, last_pt(tmp_path))
    outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "2")
    assert outcome.code == 0 and "no digest of its data" in outcome.out
    CHANGES["order"][0](started)
    assert "the training videos are others, or in another order" in resumed(started.path)


# Options


def test_what_moves_last_bits_is_said(started, run):
    flags = ("--exp_name", "x", "--resume", "--num_epochs", "2")
    assert "note" not in run(started.path, *flags).out
    outcome = run(started.path, *flags, "--test_batch_size", "1", "--num_workers", "0")
    assert "--test_batch_size 32 (now 1)" in outcome.out and "num_workers" not in outcome.out


def test_another_machine_is_said(started, run, tmp_path):
    content = torch.load(last_pt(tmp_path), weights_only=True)
    content["training"]["machine"].update(device="cuda", precision="tf32")
    torch.save(content, last_pt(tmp_path))
    outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "2")
    assert outcome.code == 0 and "cuda (now cpu), tf32 (now fp32)" in outcome.out


# A longer run


def test_a_run_is_lengthened_as_if_it_had_never_ended(tiny, run, tmp_path):
    for name, lengths in (("whole", ["3"]), ("parts", ["1", "2", "3"])):
        for i, epochs in enumerate(lengths):
            flags = ["--resume"] if i else ["--keep_state"]
            outcome = run(tiny.path, "--exp_name", name, "--num_epochs", epochs, *flags)
            assert outcome.code == 0 and "note" not in outcome.out, outcome.err
    whole, parts = (load_checkpoint(tmp_path / "out" / name / "last.pt") for name in ("whole", "parts"))
    assert all(torch.equal(whole.model[name], parts.model[name]) for name in whole.model)
    results = [json.loads((tmp_path / "out" / name / "results.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["last"] == results[1]["last"] and results[1]["steps"] == 12
    assert results[1]["options"]["num_epochs"] == parts.options["num_epochs"] == 3
    assert [point["step"] for point in results[1]["history"]] == [4, 8, 12]


def test_a_complete_run_has_no_moments_and_says_so_when_it_goes_on(started, run, tmp_path):
    size = last_pt(tmp_path).stat().st_size
    assert load_checkpoint(last_pt(tmp_path)).training["optimizer"] is None
    outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "3", "--keep_state")
    assert outcome.code == 0, outcome.err
    assert "no optimiser state" in outcome.out and "--keep_state" in outcome.out
    training = load_checkpoint(last_pt(tmp_path)).training
    assert training["step"] == 12 and float(training["optimizer"]["state"][0]["step"]) == 4
    assert last_pt(tmp_path).stat().st_size > size + 2 * 4 * 3 * 8 * 8


def test_a_run_cannot_become_shorter(started, resumed):
    assert "--resume to 4 steps: the experiment has 8" in resumed(started.path, "--num_epochs", "1")


def test_other_options_are_refused_all_at_once(started, resumed):
    line = resumed(started.path, "--lr", "0.5", "--seed", "7")
    assert "--lr is 0.5" in line and "--seed is 7" in line and "--num_epochs" not in line


# best.pt alone


def test_best_pt_alone_has_a_way_out(started, run, tmp_path, refused_with):
    last_pt(tmp_path).unlink()
    line = refused_with(started.path, "--exp_name", "x", "--resume")
    assert "holds no training state" in line and "--overwrite" in line and "--init_from" in line
    line = refused_with(started.path, "--exp_name", "x")
    assert "--overwrite" in line and "--resume cannot continue it" in line


def test_a_best_pt_that_is_gone_is_said(started, run, tmp_path):
    (tmp_path / "out" / "x" / "best.pt").unlink()
    outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "2")
    assert outcome.code == 0 and "best.pt of step 8 is gone" in outcome.out


def test_a_longer_run_that_stops_before_its_first_step_goes_on(started, run, tmp_path, monkeypatch):
    """Its features are gone just then: the file saved with the new length has no moments of a step yet."""

    def gone(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "features")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(train, "train_batches", gone)
        outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "3")
    assert outcome.code == 2 and "saved at step" in outcome.err
    outcome = run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "3")
    assert outcome.code == 0, outcome.err
    assert load_checkpoint(last_pt(tmp_path)).training["step"] == 12


def test_a_longer_run_that_is_killed_goes_on_to_its_new_end_without_the_flag(started, run, tmp_path, monkeypatch):
    """And best.pt is of the evaluation that results.json calls the best."""
    folder = last_pt(tmp_path).parent
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", dies_in_last_pt_after(8))
        with pytest.raises(SystemError):
            run(started.path, "--exp_name", "x", "--resume", "--num_epochs", "3", "--save_minutes", "0")
    saved = load_checkpoint(last_pt(tmp_path))
    assert saved.training["step"] == 8 and saved.options["num_epochs"] == 3
    assert main.main(["--resume", "--exp_name", "x", "--output_dir", str(folder.parent)]) == 0
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 12
    assert load_checkpoint(folder / "best.pt").training["best"]["step"] == results["best"]["step"]
