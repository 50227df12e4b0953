"""Which runs there are to make: all of them are checked before the first one begins.

jobs = seed_jobs(settings.folder, {"base": {"lr": 1e-4}}, seeds=[1, 2], flags={"data_path": "data/x"})
jobs["base"][2]             # the job "base-seed2"
"""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_tools.demo_set import data_folder
from experiments.job import Job, make_job, state_of
from utils.errors import InputError


def seed_jobs(
    folder: pathlib.Path, variants: Mapping[str, Mapping[str, Any]], *, seeds: Sequence[int], flags: Mapping[str, Any]
) -> dict[str, dict[int, Job]]:
    """{variant: {seed: job}}: the flags of each variant over those of all runs. Raises InputError naming a wrong one."""
    for seed, count in Counter(seeds).items():
        if count > 1:
            raise InputError(f"--seeds {seed}: is given {count} times; each run needs a seed of its own")
    return {
        name: {seed: make_job(f"{name}-seed{seed}", folder, {**flags, **own, "seed": seed}) for seed in seeds}
        for name, own in variants.items()
    }


def in_order(jobs: Mapping[str, Mapping[int, Job]]) -> list[Job]:
    """Seed by seed, so that every variant has its first run early."""
    seeds = next(iter(jobs.values()))
    return [of_variant[seed] for seed in seeds for of_variant in jobs.values()]


def check_before(jobs: Sequence[Job]) -> None:
    """Raise InputError for what would end runs at once: no data, or folders with other runs. The demo set is written."""
    folder = jobs[0].output_dir
    if (folder / "options.json").exists():
        raise InputError(f"{folder}: is the folder of a run, which can't hold those of a queue; give another --name")
    for job in jobs:
        state_of(job)
    for options in {job.options.data.data_path: job.options.data for job in jobs}.values():
        path = data_folder(options)
        if not path.exists():
            raise InputError(f"--data_path {path}: no such folder; give the data set's")
