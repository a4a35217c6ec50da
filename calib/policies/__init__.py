"""Policies: which question to ask. A policy is a file in this folder with one function,

    choose(setup, belief, log_weight, u) -> (N,) pair number, -1 to ask nothing

and, where it chooses among channels,

    ask(setup, state, log_weight, u) -> (N,)   number of a pair, behind them of a probe (calib/probes.py), or -1

belief holds the particles before this round's answers, log_weight (N, P) what they count with those answers, and
u (N, 4) uniforms of the stream "policy" for this round, the only randomness that a policy may use.
"""

import importlib
from pathlib import Path
from types import ModuleType

from calib.errors import UserError


def policy_names() -> list[str]:
    """The policies that there are: the files of this folder."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def load_policy(name: str) -> ModuleType:
    """The policy of that name. The name is checked against the folder before anything is imported."""
    if name not in policy_names():
        raise UserError(f'--policy: "{name}" is not a policy; choose {", ".join(policy_names())}')
    return importlib.import_module(f"calib.policies.{name}")
