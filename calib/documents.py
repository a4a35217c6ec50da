"""The documents of a run (start, round, stop) and what a person is shown, as plain JSON values."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import alignment, change, honesty, live, probes, timing
from calib.calibration import is_reached
from calib.engines import load_engine
from calib.events import Reading
from calib.gaps import GAPS, gaps
from calib.identify import identified
from calib.questions import BEST_OF, GRADES, KINDS, PAIR, PROBE, RATING
from calib.rounds import is_run
from calib.scenario import CHANNELS, Scenario
from calib.setup import Setup
from calib.state import CLOCKS, State
from devices.home.types import OUTCOMES

SCHEMA = 1
_DETAIL = 6  # decimals of what is shown to a person; documents carry every digit


@dataclass(frozen=True, eq=False)
class RoundNotes:
    """What a round gathers on its way to its document."""

    f_hat: NDArray[np.float64] | None = None  # (1, M, J) at the time of the choice
    option: int = -1
    reading: Reading | None = None
    answer: int | None = None  # to the question after the run


def start(setup: Setup, state: State, person: int, facts: dict[str, Any]) -> dict[str, Any]:
    """The start document: everything that was fixed before the first question."""
    return {
        "schema": SCHEMA,
        "person": person,
        **setup.record(),
        **facts,
        "prior_only": _degree(state),
        "standing": [int(v) for v in state.standing[0]],
    }


def offer(setup: Setup, state: State) -> dict[str, Any]:
    """What is on the table: the menu, and the machine's proposal with the outcome that it predicts."""
    modes = [{"name": m.name, "label": m.label, "description": m.description} for m in setup.scenario.modes]
    shown: dict[str, Any] = {
        "round": state.round,
        "context": setup.scenario.contexts[state.context[0]].name,
        "modes": modes,
        "proposal": None,
    }
    if state.proposal[0] >= 0:
        s, x = int(state.proposal[0]), int(state.context[0])
        mode = int(setup.setting_mode[s])
        shown["proposal"] = {
            "settings": asdict(setup.settings[s]),
            "mode": setup.scenario.modes[mode].name if mode >= 0 else None,
            "card": card(setup.scenario, setup.map.z[s, x].mean(axis=0)),
        }
    return shown


def card(scenario: Scenario, z: Sequence[float] | NDArray[np.float64]) -> list[dict[str, Any]]:
    """An outcome card: the scenario's attributes of an outcome (in the order of OUTCOMES) with value and unit."""
    return [
        {"attribute": a.name, "value": round(float(z[OUTCOMES.index(a.name)]), int(a.unit != "count")), "unit": a.unit}
        for a in scenario.attributes
    ]


def question(setup: Setup, kind: int, asked: int) -> dict[str, Any]:
    """What a person is shown of question number `asked` of a kind: outcome cards, or what may be said."""
    if kind == PROBE:
        return probes.shown(setup.scenario, asked)
    if kind == RATING:
        return {"rating": asked, "grades": list(GRADES)}
    if kind == BEST_OF:
        return {"menu": asked, "cards": [card(setup.scenario, setup.card_z[c]) for c in setup.menus[asked]]}
    a, b = setup.pairs[asked]
    return {"pair": asked, "a": card(setup.scenario, setup.card_z[a]), "b": card(setup.scenario, setup.card_z[b])}


def standing(setup: Setup, state: State) -> dict[str, Any]:
    """What would run in each context if nobody said anything more, with the outcome expected of it."""
    return {
        "standing": [
            {
                "context": c.name,
                "settings": asdict(setup.settings[s]),
                "card": card(setup.scenario, setup.map.z[s, x].mean(axis=0)),
            }
            for x, (c, s) in enumerate(zip(setup.scenario.contexts, state.standing[0], strict=True))
        ]
    }


def round_document(setup: Setup, state: State, notes: RoundNotes) -> dict[str, Any]:
    """What one round offered, chose, commanded, realised and measured, and what the machine believes after it."""
    assert notes.reading is not None and notes.f_hat is not None
    reading, x, s = notes.reading, int(state.context[0]), int(state.commanded[0])
    mode = int(setup.setting_mode[s])
    asked = int(state.good_enough[0, state.round])
    clocks = state.clocks[0, state.round]
    return {
        "round": state.round,
        "context": setup.scenario.contexts[x].name,
        "replicate": int(state.replicate[0]),
        "proposal": int(state.proposal[0]) if state.proposal[0] >= 0 else None,
        "option": notes.option,
        "accepted": notes.option == setup.num_modes,
        "setting": s,
        "breaks_limit": not bool(setup.feasible[s, x]),
        "mode": setup.scenario.modes[mode].name if mode >= 0 else None,
        "commanded": asdict(setup.settings[s]),
        "realised": asdict(reading.realised) if reading.realised else None,
        "how": reading.how,
        "outcome": {name: _figure(reading, i) for i, name in enumerate(OUTCOMES)},
        "end": reading.end,
        **_asked(setup, state, notes.answer),
        "good_enough": None if asked < 0 else bool(asked),
        "degree": _degree(state),
        "trial_degree": float(state.estimate.trial[0]),
        "prequential": honesty.prequential(state),
        "alarm": honesty.alarm(state),
        "standing": [int(v) for v in state.standing[0]],
        "belief": belief(setup, state),
        "gaps": estimated_gaps(setup, state, notes),
        "engine": {
            "ess": float(state.diagnostics.ess[0]),
            "stages": int(state.diagnostics.stages[0]),
            "accept": float(state.diagnostics.accept[0]),
        },
        "clocks": {name: float(clocks[i]) for i, name in enumerate(CLOCKS)},
    } | _also(setup, state, reading)


def _figure(reading: Reading, i: int) -> dict[str, Any]:
    """One figure of an outcome, what its driver says of it, and its reproducibility where that was stated."""
    figure = {"value": reading.z[i], "source": reading.source[i], "error": reading.error[i]}
    if reading.reproducibility is not None:
        figure["reproducibility"] = reading.reproducibility[i]
    return figure


def _also(setup: Setup, state: State, reading: Reading) -> dict[str, Any]:
    """What a round document says where the scenario has it: of a watched run, of a change of intent."""
    found: dict[str, Any] = {}
    if setup.learns_from_cuts and is_run(setup, state.round):
        found["watched"] = {"minutes": reading.robot_s / 60, "cut_short": reading.is_cut_short}
    if state.change is not None:
        found["change"] = change.document(setup, state)
    if setup.scenario.floors and is_run(setup, state.round) and not reading.is_cut_short:
        found["floors_missed"] = _floors_missed(setup, state, reading)
    return found


def _floors_missed(setup: Setup, state: State, reading: Reading) -> list[str]:
    """Attributes in which this very run came below a floor: the robot's fault, whatever the person makes of it."""
    context = setup.scenario.contexts[int(state.context[0])].name
    floors = [floor for floor in setup.scenario.floors if context in floor.limit.contexts]
    return [
        floor.limit.attribute
        for floor in floors
        if reading.source[OUTCOMES.index(floor.limit.attribute)] != "modelled"
        and not is_reached(floor, reading.z[OUTCOMES.index(floor.limit.attribute)])
    ]


def _asked(setup: Setup, state: State, answer: int | None) -> dict[str, Any]:
    """By kind: the question after the run with its answer, None where it was of another kind."""
    found: dict[str, Any] = dict.fromkeys(KINDS)
    kind, asked = int(state.kind[0]), int(state.asked[0])
    if kind == PAIR:
        found["comparison"] = {"pair": asked, "answer": answer}
    elif kind == PROBE:
        shown = probes.shown(setup.scenario, asked)
        value = None if answer is None else shown["values"][answer]
        about = {key: shown[key] for key in ("probe", "mode", "attribute", "unit")}
        found["probe"] = about | {"answer": answer, "value": value}
    elif kind == RATING:
        found["rating"] = {"rating": asked, "answer": answer, "of": len(GRADES)}
    elif kind == BEST_OF:
        found["best_of"] = {"menu": asked, "cards": [int(c) for c in setup.menus[asked]], "answer": answer}
    return found


def belief(setup: Setup, state: State) -> dict[str, Any]:
    """Posterior mean and sd of the weights and of the other parameters, on their natural scales."""
    draws = parameter_draws(setup, state)
    return {name: {"mean": float(v.mean()), "sd": float(v.std(ddof=1))} for name, v in draws.items()}


def parameter_draws(setup: Setup, state: State, person: int = 0) -> dict[str, NDArray[np.float64]]:
    """(P,) draws of every parameter of one person, by name; a weight is named by its attribute."""
    w = live.intent(state.belief, setup.num_attributes)[person]
    extra = live.draws(state.belief)[person, setup.num_attributes - 1 :]
    draws = {a.name: w[j] for j, a in enumerate(setup.scenario.attributes)}
    draws |= {f"rationality[{name}]": np.exp(extra[i]) for i, name in enumerate(CHANNELS)}
    draws["lapse"] = 1 / (1 + np.exp(-extra[3]))
    draws |= {"reliance": extra[4], "inertia": extra[5], "about_equal": np.exp(extra[6])}
    engine = load_engine(setup.engine)
    return draws | (engine.own_parameters(setup, state.belief, person) if hasattr(engine, "own_parameters") else {})


def estimated_gaps(setup: Setup, state: State, notes: RoundNotes) -> dict[str, Any]:
    """The gaps of this round per posterior draw. Without a mute arm a recommendation hides the person's own choice:
    choice and mediation are then null and their sum is given."""
    assert notes.reading is not None and notes.f_hat is not None
    w = alignment.intent(setup, state.belief)
    realised = setting_number(setup, notes.reading)
    alone, engine = state.commanded, load_engine(setup.engine)
    f_hat = engine.believed(setup, state) if hasattr(engine, "believed") else notes.f_hat
    terms = gaps(setup, w, f_hat, state.context, alone, state.commanded, realised)
    found: dict[str, Any] = {name: _interval(getattr(terms, name)[0]) for name in GAPS}
    found["choice_and_mediation"] = _interval(terms.choice[0] + terms.mediation[0])
    if setup.role != "tool":
        found["choice"] = found["mediation"] = None
    if notes.reading.realised is None or realised[0] < 0:
        found["execution"] = None
    return found


def setting_number(setup: Setup, reading: Reading) -> NDArray[np.int64]:
    """(1,) the number of the realised settings, -1 where the map does not know them or nothing ran."""
    if reading.realised is None or reading.realised not in setup.settings:
        return np.array([-1])
    return np.array([setup.settings.index(reading.realised)])


def stop(
    setup: Setup, state: State, completed: int, reason: str, detail: dict[str, Any], marks: tuple[dict[str, Any], ...]
) -> dict[str, Any]:
    """The closing document: why it ended, where the machine stands, and the times that need no truth."""
    w = alignment.intent(setup, state.belief)
    ends = alignment.extremes(setup, w)
    lift = alignment.lift(setup, w, ends, state.standing)[0]
    lift = lift[np.isfinite(lift)]
    return {
        "reason": reason,
        "detail": detail,
        "rounds": completed,
        "marks": list(marks),
        "degree": _degree(state),
        "lift": _interval(lift) if len(lift) else None,
        "regret": [r._asdict() for r in alignment.plain_regret(setup, w[0], ends, state.standing[0])],
        "contexts_left_out": float(state.estimate.left_out[0]),
        "standing": [int(v) for v in state.standing[0]],
        "belief": belief(setup, state),
        "honesty": honesty.figures(setup, state),
        "identified": identified(setup, state),
        "time": {
            "true": None,
            "declared": time_of(state, declared_time(setup, state, completed, reason), completed),
            "accepted": time_of(state, accepted_time(setup, state, completed, reason), completed),
            "verified": None,
        },
    } | ({} if state.change is None else {"change": change.document(setup, state)})


def declared_time(setup: Setup, state: State, completed: int, reason: str) -> timing.Times:
    """Time to declared alignment of a batch of one."""
    return timing.declared(state.p_aligned, np.array([completed]), setup.scenario.delta, _ended(reason))


def accepted_time(setup: Setup, state: State, completed: int, reason: str) -> timing.Times:
    """Time to accepted alignment of a batch of one."""
    ends_session = setup.stop_rule == "accepted"
    return timing.accepted(
        state.good_enough, np.array([completed]), setup.scenario.horizon, _ended(reason), ends_session
    )


def time_of(state: State, times: timing.Times, completed: int) -> dict[str, Any]:
    """T of the command contract: event code, rounds, and the other clocks at that round."""
    rounds = min(int(times.rounds[0]), completed)
    clocks = state.clocks[0, rounds]
    return {"event": int(times.event[0]), "rounds": rounds} | {
        name: float(clocks[i]) for i, name in enumerate(CLOCKS) if name != "rounds"
    }


def _ended(reason: str) -> NDArray[np.int64]:
    return np.array([timing.EVENT_OF_REASON.get(reason, timing.ADMINISTRATIVE)])


def _degree(state: State) -> dict[str, float]:
    estimate = state.estimate
    return {
        "mean": float(estimate.mean[0]),
        "low": float(estimate.low[0]),
        "high": float(estimate.high[0]),
        "p_aligned": float(estimate.p_aligned[0]),
    }


def _interval(draws: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(draws, [0.05, 0.95])
    mean = float(draws.mean())
    assert math.isfinite(mean)
    return {"estimate": mean, "low": float(low), "high": float(high)}
