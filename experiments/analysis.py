"""Time to alignment by group: cumulative incidence, restricted means and their contrasts, log-rank, Cox, Fine-Gray.

`analyse` takes a table and a question and gives the JSON of `calib analyze` (definitions 5). Alignment is event 1 of
the version of time that was asked for; every other code but 0 competes with it.
"""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.timing import ALIGNED
from experiments import analysis_details, analysis_groups, survival
from experiments.analysis_data import Table, as_text, only
from experiments.analysis_groups import LARGEST_OF_OURS, Group, Question
from experiments.survival import Z95

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Column = NDArray[Any]


def analyse(table: Table, question: Question, models: bool = True) -> dict[str, Any]:
    """The contract's JSON, with `notes`: what a reader has to know beside the figures.

    Of a table that was read with its details, every group also has its `degree` by round and its `gaps`. Without
    `models` log-rank, Cox and Fine-Gray, which take longest, are left out: null and [].
    """
    table = only(table, question.where)
    notes = list(table.notes)
    analysis_groups.refuse_mixture(table, "kind", question.mix_kinds, "--mix-kinds")
    analysis_groups.refuse_mixture(table, "scenario_hash", question.mix_scenarios, "--mix-scenarios")
    version = analysis_groups.version_of(table, question)
    time_name, event_name = analysis_groups.columns_of(table, question, version)
    time, event = analysis_groups.times_of(table, time_name, event_name, version)
    by = question.group if question.group is not None else analysis_groups.varying(table)
    label = analysis_groups.labels_of(table, by)
    analysis_groups.refuse_twice(table, label, by)
    groups = analysis_groups.groups_of(label, time, event)
    tau = analysis_groups.tau_of(table, groups, question.tau)
    if not (event == ALIGNED).any():
        notes.append("nobody aligned (no event 1): no median, no standard error, no test")
    if tau == 0:
        notes.append("a group was watched for no time at all, so the restricted means are to 0 and say nothing")
    shared = analysis_groups.persons_of(table)
    tests, hazard, incidence = None, [], []
    if models and (len(groups) > 1 or question.covariates):
        from experiments.analysis_models import cox, fine_and_gray, logrank, terms_of

        terms = terms_of(table, question, by, groups, event, notes)
        tests, hazard = logrank(groups, notes), cox(terms, time, event, question.ties, notes)
        incidence = fine_and_gray(terms, time, event, shared, notes)
    if table.per_round is not None:
        notes += analysis_details.notes_of(table)
    return {
        "n": len(time),
        "source": table.source,
        "version": version,
        "time": time_name,
        "event": event_name,
        "group_by": list(by),
        "events": _by_code(event),
        "groups": [_describe(table, group, tau) for group in groups],
        "contrasts": [_contrast(a, b, tau, shared) for a, b in itertools.combinations(groups, 2)],
        "logrank": tests,
        "cox": hazard,
        "fine_gray": incidence,
        "interval": "95% pointwise, log(-log) of 1 - cif; restricted means normal",
        "notes": notes,
    }


def _describe(table: Table, group: Group, tau: float) -> dict[str, Any]:
    return {
        "name": group.name,
        "n": len(group.time),
        "events": _by_code(group.event),
        "cif": curves(group.counts, group.causes),
        "km": None if len(group.causes) > 1 else curves(group.counts, group.causes, complement=True),
        "median": survival.median(group.counts, 0),
        "rmst": _mean(group, tau),
        "watched_to": _plain(float(group.time.max())),
        **_false_declarations(table, group),
        **(analysis_details.details_of(table, group.rows) if table.per_round is not None else {}),
    }


def curves(counts: survival.Counts, causes: list[int], complement: bool = False) -> list[dict[str, Any]]:
    """Cumulative incidence of every cause at every time of an event, or 1 minus it, as the contract's rows."""
    rows = []
    t = [_plain(v) for v in counts.times]
    for i, cause in enumerate(causes):
        found = survival.incidence(counts, i)
        estimate, (low, high) = found.estimate, survival.interval(found)
        if complement:
            estimate, low, high = 1 - estimate, 1 - high, 1 - low
        for at, e, lo, hi in zip(t, estimate.tolist(), low.tolist(), high.tolist(), strict=True):
            rows.append({"t": at, "event": cause, "estimate": e, "low": _known(lo), "high": _known(hi)})
    return rows


def _mean(group: Group, tau: float) -> dict[str, Any]:
    estimate, se = (float(v) for v in survival.restricted_mean(group.counts, 0, tau))
    # Without an alignment before tau the estimate is tau and nothing tells its error.
    se = se if ((group.event == ALIGNED) & (group.time < tau)).any() else math.nan
    low, high = max(estimate - Z95 * se, 0.0), min(estimate + Z95 * se, tau)
    known = not math.isnan(se)
    return {
        "tau": _plain(tau),
        "estimate": estimate,
        "se": se if known else None,
        "low": low if known else None,
        "high": high if known else None,
    }


def _contrast(a: Group, b: Group, tau: float, persons: Column | None) -> dict[str, Any]:
    """a minus b. People who are in both groups are counted as the same: the covariance is taken from them."""
    of_a, of_b = _mean(a, tau), _mean(b, tau)
    estimate = of_a["estimate"] - of_b["estimate"]
    in_a = in_b = np.empty(0, np.int64)
    if persons is not None:
        _, in_a, in_b = np.intersect1d(persons[a.rows], persons[b.rows], return_indices=True)
    se = None
    if of_a["se"] is not None and of_b["se"] is not None:
        covariance = float(_influence(a, tau)[in_a] @ _influence(b, tau)[in_b])
        se = math.sqrt(max(of_a["se"] ** 2 + of_b["se"] ** 2 - 2 * covariance, 0.0))
    return {
        "a": a.name,
        "b": b.name,
        "rmst_difference": {
            "estimate": estimate,
            "se": se,
            "low": None if se is None else estimate - Z95 * se,
            "high": None if se is None else estimate + Z95 * se,
        },
        "tau": _plain(tau),
        "shared_people": len(in_a),
    }


def _influence(group: Group, tau: float) -> Floats:
    return survival.restricted_mean_influence(group.counts, 0, tau, group.time, group.event, group.causes)


def _false_declarations(table: Table, group: Group) -> dict[str, Any]:
    """Share of the declarations with A < 1 - eps at their round; None where nobody declared or nothing tells."""
    unknown = {"false_declaration_rate": None, "false_declaration_interval": None, "declarations": None}
    if not {"declared_event", "declared_falsely"} <= set(table.columns):
        return unknown
    declared = as_text(table.columns["declared_event"][group.rows]) == "1"
    falsely = np.char.lower(as_text(table.columns["declared_falsely"][group.rows][declared]).astype(str))
    if not np.isin(falsely, ("0", "1", "true", "false")).all():
        return unknown
    number, false = int(declared.sum()), int(np.isin(falsely, ("1", "true")).sum())
    return {
        "false_declaration_rate": false / number if number else None,
        "false_declaration_interval": list(survival.share_interval(false, number)) if number else None,
        "declarations": number,
    }


def _by_code(event: Ints) -> dict[str, int]:
    codes, counts = np.unique(event, return_counts=True)
    found = dict(zip(codes.tolist(), counts.tolist(), strict=True))
    return {str(code): found.get(code, 0) for code in sorted({*range(LARGEST_OF_OURS + 1), *found})}


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else float(value)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
