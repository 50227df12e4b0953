"""A trained model that finds actions in videos without labels: what `main.py --predict` and `from sal import Localizer` use.

    model = Localizer.load("best.pt", device="auto", batch_size=8)
    detections = model(features)                    # numpy [L,D], RGB channels first; or a path; a list of them gives lists
    by_video = model.predict(["folder", "set.h5"])  # {video: detections}
    sequences = model.sequences(features)           # the curves behind them, for plots

Nothing is printed, and torch's settings and random numbers stay as the caller has them. Mistakes are ValueErrors.
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("localizer.py", run="bash scripts/predict.sh or python main.py --predict FEATURES")

import contextlib
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from command_line.progress import progress
from command_line.shares import WHOLE, Share
from data_tools.check.times import TimedVideo, grid_warning
from dataset import Batch, HostStore, Split, Video, inference_batches, inference_groups
from formats.array_files import STREAMS, MemoryArray
from formats.feature_files import FeatureFiles, Located
from formats.problems import DataError, Kind, Report, raise_problem
from formats.result_file import Row, entries_of
from formats.unlabelled import FoundVideos, find_videos
from layers.products import use_library
from localization.instances import localize
from model import combined_sequence
from options import CALL_FLAGS, FLAGS, Options, fits, resolve
from run.checkpoint import Checkpoint, load_checkpoint, load_network
from run.device import apply_precision, choose_machine, network_maker
from run.predicting import PredictedVideo, Predictions
from run.sharing import Part, parts_of
from run.torch_settings import torch_unchanged, use_deterministic
from run.weights import name_classes, num_classes, shape_flags
from test import Observer, class_scores, predict
from utils.errors import InputError
from utils.prefetch import prefetch
from utils.printable import one_line
from utils.ranges import Interval
from utils.segments import Segments
from utils.snippet_grid import frame_rate

POSITIVE = Interval.parse("(0,inf)")
Array = NDArray[Any] | Tensor
Features = (
    Array | Mapping[str, Array] | str | os.PathLike[str]
)  # of one video; a mapping has its streams, "rgb" and "flow"


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One action instance; times in seconds."""

    label: str
    start: float
    end: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The network's curves over one video: T snippets, C classes in the order of `classes`."""

    classes: tuple[str, ...]
    times: NDArray[np.float64]  # [T] seconds, the start of what each snippet stands for
    cas: NDArray[np.float32]  # [T,C] class activation sequence, logits
    actionness: NDArray[np.float32] | None  # [T] fused, in (0,1); None of a model trained with --no_actionness
    stream_actionness: dict[str, NDArray[np.float32]]  # [T] each, "rgb" and "flow"
    combined: NDArray[np.float32]  # [T,C] what proposals are cut from
    class_scores: NDArray[np.float32]  # [C] of the video, sum to 1


class Localizer:
    """A network with its options and class names. `load` makes one from a file."""

    def __init__(self, checkpoint: Checkpoint, path: pathlib.Path, options: Options) -> None:
        """Build the network of a checkpoint. Raises InputError when it does not fit the options, or names no classes."""
        count = num_classes(checkpoint, path)
        if not checkpoint.classes:
            raise InputError(
                f"{path}: names no classes; name its {count} in the order of its outputs, with --classes FILE"
            )
        self.classes, self.options, self.path = checkpoint.classes, options, path
        with torch_unchanged():
            self.machine = choose_machine(options.run)
            make_model = network_maker(
                options.model,
                options.data,
                self.machine,
                num_classes=count,
                training=False,
                ablation=options.ablation,
            )
            self.network = load_network(make_model, checkpoint, path, device=self.machine.device)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        batch_size: int = 8,
        classes: str | os.PathLike[str] | None = None,
        **flags: Any,
    ) -> "Localizer":
        """Load a checkpoint of this project or a published state dict, for which `classes` names a file of class names.

        `device` is auto, cpu, cuda or cuda:INDEX. `flags` are options of main.py, such as min_score=0.1, top=20, fps=30; the
        others come from the checkpoint. Raises ValueError.
        """
        file = pathlib.Path(path)
        unknown = flags.keys() - (FLAGS.flags.keys() - CALL_FLAGS) - {"allow_pickle"}
        if unknown:
            raise InputError(f"no option of a model is called {', '.join(sorted(unknown))}; main.py --help lists them")
        checkpoint = name_classes(load_checkpoint(file), os.fspath(classes) if classes else "", file)
        given = {**flags, "device": str(device), "test_batch_size": batch_size}
        given = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
        for name, value in given.items():
            if not fits(FLAGS.flags[name], value):
                raise InputError(f"{name}={value!r}: a {type(value).__name__} is no value of --{name}")
        return cls(checkpoint, file, resolve(given, checkpoint.options or shape_flags(checkpoint.model)))

    @overload
    def __call__(
        self, features: Features, *, fps: float | None = None, duration: float | None = None
    ) -> list[Detection]: ...
    @overload
    def __call__(
        self, features: list[Features], *, fps: float | None = None, duration: Sequence[float | None] | None = None
    ) -> list[list[Detection]]: ...
    def __call__(self, features: Any, *, fps: float | None = None, duration: Any = None) -> Any:
        """Detections of one video, best first; of a list of videos a list of lists. Times in seconds.

        An array is [snippets, channels], RGB first if the model takes two streams; {"rgb": array, "flow": array} are these
        streams apart; a path is a file of one video. `fps` is the frame rate of the features; None takes the checkpoint's
        --fps, else 25. Raises ValueError.
        """
        videos = self._videos(features, fps=fps, duration=duration)
        parts = [(part, videos[part.videos.start : part.videos.stop]) for part in parts_of(len(videos), WHOLE)]
        detections, _ = self._detect(parts)
        lists = [
            _records(rows) for _, rows in entries_of(detections, [video.video_id for video in videos], self.classes)
        ]
        return lists if isinstance(features, list | tuple) else lists[0]

    def predict(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, fps: float | None = None
    ) -> dict[str, list[Detection]]:
        """{video: detections, best first} of all videos in files, folders, HDF5 files or data sets. Raises ValueError."""
        places: Sequence[Any] = paths if isinstance(paths, list | tuple) else [paths]
        for place in places:
            if not isinstance(place, str | os.PathLike):
                raise InputError(f"predict: takes paths, not {type(place).__name__}; give arrays to the model itself")
        fps = _frame_rate(fps)
        found = find_videos([pathlib.Path(place) for place in places], self.options.data)
        predictions = self.predictions(found, fps=fps)
        return {name: _records(rows) for name, rows in predictions.entries()}

    @overload
    def sequences(self, features: Features, *, fps: float | None = None) -> Sequences: ...
    @overload
    def sequences(self, features: list[Features], *, fps: float | None = None) -> list[Sequences]: ...
    def sequences(self, features: Any, *, fps: float | None = None) -> Any:
        """The curves of one video, or of each of a list, as in `__call__`. Raises ValueError."""
        videos = self._videos(features, fps=fps)
        found: dict[int, Sequences] = {}
        with self._computing():
            self.network.eval()
            for positions, batch in self._batches(videos, self._groups(videos), raise_problem):
                found |= zip(positions, self._curves(batch), strict=True)
        curves = [found[position] for position in range(len(videos))]
        return curves if isinstance(features, list | tuple) else curves[0]

    def predictions(
        self,
        found: FoundVideos,
        *,
        share: Share = WHOLE,
        fps: float | None = None,
        report: Report = raise_problem,
        show: bool = False,
        observe: Observer | None = None,
    ) -> Predictions:
        """Detections in all of these videos, or in a share of them, which may be none.

        `report` gets the problems of videos, which are then left out; `observe` every batch of videos and the network's output
        for it.
        """
        names = tuple(found.videos)
        parts = [
            (part, self._open(found, names[part.videos.start : part.videos.stop], fps=fps, report=report))
            for part in parts_of(len(names), share)
        ]
        detections, kept = self._detect(parts, report=report, show=show, observe=observe)
        if not kept and share == WHOLE:
            raise InputError("no video is left whose features can be used")
        grid = self.options.data.grid
        timed = [
            TimedVideo(
                video_id=video.video_id,
                annotation=found.stated(video.video_id),
                num_snippets=video.num_snippets,
                fps=video.fps,
            )
            for video in kept
        ]
        return Predictions(
            videos=tuple(
                PredictedVideo(
                    name=video.video_id,
                    seconds=video.duration or grid.end(video.num_snippets, video.fps),
                    fps=video.fps,
                    fps_stated=found.stated(video.video_id).fps is not None,
                    cut=video.features.cut if isinstance(video.features, FeatureFiles) else 0,
                )
                for video in kept
            ),
            classes=self.classes,
            warning=grid_warning(timed, grid),
            detections=detections,
        )

    def _open(
        self, found: FoundVideos, names: Sequence[str], *, fps: float | None, report: Report = raise_problem
    ) -> list[Video]:
        """Inspect the headers of these videos' features; `report` gets the problems of videos, which are then left out."""
        videos = []
        for name in names:
            located, stated = found.videos[name], found.stated(name)
            rate = frame_rate(fps or self.options.data.fps, stated.fps)
            try:
                videos.append(self._video(name, located, fps=rate, duration=stated.duration))
            except DataError as error:
                report(error.problem.of(name))
        return videos

    def _detect(
        self,
        parts: Sequence[tuple[Part, Sequence[Video]]],
        *,
        report: Report = raise_problem,
        show: bool = False,
        observe: Observer | None = None,
    ) -> tuple[Segments, list[Video]]:
        """Detections by video, best first, in the batches that are a part's own, and the videos that were read.

        A detection's video is a position among these. Only a batch of features and a part's curves are in memory at a time.
        `report` gets the problems of videos whose values can't be used.
        """
        groups = [part.own(self._groups(videos)) for part, videos in parts]
        total = sum(map(len, groups))
        every = itertools.chain.from_iterable(groups)
        shown = iter(progress(every, desc="predicting", unit="batch", total=total, leave=False) if show else every)
        done, kept = list[Segments](), list[Video]()
        with self._computing():
            for (_, videos), own in zip(parts, groups, strict=True):
                mine = itertools.islice(shown, len(own))
                found, read = self._detect_part(videos, mine, report=report, observe=observe)
                done.append(replace(found, video=found.video + len(kept)))
                kept += [videos[position] for position in read]
        return Segments.concatenate(done), kept

    def _groups(self, videos: Sequence[Video]) -> list[list[int]]:
        """The positions of the videos of each batch."""
        split = Split(videos=tuple(videos), store=HostStore(videos, self.machine.device))
        return inference_groups(split, self.options.data, batch_size=self.options.evaluation.test_batch_size)

    def _detect_part(
        self, videos: Sequence[Video], groups: Iterable[list[int]], *, report: Report, observe: Observer | None
    ) -> tuple[Segments, list[int]]:
        """Detections in these batches, a video's number being its place among those read, and the positions of these."""
        read: list[int] = []

        def batches() -> Iterator[Batch]:
            for positions, batch in self._batches(videos, groups, report):
                read.extend(positions)
                yield batch

        options = self.options
        predictions = predict(
            self.network, batches(), fusion=options.fusion, localization=options.localization, observe=observe
        )
        by_position = dict(zip(read, predictions, strict=True))
        kept = sorted(read)
        found = localize([by_position[v] for v in kept], options.localization, grid=options.data.grid)
        return found.take(np.lexsort((-found.score, found.video))), kept

    def _videos(self, features: Any, *, fps: float | None, duration: Any = None) -> list[Video]:
        several = isinstance(features, list | tuple)
        items = list(features) if several else [features]
        fps = _frame_rate(fps)
        listed = isinstance(duration, Sequence | np.ndarray) and not isinstance(duration, str)
        if several and duration is not None and not (listed and len(duration) == len(items)):
            raise InputError(f"duration: expected a list of {len(items)}, a number or None for each video")
        durations = [
            _number(seconds, "duration", POSITIVE) for seconds in (duration if several and listed else [duration])
        ]
        durations = durations if duration is not None else [None] * len(items)
        names = [f"features[{i}]" if several else "features" for i in range(len(items))]
        return [
            self._one_video(item, name, fps=fps, duration=seconds)
            for item, name, seconds in zip(items, names, durations, strict=True)
        ]

    def _one_video(self, features: Any, name: str, *, fps: float | None, duration: float | None) -> Video:
        if isinstance(features, str | os.PathLike):
            found = find_videos([pathlib.Path(features)], self.options.data)
            if len(found.videos) > 1:
                raise InputError(f"{os.fspath(features)}: holds {len(found.videos)} videos; give it to .predict")
            (video,) = self._open(found, tuple(found.videos), fps=fps)
            return video if duration is None else replace(video, duration=duration)
        if isinstance(features, Mapping):
            if not features or not set(features) <= set(STREAMS):
                raise InputError(f"{name}: expected the keys 'rgb' and 'flow', found {', '.join(map(repr, features))}")
            located = {stream: _in_memory(f"{name} '{stream}'", array) for stream, array in features.items()}
        else:
            located = {"joint": _in_memory(name, features)}
        return self._video(name, located, fps=frame_rate(fps or self.options.data.fps, None), duration=duration)

    def _video(self, name: str, located: Located, *, fps: float, duration: float | None) -> Video:
        data = self.options.data
        try:
            files = FeatureFiles(name, located, streams=data.streams, feature_size=data.feature_size)
        except DataError as error:
            if error.problem.kind not in (Kind.SHAPE, Kind.NO_STREAM):
                raise
            fix = f"{self.path} takes {self._channels()}"
            if len(data.streams) > 1 and isinstance(located.get("joint"), MemoryArray):
                fix += '; {"rgb": array, "flow": array} is one video'
            raise DataError(replace(error.problem, fix=fix)) from None
        labels = np.zeros(len(self.classes), np.float32)
        return Video(video_id=name, labels=labels, features=files, fps=fps, duration=duration)

    def _channels(self) -> str:
        """The features that the model takes, in words."""
        data = self.options.data
        if len(data.streams) == 1:
            return f"{data.feature_size} channels of {data.streams[0]}"
        return (
            f"{' and '.join(data.streams)} of {data.feature_size} channels each, in two arrays or side by side in one"
        )

    def _batches(
        self, videos: Sequence[Video], groups: Iterable[list[int]], report: Report
    ) -> Iterator[tuple[list[int], Batch]]:
        """Batches with the positions of their videos. Videos are read ahead, whole, so that all of their values are checked."""
        data, device = self.options.data, self.machine.device

        def read(group: list[int]) -> tuple[list[int], list[Video], list[DataError]]:
            positions, loaded, problems = [], [], []
            for position in group:
                features = videos[position].features
                try:
                    array = features if isinstance(features, np.ndarray) else features.load()
                except DataError as error:
                    problems.append(error)
                    continue
                positions.append(position)
                loaded.append(replace(videos[position], features=array))
            return positions, loaded, problems

        for positions, loaded, problems in prefetch(read, groups, threads=data.num_workers):
            for error in problems:
                report(error.problem)
            if loaded:
                split = Split(videos=tuple(loaded), store=HostStore(loaded, device))
                group = list(range(len(loaded)))
                (batch,) = inference_batches(split, [group], replace(data, num_workers=0))
                yield positions, batch

    @torch.inference_mode()
    def _curves(self, batch: Batch) -> list[Sequences]:
        fusion, localization, grid = self.options.fusion, self.options.localization, self.options.data.grid
        output = self.network(batch.features)
        combined = combined_sequence(output, fusion.weights)
        scores = class_scores(output, combined, fusion=fusion, beta=localization.beta)
        snippets = combined.shape[1]
        return [
            Sequences(
                classes=self.classes,
                times=grid.seconds(np.arange(snippets) * length / snippets, fps),
                cas=_array(output.cas[i]),
                actionness=None if output.actionness is None else _array(output.actionness[i]),
                stream_actionness={stream: _array(values[i]) for stream, values in output.stream_actionness.items()},
                combined=_array(combined[i]),
                class_scores=_array(scores[i]),
            )
            for i, (length, fps) in enumerate(zip(batch.num_snippets, batch.fps, strict=True))
        ]

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """The settings of this model's machine, for the time of a computation."""
        with torch_unchanged():
            if self.machine.deterministic:
                use_deterministic(True, self.machine.device)
            apply_precision(self.machine.precision)
            torch.set_num_threads(self.machine.threads)
            use_library(self.machine.products)
            if self.machine.device.type == "cuda":
                torch.cuda.set_device(self.machine.device)
            yield


def _records(rows: Sequence[Row]) -> list[Detection]:
    return [Detection(label=label, start=start, end=end, score=score) for label, start, end, score in rows]


def _number(value: Any, name: str, needed: Interval) -> float | None:
    """A number of Python or numpy in an interval, as a float; None stays None. Raises InputError."""
    if value is None:
        return None
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, bool) or number not in needed:
        raise InputError(f"{name}={one_line(repr(value), 60)}: expected a number in {needed}, or None")
    return float(number)


def _frame_rate(fps: Any) -> float | None:
    return _number(fps, "fps", FLAGS.flags["fps"].interval or POSITIVE)


def _in_memory(name: str, features: Any) -> MemoryArray:
    """An array or tensor as features. Raises InputError for another type, and for tensors that numpy has no form of."""
    if isinstance(features, Tensor):
        if features.layout is not torch.strided or features.is_meta or features.is_nested or features.is_quantized:
            raise InputError(
                f"{name}: a tensor without plain values, {features.dtype} {features.layout}; make it dense"
            )
        tensor = features.detach().cpu().resolve_conj().resolve_neg()
        features = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if not isinstance(features, np.ndarray):
        kind = type(features).__name__
        raise InputError(f"{name}: expected an array [snippets, channels], a tensor or a path, found {kind}")
    if isinstance(features, np.ma.MaskedArray) and np.ma.is_masked(features):
        raise InputError(f"{name}: some of its values are masked; fill them, or leave their snippets out")
    return MemoryArray(where=name, array=np.asarray(features))


def _array(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
