"""The honesty figures of a population as columns of its rows (docs/honesty.md)."""

from typing import Any

import pyarrow as pa

from calib import honesty
from calib.setup import Setup
from calib.state import State

# After a row's contract and degrees; null where the engine predicts no answers, or nothing was answered or compared.
COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("answers", pa.int64()),
    ("log_score", pa.float64()),
    ("log_baseline", pa.float64()),
    ("alarm", pa.bool_()),
    ("alarm_round", pa.int64()),
    ("highest_log_e", pa.float64()),
    ("surprise_p", pa.float64()),
    ("to_drop", pa.int64()),
    ("utility_licence", pa.string()),
)


def honesty_columns(setup: Setup, state: State) -> dict[str, pa.Array]:
    """COLUMNS of everybody in the state after their last round."""
    rows = [_row(setup, state, i) for i in range(len(state.people))]
    return {name: pa.array([row.get(name) for row in rows], kind) for name, kind in COLUMNS}


def _row(setup: Setup, state: State, i: int) -> dict[str, Any]:
    found = honesty.figures(setup, state, i)
    if found is None or found["prequential"] is None:
        return {}
    score, alarm, check, compared = (
        found[k] or {} for k in ("prequential", "alarm", "predictive_check", "consistency")
    )
    return {
        "answers": score["answers"],
        "log_score": score["log_score"],
        "log_baseline": score["baseline"],
        "alarm": alarm["raised"],
        "alarm_round": alarm["round"],
        "highest_log_e": alarm["highest_log_e"],
        "surprise_p": check.get("surprise_p"),
        "to_drop": compared.get("to_drop"),
        "utility_licence": found["utility_licence"],
    }
