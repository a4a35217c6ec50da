"""As `rational`, but clings to the mode that ran last: two units of log odds unless given."""

from experiments.people import rational

PARAMETERS: dict[str, float | None] = {**rational.PARAMETERS, "inertia": 2.0}

choose, choose_alone, compare = rational.choose, rational.choose_alone, rational.compare
good_enough, experience = rational.good_enough, rational.experience
