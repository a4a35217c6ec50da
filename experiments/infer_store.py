"""A posterior as ArviZ InferenceData in a netCDF file. ArviZ is slow to import: load only where needed."""

import json
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from calib.errors import UserError
from calib.scenario import CHANNELS
from experiments.choice_data import Choices
from experiments.infer import Fit, Form
from experiments.infer_population import Population

MOST_BYTES = 2_000_000_000  # of draws


def refuse_out(path: str, form: Form, num_people: int, num_draws: int) -> None:
    """UserError where the file cannot be written, before anything is computed."""
    folder = Path(path).parent
    if not folder.is_dir():
        raise UserError(f"--out {path}: the folder {folder} does not exist: make it")
    if Path(path).is_dir():
        raise UserError(f"--out {path}: is a folder: name a file, for example {path}/posterior.nc")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out {path}: the folder {folder} cannot be written: look at its permissions")
    size = 8 * num_people * len(form.names) * num_draws
    if size > MOST_BYTES:
        raise UserError(
            f"--out {path}: {num_people} people are {size / 1e9:.0f} GB of draws: --pool them, or split them"
        )


def write(
    path: str,
    form: Form,
    fits: Sequence[Fit],
    choices: Choices,
    attributes: dict[str, Any],
    people: Population | None = None,
) -> None:
    """Groups posterior, observed_data and constant_data; `attributes` and the versions stand at the posterior."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    import arviz

    several = len(choices.people) > 1
    draws = np.concatenate([fit.draws for fit in fits]).transpose(2, 3, 0, 1)  # (chains, draws, N, names)
    draws = draws if several else draws[:, :, 0]
    person = ["person"] if several else []
    num, intent = len(form.attributes), "coefficients" if form.free else "weights"
    posterior = {intent: draws[..., :num]}
    dims = {intent: [*person, "attribute"]}
    if not form.free:
        posterior["rationality"] = draws[..., num : num + len(form.channels)]
        dims["rationality"] = [*person, "channel"]
    for k, name in enumerate(form.names):
        if k >= num and not name.startswith("rationality"):
            posterior[name] = draws[..., k]
            dims[name] = person
    if people is not None:
        posterior["population"] = np.moveaxis(people.draws, 0, -1)
        posterior["population_mean"] = np.moveaxis(people.mean, 0, -1)
        posterior["population_covariance"] = np.moveaxis(people.covariance, (0, 1), (-2, -1))
        dims |= {"population": ["population_parameter"], "population_mean": ["coordinate"]}
        dims["population_covariance"] = ["coordinate", "coordinate_bis"]
    data = arviz.from_dict(
        posterior=posterior,
        observed_data={"chosen": choices.chosen},
        constant_data={
            "attributes": choices.values,
            "option": choices.options.astype(str),
            "choice_of_row": np.repeat(np.arange(len(choices.chosen)), np.diff(choices.start)),
            "person_of_choice": np.array(choices.people, dtype=str)[choices.person],
            "round_of_choice": choices.rounds.astype(str),
            "channel_of_choice": np.array(CHANNELS)[choices.channel],
        },
        coords={
            "attribute": list(form.attributes),
            "channel": [CHANNELS[c] for c in form.channels],
            "person": list(choices.people),
            **({"population_parameter": list(people.names)} if people is not None else {}),
        },
        dims=dims
        | {
            "chosen": ["choice"],
            "attributes": ["row", "attribute"],
            "option": ["row"],
            "choice_of_row": ["row"],
            **{f"{what}_of_choice": ["choice"] for what in ("person", "round", "channel")},
        },
    )
    packages = ("interaction-calibration-lab", "numpy", "numba", "pymc", "nutpie", "arviz")
    attributes = attributes | {f"version_{name}": version(name) for name in packages}
    data.posterior.attrs.update(
        {k: v if isinstance(v, int | float | str) else json.dumps(v) for k, v in attributes.items()}
    )
    data.attrs.update(data.posterior.attrs)
    part = Path(f"{path}.part")
    data.to_netcdf(str(part), engine="h5netcdf")
    part.replace(path)
