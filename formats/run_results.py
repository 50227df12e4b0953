"""results.json of an experiment's folder, of its inference folder, or of --predict: read, and checked entry by entry.

results = read_results(folder)      # {"best": {...}, "last": {...}, ...} of a training run, {"mAP": ..., ...} of an inference
results = read_results(folder, measured=False)      # of --predict too: {"videos": {...}, "classes": [...], ...}
evaluations(results)                # {"best": {...}, "last": {...}} or {"inference": {...}}; "val" too with --select val
results[selected_of(results)]       # of a run: the evaluation that best.pt and detections_best.json are of
"""

import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

from formats.ground_truth import read_json
from formats.names import amount
from options import SELECTIONS
from utils.errors import InputError
from utils.printable import one_line

RESULTS = "results.json"
QUEUE_LOGS = "logs"  # in a folder that holds the runs of a queue (experiments/), each in a folder of its own
MEASURES = ("mAP", "average_mAP", "video_accuracy")  # that every evaluation has, null where nothing could be measured
COMPARED = ("videos", "instances", "detections")  # how many of each an mAP is of
OF_A_RUN = ("best", "last")
VAL = "val"  # that a run with held-out videos has besides
INFERENCE = "inference"
MOST = 2**53  # as a count or a time: not every larger whole number is a floating-point number


def read_results(folder: pathlib.Path, *, measured: bool = True) -> dict[str, Any]:
    """The content of a run's results.json. Fractions, None where nothing could be measured.

    Raises InputError for a folder that is no run's, a run without evaluations, and an entry that is not as this program writes
    it: which one, and where. Only with `measured` off is one of predictions, which has no evaluations, read too.
    """
    path = folder / RESULTS
    if not folder.is_dir():
        kind = "a file; name the folder it lies in" if folder.is_file() else "no such folder; name that of a run"
        raise InputError(f"{folder}: {kind}, such as output/NAME")
    if not path.exists():
        raise InputError(f"{folder}: {_why_none(folder)}")
    results = read_json(path, duplicate_keys=False)
    if not isinstance(results, dict):
        raise InputError(f"{path}: expected an object with the results of a run; is it another program's?")
    found = evaluations(results)
    if not found and not measured and is_prediction(results):
        _check_prediction(results, path)
    elif not found:
        what = "a run of --predict, which measures nothing" if "videos" in results else "no run of this program"
        raise InputError(f"{path}: is of {what}; name a folder that training or --inference_only has written")
    for name, evaluation in found.items():
        _check_evaluation(evaluation, "" if name == INFERENCE else f"{name}.", path)
    for i, point in enumerate(_a_list(results.get("history", []), "history", path)):
        where = f"history, entry {i}"
        for key in ("step", "epoch"):
            _check_count(_a_dict(point, where, path).get(key), f"{where}, {key}", path)
        for key in ("average_mAP", "video_accuracy"):
            _check_share(point.get(key), f"{where}, {key}", path)
        if point.get("val_loss") is not None:
            _check_number(point["val_loss"], f"{where}, val_loss", path)
    if results.get("select", "test") not in tuple(SELECTIONS):  # it may be of any type
        raise _not(results["select"], "select", f"one of {', '.join(SELECTIONS)}", path)
    if (selected := selected_of(results)) and selected not in found:
        raise InputError(f"{path}: has no {selected}, which it selects; use another copy, or train again")
    for name in _a_list(results.get("held_out", []), "held_out", path):
        _check_text(name, "a held-out video", path)
    for key in ("options", "versions", "data", "left_out", "extraction"):
        _a_dict(results.get(key, {}), key, path)
    seconds = results.get("seconds", 0)
    for name, value in seconds.items() if isinstance(seconds, dict) else [("", seconds)]:
        if not (type(value) in (int, float) and 0 <= value <= MOST):
            raise _not(value, f"seconds {name}".strip(), "a time", path)
    return results


def evaluations(results: Mapping[str, Any]) -> dict[str, Any]:
    """The evaluations in a results.json by name; empty for a file that has none."""
    if all(name in results for name in OF_A_RUN):
        return {name: results[name] for name in (*OF_A_RUN, *([VAL] if results.get(VAL) is not None else []))}
    return {INFERENCE: dict(results)} if all(name in results for name in ("mAP", "average_mAP")) else {}


def selected_of(results: Mapping[str, Any]) -> str:
    """The name of the evaluation that a run's best.pt, detections and timelines are of; empty for what no training has written.

    Earlier versions kept the best.
    """
    return SELECTIONS[results.get("select", "test")] if all(name in results for name in OF_A_RUN) else ""


def selection_of(results: Mapping[str, Any]) -> str:
    """Which evaluation of a training run is the selected one, and what has chosen it, in words."""
    name = selected_of(results)
    chosen = results[name]
    if name == VAL:
        by = f"the least classification loss on {amount(len(results.get('held_out', [])), 'held-out training video')}"
    elif name == "last":
        return f"last, step {chosen['step']}, which nothing has chosen"
    elif chosen["average_mAP"] is not None:
        by = "the largest average mAP on these very test videos, as papers of this field report it"
    elif chosen["video_accuracy"] is not None:
        by = "the largest video accuracy on these very test videos, for want of annotated segments"
    else:
        return f"best, step {chosen['step']}: with nothing to choose by, the last one"
    return f"{name}, step {chosen['step']}, chosen by {by}"


def is_prediction(results: Mapping[str, Any]) -> bool:
    """Whether a results.json is of videos without truth: --predict or video.localize."""
    return not evaluations(results) and "videos" in results and "detections" in results


def _check_prediction(results: Mapping[str, Any], path: pathlib.Path) -> None:
    for name, video in _a_dict(results["videos"], "videos", path).items():
        where = f"video {name!a}"
        for key in ("seconds", "fps"):
            value: Any = _a_dict(video, where, path).get(key)
            _check_number(value, f"{where}, {key}", path)
        _check_text(video.get("file", ""), f"{where}, file", path)
    _check_count(results["detections"], "detections", path)
    for name in _a_list(results.get("classes", []), "classes", path):
        _check_text(name, "a class", path)
    for key in ("method", "model_file"):
        _check_text(results.get(key, ""), key, path)


def _check_number(value: Any, where: str, path: pathlib.Path) -> None:
    if not (type(value) in (int, float) and 0 <= value <= MOST):
        raise _not(value, where, "a number from 0", path)


def _check_text(value: Any, where: str, path: pathlib.Path) -> None:
    if not isinstance(value, str):
        raise _not(value, where, "a text", path)


def _why_none(folder: pathlib.Path) -> str:
    if (folder / "last.pt").exists():
        again = shlex.join(["--resume", "--exp_name", folder.name, "--output_dir", str(folder.parent)])
        return f"has no {RESULTS}: the run has made no evaluation yet; let it go on, or continue it with {again}"
    return f"has no {RESULTS}: not the folder of a run, or of one that ended before its first evaluation; name another"


def _check_evaluation(evaluation: Any, prefix: str, path: pathlib.Path) -> None:
    plain = _a_dict(evaluation, prefix.removesuffix(".") or "the file", path)
    for key in MEASURES:
        if key not in plain:
            raise InputError(f"{path}: has no {prefix}{key}; use another copy, or evaluate the run again")
    if (plain["mAP"] is None) != (plain["average_mAP"] is None):
        raise InputError(f"{path}: of {prefix}mAP and {prefix}average_mAP, one is null; evaluate the run again")
    if prefix:
        for key in ("step", "epoch"):
            _check_count(plain.get(key), f"{prefix}{key}", path)
    _check_share(plain.get("video_accuracy"), f"{prefix}video_accuracy", path)
    for key in ("mAP", "average_mAP"):
        _check_shares(plain.get(key), f"{prefix}{key}", path)
    if plain.get("compared") is not None:  # earlier versions have not kept it
        for name in COMPARED:
            count = _a_dict(plain["compared"], f"{prefix}compared", path).get(name)
            _check_count(count, f"{prefix}compared, {name}", path)
    by_class = plain.get("per_class_AP")
    if by_class is not None:
        for name, shares in _a_dict(by_class, f"{prefix}per_class_AP", path).items():
            _check_shares(shares, f"{prefix}per_class_AP of {name!a}", path)


def _check_shares(value: Any, where: str, path: pathlib.Path) -> None:
    if value is not None:
        for name, share in _a_dict(value, where, path).items():
            if share is None:
                raise _not(share, f"{where} at {name!a}", "a number from 0 to 1", path)
            _check_share(share, f"{where} at {name!a}", path)


def _check_share(value: Any, where: str, path: pathlib.Path) -> None:
    if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
        raise _not(value, where, "a number from 0 to 1", path)


def _check_count(value: Any, where: str, path: pathlib.Path) -> None:
    if not (type(value) is int and 0 <= value <= MOST):
        raise _not(value, where, "a count", path)


def _a_dict(value: Any, where: str, path: pathlib.Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not(value, where, "an object", path)
    return value


def _a_list(value: Any, where: str, path: pathlib.Path) -> list[Any]:
    if not isinstance(value, list):
        raise _not(value, where, "a list", path)
    return value


def _not(value: Any, where: str, expected: str, path: pathlib.Path) -> InputError:
    shown = one_line(repr(value), longest=60)
    return InputError(f"{path}: {where} is {shown}, not {expected}; fix it, or evaluate the run again")
