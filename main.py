"""SAL: train on video-level labels, find every action instance, report mAP. Wiring only; `--help` lists the options.

python main.py --data_path DATA                        # train, evaluate
python main.py --inference_only --data_path DATA       # load the last experiment's best checkpoint, evaluate
python main.py --check_data --data_path DATA           # look through the data set, print what is wrong with it
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from options import PRESETS, Options, as_plain, check_unchanged, parse_flags, resolve, unresolved
from utils.console import run_tool
from utils.errors import InputError

# The rest is imported where it is wired: --help and a mistyped flag need not wait for torch.
if TYPE_CHECKING:
    from dataset import Dataset
    from model import SAL
    from run.device import Machine
    from test import Evaluator

OUT_OF_MEMORY = "lower --hidden_size, --num_segments, --batch_size or --test_batch_size, or give --cache mmap"


def run_training(flags: Mapping[str, Any]) -> None:
    import torch

    from dataset import train_batch_sizes
    from eval.report import per_class_table
    from eval.summary import evaluation_report
    from layers.wide_adam import WideAdam
    from losses import AdaptiveMask
    from run.checkpoint import check_classes, load_checkpoint
    from run.device import choose_machine
    from run.experiment import find_experiment, new_experiment
    from run.history import History
    from run.provenance import provenance
    from train import Objective, Trainer, compile_objective

    checkpoint = None
    if flags.get("resume"):
        experiment = find_experiment(unresolved(flags).run, needs="last.pt")
        checkpoint = load_checkpoint(experiment.last)
        check_unchanged(flags, checkpoint.options or {})
        options = resolve({**flags, "exp_name": experiment.folder.name}, checkpoint.options)
    else:
        options = resolve(flags)
        experiment = new_experiment(options.run, dataset=options.data.dataset)
    machine = choose_machine(options.run)
    data = _load_data(options, machine, splits=("train", "test"))
    if checkpoint:
        check_classes(checkpoint, data.classes, experiment.last)
    _check_model_fits(options, data, machine, training=True)

    torch.manual_seed(options.run.seed)
    model = _new_model(options, data, machine).to(machine.device)
    mask = AdaptiveMask(options.actionness, num_classes=len(data.classes)).to(machine.device)
    objective = Objective(model, mask, losses=options.losses, actionness=options.actionness, fusion=options.fusion)
    adam = options.optimisation
    betas = (adam.beta1, adam.beta2)
    optimizer = WideAdam(model.parameters(), lr=adam.lr, betas=betas, weight_decay=adam.weight_decay)
    compute = None
    if options.run.compile:
        sizes = train_batch_sizes(data.train, options.optimisation)
        compute = compile_objective(objective, sizes, options.data.num_segments)
    plain = as_plain(options)
    origin = provenance(plain, machine, layout=data.layout, left_out=data.left_out)
    history = History(experiment, average_tious=options.evaluation.average_tious, provenance=origin)
    trainer = Trainer(
        objective,
        optimizer,
        data,
        data_options=options.data,
        optimisation=options.optimisation,
        evaluation=options.evaluation,
        run=options.run,
        experiment=experiment,
        history=history,
        saved_options=plain,
        compute=compute,
    )
    if checkpoint:
        trainer.resume(checkpoint)
        checkpoint = None  # as large as the model and its moments
        experiment.remove_unfinished()
    else:
        experiment.claim(named=bool(options.run.exp_name))
    experiment.write_options(plain)
    print(
        f"{experiment.folder}: {len(data.train)} training and {len(data.test)} test videos, {len(data.classes)} classes, "
        f"steps {trainer.step} to {trainer.total_steps} on {machine.device} ({machine.precision}), features: {data.cache}"
    )
    trainer.run(_new_evaluator(model, data, options))
    assert history.best and history.last
    print(evaluation_report({"best": history.best.summary, "last": history.last.summary}))
    seconds = f"training {history.seconds.training:.0f}, evaluation {history.seconds.evaluation:.0f}"
    print(f"seconds: {seconds}; results in {experiment.folder}")
    if options.run.verbose and history.best.summary.per_class_AP:
        print(per_class_table(history.best.summary.per_class_AP))


def run_inference(flags: Mapping[str, Any]) -> None:
    import torch

    from eval.report import per_class_table
    from eval.summary import evaluation_report
    from formats.result_file import write_detections
    from run.checkpoint import check_classes, load_checkpoint, load_model
    from run.device import choose_machine
    from run.experiment import find_model
    from run.provenance import provenance
    from utils.atomic import write_text

    path, experiment = find_model(unresolved(flags).run)
    checkpoint = load_checkpoint(path)
    options = resolve(flags, checkpoint.options)
    machine = choose_machine(options.run)
    data = _load_data(options, machine, splits=("test",))
    check_classes(checkpoint, data.classes, path)
    _check_model_fits(options, data, machine, training=False)
    with torch.device("meta"):
        model = _new_model(options, data, machine)
    model.to_empty(device=machine.device)
    load_model(model, checkpoint.model, path)
    evaluation = _new_evaluator(model, data, options)()
    summary = evaluation.summary
    videos = tuple(video.video_id for video in data.test)
    write_detections(experiment.inference / "detections.json", evaluation.detections, videos, data.classes)
    origin = provenance(as_plain(options), machine, layout=data.layout, left_out=data.left_out)
    results = {"model_file": str(path), **summary.as_plain(), "seconds": evaluation.seconds, **origin}
    write_text(experiment.inference / "results.json", json.dumps(results, indent=2) + "\n")
    print(evaluation_report({path.name: summary}))
    print(f"results in {experiment.inference}")
    if options.run.verbose and summary.per_class_AP:
        print(per_class_table(summary.per_class_AP))


def run_check(flags: Mapping[str, Any]) -> int:
    """The exit code: 0 fine, 1 warnings, 2 errors."""
    from data_tools.check.report import check_data

    options = resolve(flags)
    report = check_data(
        _data_path(options),
        streams=options.data.streams,
        feature_size=options.data.feature_size,
        grid=options.data.grid,
        dataset=options.data.dataset,
        layout=options.data.layout,
        ground_truth=options.data.ground_truth,
        allow_pickle=options.data.allow_pickle,
        skip_unusable=options.data.skip_unusable,
        fps=options.data.fps,
        threads=options.data.num_workers,
    )
    print(report.text)
    return report.exit_code


def run(arguments: Sequence[str]) -> int | None:
    flags = parse_flags(arguments)
    if flags.get("check_data"):
        return run_check(flags)
    (run_inference if flags.get("inference_only") else run_training)(flags)
    return None


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0 done, 1 training could not go on, 2 a mistake in what was given; for --check_data see run_check."""
    return run_tool("main.py", run, arguments, out_of_memory=OUT_OF_MEMORY)


def _data_path(options: Options) -> pathlib.Path:
    from data_tools.demo_set import ensure_demo_set

    if not options.data.data_path:
        raise InputError("--data_path is missing: give the data set's folder, or --dataset demo for the built-in one")
    path = pathlib.Path(options.data.data_path)
    if options.data.data_path == PRESETS["demo"]["data_path"]:  # any other path that is missing is a mistake
        ensure_demo_set(path)
    return path


def _load_data(options: Options, machine: "Machine", splits: tuple[str, ...]) -> "Dataset":
    from data_tools.check.times import TimedVideo, grid_warning
    from dataset import load_dataset

    data = load_dataset(_data_path(options), options.data, device=machine.device, splits=splits)
    for reason, count in data.left_out.items():
        print(f"left out, {reason}: {count}")
    timed = [
        TimedVideo(video_id=v.video_id, annotation=data.annotations[v.video_id], num_snippets=v.num_snippets, fps=v.fps)
        for v in data.videos
    ]
    warning = grid_warning(timed, options.data.grid)
    if warning:
        print(f"warning: {warning}")
    return data


def _new_model(options: Options, data: "Dataset", machine: "Machine") -> "SAL":
    from model import SAL

    return SAL(
        options.model,
        num_classes=len(data.classes),
        streams=options.data.streams,
        feature_size=options.data.feature_size,
        compute_dtype=machine.dtype,
    )


def _check_model_fits(options: Options, data: "Dataset", machine: "Machine", *, training: bool) -> None:
    import torch

    from run.device import check_model_fits

    with torch.device("meta"):
        model = _new_model(options, data, machine)
    check_model_fits(
        model, machine, hidden_size=options.model.hidden_size, training=training, compiled=options.run.compile
    )


def _new_evaluator(model: "SAL", data: "Dataset", options: Options) -> "Evaluator":
    from dataset import test_batch_sizes
    from model import FoldedSAL
    from test import CompiledSAL, Evaluator

    if options.run.compile:
        sizes = test_batch_sizes(data.test, options.data, batch_size=options.evaluation.test_batch_size)
        network: FoldedSAL = CompiledSAL(model, batch_sizes=sizes, num_segments=options.data.num_segments)
    else:
        network = FoldedSAL(model)
    return Evaluator(
        network,
        data,
        options=options.data,
        fusion=options.fusion,
        localization=options.localization,
        evaluation=options.evaluation,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
