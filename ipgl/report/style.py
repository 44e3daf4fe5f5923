"""One look for every figure and for the page around them: method colours, themes, templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

# Okabe and Ito's colour-blind-safe set. Its black vanishes on a dark page and its yellow on a white one, so
# those two are left out; symbol and dash tell apart what colour alone would not.
OKABE_ITO = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "bluish green": "#009E73",
    "reddish purple": "#CC79A7",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
}
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
        surface: Background of what stands on the page.
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
