"""`calib infer`: exact posteriors, maximum likelihood, published figures, PyMC, and mistakes in files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calib.choice import comparison_log_probs, menu_log_probs
from cli.main import main
from experiments.choice_data import COMPARISON, read_choices
from experiments.convergence import ess_bulk, ess_tail, r_hat
from experiments.infer import Form, fit_live, form_of, likelihood_of, log_prior, natural, usual_prior
from experiments.infer_file import infer

HEADER = "person,round,option,chosen,warm,cheap\n"
TWO = "p,1,x,1,0.1,0.2\np,1,y,0,0.3,0.4\n"


def table(found: dict, figure: str = "mean") -> dict[str, float]:
    return {p["name"]: p[figure] for p in found["parameters"]}


def answers(rng, weights, rationality, lapse, num, sizes=(2, 6), about_equal=None):
    """(rows of the file, each option's attributes) of one simulated person, from the choice model itself."""
    lines = []
    for t in range(num):
        compared = about_equal is not None and t % 2
        phi = rng.random((2 if compared else rng.integers(*sizes), len(weights))).round(4)
        utility = phi @ weights
        if compared:
            log_p = comparison_log_probs(np, utility[0] - utility[1], rationality, about_equal)
        else:
            log_p = menu_log_probs(np, utility, rationality, lapse)
        chosen = rng.choice(len(log_p), p=np.exp(log_p))
        channel = "comparison" if compared else "mode_choice"
        lines += [[t, f"o{k}", int(k == chosen), channel, *row] for k, row in enumerate(phi)]
    return lines


def write(path: Path, people: dict[str, list], attributes: str) -> str:
    lines = [",".join(map(str, (name, *line))) for name, lines in people.items() for line in lines]
    path.write_text("\n".join([f"person,round,option,chosen,channel,{attributes}", *lines]) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> str:
    """Three people with 60 menus and comparisons each, of 2 to 5 options."""
    rng = np.random.default_rng(3)
    people = {f"p{i}": answers(rng, rng.dirichlet(np.ones(3)), 12.0, 0.03, 60, about_equal=0.5) for i in range(3)}
    return write(tmp_path_factory.mktemp("mixed") / "mixed.csv", people, "warm,cheap,quiet")


# --- the likelihood and its coordinates -------------------------------------------------------------------------------


def model_log_likelihood(form: Form, choices, parameters: dict[str, np.ndarray], weights: np.ndarray) -> float:
    """Choice by choice from calib/choice.py."""
    total = 0.0
    for q, pick in enumerate(choices.chosen):
        rows = slice(choices.start[q], choices.start[q + 1])
        utility = choices.values[rows] @ weights
        name = {0: "mode_choice", 1: "accept_override", 2: "comparison"}[int(choices.channel[q])]
        rationality = 1.0 if form.free else parameters[f"rationality[{name}]"]
        if choices.channel[q] == COMPARISON:
            log_p = comparison_log_probs(np, utility[0] - utility[1], rationality, parameters["about_equal"])
        else:
            pulls = (parameters.get("reliance", 0.0), parameters.get("inertia", 0.0))
            log_p = menu_log_probs(
                np,
                utility,
                rationality,
                0.0 if form.free else parameters["lapse"],
                reliance=pulls[0],
                recommended=choices.masks[rows, 0],
                inertia=pulls[1],
                last=choices.masks[rows, 1],
            )
        total += float(log_p[pick])
    return total


@pytest.mark.parametrize("weights", ["simplex", "free"])
def test_the_compiled_likelihood_is_the_choice_model(tmp_path, weights):
    """Value and gradient, in every coordinate, with all three channels and both pulls, the prior included."""
    rng = np.random.default_rng(1)
    lines = ["person,round,option,chosen,channel,warm,cheap,quiet,recommended,last"]
    for t in range(40):
        channel = ("mode_choice", "accept_override", "comparison")[t % 3]
        size = 2 if channel == "comparison" else rng.integers(2, 7)
        chosen = rng.integers(0, size + (channel == "comparison"))
        told, ran = rng.integers(0, size, 2)
        for k in range(size):
            values = ",".join(f"{v:.3f}" for v in rng.random(3))
            lines.append(f"p{t % 2},{t},{k},{int(k == chosen)},{channel},{values},{int(k == told)},{int(k == ran)}")
    path = tmp_path / "all.csv"
    path.write_text("\n".join(lines))
    choices = read_choices(str(path), weights)
    form = form_of(choices, weights)
    assert form.num_coordinates == (9 if weights == "simplex" else 6)
    x = rng.normal(0, 1.5, (2, form.num_coordinates, 9))
    target = likelihood_of(form, choices)
    who = np.arange(2)
    value, gradient = target(x, who)
    for i in range(2):
        own = choices.of(i, i + 1)
        for p in range(9):
            named = dict(zip(form.names, natural(form, x[i : i + 1])[0, :, p], strict=True))
            w = np.array([named[name] for name in form.attributes])
            assert value[i, p] == pytest.approx(model_log_likelihood(form, own, named, w), rel=1e-9)
    for d in range(form.num_coordinates):
        step = np.zeros((1, form.num_coordinates, 1))
        step[0, d] = 1e-5
        for density in (lambda y: target(y, who), lambda y: log_prior(form, y)):
            rise = (density(x + step)[0] - density(x - step)[0]) / 2e-5
            assert density(x)[1][:, d] == pytest.approx(rise, rel=1e-5, abs=1e-6)
    assert value == pytest.approx(np.array([target(x[i : i + 1], who[i : i + 1])[0][0] for i in range(2)]), abs=0)
    assert gradient.shape == x.shape


def test_r_hat_and_ess_are_those_of_arviz():
    import arviz

    rng = np.random.default_rng(2)
    draws = rng.normal(size=(3, 8, 200))
    for t in range(1, 200):
        draws[..., t] += 0.6 * draws[..., t - 1]
    draws[2, 0] += 1.5  # a chain that stayed elsewhere
    for i in range(3):
        assert r_hat(draws)[i] == pytest.approx(float(arviz.rhat(draws[i])), rel=1e-6)
        assert ess_bulk(draws)[i] == pytest.approx(float(arviz.ess(draws[i])), rel=0.03)
        assert ess_tail(draws)[i] == pytest.approx(float(arviz.ess(draws[i], method="tail")), rel=0.03)
    assert r_hat(draws)[2] > 1.05 > r_hat(draws)[:2].max()


# --- exact answers ----------------------------------------------------------------------------------------------------


def test_one_answer_and_one_coefficient_by_quadrature(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("person,round,option,chosen,cost\np,1,a,1,3\np,1,b,0,7\np,2,a,1,4\np,2,b,0,3\n")
    found = infer(str(path), weights="free", draws=1000)
    sd = np.std([3, 7, 4, 3])
    b = np.linspace(-60, 60, 200_001)
    density = np.exp(-0.5 * (b * sd / 10) ** 2) / (1 + np.exp(4 * b)) / (1 + np.exp(-b))
    density /= density.sum()
    mean = np.sum(b * density)
    spread = np.sqrt(np.sum((b - mean) ** 2 * density))
    assert table(found)["cost"] == pytest.approx(mean, abs=0.06 * spread)
    assert table(found, "sd")["cost"] == pytest.approx(spread, rel=0.05)
    assert table(found, "q05")["cost"] == pytest.approx(b[np.searchsorted(density.cumsum(), 0.05)], abs=0.1 * spread)


def test_two_weights_by_quadrature(tmp_path):
    """On a grid of weight, rationality and lapse: 12 answers, far from normal."""
    rng = np.random.default_rng(8)
    path = write(tmp_path / "two.csv", {"p": answers(rng, np.array([0.9, 0.1]), 8.0, 0.02, 12)}, "warm,cheap")
    found = infer(path, draws=1000)
    w = (np.arange(200) + 0.5)[:, None, None] / 200
    log_r = np.linspace(np.log(10) - 3, np.log(10) + 3, 90)[None, :, None]
    logit = np.linspace(-7, 1, 60)[None, None, :]
    log_density = -0.5 * ((log_r - np.log(10)) / 0.7) ** 2 - 0.5 * ((logit - np.log(0.03 / 0.97)) / 0.7) ** 2
    choices = read_choices(path)
    for q, pick in enumerate(choices.chosen):
        phi = choices.values[choices.start[q] : choices.start[q + 1]]
        utility = w[..., None] * phi[:, 0] + (1 - w[..., None]) * phi[:, 1]
        log_p = menu_log_probs(np, utility, np.exp(log_r)[..., None], 1 / (1 + np.exp(-logit))[..., None])
        log_density = log_density + log_p[..., pick]
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    for name, value in (("warm", w), ("rationality[mode_choice]", np.exp(log_r)), ("lapse", 1 / (1 + np.exp(-logit)))):
        mean = np.sum(value * density)
        sd = np.sqrt(np.sum((value - mean) ** 2 * density))
        assert table(found)[name] == pytest.approx(mean, abs=0.08 * sd), name
        assert table(found, "sd")[name] == pytest.approx(sd, rel=0.06), name
    assert table(found)["warm"] + table(found)["cheap"] == pytest.approx(1)


def test_without_evidence_the_posterior_is_the_prior(tmp_path):
    """Options that do not differ tell nothing of weights and rationality."""
    path = tmp_path / "nothing.csv"
    path.write_text("person,round,option,chosen,a,b,c\np,1,x,1,0.5,0.2,0.1\np,1,y,0,0.5,0.2,0.1\n")
    found = infer(str(path), draws=1000)
    for name in "abc":  # Dirichlet(1, 1, 1)
        assert table(found)[name] == pytest.approx(1 / 3, abs=0.01)
        assert table(found, "sd")[name] == pytest.approx(np.sqrt(1 / 18), rel=0.04)
    median = usual_prior(3).rationality[0][0]
    assert table(found, "q50")["rationality"] == pytest.approx(median, rel=0.05)
    assert len(found["diagnostics"]["notes"]) == 3


# --- maximum likelihood -----------------------------------------------------------------------------------------------


def logit(choices) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors of statsmodels' conditional logit."""
    from statsmodels.discrete.conditional_models import ConditionalLogit

    size = np.diff(choices.start)
    mark = np.zeros(choices.num_rows)
    mark[choices.start[:-1] + choices.chosen] = 1
    fit = ConditionalLogit(mark, choices.values, groups=np.repeat(np.arange(len(size)), size)).fit(disp=0)
    return np.asarray(fit.params), np.asarray(fit.bse)


def test_with_many_choices_free_weights_are_the_logit(tmp_path):
    """3,000 choices among 2 to 10 alternatives, columns of very different units, an alternative-specific one."""
    rng = np.random.default_rng(4)
    lines = ["person,round,option,chosen,minutes,euros,is_bus,bus_minutes"]
    for t in range(3000):
        size = rng.integers(2, 11)
        minutes, euros = rng.uniform(5, 90, size).round(1), rng.uniform(0.5, 9, size).round(2)
        bus = (rng.random(size) < 0.4).astype(int)
        value = -0.05 * minutes - 0.3 * euros + 0.7 * bus - 0.02 * bus * minutes + rng.gumbel(size=size)
        for k in range(size):
            chosen = int(k == value.argmax())
            lines.append(f"p{t % 50},{t},{k},{chosen},{minutes[k]},{euros[k]},{bus[k]},{bus[k] * minutes[k]:.1f}")
    path = tmp_path / "survey.csv"
    path.write_text("\n".join(lines))
    found = infer(str(path), weights="free", pool=True)
    estimate, se = logit(read_choices(str(path), "free", pool=True))
    for name, b, s in zip(("minutes", "euros", "is_bus", "bus_minutes"), estimate, se, strict=True):
        assert table(found)[name] == pytest.approx(b, abs=0.12 * s), name
        assert table(found, "sd")[name] == pytest.approx(s, rel=0.06), name
    assert found["diagnostics"]["trustworthy"]


# Greene, Econometric Analysis: conditional logit of 210 travellers' modes (7th edition, table 18.3, unweighted)
GREENE = {
    "gc": (-0.01550, 0.00441),
    "ttme": (-0.09612, 0.01044),
    "air": (5.20744, 0.77905),
    "train": (3.86904, 0.44313),
    "bus": (3.16319, 0.45027),
    "hinc_air": (0.01329, 0.01026),
}


def test_published_estimates_of_the_travel_mode_data(tmp_path):
    """statsmodels ships the data. A posterior mean is not the maximum: a third of an error on 210 choices."""
    from statsmodels.datasets import modechoice

    data = modechoice.load_pandas().data
    names = {1: "air", 2: "train", 3: "bus", 4: "car"}
    columns = {
        "person": data["individual"].astype(int),
        "round": np.ones(len(data), int),
        "option": data["mode"].map(names),
        "chosen": data["choice"].astype(int),
        "gc": data["gc"],
        "ttme": data["ttme"],
        **{name: (data["mode"] == code).astype(int) for code, name in names.items() if name != "car"},
        "hinc_air": data["hinc"] * (data["mode"] == 1),
    }
    path = tmp_path / "travel.csv"
    path.write_text(
        "\n".join([",".join(columns), *(",".join(map(str, r)) for r in zip(*columns.values(), strict=True))])
    )
    estimate, _ = logit(read_choices(str(path), "free", pool=True))
    assert estimate == pytest.approx([b for b, _ in GREENE.values()], rel=2e-3)
    found = infer(str(path), weights="free", pool=True, draws=500)
    for name, (b, s) in GREENE.items():
        assert table(found)[name] == pytest.approx(b, abs=0.35 * s), name
        assert table(found, "sd")[name] == pytest.approx(s, rel=0.1), name


def test_perfectly_separated_choices_have_a_posterior(tmp_path):
    rng = np.random.default_rng(5)
    lines = ["person,round,option,chosen,good"]
    for t in range(50):
        a, b = rng.random(2)
        lines += [f"p,{t},a,{int(a > b)},{a}", f"p,{t},b,{int(b > a)},{b}"]
    path = tmp_path / "separated.csv"
    path.write_text("\n".join(lines))
    found = infer(str(path), weights="free")
    assert found["diagnostics"]["trustworthy"] and 20 < table(found)["good"] < 200


# --- people -----------------------------------------------------------------------------------------------------------


def test_intervals_of_people_hold_the_truth(tmp_path):
    """120 people from the prior, 15 menus each, fitted alone: 480 weights, of which 90% lie in their interval."""
    rng = np.random.default_rng(6)
    people, truth = {}, {}
    for i in range(120):
        w = rng.dirichlet(np.ones(4))
        lapse = 1 / (1 + np.exp(-rng.normal(np.log(0.03 / 0.97), 0.7)))
        people[f"p{i}"] = answers(rng, w, 10 * np.exp(rng.normal(0, 0.7)), lapse, 15)
        truth |= {f"{name}[p{i}]": w[j] for j, name in enumerate("abcd")}
    found = infer(write(tmp_path / "people.csv", people, "a,b,c,d"))
    assert len(found["parameters"]) == 120 * 6
    low, high = table(found, "q05"), table(found, "q95")
    inside = np.mean([low[name] <= w <= high[name] for name, w in truth.items()])
    assert 0.86 < inside < 0.94  # the sd of 480 is 0.014, of 360 free ones 0.016
    mean = table(found)
    assert np.corrcoef([mean[name] for name in truth], list(truth.values()))[0, 1] > 0.8
    first = found["parameters"][0]
    assert (first["name"], first["person"], first["parameter"]) == ("a[p0]", "p0", "a")


def test_a_person_alone_and_in_company_is_the_same(mixed):
    choices = read_choices(mixed)
    form = form_of(choices, "simplex")
    together = next(fit_live(form, choices, 5, 120))
    alone = next(fit_live(form, choices.of(0, 1), 5, 120))
    assert np.array_equal(together.draws[0], alone.draws[0])


def test_pooling_takes_rounds_apart_by_person(mixed):
    choices = read_choices(mixed, pool=True)
    assert choices.people == ("all",) and len(choices.chosen) == 180
    found = infer(mixed, pool=True, draws=120)
    assert [p["name"] for p in found["parameters"]][:3] == ["warm", "cheap", "quiet"]
    assert found["diagnostics"]["choices"] == 180


def test_rows_may_stand_in_any_order(tmp_path, mixed):
    lines = Path(mixed).read_text().splitlines()
    shuffled = [lines[0], *np.random.default_rng(0).permutation(lines[1:])]
    (tmp_path / "shuffled.csv").write_text("\n".join(shuffled))
    a, b = (infer(p, pool=True, draws=250) for p in (mixed, str(tmp_path / "shuffled.csv")))
    for name, sd in table(a, "sd").items():
        assert table(a)[name] == pytest.approx(table(b)[name], abs=0.15 * sd)


def test_accept_or_override_has_its_own_rationality_and_pull(tmp_path):
    """Whoever takes every proposal relies on it."""
    rng = np.random.default_rng(7)
    lines = ["person,round,option,chosen,channel,warm,cheap,recommended"]
    for t in range(60):
        for k, row in enumerate(rng.random((3, 2)).round(3)):
            lines.append(f"p,{t},{k},{int(k == 1)},accept_override,{row[0]},{row[1]},{int(k == 1)}")
    path = tmp_path / "relies.csv"
    path.write_text("\n".join(lines))
    found = table(infer(str(path)))
    assert set(found) == {"warm", "cheap", "rationality[accept_override]", "lapse", "reliance"}
    assert found["reliance"] > 1.5
    free = table(infer(str(path), weights="free"))
    assert set(free) == {"warm", "cheap", "recommended"} and free["recommended"] > 2


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["simplex", "free"])
def test_the_engines_agree(mixed, weights):
    """Three people, menus and comparisons: means within 0.15 sd, sd within 8%."""
    live, reference = (infer(mixed, weights=weights, engine=engine, draws=1500) for engine in ("live", "pymc"))
    assert reference["engine"] == "pymc" and reference["diagnostics"]["trustworthy"]
    sd = table(reference, "sd")
    assert set(sd) == set(table(live))
    for name in sd:
        assert table(live)[name] == pytest.approx(table(reference)[name], abs=0.15 * sd[name]), name
        assert table(live, "sd")[name] == pytest.approx(sd[name], rel=0.08), name


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_same_seed_prints_the_same_bytes(mixed, capsys):
    texts = []
    for seed in ("1", "1", "2"):
        assert main(["infer", mixed, "--json", "--draws", "120", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    found = json.loads(texts[0])
    assert set(found["parameters"][0]) >= {"name", "mean", "sd", "q05", "q50", "q95"}
    assert {"r_hat", "ess_bulk", "ess_tail", "acceptance", "divergences"} <= set(found["diagnostics"])


def test_the_table_is_for_reading(mixed, capsys):
    assert main(["infer", mixed, "--pool", "--draws", "120"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("180 choices of 1 people, engine live, weights simplex\n")
    assert "rationality[comparison]" in out and "R-hat" in out


@pytest.mark.parametrize("people", [["--pool"], []])
def test_out_is_read_back(mixed, tmp_path, capsys, people):
    import arviz

    path = tmp_path / "posterior.nc"
    assert main(["infer", mixed, "--json", "--draws", "120", "--out", str(path), *people]) == 0
    found = json.loads(capsys.readouterr().out)
    data = arviz.from_netcdf(path)
    assert set(data.groups()) >= {"posterior", "observed_data", "constant_data"}
    name = "cheap" if people else "cheap[p2]"
    own = data.posterior["weights"].sel(attribute="cheap", **({} if people else {"person": "p2"}))
    assert float(own.mean()) == pytest.approx(table(found)[name], rel=1e-12)
    assert own.shape == (16, 120)
    assert data.posterior.attrs["seed"] == 0 and data.posterior.attrs["engine"] == "live"
    assert data.posterior.attrs["file_sha256"] == found["file_sha256"]
    assert json.loads(data.posterior.attrs["diagnostics"]) == found["diagnostics"]
    assert data.constant_data["attributes"].shape == (found["diagnostics"]["rows"], 3)
    assert not list(tmp_path.glob("*.part"))


def test_help_and_the_live_engine_load_nothing_slow(mixed):
    code = (
        "import sys; from cli.main import main; main(['infer', '--help']); assert 'numpy' not in sys.modules; "
        f"main(['infer', {mixed!r}, '--json', '--draws', '100']); "
        "assert not {'pymc', 'arviz', 'nutpie', 'pytensor'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- mistakes in a file -----------------------------------------------------------------------------------------------

MISTAKES = {
    "an attribute is missing": (HEADER + TWO + "p,2,x,1,,0.2\np,2,y,0,0.3,0.4\n", "line 4: warm is missing"),
    "two options chosen": (HEADER + TWO + "p,2,x,1,.1,0\np,2,y,1,0,0\n", "line 4: round 2 of person p has 2 options"),
    "no option chosen": (HEADER + "p,2,x,0,.1,0\np,2,y,,0,0\n", "line 2: round 2 of person p has no option chosen"),
    "not a number": (HEADER + "p,2,x,1,nan,0\np,2,y,0,0,0\n", "line 2: warm is 'nan', not a finite number"),
    "infinite": (HEADER + "p,2,x,1,0,0\np,2,y,0,0,-inf\n", "line 3: cheap is '-inf', not a finite number"),
    "text in a number": (HEADER + "p,2,x,1,0,1 EUR\np,2,y,0,0,0\n", "line 2: cheap is '1 EUR'"),
    "outside of the scale": (HEADER + TWO + "p,2,x,1,1.5,0\np,2,y,0,0,0\n", "line 4: warm is 1.5"),
    "one option": (HEADER + TWO + "q,1,x,1,0,0\n", "line 4: round 1 of person q has one option only"),
    "a row twice": (HEADER + TWO + "p,1,y,0,0.3,0.4\n", "line 4: option y is there twice in round 1 of person p"),
    "no person": (HEADER + TWO + ",2,x,1,0,0\n", "line 4: the person is missing"),
    "no round": (HEADER + TWO + "p,,x,1,0,0\n", "line 4: the round is missing"),
    "no option's name": (HEADER + TWO + "p,2,,1,0,0\n", "line 4: the option is missing"),
    "chosen is no mark": (HEADER + "p,2,x,yes,0,0\np,2,y,0,0,0\n", "line 2: chosen is 'yes'"),
    "after empty lines": (HEADER + TWO + "\n\r\np,2,x,1,bad,0\np,2,y,0,0,0\n", "line 6: warm is 'bad'"),
    "too few cells": (HEADER + TWO + "p,2,x,1\n", "line 4: 4 cells, the first line names 6 columns"),
    "an empty file": ("", "the file is empty"),
    "names alone": (HEADER, "no row below the line of names"),
    "a column is missing": ("person,round,option,a\np,1,x,1\n", "no column 'chosen'"),
    "no attribute": ("person,round,option,chosen\np,1,x,1\np,1,y,0\n", "no column of an attribute"),
    "semicolons": ((HEADER + TWO).replace(",", ";"), "no column 'person'"),
    "a column twice": ("person,round,option,chosen,a,a\n", "line 1: two columns are called 'a'"),
    "no name": ("person,round,option,chosen,a,\n", "line 1: column 6 has no name"),
    "not UTF-8": ((HEADER + "p,1,x,1,0,0\np,1,ä,0,0,0\n").encode("latin-1"), "line 3: not a text in UTF-8"),
    "not a text": (b"\x89HDF\r\n\x1a\n", "line 1: not a text in UTF-8"),
}
CHANNELS = {
    "unknown": ("p,1,x,1,mood,0\np,1,y,0,mood,1\n", "line 2: channel is 'mood': write one of mode_choice"),
    "missing": ("p,1,x,1,,0\np,1,y,0,mode_choice,1\n", "line 2: channel is missing"),
    "two in a round": ("p,1,x,1,comparison,0\np,1,y,0,mode_choice,1\n", "line 3: round 1 of person p has two channels"),
    "three compared": ("".join(f"p,1,{k},0,comparison,0\n" for k in "xyz"), "line 2: a comparison is of two options"),
    "an open menu": ("p,1,x,0,mode_choice,0\np,1,y,0,mode_choice,1\n", "line 2: round 1 of person p has no option"),
}
ALL = MISTAKES | {f"channel {k}": ("person,round,option,chosen,channel,a\n" + t, m) for k, (t, m) in CHANNELS.items()}


@pytest.mark.parametrize("what", ALL)
def test_a_mistake_in_the_file_is_told_in_one_line(tmp_path, capsys, what):
    text, said = ALL[what]
    path = tmp_path / "choices.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["infer", str(path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith(f"calib infer: {path}") and said in err
    assert err.rstrip().rpartition(": ")[2]  # a remedy


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--attributes", "warm,wrm"], "'wrm' is no column of an attribute; there are warm, cheap, quiet"),
        (["--out", "no/such/folder.nc"], "the folder no/such does not exist"),
        (["--draws", "5"], "--draws 5: give 100 to 100000"),
        (["--seed", "-1"], "--seed -1: give 0 or more"),
    ],
)
def test_a_mistake_in_the_command_is_told_in_one_line(mixed, capsys, words, said):
    assert main(["infer", mixed, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_column_without_variation_has_no_coefficient(tmp_path, capsys):
    path = tmp_path / "same.csv"
    path.write_text(HEADER + "p,1,x,1,3,1\np,1,y,0,3,2\n")
    assert main(["infer", str(path), "--weights", "free"]) == 2
    assert "column warm is the same in every row" in capsys.readouterr().err


def test_what_may_be_written_differently(tmp_path):
    """A byte order mark, blanks, true and false, empty lines, windows line ends, a comparison left open."""
    path = tmp_path / "choices.csv"
    text = "\ufeffperson, round,option,chosen,channel,warm\r\n p ,1,x, TRUE,mode_choice,0.5 \r\n"
    path.write_bytes(
        (text + "p,1,y,false,mode_choice,1e-1\r\n\r\np,2,x,,comparison,0\r\np,2,y,,comparison,1\r\n\r\n").encode()
    )
    choices = read_choices(str(path))
    assert choices.chosen.tolist() == [0, 2] and choices.people == ("p",)
    assert choices.values[:, 0].tolist() == [0.5, 0.1, 0, 1]


def test_a_large_file_is_read_without_a_loop(tmp_path):
    """80,000 rows, whose posterior is that of the logit."""
    rng = np.random.default_rng(9)
    x = rng.normal(size=(20_000, 4)).round(4)
    chosen = np.argmax(0.8 * x + rng.gumbel(size=x.shape), axis=1)
    lines = [f"p{q % 500},{q},{k},{int(k == chosen[q])},{x[q, k]}" for q in range(len(x)) for k in range(4)]
    path = tmp_path / "large.csv"
    path.write_text("person,round,option,chosen,x\n" + "\n".join(lines))
    found = infer(str(path), weights="free", pool=True)
    share = np.exp(table(found)["x"] * x)
    share /= share.sum(axis=1, keepdims=True)
    mean = np.sum(share * x, axis=1)
    # at the maximum the score is 0; information gives the error
    score = np.sum(x[np.arange(len(x)), chosen] - mean)
    information = np.sum(np.sum(share * x**2, axis=1) - mean**2)
    assert abs(score) / np.sqrt(information) < 0.15
    assert table(found, "sd")["x"] == pytest.approx(1 / np.sqrt(information), rel=0.1)


def test_the_file_of_the_documentation_is_one(tmp_path, capsys):
    """docs/infer.md shows a whole file: Ada wants it clean."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "infer.md").read_text()
    path = tmp_path / "choices.csv"
    path.write_text(page.partition("```csv\n")[2].partition("```")[0])
    assert main(["infer", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"quiet", "clean", "quick", "rationality[comparison]", "lapse", "about_equal"} < set(table(found))
    assert found["diagnostics"]["choices"] == 3 and table(found)["clean"] > table(found)["quick"]
    for key in (*found, *found["diagnostics"]):
        assert f"`{key}`" in page or f'"{key}"' in page, key
