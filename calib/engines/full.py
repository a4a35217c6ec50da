"""The engine that carries the mental model: intent, what people expect of modes, how they learn (calib/mind.py).

It keeps apart what `live` takes for known: a choice speaks about believed utility, and about intent only as far as
beliefs are known. Evidence is everything that happened, in order (calib/history.py).
"""

from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib import history, live, mind, questions
from calib.choice import grade_log_probs, stop_log_prob
from calib.engines._asked import asked
from calib.engines._measured import measured
from calib.engines._own import of_mind
from calib.engines._predicted import DRAWS, Options, option_probability, predicted
from calib.engines._predicted import answered as answers_at
from calib.errors import UserError
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, RATING, STOP
from calib.live import over_people
from calib.mental import INTENT_ROWS, OWN
from calib.mind import Mind, Mover
from calib.questions import GRADES
from calib.setup import Setup
from calib.state import Answered, Floats, Ints, Measured, Predicted, State
from calib.vector import Singles

TIER = "full"
PARTICLES = 2048
EVIDENCE = history
LEARNS_FROM = tuple(range(len(questions.KINDS)))


class Belief(NamedTuple):
    """Equally weighted particles (N, ...) twice: as they move, and as policies and figures read them."""

    particles: Floats  # (N, D, P) in the coordinates of calib/kernel.py
    step: Floats  # (N,)
    mind: Singles  # (N, B, D', W) in those of calib/mind_kernel.py
    value: Singles  # (N, B, W)
    own: Floats  # (N, 7, P) those of OWN, as EXTRAS has them


def check(setup: Setup) -> None:
    """UserError where the scenario does not say how beliefs differ."""
    if setup.mind is None:
        raise UserError(
            f"{setup.scenario.file}: mental_model.beliefs is missing; the engine full infers what people expect of the "
            "modes: add the table (docs/scenario.md), or take --engine live"
        )


@lru_cache(maxsize=8)
def mover_of(setup: Setup, threads: int = 1) -> Mover:
    """The setup's compiled parts."""
    assert setup.mind is not None  # `check`
    return Mover(setup.mind, setup.seed, threads)


def mind_of(state: State, i: int) -> Mind:
    """Person i's belief as it moves."""
    belief = state.belief
    return Mind(belief.mind[i], belief.value[i], float(belief.step[i]), int(state.in_belief[i]))


def start(setup: Setup, people: Ints) -> Belief:
    """Particles from the prior."""
    mover = mover_of(setup)
    minds = [mind.start(mover.prior, int(person), setup.seed, setup.num_particles) for person in people]
    step = np.array([m.step for m in minds])
    return _belief(setup, np.stack([m.particles for m in minds]), np.stack([m.value for m in minds]), step)


def _belief(setup: Setup, blocks: Singles, value: Singles, step: Floats) -> Belief:
    num, last = len(blocks), setup.num_attributes - 1
    particles = np.empty((num, last + len(INTENT_ROWS), setup.num_particles))
    own, of_own = np.empty((num, len(OWN), setup.num_particles)), list(OWN.values())
    mover = mover_of(setup)
    for i in range(num):
        w, extras = mover.parameters(blocks[i])
        log_w = np.log(np.maximum(w.astype(np.float64), 1e-30))
        particles[i, :last] = log_w[:-1] - log_w[-1:]
        particles[i, last:] = extras[INTENT_ROWS]
        own[i] = extras[of_own]
    return Belief(particles, step, blocks, value, own)


def question(setup: Setup, state: State) -> Ints:
    """The pair or probe that the policy asks about. It knows this round's choice already."""
    mover, kept = mover_of(setup), state.evidence
    assert isinstance(kept, history.History)
    log_weight = np.zeros((len(state.people), setup.num_particles))

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            if state.active[i]:
                log_weight[i] = mover.values(mind_of(state, i), kept, i)[1].ravel()

    over_people(work, len(state.people))
    return asked(setup, state, log_weight)


def outlook(setup: Setup, state: State, i: int, thin: int) -> tuple[Floats, Floats]:
    """Mean and variance (M, J, P / thin) of what person i expects now, at every `thin`th particle."""
    kept = state.evidence
    assert isinstance(kept, history.History)
    return mover_of(setup).outlook(mind_of(state, i), kept, i, thin)


def grades(setup: Setup, state: State, i: int, thin: int = 1) -> Floats:
    """(G, P / thin) how probable each grade of the run that person i saw last is, at every `thin`th particle."""
    return _graded(setup, state, i, state.seen[i], thin)


def _particles(state: State, i: int, every: int) -> Floats:
    return np.ascontiguousarray(state.belief.particles[i, :, ::every])


def _weights(setup: Setup, state: State, i: int, particles: Floats) -> Floats:
    return live.intent_at(particles[None], setup.num_attributes)[0]


def _graded(setup: Setup, state: State, i: int, seen: Floats, every: int) -> Floats:
    w = _weights(setup, state, i, _particles(state, i, every))
    log_r, aspiration, log_spacing = state.belief.own[i, 2:5, ::every]
    utility = np.sum(seen[:, None] * w, axis=0)
    log_p = grade_log_probs(np, utility, np.exp(log_r), aspiration, np.exp(log_spacing), len(GRADES))
    return np.exp(np.ascontiguousarray(log_p.T))


def _watched(state: State, i: int, a: int, w: Floats, every: int) -> Floats:
    """(2, P) likelihood of entry a, a run that was watched: had it been let go on so long, and had it been cut then."""
    kept = state.evidence
    assert isinstance(kept, history.History)
    aspiration, log_r, log_hazard = state.belief.own[i, [3, 5, 6], ::every]
    utility = np.sum(kept.first[i, a][:, None] * w, axis=0)
    of = partial(stop_log_prob, np, utility, np.exp(log_r), aspiration, log_hazard, kept.value[i, a])
    return np.exp(np.stack([of(0.0), of(1.0)]))


def measure(setup: Setup, state: State) -> Measured:
    """Take the new entries into the belief, let the machine stand where it now would, and estimate the degree."""
    kept, before, num = state.evidence, state.belief, len(state.people)
    assert isinstance(kept, history.History)
    mover = mover_of(setup, live.num_threads() if num == 1 else 1)
    particles, value, step = before.mind.copy(), before.value.copy(), before.step.copy()
    diagnostics = live.Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            if state.active[i]:
                after, effort = mover.update(mind_of(state, i), kept, int(state.people[i]), i)
                particles[i], value[i], step[i] = after.particles, after.value, after.step
                diagnostics.ess[i], diagnostics.stages[i] = effort.ess, effort.steps
                diagnostics.accept[i] = effort.accept

    over_people(work, num)
    return measured(setup, state, _belief(setup, particles, value, step), diagnostics)


def believed(setup: Setup, state: State) -> NDArray[np.float64]:
    """(N, M, J, P) what people expected when they chose in this round, a draw with every particle."""
    mover, kept = mover_of(setup), state.evidence
    assert isinstance(kept, history.History)
    out = np.empty((len(state.people), setup.num_modes, setup.num_attributes, setup.num_particles))
    for i, person in enumerate(state.people):
        kind = kept.kind[i, : kept.num[i]]
        menus = np.flatnonzero((kind == MODE_CHOICE) | (kind == ACCEPT_OVERRIDE))
        entry = int(menus[-1]) if len(menus) else int(kept.num[i])
        out[i] = mover.believed(mind_of(state, i), kept, int(person), i, entry)
    return out


def predict(setup: Setup, state: State) -> Predicted:
    """How probable every option of the new answers was at the particles that have not taken them in."""
    return predicted(setup, state, lambda i: _options(setup, state, i, int(state.in_belief[i])))


def answered(setup: Setup, state: State, person: int) -> Answered:
    """All answers of a person, at some of the particles that have taken them in."""
    every = max(1, setup.num_particles // DRAWS)
    return answers_at(setup, _options(setup, state, person, 0, every))


def _options(setup: Setup, state: State, i: int, first: int, every: int = 1) -> Options:
    """Channel, answer and option probabilities of the answers of a person from the entry `first` on."""
    mover, kept = mover_of(setup), state.evidence
    assert isinstance(kept, history.History)
    x, some, person = _particles(state, i, every), mind_of(state, i).thinned(every), int(state.people[i])
    w = _weights(setup, state, i, x)
    found = []
    for a in range(first, int(kept.num[i])):
        channel = int(kept.kind[i, a])
        if channel == COMPARISON:
            features = np.stack([kept.first[i, a], kept.second[i, a]])[:, :, None]
        elif channel in (MODE_CHOICE, ACCEPT_OVERRIDE):
            features = mover.believed(some, kept, person, i, a)
            if channel == ACCEPT_OVERRIDE:
                proposal = np.broadcast_to(kept.first[i, a][None, :, None], (1, *features.shape[1:]))
                features = np.concatenate([features, proposal])
        elif channel == BEST_OF:
            features = kept.cards[i, a, : kept.where[i, a], :, None]
        elif channel == STOP:
            found.append((channel, int(kept.option[i, a]), _watched(state, i, a, w, every)))
            continue
        elif channel == RATING:
            found.append((channel, int(kept.option[i, a]), _graded(setup, state, i, kept.first[i, a], every)))
            continue
        else:
            continue
        utility = np.sum(features * w, axis=1)
        options = np.arange(len(utility))
        recommended = (options == setup.num_modes).astype(float)
        last = (options == kept.where[i, a]).astype(float)
        if channel == BEST_OF:
            recommended = last = np.zeros(len(utility))
        probability = option_probability(x[setup.num_attributes - 1 :], channel, utility, recommended, last)
        found.append((channel, int(kept.option[i, a]), probability))
    return found


def own_parameters(setup: Setup, belief: Belief, person: int) -> dict[str, Floats]:
    """(P,) draws of what the engine `live` takes for known, and of how runs are rated and cut short where they are."""
    return of_mind(setup, belief.own[person])
