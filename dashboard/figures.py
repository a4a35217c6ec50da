"""Charts as altair values, from the rows of dashboard/rows.py: no sizes of a screen, no numbers of their own.

Colours have at least 3:1 contrast on the light and on the dark page and are told apart by people with a red-green or
blue-yellow deficiency; groups beyond their number repeat them with another dash.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from dashboard.thin import LARGEST, kept_steps, share

Row = dict[str, Any]
Style = dict[str, tuple[str, tuple[int, ...]]]  # by name: colour, and dash in px on and off

# Okabe and Ito's, darkened or lightened until they stand out from white and from the dark page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B5679B", "#A87F00", "#7A6FD0", "#7A7A7A")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3))
MOST_GROUPS = len(COLOURS) * len(DASHES)  # more are left to the table
NEUTRAL = "#808080"
AXIS = 80  # px below a plot for its axis and title, which a chart's height includes
DEGREES = ("true", "estimated")


class Drawn(NamedTuple):
    """A chart that is drawn again and again: its data, and a specification that was checked once."""

    data: Any  # a data frame
    spec: dict[str, Any]


def incidence(rows: Sequence[Row], groups: Sequence[str], time: str, event: str) -> Drawn:
    """Step lines of the cumulative incidence of one event with pointwise 95% bands."""
    data = _frame(thinned(drawn(rows, groups)), ("group", "t", "estimate", "low", "high"))
    return Drawn(data, _incidence(tuple(groups), time, event))


@lru_cache(maxsize=64)
def _incidence(groups: tuple[str, ...], time: str, event: str) -> dict[str, Any]:
    """The chart without data: altair takes a tenth of a second to check one, and a page draws one each second."""
    colour, dash = _styled("group", style_of(groups))
    x = alt.X("t:Q", title=time, scale=alt.Scale(zero=True, nice=False), axis=alt.Axis(tickMinStep=1, tickCount=12))
    y = alt.Y("estimate:Q", title=f"share {event}", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    tips = [
        alt.Tooltip("group:N"),
        alt.Tooltip("t:Q", title=time),
        *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("estimate", "low", "high")),
    ]
    base = alt.Chart()
    band = base.mark_area(interpolate="step-after", opacity=0.15).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(x, y, color=colour, strokeDash=dash)
    reach = base.mark_point(size=60, opacity=0).encode(x, y, tooltip=tips)  # what a pointer finds
    whole = alt.layer(band, line, reach).properties(height=300).to_dict()
    # Every layer names a data set of no rows; without it each takes the data that are sent beside.
    layers = [{key: value for key, value in layer.items() if key != "data"} for layer in whole["layer"]]
    return {"layer": layers, "height": whole["height"]}


def whiskers(
    rows: Sequence[Row], groups: Sequence[str], value: str, as_percent: bool = False, zero: bool = True
) -> alt.LayerChart:
    """Dots with 95% intervals: a line of the chart for each `row`, in the order given, groups below each other in it.

    What has no estimate stands there as its note. Names stand above their line, so that a long one takes no width.
    """
    kept = drawn(rows, ["", *groups])[:LARGEST]
    data = _frame(kept, ("row", "group", "estimate", "low", "high", "note"))
    order = list(dict.fromkeys(row["row"] for row in kept))
    inner = max((sum(row["row"] == name for row in kept) for name in order), default=1)
    step = 29 + 9 * inner  # px: the name, then a line for each group
    top = {name: i * step for i, name in enumerate(order)}
    data["y"] = [top[row["row"]] + 24 + 9 * i for row, i in zip(kept, _places(kept), strict=True)]
    names = pd.DataFrame({"row": order, "y": [top[name] + 10 for name in order]}, columns=["row", "y"])
    height = max(step * len(order), step)
    colour, _ = _styled("group", style_of(groups))
    scale = alt.Scale(domain=[0, height], reverse=True, nice=False, zero=False)
    y = alt.Y("y:Q", scale=scale, axis=None)
    axis = alt.Axis(format="%", tickCount=6) if as_percent else alt.Axis(tickCount=6)
    x = alt.X("estimate:Q", title=value, scale=alt.Scale(zero=zero), axis=axis)
    tips = [
        *(alt.Tooltip(f"{name}:N") for name in ("row", "group")),
        *(alt.Tooltip(f"{name}:Q", format=".4g") for name in ("estimate", "low", "high")),
    ]
    base = alt.Chart(data)
    known = base.transform_filter("isValid(datum.estimate)")
    line = known.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour)
    dot = known.mark_point(filled=True, size=55, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips)
    words = base.transform_filter("!isValid(datum.estimate)").mark_text(align="left", color=NEUTRAL)
    labels = alt.Chart(names).mark_text(align="left", color=NEUTRAL, fontWeight=600)
    return alt.layer(
        line,
        dot,
        words.encode(x=alt.value(4), y=y, text="note:N"),
        labels.encode(x=alt.value(0), y=y, text="row:N"),
    ).properties(height=height + AXIS)


def _places(rows: Sequence[Row]) -> list[int]:
    """The place of every row among those of the same line."""
    seen: dict[str, int] = {}
    places = []
    for row in rows:
        places.append(seen.get(row["row"], 0))
        seen[row["row"]] = places[-1] + 1
    return places


def degree(rows: Sequence[Row]) -> alt.LayerChart:
    """Median degree by round of one group, true and estimated, each with the band of the middle 90% of people."""
    data = _frame(rows[:LARGEST], ("degree", "round", "n", "median", "low", "high"))
    colour, dash = _styled("degree", degree_style())
    x = alt.X("round:Q", title="round", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("median:Q", title="degree of alignment", scale=alt.Scale(domain=[0, 1]))
    tips = [alt.Tooltip("degree:N"), alt.Tooltip("round:Q"), alt.Tooltip("n:Q", title="people")]
    tips += [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("median", "low", "high")]
    base = alt.Chart(data)
    band = base.mark_area(opacity=0.13).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    line = base.mark_line(strokeWidth=2).encode(x, y, color=colour, strokeDash=dash)
    reach = base.mark_point(size=60, opacity=0).encode(x, y, tooltip=tips)
    return alt.layer(band, line, reach).properties(height=220)


def drawn(rows: Sequence[Row], groups: Sequence[str]) -> list[Row]:
    """The rows of the groups that charts have room for."""
    shown = {"", *[name for name in groups if name][:MOST_GROUPS]}  # a row of no group belongs to all
    return [row for row in rows if row["group"] in shown]


def thinned(rows: Sequence[Row]) -> list[Row]:
    """At most LARGEST rows of step curves, one after the other by group."""
    curves = [list(curve) for _, curve in groupby(rows, key=lambda row: row["group"])]
    most = share(len(curves))
    return [c[i] for c in curves for i in kept_steps([row["estimate"] for row in c], most).tolist()]


def _frame(rows: Sequence[Row], columns: Sequence[str]) -> Any:
    return pd.DataFrame([{name: row[name] for name in columns} for row in rows], columns=list(columns))


def style_of(groups: Sequence[str]) -> Style:
    """Colour and dash by group, the same for the same place in the list."""
    names = groups[:MOST_GROUPS]
    return {name: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS)]) for i, name in enumerate(names)}


def degree_style() -> Style:
    """Colour and dash of the true and the estimated degree."""
    return {name: (COLOURS[i], DASHES[i]) for i, name in enumerate(DEGREES)}


def _styled(field: str, style: Style) -> tuple[alt.Color, alt.StrokeDash]:
    """The page's own legend says which is which: it wraps on a narrow screen, where a chart's would be cut off."""
    colours, dashes = [colour for colour, _ in style.values()], [list(dash) for _, dash in style.values()]
    return (
        alt.Color(f"{field}:N", scale=alt.Scale(domain=list(style), range=colours), legend=None),
        alt.StrokeDash(f"{field}:N", scale=alt.Scale(domain=list(style), range=dashes), legend=None),
    )
