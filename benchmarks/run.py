"""The benchmark's command: how fast each part is, against the plain formulation and against the machine.

    python -m benchmarks.run [--device auto|cpu|cuda] [--precision auto|fp32|tf32] [--json FILE] [--quick] [--rows NAME,...]

Prints a table. Exit code: 0 done; 1 when ours and the plain formulation disagree on some row; 2 for a mistake in the flags.
"""

import argparse
import dataclasses
import gc
import json
import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import real_lengths
from benchmarks import rows as parts
from benchmarks.gpu import gpu_rows
from benchmarks.inputs import FULL, QUICK
from benchmarks.rows import TOLERANCE, Bench, Row
from benchmarks.timing import Budget, Limits, measure_limits
from command_line.console import run_tool
from layers.products import use_library
from run.device import apply_precision, choose_precision, choose_products, pick_device
from run.provenance import git_commit, versions
from utils.atomic import write_text
from utils.errors import InputError
from utils.text_table import table

GROUPS = {**parts.GROUPS, **real_lengths.GROUPS, "gpu": gpu_rows}
QUICK_BUDGET = Budget(min_runs=1, max_runs=1, seconds=0.0)
HEADER = ("operation", "ours", "n", "plain", "n", "ratio", "share of limit", "apart")
GIGA = 1e9
TF32_TOLERANCE = 1e-2  # of the largest magnitude; ten bits of mantissa


def main(argv: Sequence[str] | None = None) -> int:
    return run_tool("benchmarks.run", report_speed, sys.argv[1:] if argv is None else argv)


def report_speed(argv: Sequence[str]) -> int:
    """Measure and print the table; return 1 if ours and the plain formulation disagree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX (default: %(default)s)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "tf32"),
        help="of matrix products (default: %(default)s)",
    )
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, once each: only shows that it runs")
    parser.add_argument("--rows", default=",".join(GROUPS), metavar="NAME,...", help="some of %(default)s")
    args = parser.parse_args(argv)
    names = args.rows.split(",")
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        raise InputError(f"--rows: no '{unknown[0]}'; there are {', '.join(GROUPS)}")
    device = pick_device(args.device)
    precision = choose_precision(args.precision, device)
    apply_precision(precision)
    products = choose_products("auto", device, precision)
    use_library(products)

    limits = measure_limits(device, quick=args.quick)
    bench = Bench(
        sizes=QUICK if args.quick else FULL,
        device=device,
        limits=limits,
        budget=QUICK_BUDGET if args.quick else Budget(),
    )
    machine = {**machine_info(device), "products": products}
    print(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}; limits: {limits_text(limits)} "
        f"({precision}, products: {products})"
    )
    rows: list[Row] = []
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        rows += [with_tolerance_of(precision, row) for row in GROUPS[name](bench)]
        gc.collect()
    print(rows_table(rows))
    if args.json:
        write_text(args.json, json.dumps(report(bench, rows, machine, quick=args.quick), indent=2) + "\n")
    return 0 if all(row.agrees for row in rows) else 1


def with_tolerance_of(precision: str, row: Row) -> Row:
    """The row, with the tolerance of less exact products where they are: ours and plain then round differently."""
    return (
        dataclasses.replace(row, tolerance=TF32_TOLERANCE)
        if precision == "tf32" and row.tolerance == TOLERANCE
        else row
    )


def rows_table(rows: Sequence[Row]) -> str:
    """The rows in aligned columns, each followed by its note.

    "apart" is the largest difference of ours and plain, relative to the largest magnitude.
    """
    lines = table(HEADER, map(_cells, rows)).splitlines()
    notes = ["", *(row.note for row in rows)]
    return "\n".join(f"{line}  {note}".rstrip() for line, note in zip(lines, notes, strict=True))


def report(bench: Bench, rows: Sequence[Row], machine: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """Everything for JSON. An infinite error, where shapes or choices differ, is null, and agrees is false."""
    plain_rows = []
    for row in rows:
        values = {**dataclasses.asdict(row), "ratio": row.ratio, "agrees": row.agrees}
        if row.error is not None and row.error == float("inf"):
            values["error"] = None
        plain_rows.append(values)
    return {
        "rows": plain_rows,
        "limits": {"gflops": bench.limits.flops / GIGA, "gigabytes_per_second": bench.limits.bandwidth / GIGA},
        "machine": machine,
        "sizes": dataclasses.asdict(bench.sizes),
        "quick": quick,
        "git_commit": git_commit(),
    }


def machine_info(device: torch.device) -> dict[str, Any]:
    cpu = cpu_model()
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "device_type": device.type,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        **versions(),
    }


def cpu_model() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def limits_text(limits: Limits) -> str:
    return f"{limits.flops / GIGA:.0f} GFLOP/s in a float32 product, {limits.bandwidth / GIGA:.1f} GB/s in a copy"


def _cells(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    apart = number(row.error, ".0e") + ("" if row.agrees else " (too far)")
    return (
        row.name,
        f"{_significant(row.ours)} {row.unit}",
        str(row.runs),
        "-" if row.plain is None else f"{_significant(row.plain)} {row.unit}",
        "-" if row.plain_runs is None else str(row.plain_runs),
        number(row.ratio, ".3f"),
        number(row.share, ".0%"),
        apart,
    )


def _significant(value: float) -> str:
    """The number in three digits or more, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
