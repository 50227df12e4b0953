"""What is said of a flag or a value that does not exist, of a file that is no program, and at the top of --help."""

import subprocess
import sys

import pytest
from support.paths import ROOT

import main
from command_line.suggestions import LONGEST_SHOWN, closest, shortened
from options import ALIASES, FIRST_FLAGS, FLAGS, parse_flags
from utils.errors import InputError

MEANT = {
    "--epochs": "--num_epochs",
    "--max-epochs": "--num_epochs",
    "--batch-size": "--batch_size",
    "--batchsize": "--batch_size",
    "--BATCH_SIZE": "--batch_size",
    "--learning_rate": "--lr",
    "--learning-rate": "--lr",
    "-lr": "--lr",
    "--lr-rate": "--lr",
    "--hidden-size": "--hidden_size",
    "--hidden": "--hidden_size",
    "--hidden_dim": "--hidden_size",
    "--gpu": "--device",
    "--data-dir": "--data_path",
    "--workers": "--num_workers",
    "--ckpt": "--model_file",
    "--test": "--inference_only",
    "--num_segmnets": "--num_segments",
    "--no_soft_nms": "--no-soft_nms",
    "--n-threads": "--threads",
    "--no-no_mask": "--mask",
    "--no_no_mixup": "--mixup",
    "--no-no_propagation": "--propagation",
}


@pytest.mark.parametrize(("typed", "meant"), MEANT.items())
def test_the_flag_that_was_meant(typed, meant):
    for words in ([typed, "5"], [f"{typed}=5"]):
        with pytest.raises(InputError) as refused:
            parse_flags(words)
        assert (
            str(refused.value) == f"unrecognized arguments: {words[0]}; did you mean {meant}?; --help lists the flags"
        )


@pytest.mark.parametrize("typed", ["--xyzzy", "--", "---", "-", "stray", "--=5", "--\N{SNOWMAN}"])
def test_nothing_is_meant_by_what_resembles_nothing(typed):
    with pytest.raises(InputError) as refused:
        parse_flags(["--lr", "1", typed])
    assert "did you mean" not in str(refused.value) and "--help" in str(refused.value)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--dataset", "thumos"], "thumos14"),
        (["--dataset", "THUMOS14"], "thumos14"),
        (["--dataset", "activitynet-1.3"], "activitynet1.3"),
        (["--modal", "RGB"], "rgb"),
        (["--precision", "fp-32"], "fp32"),
        (["--cache", "devise"], "device"),
    ],
)
def test_the_value_that_was_meant(words, meant):
    with pytest.raises(InputError) as refused:
        parse_flags(words)
    line = str(refused.value)
    assert (
        line.startswith(f"argument {words[0]}: invalid choice: '{words[1]}' (choose from ")
        and f"did you mean {meant}?" in line
    )


def test_every_alias_leads_to_a_flag_and_hides_none():
    """--test is not --test_batch_size, and no alias is a flag of its own."""
    assert set(ALIASES.values()) <= set(FLAGS.names) and not set(ALIASES) & set(FLAGS.names)
    for alias, name in ALIASES.items():
        assert closest(f"--{alias}", [f"--{flag}" for flag in FLAGS.names], ALIASES) == f"--{name}"


def test_other_programs_know_only_their_own_flags(capsys):
    from data_tools.convert import main as convert

    assert convert(["a", "b", "--allow-pickle", "--epochs=3"]) == 2
    err = capsys.readouterr().err
    assert "--allow-pickle; did you mean --allow_pickle?; unrecognized arguments: --epochs=3; --help" in err


def test_long_words_are_shortened():
    assert shortened("x" * LONGEST_SHOWN) == "x" * LONGEST_SHOWN
    assert len(shortened("x" * 10_000)) == LONGEST_SHOWN and "..." in shortened("x" * 10_000)
    with pytest.raises(InputError) as refused:
        parse_flags(["--" + "x" * 10_000])
    assert len(str(refused.value)) < 200


def test_help_begins_with_examples_and_the_first_flags(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    text = capsys.readouterr().out
    opening, _, listed = text.partition("\noptions:\n")
    assert opening.count("  python main.py --") == 6 and len(FIRST_FLAGS) == 10
    assert [line.split()[0] for line in opening.splitlines() if line.startswith("  --")] == [
        f"--{f}" for f in FIRST_FLAGS
    ]
    assert all(len(line) <= 120 for line in opening.splitlines())
    assert f"{FLAGS.flags['lr'].title}:" in listed


def test_the_examples_are_right():
    """Each is a line of flags that main.py takes."""
    from options import EXAMPLES

    for flags, purpose in EXAMPLES:
        assert parse_flags(flags.split()) and purpose


@pytest.mark.parametrize(
    "file", ["train.py", "test.py", "model.py", "dataset.py", "losses.py", "options.py", "localizer.py"]
)
def test_a_module_says_what_to_run(file):
    """Also in a Python without torch, as the one on the PATH may be."""
    for python in ([sys.executable], [sys.executable, "-S"]):
        done = subprocess.run([*python, file, "--lr", "3"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{file} is a part of the program") and "main.py" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("tool", ["prepare", "convert"])
def test_tools_run_as_files_in_any_folder(tmp_path, tool):
    command = [sys.executable, str(ROOT / "data_tools" / f"{tool}.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "") and f"data_tools.{tool}" in done.stdout


def test_a_python_without_torch_is_told_where_one_is(capsys, monkeypatch):
    def needs_torch(arguments):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("main.run", needs_torch)
    assert main.main([]) == 2
    err = capsys.readouterr().err
    assert "has no torch; run scripts/train.sh" in err and err.count("\n") == 1
