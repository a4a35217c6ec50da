"""As `rational`, but often answers by chance: the lapse is twenty per cent unless given."""

from experiments.people import rational

PARAMETERS: dict[str, float | None] = {**rational.PARAMETERS, "lapse": 0.2}

choose, choose_alone, compare = rational.choose, rational.choose_alone, rational.compare
good_enough, experience = rational.good_enough, rational.experience
