from collections.abc import Sequence


def print_table(arguments: Sequence[str]) -> None: ...
