"""When a report is made: after training and --inference_only, or of runs that are there, with what they lack recorded first.

report_training(experiment, model, data, options)       # never raises: a report that fails is a note
report_predictions(folder, video_dir="")                # nor does this
report_runs(flags)                                      # --report
plot_video(flags)                                       # --plot
"""

import contextlib
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from command_line.console import describe_error
from dataset import Dataset
from formats.run_results import RESULTS, evaluations, is_prediction, read_results, selected_of
from formats.timelines import TIMELINES, Timelines, write_timelines
from losses import AdaptiveMask
from options import CALL_FLAGS, LENGTH_FLAGS, Options, as_plain, unresolved
from report.drawing import PageJob, in_worker, write_page, write_page_of
from report.pictures import picture_format, write_picture
from report.reading import ReportedRun, model_of, read_options, read_run
from report.recording import record
from report.vega import load_vl_convert
from run.background import WorkerFailed
from run.checkpoint import load_checkpoint, load_model
from run.experiment import OF_THE_DATA, REPORT, Experiment, begin_inference, find_experiment
from run.loading import LoadedModel, load_for_test, saved_mask
from run.lock import FolderLock
from test import Network
from utils.atomic import remove_leftovers
from utils.errors import InputError
from utils.printable import one_line

COMPARISON = "comparison.html"
MOST_PICTURES = 100  # of videos without truth


def report_training(experiment: Experiment, model: Network, data: Dataset, options: Options) -> None:
    """Record what the selected model of a finished run says, with its weights loaded into `model`, and write report.html."""
    with _noted(experiment.folder):
        checkpoint = load_checkpoint(experiment.best)
        load_model(model, checkpoint.model, experiment.best)
        mask = saved_mask(checkpoint, options, experiment.best)
        _report(experiment.folder, _recorded(model, mask, data, options), options)


def report_inference(loaded: LoadedModel, network: Network) -> None:
    """Record what the model of --inference_only says, and write inference/report.html."""
    with _noted(loaded.experiment.inference):
        timelines = _recorded(network, loaded.mask, loaded.data, loaded.options)
        _report(loaded.experiment.inference, timelines, loaded.options)


def report_predictions(folder: pathlib.Path, *, video_dir: str, pictures: bool = False) -> None:
    """Write report.html into a folder of predictions, beside the timelines there; a report that fails is a note.

    With `pictures` VIDEO.png, the timeline of each video, is written too; of many videos those of the first.
    """
    with _noted(folder):
        _write_page(folder, video_dir, pictures=MOST_PICTURES if pictures else 0)


def report_runs(flags: Mapping[str, Any]) -> None:
    """Write the report of the runs that --report names, or of the last one; of two or more a comparison. Raises InputError.

    A run whose folder can't be written is read all the same: --out puts its report elsewhere.
    """
    load_vl_convert()
    options = unresolved(flags).run
    folders = [_folder_of(name, pathlib.Path(options.output_dir)) for name in options.report]
    folders = folders or [find_experiment(options, needs=RESULTS).folder]
    if len({os.path.realpath(folder) for folder in folders}) < len(folders):
        raise InputError("--report: names a run twice; name each once")
    beside = pathlib.Path(os.path.normpath(folders[0] / ".."))
    default = beside / COMPARISON if len(folders) > 1 else folders[0] / REPORT
    out = pathlib.Path(options.out) if options.out else default
    if out.suffix != ".html":
        raise InputError(f"--out {out}: a report is a page; name a file that ends in .html")
    for folder in folders:
        read_results(folder, measured=False)  # before anything is computed
    with contextlib.ExitStack() as locks:
        place = os.path.realpath(out.parent)
        runs = []
        for folder in folders:
            written = place == os.path.realpath(folder)
            locked = (written or not (folder / TIMELINES).exists()) and _lock(
                folder, locks, instead="another run", needed=written
            )
            runs.append(_complete_run(folder, flags, keep=locked))
        for note in (f"{run.folder}: {note}" for run in runs for note in run.notes):
            print(f"note: {note}")
        write_page_of(out, runs, _video_dir(options.video_dir or runs[0].options.run.video_dir))
        print(f"report: {out}")


def plot_video(flags: Mapping[str, Any]) -> None:
    """Draw the timeline of the video that --plot names. Raises InputError."""
    load_vl_convert()
    options = unresolved(flags).run
    out = pathlib.Path(options.out or f"{_file_name(options.plot)}.pdf")
    picture_format(out)
    folder = find_experiment(options, needs=RESULTS).folder
    with contextlib.ExitStack() as locks:
        keep = not (folder / TIMELINES).exists() and _lock(folder, locks, instead="another --exp_name", needed=False)
        run = _complete_run(folder, flags, keep=keep)
    write_picture(out, run, options.plot)
    print(f"picture: {out}")


def _lock(folder: pathlib.Path, locks: contextlib.ExitStack, *, instead: str, needed: bool) -> bool:
    """Lock a run's folder; False if it can't be written, as one of a read-only disk. Raises InputError when it must be."""
    try:
        locks.enter_context(FolderLock(folder, instead=instead))
    except OSError as error:
        if needed:
            raise InputError(f"{folder}: can't be written ({error.strerror}); name another place with --out") from None
        return False
    return True


def _complete_run(folder: pathlib.Path, flags: Mapping[str, Any], *, keep: bool) -> ReportedRun:
    """The run, with its timelines recorded if it has none, and kept in its folder if `keep` says so."""
    if (folder / TIMELINES).exists():
        return read_run(folder)
    if is_prediction(read_results(folder, measured=False)):
        raise InputError(f"{folder}: has no {TIMELINES}; make the predictions again, without --no-write_report")
    print(f"{folder}: has no {TIMELINES}, which are recorded now")
    loaded = _load(folder, flags)
    run = read_run(folder, _recorded(loaded.model, loaded.mask, loaded.data, loaded.options))
    if not keep:
        print(f"note: {folder}: can't be written; the next call records {TIMELINES} again")
        return run
    remove_leftovers(folder, TIMELINES)
    write_timelines(folder / TIMELINES, run.timelines)
    return run


def _load(folder: pathlib.Path, flags: Mapping[str, Any]) -> LoadedModel:
    """The model and data that a run's results are of; flags such as --data_path and --device come before its own options."""
    results = read_results(folder)
    own = as_plain(read_options(folder, results)) | {"classes": results.get("options", {}).get("classes", "")}
    path = model_of(folder, results)
    passed_on = own.keys() - (CALL_FLAGS - {"classes"}) - LENGTH_FLAGS
    if "data_path" in flags:
        passed_on -= set(OF_THE_DATA)
    typed = {name: value for name, value in flags.items() if name not in ("report", "plot", "out", "exp_name")}
    given = {**{name: own[name] for name in passed_on}, **typed, "model_file": str(path)}
    experiment, path, options, checkpoint = begin_inference(given)
    step, expected = checkpoint.training.get("step"), evaluations(results).get(selected_of(results), {}).get("step")
    if expected is not None and step != expected:
        raise InputError(
            f"{path}: is of step {step}, {RESULTS} beside it of step {expected}; continue the run with --resume"
        )
    return load_for_test(experiment, path, options, checkpoint)


def _recorded(network: Network, mask: AdaptiveMask | None, data: Dataset, options: Options) -> Timelines:
    if mask is None:
        print("note: the checkpoint does not say what the adaptive mask has seen; the report goes without its weights")
    return record(network, data, options, mask=mask and mask.to(data.test.store.device))


def _report(folder: pathlib.Path, timelines: Timelines, options: Options) -> None:
    """Write timelines, and the page in a process of its own, whose end ends nothing else."""
    read_run(folder, timelines)  # whether they fit
    write_timelines(folder / TIMELINES, timelines)
    _write_page(folder, options.run.video_dir)


def _write_page(folder: pathlib.Path, video_dir: str, *, pictures: int = 0) -> None:
    load_vl_convert()
    job = PageJob(path=folder / REPORT, folders=(folder,), video_dir=_video_dir(video_dir), pictures=pictures)
    in_worker(write_page, job)
    print(f"report: {folder / REPORT}")


def _video_dir(name: str) -> pathlib.Path | None:
    return pathlib.Path(name) if name else None


def _folder_of(name: str, output_dir: pathlib.Path) -> pathlib.Path:
    """The folder that a RUN of --report is: a path, or a name in --output_dir."""
    path = pathlib.Path(name)
    return output_dir / name if not path.exists() and (output_dir / name).is_dir() else path


def _file_name(video: str) -> str:
    """A video's name as that of a file."""
    return re.sub(r"[^\w.-]+", "_", video).strip("._") or "video"


@contextlib.contextmanager
def _noted(folder: pathlib.Path) -> Iterator[None]:
    """Turn whatever fails into a note: what was computed before is complete, and not to be lost for its picture."""
    try:
        yield
    except Exception as error:
        died = isinstance(error, WorkerFailed)
        reason = f"its process {error}" if died else describe_error(error) or f"{type(error).__name__}: {error}"
        print(f"note: {folder}: without a report: {one_line(reason)}; main.py --report {folder} tries again")
