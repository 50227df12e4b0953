"""Flags, presets, and which value wins."""

import dataclasses
import json
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from support.paths import ROOT

from options import (
    CALL_FLAGS,
    FLAGS,
    LAST_BIT_FLAGS,
    LENGTH_FLAGS,
    NEUTRAL_FLAGS,
    Options,
    as_plain,
    check_saved,
    check_unchanged,
    parse_flags,
    resolve,
)
from recipes import FROM_DATA, PRESETS, RECIPES
from utils.errors import InputError
from utils.ranges import parse_grid, parse_span
from utils.snippet_grid import SnippetGrid

PUBLISHED = (
    *("data_path", "exp_name", "output_dir", "modal", "num_segments", "scale", "lr", "batch_size", "num_epochs"),
    *("detection_inf_step", "q_val", "inference_only", "class_th", "model_file", "gamma", "soft_nms", "nms_alpha"),
    *("nms_thresh", "num_workers", "seed", "verbose"),
)


def test_defaults_are_the_published_recipe():
    options = resolve({})
    spec = {  # docs/method.md
        **{"num_segments": 750, "hidden_size": 512, "kernel_size": 3, "rgb_fusion": 0.1, "dropout": 0.5},
        **{
            "w_mil": 1,
            "w_bg": 10,
            "w_act": 1,
            "w_mix": 1,
            "w_mutual": 5,
            "w_so": 3,
            "mil_ratio": 1 / 8,
            "bg_ratio": 1 / 8,
        },
        **{"pseudo_ratio": 1 / 8, "pseudo_extra": 17, "confidence_ratio": 1 / 2, "q_val": 0.5, "gce_eps": 1e-7},
        **{"mask_momentum": 0.7, "mask_var_factor": 2 / 4, "mask_mean_init": None, "mask_var_init": 1},
        **{"lr": 1e-4, "beta1": 0.9, "beta2": 0.999, "weight_decay": 5e-4, "batch_size": 2, "num_epochs": 100},
        **{"detection_inf_step": 10, "eval_from_epoch": 2, "seed": 1, "sqrt_eps": 1e-5, "label_eps": 1e-10},
        **{
            "scale": 24,
            "class_th": 0.25,
            "beta": 0.35,
            "proposal_th": "0.1:0.9:0.1",
            "outer_margin": 0.2,
            "gamma": 0.2,
        },
        **{"soft_nms": True, "nms_alpha": 0.3, "nms_thresh": 0.4, "nms_offset": 1, "snippet_frames": 16, "fps": None},
        **{"tious": "0.1:0.7:0.1", "average_tious": ("0.1:0.5", "0.1:0.7"), "drop_last": False, "mil_rank": "combined"},
    }
    values = FLAGS.values(options)
    assert {name: values[name] for name in spec} == spec
    assert options.fusion.weights == {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3}


def test_preset_then_saved_then_flags():
    def segments(flags, saved=None):
        return resolve(flags, saved).data.num_segments

    assert segments({}) == 750
    assert segments({"dataset": "demo"}) == 100
    assert segments({"dataset": "demo"}, {"num_segments": 80}) == 80
    assert segments({"dataset": "demo", "num_segments": 60}, {"num_segments": 80}) == 60
    assert resolve({}, {"dataset": "demo"}).data.dataset == "demo"


def test_the_recipe_stands_between_the_preset_and_what_was_saved():
    def weight(flags, saved=None):
        return resolve(flags, saved).losses.w_bg

    assert RECIPES["published"] == {} and RECIPES["stable"]["w_bg"] == 1
    assert weight({}) == weight({"recipe": "published"}) == weight({"recipe": "auto"}) == 10
    assert weight({"recipe": "stable"}) == weight({"recipe": "stable", "dataset": "demo"}) == 1
    assert weight({"recipe": "stable"}, {"recipe": "stable", "w_bg": 3}) == 3
    # All that the experiment had is saved: a recipe that changes later is not its.
    assert weight({}, {"recipe": "stable"}) == 10
    assert weight({"recipe": "stable", "w_bg": 4}, {"recipe": "stable", "w_bg": 3}) == 4
    assert resolve({"recipe": "stable", "dataset": "activitynet1.3"}).model.kernel_size == 7  # the preset's


@pytest.mark.parametrize("saved", ["published", "stable", None])
@pytest.mark.parametrize("typed", [None, "auto", "published", "stable"])
def test_saved_options_keep_their_recipe(typed, saved):
    flags = {"recipe": typed} if typed else {}
    before = {"dataset": "demo", "pseudo_extra": 3, **({"recipe": saved} if saved else {})}
    own = saved or "published"  # as all older experiments are
    if typed in (None, "auto", own):
        options = resolve(flags, before)
        assert options.data.recipe == own and options.actionness.pseudo_extra == 3
        check_unchanged(flags, before)
        return
    with pytest.raises(InputError, match=f"--recipe {typed}: the model was trained with --recipe {own}"):
        resolve(flags, before)
    with pytest.raises(InputError, match=f"--recipe is {typed}, the experiment has {own}"):
        check_unchanged(flags, before)


def test_what_a_call_was_told_is_no_default_for_the_next():
    saved = as_plain(resolve(parse_flags(["--device", "cuda:1", "--overwrite", "--verbose", "--exp_name", "x"])))
    options = resolve({}, saved).run
    assert (options.device, options.overwrite, options.verbose, options.exp_name) == ("auto", False, False, "")


def test_presets_are_frozen():
    with pytest.raises(TypeError):
        PRESETS["thumos14"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        PRESETS["demo"]["lr"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        RECIPES["stable"]["w_bg"] = 3  # type: ignore[index]
    with pytest.raises(AttributeError):
        resolve({}).optimisation.lr = 1  # type: ignore[misc]


def test_published_flags_exist():
    values = {"modal": "rgb", "exp_name": "x", "data_path": "d", "output_dir": "o", "model_file": "m"}
    switches = {"inference_only", "soft_nms", "verbose"}
    line = []
    for name in PUBLISHED:
        line += [f"--{name}"] if name in switches else [f"--{name}", values.get(name, "1")]
    assert set(parse_flags(line)) == set(PUBLISHED)


def test_options_are_plain():
    plain = as_plain(resolve({}))
    assert json.loads(json.dumps(plain)) == plain
    assert resolve({}, plain) == resolve({})


def test_help_reads_like_documentation(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_flags(["--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in FLAGS.flags.values():
        assert f"--{flag.name}" in text
        assert flag.help
        assert f"{flag.title}:" in text
    assert "default: 0.125" in text and "demo: 100" in text


def test_resume_may_change_what_changes_no_numbers():
    saved = as_plain(resolve({}))
    check_unchanged({"num_workers": 4, "device": "cpu", "verbose": True, "cache": "mmap", "lr": 1e-4}, saved)
    with pytest.raises(InputError, match="--lr is"):
        check_unchanged({"lr": 0.1}, saved)
    check_unchanged({"compile": True, "test_batch_size": 1, "num_epochs": 200}, saved)  # said, and a longer run
    with pytest.raises(InputError, match="--num_iters is 9000, the experiment has None"):
        check_unchanged({"num_iters": 9000}, saved)  # in another unit
    assert set(FLAGS.names) > CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS | LENGTH_FLAGS
    assert not NEUTRAL_FLAGS & LAST_BIT_FLAGS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("hidden_size", "512"),
            ("hidden_size", None),
            ("hidden_size", 8.0),
            ("hidden_size", True),
            ("hidden_size", 0),
        ),
        *(
            ("lr", "0.1"),
            ("lr", float("nan")),
            ("soft_nms", 1),
            ("modal", "audio"),
            ("tious", "x"),
            ("average_tious", []),
        ),
        *(("unknown", 1), ("model", {"hidden_size": 8}), ("num_iters", [1])),
    ],
)
def test_saved_options_that_no_flag_could_give(name, value):
    saved = as_plain(resolve({}))
    check_saved(saved)
    check_saved({})  # of an earlier version, with fewer options
    with pytest.raises(InputError, match=str(name)):
        check_saved({**saved, name: value})


def test_help_tells_what_every_flag_does(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    text = "".join(capsys.readouterr().out.split())  # however its lines are broken
    for flag in FLAGS.flags.values():
        assert "".join(flag.help.split()) in text


def test_every_number_is_checked():
    """Each has a range, and none takes what is not a number."""
    for name, flag in FLAGS.flags.items():
        if flag.kind in (int, int | None, float, float | None):
            assert flag.interval, name
        if flag.kind in (float, float | None):
            with pytest.raises(InputError, match=f"--{name} nan: must lie in"):
                resolve({name: float("nan")})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert resolve({"dataset": preset}).data.dataset == preset
    assert PRESETS[preset].keys() <= set(FLAGS.names)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_valid(recipe):
    for preset in PRESETS:
        assert resolve({"dataset": preset, "recipe": recipe}).data.recipe == recipe


@pytest.mark.parametrize("name", sorted(FROM_DATA))
def test_help_says_what_the_data_give(capsys, name):
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    (of_flag,) = re.findall(rf" --{name} [NX] (.*?\)) --", text)
    assert of_flag.endswith("--recipe stable: from the data)")


def test_help_says_what_a_recipe_sets(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    assert "activitynet1.2, activitynet1.3, --recipe stable: 1)" in " ".join(capsys.readouterr().out.split())


def test_only_typed_flags_are_flags():
    assert parse_flags([]) == {}
    assert parse_flags(["--lr", "1", "--no-soft_nms"]) == {"lr": 1.0, "soft_nms": False}


def test_the_smallest_number_of_segments_that_will_do():
    assert resolve({"num_segments": 16, "pseudo_extra": 14}).data.num_segments == 16  # 16 // 8 + 14
    assert resolve({"num_segments": 8, "pseudo_extra": 0}).data.num_segments == 8
    with pytest.raises(InputError):
        resolve({"num_segments": 16, "pseudo_extra": 15})
    with pytest.raises(InputError):
        resolve({"num_segments": 7, "pseudo_extra": 0})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1:0.7:0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.5:0.95:0.05", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
        ("0.1:0.45:0.2", (0.1, 0.3)),
        ("0.5", (0.5,)),
    ],
)
def test_grids(text, values):
    assert parse_grid(text) == values


def test_spans():
    assert parse_span("0.1:0.5") == (0.1, 0.5)
    assert parse_span("0.5") == (0.5, 0.5)


def test_groups_are_whole_and_flags_are_flat():
    """Every flag is a field of one group, and a group's values are what its users see."""
    holders = [member.name for holder in fields(Options) for member in fields(holder.default_factory)]
    assert sorted(holders) == sorted(FLAGS.names) and len(set(holders)) == len(holders)
    options = resolve({"lr": 0.11, "nms_thresh": 0.29, "w_so": 26.0, "fuse_cas": 0.22, "hidden_size": 6, "seed": 5})
    assert (options.optimisation.lr, options.localization.nms_thresh) == (0.11, 0.29)
    assert (options.losses.w_so, options.fusion.fuse_cas) == (26.0, 0.22)
    assert (options.model.hidden_size, options.run.seed) == (6, 5)


def test_what_groups_derive():
    options = resolve(
        {
            **{"w_mil": 21.0, "w_bg": 22.0, "w_act": 23.0, "w_mix": 24.0, "w_mutual": 25.0, "w_so": 26.0},
            **{"fuse_cas": 0.22, "fuse_rgb": 0.23, "fuse_flow": 0.24, "modal": "flow", "pseudo_ratio": 0.2},
            **{
                "pseudo_extra": 3,
                "proposal_th": "0.25:0.75:0.25",
                "tious": "0.3:0.5:0.1",
                "average_tious": ["0.3:0.4"],
            },
            **{"snippet_frames": 12, "snippet_stride": 13, "num_epochs": 4},
        }
    )
    weights = {"mil": 21.0, "bg": 22.0, "act": 23.0, "mix": 24.0, "mutual": 25.0, "so": 26.0}
    assert weights.items() <= options.losses.weights.items()
    assert options.fusion.weights == {"cas": 0.22, "rgb": 0.23, "flow": 0.24}
    assert options.data.streams == ("flow",)
    assert options.data.grid == SnippetGrid(frames=12, stride=13)
    assert resolve({"snippet_frames": 12}).data.grid == SnippetGrid(frames=12, stride=12)
    assert options.actionness.label_count(50) == 10 + 3
    assert options.localization.thresholds == (0.25, 0.5, 0.75)
    assert options.evaluation.tiou_grid == (0.3, 0.4, 0.5)
    assert options.optimisation.total_steps(7) == 28
    assert resolve({"num_iters": 30}).optimisation.total_steps(7) == 30


def test_help_needs_neither_torch_nor_numpy():
    """And so is there at once."""
    code = "import sys, main; main.main(['--help'])"
    guard = "import sys; sys.modules.update(torch=None, numpy=None); "
    done = subprocess.run([sys.executable, "-c", guard + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--hidden_size" in done.stdout, done.stderr


def test_a_mistyped_flag_needs_neither():
    guard = "import sys; sys.modules.update(torch=None, numpy=None); import main; "
    code = "sys.exit(main.main(['--hidden', '3']))"
    done = subprocess.run([sys.executable, "-c", guard + code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--hidden" in done.stderr and "Traceback" not in done.stderr


def test_main_hands_every_group_on(tiny, run, monkeypatch):
    """The optimiser's numbers, the mask's and the groups of the loop, caught where main.py passes them."""
    got = {}

    def trainer(objective, optimizer, data, **rest):
        got.update(objective=objective, optimizer=optimizer, **rest)
        raise InputError("seen enough")

    monkeypatch.setattr("train.Trainer", trainer)
    flags = {
        **{"lr": 0.11, "beta1": 0.12, "beta2": 0.13, "weight_decay": 0.14, "mask_momentum": 0.15},
        **{"mask_var_factor": 0.16, "mask_mean_init": 0.17, "mask_var_init": 0.18, "num_segments": 31},
        **{"batch_size": 3, "num_epochs": 4, "seed": 5, "num_workers": 6, "detection_inf_step": 7},
        **{"eval_from_epoch": 8, "save_epochs": 9, "log_steps": 10, "average_tious": "0.2:0.3", "w_so": 9.0},
        **{"fuse_cas": 0.5, "rgb_fusion": 0.3},
    }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    assert run(tiny.path, *words, "--drop_last", "--verbose").err == "main.py: error: seen enough\n"
    settings = got["optimizer"].defaults
    assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (0.11, (0.12, 0.13), 0.14)
    mask = got["objective"].mask
    assert (mask.momentum, mask.var_factor) == (0.15, 0.16)
    assert (mask.mean.item(), mask.var.item()) == (pytest.approx(0.17), pytest.approx(0.18))
    own = ("data_path", "output_dir", "feature_size", "hidden_size", "pseudo_extra", "device", "write_report")
    options = resolve({name: got["saved_options"][name] for name in own} | flags | {"average_tious": ["0.2:0.3"]})
    options = dataclasses.replace(
        options,
        optimisation=dataclasses.replace(options.optimisation, drop_last=True),
        run=dataclasses.replace(options.run, verbose=True),
    )
    assert got["data_options"] == options.data and got["optimisation"] == options.optimisation
    assert got["evaluation"] == options.evaluation and got["run_options"] == options.run
    objective = got["objective"]
    groups = (objective.losses, objective.actionness, objective.fusion)
    assert groups == (options.losses, options.actionness, options.fusion)
    assert objective.model.options == options.model


def test_main_hands_every_group_on_to_the_test(tiny, run, monkeypatch):
    got = {}
    run(tiny.path, "--exp_name", "x")

    def evaluator(self, network, data, **groups):
        got.update(groups)
        raise InputError("seen enough")

    monkeypatch.setattr("test.Evaluator.__init__", evaluator)
    flags = [
        "--class_th",
        "0.11",
        "--beta",
        "0.12",
        "--mil_ratio",
        "0.13",
        "--test_batch_size",
        "3",
        "--fuse_cas",
        "0.5",
    ]
    assert run(tiny.path, "--inference_only", "--exp_name", "x", *flags).err == "main.py: error: seen enough\n"
    assert (got["localization"].class_th, got["localization"].beta) == (0.11, 0.12)
    assert (got["fusion"].mil_ratio, got["fusion"].fuse_cas) == (0.13, 0.5)
    assert got["evaluation"].test_batch_size == 3 and got["data_options"].num_segments == 24
