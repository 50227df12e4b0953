"""The commands of an installed package: sal-train, sal-predict and so on, each a command of the program."""

import sys


def train() -> int:
    from sal.program.main import main

    return int(main(sys.argv[1:]))


def predict() -> int:
    from sal.program.main import main

    return int(main(["--predict", *sys.argv[1:]]))


def evaluate() -> int:
    from sal.program.eval.detection import main

    return int(main(sys.argv[1:]))


def prepare() -> int:
    from sal.program.data_tools.prepare import main

    return int(main(sys.argv[1:]))


def convert() -> int:
    from sal.program.data_tools.convert import main

    return int(main(sys.argv[1:]))
