"""The engine that holds for any utility, and is slower (calib/exact.py).

It infers intent, aspirations where there are, and what people expect of modes where they differ in it. Every particle
carries all of it, where `full` and `live` carry as little as linear utility allows. Evidence is everything that
happened, in order (calib/history.py), also where people believe the descriptions.
"""

from dataclasses import fields, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from calib import exact, history, live, questions
from calib.choice import grade_log_probs, stop_log_prob
from calib.engines._asked import asked
from calib.engines._measured import measured
from calib.engines._own import of_mind
from calib.engines._predicted import DRAWS, Options, option_probability, predicted
from calib.engines._predicted import answered as answers_at
from calib.exact import Held, Mover
from calib.exact_kernel import terms_of
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, RATING, STOP
from calib.live import over_people
from calib.mental import ASPIRATION, HAZARD, INTENT_ROWS, OWN, SPACING
from calib.mind import flattened
from calib.outcomes import scale
from calib.questions import GRADES
from calib.setup import Setup
from calib.state import Answered, Estimate, Floats, Ints, Measured, Predicted, State
from calib.utility import FEW_KNOTS, UTILITIES, at_knots, over_knots, value
from calib.vector import Singles

TIER = "full"
PARTICLES = 1024
EVIDENCE = history
LEARNS_FROM = tuple(range(len(questions.KINDS)))
UTILITIES = UTILITIES
_SMALLEST = 1e-12  # share of a knot: a log ratio has to be finite


class Belief(NamedTuple):
    """Equally weighted particles (N, ...) twice: as they move, and as policies and figures read them."""

    particles: Floats  # (N, D, P) in the coordinates of calib/kernel.py
    step: Floats  # (N,)
    held: Singles  # (N, B, D', W) in those of calib/exact_kernel.py
    aspirations: Floats  # (N, J, P), (N, 0, P) where utility is linear
    own: Floats  # (N, 7, P) those of OWN, as EXTRAS has them


@lru_cache(maxsize=8)
def mover_of(setup: Setup, threads: int = 1) -> Mover:
    """The setup's compiled parts."""
    scenario = setup.scenario
    people = setup.expectation, np.array(scenario.salience), scenario.learning_rate
    return Mover(terms_of(setup.prior, setup.mind, setup.aspirations, *people), setup.seed, threads)


def held_of(state: State, i: int) -> Held:
    """Person i's belief as it moves."""
    return Held(state.belief.held[i], float(state.belief.step[i]), int(state.in_belief[i]))


def start(setup: Setup, people: Ints) -> Belief:
    """Particles from the prior."""
    terms = mover_of(setup).terms
    all_held = [exact.start(terms, int(person), setup.seed, setup.num_particles) for person in people]
    step = np.array([held.step for held in all_held])
    return _belief(setup, np.stack([held.particles for held in all_held]), step)


def _belief(setup: Setup, blocks: Singles, step: Floats) -> Belief:
    num, num_particles, last = len(blocks), blocks.shape[1] * blocks.shape[3], _attributes(setup) - 1
    particles = np.empty((num, last + len(INTENT_ROWS), num_particles))
    aspirations = np.empty((num, last + 1 if setup.aspirations else 0, num_particles))
    own, of_own, mover = np.empty((num, len(OWN), num_particles)), list(OWN.values()), mover_of(setup)
    for i in range(num):
        w, b, extras = mover.natural(blocks[i])
        particles[i, :last] = _ratios(w)
        particles[i, last:] = extras[INTENT_ROWS]
        aspirations[i] = b[: aspirations.shape[1]]
        own[i] = extras[of_own]
    return Belief(particles, step, blocks, aspirations, own)


def _attributes(setup: Setup) -> int:
    """J, also of a setup of `_flat`."""
    return len(setup.scenario.attributes)


def _ratios(w: Floats) -> Floats:
    """(J - 1, P) log ratios to the last of weights (J, P)."""
    log_w = np.log(np.maximum(w, 1e-30))
    return np.asarray(log_w[:-1] - log_w[-1:])


@lru_cache(maxsize=8)
def _flat(setup: Setup) -> Setup:
    """The same questions as if utility were linear, in v at a few knots of the aspirations: what policies can judge."""
    if setup.aspirations is None:
        return setup
    phi = at_knots(scale(setup.scenario, setup.map.z), FEW_KNOTS).mean(axis=2)
    return replace(setup, phi=phi, value=phi, cards=at_knots(setup.cards, FEW_KNOTS))


def _flat_belief(setup: Setup, belief: Belief) -> Belief:
    """Particles (N, J G - 1 + 7, P) of the intents that `_flat` speaks of."""
    if setup.aspirations is None:
        return belief
    w = over_knots(_weights(setup, belief), belief.aspirations, FEW_KNOTS)
    log_w = np.log(np.maximum(w, _SMALLEST))
    extras = belief.particles[:, _attributes(setup) - 1 :]
    return belief._replace(particles=np.concatenate([log_w[:, :-1] - log_w[:, -1:], extras], axis=1))


def _weights(setup: Setup, belief: Belief) -> Floats:
    return live.intent_at(belief.particles, _attributes(setup))


def question(setup: Setup, state: State) -> Ints:
    """The question that the policy asks. It knows this round's choice already.

    Where utility is not linear questions are judged on a coarse table of it; what the answer says is not.
    """
    mover, kept, num = mover_of(setup), state.evidence, len(state.people)
    assert isinstance(kept, history.History)
    log_weight = np.zeros((num, state.belief.particles.shape[2]))

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            if state.active[i]:
                log_weight[i] = mover.new_answers(held_of(state, i), kept, i)

    over_people(work, num)
    return asked(_flat(setup), replace(state, belief=_flat_belief(setup, state.belief)), log_weight)


def outlook(setup: Setup, state: State, i: int, thin: int) -> tuple[Floats, Floats]:
    """Mean and variance, 0, (M, J, P / thin) of what person i expects now, at every `thin`th particle."""
    found = _expected(setup, state, i, int(state.evidence.num_answers[i]))[..., ::thin]
    return found, np.zeros_like(found)


def _expected(setup: Setup, state: State, i: int, entry: int) -> Floats:
    """(M, J, P) what person i expected at an entry."""
    kept = state.evidence
    assert isinstance(kept, history.History)
    *_, found = mover_of(setup).expected(state.belief.held[i], kept, i, entry)
    return np.asarray(found)


def grades(setup: Setup, state: State, i: int, thin: int = 1) -> Floats:
    """(G, P / thin) how probable each grade of the run that person i saw last is, at every `thin`th particle."""
    return _Draws(setup, state, i, thin).graded(state.seen[i])


def measure(setup: Setup, state: State) -> Measured:
    """Take the new entries into the belief, let the machine stand where it now would, and estimate the degree."""
    kept, before, num = state.evidence, state.belief, len(state.people)
    assert isinstance(kept, history.History)
    mover = mover_of(setup, live.num_threads() if num == 1 else 1)
    held, step = before.held.copy(), before.step.copy()
    diagnostics = live.Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))

    def work(low: int, high: int) -> None:
        for i in range(low, high):
            if state.active[i]:
                after, effort = mover.update(held_of(state, i), kept, int(state.people[i]), i)
                held[i], step[i] = after.particles, after.step
                diagnostics.ess[i], diagnostics.stages[i] = effort.ess, effort.steps
                diagnostics.accept[i] = effort.accept

    over_people(work, num)
    belief = _belief(setup, held, step)
    if setup.aspirations is None or num == 1:
        return measured(setup, state, belief, diagnostics)
    found = []  # one person after the other: intents over knots are large
    for i in range(num):
        own = slice(i, i + 1)
        columns = {name: getattr(state, name)[own] for name in ("standing", "active", "commanded", "context")}
        of_person = Belief(*(column[own] for column in belief))  # type: ignore[arg-type]
        found.append(measured(setup, replace(state, **columns), of_person, diagnostics))
    estimate = Estimate(*(np.concatenate([getattr(one.estimate, f.name) for one in found]) for f in fields(Estimate)))
    return Measured(belief, diagnostics, np.concatenate([one.standing for one in found]), estimate)


def believed(setup: Setup, state: State) -> Floats:
    """(N, M, J, P) what people expected when they chose in this round, at each particle."""
    kept = state.evidence
    assert isinstance(kept, history.History)
    found = []
    for i in range(len(state.people)):
        kind = kept.kind[i, : kept.num[i]]
        menus = np.flatnonzero((kind == MODE_CHOICE) | (kind == ACCEPT_OVERRIDE))
        found.append(_expected(setup, state, i, int(menus[-1]) if len(menus) else int(kept.num[i])))
    return np.stack(found)


def predict(setup: Setup, state: State) -> Predicted:
    """How probable every option of the new answers was at the particles that have not taken them in."""
    return predicted(setup, state, lambda i: _Draws(setup, state, i).options(int(state.in_belief[i])))


def answered(setup: Setup, state: State, person: int) -> Answered:
    """All answers of a person, at some of the particles that have taken them in."""
    every = max(1, state.belief.particles.shape[2] // DRAWS)
    return answers_at(setup, _Draws(setup, state, person, every).options(0))


class _Draws:
    """Person i at every `every`th particle, in double precision."""

    def __init__(self, setup: Setup, state: State, i: int, every: int = 1) -> None:
        kept = state.evidence
        assert isinstance(kept, history.History)
        self.setup, self.i, self.kept, self.mover = setup, i, kept, mover_of(setup)
        self.particles = np.ascontiguousarray(flattened(state.belief.held[i])[None, :, ::every])
        self.weights, self.aspirations, self.extras = self.mover.natural(self.particles)

    def utility(self, features: Floats) -> Floats:
        """(K, P) of features (K, J) or (K, J, P)."""
        features = features if features.ndim == 3 else features[..., None]
        if self.setup.aspirations is not None:
            features = value(np, np.clip(features, 0.0, 1.0), self.aspirations)
        return np.asarray(np.sum(features * self.weights, axis=1))

    def graded(self, seen: Floats) -> Floats:
        """(G, P) how probable each grade of an outcome (J,) is."""
        x = self.extras
        scale = np.exp(x[RATING]), x[ASPIRATION], np.exp(x[SPACING])
        log_p = grade_log_probs(np, self.utility(seen[None])[0], *scale, len(GRADES))
        return np.exp(np.ascontiguousarray(log_p.T))

    def watched(self, a: int) -> Floats:
        """(2, P) likelihood of entry a, a run that was watched: had it been let go on so long, had it been cut then."""
        x, utility = self.extras, self.utility(self.kept.first[self.i, a][None])[0]
        scale, minutes = (np.exp(x[STOP]), x[ASPIRATION], x[HAZARD]), self.kept.value[self.i, a]
        return np.exp(np.stack([stop_log_prob(np, utility, *scale, minutes, cut) for cut in (0.0, 1.0)]))

    def options(self, first: int) -> Options:
        """Channel, answer and option probabilities of the answers from the entry `first` on."""
        kept, i, found, num_modes = self.kept, self.i, [], self.setup.num_modes
        expected = self.mover.expected(self.particles, kept, i, int(kept.num[i]))
        for a, f_hat in enumerate(expected):
            if a < first or a == kept.num[i]:
                continue
            channel, last = int(kept.kind[i, a]), int(kept.where[i, a])
            if channel == COMPARISON:
                utility = self.utility(np.stack([kept.first[i, a], kept.second[i, a]]))
            elif channel == BEST_OF:
                utility = self.utility(kept.cards[i, a, :last])
            elif channel in (MODE_CHOICE, ACCEPT_OVERRIDE):
                utility = self.utility(f_hat)
                if channel == ACCEPT_OVERRIDE:
                    utility = np.concatenate([utility, self.utility(kept.first[i, a][None])])
            elif channel == RATING:
                found.append((channel, int(kept.option[i, a]), self.graded(kept.first[i, a])))
                continue
            elif channel == STOP:
                found.append((channel, int(kept.option[i, a]), self.watched(a)))
                continue
            else:
                continue
            numbers, is_menu = np.arange(len(utility)), channel != BEST_OF
            marks = ((numbers == num_modes) & is_menu).astype(float), ((numbers == last) & is_menu).astype(float)
            probability = option_probability(self.extras[INTENT_ROWS], channel, utility, *marks)
            found.append((channel, int(kept.option[i, a]), probability))
        return found


def own_parameters(setup: Setup, belief: Belief, person: int) -> dict[str, Floats]:
    """(P,) draws of what the engine `live` does not have or takes for known."""
    names = [f"aspiration[{a.name}]" for a in setup.scenario.attributes]
    found = dict(zip(names, belief.aspirations[person], strict=False))  # there are none where utility is linear
    return found if setup.mind is None else found | of_mind(setup, belief.own[person])
