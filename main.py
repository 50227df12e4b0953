"""SAL: train on video-level labels, find every action instance, report mAP. Wiring only; `--help` lists the options.

python main.py --data_path DATA                        # train, evaluate
python main.py --inference_only --data_path DATA       # load the last experiment's best checkpoint, evaluate
python main.py --predict FEATURES... [--model_file best.pt]     # find the actions in videos without labels
python main.py --predict FEATURES... --out DIR --shard 3/100    # a share of them, on one of a hundred machines
python main.py --report [RUN ...]                      # write the report of a run again, or compare runs
python main.py --plot VIDEO --out figure.pdf           # draw the timeline of a test video
python main.py --check_data --data_path DATA           # check the data set, print what is wrong with it
"""

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("main.py")  # first of all: loading the rest takes a moment

import contextlib
import functools
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from command_line.console import run_tool
from options import Options, as_plain, check_training, parse_flags, resolve
from ranks.place import Place, check_alone
from utils.errors import InputError
from utils.processors import settle_in

# Each command imports what it needs, so that --help and a mistyped flag don't wait for torch.
if TYPE_CHECKING:
    from dataset import Dataset, Split
    from model import SAL
    from ranks.joining import Ranks
    from run.evaluating import Predictor
    from train import Objective

    # What stands between a run and its evaluator, called at every evaluation in its place (experiments/teaching.py).
    Watch = Callable[[Predictor, Objective, Dataset, Options], Predictor]

OUT_OF_MEMORY = "lower --hidden_size, --num_segments, --batch_size or --test_batch_size, or give --cache mmap"


def run_training(flags: Mapping[str, Any], *, watch: "Watch | None" = None) -> None:
    if Place.of_environment():  # read as torch is imported, which else warns of every connection that ends
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ranks.joining import join
    from ranks.training import follow, leading

    ranks = join(flags)
    if ranks and ranks.rank > 0:
        follow(ranks)
        return
    with contextlib.ExitStack() as locks:
        if ranks:
            locks.enter_context(leading(ranks))
        _train(flags, locks, ranks, watch)


def _train(flags: Mapping[str, Any], locks: contextlib.ExitStack, ranks: "Ranks | None", watch: "Watch | None") -> None:
    import torch

    from data_tools.recipe import complete
    from dataset import WHOLE_BATCH
    from eval.summary import evaluation_report
    from eval.tables import per_class_table
    from formats.names import amount
    from formats.run_results import selection_of
    from ranks.training import Leader
    from report.making import report_training
    from report.snapshots import Snapshots
    from report.vega import can_draw
    from run.device import choose_machine
    from run.experiment import begin_training
    from run.history import History
    from run.loading import load_for_training, training_network
    from run.provenance import provenance
    from run.starting_weights import starting_checkpoint, take_over
    from self_training import ProposalLessons
    from test import Evaluator
    from train import Trainer, build_training

    experiment, options, checkpoint = begin_training(flags, locks)
    options, taken, inspected = (options, None, None) if checkpoint else complete(flags, options)
    check_training(flags, options)
    if taken:
        print(taken)
    initial = None if checkpoint else starting_checkpoint(options.run)
    machine = choose_machine(options.run, **ranks.of_machine) if ranks else choose_machine(options.run)
    plain = {**as_plain(options), "threads": machine.threads, "products": machine.products}
    leader = Leader(ranks, options, plain) if ranks else None
    data = load_for_training(options, machine, inspected=inspected)
    inspected = None  # of a large set many megabytes
    make_model = training_network(options, machine, data)
    torch.manual_seed(options.run.seed)
    model = make_model()
    start = take_over(model, initial, classes=data.classes) if initial else None
    initial = None  # as large as the model
    model = model.to(machine.device)
    objective, optimizer = build_training(model, options, machine.device)
    origin = provenance(plain, machine, layout=data.layout, left_out=data.left_out)
    if start:
        print(start)
        origin |= {"starting_weights": start.as_plain()}
    if data.held_out:
        origin |= {"held_out": list(data.held_out.names)}
    tious, select = options.evaluation.average_tious, options.evaluation.select
    recipe = taken.as_plain() if taken else None
    history = History(experiment, average_tious=tious, provenance=origin, select=select, recipe=recipe)
    trainer = Trainer(
        objective,
        optimizer,
        data,
        experiment=experiment,
        history=history,
        data_options=options.data,
        optimisation=options.optimisation,
        evaluation=options.evaluation,
        run_options=options.run,
        saved_options=plain,
        held_out_loss=_make_held_out_loss(model, data.held_out, options) if data.held_out else None,
        lessons=ProposalLessons.of(model, data.train, options),
        share=ranks.share(mixes=options.ablation.mixup) if ranks else WHOLE_BATCH,
        pictures=Snapshots(model, objective.mask, data, options) if options.run.write_report and can_draw() else None,
    )
    if checkpoint:
        trainer.resume(checkpoint)
        checkpoint = None  # as large as the model and its moments
        experiment.remove_unfinished()
    else:
        experiment.start()
    experiment.write_options(plain)
    held_out = f", {len(data.held_out)} held-out" if data.held_out else ""
    print(
        f"{experiment.folder}: {len(data.train)} training{held_out} and {amount(len(data.test), 'test video')}, "
        f"{amount(len(data.classes), 'class')}, steps {trainer.step} to {trainer.total_steps} on {machine}, "
        f"features: {data.cache}"
    )
    if machine.busy:
        print(machine.busy)
    if options.run.verbose and machine.details():
        print(machine.details())
    evaluator = leader.begin(trainer, model, options) if leader else Evaluator.of(model, data, options)
    trainer.run(watch(evaluator, objective, data, options) if watch else evaluator)
    results = history.results(step=trainer.step, finished=trainer.is_finished)
    assert results and history.selected
    print(evaluation_report({name: record.summary for name, record in history.evaluations.items()}))
    print(f"best.pt and detections_best.json: {selection_of(results)}")
    print(f"seconds: {history.seconds}; results in {experiment.folder}")
    if options.run.verbose and history.selected.summary.per_class_AP:
        print(per_class_table(history.selected.summary.per_class_AP))
    for note in data.notes:  # again: the first time has scrolled away
        print(f"note: {note}")
    if options.run.write_report:
        report_training(experiment, model, data, options)


def run_inference(flags: Mapping[str, Any]) -> None:
    with contextlib.ExitStack() as locks:
        _infer(flags, locks)


def _infer(flags: Mapping[str, Any], locks: contextlib.ExitStack) -> None:
    from eval.summary import evaluation_report
    from eval.tables import per_class_table
    from report.making import report_inference
    from run.experiment import begin_inference
    from run.loading import load_for_test
    from run.provenance import provenance
    from test import Evaluator

    experiment, path, options, checkpoint = begin_inference(flags)
    experiment.lock_inference(locks)
    loaded = load_for_test(experiment, path, options, checkpoint)
    data = loaded.data
    evaluator = Evaluator.of(loaded.model, data, options)
    evaluation = evaluator()
    origin = provenance(as_plain(options), loaded.machine, layout=data.layout, left_out=data.left_out)
    results = {"model_file": str(path), **evaluation.summary.totals(), "seconds": evaluation.seconds, **origin}
    experiment.write_inference(evaluation.detections, results, videos=data.test.names, classes=data.classes)
    print(evaluation_report({path.name: evaluation.summary}))
    print(f"results in {experiment.inference}")
    if options.run.verbose and evaluation.summary.per_class_AP:
        print(per_class_table(evaluation.summary.per_class_AP))
    if options.run.write_report:
        report_inference(loaded, evaluator.network)


def run_prediction(flags: Mapping[str, Any]) -> None:
    from formats.names import amount
    from formats.unlabelled import find_videos
    from localizer import Localizer
    from report.predicting import predict_into
    from run.experiment import begin_inference
    from run.joining import join_shares
    from run.predicting import Skipped, results_folder
    from run.sharing import is_finished, share_folder, shares_in, work_of
    from run.weights import assumed_lines

    out, sharing = pathlib.Path(flags.get("out", "")), "shard" in flags
    joining = bool(flags.get("out")) and not sharing and bool(shares_in(out))
    # Whatever the model's run did, there is a page; of a share, or of all, if it is asked for.
    _, path, options, checkpoint = begin_inference({"write_report": not (sharing or joining), **flags})
    for note in checkpoint.notes:
        print(f"note: {note}")
    features = [pathlib.Path(place) for place in options.run.predict]
    share, skipped = options.run.share, Skipped(allowed=options.data.skip_unusable)
    if sharing:
        folder = share_folder(out, share, model=path)
    elif not joining:
        folder = results_folder(options.run.out, features, model=path)
    found = find_videos(features, options.data, report=skipped)
    work = work_of(found, options, checkpoint, model=path) if sharing or joining else None
    if work and joining:
        if flags.get("write_report"):
            raise InputError(
                "--write_report: shares are joined without a page; give it with --shard, for a page of each"
            )
        print(join_shares(out, found, work))
        return
    if work and is_finished(folder, work):
        print(f"{folder}: share {share} is there already; the same command without --shard joins all shares")
        return
    model = Localizer(checkpoint, path, options)
    print(f"{path}: {amount(len(model.classes), 'class')}, on {model.machine.device} ({model.machine.precision})")
    for line in assumed_lines(checkpoint, options.data, path):
        print(line)
    predict_into(folder, model, checkpoint, found, skipped, typed=flags, share=share, work=work)


def run_report(flags: Mapping[str, Any]) -> None:
    from report.making import report_runs

    report_runs(flags)


def run_plot(flags: Mapping[str, Any]) -> None:
    from report.making import plot_video

    plot_video(flags)


def run_check(flags: Mapping[str, Any]) -> int:
    """Print the report, return the exit code: 0 fine, 1 warnings, 2 errors."""
    from data_tools.check.report import check_data
    from data_tools.demo_set import data_folder

    options = resolve(flags)
    report = check_data(data_folder(options.data), options.data, flags=flags)
    print(report.text(entire=options.run.list or options.run.verbose))
    return report.exit_code


def run(arguments: Sequence[str]) -> int | None:
    flags = parse_flags(arguments)
    if flags.get("video_dir") and not pathlib.Path(flags["video_dir"]).is_dir():
        raise InputError(f"--video_dir {flags['video_dir']}: no such folder; name the one with the videos' files")
    for name in ("check_data", "report", "plot", "predict", "inference_only"):
        if flags.get(name) is not None:
            check_alone(f"--{name}")
    if flags.get("check_data"):
        return run_check(flags)
    if "report" in flags:
        run_report(flags)
    elif "plot" in flags:
        run_plot(flags)
    elif flags.get("predict"):
        run_prediction(flags)
    elif flags.get("inference_only"):
        run_inference(flags)
    else:
        run_training(flags)
    return None


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 training could not continue, 2 invalid input; for --check_data see run_check."""
    settle_in()
    return run_tool("main.py", run, arguments, out_of_memory=OUT_OF_MEMORY)


def _make_held_out_loss(model: "SAL", videos: "Split", options: Options) -> Callable[[], float]:
    from test import video_loss

    return functools.partial(
        video_loss,
        model,
        videos,
        data_options=options.data,
        fusion=options.fusion,
        localization=options.localization,
        evaluation=options.evaluation,
        eps=options.losses.label_eps,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
