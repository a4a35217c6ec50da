"""The summary of a run from its documents: the JSON of `calib run`, and nothing that the journal does not hold."""

from typing import Any

from calib.gaps import GAPS
from calib.journal import Entry


def summarise(entries: list[Entry], journal: str) -> dict[str, Any]:
    """The contract's JSON of a finished run. In simulation the truth document adds what only it can know."""
    bodies: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if entry.body is not None:
            bodies.setdefault(entry.type, []).append(entry.body)
    start, stop = bodies["start"][0], bodies["stop"][-1]
    rounds = bodies.get("round", [])
    truth = bodies.get("truth", [None])[-1]
    audit = bodies.get("audit", [None])[-1]
    last = rounds[-1] if rounds else None
    setting = last["realised"] or last["commanded"] if last else None
    summary: dict[str, Any] = {
        "run": entries[0].run,
        **{k: start[k] for k in ("kind", "rung", "device", "scenario", "scenario_hash", "role", "policy", "seed")},
        "rounds": stop["rounds"],
        "stop_reason": stop["reason"],
        "setting": setting,
        "mode": last["mode"] if last else None,
        "degree": stop["degree"],
        "true_degree": truth["true_degree"][-1] if truth else None,
        "time": dict(stop["time"]),
        "gaps": dict.fromkeys(GAPS),
        "gaps_known": None,
        "lift": stop["lift"],
        "regret": stop["regret"],
        "contexts_left_out": stop["contexts_left_out"],
        "prior_only": start["prior_only"],
        "belief": stop["belief"],
        "honesty": stop.get("honesty"),
        "identified": stop.get("identified"),
        "reference_hash": start["reference_hash"],
        "map_source": start["map_source"],
        "map_sha256": start["map_sha256"],
        "audit": audit,
        "journal": journal,
    }
    for name in ("map_measured", "floors_missed"):
        if name in start:
            summary[name] = start[name]
    if any(r.get("floors_missed") for r in rounds):
        summary["rounds_below_floor"] = [r["round"] for r in rounds if r.get("floors_missed")]
    if "change" in stop:
        summary["change"] = stop["change"] | {"asked": [r["change"]["asked"] for r in rounds if r["change"]["asked"]]}
    if truth:
        summary["time"]["true"] = truth["time"]
    if last:
        exact = truth["rounds"][-1]["gaps"] if truth else None
        found = exact or last["gaps"]
        summary["gaps"] = {name: found[name] for name in GAPS}
        summary["choice_and_mediation"] = None if exact else found["choice_and_mediation"]
        summary["gaps_known"] = "exact" if exact else "estimated"
        summary["gaps_round"] = last["round"]
    return summary
