"""An argparse parser whose mistakes are one line, with what may have been meant, in place of a usage and an exit.

parser = CommandParser("python -m eval.detection", "What it does.")
parser.add_argument(...)
arguments = parser.parse_args(words)        # raises InputError
"""

import argparse
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn

from command_line.suggestions import closest, did_you_mean, shortened
from utils.errors import InputError


class CommandParser(argparse.ArgumentParser):
    """A parser of a command's flags. A mistake raises InputError, which says what may have been meant."""

    aliases: Mapping[str, str] = MappingProxyType({})  # what other programs call a flag -> its name here

    def __init__(self, prog: str, description: str, **settings: Any) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, **settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        parsed, unknown = self.parse_known_args(args, namespace)
        self.refuse(unknown)
        return parsed

    def refuse(self, unknown: Sequence[str]) -> None:
        """Raise InputError for words of the command line that no flag takes, if there are any."""
        flags = [self._unknown(word) for word in unknown if word.startswith("-")]
        if unknown:
            self.error("; ".join(flags[:5]) or f"unrecognized arguments: {shortened(' '.join(unknown))}")

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; --help lists the flags")

    def _unknown(self, word: str) -> str:
        """What is said of a flag that does not exist: --epochs, --batch-size=4."""
        meant = closest(word.partition("=")[0], self._option_string_actions, self.aliases)
        return f"unrecognized arguments: {shortened(word)}{did_you_mean(meant)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            meant = did_you_mean(closest(str(value), choices))
            raise argparse.ArgumentError(
                action, f"invalid choice: '{shortened(str(value))}' (choose from {', '.join(choices)}){meant}"
            )

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            kind = "whole number" if action.type is int else "number" if action.type is float else "value"
            raise argparse.ArgumentError(action, f"'{shortened(arg_string)}' is not a {kind}") from None
