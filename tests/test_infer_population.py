"""`calib infer --hierarchical`: the population is found, people lean on it, it becomes the prior of the next one."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.special import digamma

from calib.scenario import load_scenario_text
from cli.main import main
from experiments.infer import usual_prior
from experiments.infer_file import infer
from experiments.infer_population import dirichlet, draw_population, read_prior

MEAN, SD = np.array([1.0, -0.5]), np.array([0.6, 0.3])


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> tuple[str, np.ndarray]:
    """40 people with 8 choices of 3 options each, and their coefficients (40, 2)."""
    rng = np.random.default_rng(1)
    truth = rng.normal(MEAN, SD, (40, 2))
    lines = ["person,round,option,chosen,comfort,price"]
    for i, b in enumerate(truth):
        for t in range(8):
            x = rng.normal(size=(3, 2)).round(3)
            chosen = np.argmax(x @ b + rng.gumbel(size=3))
            lines += [f"p{i},{t},{k},{int(k == chosen)},{x[k, 0]},{x[k, 1]}" for k in range(3)]
    path = tmp_path_factory.mktemp("survey") / "survey.csv"
    path.write_text("\n".join(lines))
    return str(path), truth


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> str:
    """12 people with 10 choices among attributes of a scenario."""
    rng = np.random.default_rng(2)
    lines = ["person,round,option,chosen,residual_dirt,coverage,sound"]
    for i in range(12):
        w = rng.dirichlet([6, 3, 1])
        for t in range(10):
            x = rng.random((3, 3)).round(3)
            chosen = np.argmax(15 * x @ w + rng.gumbel(size=3))
            lines += [f"p{i},{t},{k},{int(k == chosen)}," + ",".join(map(str, x[k])) for k in range(3)]
    path = tmp_path_factory.mktemp("homes") / "homes.csv"
    path.write_text("\n".join(lines))
    return str(path)


def test_the_population_is_found_and_people_lean_on_it(survey):
    path, truth = survey
    found = infer(path, weights="free", hierarchical=True)
    named = {p["name"]: p for p in found["parameters"]}
    assert found["diagnostics"]["trustworthy"]
    for j, name in enumerate(("comfort", "price")):
        assert abs(named[name]["mean"] - truth[:, j].mean()) < 3 * named[name]["sd"]
        assert named[f"sd[{name}]"]["q05"] < SD[j] < named[f"sd[{name}]"]["q95"] * 1.2
        assert named[name]["sd"] < 0.2
    assert -1 < named["correlation[comfort,price]"]["mean"] < 1
    alone = {p["name"]: p["mean"] for p in infer(path, weights="free", draws=120)["parameters"]}

    def error(values: dict[str, float]) -> float:
        own = [[values[f"{name}[p{i}]"] for name in ("comfort", "price")] for i in range(40)]
        return float(np.sqrt(np.mean((np.array(own) - truth) ** 2)))

    assert error({name: p["mean"] for name, p in named.items()}) < 0.6 * error(alone)


def test_given_people_the_population_is_drawn_from_its_posterior():
    """With 4,000 people the draws are the moments of the people, with the known spread of a mean and a variance."""
    rng = np.random.default_rng(3)
    num, points = 4000, 16
    x = np.repeat(rng.multivariate_normal([1, -2], [[1, 0.6], [0.6, 2]], num)[:, :, None], points, axis=2)
    precision, wide = np.repeat(np.eye(2)[None], points, 0), np.ones((points, 2))
    means, covariances = [], []
    for _ in range(200):
        mu, sigma, wide = draw_population(rng, x, wide, np.zeros(2), np.full(2, 10.0), np.ones(2), precision)
        precision = np.linalg.inv(sigma)
        means.append(mu)
        covariances.append(sigma)
    seen = np.cov(x[:, :, 0].T)
    means, covariances = np.concatenate(means[5:]), np.concatenate(covariances[5:])
    assert means.mean(axis=0) == pytest.approx(x[:, :, 0].mean(axis=0), abs=0.003)
    assert means.std(axis=0) == pytest.approx(np.sqrt(np.diag(seen) / num), rel=0.05)
    assert covariances.mean(axis=0) == pytest.approx(seen, rel=0.01)
    assert covariances[:, 0, 0].std() == pytest.approx(seen[0, 0] * np.sqrt(2 / num), rel=0.06)


def test_the_nearest_dirichlet_of_a_dirichlet_is_itself():
    a = np.array([0.4, 1.0, 7.0, 60.0])
    assert dirichlet(digamma(a) - digamma(a.sum())) == pytest.approx(a, rel=1e-5)


def test_the_population_becomes_a_prior_and_a_scenario(homes, tmp_path, small_text, capsys):
    """Written, read back by the next `calib infer`, and put in place of a scenario's own."""
    out = tmp_path / "population.toml"
    words = ["infer", homes, "--hierarchical", "--draws", "100", "--json", "--population", str(out)]
    assert main(words) == 0
    found = {p["name"]: p for p in json.loads(capsys.readouterr().out)["parameters"]}
    assert {"residual_dirt", "sd[sound]", "correlation[residual_dirt,coverage]", "rationality"} <= set(found)
    assert {"sound[p3]", "rationality[p3]", "lapse[p3]", "sd_log[rationality]"} <= set(found)
    prior = read_prior(str(out), ("residual_dirt", "coverage", "sound"))
    share = np.array(prior.concentration) / sum(prior.concentration)
    for name, mean in zip(("residual_dirt", "coverage", "sound"), share, strict=True):
        assert mean == pytest.approx(found[name]["mean"], abs=0.06)
    assert prior.rationality[0][0] == pytest.approx(found["rationality"]["q50"], rel=0.15)
    assert prior.rationality[1:] == usual_prior(3).rationality[1:] and prior.lapse == usual_prior(3).lapse
    head, tail = small_text.split("[population.concentration]")
    text = head + out.read_text() + "\n[acceptance]" + tail.split("[acceptance]")[1]
    population = load_scenario_text(text, "fitted.toml").population
    assert population.concentration == prior.concentration and population.rationality == prior.rationality
    shipped = str(Path(__file__).resolve().parent.parent / "scenarios" / "apartment.toml")
    assert read_prior(shipped, ("sound", "coverage")).concentration == (0.4, 0.5)
    sharp, vague = (infer(homes, pool=True, prior=p, draws=100) for p in (str(out), None))
    assert sharp["parameters"][0]["mean"] != vague["parameters"][0]["mean"]


def test_any_name_of_a_column_is_a_key(homes, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text(
        re.sub("residual_dirt,coverage", 'travel time "min",größe', Path(homes).read_text()).replace('"', "'")
    )
    out = tmp_path / "population.toml"
    infer(str(path), hierarchical=True, draws=20, population=str(out))
    assert set(tomllib.loads(out.read_text())["population"]["concentration"]) == {"travel time 'min'", "größe", "sound"}


def test_out_holds_the_population(survey, tmp_path):
    import arviz

    path = tmp_path / "posterior.nc"
    found = infer(survey[0], weights="free", hierarchical=True, draws=50, out=str(path))
    posterior = arviz.from_netcdf(path).posterior
    mean = posterior["population"].sel(population_parameter="price").mean()
    assert float(mean) == pytest.approx(next(p["mean"] for p in found["parameters"] if p["name"] == "price"), rel=1e-9)
    assert posterior["population_covariance"].shape == (16, 50, 2, 2)
    assert posterior["coefficients"].shape == (16, 50, 40, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hierarchical", "--pool"], "--hierarchical tells people apart and --pool does not"),
        (["--population", "p.toml"], "--population writes weights on the simplex, of --hierarchical"),
        (["--hierarchical", "--population", "no/p.toml"], "--population no/p.toml: its folder does not exist"),
        (["--prior", "no.toml"], "--prior no.toml: cannot be read"),
        (["--prior", "README.md"], "is not TOML"),
        (["--prior", "scenarios/apartment.toml", "--weights", "free"], "free ones have their own"),
    ],
)
def test_a_mistake_is_told_in_one_line(homes, capsys, words, said):
    assert main(["infer", homes, *words]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.slow
def test_the_engines_agree(survey):
    """NUTS on the decentred model, Gibbs and Hamiltonian moves on the centred one."""
    live, reference = (
        {p["name"]: p for p in infer(survey[0], weights="free", hierarchical=True, engine=e, draws=1000)["parameters"]}
        for e in ("live", "pymc")
    )
    assert set(live) == set(reference)
    for name, p in reference.items():
        assert live[name]["mean"] == pytest.approx(p["mean"], abs=0.2 * p["sd"]), name
        assert live[name]["sd"] == pytest.approx(p["sd"], rel=0.15), name
