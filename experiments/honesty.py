"""The honesty figures of a population: columns of its rows, and what they say of each condition (docs/honesty.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calib import honesty
from calib.checks import ALPHA
from calib.rounds import State
from calib.setup import Setup

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


def of_population(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What the parts of a manifest say, condition by condition; [] where the engine predicts no answers."""
    from experiments.parts import CONDITION, decoded

    wanted = [*CONDITION, *(name for name, _ in COLUMNS)]
    tables = [decoded((folder / part["file"]).read_bytes(), wanted) for part in manifest["parts"]]
    table = pa.concat_tables(tables).combine_chunks()
    columns = {name: np.array(table.column(name).to_pylist(), object) for name in table.column_names}
    there = np.array([v is not None for v in columns["answers"]])
    labels = [tuple(columns[name][i] for name in CONDITION) for i in range(len(there))]
    found = []
    for label in dict.fromkeys(labels):
        who = there & np.array([other == label for other in labels])
        if not who.any():
            continue
        gain = (columns["log_score"] - columns["log_baseline"])[who].astype(float)
        num = len(gain)
        licences = columns["utility_licence"][who]
        found.append(
            {
                **dict(zip(CONDITION, label, strict=True)),
                "people": num,
                "gain": {"mean": float(gain.mean()), "se": float(gain.std() / np.sqrt(num))},
                "alarms": int(np.sum(columns["alarm"][who].astype(bool))),
                "false_alarm_rate_at_most": ALPHA,
                "utility_licence": {str(k): int(np.sum(licences == k)) for k in ("yes", "partly", "no")},
            }
        )
    return found
