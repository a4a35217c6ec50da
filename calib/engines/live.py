"""Every answer counts; particles are reweighed by it and moved where too few still count (calib/live.py).

People are taken to believe the descriptions and to learn at the scenario's rate: the engine `full` infers both.
"""

from dataclasses import replace

import numpy as np

from calib import evidence, live, questions
from calib.engines._asked import asked
from calib.engines._measured import measured
from calib.engines._predicted import DRAWS, Options, option_probability, predicted
from calib.engines._predicted import answered as answers_at
from calib.evidence import Evidence
from calib.prior import Prior
from calib.setup import Setup
from calib.state import Answered, Floats, Ints, Measured, Predicted, State

TIER = "intent"
PARTICLES = None
EVIDENCE = evidence
LEARNS_FROM = (questions.PAIR, questions.BEST_OF)


def start(setup: Setup, people: Ints) -> live.Belief:
    """Particles from the prior."""
    return live.start(setup.prior, people, setup.seed, setup.num_particles)


def question(setup: Setup, state: State) -> Ints:
    """The question that the policy asks. It knows this round's choice already."""
    kept = state.evidence
    assert isinstance(kept, Evidence)
    news = live.answer_log_likelihood(state.belief, setup.prior, kept, state.in_belief)
    return asked(setup, state, state.belief.log_weight + news)


def measure(setup: Setup, state: State) -> Measured:
    """Take the new answers into the belief, let the machine stand where it now would, and estimate the degree."""
    return measured(setup, state, *take_in(setup, state))


def take_in(setup: Setup, state: State) -> tuple[live.Belief, live.Diagnostics]:
    """The belief with the new answers."""
    kept = state.evidence
    assert isinstance(kept, Evidence)
    return live.update(state.belief, setup.prior, kept, state.in_belief, state.people, setup.seed, state.active)


def anew(setup: Setup, belief: live.Belief, people: Ints) -> tuple[Setup, live.Belief]:
    """Another intent, answered in the same manner: particles (1, D, P) of it, and the setup with their prior.

    What is believed of the manner is kept as a mean and a standard deviation of each coordinate.
    """
    manner = live.draws(belief)[0, setup.num_attributes - 1 :]
    prior = Prior(setup.prior.concentration, manner.mean(axis=1), manner.std(axis=1))
    return replace(setup, prior=prior), live.start(prior, people, setup.seed, setup.num_particles)


def pooled(beliefs: list[live.Belief], share: Floats) -> live.Belief:
    """Equally weighted particles (1, D, P) of the mixture of beliefs, as many of each as its share (H,) says."""
    num = beliefs[0].particles.shape[2]
    ends = np.floor(np.cumsum(share) / np.sum(share) * num + 0.5).astype(np.int64)
    taken = []
    for belief, count in zip(beliefs, np.diff(ends, prepend=0), strict=True):
        # `take` keeps the layout of memory for which everything is compiled
        taken.append(np.take(live.draws(belief), (np.arange(count) * num) // max(count, 1), axis=2))
    return live.evenly(np.concatenate(taken, axis=2))._replace(step=beliefs[int(np.argmax(share))].step)


def predict(setup: Setup, state: State) -> Predicted:
    """How probable every option of the new answers was at the particles that have not taken them in."""
    x = state.belief.particles
    return predicted(setup, state, lambda i: _options(setup, state, i, x[i], int(state.in_belief[i])))


def answered(setup: Setup, state: State, person: int) -> Answered:
    """All answers of a person, at some of the particles that have taken them in."""
    x = live.draws(type(state.belief)(*(column[person : person + 1] for column in state.belief)))[0]
    return answers_at(setup, _options(setup, state, person, x[:, :: max(1, x.shape[1] // DRAWS)], 0))


def _options(setup: Setup, state: State, i: int, particles: Floats, first: int) -> Options:
    """Channel, answer and option probabilities of a person's answers from `first` on, at particles (D, P)."""
    kept, x = state.evidence, np.ascontiguousarray(particles)
    assert isinstance(kept, Evidence)
    w = live.intent_at(x[None], setup.num_attributes)[0]
    found = []
    for a in range(first, int(kept.num_answers[i])):
        channel, count = int(kept.channel[i, a]), int(kept.num_options[i, a])
        utility = np.zeros((count, x.shape[1]))
        for j in range(setup.num_attributes):
            utility += kept.features[i, a, :count, j, None] * w[j]
        marks = kept.recommended[i, a, :count], kept.last[i, a, :count]
        probability = option_probability(x[setup.num_attributes - 1 :], channel, utility, *marks)
        found.append((channel, int(kept.chosen[i, a]), probability))
    return found
