"""TensorBoard curves. What keeps them from being written, such as a full disk, is said once; the run goes on without them.

with CurveWriter(folder, first_step=1) as curves:
    curves.add({"loss/total": 1.5}, step)
"""

import pathlib
import threading
from collections.abc import Mapping

from torch.utils.tensorboard.writer import SummaryWriter

from eval.summary import EvaluationSummary


class CurveWriter:
    """Writer of curves. Points of an earlier run from `first_step` on are dropped: a resumed run makes them again."""

    def __init__(self, folder: pathlib.Path, *, first_step: int) -> None:
        self.folder = folder
        self._writer = SummaryWriter(str(folder), purge_step=first_step)
        self._failed = False
        # The next call here raises the thread's error again: if the thread printed it, it would appear twice.
        self._thread_hook, threading.excepthook = threading.excepthook, self._on_thread_error

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add {curve: value}."""
        if not self._failed:
            try:
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)
            except OSError as error:
                self._give_up(error)

    def __enter__(self) -> "CurveWriter":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._writer.close()
        except OSError as error:
            self._give_up(error)
        finally:
            threading.excepthook = self._thread_hook

    def _give_up(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            print(
                f"note: {self.folder}: curves can't be written any more ({error.strerror}); the run goes on without them"
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
