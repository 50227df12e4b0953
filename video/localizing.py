"""From found video files to the folder of their actions: extraction, then a trained model, or the classes of I3D itself.

problems = localize_videos(found, flags)        # what video.localize was given
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from command_line.progress import progress
from data_tools.export import safe_name, write_subtitles
from formats.annotations import VideoAnnotation
from formats.ground_truth import read_json
from formats.names import amount
from formats.unlabelled import FoundVideos
from localizer import Localizer
from options import LocalizationOptions, Options, as_plain, resolve
from report.making import report_predictions
from report.page import PREVIEW
from report.predicting import predict_into
from report.recording import timelines_of
from run.device import choose_machine
from run.experiment import begin_inference
from run.lock import FolderLock
from run.predicting import DETECTIONS, Skipped, results_folder, video_lines, write_predictions
from run.provenance import provenance
from run.weights import assumed_lines
from utils.errors import InputError
from utils.printable import one_line
from video.containers import UnusableVideo
from video.extraction import Extraction, extract_videos, load_weights
from video.feature_set import METADATA, ExtractedVideo, is_labelled
from video.i3d import FEATURES
from video.options import VIDEO_FLAGS, RecogniserOptions, VideoOptions
from video.preview import can_encode, plays, write_preview
from video.recognise import KINETICS, METHOD, recognise
from video.sources import FoundSources
from video.weights import LoadedI3D

SUBTITLES = 100  # detections of a video in its subtitles, the best ones
MACHINE = ("device", "precision", "threads")


def localize_videos(found: FoundSources, flags: Mapping[str, Any]) -> tuple[str, ...]:
    """Localize and write everything; a line for each file that could not be used. Raises InputError."""
    videos, features = flags["videos"], flags["features"]
    given = {name: flags[name] for name in (*_names(LocalizationOptions), *MACHINE, "write_report") if name in flags}
    previews = flags.get("preview", True) and given.get("write_report", True)
    given.setdefault("write_report", True)  # whatever the model was trained with
    given |= {"out": flags.get("out", ""), "predict": tuple(map(str, videos))}
    typed = {name: flags[name] for name in VIDEO_FLAGS.names if name in flags}
    if "model_file" not in flags:
        video_options = VIDEO_FLAGS.build(typed)
        folder = results_folder(given["out"], videos, model=None)
        if video_options.network.rgb_weights:
            _check_classes(load_weights(video_options)["rgb"])
        extraction = _extract(found, features, video_options)
        recogniser = RecogniserOptions(**{n: flags[n] for n in _names(RecogniserOptions) if n in flags})
        _recognise(extraction, folder, _own_options(given, video_options), recogniser, previews=previews)
        return extraction.problems
    of_model = {**given, "model_file": flags["model_file"], "classes": flags.get("classes", "")}
    _, path, options, checkpoint = begin_inference(of_model)
    for note in checkpoint.notes:
        print(f"note: {note}")
    folder = results_folder(given["out"], videos, model=path)
    trained_on = settings_of((checkpoint.options or {}).get("data_path") or "")
    video_options = model_sampling(options, path, typed, trained_on)
    model = Localizer(checkpoint, path, options)
    print(f"{path}: {amount(len(model.classes), 'class')}, on {model.machine.device} ({model.machine.precision})")
    for line in assumed_lines(checkpoint, options.data, path):
        print(line)
    extraction = _extract(found, features, video_options)
    print(known_features(extraction, trained_on, path))
    streams = options.data.streams
    stored = FoundVideos(
        videos={v.name: {stream: v.features[stream] for stream in streams} for v in extraction.videos},
        annotations={v.name: VideoAnnotation(subset="", duration=v.seconds, fps=v.fps) for v in extraction.videos},
    )
    skipped = Skipped(allowed=True)
    files = {video.name: video.source for video in extraction.videos}
    predict_into(
        folder,
        model,
        checkpoint,
        stored,
        skipped,
        typed=flags,
        files=files,
        origin={"extraction": about(extraction)},
        more=partial(_beside, videos=extraction.videos, previews=previews),
        pictures=True,
    )
    return (*extraction.problems, *(str(problem) for problem in skipped.problems))


def model_sampling(
    options: Options, path: pathlib.Path, typed: Mapping[str, Any], trained_on: Mapping[str, Any]
) -> VideoOptions:
    """Extract as the model's features were: by its options, and the settings of the set that it was `trained_on`.

    Raises InputError for a model that I3D has no features for.
    """
    data = options.data
    if data.feature_size != FEATURES:
        raise InputError(
            f"{path}: takes {data.feature_size} channels, and I3D gives {FEATURES}: it was trained on features of another "
            "network; extract them with that one, and run scripts/predict.sh"
        )
    if "flow" in data.streams and "flow_weights" not in typed:
        raise InputError(
            f"{path}: needs features of {' and '.join(data.streams)}: give --flow_weights FILE, a state dict of I3D for flow, "
            "or a model that was trained with --modal rgb"
        )
    trained: dict[str, float] = {"snippet_frames": data.grid.frames, "snippet_stride": data.grid.stride}
    fps = data.fps or trained_on.get("fps")
    if isinstance(fps, int | float):
        trained["fps"] = fps
    for name, value in trained.items():
        if typed.get(name, value) != value:
            raise InputError(f"--{name} {typed[name]:g}: {path} was trained with {value:g}; leave it out")
    video_options = VIDEO_FLAGS.build({**typed, **trained})
    try:
        VIDEO_FLAGS.check(video_options)
    except InputError as error:
        raise InputError(f"{path}: was trained on snippets that can't be extracted: {error}") from None
    return video_options


def settings_of(folder: str) -> dict[str, Any]:
    """The settings that the features in a folder were extracted with; none where it is not there, or of another program."""
    try:
        settings = read_json(pathlib.Path(folder) / METADATA)["settings"]
    except (InputError, KeyError, TypeError):
        return {}
    return settings if isinstance(settings, dict) else {}


def known_features(extraction: Extraction, trained_on: Mapping[str, Any], path: pathlib.Path) -> str:
    """What is known of whether these features are of the kind that the model was trained on."""
    if not trained_on:
        return (
            f"note: nothing states how the features that {path} was trained on were extracted; if they are not of this I3D, "
            "what it finds means nothing"
        )
    different = [
        f"{name} {trained_on.get(name)}, here {value}"
        for name, value in _as_settings(extraction).items()
        if trained_on.get(name) != value and name != "dtype"
    ]
    if different:
        return f"warning: {path} was trained on features extracted with other settings: {'; '.join(different)}"
    return f"features: extracted as those that {path} was trained on"


def about(extraction: Extraction) -> dict[str, str]:
    """How features were extracted, for results.json and the report."""
    settings, of = extraction.folder.settings, extraction.folder.about
    facts = {f"{stream} weights": f"{of['weights'][stream]['source']}" for stream in settings.streams}
    grid = (
        f"{settings.snippet_frames} frames, one every {settings.snippet_stride}, at {settings.fps:g} frames per second"
    )
    flow = {"flow": f"{settings.flow}, clipped to +-{settings.flow_bound:g} pixels"} if settings.flow else {}
    return {"features": str(extraction.folder.path.absolute()), **facts, "snippets": grid, **flow}


def _extract(found: FoundSources, features: pathlib.Path, options: VideoOptions) -> Extraction:
    """Extract what the folder does not have, and leave it as a set without labels.

    A set to train on is used as it is. Raises InputError when it lacks a video, or when no video can be used.
    """
    labelled = is_labelled(features)
    with FolderLock(features, instead="another --features"):
        extraction = extract_videos(found, features, options, frozen=labelled, flag="--features")
        extraction = replace(extraction, videos=tuple(sorted(extraction.videos, key=lambda video: video.name)))
        if labelled and extraction.missing:
            lacking = f"is a set with labels, which stays as it is, and lacks {amount(extraction.missing, 'video')}"
            raise InputError(f"--features {features}: {lacking}; name another folder")
        if not labelled:
            extraction.finish_unlabelled()
    if not extraction.videos:
        first, *more = extraction.problems
        raise InputError(first, details=more)
    return extraction


def _own_options(given: Mapping[str, Any], video_options: VideoOptions) -> Options:
    """Options that say how the recogniser's scores are localized: those of SAL, with NMS that keeps no duplicates."""
    grid, fps = video_options.sampling.grid, video_options.sampling.fps
    own = {"modal": "rgb", "fps": fps, "snippet_frames": grid.frames, "snippet_stride": grid.stride, "soft_nms": False}
    return resolve({**own, "short_videos": "keep", **given})


def _check_classes(loaded: LoadedI3D) -> None:
    """Raise InputError for a network whose classes nobody knows."""
    if loaded.classes is None:
        raise InputError(
            f"{loaded.path}: its classes are not those of Kinetics-400; give --model_file, or leave --rgb_weights out"
        )


def _recognise(
    extraction: Extraction, folder: pathlib.Path, options: Options, recogniser: RecogniserOptions, *, previews: bool
) -> None:
    classes = extraction.folder.about["classes"]
    method = METHOD.format(classes=len(classes), network=KINETICS)
    print(method)
    grid = options.data.grid
    found = recognise(extraction.videos, tuple(classes), recogniser, grid=grid, localization=options.localization)
    predictions = found.predictions
    for line in video_lines(predictions):
        print(line)
    machine = choose_machine(replace(options.run, products="blas"))
    stated = provenance(as_plain(options), machine, layout="videos", left_out={})
    del stated["data"]
    looked_for = (
        f"at most {recogniser.most_classes} of a video, with {recogniser.class_share:g} of the best one's score or more"
    )
    stated |= {"method": method, "extraction": about(extraction) | {"classes looked for": looked_for}}
    timelines = timelines_of(found.recorded, predictions.names, classes, grid=grid)
    more = partial(_beside, videos=extraction.videos, previews=previews)
    folder = write_predictions(folder, predictions, stated, named=bool(options.run.out), timelines=timelines, more=more)
    print(f"{predictions}; results in {folder}")
    if options.run.write_report:
        report_predictions(folder, video_dir="", pictures=True)


def _beside(folder: pathlib.Path, videos: Sequence[ExtractedVideo], *, previews: bool) -> None:
    """Write what players need into the folder of results: subtitles, and copies of what browsers don't play."""
    write_subtitles(folder / DETECTIONS, folder, most=SUBTITLES)
    if not previews or not can_encode():
        return
    for video in progress(videos, desc="copying what browsers don't play", unit="video", leave=False):
        try:
            if not plays(video.source):
                write_preview(video.source, folder / f"{safe_name(video.name)}{PREVIEW}", fps=video.fps)
        except UnusableVideo as error:  # it has changed since
            print(f"note: no copy of {one_line(video.name)}: {error}")


def _names(kind: type) -> Sequence[str]:
    return tuple(field.name for field in fields(kind))


def _as_settings(extraction: Extraction) -> dict[str, Any]:
    settings = extraction.folder.settings
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
