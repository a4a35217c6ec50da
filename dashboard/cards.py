"""What a person reads before they answer, as HTML. Every word from a scenario or a file is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any


def outcome(rows: Sequence[Mapping[str, Any]]) -> str:
    """An outcome card: one line an attribute."""
    lines = "".join(
        f"<tr><td>{words(r['attribute'])}</td><td class='figure'>{r['value']:g} {escape(_unit(r['unit']))}</td></tr>"
        for r in rows
    )
    return f"<table class='card'>{lines}</table>"


def settings(s: Mapping[str, Any]) -> str:
    """Settings as a person may read them."""
    twice = {1: "once", 2: "twice"}.get(s["passes"], f"{s['passes']} times")
    edge = ", along the walls too" if s["edge"] else ""
    motors = f"suction {s['fan']} %, brush {s['brush']} %, {s['speed'] / 10:g} cm/s"
    return f"{escape(str(s['pattern']))} {twice}{edge}; {motors}"


def words(name: str) -> str:
    """A name of the scenario as words."""
    return escape(str(name).replace("_", " "))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of plain values; what is not known is said so."""
    cells = ["<tr>" + "".join(f"<th>{escape(h)}</th>" for h in head) + "</tr>"]
    for row in rows:
        cells.append("<tr>" + "".join(f"<td>{escape('-' if v is None else str(v))}</td>" for v in row) + "</tr>")
    return f"<table class='figures'>{''.join(cells)}</table>"


def _unit(unit: str) -> str:
    return {"g/m2": "g/m²", "count": ""}.get(unit, unit)
