"""SAL: train on video-level labels, find every action instance, report mAP. Wiring only; `--help` lists the options.

python main.py --data_path DATA                        # train, evaluate
python main.py --inference_only --data_path DATA       # load the last experiment's best checkpoint, evaluate
python main.py --check_data --data_path DATA           # check the data set, print what is wrong with it
"""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from options import Options, as_plain, parse_flags, resolve
from utils.console import run_tool

# Each command imports what it needs, so that --help and a mistyped flag don't wait for torch.
if TYPE_CHECKING:
    from dataset import Dataset
    from model import SAL
    from run.device import Machine
    from test import Evaluator

OUT_OF_MEMORY = "lower --hidden_size, --num_segments, --batch_size or --test_batch_size, or give --cache mmap"


def run_training(flags: Mapping[str, Any]) -> None:
    import torch

    from eval.summary import evaluation_report
    from eval.tables import per_class_table
    from layers.wide_adam import WideAdam
    from losses import AdaptiveMask
    from run.experiment import begin_training
    from run.history import History
    from run.provenance import provenance
    from train import Objective, Trainer

    experiment, options, checkpoint = begin_training(flags)
    machine, data, make_model = _prepare(options, splits=("train", "test"), training=True)
    torch.manual_seed(options.run.seed)
    model = make_model().to(machine.device)
    mask = AdaptiveMask(options.actionness, num_classes=len(data.classes)).to(machine.device)
    adam, plain = options.optimisation, as_plain(options)
    origin = provenance(plain, machine, layout=data.layout, left_out=data.left_out)
    history = History(experiment, average_tious=options.evaluation.average_tious, provenance=origin)
    trainer = Trainer(
        Objective(model, mask, losses=options.losses, actionness=options.actionness, fusion=options.fusion),
        WideAdam(model.parameters(), lr=adam.lr, betas=(adam.beta1, adam.beta2), weight_decay=adam.weight_decay),
        data,
        experiment=experiment,
        history=history,
        data_options=options.data,
        optimisation=options.optimisation,
        evaluation=options.evaluation,
        run_options=options.run,
        saved_options=plain,
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
    trainer.run(_make_evaluator(model, data, options))
    assert history.best and history.last
    print(evaluation_report({"best": history.best.summary, "last": history.last.summary}))
    print(f"seconds: {history.seconds}; results in {experiment.folder}")
    if options.run.verbose and history.best.summary.per_class_AP:
        print(per_class_table(history.best.summary.per_class_AP))


def run_inference(flags: Mapping[str, Any]) -> None:
    from eval.summary import evaluation_report
    from eval.tables import per_class_table
    from run.checkpoint import load_network
    from run.experiment import begin_inference
    from run.provenance import provenance

    experiment, path, options, checkpoint = begin_inference(flags)
    for note in checkpoint.notes:
        print(f"note: {note}")
    machine, data, make_model = _prepare(options, splits=("test",), training=False)
    model = load_network(make_model, checkpoint, path, classes=data.classes, device=machine.device)
    evaluation = _make_evaluator(model, data, options)()
    origin = provenance(as_plain(options), machine, layout=data.layout, left_out=data.left_out)
    results = {"model_file": str(path), **evaluation.summary.totals(), "seconds": evaluation.seconds, **origin}
    experiment.write_inference(evaluation.detections, results, videos=data.test.names, classes=data.classes)
    print(evaluation_report({path.name: evaluation.summary}))
    print(f"results in {experiment.inference}")
    if options.run.verbose and evaluation.summary.per_class_AP:
        print(per_class_table(evaluation.summary.per_class_AP))


def run_check(flags: Mapping[str, Any]) -> int:
    """Print the report, return the exit code: 0 fine, 1 warnings, 2 errors."""
    from data_tools.check.report import check_data
    from data_tools.opening import data_folder

    options = resolve(flags)
    report = check_data(data_folder(options.data), options.data)
    print(report.text)
    return report.exit_code


def run(arguments: Sequence[str]) -> int | None:
    flags = parse_flags(arguments)
    if flags.get("check_data"):
        return run_check(flags)
    if flags.get("inference_only"):
        run_inference(flags)
    else:
        run_training(flags)
    return None


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 training could not continue, 2 invalid input; for --check_data see run_check."""
    return run_tool("main.py", run, arguments, out_of_memory=OUT_OF_MEMORY)


def _prepare(
    options: Options, *, splits: tuple[str, ...], training: bool
) -> "tuple[Machine, Dataset, Callable[[], SAL]]":
    """The device, the data, and the function that makes their network, which is known to fit but not made yet."""
    from data_tools.opening import open_dataset
    from model import SAL
    from run.device import check_model_fits, choose_machine

    machine = choose_machine(options.run)
    data = open_dataset(options.data, device=machine.device, splits=splits)
    make_model = functools.partial(
        SAL,
        options.model,
        num_classes=len(data.classes),
        streams=options.data.streams,
        feature_size=options.data.feature_size,
        compute_dtype=machine.dtype,
    )
    check_model_fits(make_model, machine, training=training, compiled=options.run.compile)
    return machine, data, make_model


def _make_evaluator(model: "SAL", data: "Dataset", options: Options) -> "Evaluator":
    from test import Evaluator

    return Evaluator(
        model,
        data,
        data_options=options.data,
        fusion=options.fusion,
        localization=options.localization,
        evaluation=options.evaluation,
        compiled=options.run.compile,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
