"""Visual style of figures and page: method colours, themes, templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from ipgl.core.colours import PALETTE

# The tracking server's colours, so that a method looks the same there; symbol and dash tell apart what colour
# alone would not.
OKABE_ITO = dict(
    zip(("blue", "vermillion", "bluish green", "reddish purple", "orange", "sky blue"), PALETTE, strict=True)
)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

# Between the two themes' text colours: lines that belong to no method read on either page.
NEUTRAL = "#868B94"

FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True)
class MethodStyle:
    """How one method is drawn, everywhere.

    Attributes:
        colour: Hex colour.
        symbol: Plotly marker symbol.
        dash: Plotly line dash; solid until the colours are used up.
    """

    colour: str
    symbol: str
    dash: str


@dataclass(frozen=True)
class Theme:
    """Page and figure colours.

    Attributes:
        page: Background of the page.
        surface: Background of cards and figures on the page.
        text: Body text; at least 7:1 on `page` and `surface`.
        muted: Secondary text; at least 4.5:1 on both.
        rule: Borders and axis lines.
        grid: Grid lines.
        accent: Links and marks that belong to no method.
    """

    name: str
    page: str
    surface: str
    text: str
    muted: str
    rule: str
    grid: str
    accent: str


LIGHT = Theme("light", "#FAFAF7", "#FFFFFF", "#1B1D21", "#5A606B", "#D9D9D2", "#ECECE7", "#005B8F")
DARK = Theme("dark", "#111317", "#181B20", "#ECEDEE", "#A3A9B3", "#333840", "#272B32", "#6CBFF0")


def method_styles(labels: Sequence[str]) -> dict[str, MethodStyle]:
    """A style for each label; it depends on the label's place in the study file alone."""
    colours = list(OKABE_ITO.values())
    return {
        label: MethodStyle(
            colour=colours[place % len(colours)],
            # The symbols shift by one each round, so that no colour meets the same symbol twice.
            symbol=SYMBOLS[(place + place // len(colours)) % len(SYMBOLS)],
            dash=DASHES[place // len(colours) % len(DASHES)],
        )
        for place, label in enumerate(labels)
    }


def translucent(colour: str, opacity: float) -> str:
    """A hex colour as `rgba(...)`."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity:g})"


def template(theme: Theme) -> go.layout.Template:
    """The Plotly template of a theme."""
    axis = {
        "gridcolor": theme.grid,
        "linecolor": theme.rule,
        "tickcolor": theme.rule,
        "zeroline": False,
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "tickfont": {"size": 13, "color": theme.muted},
        "title": {"font": {"size": 14, "color": theme.text}, "standoff": 10},
        "automargin": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 14, "color": theme.text},
            "title": {
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "pad": {"l": 16},
                "font": {"size": 18},
                "subtitle": {"font": {"size": 13, "color": theme.muted}},
            },
            "paper_bgcolor": theme.surface,
            "plot_bgcolor": theme.surface,
            "xaxis": axis | {"showgrid": False},
            "yaxis": axis,
            "legend": {"font": {"size": 13, "color": theme.text}, "bgcolor": "rgba(0, 0, 0, 0)"},
            "hoverlabel": {
                "bgcolor": theme.surface,
                "bordercolor": theme.rule,
                "font": {"family": FONT, "size": 13, "color": theme.text},
                "align": "left",
                "namelength": -1,
            },
            "annotationdefaults": {"font": {"size": 12, "color": theme.muted}, "showarrow": False},
            "modebar": {"color": theme.muted, "activecolor": theme.accent, "bgcolor": "rgba(0, 0, 0, 0)"},
        },
        data={"scatter": [go.Scatter(marker={"line": {"color": theme.surface}})]},
    )


def legend_mark(style: MethodStyle) -> tuple[str, str]:
    """The line's dashes and the symbol's outline for an SVG key of 26 x 12 with its middle at (13, 6)."""
    dashes = dict(zip(DASHES, ("none", "6 3", "2 2", "6 2 2 2", "9 3", "9 2 2 2"), strict=True))
    outlines = dict(
        zip(
            SYMBOLS,
            (
                "M9,6a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",
                "M9.5,2.5h7v7h-7z",
                "M13,1l5,5l-5,5l-5,-5z",
                "M13,1.5l4.5,8h-9z",
                "M13,10.5l-4.5,-8h9z",
                "M13,1.5l4.3,3.1l-1.6,5.1h-5.4l-1.6,-5.1z",
            ),
            strict=True,
        )
    )
    return dashes[style.dash], outlines[style.symbol]
