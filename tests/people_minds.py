"""A scenario whose people have a mental model of their own."""

from dataclasses import replace

from calib.scenario import Beliefs, Scenario


def with_beliefs(scenario: Scenario) -> Scenario:
    """The same, of people who do not quite believe the descriptions and learn each at a rate of their own."""
    return replace(scenario, beliefs=Beliefs(spread=(0.2, 0.4), learning_sd_logit=0.7, probe_sd=0.05))


def with_aspirations(scenario: Scenario) -> Scenario:
    """The same, of people who are content with enough."""
    pairs = tuple((0.5 + 0.1 * (j % 3), 1.0) for j in range(len(scenario.attributes)))
    return replace(scenario, utility="aspiration", population=replace(scenario.population, aspiration=pairs))
