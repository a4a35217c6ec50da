"""Log-rank and Cox of the cause-specific hazard of alignment by statsmodels, Fine and Gray of its incidence.

For log-rank and Cox whoever leaves by another event is censored at that time; for Fine and Gray they stay, unaligned.
A leaf: statsmodels takes 3 s to import.
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
from calib.timing import ADMINISTRATIVE, ALIGNED
from experiments import fine_gray
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


def terms_of(
    table: Table, question: Question, by: Sequence[str], groups: list[Group], event: Ints, notes: list[str]
) -> dict[str, Floats]:
    """(N,) of each term: covariates, then groups (the first is the reference); {} where no model can be fitted."""
    terms: dict[str, Floats] = {}
    for name in question.covariates:
        terms |= _covariate(table, name)
    for group in groups[1:]:
        member = np.zeros(len(event))
        member[group.rows] = 1.0
        terms[f"{','.join(by)}[{group.name}]"] = member
    if not terms or not (event == ALIGNED).any():
        return {}
    x = np.column_stack(list(terms.values()))
    with np.errstate(all="ignore"):
        mean, sd = x.mean(axis=0), x.std(axis=0)
        # The mean of equal numbers may differ from them by rounding.
        centred = np.where(sd > 1e-12 * np.abs(mean), x - mean, 0.0) / np.maximum(sd, 1e-300)
    if not np.isfinite(sd).all() or np.linalg.matrix_rank(centred) < x.shape[1]:
        notes.append(
            "no Cox or Fine-Gray model: a covariate is constant, too large or small to be squared, "
            "or follows from the others and the groups"
        )
        return {}
    return terms


def cox(terms: dict[str, Floats], time: Floats, event: Ints, ties: str, notes: list[str]) -> list[dict[str, Any]]:
    """Cause-specific proportional hazards of alignment."""
    if not terms:
        return []
    x = np.column_stack(list(terms.values()))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            fit = PHReg(time, x, status=(event == ALIGNED).astype(int), ties=ties).fit(disp=0)
            coef, se = np.asarray(fit.params), np.asarray(fit.bse)
    except (np.linalg.LinAlgError, ValueError):
        notes.append("no Cox model: its likelihood has no single maximum on these data")
        return []
    return _rows("Cox", terms, ties, coef, se, se, notes)


def fine_and_gray(
    terms: dict[str, Floats], time: Floats, event: Ints, person: NDArray[Any] | None, notes: list[str]
) -> list[dict[str, Any]]:
    """Proportional subdistribution hazards of alignment; [] where nothing competed: it is then Cox's model."""
    if not terms or np.isin(event, (ADMINISTRATIVE, ALIGNED)).all():
        return []
    found = fine_gray.fit(time, event, np.column_stack(list(terms.values())), person)
    if found is None:
        notes.append("no Fine-Gray model: its likelihood has no single maximum on these data")
        return []
    se, flat = np.sqrt(np.diag(found.covariance)), np.sqrt(np.diag(found.model_covariance))
    se = np.where(se > 1e-9 * flat, se, 0.0)  # rounding leaves some 1e-17 where the same people did the same
    return _rows("Fine-Gray", terms, "breslow", found.coef, se, flat, notes)


def _rows(
    model: str, terms: dict[str, Floats], ties: str, coef: Floats, se: Floats, flat: Floats, notes: list[str]
) -> list[dict[str, Any]]:
    """The contract's rows; `flat` are the errors by the information, which tell a likelihood without a maximum."""
    rows = []
    for i, (name, x) in enumerate(terms.items()):
        beta, error, sd = float(coef[i]), float(se[i]), float(x.std())
        # A covariate that separates the aligned from the others drives its coefficient off; 12 sd is beyond any effect.
        known = bool(np.isfinite(error) and 0 < flat[i] * sd < 12 and abs(beta) * sd < 12)
        if known and error == 0:
            notes.append(f"{model}: {name} has no error: the same people did the same on both sides of it")
        if not known:
            notes.append(f"{model}: {name} has no finite estimate: nobody, or everybody, aligned on one side of it")
        rows.append(
            {
                "term": name,
                "coef": beta if known else None,
                "se": error if known else None,
                "p": math.erfc(abs(beta / error) / math.sqrt(2)) if known and error > 0 else None,
                "ties": ties,
                "hazard_ratio": _exp(beta) if known else None,
                "low": _exp(beta - Z95 * error) if known else None,
                "high": _exp(beta + Z95 * error) if known else None,
            }
        )
    return rows


def _exp(value: float) -> float | None:
    """None where it is beyond any number, as by one unit of a covariate that spans a thousandth of one."""
    return math.exp(value) if value < 700 else None


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
