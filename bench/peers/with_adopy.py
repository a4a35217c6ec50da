"""ADOpy (Yang et al. 2021) over a grid of points of the person: run by the Python of its own environment."""

import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
from adopy import Engine, Model, Task

from bench.peers.protocol import serve


class Learner:
    """Its engine with mutual information; the points (P) of the file are its grid, with a flat prior on them."""

    def __init__(self, setup: dict[str, Any]) -> None:
        warnings.simplefilter("ignore")
        arrays = np.load(setup["setup"])
        self.slopes = arrays["slopes"]
        log_lik = log_likelihood(setup["kind"], arrays)
        designs, points, answers = log_lik.shape
        task = Task(designs=["design"], responses=["answer"])

        def looked_up(design: Any, point: Any, answer: Any) -> Any:
            found = log_lik[design.astype(int), point.astype(int), answer.astype(int)]
            if setup["points_first"]:  # in memory: its sums over the points then add up whole rows
                found = np.ascontiguousarray(found.swapaxes(0, 1)).swapaxes(0, 1)
            return found

        self.engine = Engine(
            task=task,
            model=Model(task=task, params=["point"], func=looked_up),
            grid_design={"design": np.arange(designs)},
            grid_param={"point": np.arange(points)},
            grid_response={"answer": np.arange(answers)},
        )
        self.about = {"version": version("adopy"), "points": points}

    def begin(self, person: int) -> None:
        """As its own `reset`, which would make the likelihood anew."""
        self.engine.log_post = np.copy(self.engine.log_prior)
        for made in ("_marg_log_lik", "_ent_marg", "_ent_cond", "_mutual_info"):
            setattr(self.engine, made, None)

    def choose(self) -> int:
        """The design with the largest mutual information."""
        self.design = self.engine.get_design()
        return int(self.design["design"])

    def learn(self, answer: int) -> None:
        """Reweigh the grid."""
        self.engine.update(self.design, {"answer": answer})

    def told(self) -> dict[str, Any]:
        """Posterior mean of what the setting is chosen by."""
        return {"slopes": (self.engine.post @ self.slopes).tolist()}


def log_likelihood(kind: str, arrays: Any) -> Any:
    """(R, P, answers) of docs/definitions.md 2.5: of pairs with "about equal", or of menus with a lapse."""
    questions, rationality = arrays["questions"], arrays["rationality"]
    value = rationality[:, None] * (arrays["weights"] @ arrays["cards"].T)
    of_options = value[:, questions].transpose(1, 0, 2)  # (R, P, K)
    if kind == "pairs":
        scaled, tau = of_options[..., 0] - of_options[..., 1], arrays["about_equal"]
        log_a, log_b = -np.logaddexp(0, tau - scaled), -np.logaddexp(0, tau + scaled)
        return np.stack([log_a, log_b, np.log(np.expm1(2 * tau)) + log_a + log_b], axis=-1)
    share = np.exp(of_options - of_options.max(axis=-1, keepdims=True))
    share /= share.sum(axis=-1, keepdims=True)
    lapse = arrays["lapse"][:, None]
    return np.log(lapse / share.shape[-1] + (1 - lapse) * share)


if __name__ == "__main__":
    serve(Learner)
