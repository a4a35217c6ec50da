"""A setup: a scenario with its outcome map, a role, a policy and a seed, as the arrays that the session computes on."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.calibration import floors_missed
from calib.engines import load_engine
from calib.errors import UserError
from calib.mental import MindPrior, mind_prior_of
from calib.outcomes import OutcomeMap, outcome_map, scale
from calib.policies import load_policy
from calib.prior import Prior, prior_of
from calib.questions import BEST_OF, GRADES, PROBE, RATING, Pool
from calib.scenario import ROLES, Scenario, digest
from calib.utility import ASPIRATION, LEAST, LINEAR, Aspirations, at_knots
from devices.home.types import OUTCOMES, Settings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STOP_RULES = ("max_rounds", "accepted", "declared")


@dataclass(frozen=True, eq=False)
class Setup:
    """S settings (S_ref first), X contexts, M modes, J attributes, Q outcome cards, R pairs of cards."""

    scenario: Scenario
    role: str
    policy: str
    stop_rule: str
    max_rounds: int
    seed: int
    engine: str
    num_particles: int
    map: OutcomeMap
    prior: Prior
    mind: MindPrior | None  # None where the scenario's people believe the descriptions
    aspirations: Aspirations | None  # None where utility is linear
    phi: Floats  # (S, X, J) scaled outcomes, averaged over replicates
    value: Floats  # (S, X, V) what utility is linear in, averaged likewise: phi, or v at the knots (calib/utility.py)
    feasible: NDArray[np.bool_]  # (S, X) keeps every hard limit
    context_p: Floats  # (X,)
    mode_setting: Ints  # (M,) setting number of each mode
    setting_mode: Ints  # (S,) mode number, -1 where the setting is no mode
    default: int
    expectation: Floats  # (M, J) what people expect on average before the first run: the descriptions and their error
    learning: Floats  # (J,) learning rate times salience
    card_setting: Ints  # (Q,)
    card_context: Ints  # (Q,)
    card_z: Floats  # (Q, 6) as shown
    cards: Floats  # (Q, J)
    pairs: Ints  # (R, 2) card numbers
    menus: Ints  # (R', K) card numbers, of which the best is asked for

    @property
    def pool(self) -> Pool:
        """The questions that there are: those of the scenario from which the engine learns."""
        kinds, scenario = load_engine(self.engine).LEARNS_FROM, self.scenario
        return Pool(
            pairs=len(self.pairs),
            probes=self.num_modes * len(scenario.attributes) if scenario.asks_beliefs and PROBE in kinds else 0,
            ratings=int(scenario.asks_ratings and RATING in kinds),
            menus=len(self.menus) if BEST_OF in kinds else 0,
        )

    @property
    def learns_from_cuts(self) -> bool:
        """Whether people may cut a run short: where the scenario lets them and the engine learns from it."""
        return self.scenario.may_cut_short and hasattr(load_engine(self.engine).EVIDENCE, "add_watched")

    @property
    def most_options(self) -> int:
        """Options of the question that has most, probes apart."""
        return max(self.num_modes + 1, 3, self.menus.shape[1], len(GRADES) if self.pool.ratings else 0)

    @property
    def num_reference(self) -> int:
        """|S_ref|."""
        return self.scenario.num_reference

    @property
    def num_contexts(self) -> int:
        """X."""
        return len(self.scenario.contexts)

    @property
    def num_modes(self) -> int:
        """M."""
        return len(self.scenario.modes)

    @property
    def num_attributes(self) -> int:
        """J."""
        return self.cards.shape[1]

    @property
    def settings(self) -> tuple[Settings, ...]:
        """All settings by number."""
        return self.scenario.settings

    @property
    def reference_hash(self) -> str:
        """sha256 of S_ref."""
        return digest([vars(s) for s in self.settings[: self.num_reference]])

    @property
    def tier(self) -> str:
        """What the engine infers."""
        return str(load_engine(self.engine).TIER)

    @property
    def engine_label(self) -> str:
        """The engine as a row names it: name, tier and particles, or the name alone where nothing is inferred."""
        if self.tier == "known":
            return self.engine
        return f"{self.engine}/{self.tier}/{self.num_particles}"

    def _of_measured(self) -> dict[str, Any]:
        """Which attributes of a fitted map were measured, on what, and which floors its modes miss."""
        found: dict[str, Any] = {}
        if (fitted := self.scenario.fitted) is not None:
            names = {c.attribute for c in fitted.cells}
            found["map_measured"] = {
                "device": fitted.device,
                "rung": fitted.rung,
                "records_sha256": fitted.records_sha256,
                "attributes": {a.name: "measured" if a.name in names else "modelled" for a in self.scenario.attributes},
            }
        if self.scenario.floors:
            found["floors_missed"] = floors_missed(self.scenario, self.map.z)
        return found

    def record(self) -> dict[str, Any]:
        """What every record of a run says about its setup."""
        return {
            "scenario": self.scenario.name,
            "scenario_version": self.scenario.version,
            "scenario_hash": self.scenario.hash,
            "map_source": self.map.source,
            "map_sha256": self.map.sha256,
            **self._of_measured(),
            "reference_hash": self.reference_hash,
            "role": self.role,
            "policy": self.policy,
            "stop_rule": self.stop_rule,
            "max_rounds": self.max_rounds,
            "seed": self.seed,
            "engine": {"name": self.engine, "tier": self.tier, "particles": self.num_particles},
            "eps": self.scenario.eps,
            "horizon": self.scenario.horizon,
            "delta": self.scenario.delta,
        }


def usual_engine(scenario: Scenario) -> str:
    """The one that infers what the scenario's people differ in."""
    if scenario.utility == ASPIRATION:
        return "exact"
    return "full" if scenario.beliefs else "live"


def make_setup(
    scenario: Scenario,
    *,
    role: str = "advisor",
    policy: str = "information_gain",
    stop_rule: str = "max_rounds",
    max_rounds: int | None = None,
    seed: int = 0,
    engine: str | None = None,
    num_particles: int | None = None,
    table: OutcomeMap | None = None,
) -> Setup:
    """A Setup, without `engine` with the scenario's usual one.

    UserError for an unknown role, policy, engine or rule, and for limits that leave a context no mode.
    """
    if role not in ROLES:
        raise UserError(f'--role: "{role}" is not a role; choose {" or ".join(ROLES)}')
    if stop_rule not in STOP_RULES:
        raise UserError(f'--until: "{stop_rule}" is no stopping rule; choose {", ".join(STOP_RULES)}')
    if seed < 0:
        raise UserError(f"--seed: {seed} is negative; give 0 or more")
    engine = engine or usual_engine(scenario)
    kind, all_cards = load_engine(engine), getattr(load_policy(policy), "FULL_MENU", False)
    if all_cards and kind.LEARNS_FROM and BEST_OF not in kind.LEARNS_FROM:
        raise UserError(
            f"--policy: {policy} asks for the best of all cards, and the engine {engine} learns from pairs alone; "
            "use --engine live or another policy"
        )
    if kind.TIER == "known" and num_particles not in (None, kind.PARTICLES):
        raise UserError(f"--particles: the engine {engine} infers nothing and has no particles; leave it out")
    if max_rounds is not None and max_rounds < 1:
        raise UserError(f"--rounds: {max_rounds} is too few; give 1 or more")
    if scenario.utility != LINEAR and scenario.utility not in getattr(kind, "UTILITIES", ()):
        raise UserError(
            f"--engine: {engine} holds for linear utility, and that of {scenario.file} is {scenario.utility}; "
            "take --engine exact"
        )
    table = table or outcome_map(scenario)
    of_map = _of_map(scenario, table)
    phi, feasible, mean = of_map["phi"], of_map["feasible"], table.z.mean(axis=2)
    columns = [OUTCOMES.index(a.name) for a in scenario.attributes]
    number = {s: i for i, s in enumerate(scenario.settings)}
    mode_setting = np.array([number[m.settings] for m in scenario.modes])
    setting_mode = np.full(len(scenario.settings), -1)
    setting_mode[mode_setting[::-1]] = np.arange(len(scenario.modes))[::-1]
    raw = np.zeros((len(scenario.modes), len(OUTCOMES)))
    raw[:, columns] = [[m.expectation[a.name] for a in scenario.attributes] for m in scenario.modes]
    expectation = scale(scenario, raw)
    if scenario.beliefs is not None and scenario.beliefs.error:
        expectation = expectation + np.array(scenario.beliefs.error)
    card_setting, card_context = _spread(phi[: scenario.num_reference], feasible, scenario.num_cards)
    card_z = np.round(mean[card_setting, card_context], 1)
    pairs = np.array([(a, b) for a in range(scenario.num_cards) for b in range(a + 1, scenario.num_cards)])
    size = scenario.num_cards if all_cards else scenario.menu_size
    menus = np.array(list(itertools.combinations(range(scenario.num_cards), size)) if size else [], np.int64)
    setup = Setup(
        scenario=scenario,
        role=role,
        policy=policy,
        stop_rule=stop_rule,
        max_rounds=max_rounds or scenario.protocol.max_rounds,
        seed=seed,
        engine=engine,
        num_particles=num_particles or kind.PARTICLES or scenario.num_particles,
        **of_map,
        prior=prior_of(scenario.population),
        mind=mind_prior_of(scenario, expectation),
        aspirations=_aspirations(scenario),
        context_p=np.array(scenario.context_p),
        mode_setting=mode_setting,
        setting_mode=setting_mode,
        default=number[scenario.default],
        expectation=expectation,
        learning=scenario.learning_rate * np.array(scenario.salience),
        card_setting=card_setting,
        card_context=card_context,
        card_z=card_z,
        cards=scale(scenario, card_z),
        pairs=pairs,
        menus=menus.reshape(-1, size) if size else np.empty((0, 0), np.int64),
    )
    if scenario.change and kind.TIER != "known" and not hasattr(kind, "anew"):
        raise UserError(f"--engine: {engine} takes intent for fixed and the scenario has [change]; take --engine live")
    if hasattr(kind, "check"):
        kind.check(setup)
    return setup


def with_map(setup: Setup, table: OutcomeMap) -> Setup:
    """The setup with another outcome map: what that one says of every setting, and what keeps the limits under it."""
    return replace(setup, **_of_map(setup.scenario, table))


def _of_map(scenario: Scenario, table: OutcomeMap) -> dict[str, Any]:
    """The fields of a Setup that follow from the map: map, phi, value, feasible. UserError where no mode is allowed."""
    mean, scaled = table.z.mean(axis=2), scale(scenario, table.z)
    feasible = np.ones(mean.shape[:2], bool)
    for limit in scenario.limits:
        column = OUTCOMES.index(limit.attribute)
        for x, context in enumerate(scenario.contexts):
            if context.name in limit.contexts:
                value = mean[:, x, column]
                feasible[:, x] &= (value <= limit.at_most) & (value >= limit.at_least)
    modes = [scenario.settings.index(m.settings) for m in scenario.modes]
    for x, context in enumerate(scenario.contexts):
        if not feasible[modes, x].any():
            raise UserError(
                f"{scenario.file}: limits: no mode keeps them in context {context.name}; loosen a limit or add a mode"
            )
    phi = scaled.mean(axis=2)
    value = phi if scenario.utility == LINEAR else at_knots(scaled).mean(axis=2)
    return {"map": table, "phi": phi, "value": value, "feasible": feasible}


def _aspirations(scenario: Scenario) -> Aspirations | None:
    if scenario.utility == LINEAR:
        return None
    median, sd = np.array(scenario.population.aspiration).T
    share = (median - LEAST) / (1 - LEAST)
    return Aspirations(np.log(share / (1 - share)), np.ascontiguousarray(sd))


def _spread(phi: Floats, feasible: NDArray[np.bool_], num: int) -> tuple[Ints, Ints]:
    """Settings and contexts of `num` outcomes spread as far as they go: each next one is farthest from those taken."""
    settings, contexts = np.nonzero(feasible[: phi.shape[0]])
    points = phi[settings, contexts]
    taken = [int(np.argmax(np.sum((points - points.mean(axis=0)) ** 2, axis=1)))]
    distance = np.full(len(points), np.inf)
    while len(taken) < num:
        distance = np.minimum(distance, np.sum((points - points[taken[-1]]) ** 2, axis=1))
        taken.append(int(np.argmax(distance)))
    return settings[taken], contexts[taken]
