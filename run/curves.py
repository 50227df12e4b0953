"""A run's curves, in curves.jsonl, which its report reads, and for TensorBoard, with its options, final numbers and pictures.

with CurveWriter(folder, first_step=1) as curves:
    curves.add({"loss/total": 1.5}, step)
    curves.add_images({"timeline/video_test_0000004": png}, step)

Events are written at once, by this thread. What keeps them from being written, such as a full disk, is said once; the run goes
on without them.
"""

import contextlib
import os
import pathlib
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from eval.summary import EvaluationSummary
from formats.curve_file import CURVES, append_point, damaged_lines, drop_points, set_aside
from formats.names import amount
from utils.errors import InputError

TENSORBOARD = "tensorboard"
FILE_VERSION = "brain.Event:2"  # what TensorBoard takes a file of events by
COLOURS = 4  # channels of a picture: red, green, blue, opacity
PNG_SIZE = slice(16, 24)  # of a PNG's bytes: width and height

Hyperparameters = Mapping[str, bool | float | int | str | None]


class CurveWriter:
    """Writer of curves. Points of an earlier run from `first_step` on are dropped: a resumed run makes them again."""

    def __init__(self, folder: pathlib.Path, *, first_step: int) -> None:
        """`folder` is the experiment's."""
        self.folder, self.first_step = folder, first_step
        self._points: BinaryIO | None = None
        self._events: RecordWriter | None = None

    def __enter__(self) -> "CurveWriter":
        with self._said():
            path = self.folder / CURVES
            if lost := damaged_lines(path):
                lines = f"{amount(len(lost), 'damaged line')}, the first is line {lost[0]}"
                print(f"note: {path}: {lines}; kept as {set_aside(path).name}, and the curves go on without them")
            drop_points(path, first_step=self.first_step)
            self._points = open(path, "ab")
            self._events = _new_event_file(self.folder / TENSORBOARD)
            self._write(Event(file_version=FILE_VERSION))
            self._write(Event(step=self.first_step, session_log=SessionLog(status=SessionLog.START)))
        return self

    def __exit__(self, *_: object) -> None:
        with self._said():
            self._close()

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add {curve: value}."""
        if self._points:
            with self._said():
                append_point(self._points, values, step=step)
                self._summary([Summary.Value(tag=_text(name), simple_value=v) for name, v in values.items()], step)

    def add_images(self, pictures: Mapping[str, bytes], step: int) -> None:
        """Add {name: PNG}, for TensorBoard alone."""
        values = []
        for name, png in pictures.items():
            width, height = struct.unpack(">II", png[PNG_SIZE])
            image = Summary.Image(width=width, height=height, colorspace=COLOURS, encoded_image_string=png)
            values.append(Summary.Value(tag=_text(name), image=image))
        with self._said():
            self._summary(values, step)

    def add_options(self, options: Hyperparameters, metrics: Mapping[str, float], step: int) -> None:
        """Add a row to TensorBoard's table of hyperparameters: what the run was given, and the final numbers it came to."""
        given = {name: value for name, value in options.items() if value is not None}
        columns = [api_pb2.HParamInfo(name=name, type=_kind(value)) for name, value in given.items()]
        named = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=_text(name))) for name in metrics]
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in given.items():
            _set_value(start.hparams[name], value)
        parts: dict[str, dict[str, Any]] = {
            metadata.EXPERIMENT_TAG: {"experiment": api_pb2.Experiment(hparam_infos=columns, metric_infos=named)},
            metadata.SESSION_START_INFO_TAG: {"session_start_info": start},
            metadata.SESSION_END_INFO_TAG: {
                "session_end_info": plugin_data_pb2.SessionEndInfo(
                    status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
                )
            },
        }
        with self._said():
            for tag, part in parts.items():
                content = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **part)
                plugin = SummaryMetadata.PluginData(
                    plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString()
                )
                self._summary([Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))], step)
            self._summary([Summary.Value(tag=_text(name), simple_value=v) for name, v in metrics.items()], step)

    def _summary(self, values: list[Summary.Value], step: int) -> None:
        self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        if self._events:
            event.wall_time = time.time()
            self._events.write(event.SerializeToString())
            self._events.flush()

    def _close(self) -> None:
        files, self._points, self._events = (self._points, self._events), None, None
        for file in files:
            if file:
                file.close()

    @contextlib.contextmanager
    def _said(self) -> Iterator[None]:
        """Print why nothing more is written, and write no more."""
        try:
            yield
        except (OSError, InputError) as error:
            with contextlib.suppress(OSError):  # what could not be written, closing tries once more
                self._close()
            reason = error.strerror if isinstance(error, OSError) else error
            print(f"note: {self.folder}: curves can't be written any more ({reason}); the run goes on without them")


def evaluation_curves(summary: EvaluationSummary) -> dict[str, float]:
    """An evaluation as {curve: value}, without values that were not computed. AP/CLASS is the mean over all tIoUs."""
    values = {} if summary.video_accuracy is None else {"video_accuracy": summary.video_accuracy}
    values |= {f"mAP/{tiou}": value for tiou, value in (summary.mAP or {}).items()}
    values |= {f"average_mAP/{_plain(span)}": value for span, value in (summary.average_mAP or {}).items()}
    by_class = (summary.per_class_AP or {}).items()
    return values | {f"AP/{name}": float(np.mean(list(by_tiou.values()))) for name, by_tiou in by_class}


def final_numbers(rows: Mapping[str, EvaluationSummary]) -> dict[str, float]:
    """The numbers that a run has come to, {"final/best_average_mAP_0.1-0.7": ...}, of rows "best", "last" and "val"."""
    return {
        f"final/{row}_{name}": value
        for row, summary in rows.items()
        for name, value in (
            *((f"average_mAP_{_plain(span)}", value) for span, value in (summary.average_mAP or {}).items()),
            ("video_accuracy", summary.video_accuracy),
        )
        if value is not None
    }


def _new_event_file(folder: pathlib.Path) -> RecordWriter:
    """A file of its own for each call, by the name that TensorBoard looks for. Raises OSError."""
    folder.mkdir(exist_ok=True)
    seconds, fraction = divmod(time.time_ns(), 1_000_000_000)
    name = f"events.out.tfevents.{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{fraction}"
    return RecordWriter(open(folder / name, "xb"))


def _kind(value: bool | float | int | str) -> "api_pb2.DataType":
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _set_value(holder: Any, value: bool | float | int | str) -> None:
    if isinstance(value, bool):
        holder.bool_value = value
    elif isinstance(value, str):
        holder.string_value = _text(value)
    else:
        holder.number_value = value


def _plain(span: str) -> str:
    return span.replace(":", "-")


def _text(name: str) -> str:
    """A name that protocol buffers take: valid UTF-8."""
    return name.encode("utf-8", "replace").decode()
