"""Rows and charts of the Analyse page: they add up, they are thinned before they are sent, colours can be told."""

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import answers, data, figures, rows, show
from dashboard.thin import LARGEST, kept_steps
from experiments.analysis import Question, analyse
from experiments.analysis_data import read_table
from experiments.survival import survival
from populations import made_up_rows, write_population


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand people in two conditions."""
    conditions = [made_up_rows(50_000, i, role=role) for i, role in enumerate(("tool", "advisor"))]
    return write_population(tmp_path_factory.mktemp("large") / "large", *conditions, chunk=2_500)


def at(steps: Sequence[dict[str, Any]], t: float) -> float:
    """A step curve's value."""
    return next((row["estimate"] for row in reversed(steps) if row["t"] <= t), 0.0)


def test_what_happened_and_what_did_not_add_up_to_one(tmp_path: Path) -> None:
    folder = write_population(
        tmp_path / "p", *(made_up_rows(400, i, role=r) for i, r in enumerate(("tool", "advisor")))
    )
    found = analyse(read_table(str(folder)), Question(), models=False)
    assert rows.causes(found) == [1, 2]
    curves = {code: rows.incidence(found, code) for code in rows.causes(found)}
    table = read_table(str(folder))
    from experiments.survival import count

    for group in found["groups"]:
        own = table.columns["role"] == group["name"]
        counts = count(table.columns["rounds"][own].astype(float), table.columns["event"][own], [1, 2])
        for t, left in zip(counts.times, survival(counts), strict=True):
            happened = sum(at([r for r in curve if r["group"] == group["name"]], t) for curve in curves.values())
            assert happened + left == pytest.approx(1.0, abs=1e-12)
        for curve in curves.values():
            own_rows = [r for r in curve if r["group"] == group["name"]]
            assert (own_rows[0]["t"], own_rows[0]["estimate"]) == (0, 0.0)
            assert own_rows[-1]["t"] == group["watched_to"] == 12
            assert [r["estimate"] for r in own_rows] == sorted(r["estimate"] for r in own_rows)


@given(st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=300).map(sorted), st.integers(2, 60))
def test_thinned_steps_keep_their_ends_and_the_largest_jump(values: list[float], most: int) -> None:
    kept = kept_steps(values, most)
    assert len(kept) == len(set(kept.tolist())) <= max(most, 0) or len(values) <= most
    assert kept[0] == 0 and kept[-1] == len(values) - 1 and list(kept) == sorted(kept)
    if len(values) > 1 and most >= 6:
        largest = int(np.argmax(np.abs(np.diff(values))))
        jumps = np.abs(np.diff(np.array(values)[kept]))
        assert jumps.max() >= abs(values[largest + 1] - values[largest]) - 1e-15
        assert {largest, largest + 1} <= set(kept.tolist()) or np.sum(np.diff(values) == np.diff(values)[largest]) > 1


def charts_of(found: dict[str, Any], time_unit: str) -> list[Any]:
    names = [g["name"] for g in found["groups"]]
    charts = [
        figures.incidence(rows.incidence(found, code), names, time_unit, "aligned") for code in rows.causes(found)
    ]
    charts += [figures.whiskers(make(found), names, "x") for make in (rows.restricted_means, rows.false_declarations)]
    charts += [figures.whiskers(rows.gaps(found), names, "x")]
    return charts + [figures.degree(rows.degree(group)) for group in found["groups"]]


def sent(chart: Any) -> int:
    """The rows of all data that a chart carries."""
    if isinstance(chart, figures.Drawn):
        return len(chart.data)
    return sum(len(values) for values in chart.to_dict()["datasets"].values())


def test_no_chart_of_a_hundred_thousand_people_has_more_than_two_thousand_rows(large: Path) -> None:
    table = read_table(str(large), details=True)
    found = analyse(table, Question(time="attention_s"), models=False)
    assert len(rows.incidence(found, 1)) > 40_000
    for chart in charts_of(found, "attention (s)"):
        assert 0 < sent(chart) <= LARGEST
    thinned = figures.thinned(rows.incidence(found, 1))
    for name in ("tool", "advisor"):
        whole = [r for r in rows.incidence(found, 1) if r["group"] == name]
        kept = [r for r in thinned if r["group"] == name]
        assert kept[0] == whole[0] and kept[-1] == whole[-1]
        # Between two kept points the drawing is flat, the curve is not: never by more than half a percent.
        worst = max(abs(at(kept, r["t"]) - r["estimate"]) for r in whole[:: len(whole) // 400])
        assert worst < 0.005


def test_a_hundred_thousand_people_open_in_seconds_and_then_at_once(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_DATA", str(large.parent))
    state = data.version_of("large")
    begun = time.perf_counter()
    first = answers.answer("large", state, Question())
    opened = time.perf_counter() - begun
    assert first["n"] == 100_000 and opened < 10
    begun = time.perf_counter()
    assert answers.answer("large", state, Question()) is first
    assert time.perf_counter() - begun < 0.01
    manifest = large / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace(state, "f" * 64))
    try:
        assert data.version_of("large") == "f" * 64
    finally:
        manifest.write_text(text)


def test_many_groups_are_told_apart_until_there_is_no_room() -> None:
    style = figures.style_of([f"g{i}" for i in range(60)])
    assert len(style) == figures.MOST_GROUPS == len(set(style.values()))
    many = [{"row": f"g{i}", "group": f"g{i}", "estimate": 1.0, "low": 0.5, "high": 1.5, "note": ""} for i in range(60)]
    assert len(figures.drawn(many, [row["group"] for row in many])) == figures.MOST_GROUPS


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("page", ["#ffffff", "#0e1117", "#191816"])
@pytest.mark.parametrize("colour", [*figures.COLOURS, figures.NEUTRAL])
def test_colours_stand_out_from_a_light_and_a_dark_page(colour: str, page: str) -> None:
    lighter, darker = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def test_a_gap_without_evidence_stands_there_as_such() -> None:
    gap = {"n": 3, "estimate": 0.1, "se": None, "low": None, "high": None}
    found = {"groups": [{"name": "a", "gaps": {"capability": gap, "menu": None, "choice_and_mediation": None}}]}
    first, second = rows.gaps(found)
    assert (first["row"], first["estimate"], first["note"]) == ("capability", 0.1, "")
    assert (second["row"], second["estimate"], second["note"]) == ("menu", None, "no evidence")


def test_the_file_of_a_figure_holds_every_row() -> None:
    text = rows.csv_text([{"a": 'x,"y"\n', "b": 1.5}, {"a": "z", "b": None}])
    assert list(csv.DictReader(io.StringIO(text))) == [{"a": 'x,"y"\n', "b": "1.5"}, {"a": "z", "b": ""}]


@given(st.text(min_size=1))
def test_escaped_text_is_the_text(text: str) -> None:
    """Every mark of markdown is escaped, and nothing else is changed but white space."""
    escaped = show.literal(text)
    plain, i = "", 0
    while i < len(escaped):
        i += escaped[i] == "\\"
        plain += escaped[i]
        i += 1
    assert plain.replace(show.JOIN, "") == " ".join(text.split()).replace(show.JOIN, "")
