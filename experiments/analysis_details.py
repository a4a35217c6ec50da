"""What a population's parts and a journal hold beside the times: the degree after each round and the six gaps.

Definitions 3 and 4. Shares and quantiles are over the people of a group; a person who has left is in no later round.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.gaps import GAPS
from experiments.analysis_data import Table, as_text
from experiments.survival import Z95

Floats = NDArray[np.floating[Any]]

# Of real people the recommendation hides the person's own answer: then only the sum of the two is known.
SUM = "choice_and_mediation"
QUANTILES = (0.05, 0.5, 0.95)


def details_of(table: Table, rows: NDArray[np.int64]) -> dict[str, Any]:
    """`degree` by round (true, estimated) and `gaps` of the rows of one group; None where nothing is recorded."""
    degrees = table.per_round or {}
    found = {name.removesuffix("_degree"): _by_round(values[rows]) for name, values in degrees.items()}
    return {
        "degree": found if any(found.values()) else None,
        "gaps": gaps_of(table, rows),
    }


def notes_of(table: Table) -> list[str]:
    """What has to be said of the table's details."""
    notes = []
    if not table.per_round:
        notes.append(f"{table.source}: the degree by round is not recorded")
    if not all(f"gap_{name}" in table.columns for name in GAPS):
        notes.append(f"{table.source}: the gaps are not recorded")
    if "gaps_known" in table.columns:
        known = as_text(table.columns["gaps_known"])
        estimated = int((known == "estimated").sum())
        if estimated:
            notes.append(
                f"gaps: exact of {int((known == 'exact').sum())} people, of {estimated} the machine's estimate of them"
            )
    return notes


def gaps_of(table: Table, rows: NDArray[np.int64]) -> dict[str, dict[str, Any] | None] | None:
    """The mean of each gap, in the order of the identity, with a normal 95% interval; None without evidence."""
    if not all(f"gap_{name}" in table.columns for name in GAPS):
        return None
    names = (*GAPS, SUM) if f"gap_{SUM}" in table.columns else GAPS
    return {name: _mean_of(_numbers(table.columns[f"gap_{name}"][rows])) for name in names}


def _numbers(values: NDArray[Any]) -> Floats:
    """Numbers, nan where nothing is known; text is what a CSV holds of them."""
    if values.dtype.kind == "f":
        return values
    text = as_text(values).astype(str)
    return np.where(text == "", "nan", text).astype(float)


def _mean_of(values: Floats) -> dict[str, Any] | None:
    known = values[~np.isnan(values)].astype(float)
    if not len(known):
        return None
    estimate = float(known.mean())
    se = float(known.std(ddof=1)) / math.sqrt(len(known)) if len(known) > 1 else None
    return {
        "n": len(known),
        "estimate": estimate,
        "se": se,
        "low": None if se is None else estimate - Z95 * se,
        "high": None if se is None else estimate + Z95 * se,
    }


def _by_round(values: Floats) -> list[dict[str, Any]] | None:
    """Median and the 5% and 95% quantiles of every round of (n, T + 1) degrees, nan where a person has left."""
    found = []
    for t in range(values.shape[1]):
        known = values[:, t][~np.isnan(values[:, t])].astype(float)
        if len(known):
            low, median, high = np.quantile(known, QUANTILES).tolist()
            found.append({"round": t, "n": len(known), "median": median, "low": low, "high": high})
    return found or None
