"""Predictions of a trained model, from its features to the folder with the page: what --predict and video.localize share.

folder = predict_into(folder, model, checkpoint, found, skipped, typed=flags)
"""

import pathlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from command_line.shares import WHOLE, Share
from formats.inspection import cut_lines
from formats.unlabelled import FoundVideos
from localizer import Localizer
from options import as_plain
from report.making import report_predictions
from report.recording import Recorder
from run.checkpoint import Checkpoint
from run.loading import saved_mask
from run.predicting import Skipped, frame_rate_line, video_lines, write_predictions
from run.provenance import provenance
from run.sharing import Work
from utils.printable import one_line


def predict_into(
    folder: pathlib.Path,
    model: Localizer,
    checkpoint: Checkpoint,
    found: FoundVideos,
    skipped: Skipped,
    *,
    typed: Mapping[str, Any],
    files: Mapping[str, pathlib.Path] | None = None,
    origin: Mapping[str, Any] | None = None,
    more: Callable[[pathlib.Path], object] = lambda folder: None,
    pictures: bool = False,
    share: Share = WHOLE,
    work: Work | None = None,
) -> pathlib.Path:
    """Predict, print a line per video, and write the folder, with its report if the options say so. Returns the folder.

    `typed` are the flags of the call, `files` the videos themselves, by name, which the report then plays. `origin` goes into
    results.json; `more` writes into the folder before it gets its name; `pictures` adds one of each video. A `share` of the
    videos is of a `work`, which results.json then states. Raises InputError.
    """
    options, recorder = model.options, None
    if options.run.write_report:
        mask = saved_mask(checkpoint, options, model.path)
        recorder = Recorder(options, mask and mask.to(model.machine.device))
    predictions = model.predictions(found, share=share, report=skipped, show=True, observe=recorder)
    if files:
        videos = tuple(replace(video, file=files.get(video.name)) for video in predictions.videos)
        predictions = replace(predictions, videos=videos)
    else:
        print(frame_rate_line(predictions, given=options.data.fps, typed="fps" in typed))
    notes = [f"note: {one_line(note)}" for note in found.notes]
    if predictions.warning:
        notes.insert(0, f"warning: {predictions.warning}")
    cut = cut_lines([video.name for video in predictions.videos if video.cut])
    for line in (*notes, *cut, *skipped.lines(), *video_lines(predictions)):
        print(line)
    stated = provenance(as_plain(options), model.machine, layout="unlabelled", left_out=skipped.counts())
    del stated["data"]  # a set's place; these features are in options["predict"]
    stated |= {"model_file": str(model.path.absolute()), **(origin or {})}
    if work:
        stated |= work.stated(share, skipped)
    timelines = recorder.timelines(predictions.names, predictions.classes) if recorder and predictions.videos else None
    named = bool(options.run.out)
    folder = write_predictions(folder, predictions, stated, named=named, timelines=timelines, more=more)
    print(f"{predictions}; results in {folder}")
    if timelines:
        report_predictions(folder, video_dir=options.run.video_dir, pictures=pictures)
    return folder
