"""Temporal action localization with a trained model, importable from anywhere:

    from sal import Localizer

    model = Localizer.load("best.pt", device="auto", batch_size=8)
    for detection in model(features):                   # numpy [L,D], a torch tensor, or a path
        print(detection.label, detection.start, detection.end, detection.score)

The program itself is imported as `sal.program`: its modules `model`, `utils`, `test` and so on never meet others so called.
"""

from typing import TYPE_CHECKING, Any

from sal import _program

if TYPE_CHECKING:
    from sal.program.localizer import Detection, Localizer, Sequences

__all__ = ["Detection", "Localizer", "Sequences"]

_program.install()


def __getattr__(name: str) -> Any:
    """Import torch only when it is needed: sal-evaluate and --help do without."""
    if name not in __all__:
        raise AttributeError(f"module 'sal' has no attribute '{name}'")
    from sal.program import localizer

    return getattr(localizer, name)
