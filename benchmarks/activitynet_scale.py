"""Time, memory and quality of training and evaluation at ActivityNet-1.3's size.

    python -m benchmarks.activitynet_scale --path DIR [--videos 2000 1000] [--classes 200] [--iterations 300] [main.py's flags]

The set is synthetic (benchmarks/activitynet_set.py), and written to DIR once. main.py trains on it in a process of its own,
with the preset activitynet1.3 and one evaluation at the end; another process evaluates the network that training began with.
Exit code: 0 done; 1 when training took more memory than it may; otherwise that of main.py: 2 for a mistake in the input.
"""

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import torch

import main as program
from benchmarks.activitynet_set import GROUND_TRUTH, SetSize, ensure_set
from benchmarks.run import machine_info
from benchmarks.timing import peak_resident
from command_line.console import run_tool
from data_tools import opening
from dataset import Dataset
from formats.annotations import class_names
from formats.ground_truth import read_annotations, read_json
from model import SAL
from options import as_plain, parse_flags, resolve
from run.checkpoint import Checkpoint, save_checkpoint
from run.device import pick_device
from run.provenance import git_commit
from utils.atomic import write_text
from utils.errors import InputError

GIB = 2**30
LIMITS = {"cpu": 12 * GIB, "cuda": 16 * GIB}  # memory that training may take: the process's, or the GPU's
ROOT = pathlib.Path(__file__).resolve().parent.parent
STDERR = 2  # where the measured programs write; the table alone goes to stdout
CHILD = "--measured"  # first argument of the process that is measured


def measured(report: pathlib.Path, arguments: Sequence[str]) -> int:
    """Run main.py in this process, and write what only this process can know of it to a JSON file."""
    seen: dict[str, Any] = {}
    load = opening.load_dataset

    def timed(*args: Any, **options: Any) -> Dataset:
        start = time.perf_counter()
        data = load(*args, **options)
        lengths = [[video.num_snippets for video in split] for split in (data.train, data.test)]
        seen.update(load_seconds=time.perf_counter() - start, cache=data.cache, lengths=lengths)
        return data

    with mock.patch.object(opening, "load_dataset", timed):
        code = program.main(arguments)
    seen["resident_bytes"] = peak_resident()
    if torch.cuda.is_initialized():
        seen["gpu_bytes"] = max(torch.cuda.max_memory_reserved(i) for i in range(torch.cuda.device_count()))
    write_text(report, json.dumps(seen))
    return code


def run_measured(folder: pathlib.Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `measured` as a process, whose peak of memory is its own. Raises SystemExit with its code."""
    report = folder / "measured.json"
    command = [sys.executable, "-m", "benchmarks.activitynet_scale", CHILD, str(report), *arguments]
    start = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT, stdout=STDERR, check=False).returncode
    if code:
        raise SystemExit(code)
    seen: dict[str, Any] = read_json(report)
    return {**seen, "whole_seconds": time.perf_counter() - start}


def run_training(place: Sequence[str], folder: pathlib.Path, iterations: int) -> dict[str, Any]:
    """The numbers of training, and of the evaluation at its end."""
    once = ["--num_iters", str(iterations), "--detection_inf_step", str(iterations), "--no-write_report"]
    own = ["--output_dir", str(folder), "--exp_name", "trained", "--log_steps", str(min(10, iterations))]
    seen = run_measured(folder, [*once, *own, *place])
    results, curves = read_json(folder / "trained" / "results.json"), read_curves(folder / "trained" / "tensorboard")
    train, test = seen.pop("lengths")
    videos, t = len(test), results["options"]["num_segments"]
    return {
        **seen,
        **_quality(results["last"]),
        "train_videos": len(train),
        "test_videos": videos,
        "snippets_mean": statistics.mean(train + test),
        "train_shorter_than_T": sum(length < t for length in train),
        "test_shorter_than_T": sum(length < t for length in test),
        "batch_size": results["options"]["batch_size"],
        "steps": results["steps"],
        "training_seconds": results["seconds"]["training"],
        "milliseconds_per_step": 1e3 * statistics.median(curves["seconds/step"]),
        "evaluation_seconds": results["seconds"]["evaluation"],
        "milliseconds_per_test_video": 1e3 * results["seconds"]["evaluation"] / videos,
        "losses": {name.removeprefix("loss/"): values for name, values in curves.items() if name.startswith("loss/")},
        "log_steps": results["options"]["log_steps"],
    }


def run_untrained(place: Sequence[str], folder: pathlib.Path, classes: tuple[str, ...]) -> dict[str, Any]:
    """The numbers of evaluating the network that training begins with."""
    options = resolve(parse_flags(place))
    torch.manual_seed(options.run.seed)
    data = options.data
    model = SAL(options.model, num_classes=len(classes), streams=data.streams, feature_size=data.feature_size)
    file = folder / "untrained.pt"
    save_checkpoint(file, Checkpoint(model=model.state_dict(), options=as_plain(options), classes=classes))
    del model
    own = [
        "--inference_only",
        "--no-write_report",
        "--model_file",
        str(file),
        "--output_dir",
        str(folder),
        "--exp_name",
        "untrained",
    ]
    seen = run_measured(folder, [*own, *place])
    results = read_json(folder / "untrained" / "inference" / "results.json")
    del seen["lengths"]
    return {**seen, **_quality(results), "evaluation_seconds": results["seconds"]}


def _quality(summary: Mapping[str, Any]) -> dict[str, float]:
    """Quality as fractions."""
    return {
        "average_mAP": list(summary["average_mAP"].values())[-1],
        "mAP_at_0.5": summary["mAP"]["0.5"],
        "video_accuracy": summary["video_accuracy"],
    }


def read_curves(folder: pathlib.Path) -> dict[str, list[float]]:
    """The points of a run's TensorBoard curves, by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def table(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table."""
    written, trained, untrained = report["set"], report["trained"], report["untrained"]
    seconds, losses = written["seconds"], trained["losses"]
    loss = ", ".join(f"{name} {losses[name][0]:.3f} to {losses[name][-1]:.3f}" for name in ("mil", "so"))
    rows = [
        ("generation", "exists" if seconds is None else f"{seconds:.0f} s", f"{written['bytes'] / 1e9:.2f} GB"),
        (
            "loading",
            f"{trained['load_seconds']:.1f} s",
            f"{trained['train_videos']:,} + {trained['test_videos']:,} videos, {trained['snippets_mean']:.0f} snippets "
            f"each on average; --cache {trained['cache']}",
        ),
        (
            "a training step",
            f"{trained['milliseconds_per_step']:,.0f} ms",
            f"B {trained['batch_size']}, C {written['classes']}; median of the means over {trained['log_steps']} steps",
        ),
        (f"training, {trained['steps']} steps", f"{trained['training_seconds']:,.0f} s", "including last.pt"),
        (
            "evaluation, a video",
            f"{trained['milliseconds_per_test_video']:.1f} ms",
            f"{trained['evaluation_seconds']:.1f} s in all; {trained['test_shorter_than_T']} of "
            f"{trained['test_videos']:,} test videos are shorter than T",
        ),
        (
            "peak memory: training and evaluation",
            f"{report['peak_bytes'] / GIB:.2f} GiB",
            f"of {report['limit_bytes'] / GIB:.0f} allowed on {report['device']}",
        ),
        ("peak memory: evaluation alone", f"{untrained['resident_bytes'] / GIB:.2f} GiB", "the process, resident"),
        ("total loss", f"{losses['total'][0]:.2f} to {losses['total'][-1]:.2f}", loss),
    ]
    for name, key in (("average mAP", "average_mAP"), ("mAP at 0.5", "mAP_at_0.5"), ("accuracy", "video_accuracy")):
        rows.append((name, f"{trained[key]:.2%}", f"untrained: {untrained[key]:.2%}"))
    return "\n".join(["| | | |", "|---|---:|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def measure(args: argparse.Namespace, flags: Sequence[str]) -> dict[str, Any]:
    size = SetSize(videos=tuple(args.videos), classes=args.classes, channels=args.channels, seed=args.seed)
    device = pick_device(args.device)
    place = ["--dataset", "activitynet1.3", "--data_path", str(args.path.resolve()), "--device", args.device]
    place += ["--feature_size", str(args.channels), *flags]
    resolve(parse_flags(place))  # a mistake in the flags shows before minutes have passed
    seconds = ensure_set(args.path, size)
    classes = class_names(read_annotations(args.path / GROUND_TRUTH))
    with contextlib.ExitStack() as stack:
        folder = args.keep and args.keep.resolve()
        if folder is None:
            beside = args.path.resolve().parent
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=beside, prefix=".anet_scale.")))
        print(f"training, {args.iterations} steps ...", file=sys.stderr, flush=True)
        trained = run_training(place, folder, args.iterations)
        print("the untrained network ...", file=sys.stderr, flush=True)
        untrained = run_untrained(place, folder, classes)
    stored = sum(file.stat().st_size for file in args.path.glob("*/*.npy"))
    return {
        "set": {"origin": size.origin, "classes": len(classes), "seconds": seconds, "bytes": stored},
        "trained": trained,
        "untrained": untrained,
        "peak_bytes": trained["gpu_bytes" if device.type == "cuda" else "resident_bytes"],
        "limit_bytes": LIMITS[device.type],
        "device": str(device),
        "machine": machine_info(device),
        "flags": list(flags),
        "git_commit": git_commit(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == [CHILD]:
        return measured(pathlib.Path(argv[1]), argv[2:])
    interrupted = "interrupted; the set is whole, or nothing of it is written"
    return run_tool("benchmarks.activitynet_scale", report_scale, argv, interrupted=interrupted)


def report_scale(argv: Sequence[str]) -> int:
    """Measure and print the table; return 1 if training took more memory than it may."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.activitynet_scale",
        description=(__doc__ or "").split("\n")[0],
        epilog="Flags that are not listed here go to main.py: --cache mmap, --batch_size 16, --seed 1 and so on.",
        allow_abbrev=False,
    )
    path = pathlib.Path
    parser.add_argument("--path", type=path, required=True, metavar="DIR", help="the set; written unless it exists")
    parser.add_argument("--videos", type=int, nargs=2, default=(2000, 1000), metavar="N", help="training, validation")
    parser.add_argument("--classes", type=int, default=200, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--channels", type=int, default=SetSize.channels, metavar="N", help="per stream (default: %(default)s)"
    )
    parser.add_argument(
        "--set_seed", dest="seed", type=int, default=SetSize.seed, metavar="N", help="of the set's generator"
    )
    parser.add_argument("--iterations", type=int, default=300, metavar="N", help="steps (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    parser.add_argument("--json", type=path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--keep", type=path, metavar="DIR", help="keep the experiments there, 4 GB of checkpoints")
    args, flags = parser.parse_known_args(argv)
    if (
        min(args.classes, args.iterations, args.channels) < 1
        or min(args.videos[0] - args.classes + 1, args.videos[1]) < 1
    ):
        raise InputError(
            "--classes, --iterations, --channels: at least 1; --videos: a training video for every class, one for test"
        )
    report = measure(args, flags)
    print(table(report))
    if args.json:
        write_text(args.json, json.dumps(report, indent=2) + "\n")
    return 0 if report["peak_bytes"] <= report["limit_bytes"] else 1


if __name__ == "__main__":
    sys.exit(main())
