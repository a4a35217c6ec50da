"""Tests and models of the cause-specific hazard of alignment by statsmodels: log-rank and Cox.

Whoever leaves by another event is censored at that time. A leaf: statsmodels takes 3 s to import.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.duration.survfunc import survdiff

from calib.errors import UserError
from calib.timing import ALIGNED
from experiments.analysis_data import Table, as_numbers, as_text
from experiments.analysis_groups import Group, Question
from experiments.survival import Z95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def logrank(groups: list[Group], notes: list[str]) -> dict[str, Any] | None:
    """Log-rank test of the cause-specific hazards of alignment: whoever leaves otherwise is censored there."""
    status = np.concatenate([g.event == ALIGNED for g in groups])
    if len(groups) < 2 or not status.any():
        return None
    time = np.concatenate([g.time for g in groups])
    code = np.repeat(np.arange(len(groups)), [len(g.time) for g in groups])
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            chi2, p = survdiff(time, status.astype(int), code)
    except (np.linalg.LinAlgError, ValueError, IndexError):
        chi2, p = math.nan, math.nan
    if not math.isfinite(chi2):
        notes.append("no log-rank test: at no time of an alignment was somebody of another group still at risk")
        return None
    return {"chi2": float(chi2), "df": len(groups) - 1, "p": float(p)}


def cox(
    table: Table,
    question: Question,
    by: Sequence[str],
    groups: list[Group],
    time: Floats,
    event: Ints,
    notes: list[str],
) -> list[dict[str, Any]]:
    """Cause-specific proportional hazards of alignment on covariates and groups (the first group is the reference)."""
    terms: dict[str, Floats] = {}
    for name in question.covariates:
        terms |= _covariate(table, name)
    for group in groups[1:]:
        member = np.zeros(len(time))
        member[group.rows] = 1.0
        terms[f"{','.join(by)}[{group.name}]"] = member
    status = event == ALIGNED
    if not terms or not status.any():
        return []
    x = np.column_stack(list(terms.values()))
    centred = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-300)
    if np.linalg.matrix_rank(centred) < x.shape[1]:
        notes.append("no Cox model: a covariate is constant, or follows from the others and the groups")
        return []
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fit = PHReg(time, x, status=status.astype(int), ties=question.ties).fit(disp=0)
            coef, se = np.asarray(fit.params), np.asarray(fit.bse)
    except (np.linalg.LinAlgError, ValueError):
        notes.append("no Cox model: its likelihood has no single maximum on these data")
        return []
    rows = []
    for i, name in enumerate(terms):
        # A covariate that separates the aligned from the others drives its coefficient off; 12 sd is beyond any effect.
        known = bool(
            np.isfinite(se[i]) and se[i] > 0 and abs(coef[i]) * x[:, i].std() < 12 and se[i] * x[:, i].std() < 12
        )
        if not known:
            notes.append(f"Cox: {name} has no finite estimate: nobody, or everybody, aligned on one side of it")
        beta, error = float(coef[i]), float(se[i])
        rows.append(
            {
                "term": name,
                "coef": beta if known else None,
                "se": error if known else None,
                "p": float(fit.pvalues[i]) if known else None,
                "ties": question.ties,
                "hazard_ratio": math.exp(beta) if known else None,
                "low": math.exp(beta - Z95 * error) if known else None,
                "high": math.exp(beta + Z95 * error) if known else None,
            }
        )
    return rows


def _covariate(table: Table, name: str) -> dict[str, Floats]:
    """A column of numbers as it is; a column of words as a term for each but the first."""
    words = as_text(table.column(name))
    try:
        words[words != ""].astype(float)
    except ValueError:
        pass
    else:
        return {name: as_numbers(table, name, "covariate")}
    empty = np.flatnonzero(words == "")
    if len(empty):
        raise UserError(
            f"{table.where(int(empty[0]))}: the covariate is missing (column {name}): fill it in or leave it out"
        )
    levels = sorted(set(words.tolist()))
    if len(levels) > 20:
        raise UserError(
            f"{table.source}: column {name} has {len(levels)} different words: a covariate takes 20 at most"
        )
    return {f"{name}[{level}]": (words == level).astype(float) for level in levels[1:]}
