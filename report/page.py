"""The report of one run or several as one HTML file, which needs nothing else: no network, no server.

write_report(pathlib.Path("output/first/report.html"), [judge(read_run(pathlib.Path("output/first")))])
write_report(path, [judged, other], video_dir=pathlib.Path("videos"))      # beside each other, with the videos' files

The page's style and program are in assets/; its policy runs scripts by their hashes alone, and loads nothing but videos.
"""

import base64
import functools
import hashlib
import html
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from data_tools.export import safe_name
from eval.diagnosis import KINDS
from report.block import TABLE, TRUE_LABEL, EncodedRun, Limits, encode_run
from report.comparison import comparison_sections, run_names
from report.groups import video_groups
from report.judged import Judged
from report.predicted import prediction_sections
from report.section import Section
from report.sections import run_sections
from report.theme import DARK, LIGHT, chart_config
from report.timeline import CAS, COMBINED, FAINTEST, FUSED, MASK, PSEUDO_LABEL, timeline_spec
from report.vega import VEGA_LITE, load_vl_convert
from utils.atomic import write_text
from utils.errors import InputError
from utils.printable import one_line

ASSETS = pathlib.Path(__file__).resolve().parent / "assets"
VIDEO_SUFFIXES = (".mp4", ".webm", ".m4v", ".mov", ".ogv", ".mkv", ".avi")  # those that browsers play come first
PREVIEW = ".mp4"  # what a copy for browsers in a folder of predictions ends in
_EXPOSE = "window.vegaEmbed = vegaEmbed;"


def write_report(
    path: pathlib.Path, judged: Sequence[Judged], *, video_dir: pathlib.Path | None = None, limits: Limits | None = None
) -> None:
    """Write the page of one run, or of several that are compared with the first. Complete or not at all.

    Raises InputError when runs do not compare, when vl-convert-python is not installed, or when nothing can be written.
    """
    shared = (limits or Limits()).shared(len(judged))
    runs = [encode_run(one, name=name, limits=shared) for one, name in zip(judged, run_names(judged), strict=True)]
    beside = path.resolve().parent
    media = _stated_media(judged, beside) if video_dir is None else _media(judged, video_dir, beside)
    opening, others = _sections(judged)
    groups = [{key: asdict(group) for key, group in video_groups(one).items()} for one in judged]
    write_text(path, page(opening, others, runs, groups=groups, media=media))


def page(
    opening: Sequence[Section],
    others: Sequence[Section],
    runs: Sequence[EncodedRun],
    *,
    groups: Sequence[Mapping[str, Any]],
    media: dict[str, str],
) -> str:
    """The page as text: the opening, the explorer, the other sections. `media` has the address of a video's file."""
    *several, last = [run.header["name"] for run in runs]
    names = f"{', '.join(several)} and {last}" if several else last
    content = {
        "charts": {key: spec for section in (*opening, *others) for key, spec in section.charts.items()},
        "configs": {"light": chart_config(), "dark": chart_config(dark=True)},
        "runs": [run.header for run in runs],
        "timelines": [
            timeline_spec(streams=run.header["streams"], parts=run.header["parts"], known=run.header["known"])
            for run in runs
        ],
        "groups": groups,
        "media": media,
        "table": TABLE,
        "kinds": KINDS,
        "faintest": FAINTEST,
        "trueLabel": TRUE_LABEL,
        "names": {"cas": CAS, "combined": COMBINED, "fused": FUSED, "pseudoLabel": PSEUDO_LABEL, "mask": MASK},
    }
    style = _filled(_asset("page.css"), {f"{name}.{role}": colour for name, role, colour in _colours()})
    library, program = _library(), _asset("page.js")
    shown = [(s.key, s.title) for s in opening] + [("explore", "Explorer")] + [(s.key, s.title) for s in others]
    parts = {
        "policy": _policy([library, program], style, plays=bool(media)),
        "title": html.escape(f"{names}: actions over time"),
        "heading": html.escape(names),
        "style": style,
        "links": "".join(f'<li><a href="#{key}">{html.escape(title)}</a></li>' for key, title in shown),
        "explanation": html.escape(_explanation(runs)),
        "opening": "\n".join(map(_section_html, opening)),
        "sections": "\n".join(map(_section_html, others)),
        "content": script_json(content),
        "blocks": "\n".join(
            f'<script type="text/plain" id="block-{i}">{run.block}</script>' for i, run in enumerate(runs)
        ),
        "library": library,
        "program": program,
    }
    text = _filled(_asset("page.html"), parts)
    return text.encode("utf-8", "xmlcharrefreplace").decode("utf-8")  # halves of characters, which no file holds


def script_json(content: Any) -> str:
    """JSON that stands in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _sections(judged: Sequence[Judged]) -> tuple[list[Section], list[Section]]:
    """Those that the page opens with, and those after the explorer."""
    if len(judged) == 1 and judged[0].run.is_prediction:
        return prediction_sections(judged[0])
    if len(judged) == 1:
        headline, *others = run_sections(judged[0])
        return [headline], others
    each = [section for i, one in enumerate(judged) for section in run_sections(one, number=i)]
    return comparison_sections(judged), each


def _section_html(section: Section) -> str:
    title = f"{section.key}-title"
    return (
        f'<section id="{section.key}" aria-labelledby="{title}"><h2 id="{title}">{html.escape(section.title)}</h2>'
        f"{section.html}</section>"
    )


def _colours() -> Iterable[tuple[str, str, str]]:
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        for role, colour in asdict(palette).items():
            if isinstance(colour, str):
                yield name, role, colour


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with its {{names}} replaced, in one pass: what is put in is not looked at again."""
    return re.sub(r"\{\{([\w.]+)\}\}", lambda match: parts[match.group(1)], template)


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and vega-embed as a script. Raises InputError when vl-convert-python is not installed."""
    bundle = load_vl_convert().javascript_bundle(_EXPOSE, vl_version=VEGA_LITE)
    return f"(() => {{{bundle}}})();".replace("</script", "<\\/script")


def _policy(scripts: Sequence[str], style: str, *, plays: bool) -> str:
    """The page's content security policy."""

    def hashed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    rules = [
        "default-src 'none'",
        f"script-src {' '.join(map(hashed, scripts))}",
        f"style-src {hashed(style)}",
        "img-src data:",
        *(["media-src file: 'self'"] if plays else []),
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _explanation(runs: Sequence[EncodedRun]) -> str:
    """What the rows of a timeline show, of those that these runs have."""
    parts = {part for run in runs for part in run.header["parts"]}
    truth = (
        "Slim bars are true instances, hollow if no detection is correct about them. Below are the detections: the "
        "fainter, the lower the score; outlined, if correct."
        if any(run.header["known"] for run in runs)
        else "Bars are detections: the fainter, the lower the score."
    )
    sentences = [truth]
    if "combined" in parts:
        sentences.append(
            "CAS is the class activation sequence, of the classes that are true or predicted; proposals are cut from the "
            "combined sequence, which takes actionness into account."
        )
    else:
        sentences.append("Below them is how probable each class is in each snippet; proposals are cut from that.")
    if "actionness" in parts:
        sentences.append("Actionness is what each stream says, and their fusion.")
    if "pseudo_label" in parts:
        mask = ", and the weight of the adaptive mask" if "mask" in parts else ""
        sentences.append(f"Targets are what training would take this video for: the pseudo label{mask}.")
    return " ".join(sentences)


def _stated_media(judged: Sequence[Judged], beside: pathlib.Path) -> dict[str, str]:
    """{video: address} of the files that predictions were made of, or their copies, as far as they are still there."""
    stated: dict[str, list[pathlib.Path]] = {}
    for one in judged:
        for name, video in one.run.results["videos"].items() if one.run.is_prediction else ():
            copy = one.run.folder / f"{safe_name(name)}{PREVIEW}"
            stated[name] = [copy, *([pathlib.Path(video["file"])] if video.get("file") else [])]
    there = {name: [file for file in files if file.is_file()] for name, files in stated.items()}
    return {name: _address(files[0], beside) for name, files in there.items() if files}


def _address(file: pathlib.Path, beside: pathlib.Path) -> str:
    """A file's address, relative to the folder of a report."""
    return quote(os.path.relpath(file.resolve(), beside), errors="surrogateescape")


def _media(judged: Sequence[Judged], folder: pathlib.Path, beside: pathlib.Path) -> dict[str, str]:
    """{video: address, relative to the report's folder} of the files of the videos' names. Raises InputError without any."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"--video_dir {folder}: can't be read ({error.strerror}); check the path") from None
    rank = {suffix: i for i, suffix in enumerate(VIDEO_SUFFIXES)}
    playable = [file for file in files if file.suffix.lower() in rank]
    playable.sort(key=lambda file: -rank[file.suffix.lower()])
    by_name = {file.stem: file for file in playable}  # of several, the one that browsers play best
    names = {name for one in judged for name in one.run.timelines.videos}
    found = {name: _address(file, beside) for name, file in by_name.items() if name in names}
    if not found:
        raise InputError(
            f"--video_dir {folder}: no file in it is called like a video of this run; expected names such as "
            f"{one_line(min(names, default='VIDEO'))}.mp4"
        )
    return found
