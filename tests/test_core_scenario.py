"""A mistake in a scenario file is one line: file, key, what to do. Nothing else of the lab has started by then."""

import re
from pathlib import Path

import numpy as np
import pytest

from calib.errors import UserError
from calib.outcomes import OutcomeMap
from calib.scenario import Scenario, load_scenario, load_scenario_text
from calib.setup import make_setup
from conftest import made_up_map

# what is wrong: (text as it is, text as it becomes, key in the message, remedy in the message)
MISTAKES = {
    "unknown key": ("max_rounds = 6", "max_rounds = 6\nmax_round = 6", "protocol.max_round:", 'mean "max_rounds"?'),
    "unknown key like nothing else": ("[engine]", "[engine]\nzzz = 1", "engine.zzz:", "take it out"),
    "unknown table": ("[engine]", "[engines]\nx = 1\n[engine]", "engines:", 'did you mean "engine"?'),
    "missing key": ("horizon = 2\n", "", "thresholds.horizon:", "is missing; add it"),
    "missing table": ("[engine]\nparticles = 256\n", "", "engine:", "is missing; add it"),
    "not a table": ("[engine]\nparticles = 256", "", "engine:", "not a table; write it as [engine]"),
    "wrong unit": ('unit = "g/m2"', 'unit = "mg/m2"', "attributes.residual_dirt.unit:", 'reported in "g/m2"'),
    "unknown attribute": ("[attributes.sound]", "[attributes.noise]", "attributes.noise:", "use some of residual_dirt"),
    "unknown direction": ('direction = "more"', 'direction = "up"', "coverage.direction:", "write one of less, more"),
    "lo above hi": ("lo = 0\nhi = 100", "lo = 100\nhi = 0", "attributes.residual_dirt.hi:", "must be above lo"),
    "lo equals hi": ("lo = 0\nhi = 100", "lo = 7\nhi = 7", "attributes.residual_dirt.hi:", "must be above lo"),
    "limit on an unknown attribute": ('attribute = "sound"', 'attribute = "smell"', "limits[0].attribute:", "one of"),
    "limit without a bound": ("at_most = 80\n", "", "limits[0].at_most:", "give at_most or at_least"),
    "limit in an unknown context": ('contexts = ["night"]', 'contexts = ["noon"]', "limits[0].contexts:", "day, "),
    "p does not sum to 1": ("p = 0.5", "p = 0.6", "contexts:", "make them sum to 1"),
    "negative p": ("p = 0.5", "p = -0.5", "contexts[0].p:", "must lie in 0 to 1"),
    "unknown room": ('occupied = ["attic"]', 'occupied = ["cellar"]', "contexts[1].occupied:", "some of attic, bath"),
    "occupied is no list": ('occupied = ["attic"]', 'occupied = "attic"', "contexts[1].occupied:", "or []"),
    "unknown floor plan": ('floor_plan = "flat"', 'floor_plan = "villa"', "contexts[0].floor_plan:", "one of flat"),
    "two contexts of one name": ('name = "evening"', 'name = "day"', "contexts:", "a name of its own"),
    "two modes of one name": ('name = "eco"', 'name = "deep"', "modes:", "a name of its own"),
    "unknown character in a drawing": ("#aaabbB#", "#aaabzB#", "floor_plans.flat.drawing:", "add it to rooms"),
    "start is no point": ("start_m = [0.3, 0.3]", "start_m = [0.25]", "floor_plans.flat.start_m:", "[x, y] in"),
    "unknown default mode": ('mode = "standard"', 'mode = "normal"', "default.mode:", "write one of eco, standard"),
    "unknown pattern": ('pattern = "wall"', 'pattern = "zigzag"', "modes[3].settings.pattern:", "write one of lanes"),
    "speed out of range": ("speed = [200]", "speed = [9000]", "reference_set.speed:", "must lie in 50 to 500"),
    "empty grid": ("speed = [200]", "speed = []", "reference_set.speed:", "at least one entry"),
    "nan": ("eps = 0.05", "eps = nan", "thresholds.eps:", "not a finite number"),
    "infinity": ("hi = 100", "hi = inf", "attributes.residual_dirt.hi:", "not a finite number"),
    "a number beyond all floats": ("hi = 100", f"hi = 1{'0' * 400}", "residual_dirt.hi:", "not a finite number"),
    "nan in the sound table": ("[[0, 40], [100, 70]]", "[[0, nan], [100, 70]]", "sound.fan_dba:", "write [[0, 45]"),
    "sound table out of order": ("[[0, 40], [100, 70]]", "[[100, 70], [0, 40]]", "sound.fan_dba:", "fan ascending"),
    "text for a number": ("eps = 0.05", 'eps = "small"', "thresholds.eps:", "is a text, not a number"),
    "number for a text": ('version = "1"', "version = 1", "scenario.version:", "put it in quotes"),
    "empty text": ('version = "1"', 'version = " "', "scenario.version:", ""),
    "number for a flag": ("ready = false", "ready = 0", "protocol.ready:", "write true or false"),
    "flag for a number": ("horizon = 2", "horizon = true", "thresholds.horizon:", "not a whole number"),
    "fraction for a whole number": ("horizon = 2", "horizon = 2.5", "thresholds.horizon:", "not a whole number"),
    "out of range": ("eps = 0.05", "eps = 0.9", "thresholds.eps:", "must lie in 0.001 to 0.5"),
    "negative rounds": ("max_rounds = 6", "max_rounds = -6", "protocol.max_rounds:", "must lie in 1 to 200"),
    "lapse that is certain": ("lapse]\nmedian = 0.03", "lapse]\nmedian = 1.0", "population.lapse:", "below 1"),
    "mode without an expectation": ("coverage = 60, sound = 20", "sound = 20", "expectation.coverage:", "add it"),
    "broken TOML": ("[thresholds]", "[thresholds", "is not TOML:", "mend that line"),
    "key twice": ("horizon = 2", "horizon = 2\nhorizon = 3", "is not TOML:", "mend that line"),
    "a number of 5,000 digits": ("horizon = 2", f"horizon = {'2' * 5000}", "is not TOML:", "mend that line"),
    "text of two lines": ('unit = "%"', 'unit = """a\nb"""', "attributes.coverage.unit:", 'reported in "%"'),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_that_names_file_key_and_remedy(small_text: str, name: str) -> None:
    before, after, key, remedy = MISTAKES[name]
    assert before in small_text
    text = small_text.replace(before, after, 1)
    if name == "not a table":
        text = "engine = 3\n" + text
    with pytest.raises(UserError) as caught:
        load_scenario_text(text, "mine.toml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("mine.toml: ")
    assert key in message
    assert remedy in message


def modes_cut(text: str, keep: int) -> str:
    """The scenario with the first `keep` modes only."""
    head, *modes = text.split("[[modes]]")
    tail = modes[-1][modes[-1].index("[default]") :]
    return head + "".join("[[modes]]" + m.split("[default]")[0] for m in modes[:keep]) + tail


def test_an_empty_menu_and_a_menu_of_one_are_refused(small_text: str) -> None:
    with pytest.raises(UserError, match=r"^m\.toml: modes: is missing; [^\n]+$"):
        load_scenario_text(modes_cut(small_text, 0), "m.toml")
    with pytest.raises(UserError, match=r"^m\.toml: modes: is empty; give at least one \[\[modes\]\]$"):
        load_scenario_text("modes = []\n" + modes_cut(small_text, 0), "m.toml")
    with pytest.raises(UserError, match=r"^m\.toml: modes: has one mode only; a menu needs at least two$"):
        load_scenario_text(modes_cut(small_text, 1).replace('mode = "standard"', 'mode = "eco"'), "m.toml")


def test_one_attribute_is_refused(small_text: str) -> None:
    start, end = small_text.index("[attributes.coverage]"), small_text.index("[[limits]]")
    with pytest.raises(UserError, match=r"^m\.toml: attributes: has fewer than two attributes; [^\n]+$"):
        load_scenario_text(small_text[:start] + small_text[end:], "m.toml")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^apartmant: no such scenario; give a TOML file or one of [^\n]*apartment"):
        load_scenario("apartmant")
    missing = tmp_path / "missing.toml"
    with pytest.raises(UserError, match=r"missing\.toml: no such scenario; [^\n]+$"):
        load_scenario(str(missing))
    with pytest.raises(UserError, match=r"cannot be read \([^\n]+\); give a readable TOML file$"):
        load_scenario(str(tmp_path))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"binary\.toml: cannot be read \([^\n]+\); give a readable TOML file$"):
        load_scenario(str(binary))
    with pytest.raises(UserError, match=r"cannot be read|no such scenario"):
        load_scenario("a" * 5000)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"role": "boss"}, r'^--role: "boss" is not a role; choose tool or advisor'),
        ({"policy": "oracle"}, r'^--policy: "oracle" is not a policy; choose [^\n]*information_gain[^\n]*$'),
        ({"policy": "../errors"}, r'^--policy: "\.\./errors" is not a policy; '),
        ({"policy": "__init__"}, r'^--policy: "__init__" is not a policy; '),
        ({"stop_rule": "never"}, r'^--until: "never" is no stopping rule; choose max_rounds, accepted, declared$'),
        ({"seed": -1}, r"^--seed: -1 is negative; give 0 or more$"),
        ({"max_rounds": 0}, r"^--rounds: 0 is too few; give 1 or more$"),
        ({"max_rounds": -3}, r"^--rounds: -3 is too few; give 1 or more$"),
    ],
)
def test_a_wrong_flag_is_refused_before_anything_is_simulated(
    small: Scenario, monkeypatch: pytest.MonkeyPatch, argument: dict[str, str | int], message: str
) -> None:
    monkeypatch.setattr("calib.setup.outcome_map", lambda scenario: pytest.fail("simulated"))
    with pytest.raises(UserError, match=message):
        make_setup(small, **argument)  # type: ignore[arg-type]


def test_the_scenario_as_parsed(small: Scenario) -> None:
    assert [m.name for m in small.modes] == ["eco", "standard", "deep", "edges"]
    assert small.default == small.modes[1].settings
    reference = small.settings[: small.num_reference]
    assert len(set(small.settings)) == len(small.settings) == 10 and small.num_reference == 7
    assert all(m.settings in reference for m in small.modes), "S_ref contains every mode"
    assert {(s.fan, s.passes) for s in reference if s.pattern == "lanes"} == {
        (f, p) for f in (10, 50, 90) for p in (1, 2)
    }
    assert small.limits[0].at_most == 80 and small.limits[0].contexts == ("night",)
    assert small.population.rationality == ((12, 0.5), (15, 0.4), (20, 0.5))


def test_the_hash_is_of_what_is_said_not_of_how(small_text: str, small: Scenario) -> None:
    same = load_scenario_text("# a remark\n" + small_text, "elsewhere.toml")
    assert same.hash == small.hash
    for before, after in (("eps = 0.05", "eps = 0.06"), ("slope = 25", "slope = 26"), ("#aaabbB#", "#aaabb%#")):
        assert load_scenario_text(small_text.replace(before, after, 1), "small.toml").hash != small.hash


def test_a_setup_has_the_scenarios_arrays(small: Scenario) -> None:
    z = np.random.default_rng(0).uniform(0, 79, (10, 3, 4, 6))
    setup = make_setup(small, table=OutcomeMap(z, "plant", "f" * 64))
    assert setup.phi.shape == (10, 3, 3)
    assert setup.mode_setting.tolist() == [0, 1, 2, 3] and setup.default == 1
    assert setup.setting_mode.tolist() == [0, 1, 2, 3] + [-1] * 6
    assert setup.expectation[0] == pytest.approx([0.4, 0.6, 0.8])
    assert setup.learning == pytest.approx([0.32, 0.2, 0.4])
    assert len({(int(s), int(x)) for s, x in zip(setup.card_setting, setup.card_context, strict=True)}) == 8
    assert len(setup.pairs) == 8 * 7 // 2 and all(a < b for a, b in setup.pairs)
    assert (setup.card_setting < setup.num_reference).all()


def test_every_shipped_scenario_is_parsed() -> None:
    for path in (Path(__file__).parent.parent / "scenarios").glob("*.toml"):
        if not path.stem.endswith(".draft"):
            assert load_scenario(path.stem).name


def test_an_error_of_expectations_is_read_and_moves_them(small_text: str) -> None:
    """In scaled attributes, 0 where a mode or attribute is left out; people then expect description and error."""
    beliefs = "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\n"
    beliefs += "learning_sd_logit = 0.7\nprobe_sd = 0.05\n"

    def read(error: str) -> Scenario:
        text = small_text.replace("[mental_model.salience]", f"{beliefs}{error}[mental_model.salience]", 1)
        return load_scenario_text(text, "m.toml")

    plain, off = read(""), read("[mental_model.beliefs.error.eco]\nsound = -0.25\n")
    assert plain.beliefs is not None and plain.beliefs.error == ()
    assert off.beliefs is not None and off.beliefs.error[0] == (0.0, 0.0, -0.25) and not np.any(off.beliefs.error[1:])
    assert plain.hash != off.hash
    before, after = (make_setup(s, table=made_up_map(s, None, 0.0)) for s in (plain, off))
    assert np.array_equal(after.expectation - before.expectation, np.array(off.beliefs.error))
    assert after.mind is not None and np.array_equal(after.mind.expectation, after.expectation)
    for error, said in (
        ("[mental_model.beliefs.error.echo]\nsound = 0.1\n", "echo: is not a key of this table; take it out"),
        ("[mental_model.beliefs.error.eco]\nsond = 0.1\n", "eco.sond: is not a key of this table; take it out"),
        ("[mental_model.beliefs.error.eco]\nsound = 3\n", "eco.sound: is 3; it must lie in -2 to 2"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            read(error)
