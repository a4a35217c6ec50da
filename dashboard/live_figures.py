"""The two figures of a live session: degree of alignment over rounds, and the belief about the person's weights."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from dashboard.thin import LARGEST

BLUE, GREY = "#2a8fce", "#7f8c8d"  # to be read on white and on black


def degree(documents: Sequence[dict[str, Any]]) -> alt.LayerChart:
    """Estimated degree with its 90% interval after each round, from the start and round documents."""
    start, rounds = documents[0], documents[1:]
    rows = [{"round": 0, **start["prior_only"]}, *({"round": d["round"], **d["degree"]} for d in rounds)]
    every = max(-(-len(rows) // (LARGEST // 4)), 1)
    frame = pd.DataFrame(rows[::-every][::-1])
    line = 1 - start["eps"]
    reach = alt.Scale(domain=[0, max(len(rounds), 5)])
    x = alt.X("round:Q", title="round", axis=alt.Axis(tickMinStep=1, format="d"), scale=reach)
    y = alt.Y("mean:Q", title="degree of alignment", scale=alt.Scale(domain=[0, 1]))
    base = alt.Chart(frame)
    band = base.mark_area(opacity=0.3, color=BLUE).encode(x=x, y=alt.Y("low:Q", title=""), y2="high:Q")
    points = base.mark_line(color=BLUE, point=alt.OverlayMarkDef(color=BLUE, size=45)).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("round:Q"),
            alt.Tooltip("mean:Q", format=".3f", title="degree"),
            alt.Tooltip("low:Q", format=".3f", title="5%"),
            alt.Tooltip("high:Q", format=".3f", title="95%"),
            alt.Tooltip("p_aligned:Q", format=".2f", title=f"P(degree at least {line:g})"),
        ],
    )
    rule = alt.Chart(pd.DataFrame({"y": [line], "label": [f"aligned: {line:g}"]}))
    aligned = rule.mark_rule(strokeDash=[5, 4], color=GREY).encode(y="y:Q")
    label = rule.mark_text(align="left", baseline="bottom", dx=4, dy=-2, color=GREY).encode(
        y="y:Q", x=alt.value(0), text="label:N"
    )
    return alt.layer(band, aligned, label, points).properties(height=230)


def belief(document: dict[str, Any], attributes: Sequence[str]) -> alt.LayerChart:
    """Posterior mean of each attribute's weight and one standard deviation on either side."""
    rows = []
    for name in attributes:
        mean, sd = document["belief"][name]["mean"], document["belief"][name]["sd"]
        rows.append(
            {
                "attribute": name.replace("_", " "),
                "weight": mean,
                "low": max(mean - sd, 0.0),
                "high": min(mean + sd, 1.0),
            }
        )
    base = alt.Chart(pd.DataFrame(rows))
    y = alt.Y("attribute:N", title=None, sort=None)
    spread = base.mark_rule(strokeWidth=3, color=BLUE, opacity=0.45).encode(
        y=y, x=alt.X("low:Q", title="weight in the person's utility", scale=alt.Scale(domain=[0, 1])), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=80, color=BLUE).encode(
        y=y, x="weight:Q", tooltip=["attribute:N", alt.Tooltip("weight:Q", format=".3f")]
    )
    return alt.layer(spread, dots).properties(height=40 * len(rows))
