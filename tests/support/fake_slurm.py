"""A stand-in for Slurm's commands, which runs a job array's tasks one after the other on this machine.

place = write_commands(folder)        # sbatch, srun and scontrol, for the PATH; folder gets what they note

As a program it is one of them: python fake_slurm.py sbatch FILE. The folder has `script-JOB`, `pid-TASK`, the process of
a task, `requeue-TASK` once that asked to be run again, and `ended-JOB`.
"""

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping

FIRST = 77  # number of a job


def write_commands(folder: pathlib.Path) -> pathlib.Path:
    """Write the commands into a folder, for the PATH."""
    place = folder / "bin"
    place.mkdir(parents=True)
    for name in ("sbatch", "srun", "scontrol"):
        command = place / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} {folder} "$@"\n')
        command.chmod(0o755)
    return place


def sbatch(folder: pathlib.Path, file: str) -> None:
    """Note the script, start its tasks in the background, and say which job it is."""
    text = pathlib.Path(file).read_text()
    if "--partition=full" in text:
        sys.exit("sbatch: error: invalid partition specified: full")
    number = str(FIRST + len(list(folder.glob("script-*"))))
    (folder / f"script-{number}").write_text(text)
    command = [sys.executable, __file__, "tasks", str(folder), number]
    with open(folder / "log", "ab") as log:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    print(f"Submitted batch job {number}")


def tasks(folder: pathlib.Path, number: str) -> None:
    script = folder / f"script-{number}"
    array = re.search(r"--array=0-(\d+)", script.read_text())
    for index in range(int(array.group(1)) + 1) if array else [None]:
        job = {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        if index is not None:
            job |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(index)}
        again = folder / f"requeue-{name_of(job)}"
        subprocess.run(["bash", str(script)], env={**os.environ, **job})
        while again.exists():
            again.unlink()
            subprocess.run(["bash", str(script)], env={**os.environ, **job})
    (folder / f"ended-{number}").touch()


def name_of(job: Mapping[str, str]) -> str:
    """As submitit calls a task."""
    return (
        f"{job['SLURM_JOB_ID']}_{job['SLURM_ARRAY_TASK_ID']}" if "SLURM_ARRAY_TASK_ID" in job else job["SLURM_JOB_ID"]
    )


def srun(folder: pathlib.Path, *words: str) -> None:
    command = list(words)
    while command[0].startswith("--"):
        del command[: 2 if command[0] in ("--output", "--error") else 1]
    (folder / f"pid-{name_of(os.environ)}").write_text(str(os.getpid()))
    os.execvp(command[0], command)


def scontrol(folder: pathlib.Path, action: str, number: str) -> None:
    assert action == "requeue"
    (folder / f"requeue-{number}").touch()


if __name__ == "__main__":
    name, place, *rest = sys.argv[1:]
    {"sbatch": sbatch, "srun": srun, "scontrol": scontrol, "tasks": tasks}[name](pathlib.Path(place), *rest)
