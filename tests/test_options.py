"""Flags, presets, and which value wins."""

import json

import pytest

from options import CALL_FLAGS, NEUTRAL_FLAGS, PRESETS, Options, as_plain, check_unchanged, parse_flags, resolve
from utils.errors import InputError

PUBLISHED = (
    *("data_path", "exp_name", "output_dir", "modal", "num_segments", "scale", "lr", "batch_size", "num_epochs"),
    *("detection_inf_step", "q_val", "inference_only", "class_th", "model_file", "gamma", "soft_nms", "nms_alpha"),
    *("nms_thresh", "num_workers", "seed", "verbose"),
)


def test_defaults_are_the_published_recipe():
    options = resolve({})
    spec = {  # SPEC 3 to 6, THUMOS'14
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
        **{"soft_nms": True, "nms_alpha": 0.3, "nms_thresh": 0.4, "nms_offset": 1, "snippet_frames": 16, "fps": 25},
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
    text = capsys.readouterr().out
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
    assert (proposal.outer_margin, proposal.thresholds, proposal.fps) == (0.3, (0.2, 0.3, 0.4), 30)
    assert options.loss_weights["so"] == 9
    assert options.model_config(5).streams == ("flow",) and options.model_config(5).rgb_fusion == 0.3
    assert options.loss_config().fusion["cas"] == 0.6


def test_resume_may_change_what_changes_no_numbers():
    saved = as_plain(resolve({}))
    check_unchanged({"num_workers": 4, "device": "cpu", "verbose": True, "cache": "mmap", "lr": 1e-4}, saved)
    with pytest.raises(InputError, match="--lr is"):
        check_unchanged({"lr": 0.1}, saved)
    assert set(Options.__dataclass_fields__) > CALL_FLAGS | NEUTRAL_FLAGS
