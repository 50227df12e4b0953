"""The package that draws, where it is installed.

vl_convert = load_vl_convert()      # raises InputError, whose one line says how to get it
"""

import pathlib
from importlib.metadata import requires
from types import ModuleType

from utils.errors import InputError

PACKAGE = "vl-convert-python"
REQUIREMENTS = pathlib.Path(__file__).resolve().parent.parent / "requirements-report.txt"
VEGA_LITE = "6.4"  # of the versions that it has


def load_vl_convert() -> ModuleType:
    """The module. Raises InputError where it is missing or broken."""
    try:
        import vl_convert
    except ImportError as error:
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"can't be loaded ({error})"
        raise InputError(f"{PACKAGE}, which draws reports and pictures, {reason}: {_command()}") from None
    module: ModuleType = vl_convert
    return module


def can_draw() -> bool:
    """Whether load_vl_convert succeeds."""
    try:
        load_vl_convert()
    except InputError:
        return False
    return True


def _command() -> str:
    """What installs it: the versions that the tests run with, or those that the installed program asks for."""
    if REQUIREMENTS.is_file():
        return f"pip install -r {REQUIREMENTS.name}"
    needed = requires("sal-wtal") or []
    wanted = next(line.partition(";")[0].strip() for line in needed if line.startswith(PACKAGE))
    return f'pip install "{wanted}"'
