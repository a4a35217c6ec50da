"""Sessions of many simulated people at once: the same batched functions as a live session, outcomes from the map.

An outcome is the replicate of the map that a live run on the simulator would show, clocks are simulated, and no loop
runs over people in Python.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from calib import change, rounds, timing
from calib.engines.oracle import told
from calib.gaps import Gaps
from calib.questions import KINDS
from calib.setup import Setup
from calib.state import State
from devices.home.plant import LOOK_S
from devices.home.types import OUTCOMES
from experiments import oracle
from experiments.live_person import answer_noise, attention_s
from experiments.people import about_change, answer_to, becomes, patience_of
from experiments.truth import Mind, Truth, draw_truth, first_mind, world

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_PEOPLE_AT_ONCE = 256  # whose utilities of every setting are in memory together


@dataclass(frozen=True, eq=False)
class Sessions:
    """What a batch left behind; T = max_rounds, index 0 of a round axis is before the first round."""

    truth: Truth  # in their last round
    state: State  # after the last round
    true_degree: Floats  # (N, T + 1)
    estimate: Floats  # (N, T + 1, 4): mean, low, high, P(aligned)
    last_round: Ints  # (N,) completed rounds
    reason: NDArray[np.str_]  # (N,)
    times: dict[str, timing.Times]  # true, declared, accepted
    gaps: Gaps  # (N,) each, of the last completed round; nan where there was none

    @property
    def clocks(self) -> Floats:
        """(N, T + 1, 5) cumulative, in the order of calib.state.CLOCKS."""
        return self.state.clocks


def simulate_sessions(
    setup: Setup,
    model: ModuleType,
    parameters: dict[str, float],
    people: Ints,
    watch: Callable[[State, bool], None] | None = None,
    drawn_from: Setup | None = None,
) -> Sessions:
    """Whole sessions of the people with these numbers. A person's numbers do not depend on who else is in the batch.

    `watch(state, taken_in)` is called twice a round: when its answers are given, and when the belief has taken them in.
    `drawn_from` is the setup whose population the people come from where the engine's prior is another one.
    """
    truth = draw_truth(drawn_from or setup, people, parameters)
    mind = first_mind(drawn_from or setup, people, truth)
    belief = told(setup, truth.weights, truth.aspirations) if setup.engine == "oracle" else None
    state = rounds.begin_session(setup, people, belief, in_place=True)
    num = len(people)
    true_degree = np.full((num, setup.max_rounds + 1), np.nan)
    estimate = np.full((num, setup.max_rounds + 1, 4), np.nan)
    last_round = np.zeros(num, np.int64)
    reason = np.full(num, "", dtype="<U12")
    _note(setup, truth, state, true_degree, estimate)
    last = _Choices(mind, np.full((num, 2 * (setup.num_modes + 1) + 1), 0.5), state.context, state.commanded)
    while state.active.any():
        was, truth = truth, becomes(model, setup, truth, people, state.round + 1, state.active)
        if setup.engine == "oracle" and truth is not was:
            belief = told(setup, truth.weights, truth.aspirations)
            stands = belief.settings if setup.role == "advisor" else state.standing
            state = replace(state, belief=belief, standing=stands)
        state = rounds.begin_round(setup, state)
        if hasattr(model, "gives_up"):
            leaves = state.active & model.gives_up(setup, truth, mind, state, answer_noise(setup, state, "gives_up"))
            reason[leaves] = "gave_up"
            state = rounds.stop_people(state, leaves)
        u = answer_noise(setup, state, "choice")
        seconds = np.full(num, attention_s(setup, "choice"))
        state = rounds.chosen(setup, state, model.choose(setup, truth, mind, state, u), seconds, seconds)
        last = last.followed_by(_Choices(mind, u, state.context, state.commanded), state.active)
        if setup.scenario.protocol.ready and rounds.is_run(setup, state.round):
            ready_s = setup.scenario.effort_s["ready"]
            state = rounds.spend(state, attention_s=ready_s, wall_s=ready_s, effort=1.0)
        z, robot_s = run_outcome(setup, state)
        cut_short, watching = None, state
        if setup.learns_from_cuts:
            patience_s = patience_of(model, setup, truth, state, answer_noise(setup, state, "cut_short"))
            robot_s, cut_short = ended_by_then(robot_s, patience_s)
            watching = replace(state, active=state.active & ~cut_short)
        mind = model.experience(setup, truth, mind, watching, z)
        state = rounds.question(setup, rounds.outcome(setup, state, z, robot_s, robot_s, cut_short))
        for kind in np.unique(state.kind[state.active & (state.kind >= 0)]).tolist():
            u = answer_noise(setup, state, KINDS[kind])
            seconds = np.full(num, attention_s(setup, KINDS[kind]))
            answer = answer_to(kind, model, setup, truth, mind, state, u)
            state = rounds.answered(setup, state, kind, answer, seconds, seconds)
        if watch is not None:
            watch(state, False)
        state = rounds.measure(setup, state)
        if watch is not None:
            watch(state, True)
        if change.asks(setup, state).any():
            u = answer_noise(setup, state, "change")
            seconds = np.full(num, attention_s(setup, "change"))
            answer = about_change(model, setup, truth, mind, state, u)
            state = rounds.change_told(setup, state, answer, seconds, seconds)
        if rounds.asks_good_enough(setup, state.round):
            u = answer_noise(setup, state, "good_enough")
            seconds = np.full(num, attention_s(setup, "good_enough"))
            state = rounds.good_enough(state, model.good_enough(setup, truth, mind, state, u), seconds, seconds)
        _note(setup, truth, state, true_degree, estimate)
        last_round[state.active] = state.round
        why = rounds.finished(setup, state)
        reason = np.where(why != "", why, reason)
        state = rounds.stop_people(state, why != "")
    ended = np.full(num, timing.ADMINISTRATIVE)
    for name, code in timing.EVENT_OF_REASON.items():
        ended[reason == name] = code
    scenario = setup.scenario
    ends_session = setup.stop_rule == "accepted"
    times = {
        "true": oracle.true_time(setup, true_degree, last_round, ended),
        "declared": timing.declared(state.p_aligned, last_round, scenario.delta, ended),
        "accepted": timing.accepted(state.good_enough, last_round, scenario.horizon, ended, ends_session),
    }
    terms = _last_gaps(setup, model, truth, last, last_round)
    state = replace(state, in_place=False)
    return Sessions(truth, state, true_degree, estimate, last_round, reason, times, terms)


@dataclass(frozen=True, eq=False)
class _Choices:
    """What the gaps of a round need: the minds that chose, their noise, and where and what was run."""

    mind: Mind
    u: Floats  # (N, 2 M + 3)
    context: Ints  # (N,)
    commanded: Ints  # (N,)

    def followed_by(self, new: "_Choices", who: NDArray[np.bool_]) -> "_Choices":
        """The new choices of `who` (N,), for the others these."""
        f_hat = np.where(who[:, None, None], new.mind.f_hat, self.mind.f_hat)
        return _Choices(
            Mind(f_hat, np.where(who, new.mind.last_mode, self.mind.last_mode)),
            np.where(who[:, None], new.u, self.u),
            np.where(who, new.context, self.context),
            np.where(who, new.commanded, self.commanded),
        )


def _last_gaps(setup: Setup, model: ModuleType, truth: Truth, last: _Choices, last_round: Ints) -> Gaps:
    """(N,) gaps of everybody's last completed round; the map runs what was commanded."""
    alone = setup.mode_setting[model.choose_alone(setup, truth, last.mind, last.u)]
    terms = np.full((len(Gaps._fields), len(last_round)), np.nan)
    for first in range(0, len(last_round), _PEOPLE_AT_ONCE):
        at = slice(first, first + _PEOPLE_AT_ONCE)
        some, c = Truth(*(values[at] for values in truth)), last.commanded[at]  # type: ignore[arg-type]
        found = oracle.true_gaps(setup, some, last.mind.f_hat[at], last.context[at], alone[at], c, c)
        terms[:, at] = np.where(last_round[at] > 0, np.stack(found)[:, :, 0], np.nan)
    return Gaps(*terms)


def run_outcome(setup: Setup, state: State) -> tuple[Floats, Floats]:
    """(N, 6) outcome of this round and (N,) robot seconds: the replicate that a live run would show, or its card."""
    if not rounds.is_run(setup, state.round):  # the machine's card of it
        return setup.map.z[state.commanded, state.context].mean(axis=1), np.zeros(len(state.people))
    z = world(setup).map.z[state.commanded, state.context, state.replicate]
    return z, np.round(z[:, OUTCOMES.index("duration")] * 60.0, 6)


def ended_by_then(robot_s: Floats, patience_s: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """(N,) seconds that runs go on and whether they were cut short, by people who look at them every LOOK_S."""
    looks = np.ceil(np.minimum(patience_s, robot_s.max(initial=0.0) + LOOK_S) / LOOK_S)
    until_s = np.round(np.maximum(looks, 1) * LOOK_S, 6)
    cut_short = until_s < robot_s
    return np.where(cut_short, until_s, robot_s), cut_short


def _note(setup: Setup, truth: Truth, state: State, true_degree: Floats, estimate: Floats) -> None:
    who, t = state.active, state.round
    true_degree[who, t] = oracle.true_degree(setup, truth, state.standing)[who]
    e = state.estimate
    estimate[who, t] = np.stack([e.mean, e.low, e.high, e.p_aligned], axis=1)[who]
