"""A peer that asks at random and knows nothing: run as a script on the far end of the pipe."""

import random
from typing import Any

import numpy as np

from bench.peers.protocol import serve


class Learner:
    """Uniform questions; what it tells is the mean of the slopes that it was given."""

    def __init__(self, setup: dict[str, Any]) -> None:
        arrays = np.load(setup["setup"])
        self.num, self.slopes = len(arrays["questions"]), arrays["slopes"]
        self.rng = random.Random(setup["seed"])
        self.about = {"version": "0", "points": len(self.slopes), "kind": setup["kind"]}
        print("printed by a library")

    def begin(self, person: int) -> None:
        """Nothing to forget."""

    def choose(self) -> int:
        return self.rng.randrange(self.num)

    def learn(self, answer: int) -> None:
        assert answer in (0, 1, 2)

    def told(self) -> dict[str, Any]:
        return {"slopes": self.slopes.mean(axis=0).tolist()}


if __name__ == "__main__":
    serve(Learner)
