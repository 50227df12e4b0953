"""Detections and instances as an ELAN document (.eaf), to look at and correct: a tier for each class.

data = eaf_bytes(cues, folder=pathlib.Path("out"), media=pathlib.Path("videos/a.mp4"))

Annotations of one tier may not overlap, so that overlapping detections of a class lie on further tiers: "Dive", "Dive (2)". The
value of an annotation is the score. Instances of the ground truth lie on "Dive, reference". Needs the package pympi-ling.
"""

import io
import mimetypes
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree

from formats.subtitles import LONGEST_LABEL, Cue, visible
from utils.errors import InputError
from utils.printable import one_line

AUTHOR = "SAL"
_NO_XML = re.compile("[\ufffe\uffff]")  # what one_line leaves and XML forbids
Interval = tuple[int, int, str]  # milliseconds, value


def check_available() -> None:
    """Raise InputError when pympi-ling is not installed."""
    try:
        import pympi.Elan  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("--format eaf needs pympi-ling: pip install pympi-ling") from None


def eaf_bytes(cues: Iterable[Cue], *, folder: pathlib.Path, media: pathlib.Path | None = None) -> bytes:
    """The document to write into `folder`; `media` is the video that it opens. Raises InputError without pympi-ling."""
    check_available()
    from pympi.Elan import Eaf, to_adocument

    document = Eaf(author=AUTHOR)
    document.remove_tier("default")
    for name, intervals in _tiers(cues).items():
        document.add_tier(name)
        for start, end, value in intervals:
            document.add_annotation(name, start, end, value)
    if media is not None:
        kind = mimetypes.guess_type(media.name)[0] or "video/mp4"
        relative = pathlib.Path(os.path.relpath(os.path.realpath(media), os.path.realpath(folder))).as_posix()
        document.add_linked_file(pathlib.Path(os.path.realpath(media)).as_uri(), relpath=relative, mimetype=kind)
    _sort_time_slots(document)
    document.properties = [("lastUsedAnnotation", len(document.annotations))]  # ELAN numbers new ones from here
    written = io.BytesIO()
    ElementTree.ElementTree(to_adocument(document, True)).write(written, xml_declaration=True, encoding="UTF-8")
    return written.getvalue()


def _sort_time_slots(document: Any) -> None:
    """Name and list the moments that annotations refer to by time, as ELAN does; pympi has them as they were added."""
    ordered = sorted(document.timeslots.items(), key=lambda slot: slot[1])
    new = {old: f"ts{number}" for number, (old, _) in enumerate(ordered, 1)}
    document.timeslots = {new[old]: time for old, time in ordered}
    for aligned, *_ in document.tiers.values():
        for key, (start, end, *rest) in aligned.items():
            aligned[key] = (new[start], new[end], *rest)


def _tiers(cues: Iterable[Cue]) -> dict[str, list[Interval]]:
    """{name of a tier: intervals that do not overlap}, a class's tiers one after the other, classes by name."""
    by_class: dict[str, list[list[Interval]]] = {}
    for start, end, cue in visible(cues, per_second=1000):
        label = _NO_XML.sub("?", one_line(cue.label, LONGEST_LABEL))
        name, value = (f"{label}, reference", label) if cue.score is None else (label, f"{cue.score:.4f}")
        lanes = by_class.setdefault(name or "?", [])
        free = next((lane for lane in lanes if lane[-1][1] <= start), None)
        if free is None:
            free = []
            lanes.append(free)
        free.append((start, end, value))
    tiers: dict[str, list[Interval]] = {}
    for name in sorted(by_class):
        for number, lane in enumerate(by_class[name], 1):
            own = name if number == 1 else f"{name} ({number})"
            while own in tiers or (number > 1 and own in by_class):
                own += "'"
            tiers[own] = lane
    return tiers
