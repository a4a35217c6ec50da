"""The rows of every figure, flat and complete, out of an answer of the analysis; nothing is computed here."""

from collections.abc import Mapping, Sequence
from typing import Any

from calib.gaps import GAPS
from experiments.analysis_details import SUM

Row = dict[str, Any]
Answer = Mapping[str, Any]

EVENTS = {1: "aligned", 2: "gave up", 3: "device failure"}
GAP_NAMES = {name: name.replace("_", " ") for name in GAPS} | {SUM: "choice and mediation"}
UNITS = {
    "rounds": "rounds",
    "attention_s": "attention (s)",
    "wall_s": "wall clock (s)",
    "robot_s": "robot running (s)",
    "effort": "effort (actions and questions)",
}


def event_name(code: int) -> str:
    """An event code in words."""
    return EVENTS.get(code, f"event {code}")


def unit_of(time: str, version: str | None) -> str:
    """The time axis of a column: the clock with its unit, or the column's own name."""
    bare = time.removeprefix(f"{version}_") if version else time
    return UNITS.get(bare, bare)


def causes(found: Answer) -> list[int]:
    """The event codes that occur, aligned first, which is there even if nobody aligned."""
    others = (int(code) for code, number in found["events"].items() if number and code not in ("0", "1"))
    return [1, *sorted(others)]


def incidence(found: Answer, code: int) -> list[Row]:
    """Cumulative incidence of one event by group, from time 0 to the last time that somebody was watched."""
    rows: list[Row] = []
    for group in found["groups"]:
        steps = [
            {"group": group["name"], "t": s["t"], "estimate": s["estimate"], "low": s["low"], "high": s["high"]}
            for s in group["cif"]
            if s["event"] == code
        ]
        if not steps or steps[0]["t"] > 0:
            steps.insert(0, {"group": group["name"], "t": 0, "estimate": 0.0, "low": None, "high": None})
        if group["watched_to"] > steps[-1]["t"]:
            steps.append({**steps[-1], "t": group["watched_to"]})
        rows += steps
    return rows


def restricted_means(found: Answer) -> list[Row]:
    """Restricted mean time of every group."""
    return [_whisker(g["name"], g["name"], g["rmst"], "") for g in found["groups"]]


def versions(answers: Mapping[str, Answer | str]) -> list[Row]:
    """Restricted mean time by version and group; a version that was refused has one row without an estimate."""
    rows: list[Row] = []
    for version, found in answers.items():
        if isinstance(found, str):
            rows.append(_whisker(version, "", None, "not available"))
        else:
            rows += [_whisker(version, g["name"], g["rmst"], "") for g in found["groups"]]
    return rows


def false_declarations(found: Answer) -> list[Row]:
    """Share of the declarations that were false, of every group."""
    rows = []
    for g in found["groups"]:
        rate, interval = g["false_declaration_rate"], g["false_declaration_interval"] or (None, None)
        known = None if rate is None else {"estimate": rate, "low": interval[0], "high": interval[1]}
        missing = "nobody declared" if g["declarations"] == 0 else "no evidence"
        rows.append(_whisker(g["name"], g["name"], known, missing) | {"declarations": g["declarations"]})
    return rows


def gaps(found: Answer) -> list[Row]:
    """Mean of each gap by group, in the order of the identity; [] where none are recorded."""
    rows = []
    for g in found["groups"]:
        for name, gap in (g["gaps"] or {}).items():
            if name != SUM or gap is not None:
                row = _whisker(GAP_NAMES[name], g["name"], gap, "no evidence")
                rows.append(row | {"people": gap["n"] if gap else 0})
    order = list(GAP_NAMES.values())
    return sorted(rows, key=lambda row: order.index(row["row"]))


def degree(group: Mapping[str, Any]) -> list[Row]:
    """Degree by round of one group, true and estimated; [] where none is recorded."""
    return [
        {"group": group["name"], "degree": kind, **{k: r[k] for k in ("round", "n", "median", "low", "high")}}
        for kind, rounds in (group["degree"] or {}).items()
        for r in rounds or ()
    ]


def table(found: Answer) -> list[Row]:
    """The table of groups: people, events, median and restricted mean."""
    rows = []
    for g in found["groups"]:
        mean = g["rmst"]
        row: Row = {"group": g["name"], "people": g["n"]}
        row |= {event_name(code): g["events"].get(str(code), 0) for code in causes(found)}
        row |= {"censored": g["events"]["0"], "median": g["median"]}
        row |= {
            f"mean to {mean['tau']:g}": mean["estimate"],
            "se": mean["se"],
            "low": mean["low"],
            "high": mean["high"],
        }
        rows.append(row)
    return rows


def contrasts(found: Answer) -> list[Row]:
    """Differences of restricted means, every pair of groups."""
    return [
        {"a": c["a"], "b": c["b"], "a − b": c["rmst_difference"]["estimate"]}
        | {name: c["rmst_difference"][name] for name in ("se", "low", "high")}
        | {"people in both": c["shared_people"]}
        for c in found["contrasts"]
    ]


def terms(found: Answer, model: str) -> list[Row]:
    """Terms of a model, `cox` or `fine_gray`."""
    names = ("term", "coef", "se", "p", "hazard_ratio", "low", "high")
    return [{name: c[name] for name in names} for c in found[model]]


def csv_text(rows: Sequence[Row]) -> str:
    """Rows as a CSV file; what is not known is empty."""
    import csv
    import io

    names = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _whisker(row: str, group: str, found: Mapping[str, Any] | None, missing: str) -> Row:
    known = found or {"estimate": None, "low": None, "high": None}
    estimates = {name: known[name] for name in ("estimate", "low", "high")}
    return {"row": row, "group": group, **estimates, "note": "" if found else missing}
