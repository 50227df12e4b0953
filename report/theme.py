"""Colours and type of every chart, as Vega-Lite configurations: specs name roles, never colours, so that all work in the dark.

vl_convert.vegalite_to_svg(spec, config=chart_config())                 # on white paper
vegaEmbed(element, spec, {config: chart_config(dark=True)})             # on a dark page

Categories are the colours of Okabe and Ito (2008), which people with any colour vision tell apart, in an order that keeps
neighbours far from each other; the dark ones are lightened to 3:1 on the page.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours by role, as CSS writes them."""

    text: str
    faint: str  # text of less weight
    grid: str
    ground: str  # what charts are drawn on
    category: tuple[str, ...]  # classes, runs, kinds
    ordinal: tuple[str, ...]  # actionness: each stream, then their fusion; targets
    ramp: tuple[str, ...]


LIGHT = Palette(
    text="#1b1f24",
    faint="#59636e",
    grid="#e3e6ea",
    ground="#ffffff",
    category=("#0072b2", "#d55e00", "#009e73", "#b0508c", "#b87d00", "#2a8fc9", "#6f6a00", "#5b5b5b"),
    ordinal=("#b0508c", "#b87d00", "#1b1f24"),
    ramp=("#dcebf7", "#0072b2", "#00304d"),
)
DARK = Palette(
    text="#e8eaed",
    faint="#a3abb5",
    grid="#333a43",
    ground="#171b21",
    category=("#4fa8e0", "#f0803c", "#2fc39a", "#dd8fbd", "#e6a93a", "#8fd0f5", "#cfc64a", "#b5b5b5"),
    ordinal=("#dd8fbd", "#e6a93a", "#e8eaed"),
    ramp=("#1d2f3f", "#4fa8e0", "#d6ecfb"),
)


def chart_config(*, dark: bool = False, font: str = "system-ui, sans-serif", font_size: float = 12) -> dict[str, Any]:
    """The configuration to draw a spec with; sizes are in pixels."""
    p = DARK if dark else LIGHT
    text = {"labelFont": font, "titleFont": font, "labelFontSize": font_size - 1, "titleFontSize": font_size}
    colour = {"labelColor": p.faint, "titleColor": p.text}
    return {
        "background": p.ground,
        "font": font,
        "view": {"stroke": None},
        "axis": {
            **text,
            **colour,
            "titleFontWeight": "normal",
            "gridColor": p.grid,
            "domainColor": p.faint,
            "tickColor": p.grid,
        },
        "legend": {**text, **colour, "titleFontWeight": 600, "symbolStrokeWidth": 2.5, "labelLimit": 220},
        "title": {
            "font": font,
            "color": p.text,
            "fontSize": font_size,
            "fontWeight": 600,
            "anchor": "start",
            "subtitleColor": p.faint,
        },
        "header": {**text, **colour},
        "text": {"color": p.text, "font": font, "fontSize": font_size - 1},
        "mark": {"color": p.category[0]},
        "rule": {"color": p.faint},
        "range": {"category": list(p.category), "ordinal": list(p.ordinal), "ramp": list(p.ramp)},
        "style": {"ink": {"stroke": p.text}, "outline": {"fill": "transparent", "stroke": p.text}},
    }
