"""What the Analyse page shows, as its address holds it and as `calib analyze` is told it."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from calib.errors import UserError
from experiments.analysis_data import VERSIONS
from experiments.analysis_groups import Question

KEYS = ("source", "version", "time", "event", "group", "covariates", "where", "tau", "mix_kinds", "mix_scenarios")


@dataclass(frozen=True)
class View:
    """A source (None: the most recent one) and the question that is asked of it."""

    source: str | None = None
    question: Question = field(default_factory=Question)


def read(params: Mapping[str, Sequence[str]]) -> View:
    """The view of an address. UserError that names the key whose value cannot be meant."""
    for key in params:
        if key not in KEYS:
            raise UserError(f"{key!r} in the address: it is none of {', '.join(KEYS)}")
        if key != "where" and len(params[key]) > 1:
            raise UserError(f"{key}: it stands {len(params[key])} times in the address; give it once")
    one = {key: values[0] for key, values in params.items() if key != "where" and values}
    version = one.get("version")
    if version is not None and version not in VERSIONS:
        raise UserError(f"version={version}: choose {', '.join(VERSIONS)}")
    for condition in params.get("where", ()):
        if "=" not in condition:
            raise UserError(f"where={condition}: give COLUMN=VALUE or COLUMN!=VALUE")
    return View(
        one.get("source"),
        Question(
            time=one.get("time"),
            event=one.get("event"),
            group=_names(one["group"]) if "group" in one else None,
            covariates=_names(one.get("covariates", "")),
            version=version,
            tau=_number("tau", one["tau"]) if "tau" in one else None,
            where=tuple(params.get("where", ())),
            mix_kinds=_switch("mix_kinds", one.get("mix_kinds", "0")),
            mix_scenarios=_switch("mix_scenarios", one.get("mix_scenarios", "0")),
        ),
    )


def write(view: View) -> dict[str, list[str]]:
    """The address of a view; what is left at its default does not stand in it."""
    q = view.question
    params: dict[str, list[str]] = {}
    for key, value in (("source", view.source), ("version", q.version), ("time", q.time), ("event", q.event)):
        if value is not None:
            params[key] = [value]
    if q.group is not None:
        params["group"] = [",".join(q.group)]
    if q.covariates:
        params["covariates"] = [",".join(q.covariates)]
    if q.where:
        params["where"] = list(q.where)
    if q.tau is not None:
        params["tau"] = [_plain(q.tau)]
    return params | {key: ["1"] for key in ("mix_kinds", "mix_scenarios") if getattr(q, key)}


def analyze_words(path: str, question: Question, *more: str) -> list[str]:
    """The words of the `calib analyze` that gives the same numbers."""
    q = question
    words = ["calib", "analyze", path]
    named = {"--version": q.version, "--time": q.time, "--event": q.event}
    pairs = [(flag, value) for flag, value in named.items() if value is not None]
    pairs += [("--group", ",".join(q.group))] if q.group is not None else []
    pairs += [("--covariates", ",".join(q.covariates))] if q.covariates else []
    pairs += [("--where", condition) for condition in q.where]
    pairs += [("--tau", _plain(q.tau))] if q.tau is not None else []
    for flag, value in pairs:
        # A value that begins with a dash would be taken for a flag of its own.
        words += [f"{flag}={value}"] if value.startswith("-") else [flag, value]
    words += [flag for flag, on in (("--mix-kinds", q.mix_kinds), ("--mix-scenarios", q.mix_scenarios)) if on]
    return [*words, *more]


def command_line(words: Sequence[str]) -> str:
    """Words as a shell takes them."""
    return shlex.join(words)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _number(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{key}={text}: give a number")
    return number


def _switch(key: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise UserError(f"{key}={text}: give 1 or 0")
    return text == "1"


def _plain(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
