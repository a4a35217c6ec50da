"""What the honesty figures of a population say of each condition (docs/honesty.md)."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from calib.checks import ALPHA
from experiments.honesty import COLUMNS
from experiments.parts import CONDITION, decoded


def of_population(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What the parts of a manifest say, condition by condition; [] where the engine predicts no answers."""
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
