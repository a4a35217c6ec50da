"""A person whose mental model is not known: the prior over intent, manner of answering and what they expect of modes.

f_hat(0) of a mode and attribute is Gaussian around what people expect on average, unclipped, with a spread of the
person's own; after a run of the mode it moves towards what was seen by learning rate times salience
(docs/definitions.md 2.4).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.history import RATING, STOP
from calib.questions import GRADES
from calib.scenario import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# The parameters beside weights and f_hat(0), each normal on the scale named here.
EXTRAS = (
    "log_rationality_mode_choice",
    "log_rationality_accept_override",
    "log_rationality_comparison",
    "log_rationality_rating",
    "log_rationality_stop",
    "logit_lapse",
    "reliance",
    "inertia",
    "log_about_equal",
    "aspiration",
    "log_spacing",
    "log_hazard",
    "logit_learning_rate",
    "log_belief_sd",
)
LAPSE, RELIANCE, INERTIA, TAU, ASPIRATION, SPACING, HAZARD, LEARNING, BELIEF_SD = range(5, len(EXTRAS))
INTENT_ROWS = [0, 1, 2, LAPSE, RELIANCE, INERTIA, TAU]  # of EXTRAS, in the order of calib/kernel.py
# What the engine `live` does not infer, by the name in documents, with its place among EXTRAS.
OWN = {
    "learning_rate": LEARNING,
    "belief_sd": BELIEF_SD,
    "rationality[rating]": RATING,
    "aspiration": ASPIRATION,
    "spacing": SPACING,
    "rationality[stop]": STOP,
    "hazard": HAZARD,
}


class MindPrior(NamedTuple):
    """J attributes, M modes, E = len(EXTRAS)."""

    concentration: Floats  # (J,) of the weights' Dirichlet
    mean: Floats  # (E,) and
    sd: Floats  # (E,) of the normal parameters, in the order of EXTRAS
    expectation: Floats  # (M, J) what people expect on average, scaled: the descriptions and their mean error
    salience: Floats  # (J,) between 0 and 1
    probe_sd: float  # of what is said around what is expected
    num_grades: int  # of a rating


def groups_of(salience: Floats) -> Ints:
    """(J,) the number of each attribute's group: attributes with one salience are learned at one rate."""
    return np.unique(salience, return_inverse=True)[1].astype(np.int64)


# Of the channels that a scenario may leave out: what a person aspires to, how far apart grades lie, how soon they stop.
_ASPIRATION, _LOG_SPACING, _LOG_HAZARD = (0.7, 0.15), (0.0, 0.3), (-6.0, 1.0)


def mind_prior_of(scenario: Scenario, expectation: Floats) -> MindPrior | None:
    """The scenario's population as a prior, with expectation (M, J); None where its people believe the descriptions."""
    beliefs, population = scenario.beliefs, scenario.population
    if beliefs is None:
        return None
    logs = [(np.log(median), sd) for median, sd in population.rationality]
    rationality = [*logs, logs[-1], logs[-1]]  # ratings and stops are about outcomes, as comparisons are
    spread, lapse = beliefs.spread, population.lapse
    pairs = [
        *rationality,
        (_logit(lapse[0]), lapse[1]),
        population.reliance,
        population.inertia,
        (np.log(population.about_equal[0]), population.about_equal[1]),
        _ASPIRATION,
        _LOG_SPACING,
        _LOG_HAZARD,
        (_logit(scenario.learning_rate), beliefs.learning_sd_logit),
        (np.log(spread[0]), spread[1]),
    ]
    mean, sd = np.array(pairs, dtype=np.float64).T
    return MindPrior(
        concentration=np.array(population.concentration),
        mean=np.ascontiguousarray(mean),
        sd=np.ascontiguousarray(sd),
        expectation=expectation,
        salience=np.array(scenario.salience),
        probe_sd=beliefs.probe_sd,
        num_grades=len(GRADES),
    )


def _logit(share: float) -> float:
    return float(np.log(share / (1 - share)))
