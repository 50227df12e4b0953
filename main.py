"""SAL: train on video-level labels, find every action instance, report mAP. Wiring only; `--help` lists the options.

python main.py --data_path DATA                        # train, evaluate
python main.py --inference_only --data_path DATA       # load the last experiment's best checkpoint, evaluate
python main.py --check_data --data_path DATA           # look through the data set, print what is wrong with it
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from data_tools.check.data_set import check_data
from data_tools.check.times import TimedVideo, doubt_of_grid
from data_tools.demo_set import ensure_demo_set
from dataset import Dataset, load_dataset
from eval.report import evaluation_report, per_class_table
from formats.result_file import write_detections
from layers.wide_adam import WideAdam
from model import SAL
from options import PRESETS, Options, as_plain, check_unchanged, parse_flags, resolve
from run.checkpoint import check_classes, load_checkpoint, load_model
from run.device import apply_precision, choose_precision, pick_device
from run.experiment import Experiment, find_experiment, new_experiment
from run.provenance import provenance
from test import Evaluator, compile_infer
from train import Objective, Trainer, compile_objective
from utils.atomic import write_text
from utils.console import describe_system_error
from utils.errors import InputError, TrainingError
from utils.memory import check_fits, is_out_of_memory

# float32 arrays of the model's size. Test: the weights, and half of them folded. Training: two moments besides, and where they
# are whole, on a GPU or compiled, the gradients.
INFERENCE_COPIES, MOMENT_COPIES, GRADIENT_COPIES = 1.5, 2.0, 1.0


@dataclass(frozen=True)
class Machine:
    """Where a run computes, and in which format."""

    device: torch.device
    precision: str
    dtype: torch.dtype

    @staticmethod
    def of(options: Options) -> "Machine":
        device = pick_device(options.device)
        precision = choose_precision(options.precision, device)
        return Machine(device, precision, apply_precision(precision))

    def provenance(self, options: Options, data: Dataset) -> dict[str, Any]:
        where = provenance(as_plain(options), device=str(self.device), precision=self.precision)
        return {**where, "layout": data.layout, "left_out": data.left_out}


def run_training(flags: Mapping[str, Any]) -> None:
    checkpoint = None
    if flags.get("resume"):
        experiment = find_experiment(_output_dir(flags), flags.get("exp_name", ""), needs="last.pt")
        checkpoint = load_checkpoint(experiment.last)
        check_unchanged(flags, checkpoint.options or {})
        options = resolve({**flags, "exp_name": experiment.folder.name}, checkpoint.options)
    else:
        options = resolve(flags)
        experiment = new_experiment(
            _output_dir(flags), options.exp_name, dataset=options.dataset, overwrite=options.overwrite
        )
    machine = Machine.of(options)
    data = _load_data(options, machine.device, splits=("train", "test"))
    if checkpoint:
        check_classes(checkpoint, data.classes, experiment.last)

    whole_gradients = options.compile or machine.device.type == "cuda"
    copies = INFERENCE_COPIES + MOMENT_COPIES + (GRADIENT_COPIES if whole_gradients else 0)
    _check_model_fits(options, data, machine, copies)
    torch.manual_seed(options.seed)
    model = SAL(options.model_config(len(data.classes), machine.dtype)).to(machine.device)
    mask = options.adaptive_mask(len(data.classes)).to(machine.device)
    objective = Objective(
        model,
        mask,
        loss_config=options.loss_config(),
        label_config=options.pseudo_label_config(),
        weights=options.loss_weights,
    )
    betas = (options.beta1, options.beta2)
    optimizer = WideAdam(model.parameters(), lr=options.lr, betas=betas, weight_decay=options.weight_decay)
    trainer = Trainer(
        model,
        mask,
        compile_objective(objective, _train_batch_sizes(options, data), options.num_segments)
        if options.compile
        else objective,
        optimizer,
        data,
        config=options.train_config(),
        device=machine.device,
        experiment=experiment,
        options=as_plain(options),
        provenance=machine.provenance(options, data),
    )
    if checkpoint:
        trainer.resume(checkpoint)
        checkpoint = None  # as large as the model and its moments
        experiment.remove_unfinished()
    else:
        experiment.claim(named=bool(options.exp_name))
    experiment.write_options(as_plain(options))
    print(
        f"{experiment.folder}: {len(data.train)} training and {len(data.test)} test videos, {len(data.classes)} classes, "
        f"steps {trainer.step} to {trainer.total_steps} on {machine.device} ({machine.precision}), features: {data.cache}"
    )
    trainer.run(_evaluator(model, data, options, machine.device))
    assert trainer.best and trainer.last
    print(evaluation_report({"best": trainer.best, "last": trainer.last}))
    seconds = ", ".join(f"{what} {count:.0f}" for what, count in trainer.seconds.items())
    print(f"seconds: {seconds}; results in {experiment.folder}")
    if options.verbose and trainer.best["per_class_AP"]:
        print(per_class_table(trainer.best["per_class_AP"]))


def run_inference(flags: Mapping[str, Any]) -> None:
    output_dir, name = _output_dir(flags), flags.get("exp_name", "")
    if flags.get("model_file"):
        path = pathlib.Path(flags["model_file"])
        beside = path.parent if (path.parent / "options.json").exists() else output_dir / path.stem
        experiment = Experiment(output_dir / name if name else beside)
    else:
        experiment = find_experiment(output_dir, name, needs="best.pt")
        path = experiment.best
    checkpoint = load_checkpoint(path)
    options = resolve(flags, checkpoint.options)
    machine = Machine.of(options)
    data = _load_data(options, machine.device, splits=("test",))
    check_classes(checkpoint, data.classes, path)
    _check_model_fits(options, data, machine, INFERENCE_COPIES)
    with torch.device("meta"):
        model = SAL(options.model_config(len(data.classes), machine.dtype))
    model.to_empty(device=machine.device)
    load_model(model, checkpoint.model, path)
    evaluation = _evaluator(model, data, options, machine.device)(model)
    summary = evaluation.summary(options.average_tious)
    videos = tuple(video.video_id for video in data.test)
    write_detections(experiment.inference / "detections.json", evaluation.detections, videos, data.classes)
    results = {"model_file": str(path), **summary, "seconds": evaluation.seconds, **machine.provenance(options, data)}
    write_text(experiment.inference / "results.json", json.dumps(results, indent=2) + "\n")
    print(evaluation_report({path.name: summary}))
    print(f"results in {experiment.inference}")
    if options.verbose and evaluation.result:
        print(per_class_table(evaluation.result.ap_by_class(data.classes)))


def run_check(flags: Mapping[str, Any]) -> int:
    """Exit code: 0 fine, 1 warnings, 2 errors."""
    options = resolve(flags)
    report = check_data(
        _data_path(options),
        streams=options.streams,
        feature_size=options.feature_size,
        grid=options.proposal_config().grid,
        dataset=options.dataset,
        layout=options.layout,
        ground_truth=options.ground_truth,
        allow_pickle=options.allow_pickle,
        skip_unusable=options.skip_unusable,
        fps=options.fps,
        threads=options.num_workers,
    )
    print(report.text)
    return report.exit_code


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 1 training could not go on, 2 a mistake in what was given; for --check_data see run_check."""
    try:
        flags = parse_flags(arguments)
        if flags.get("check_data"):
            return run_check(flags)
        (run_inference if flags.get("inference_only") else run_training)(flags)
    except InputError as error:
        print(f"main.py: error: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"main.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("main.py: interrupted", file=sys.stderr)
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        line = describe_system_error(error)
        if line is None:
            raise
        if is_out_of_memory(error):
            line += "; lower --hidden_size, --num_segments, --batch_size or --test_batch_size, or give --cache mmap"
        print(f"main.py: error: {line}", file=sys.stderr)
        return 2
    return 0


def _output_dir(flags: Mapping[str, Any]) -> pathlib.Path:
    return pathlib.Path(flags.get("output_dir", Options.output_dir))


def _data_path(options: Options) -> pathlib.Path:
    if not options.data_path:
        raise InputError("--data_path is missing: give the data set's folder, or --dataset demo for the built-in one")
    path = pathlib.Path(options.data_path)
    if options.data_path == PRESETS["demo"]["data_path"]:  # any other path that is missing is a mistake
        ensure_demo_set(path)
    return path


def _load_data(options: Options, device: torch.device, splits: tuple[str, ...]) -> Dataset:
    data = load_dataset(
        _data_path(options),
        streams=options.streams,
        feature_size=options.feature_size,
        cache=options.cache,
        device=device,
        splits=splits,
        layout=options.layout,
        ground_truth=options.ground_truth,
        allow_pickle=options.allow_pickle,
        skip_unusable=options.skip_unusable,
        fps=options.fps,
    )
    for reason, count in data.left_out.items():
        print(f"left out, {reason}: {count}")
    timed = [TimedVideo(v.video_id, data.annotations[v.video_id], v.num_snippets, v.fps) for v in data.videos]
    doubt = doubt_of_grid(timed, options.proposal_config().grid)
    if doubt:
        print(f"warning: {doubt}")
    return data


def _check_model_fits(options: Options, data: Dataset, machine: Machine, copies: float) -> None:
    """Before anything is allocated: a system that overcommits would kill the process later, without a word."""
    with torch.device("meta"):
        model = SAL(options.model_config(len(data.classes)))
    needed = int(copies * sum(parameter.nbytes for parameter in model.parameters()))
    what = f"--hidden_size {options.hidden_size}: the model needs"
    check_fits(needed, machine.device, what=what, instead="lower it or free memory")


def _train_batch_sizes(options: Options, data: Dataset) -> list[int]:
    sizes = _batch_sizes(len(data.train), options.batch_size)
    return sizes[:1] if options.drop_last else sizes


def _test_batch_sizes(options: Options, data: Dataset) -> list[int]:
    """Of the videos that are resampled to T snippets."""
    kept = options.short_videos == "keep"
    whole = sum(not kept or video.num_snippets >= options.num_segments for video in data.test)
    return _batch_sizes(whole, options.test_batch_size)


def _batch_sizes(videos: int, batch_size: int) -> list[int]:
    """Those that occur: full batches, and the last one."""
    return [size for size in (min(batch_size, videos), videos % batch_size) if size]


def _evaluator(model: SAL, data: Dataset, options: Options, device: torch.device) -> Evaluator:
    return Evaluator(
        data,
        device=device,
        num_segments=options.num_segments,
        batch_size=options.test_batch_size,
        num_workers=options.num_workers,
        prediction=options.predict_config(),
        proposals=options.proposal_config(),
        suppression=options.nms_config(),
        tious=options.tiou_grid,
        short_videos=options.short_videos,
        infer=compile_infer(model, _test_batch_sizes(options, data), options.num_segments) if options.compile else None,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
