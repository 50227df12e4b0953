"""The commands of an installed package: sal-train, sal-predict and so on, each a command of the program."""

import sys


def train() -> int:
    _stop_quietly("sal-train")
    from sal.program.main import main

    return int(main(sys.argv[1:]))


def predict() -> int:
    _stop_quietly("sal-predict")
    from sal.program.main import main

    return int(main(["--predict", *sys.argv[1:]]))


def evaluate() -> int:
    _stop_quietly("sal-evaluate")
    from sal.program.eval.detection import main

    return int(main(sys.argv[1:]))


def prepare() -> int:
    _stop_quietly("sal-prepare")
    from sal.program.data_tools.prepare import main

    return int(main(sys.argv[1:]))


def convert() -> int:
    _stop_quietly("sal-convert")
    from sal.program.data_tools.convert import main

    return int(main(sys.argv[1:]))


def export() -> int:
    _stop_quietly("sal-export")
    from sal.program.data_tools.export import main

    return int(main(sys.argv[1:]))


def extract() -> int:
    _stop_quietly("sal-extract")
    from sal.program.video.extract import main

    return int(main(sys.argv[1:]))


def localize() -> int:
    _stop_quietly("sal-localize")
    from sal.program.video.localize import main

    return int(main(sys.argv[1:]))


def seeds() -> int:
    _stop_quietly("sal-seeds")
    from sal.program.experiments.seeds import main

    return int(main(sys.argv[1:]))


def sweep() -> int:
    _stop_quietly("sal-sweep")
    from sal.program.experiments.sweep import main

    return int(main(sys.argv[1:]))


def ablation() -> int:
    _stop_quietly("sal-ablation")
    from sal.program.experiments.ablation import main

    return int(main(sys.argv[1:]))


def _stop_quietly(name: str) -> None:
    """First of all: loading the rest takes a moment."""
    from sal.program.command_line.early import stop_quietly

    stop_quietly(name)
