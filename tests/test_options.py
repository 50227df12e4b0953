"""Flags, presets, and which value wins."""

import json

import pytest
import torch

import main
from localization.nms import NmsConfig
from localization.proposals import ProposalConfig
from losses import LossConfig, PseudoLabelConfig
from model import SalConfig
from options import CALL_FLAGS, NEUTRAL_FLAGS, PRESETS, Options, as_plain, check_unchanged, parse_flags, resolve
from test import PredictConfig
from train import TrainConfig
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
    assert {name: getattr(options, name) for name in spec} == spec
    assert options.fusion == {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3}


def test_preset_then_saved_then_flags():
    assert resolve({}).num_segments == 750
    assert resolve({"dataset": "demo"}).num_segments == 100
    assert resolve({"dataset": "demo"}, {"num_segments": 80}).num_segments == 80
    assert resolve({"dataset": "demo", "num_segments": 60}, {"num_segments": 80}).num_segments == 60
    assert resolve({}, {"dataset": "demo"}).dataset == "demo"


def test_what_a_call_was_told_is_no_default_for_the_next():
    saved = as_plain(resolve(parse_flags(["--device", "cuda:1", "--overwrite", "--verbose", "--exp_name", "x"])))
    options = resolve({}, saved)
    assert (options.device, options.overwrite, options.verbose, options.exp_name) == ("auto", False, False, "")


def test_presets_are_frozen():
    with pytest.raises(TypeError):
        PRESETS["thumos14"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        PRESETS["demo"]["lr"] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        resolve({}).lr = 1  # type: ignore[misc]


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
    fields = Options.__dataclass_fields__
    for name, spec in fields.items():
        assert f"--{name}" in text
        assert spec.metadata["help"]
        assert spec.metadata["group"] + ":" in text
    assert "default: 0.125" in text and "demo: 100" in text


def test_numbers_reach_the_parts():
    flags = ["--q_val", "0.7", "--mil_ratio", "0.25", "--pseudo_extra", "3", "--nms_thresh", "0.6", "--no-soft_nms"]
    flags += [
        "--outer_margin",
        "0.3",
        "--proposal_th",
        "0.2:0.4:0.1",
        "--w_so",
        "9",
        "--rgb_fusion",
        "0.3",
        "--fps",
        "30",
    ]
    options = resolve(parse_flags([*flags, "--modal", "flow", "--fuse_cas", "0.6"]))
    assert (options.loss_config().gce_q, options.loss_config().mil_ratio) == (0.7, 0.25)
    assert options.pseudo_label_config().extra == 3
    assert (options.nms_config().thresh, options.nms_config().soft) == (0.6, False)
    proposal = options.proposal_config()
    assert (proposal.outer_margin, proposal.thresholds, options.fps) == (0.3, (0.2, 0.3, 0.4), 30)
    assert options.loss_weights["so"] == 9
    assert options.model_config(5).streams == ("flow",) and options.model_config(5).rgb_fusion == 0.3
    assert options.loss_config().fusion["cas"] == 0.6


def test_resume_may_change_what_changes_no_numbers():
    saved = as_plain(resolve({}))
    check_unchanged({"num_workers": 4, "device": "cpu", "verbose": True, "cache": "mmap", "lr": 1e-4}, saved)
    with pytest.raises(InputError, match="--lr is"):
        check_unchanged({"lr": 0.1}, saved)
    assert set(Options.__dataclass_fields__) > CALL_FLAGS | NEUTRAL_FLAGS


def test_help_tells_what_every_flag_does(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--help"])
    text = "".join(capsys.readouterr().out.split())  # however its lines are broken
    for spec in Options.__dataclass_fields__.values():
        assert "".join(spec.metadata["help"].split()) in text


def test_every_number_is_checked():
    """Each has a range, and none takes what is not a number."""
    for name, spec in Options.__dataclass_fields__.items():
        if spec.type in (int, float, float | None):
            assert spec.metadata["range"], name
        if spec.type in (float, float | None):
            with pytest.raises(InputError, match=f"--{name} nan: must lie in"):
                resolve({name: float("nan")})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset):
    assert resolve({"dataset": preset}).dataset == preset
    assert PRESETS[preset].keys() <= Options.__dataclass_fields__.keys()


def test_only_typed_flags_are_flags():
    assert parse_flags([]) == {}
    assert parse_flags(["--lr", "1", "--no-soft_nms"]) == {"lr": 1.0, "soft_nms": False}


def test_the_smallest_number_of_segments_that_will_do():
    assert resolve({"num_segments": 16, "pseudo_extra": 14}).num_segments == 16  # 16 // 8 + 14
    assert resolve({"num_segments": 8, "pseudo_extra": 0}).num_segments == 8
    with pytest.raises(InputError):
        resolve({"num_segments": 16, "pseudo_extra": 15})
    with pytest.raises(InputError):
        resolve({"num_segments": 7, "pseudo_extra": 0})


def test_every_number_reaches_its_own_part():
    """Values that occur once each, so that no two can be exchanged."""
    flags = {
        **{"feature_size": 5, "hidden_size": 6, "kernel_size": 7, "actionness_kernel_size": 9, "rgb_fusion": 0.11},
        **{"dropout": 0.12, "sqrt_eps": 0.13, "mil_ratio": 0.14, "mil_rank": "cas", "bg_ratio": 0.15, "q_val": 0.16},
        **{"gce_eps": 0.17, "label_eps": 0.18, "pseudo_ratio": 0.19, "pseudo_extra": 10, "confidence_ratio": 0.21},
        **{"fuse_cas": 0.22, "fuse_rgb": 0.23, "fuse_flow": 0.24, "scale": 11, "proposal_th": "0.25:0.75:0.25"},
        **{"outer_margin": 0.26, "gamma": 0.27, "snippet_frames": 12, "snippet_stride": 13, "soft_nms": False},
        **{"nms_alpha": 0.28, "nms_thresh": 0.29, "nms_offset": 0.31, "w_mil": 21.0, "w_bg": 22.0, "w_act": 23.0},
        **{"w_mix": 24.0, "w_mutual": 25.0, "w_so": 26.0, "tious": "0.3:0.5:0.1", "average_tious": ("0.3:0.4",)},
    }
    options = resolve(flags)
    fusion = {"cas": 0.22, "rgb": 0.23, "flow": 0.24}
    expected_model = SalConfig(
        num_classes=4,
        streams=("rgb", "flow"),
        feature_size=5,
        hidden_size=6,
        kernel_size=7,
        actionness_kernel_size=9,
        rgb_fusion=0.11,
        dropout=0.12,
        sqrt_eps=0.13,
    )
    expected_loss = LossConfig(
        mil_ratio=0.14, mil_rank="cas", bg_ratio=0.15, gce_q=0.16, gce_eps=0.17, label_eps=0.18, fusion=fusion
    )
    expected_proposals = ProposalConfig(
        scale=11, thresholds=(0.25, 0.5, 0.75), outer_margin=0.26, gamma=0.27, grid=SnippetGrid(12, 13)
    )
    assert options.model_config(4) == expected_model
    assert options.loss_config() == expected_loss
    assert options.pseudo_label_config() == PseudoLabelConfig(ratio=0.19, extra=10, confidence_ratio=0.21)
    assert options.proposal_config() == expected_proposals
    assert options.nms_config() == NmsConfig(soft=False, thresh=0.29, alpha=0.28, offset=0.31)
    weights = {"mil": 21.0, "bg": 22.0, "act": 23.0, "mix": 24.0, "mutual": 25.0, "so": 26.0}
    assert options.loss_weights == weights
    assert options.tiou_grid == (0.3, 0.4, 0.5)


def test_the_parts_own_defaults_are_the_recipes():
    """Two places say them: they must not drift apart."""
    options = resolve({})
    assert options.model_config(20) == SalConfig(num_classes=20)
    assert options.loss_config() == LossConfig()
    assert options.pseudo_label_config() == PseudoLabelConfig()
    assert options.proposal_config() == ProposalConfig()
    assert options.nms_config() == NmsConfig()
    assert options.loss_weights == {"mil": 1, "bg": 10, "act": 1, "mix": 1, "mutual": 5, "so": 3}


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


def test_main_hands_every_number_on(tiny, run, monkeypatch):
    """The optimiser's, the mask's, the loop's and the test's, caught where main.py passes them."""
    got = {}

    def trainer(model, mask, objective, optimizer, data, **rest):
        got.update(mask=mask, optimizer=optimizer, **rest)
        raise InputError("seen enough")

    monkeypatch.setattr("main.Trainer", trainer)
    flags = {
        **{"lr": 0.11, "beta1": 0.12, "beta2": 0.13, "weight_decay": 0.14, "mask_momentum": 0.15},
        **{"mask_var_factor": 0.16, "mask_mean_init": 0.17, "mask_var_init": 0.18, "num_segments": 31},
        **{"batch_size": 3, "num_epochs": 4, "seed": 5, "num_workers": 6, "detection_inf_step": 7},
        **{"eval_from_epoch": 8, "save_epochs": 9, "log_steps": 10, "average_tious": "0.2:0.3"},
    }
    words = [str(word) for name, value in flags.items() for word in (f"--{name}", value)]
    assert run(tiny.path, *words, "--drop_last", "--verbose").err == "main.py: error: seen enough\n"
    settings = got["optimizer"].defaults
    assert (settings["lr"], settings["betas"], settings["weight_decay"]) == (0.11, (0.12, 0.13), 0.14)
    mask = got["mask"]
    assert (mask.momentum, mask.var_factor) == (0.15, 0.16)
    assert (mask.mean.item(), mask.var.item()) == (pytest.approx(0.17), pytest.approx(0.18))
    assert got["config"] == TrainConfig(
        num_segments=31,
        batch_size=3,
        drop_last=True,
        num_epochs=4,
        seed=5,
        num_workers=6,
        evaluation_steps=7,
        eval_from_epoch=8,
        save_epochs=9,
        log_steps=10,
        average_tious=("0.2:0.3",),
        verbose=True,
    )


def test_main_hands_every_number_on_to_the_test(monkeypatch):
    got = {}
    monkeypatch.setattr("main.Evaluator", lambda data, **rest: got.update(rest))
    options = resolve(
        {"class_th": 0.11, "beta": 0.12, "mil_ratio": 0.13, "num_segments": 99, "test_batch_size": 3, "fuse_cas": 0.5}
    )
    main._evaluator(None, None, options, torch.device("cpu"))
    assert got["prediction"] == PredictConfig(class_th=0.11, beta=0.12, topk_ratio=0.13, fusion=options.fusion)
    assert (got["num_segments"], got["batch_size"], got["tious"]) == (99, 3, options.tiou_grid)
    assert (got["proposals"], got["suppression"]) == (options.proposal_config(), options.nms_config())
