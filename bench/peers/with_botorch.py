"""BoTorch's preference Gaussian process over the outcome cards: run by the Python of its own environment."""

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from botorch.acquisition.preference import (
    AnalyticExpectedUtilityOfBestOption,
    PairwiseBayesianActiveLearningByDisagreement,
)
from botorch.fit import fit_gpytorch_mll
from botorch.models.likelihoods.pairwise import PairwiseLogitLikelihood
from botorch.models.pairwise_gp import PairwiseGP, PairwiseLaplaceMarginalLogLikelihood

from bench.peers.protocol import serve

ACQUISITIONS = {
    "eubo": AnalyticExpectedUtilityOfBestOption,
    "bald": PairwiseBayesianActiveLearningByDisagreement,
}


class Learner:
    """PairwiseGP with a logit likelihood, fitted anew each round; the pair by EUBO or BALD over the pool.

    It knows no "about equal": such an answer counts as one of each kind. Before two answers a pair is drawn.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float64)
        arrays = np.load(setup["setup"])
        self.cards, self.outcomes = torch.tensor(arrays["cards"]), torch.tensor(arrays["outcomes"])
        self.questions = arrays["questions"]
        self.pool = self.cards[torch.tensor(self.questions)]
        self.acquisition = ACQUISITIONS[setup["acquisition"]]
        self.seed = setup["seed"]
        self.about = {"version": version("botorch")}

    def begin(self, person: int) -> None:
        """Nothing is known."""
        torch.manual_seed(self.seed + person)
        self.rng = np.random.default_rng([self.seed, person])
        self.wins: list[list[int]] = []
        self.model: Any = None

    def choose(self) -> int:
        """The best pair of the pool."""
        if self.model is None:
            self.question = int(self.rng.integers(len(self.questions)))
        else:
            with torch.no_grad():
                self.question = int(self.acquisition(pref_model=self.model)(self.pool).argmax())
        return self.question

    def learn(self, answer: int) -> None:
        """Fit to all answers."""
        a, b = (int(card) for card in self.questions[self.question])
        self.wins += [[[a, b]], [[b, a]], [[a, b], [b, a]]][answer]
        self.model = PairwiseGP(self.cards, torch.tensor(self.wins), likelihood=PairwiseLogitLikelihood())
        fit_gpytorch_mll(PairwiseLaplaceMarginalLogLikelihood(self.model.likelihood, self.model))

    def told(self) -> dict[str, Any]:
        """Posterior mean utility of every outcome that a setting may lead to."""
        with torch.no_grad():
            return {"values": self.model.posterior(self.outcomes).mean[:, 0].tolist()}


if __name__ == "__main__":
    serve(Learner)
