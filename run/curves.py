"""TensorBoard curves. Errors in the thread that writes them, such as a full disk, are reported as one clear error.

with CurveWriter(folder, first_step=1) as curves:
    curves.add({"loss/total": 1.5}, step)
"""

import pathlib
import threading
from collections.abc import Mapping
from types import TracebackType

from torch.utils.tensorboard.writer import SummaryWriter

from eval.summary import EvaluationSummary
from utils.errors import InputError


class CurveWriter:
    """Writer of curves. Points of an earlier run from `first_step` on are dropped: a resumed run makes them again."""

    def __init__(self, folder: pathlib.Path, *, first_step: int) -> None:
        self.folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first_step)
        # The next call here raises the thread's error again: if the thread printed it, it would appear twice.
        self._thread_hook, threading.excepthook = threading.excepthook, self._on_thread_error

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add {curve: value}. Raises InputError when it cannot be written."""
        try:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            raise self._refused(error) from None

    def __enter__(self) -> "CurveWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
        except OSError as error:
            if kind is None:
                raise self._refused(error) from None
        finally:
            threading.excepthook = self._thread_hook

    def _refused(self, error: OSError) -> InputError:
        return InputError(
            f"{self.folder}: curves can't be written ({error.strerror}); free some space or check the folder"
        )

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError):
            self._thread_hook(args)


def evaluation_curves(summary: EvaluationSummary) -> dict[str, float]:
    """An evaluation as {curve: value}, without values that were not computed."""
    values = {} if summary.video_accuracy is None else {"video_accuracy": summary.video_accuracy}
    values |= {f"mAP/{tiou}": value for tiou, value in (summary.mAP or {}).items()}
    averages = (summary.average_mAP or {}).items()
    return values | {f"average_mAP/{span.replace(':', '-')}": value for span, value in averages}
