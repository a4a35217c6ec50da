"""A scenario: what is frozen before anybody is asked anything. Parsed from TOML, strictly, into plain values.

Terms are those of docs/definitions.md. A mistake in the file is a UserError of one line that names file, key, remedy.
"""

import hashlib
import itertools
import json
import math
import tomllib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from calib.errors import UserError
from calib.fields import Fields, is_finite
from calib.map_file import Fitted, read_map
from calib.utility import ASPIRATION, LEAST, LINEAR, UTILITIES
from devices.home.plan import survey
from devices.home.types import OUTCOMES, PATTERNS, PROGRAMMES, UNITS, Context, FloorPlan, Settings

CHANNELS = ("mode_choice", "accept_override", "comparison")
ROLES = ("tool", "advisor")
_SETTING_KEYS = ("fan", "brush", "speed", "passes", "pattern", "edge")
_PROBABILITY_SLACK = 1e-9
_MOST_MENUS = 2000  # of cards, as questions


@dataclass(frozen=True)
class Attribute:
    """One outcome dimension: phi = (z - lo)/(hi - lo) clipped, turned so that 1 is better."""

    name: str
    unit: str
    less_is_better: bool
    lo: float
    hi: float


@dataclass(frozen=True)
class Limit:
    """A hard limit on the mean outcome, in the contexts named."""

    attribute: str
    at_most: float
    at_least: float
    contexts: tuple[str, ...]


@dataclass(frozen=True)
class Floor:
    """What every mode has to reach: a robot that does not is at fault, and not somebody's intent."""

    otherwise: str  # "flag": a session says so; "refuse": it does not begin
    limit: Limit


@dataclass(frozen=True)
class Mode:
    """A named setting on the menu, what a person reads about it, and what that makes them expect (raw units)."""

    name: str
    label: str
    description: str
    settings: Settings
    expectation: dict[str, float]


@dataclass(frozen=True)
class Population:
    """The distribution of people, which is also the engine's prior.

    Weights are Dirichlet. Rationalities and the about-equal threshold are log-normal (median, sd of the log), lapse is
    logit-normal (median, sd of the logit), reliance and inertia are normal (mean, sd) in units of log odds. Aspirations
    are logit-normal between calib.utility.LEAST and 1 (median, sd of the logit).
    """

    concentration: tuple[float, ...]
    rationality: tuple[tuple[float, float], ...]  # one pair a channel, in the order of CHANNELS
    lapse: tuple[float, float]
    reliance: tuple[float, float]
    inertia: tuple[float, float]
    about_equal: tuple[float, float]
    aspiration: tuple[tuple[float, float], ...] = ()  # one pair an attribute, () where utility is linear


@dataclass(frozen=True)
class Beliefs:
    """How people's mental models differ: f_hat(0) is Gaussian around description and error, in scaled attributes.

    The spread is log-normal over people (median, sd of the log), the learning rate logit-normal around the scenario's.
    """

    spread: tuple[float, float]
    learning_sd_logit: float
    probe_sd: float  # of what people say around what they expect
    error: tuple[tuple[float, ...], ...] = ()  # (M, J) mean of what people expect less the descriptions, () for none


@dataclass(frozen=True)
class Change:
    """That intent may change at once (calib/change.py), and when the person is asked about it."""

    hazard: float  # probability of a change before a round
    ask_at: float  # P(changed) at which the person is asked
    every: int  # rounds between two such questions at least
    answer_error: float  # how often the answer to it is the wrong one
    hypotheses: int  # of when the last change was, kept at most


@dataclass(frozen=True)
class Acceptance:
    """P("good enough" | A) = gamma + (1 - gamma - lapse) F(slope (A - a50)): how simulated people answer."""

    gamma: float
    lapse: float
    slope: float
    a50: float


@dataclass(frozen=True)
class Protocol:
    """The order of a session."""

    max_rounds: int
    questions_per_round: int  # 0 or 1 comparison after each run
    good_enough_from: int
    good_enough_every: int
    ready: bool  # an operator says `ready` before each run
    run_every: int  # 1: a run in every round; 3: in rounds 1, 4, 7, ...; the others show the outcome card
    reconnect_s: float  # a lost robot is waited for this long


@dataclass(frozen=True)
class Scenario:
    """Everything that is frozen. `context_p` is p(x); `settings` is S_ref first, then the rest of the dense set."""

    file: str
    text: str  # the TOML itself, which travels with every run
    name: str
    version: str
    title: str
    eps: float
    horizon: int
    delta: float
    protocol: Protocol
    attributes: tuple[Attribute, ...]
    limits: tuple[Limit, ...]
    contexts: tuple[Context, ...]
    context_p: tuple[float, ...]
    modes: tuple[Mode, ...]
    default: Settings
    settings: tuple[Settings, ...]
    num_reference: int
    replicates: int
    map_source: str
    learning_rate: float
    salience: tuple[float, ...]
    beliefs: Beliefs | None  # None: everybody takes the descriptions for true and learns at the same rate
    population: Population
    acceptance: Acceptance
    effort_s: dict[str, float]
    num_cards: int
    asks_beliefs: bool  # what people expect of modes may be asked, beside comparisons of outcomes
    asks_ratings: bool  # how good the run was may be asked
    menu_size: int  # cards in a question which of them is best, 0 for no such question
    may_cut_short: bool  # people see what a run is predicted to do and may end it
    worth_of_second: float  # expected degree that a second of the person's attention has to buy; else nothing is asked
    num_particles: int
    change: Change | None = None  # None: intent stays what it is
    utility: str = LINEAR  # of UTILITIES
    planted: tuple[tuple[str, float], ...] = ()  # an error of the machine's map, by attribute, in its unit
    fitted: Fitted | None = None  # what was measured of a robot, where the map is one
    floors: tuple[Floor, ...] = ()

    @cached_property
    def hash(self) -> str:
        """sha256 of everything that the file says, its own path apart.

        What later versions of the format added and the file leaves out is no part of it: an older file keeps its hash.
        """
        whole = asdict(replace(self, file="", text=""))
        if whole["beliefs"] and not whole["beliefs"]["error"]:
            del whole["beliefs"]["error"]
        if not whole["population"]["aspiration"]:
            del whole["population"]["aspiration"]
        return digest({k: v for k, v in whole.items() if k not in _LATER or v != _LATER[k]})


_LATER = {
    "beliefs": None,
    "asks_beliefs": False,
    "asks_ratings": False,
    "menu_size": 0,
    "may_cut_short": False,
    "worth_of_second": 0.0,
    "change": None,
    "utility": LINEAR,
    "planted": (),
    "fitted": None,
    "floors": (),
}


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def load_scenario(name: str) -> Scenario:
    """The scenario of a file, or of a bare name among those that come with the lab."""
    path = Path(name)
    try:
        if not path.suffix and not path.exists():
            path = Path(__file__).resolve().parent.parent / "scenarios" / f"{name}.toml"
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        shipped = sorted(p.stem for p in (Path(__file__).resolve().parent.parent / "scenarios").glob("*.toml"))
        raise UserError(f"{name}: no such scenario; give a TOML file or one of {', '.join(shipped)}") from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{name}: cannot be read ({why}); give a readable TOML file") from None
    return load_scenario_text(text, str(path))


def load_scenario_text(text: str, file: str) -> Scenario:
    """A Scenario from TOML; `file` names it in messages."""
    try:
        top = Fields(tomllib.loads(text), file)
    except ValueError as error:  # TOMLDecodeError is one; a number of thousands of digits is a plain one
        raise UserError(f"{file}: is not TOML: {error}; mend that line") from None
    head = top.table("scenario")
    name, version, title = head.text("name"), head.text("version"), head.text("title")
    utility = head.text("utility", UTILITIES) if "utility" in head.rest() else LINEAR
    head.end()
    thresholds = top.table("thresholds")
    eps, delta = thresholds.number("eps", 0.001, 0.5), thresholds.number("delta", 0.001, 0.5)
    horizon = thresholds.integer("horizon", 0, 100)
    thresholds.end()
    protocol = _protocol(top.table("protocol"))
    attributes = _attributes(top.table("attributes"))
    names = tuple(a.name for a in attributes)
    sound = _sound(top.table("sound"))
    plans = _floor_plans(top.table("floor_plans"))
    contexts, context_p = _contexts(top, plans, sound)
    context_names = tuple(c.name for c in contexts)
    limits = tuple(_limit(t, names, context_names) for t in top.tables("limits"))
    modes = _modes(top, attributes)
    default = _default(top.table("default"), modes)
    reference, dense = _grid(top.table("reference_set")), _grid(top.table("dense_set"))
    settings, num_reference = _settings(reference, dense, modes, default)
    outcome_map = read_map(top.table("outcome_map"), names, tuple(m.name for m in modes), context_names)
    floors = top.tables("floors") if "floors" in top.rest() else []
    mental_model = top.table("mental_model")
    learning_rate = mental_model.number("learning_rate", 0, 1)
    salience_table = mental_model.table("salience")
    salience = tuple(salience_table.number(n, 0, 1) for n in names)
    salience_table.end()
    mode_names = tuple(m.name for m in modes)
    known = "beliefs" not in mental_model.rest()
    beliefs = None if known else _beliefs(mental_model, learning_rate, mode_names, names)
    mental_model.end()
    population = _population(top.table("population"), names, utility)
    acceptance = _acceptance(top.table("acceptance"))
    questions = top.table("questions")
    num_cards = questions.integer("num_cards", 2, 24)
    asks_beliefs = questions.flag("beliefs") if "beliefs" in questions.rest() else False
    if asks_beliefs and beliefs is None:
        raise questions.wrong("beliefs", "is true and people's beliefs are known; add mental_model.beliefs")
    asks_ratings = questions.flag("ratings") if "ratings" in questions.rest() else False
    if asks_ratings and beliefs is None:
        raise questions.wrong("ratings", "is true and people's beliefs are known; add mental_model.beliefs")
    may_cut_short = questions.flag("cut_short") if "cut_short" in questions.rest() else False
    if may_cut_short and beliefs is None:
        raise questions.wrong("cut_short", "is true and people's beliefs are known; add mental_model.beliefs")
    menu_size = questions.integer("best_of", 3, num_cards) if "best_of" in questions.rest() else 0
    if math.comb(num_cards, menu_size) > _MOST_MENUS:
        raise questions.wrong(
            "best_of",
            f"is {menu_size}, of which {num_cards} cards make {math.comb(num_cards, menu_size)} questions; "
            f"{_MOST_MENUS} are the most: take fewer, or fewer num_cards",
        )
    worth = questions.number("worth_of_second", 0, 1) if "worth_of_second" in questions.rest() else 0.0
    questions.end()
    change = _change(top.table("change")) if "change" in top.rest() else None
    if change is not None and utility != LINEAR:
        raise top.wrong(
            "change", f"is there and scenario.utility is {utility}, whose engine takes intent for fixed; drop one"
        )
    effort = top.table("effort")
    kinds = ["choose", "decide", "compare", "good_enough", "ready"]
    may = (("expect", asks_beliefs), ("rate", asks_ratings), ("change", change is not None))
    kinds += [kind for kind, asked in may if asked]
    effort_s = {k: effort.number(k, 0, 120) for k in kinds}
    effort.end()
    engine = top.table("engine")
    num_particles = engine.integer("particles", 64, 16384)
    engine.end()
    top.end()
    return Scenario(
        file=file,
        text=text,
        name=name,
        version=version,
        title=title,
        eps=eps,
        horizon=horizon,
        delta=delta,
        protocol=protocol,
        attributes=attributes,
        limits=limits,
        contexts=contexts,
        context_p=context_p,
        modes=modes,
        default=default,
        settings=settings,
        num_reference=num_reference,
        replicates=outcome_map.replicates,
        map_source=outcome_map.source,
        learning_rate=learning_rate,
        salience=salience,
        beliefs=beliefs,
        population=population,
        acceptance=acceptance,
        effort_s=effort_s,
        num_cards=num_cards,
        asks_beliefs=asks_beliefs,
        asks_ratings=asks_ratings,
        may_cut_short=may_cut_short,
        menu_size=menu_size,
        worth_of_second=worth,
        num_particles=num_particles,
        change=change,
        utility=utility,
        planted=outcome_map.planted,
        fitted=outcome_map.fitted,
        floors=tuple(Floor(t.text("otherwise", ("flag", "refuse")), _limit(t, names, context_names)) for t in floors),
    )


def _change(table: Fields) -> Change:
    change = Change(
        hazard=table.number("hazard", 1e-6, 0.5),
        ask_at=table.number("ask_at", 0.5, 1),
        every=table.integer("every", 2, 200),
        answer_error=table.number("answer_error", 0, 0.5),
        hypotheses=table.integer("hypotheses", 2, 64),
    )
    table.end()
    return change


def _protocol(table: Fields) -> Protocol:
    protocol = Protocol(
        max_rounds=table.integer("max_rounds", 1, 200),
        questions_per_round=table.integer("questions_per_round", 0, 1),
        good_enough_from=table.integer("good_enough_from", 2, 200),
        good_enough_every=table.integer("good_enough_every", 2, 200),
        ready=table.flag("ready"),
        run_every=table.integer("run_every", 1, 100),
        reconnect_s=table.number("reconnect_s", 0, 3600),
    )
    table.end()
    return protocol


def _attributes(table: Fields) -> tuple[Attribute, ...]:
    attributes = []
    for name in table.rest():
        if name not in OUTCOMES:
            raise table.wrong(name, f"is not an outcome that a robot reports; use some of {', '.join(OUTCOMES)}")
        own = table.table(name)
        unit = own.text("unit")
        if unit != UNITS[name]:
            raise own.wrong("unit", f'is "{unit}"; {name} is reported in "{UNITS[name]}"')
        less = own.text("direction", ("less", "more")) == "less"
        lo, hi = own.number("lo"), own.number("hi")
        if not lo < hi:
            raise own.wrong("hi", f"is {hi:g}; it must be above lo = {lo:g}")
        own.end()
        attributes.append(Attribute(name, unit, less, lo, hi))
    if len(attributes) < 2:
        raise table.wrong("", "has fewer than two attributes; alignment needs something to trade off")
    return tuple(attributes)


def _limit(table: Fields, attributes: tuple[str, ...], contexts: tuple[str, ...]) -> Limit:
    attribute = table.text("attribute", attributes)
    bounds = {"at_most": math.inf, "at_least": -math.inf}
    given = [k for k in bounds if k in table.rest()]
    if not given:
        raise table.wrong("at_most", "is missing; give at_most or at_least")
    for key in given:
        bounds[key] = table.number(key)
    where = tuple(contexts) if "contexts" not in table.rest() else tuple(table.items("contexts"))
    for context in where:
        if context not in contexts:
            raise table.wrong("contexts", f"names {context!r}; write some of {', '.join(contexts)}")
    table.end()
    return Limit(attribute, bounds["at_most"], bounds["at_least"], where)


def _sound(table: Fields) -> tuple[tuple[int, float], ...]:
    pairs = table.items("fan_dba")
    table.end()
    good = all(isinstance(p, list) and len(p) == 2 and all(is_finite(v) for v in p) for p in pairs)
    if not good or [p[0] for p in pairs] != sorted({p[0] for p in pairs}):
        raise table.wrong(
            "fan_dba", "is not a list of [fan percent, dB(A)] with fan ascending; write [[0, 45], [100, 66]]"
        )
    return tuple((int(fan), float(level)) for fan, level in pairs)


def _floor_plans(table: Fields) -> dict[str, FloorPlan]:
    plans = {}
    for name in table.rest():
        own = table.table(name)
        cell_m = own.number("cell_m", 0.05, 0.5)
        rows = tuple(own.text("drawing").strip("\n").split("\n"))
        width = max(len(row) for row in rows)
        rooms_table = own.table("rooms")
        rooms = {letter: rooms_table.text(letter) for letter in rooms_table.rest()}
        start = own.items("start_m")
        start_deg = own.number("start_deg", -360, 360)
        own.end()
        if len(start) != 2 or not all(is_finite(v) for v in start):
            raise own.wrong("start_m", "is not [x, y] in metres")
        plan = FloorPlan(
            name=name,
            cell_m=cell_m,
            rows=tuple(row.ljust(width) for row in rows),
            rooms=rooms,
            start_m=(float(start[0]), float(start[1])),
            start_rad=math.radians(start_deg),
        )
        unknown = sorted({c for row in plan.rows for c in row if c not in "#%!@ " and c.lower() not in rooms})
        if unknown:
            raise own.wrong("drawing", f"uses {unknown[0]!r}, which is no room letter; add it to rooms or redraw")
        try:
            survey(plan)
        except ValueError as error:
            raise own.wrong("drawing", f"{error}") from None
        plans[name] = plan
    if not plans:
        raise table.wrong("", "is empty; draw at least one floor plan")
    return plans


def _contexts(
    top: Fields, plans: dict[str, FloorPlan], sound: tuple[tuple[int, float], ...]
) -> tuple[tuple[Context, ...], tuple[float, ...]]:
    contexts, probabilities = [], []
    for table in top.tables("contexts"):
        plan = plans[table.text("floor_plan", tuple(plans))]
        occupied = table.take("occupied")
        known = tuple(plan.rooms.values())
        if not isinstance(occupied, list) or any(room not in known for room in occupied):
            raise table.wrong("occupied", f"must list rooms of the plan: some of {', '.join(known)}, or []")
        probabilities.append(table.number("p", 0, 1))
        contexts.append(
            Context(
                name=table.text("name"),
                plan=plan,
                dirt_g_m2=table.number("dirt_g_m2", 0, 1000),
                carpet_dirt_factor=table.number("carpet_dirt_factor", 0.1, 10),
                hour=table.integer("hour", 0, 23),
                occupied=tuple(occupied),
                battery=table.number("battery", 0, 1),
                sound_dba=sound,
                run_limit_s=table.number("run_limit_s", 1, 14400),
                battery_floor=table.number("battery_floor", 0, 1),
            )
        )
        table.end()
    if abs(sum(probabilities) - 1) > _PROBABILITY_SLACK:
        raise top.wrong("contexts", f"have p that sum to {sum(probabilities):g}; make them sum to 1")
    _distinct(top, "contexts", [c.name for c in contexts])
    return tuple(contexts), tuple(probabilities)


def _distinct(top: Fields, key: str, names: list[str]) -> None:
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise top.wrong(key, f'has "{twice[0]}" twice; give every entry a name of its own')


def _setting(table: Fields) -> Settings:
    settings = Settings(
        fan=table.integer("fan", 0, 100),
        brush=table.integer("brush", 0, 100),
        speed=table.integer("speed", 50, 500),
        passes=table.integer("passes", 1, 9),
        pattern=table.text("pattern", (*PATTERNS, *PROGRAMMES)),  # type: ignore[arg-type]
        edge=table.flag("edge"),
    )
    table.end()
    return settings


def _modes(top: Fields, attributes: tuple[Attribute, ...]) -> tuple[Mode, ...]:
    modes = []
    for table in top.tables("modes"):
        expected = table.table("expectation")
        expectation = {a.name: expected.number(a.name) for a in attributes}
        expected.end()
        modes.append(
            Mode(
                name=table.text("name"),
                label=table.text("label"),
                description=table.text("description"),
                settings=_setting(table.table("settings")),
                expectation=expectation,
            )
        )
        table.end()
    if len(modes) < 2:
        raise top.wrong("modes", "has one mode only; a menu needs at least two")
    _distinct(top, "modes", [m.name for m in modes])
    for i, mode in enumerate(modes):
        twin = next((m for m in modes[:i] if m.settings == mode.settings), None)
        if twin:
            raise top.wrong("modes", f'"{mode.name}" has the settings of "{twin.name}"; one menu entry a setting')
    return tuple(modes)


def _default(table: Fields, modes: tuple[Mode, ...]) -> Settings:
    name = table.text("mode", tuple(m.name for m in modes))
    table.end()
    return next(m.settings for m in modes if m.name == name)


def _grid(table: Fields) -> list[Settings]:
    levels = [table.items(key) for key in _SETTING_KEYS]
    table.end()
    settings = []
    for values in itertools.product(*levels):
        one = Fields(dict(zip(_SETTING_KEYS, values, strict=True)), table.file, table.path)
        settings.append(_setting(one))
    return settings


def _settings(
    reference: list[Settings], dense: list[Settings], modes: tuple[Mode, ...], default: Settings
) -> tuple[tuple[Settings, ...], int]:
    ordered = dict.fromkeys([m.settings for m in modes] + [default] + reference)
    num_reference = len(ordered)
    return tuple(ordered | dict.fromkeys(dense)), num_reference


def _pair(table: Fields, key: str, first: str, second: str, low: float) -> tuple[float, float]:
    own = table.table(key)
    pair = own.number(first, low), own.number(second, 1e-3, 10)
    own.end()
    return pair


def _population(table: Fields, names: tuple[str, ...], utility: str = LINEAR) -> Population:
    weights = table.table("concentration")
    concentration = tuple(weights.number(n, 0.05, 1000) for n in names)
    weights.end()
    rationality = table.table("rationality")
    rationalities = tuple(_pair(rationality, c, "median", "sd_log", 1e-6) for c in CHANNELS)
    rationality.end()
    lapse = _pair(table, "lapse", "median", "sd_logit", 1e-6)
    if lapse[0] >= 1:
        raise table.wrong("lapse", f"has the median {lapse[0]:g}; a lapse is a probability below 1")
    population = Population(
        concentration=concentration,
        rationality=rationalities,
        lapse=lapse,
        reliance=_pair(table, "reliance", "mean", "sd", -100),
        inertia=_pair(table, "inertia", "mean", "sd", -100),
        about_equal=_pair(table, "about_equal", "median", "sd_log", 1e-6),
        aspiration=_aspiration(table, names, utility),
    )
    table.end()
    return population


def _aspiration(table: Fields, names: tuple[str, ...], utility: str) -> tuple[tuple[float, float], ...]:
    if utility != ASPIRATION:
        if "aspiration" in table.rest():
            raise table.wrong("aspiration", f'is there and utility is {utility}; write scenario.utility = "aspiration"')
        return ()
    own = table.table("aspiration")
    pairs = tuple(_pair(own, n, "median", "sd_logit", 0) for n in names)
    own.end()
    for name, (median, _) in zip(names, pairs, strict=True):
        if not LEAST < median < 1:
            raise own.wrong(name, f"has the median {median:g}; an aspiration lies between {LEAST:g} and 1")
    return pairs


def _beliefs(
    mental_model: Fields, learning_rate: float, modes: tuple[str, ...], attributes: tuple[str, ...]
) -> Beliefs:
    if not 0 < learning_rate < 1:
        raise mental_model.wrong(
            "learning_rate", f"is {learning_rate:g}; where people differ in it, it must lie between 0 and 1"
        )
    table = mental_model.table("beliefs")
    beliefs = Beliefs(
        spread=_pair(table, "spread", "median", "sd_log", 1e-3),
        learning_sd_logit=table.number("learning_sd_logit", 1e-3, 10),
        probe_sd=table.number("probe_sd", 1e-3, 1),
        error=_errors(table.table("error"), modes, attributes) if "error" in table.rest() else (),
    )
    table.end()
    return beliefs


def _errors(table: Fields, modes: tuple[str, ...], attributes: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
    found = []
    for mode in modes:
        own = table.table(mode) if mode in table.rest() else Fields({}, table.file, table.path)
        found.append(tuple(own.number(a, -2, 2) if a in own.rest() else 0.0 for a in attributes))
        own.end()
    table.end()
    return tuple(found)


def _acceptance(table: Fields) -> Acceptance:
    acceptance = Acceptance(
        gamma=table.number("gamma", 0, 0.5),
        lapse=table.number("lapse", 0, 0.5),
        slope=table.number("slope", 0.1, 1000),
        a50=table.number("a50", 0, 1),
    )
    table.end()
    return acceptance
