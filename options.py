"""Every option of the program: its flag, group, default, unit and range in one line, and the recipes as presets.

    flags = parse_flags(sys.argv[1:])          # what the user typed, nothing else
    options = resolve(flags)                   # preset, then flags on top; checked

The defaults are the published THUMOS'14 recipe. To change one for good, edit its line here.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import torch

from formats.layouts import LAYOUTS
from localization.nms import NmsConfig
from localization.proposals import ProposalConfig
from losses import AdaptiveMask, LossConfig, PseudoLabelConfig, pseudo_label_count
from model import SalConfig, topk_count
from test import PredictConfig
from train import TrainConfig
from utils.errors import InputError
from utils.ranges import in_span, parse_grid, parse_span
from utils.snippet_grid import SnippetGrid

# What differs from the defaults, by --dataset. Flags override.
_ACTIVITYNET: Mapping[str, Any] = MappingProxyType(
    {
        "num_segments": 50,
        "short_videos": "keep",
        "kernel_size": 7,
        "rgb_fusion": 0.3,
        "w_bg": 1.0,
        "w_mutual": 20.0,
        "mil_ratio": 0.25,
        "mil_rank": "cas",
        "pseudo_ratio": 0.8,
        "pseudo_extra": 0,
        "confidence_ratio": 0.0,
        "mask_momentum": 0.99,
        "mask_var_factor": 6.0,
        "fuse_cas": 0.6,
        "fuse_rgb": 0.2,
        "fuse_flow": 0.2,
        "batch_size": 32,
        "drop_last": True,
        "num_epochs": None,
        "num_iters": 50_000,
        "seed": 0,
        "class_th": 0.1,
        "beta": 0.5,
        "nms_thresh": 0.7,
        "nms_alpha": 0.35,
        "detection_inf_step": 200,
        "eval_from_epoch": 1,
        "test_batch_size": 32,
        "tious": "0.5:0.95:0.05",
        "average_tious": ("0.5:0.95",),
        "save_epochs": 5,
    }
)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "thumos14": MappingProxyType({}),
        "activitynet1.2": _ACTIVITYNET,  # 100 of the classes
        "activitynet1.3": _ACTIVITYNET,
        "demo": MappingProxyType(
            {
                "data_path": "data/demo",
                "num_segments": 100,
                "lr": 6e-4,
                "num_epochs": 8,
                "detection_inf_step": 30,
            }
        ),
    }
)


def _option(
    group: str,
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    range: str | None = None,
    grid: str | None = None,
) -> Any:
    """A field with what argparse and the checks need. `range` is an interval such as "(0,1]"; `grid` "grid" or "span"."""
    meta = {"group": group, "help": help, "choices": choices, "range": range, "grid": grid}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Options:
    """The resolved options of a run. Field names are flag names."""

    # fmt: off
    dataset: str = _option("data", "thumos14", "recipe: a frozen set of defaults that other flags override", choices=tuple(PRESETS))
    data_path: str = _option("data", "", "folder with the features and their ground truth; see the README for layouts")
    layout: str = _option("data", "auto", "how the set lies on disk; auto: told from the folder", choices=("auto", *LAYOUTS))
    ground_truth: str = _option("data", "", "JSON file with labels and segments (default: gt.json in --data_path, or its only JSON file)")
    allow_pickle: bool = _option("data", False, "read feature sets that are pickled; only arrays and plain values are built from them")
    skip_unusable: bool = _option("data", False, "leave out videos without features and segments that end at or before their start, saying how many, instead of refusing the set")
    modal: str = _option("data", "all", "streams to use", choices=("all", "rgb", "flow"))
    num_segments: int = _option("data", 750, "T, snippets that a video is resampled to", range="[1,inf)")
    feature_size: int = _option("data", 1024, "channels of each stream's features", range="[1,inf)")
    snippet_frames: int = _option("data", 16, "frames that a snippet covers", range="[1,inf)")
    snippet_stride: int | None = _option("data", None, "frames from the start of one snippet to the next (default: --snippet_frames, no overlap)", range="[1,inf)")
    fps: float | None = _option("data", None, "frame rate the features were extracted at, frames per second (default: each video's own in the ground truth, 25 where it states none)", range="(0,inf)")
    short_videos: str = _option("data", "stretch", "videos with fewer than T snippets. stretch: resampled to T like others; keep: as they are in test, T sorted draws with replacement in training", choices=("stretch", "keep"))
    cache: str = _option("data", "auto", "where features stay: on the training device, in memory, or in their files; auto: on a GPU they fit well on, else in memory", choices=("auto", "device", "ram", "mmap"))
    num_workers: int = _option("data", 1, "threads that prepare batches ahead; more for --cache mmap on a slow disk; 0: none", range="[0,inf)")

    exp_name: str = _option("run", "", "name of the experiment, a folder in --output_dir (default: dataset and time; with --resume or --inference_only: the last experiment)")
    output_dir: str = _option("run", "output", "folder of the experiments")
    resume: bool = _option("run", False, "continue the experiment from its last.pt, to the same numbers as if never interrupted")
    overwrite: bool = _option("run", False, "start anew under the name of an experiment that has checkpoints; its folder is kept as NAME.old")
    inference_only: bool = _option("run", False, "no training: load a checkpoint, write detections, print the table")
    check_data: bool = _option("run", False, "no training: look through the data set and print what is wrong with it; exit code 0 fine, 1 warnings, 2 errors")
    model_file: str = _option("run", "", "checkpoint for --inference_only, ours or a published state dict (default: the experiment's best.pt)")
    device: str = _option("run", "auto", "auto (a CUDA GPU when there is one), cpu, cuda or cuda:INDEX")
    precision: str = _option("run", "auto", "format of the large matrix products (weights, moments and losses are float32 always); auto: tf32 on a GPU that has it, else fp32; bf16 changes results", choices=("auto", "fp32", "tf32", "bf16"))
    compile: bool = _option("run", False, "torch.compile the training step and the test forward: CUDA graphs on a GPU, C++ on a CPU; takes a minute at the start")
    seed: int = _option("run", 1, "seed of weights, batches and dropout", range="[0,4294967296)")
    verbose: bool = _option("run", False, "print every evaluation as it is made, and AP per class at the end")

    hidden_size: int = _option("model", 512, "H, hidden channels", range="[1,inf)")
    kernel_size: int = _option("model", 3, "encoder convolution, snippets, odd", range="[1,inf)")
    actionness_kernel_size: int = _option("model", 3, "per-stream encoders' convolution, snippets, odd", range="[1,inf)")
    rgb_fusion: float = _option("model", 0.1, "weight of RGB in the fused actionness; flow has the rest", range="[0,1]")
    dropout: float = _option("model", 0.5, "share of hidden values dropped in training", range="[0,1)")
    sqrt_eps: float = _option("model", 1e-5, "added inside the signed square root of second-order pooling", range="(0,inf)")

    w_mil: float = _option("losses", 1.0, "weight of top-k multiple instance learning", range="[0,inf)")
    w_bg: float = _option("losses", 10.0, "weight of the background loss", range="[0,inf)")
    w_act: float = _option("losses", 1.0, "weight of the masked generalized cross entropy of actionness", range="[0,inf)")
    w_mix: float = _option("losses", 1.0, "weight of the same on mixed-up segments", range="[0,inf)")
    w_mutual: float = _option("losses", 5.0, "weight of the mutual loss between the streams' actionness", range="[0,inf)")
    w_so: float = _option("losses", 3.0, "weight of the second-order video classification", range="[0,inf)")
    mil_ratio: float = _option("losses", 0.125, "share of T in the top-k mean of MIL, and of the video's class scores", range="(0,1]")
    mil_rank: str = _option("losses", "combined", "rank snippets for MIL by the combined sequence, or by the cas itself", choices=("combined", "cas"))
    bg_ratio: float = _option("losses", 0.125, "share of T in the top-k mean of the background loss", range="(0,1]")
    q_val: float = _option("losses", 0.5, "q of the generalized cross entropy", range="(0,1]")
    gce_eps: float = _option("losses", 1e-7, "e of the generalized cross entropy", range="(0,inf)")
    label_eps: float = _option("losses", 1e-10, "added to every class's share of the video label", range="[0,inf)")

    pseudo_ratio: float = _option("actionness learning", 0.125, "share of T, by actionness, that gets a pseudo label", range="[0,1]")
    pseudo_extra: int = _option("actionness learning", 17, "snippets more that get one", range="[0,inf)")
    confidence_ratio: float = _option("actionness learning", 0.5, "share of T, by class evidence, within which pseudo labels must lie; 0: no such test", range="[0,1]")
    mask_momentum: float = _option("actionness learning", 0.7, "share of the old value in the adaptive mask's running mean and variance", range="[0,1]")
    mask_var_factor: float = _option("actionness learning", 0.5, "f in the mask's weight exp(-d^2 / (f variance))", range="(0,inf)")
    mask_mean_init: float | None = _option("actionness learning", None, "running mean before the first step (default: 1 / classes)", range="[0,1]")
    mask_var_init: float = _option("actionness learning", 1.0, "running variance before the first step", range="(0,inf)")

    fuse_cas: float = _option("combined sequence", 1 / 3, "weight of the class probabilities", range="[0,1]")
    fuse_rgb: float = _option("combined sequence", 1 / 3, "weight of the RGB actionness", range="[0,1]")
    fuse_flow: float = _option("combined sequence", 1 / 3, "weight of the flow actionness", range="[0,1]")

    lr: float = _option("optimisation", 1e-4, "Adam's learning rate", range="(0,inf)")
    beta1: float = _option("optimisation", 0.9, "Adam's decay of the mean gradient", range="[0,1)")
    beta2: float = _option("optimisation", 0.999, "Adam's decay of the mean squared gradient", range="[0,1)")
    weight_decay: float = _option("optimisation", 5e-4, "L2 weight decay, added to the gradient", range="[0,inf)")
    batch_size: int = _option("optimisation", 2, "B, videos a step", range="[1,inf)")
    drop_last: bool = _option("optimisation", False, "leave out an epoch's last batch when it is not full")
    num_epochs: int | None = _option("optimisation", 100, "passes over the training videos", range="[1,inf)")
    num_iters: int | None = _option("optimisation", None, "steps in all, in the place of --num_epochs", range="[1,inf)")
    save_epochs: int = _option("optimisation", 1, "epochs between writes of last.pt", range="[1,inf)")
    log_steps: int = _option("optimisation", 10, "steps between TensorBoard points", range="[1,inf)")

    scale: int = _option("localization", 24, "points a snippet that sequences are upsampled to", range="[1,inf)")
    class_th: float = _option("localization", 0.25, "class score from which a class is predicted; the best class always is", range="[0,1]")
    beta: float = _option("localization", 0.35, "weight of the top-k class logits against the second-order ones in the class score", range="[0,1]")
    proposal_th: str = _option("localization", "0.1:0.9:0.1", "thresholds of the proposals, first:last:step", grid="grid")
    outer_margin: float = _option("localization", 0.2, "outer region on each side, share of a proposal's length", range="[0,inf)")
    gamma: float = _option("localization", 0.2, "weight of the class score in a proposal's score", range="[0,inf)")
    soft_nms: bool = _option("localization", True, "soft NMS: decay removed proposals instead of dropping them")
    nms_alpha: float = _option("localization", 0.3, "width a of soft NMS's decay exp(-tIoU^2 / a)", range="(0,inf)")
    nms_thresh: float = _option("localization", 0.4, "tIoU above which a better proposal removes another", range="[0,1]")
    nms_offset: float = _option("localization", 1.0, "added to every length in the tIoU of NMS, seconds", range="[0,inf)")

    detection_inf_step: int = _option("evaluation", 10, "steps between evaluations on the test split", range="[1,inf)")
    eval_from_epoch: int = _option("evaluation", 2, "first epoch, counted from 1, with evaluations; the last step always has one", range="[1,inf)")
    test_batch_size: int = _option("evaluation", 8, "videos a forward pass in test", range="[1,inf)")
    tious: str = _option("evaluation", "0.1:0.7:0.1", "tIoU thresholds of the mAP, first:last:step", grid="grid")
    average_tious: tuple[str, ...] = _option("evaluation", ("0.1:0.5", "0.1:0.7"), "stretches of tIoU that the mAP is averaged over; the last one chooses the best model", grid="span")
    # fmt: on

    @property
    def streams(self) -> tuple[str, ...]:
        return ("rgb", "flow") if self.modal == "all" else (self.modal,)

    @property
    def fusion(self) -> dict[str, float]:
        return {"cas": self.fuse_cas, "rgb": self.fuse_rgb, "flow": self.fuse_flow}

    @property
    def loss_weights(self) -> dict[str, float]:
        return {name: getattr(self, f"w_{name}") for name in ("mil", "bg", "act", "mix", "mutual", "so")}

    @property
    def tiou_grid(self) -> tuple[float, ...]:
        return parse_grid(self.tious)

    def model_config(self, num_classes: int, compute_dtype: torch.dtype = torch.float32) -> SalConfig:
        return SalConfig(
            num_classes=num_classes,
            streams=self.streams,
            feature_size=self.feature_size,
            hidden_size=self.hidden_size,
            kernel_size=self.kernel_size,
            actionness_kernel_size=self.actionness_kernel_size,
            rgb_fusion=self.rgb_fusion,
            dropout=self.dropout,
            sqrt_eps=self.sqrt_eps,
            compute_dtype=compute_dtype,
        )

    def loss_config(self) -> LossConfig:
        return LossConfig(
            mil_ratio=self.mil_ratio,
            mil_rank=self.mil_rank,
            bg_ratio=self.bg_ratio,
            gce_q=self.q_val,
            gce_eps=self.gce_eps,
            label_eps=self.label_eps,
            fusion=self.fusion,
        )

    def adaptive_mask(self, num_classes: int) -> AdaptiveMask:
        return AdaptiveMask(
            momentum=self.mask_momentum,
            var_factor=self.mask_var_factor,
            mean_init=1 / num_classes if self.mask_mean_init is None else self.mask_mean_init,
            var_init=self.mask_var_init,
        )

    def train_config(self) -> TrainConfig:
        return TrainConfig(
            num_segments=self.num_segments,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            num_epochs=self.num_epochs,
            num_iters=self.num_iters,
            short_videos=self.short_videos,
            seed=self.seed,
            num_workers=self.num_workers,
            evaluation_steps=self.detection_inf_step,
            eval_from_epoch=self.eval_from_epoch,
            save_epochs=self.save_epochs,
            log_steps=self.log_steps,
            average_tious=self.average_tious,
            verbose=self.verbose,
        )

    def predict_config(self) -> PredictConfig:
        return PredictConfig(self.class_th, self.beta, self.mil_ratio, self.fusion)

    def pseudo_label_config(self) -> PseudoLabelConfig:
        return PseudoLabelConfig(self.pseudo_ratio, self.pseudo_extra, self.confidence_ratio)

    def proposal_config(self) -> ProposalConfig:
        return ProposalConfig(
            scale=self.scale,
            thresholds=parse_grid(self.proposal_th),
            outer_margin=self.outer_margin,
            gamma=self.gamma,
            grid=SnippetGrid(self.snippet_frames, self.snippet_stride or self.snippet_frames),
        )

    def nms_config(self) -> NmsConfig:
        return NmsConfig(soft=self.soft_nms, thresh=self.nms_thresh, alpha=self.nms_alpha, offset=self.nms_offset)


# Flags that speak of one call of the program: an experiment's own values are no defaults for a later call.
CALL_FLAGS = frozenset(
    {
        "exp_name",
        "output_dir",
        "resume",
        "overwrite",
        "inference_only",
        "check_data",
        "model_file",
        "allow_pickle",
        "device",
        "verbose",
    }
)
# Flags that change nothing of what a run computes: --resume may change these too.
NEUTRAL_FLAGS = frozenset(
    {
        "data_path",
        "layout",
        "ground_truth",
        "cache",
        "num_workers",
        "test_batch_size",
        "save_epochs",
        "log_steps",
        "compile",
    }
)

_FIELDS = {f.name: f for f in dataclasses.fields(Options)}
_TYPES = typing.get_type_hints(Options)


class Parser(argparse.ArgumentParser):
    """Knows the options' flags; a mistake is an InputError. Flags that are not typed are not in what it parses."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, argument_default=argparse.SUPPRESS, allow_abbrev=False)

    def add_options(self, names: Iterable[str]) -> None:
        groups: dict[str, Any] = {}
        for name in names:
            group = _FIELDS[name].metadata["group"]
            if group not in groups:
                groups[group] = self.add_argument_group(group)
            groups[group].add_argument(f"--{name}", help=_help(name), **_argument(name))

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists the flags")


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """The flags that were typed, and only those. Raises InputError for an unknown flag or a value of the wrong type."""
    parser = Parser(
        "main.py",
        "SAL: weakly supervised temporal action localization. Trains on video-level labels, finds every action instance, "
        "and reports mAP.",
    )
    parser.add_options(_FIELDS)
    flags = vars(parser.parse_args(arguments))
    _check_calls(flags)
    return flags


def resolve(flags: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> Options:
    """Defaults, then the preset, then an experiment's saved options, then the flags. Raises InputError naming the flag."""
    saved = {name: value for name, value in (saved or {}).items() if name in _FIELDS.keys() - CALL_FLAGS}
    dataset = flags.get("dataset", saved.get("dataset", _FIELDS["dataset"].default))
    merged = {**PRESETS[dataset], **saved, **flags}
    for name, other in (("num_epochs", "num_iters"), ("num_iters", "num_epochs")):
        if name in flags:
            merged[other] = None
    merged["average_tious"] = tuple(merged.get("average_tious", _FIELDS["average_tious"].default))
    options = Options(**merged)
    _check(options)
    return options


def check_unchanged(flags: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """For --resume: raises InputError naming the flags whose value differs from the experiment's."""
    changed = []
    for name, value in flags.items():
        before = saved.get(name)
        same = list(value) == list(before or ()) if isinstance(value, list | tuple) else value == before
        if name not in CALL_FLAGS | NEUTRAL_FLAGS and not same:
            changed.append(f"--{name} is {value}, the experiment has {before}")
    if changed:
        raise InputError(f"--resume with changed options: {'; '.join(changed)}; drop them or start another --exp_name")


def as_plain(options: Options) -> dict[str, Any]:
    """For JSON and checkpoints."""
    plain = dataclasses.asdict(options)
    for name in ("data_path", "ground_truth"):
        if plain[name]:
            plain[name] = os.path.abspath(plain[name])  # a later call may come from another folder
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def _check_calls(flags: Mapping[str, Any]) -> None:
    """Flags that ask for two things at once."""
    if flags.get("model_file") and not flags.get("inference_only"):
        raise InputError("--model_file is read with --inference_only alone; add it, or --resume to continue a run")
    for name in ("inference_only", "resume"):
        if flags.get("check_data") and flags.get(name):
            raise InputError(f"--check_data and --{name} contradict each other; give one of them")
    if "num_epochs" in flags and "num_iters" in flags:
        raise InputError("--num_epochs and --num_iters contradict each other; give one of them")
    for name in ("inference_only", "overwrite"):
        if flags.get("resume") and flags.get(name):
            raise InputError(f"--resume and --{name} contradict each other; give one of them")


def _argument(name: str) -> dict[str, Any]:
    spec, kind = _FIELDS[name], _TYPES[name]
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind == tuple[str, ...]:
        return {"nargs": "+", "metavar": "FIRST:LAST"}
    if spec.metadata["choices"]:
        return {"choices": spec.metadata["choices"]}
    number = next((n for n in (float, int) if kind == n | None), kind)
    return {"type": number, "metavar": {int: "N", float: "X"}.get(number, "TEXT")}


def _help(name: str) -> str:
    spec = _FIELDS[name]
    default = _shown(spec.default)
    values = {preset: _shown(own[name]) for preset, own in PRESETS.items() if name in own}
    same = {shown: [preset for preset in values if values[preset] == shown] for shown in values.values() if shown}
    says_default = "(default:" in spec.metadata["help"]
    parts = [] if says_default or not default else [f"default: {default}"]
    suffix = "; ".join(parts + [f"{', '.join(presets)}: {shown}" for shown, presets in same.items()])
    return (spec.metadata["help"] + (f" ({suffix})" if suffix else "")).replace("%", "%%")


def _shown(value: Any) -> str:
    """A value as it is typed; empty for none."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.4g}"
    return " ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)


def _check(options: Options) -> None:
    for name, spec in _FIELDS.items():
        value, meta = getattr(options, name), spec.metadata
        if meta["range"] and value is not None and not _within(value, meta["range"]):
            raise InputError(f"--{name} {value}: must lie in {meta['range']}")
        if meta["choices"] and value not in meta["choices"]:
            raise InputError(f"--{name} {value}: must be one of {', '.join(meta['choices'])}")
        if meta["grid"]:
            for text in value if isinstance(value, tuple) else (value,):
                _check_grid(name, text, meta["grid"])
    for name in ("kernel_size", "actionness_kernel_size"):
        if getattr(options, name) % 2 == 0:
            raise InputError(f"--{name} {getattr(options, name)}: must be odd, so that the number of snippets stays")
    name = options.exp_name
    if pathlib.PurePath(name).name != name or name == ".." or len(os.fsencode(name)) > 255:
        raise InputError(
            f"--exp_name {name}: must be a plain folder name, 255 bytes at most; its place is --output_dir"
        )
    if options.fuse_cas + sum(options.fusion[s] for s in options.streams) <= 0:
        raise InputError("--fuse_cas, --fuse_rgb, --fuse_flow: at least one of those in use must be above 0")
    _check_averages(options)
    _check_topk(options)


def _check_grid(name: str, text: str, kind: str) -> None:
    try:
        (parse_grid if kind == "grid" else parse_span)(text)
    except InputError as error:
        raise InputError(f"--{name}: {error}") from None


def _check_averages(options: Options) -> None:
    for span in options.average_tious:
        if not any(in_span(tiou, parse_span(span)) for tiou in options.tiou_grid):
            raise InputError(f"--average_tious {span}: no threshold of --tious {options.tious} lies there")


def _check_topk(options: Options) -> None:
    t, config = options.num_segments, options.pseudo_label_config()
    for name in ("mil_ratio", "bg_ratio", "confidence_ratio"):
        ratio = getattr(options, name)
        if ratio > 0 and ratio * t < 1 - 1e-9:
            raise InputError(f"--num_segments {t}: too small for --{name} {ratio:g}, whose top-k would be empty")
    count = pseudo_label_count(config, t)
    if count > t:
        raise InputError(
            f"--num_segments {t}: too small for the pseudo labels' top-k, {topk_count(config.ratio, t)} of --pseudo_ratio "
            f"and {config.extra} of --pseudo_extra; raise it or lower these"
        )


def _within(value: float, interval: str) -> bool:
    low, high = (float(end) for end in interval[1:-1].split(","))
    if abs(value) > sys.float_info.max:  # a whole number that no float holds
        return False
    above = value > low if interval[0] == "(" else value >= low
    return above and (value < high if interval[-1] == ")" else value <= high)
