"""A sweep: every combination once, and a mistake in its file is told before the first run, with the key."""

import pytest
from support.disk import contents
from support.queues import refused
from support.tiny import FEATURE_SIZE

from experiments import sweep
from experiments.arguments import shared_flags
from experiments.sweep_file import read_sweep

ALLOWED = shared_flags({"seed", "output_dir"})


def written(tmp_path, text, name="s.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_every_combination_is_run_with_every_seed(queues, capsys):
    file = written(
        queues.path, "flags: {hidden_size: 8}\nvalues: {lr: [1e-4, 0.0003], modal: [all, rgb]}\nseeds: [0, 1]\n"
    )
    assert sweep.main([str(file), *queues.flags, "--jobs", "2"]) == 0
    runs = sorted(call["name"] for call in queues.calls())
    assert runs == [
        f"lr={lr}-modal={modal}-seed{seed}"
        for lr in ("0.0001", "0.0003")
        for modal in ("all", "rgb")
        for seed in (0, 1)
    ]
    out = " ".join(capsys.readouterr().out.split())
    # seeds 0 and 1: 0.30 and 0.31, and a hundred times the rate
    assert "lr=0.0001-modal=rgb last 2 31.5 ± 0.7 31.5 ± 0.7" in out
    assert "lr=0.0003-modal=all last 2 33.5 ± 0.7" in out
    assert "chooses on these very videos" in out
    file.write_text(file.read_text().replace("0.0003]", "0.0003, 0.0005]"))
    assert sweep.main([str(file), *queues.flags]) == 0
    assert {call["name"].split("-")[0] for call in queues.calls()} == {"lr=0.0005"}


def test_values_that_change_no_result_have_their_mean_too(queues, capsys):
    file = written(queues.path, "values: {select: [test, last], num_workers: [0, 1]}\nseeds: [0, 1]\n")
    assert sweep.main([str(file), *queues.flags, "--jobs", "2", "--lr", "1e-4"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for select in ("test", "last"):
        for workers in (0, 1):
            assert f"select={select}-num_workers={workers} last 2 31.5 ± 0.7" in out


def test_values_are_those_of_the_command_line(tmp_path):
    text = """
        flags:
            lr: 1e-4            # a text, to YAML
            compile: false
            no_mask: true
            average_tious: ["0.1:0.5", "0.3:0.7"]
            num_epochs: 10
            min_score: -1.5
        values:
            precision: [tf32, bf16]
            tious: ["0.5"]
            fps: [25]
    """
    found = read_sweep(written(tmp_path, text), allowed=ALLOWED)
    assert found.flags == {
        "lr": 1e-4,
        "compile": False,
        "no_mask": True,
        "average_tious": ("0.1:0.5", "0.3:0.7"),
        "num_epochs": 10,
        "min_score": -1.5,
    }
    assert list(found.variants()) == ["precision=tf32-tious=0.5-fps=25.0", "precision=bf16-tious=0.5-fps=25.0"]
    assert found.seeds == []


def test_without_values_or_seeds_it_is_one_run(queues):
    assert sweep.main([str(written(queues.path, "flags: {lr: 0.001}")), *queues.flags]) == 0
    assert [call["name"] for call in queues.calls()] == ["s-seed1"]  # the recipe's seed


@pytest.mark.parametrize(("other", "said"), [("", 1), ("values: {num_segments: [40, 50]}", 0)])
def test_a_recipe_is_said_for_all_runs_only_if_it_is_that_of_all(queues, tiny, capsys, other, said):
    path = written(queues.path, f"flags: {{recipe: stable, feature_size: {FEATURE_SIZE}}}\nseeds: [1, 2]\n{other}")
    assert sweep.main([str(path), *queues.flags, "--data_path", str(tiny.path)]) == 0
    assert capsys.readouterr().out.count("recipe stable: ") == said
    assert len(queues.calls()) == 4 - 2 * said


def test_texts_that_are_no_names_of_folders_have_one(tmp_path):
    text = "values: {data_path: [a/b, a b, 'ä', 'ö']}"
    assert list(read_sweep(written(tmp_path, text), allowed=ALLOWED).variants()) == [
        "data_path=a_b",
        "data_path=a_b-v2",
        "data_path=_",
        "data_path=_-v2",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected flags, values, seeds"),
        ("- 1", "expected flags, values, seeds"),
        ("value: {lr: [1]}", "value: is none of flags, values, seeds; did you mean values?"),
        ("values: {lr: [1e-4, abc]}", "values, lr: argument --lr: 'abc' is not a number"),
        ("values: {lr: [0]}", "values, lr: --lr 0.0: must lie in"),
        ("values: {learning_rate: [1]}", "values, learning_rate: is no flag that a sweep can set; did you mean lr?"),
        ("values: {exp_name: [a]}", "values, exp_name: is no flag that a sweep can set"),
        ("values: {seed: [1]}", "values, seed: is no flag that a sweep can set"),
        ("values: {lr: 1e-4}", "values, lr: expected a list of values"),
        ("values: {lr: []}", "values, lr: expected a list of values"),
        ("values: {lr: [1e-4, 0.0001]}", "values, lr: 0.0001 is given twice"),
        ("values: {lr: [[1]]}", "values, lr: [1] is no value of it"),
        ("values: {lr: [null]}", "values, lr: nothing is no value of it"),
        ("values: {lr: [true]}", "values, lr: true is no value of it"),
        ("values: {compile: [1]}", "values, compile: 1 is neither true nor false"),
        ("values: {modal: [audio]}", "values, modal: argument --modal: invalid choice: 'audio'"),
        ("values: {kernel_size: [3, 4]}", "--kernel_size 4: must be odd"),
        ("values: {data_path: [2026-01-01]}", "values, data_path: 2026-01-01 is no value of it"),
        ("values: [lr]", "values: expected names of flags and values"),
        ("flags: {lr: 1}\nvalues: {lr: [1]}", "lr: stands under flags and under values"),
        ("flags: {lr: 1, lr: 2}", "line 1: is not valid YAML (lr is there twice)"),
        ("flags: {num_epochs: 2, num_iters: 3}", "--num_epochs and --num_iters contradict each other"),
        ("flags: {classes: x.txt}", "--classes is only read with"),
        ("flags: {lr: 1", "line 1: is not valid YAML"),
        ("flags: !!python/object/apply:os.getcwd []", "line 1: is not valid YAML"),
        ("flags: {device: cpu}", "--device: "),
        ("seeds: []", "seeds: expected a list of whole numbers"),
        ("seeds: 1", "seeds: expected a list of whole numbers"),
        ("seeds: [1, true]", "seeds: expected a list of whole numbers"),
        ("seeds: [1, 1]", "seeds: 1 is given twice"),
        ("seeds: [-1]", "--seed -1: must lie in"),
        (f"values: {{lr: {[i / 1000 for i in range(1, 202)]}, w_bg: {list(range(51))}}}", "asks for 10,251 runs"),
        ("[" * 3000, "is nested too deep"),
        ("flags: {fps: 2026-13-01}", "has a value that is none (month must be in 1..12)"),
        ("values: {lr: &a [1, 2], w_bg: *a}", "line 1: is not valid YAML (aliases are not read; write the value out)"),
        ("\x00", "is not valid YAML"),
    ],
    ids=lambda value: value[:30],
)
def test_mistakes_name_the_file_and_the_key(queues, capsys, text, said):
    file = written(queues.path, text)
    before = contents(queues.path)
    line = refused(capsys, sweep, file, *queues.flags)
    assert said in line and str(file) in line
    assert contents(queues.path) == before


@pytest.mark.parametrize("words", [["nowhere.yaml"], ["."], []])
def test_there_must_be_a_file(queues, capsys, words):
    assert "yaml" in refused(capsys, sweep, *words, *queues.flags) or words == ["."]


def test_a_file_that_is_no_text(queues, capsys):
    file = queues.path / "x.yaml"
    file.write_bytes(b"\xff\xfe\xfa")
    assert f"{file}: is not text in UTF-8" in refused(capsys, sweep, file, *queues.flags)


def test_keys_of_any_kind_are_told(queues, capsys):
    for text in ("flags: {1: 2}", "flags: {[1]: 2}", "flags: {{a: 1}: 2}", "? [1]\n: 2"):
        assert str(queues.path) in refused(capsys, sweep, written(queues.path, text), *queues.flags)
