"""What ranks exchange in a training step, and when several of them pay: bytes and seconds, beside one process.

    python -m benchmarks.ranks [--ranks 2] [--quick]

For THUMOS'14 (B 2, T 750, C 20) and ActivityNet 1.3 (B 32, T 50, C 200): the rows of the widest layer's gradient, the sum of it
as a whole and of all other gradients, and a whole step by one process and by the ranks. All run on this machine, each rank with
its share of the CPUs, over its loopback, which is faster than a network.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.timing import Budget, measure
from command_line.console import run_tool
from dataset import Batch, Share
from layers.snippets import Snippets
from layers.wide_linear import defer_gradient
from model import SAL
from options import Options, resolve
from ranks.exchange import exchange_rows
from ranks.joining import join
from ranks.shared_step import SharedStep
from train import build_training, train_step
from utils.processors import usable_cpus
from utils.text_table import table

CHILD = "--measured"  # first argument of a rank's process
RECIPES = {"THUMOS'14": ("thumos14", 20), "ActivityNet 1.3": ("activitynet1.3", 200)}
SMALL = {"num_segments": 32, "feature_size": 8, "hidden_size": 16, "pseudo_extra": 0, "pseudo_ratio": 0.5}
BUDGET = Budget(min_runs=3, max_runs=20, seconds=20.0)
ONCE = Budget(min_runs=1, max_runs=1)
CPU = torch.device("cpu")
MEGABYTE = 1e6


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if list(argv[:1]) == [CHILD]:
        return measured(*argv[1:])
    return run_tool("benchmarks.ranks", report_ranks, argv)


def report_ranks(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ranks", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only shows that it runs")
    args = parser.parse_args(argv)
    rows = []
    for name in RECIPES:
        alone = run_ranks(1, name, threads=usable_cpus(), quick=args.quick)
        shared = run_ranks(args.ranks, name, threads=max(1, usable_cpus() // args.ranks), quick=args.quick)
        size = alone["B"]
        for what in ("rows of the wide layer", "the wide layer's gradient, summed", "all other gradients, summed"):
            if what in shared:
                rows.append(
                    [f"{name}, B {size}", what, f"{shared[what][0] / MEGABYTE:.1f} MB", f"{shared[what][1]:.3f} s"]
                )
        rows.append([f"{name}, B {size}", "a step of one process", "", f"{alone['step']:.3f} s"])
        rows.append([f"{name}, B {size}", f"a step of {args.ranks} ranks", "", f"{shared['step']:.3f} s"])
    print(table(["recipe", "what", "each rank sends", "takes"], rows, names=2))


def run_ranks(count: int, recipe: str, *, threads: int, quick: bool) -> dict[str, Any]:
    """What rank 0 has measured."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    processes = []
    for rank in range(count):
        environment = {
            "RANK": rank,
            "WORLD_SIZE": count,
            "LOCAL_RANK": rank,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, "-m", "benchmarks.ranks", CHILD, recipe, str(threads), "quick" if quick else ""]
        own = os.environ | {name: str(value) for name, value in environment.items()}
        processes.append(subprocess.Popen(command, env=own, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate()[0] for process in processes]
    found: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return found


def measured(recipe: str, threads: str, quick: str) -> int:
    """In a rank's process: print what rank 0 has measured, as JSON."""
    torch.set_num_threads(int(threads))
    preset, classes = RECIPES[recipe]
    options = resolve({"dataset": preset, "device": "cpu", **(SMALL if quick else {})})
    budget = ONCE if quick else BUDGET
    ranks = join({"device": "cpu"})
    found: dict[str, Any] = {"B": options.optimisation.batch_size}
    if ranks:
        found |= exchanges(options, classes, ranks.share(mixes=True), budget)
    share = ranks.share(mixes=True) if ranks else Share()
    model = new_model(options, classes)
    objective, optimizer = build_training(model, options, CPU)
    batch = random_batch(options, classes, share)
    if ranks:
        shared = SharedStep(objective, optimizer, ranks, num_segments=options.data.num_segments)
        found["step"] = measure_together(lambda: shared(batch), budget)
    else:
        found["step"] = measure(lambda: train_step(objective, optimizer, batch), CPU, budget).seconds
    print(json.dumps(found), flush=True)
    if ranks:
        dist.barrier()
        ranks.close()
    return 0


def measure_together(work: Callable[[], object], budget: Budget) -> float:
    """As `measure`, as often on every rank."""
    runs = torch.tensor(measure(work, CPU, ONCE).seconds)
    dist.broadcast(runs, 0)
    count = max(budget.min_runs, min(budget.max_runs, int(budget.seconds / max(runs.item(), 1e-6))))
    return measure(work, CPU, Budget(min_runs=count, max_runs=count)).seconds


def exchanges(options: Options, classes: int, share: Share, budget: Budget) -> dict[str, tuple[int, float]]:
    """What is exchanged for the widest layer in two ways, and for the others: bytes that a rank sends, seconds."""
    h, counts = options.model.hidden_size, share.counts(options.optimisation.batch_size)
    own = counts[share.rank]
    weight = torch.nn.Parameter(torch.randn(h, h * h))
    deferred = defer_gradient(weight)
    factors = (torch.randn(own, h), torch.randn(own, h * h))

    def rows() -> None:
        deferred.factors = [factors]
        exchange_rows(deferred, counts)

    whole = torch.randn(h * h * h)
    with torch.device("meta"):
        parameters = dict(new_model(options, classes).named_parameters())
    rest = torch.randn(sum(p.numel() for name, p in parameters.items() if name != "video_semantics.weight"))
    return {
        "rows of the wide layer": (4 * own * (h * h + h), measure_together(rows, budget)),
        "the wide layer's gradient, summed": (whole.nbytes, measure_together(lambda: dist.all_reduce(whole), budget)),
        "all other gradients, summed": (rest.nbytes, measure_together(lambda: dist.all_reduce(rest), budget)),
    }


def new_model(options: Options, classes: int) -> SAL:
    data = options.data
    return SAL(options.model, num_classes=classes, streams=data.streams, feature_size=data.feature_size)


def random_batch(options: Options, classes: int, share: Share) -> Batch:
    size, data = options.optimisation.batch_size, options.data
    own, channels = len(share.of(size)), data.feature_size * len(data.streams)
    labels = torch.zeros(own, classes)
    labels[:, 0] = 1
    return Batch(
        features=Snippets.of(torch.randn(own, data.num_segments, channels)),
        labels=labels,
        video_ids=("v",) * own,
        num_snippets=(data.num_segments,) * own,
        fps=(25.0,) * own,
        durations=(None,) * own,
        partner=Snippets.of(torch.randn(1, data.num_segments, channels)) if share.ranks > 1 else None,
        step_videos=("v",) * size,
    )


if __name__ == "__main__":
    sys.exit(main())
