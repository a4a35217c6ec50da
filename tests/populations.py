"""Folders of parts with made-up rows, as large as a test wants them: the columns of a population, no simulation."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calib.gaps import GAPS
from experiments.parts import COLUMNS

ROUNDS = 12
LISTS = ("true_degree", "estimated_degree", "degree_low", "degree_high")


def made_up_rows(people: int, seed: int = 0, details: bool = True, **fixed: str) -> pa.Table:
    """A row a person of one condition: some align, some give up first, the rest are censored; clocks are continuous."""
    rng = np.random.default_rng(seed)
    aligned, gave_up = rng.geometric(0.15, people), rng.geometric(0.05, people)
    time = np.minimum(np.minimum(aligned, gave_up), ROUNDS)
    event = np.where(aligned <= np.minimum(gave_up, ROUNDS), 1, np.where(gave_up <= ROUNDS, 2, 0))
    words = {"role": "advisor", "policy": "random", "person_model": "rational", "kind": "simulated"}
    words |= {"rung": "simulator", "scenario_hash": "0" * 64, "engine": "live/intent/64"} | fixed
    columns: dict[str, Any] = {"person": np.arange(people)} | {name: [word] * people for name, word in words.items()}
    columns |= {"event": event, "rounds": time}
    for name, pace in (("attention_s", 30.0), ("wall_s", 900.0), ("robot_s", 850.0), ("effort", 2.0)):
        columns[name] = time * pace * rng.uniform(0.8, 1.2, people)
    for version, later in (("true", 0), ("declared", 1), ("accepted", 2)):
        columns |= {f"{version}_event": event, f"{version}_rounds": np.minimum(time + later, ROUNDS)}
    columns |= {"verified_event": [None] * people, "verified_rounds": [None] * people}
    columns |= {
        "true_degree_final": rng.beta(9, 2, people),
        "declared_falsely": (event == 1) & (rng.random(people) < 0.1),
    }
    table = {name: pa.array(columns[name], kind) for name, kind in COLUMNS}
    if details:
        offsets = np.concatenate([[0], np.cumsum(time + 1)]).astype(np.int32)
        round_of = np.arange(offsets[-1]) - np.repeat(offsets[:-1], time + 1)
        true = np.clip(0.6 + 0.03 * round_of + rng.normal(0, 0.05, len(round_of)), 0, 1)
        for name, shift in zip(LISTS, (0.0, -0.02, -0.1, 0.05), strict=True):
            table[name] = pa.ListArray.from_arrays(offsets, np.clip(true + shift, 0, 1).astype(np.float32))
        for i, name in enumerate(GAPS):
            gap = rng.gamma(2.0, 0.01 * (i + 1), people)
            table[f"gap_{name}"] = pa.array(gap * np.where(name == "mediation", -1, 1))
    return pa.table(table)


def write_population(folder: Path, *conditions: pa.Table, chunk: int = 256) -> Path:
    """The folder with its parts and a manifest over them."""
    (folder / "parts").mkdir(parents=True)
    parts = []
    for c, rows in enumerate(conditions):
        for first in range(0, rows.num_rows, chunk):
            part = rows.slice(first, chunk)
            path = folder / "parts" / f"c{c:03d}-{first:08d}-{first + part.num_rows:08d}.parquet"
            pq.write_table(part, path, compression="zstd")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            parts.append({"file": path.relative_to(folder).as_posix(), "rows": part.num_rows, "sha256": digest})
    total = hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"parts": parts, "data_sha256": total}))
    return folder
