"""The Analyse page by AppTest: the address both ways, refusals in one line, and the very numbers of `calib analyze`."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from calib.scenario import load_scenario
from cli.main import main
from dashboard import answers, show
from experiments.parts import make_plan
from experiments.population import simulate_population
from populations import made_up_rows, write_population
from sessions import quick_scenario

ROOT = Path(__file__).resolve().parent.parent
NASTY = ("<script>alert(1)</script>", "[link](http://evil.example)", "**bold** $x$ :smile: www.evil.example", "a@b.c")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a tiny population of the arena."""
    scenario = load_scenario("arena")
    plan = make_plan(
        scenario.file,
        scenario.text,
        roles=["tool", "advisor"],
        policies=["random"],
        people_specs=["rational", "impatient"],
        people=12,
        seed=5,
        max_rounds=6,
        stop_rule="max_rounds",
        particles=64,
        chunk=12,
    )
    folder = tmp_path_factory.mktemp("data") / "out"
    simulate_population(plan, folder / "arena-5", 1, lambda people: None)
    return folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data folder below a working directory, and no journal yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIB_DATA", raising=False)
    monkeypatch.delenv("CALIB_JOURNAL", raising=False)
    (tmp_path / "out").mkdir()
    yield tmp_path / "out"
    for cached in (answers.table_of, answers.answer, answers.models, answers.versions, answers.choices):
        cached.cache_clear()


@pytest.fixture
def arena(data: Path, simulated: Path) -> Path:
    """The data folder with the tiny population."""
    return Path(shutil.copytree(simulated / "arena-5", data / "arena-5"))


def opened(**address: Any) -> AppTest:
    """The page of an address."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.switch_page("pages/analyse.py")
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def told(page: AppTest) -> list[str]:
    """What the page refuses, as a reader sees it."""
    return [seen(error.value) for error in page.error]


def seen(markdown: str) -> str:
    """The text of escaped markdown."""
    out, i = [], 0
    while i < len(markdown):
        i += markdown[i] == "\\"
        out.append(markdown[i])
        i += 1
    return "".join(out).replace(show.JOIN, "")


def rows_of(page: AppTest) -> list[dict[str, Any]]:
    """Every chart's longest table, as columns."""
    found = []
    for chart in page.get("vega_lite_chart"):
        sent = [d.data.data for d in chart.proto.datasets] or [chart.proto.data.data]
        tables = [pa.ipc.open_stream(content).read_all() for content in sent]
        found.append(max(tables, key=lambda table: table.num_rows).to_pydict())
    return found


def commands(page: AppTest) -> list[str]:
    return [line for block in page.code for line in block.value.splitlines()]


def said(line: str, capsys: pytest.CaptureFixture[str]) -> Any:
    """What a command line of the page prints as JSON."""
    words = shlex.split(line)
    assert words[0] == "calib"
    assert main([*words[1:], *([] if "--json" in words else ["--json"])]) == 0
    return json.loads(capsys.readouterr().out)


def test_without_data_it_says_what_to_do(data: Path) -> None:
    (data / "half" / "parts").mkdir(parents=True)
    page = opened()
    assert "no population in out and no journal" in seen(page.info[0].value)
    assert any("calib simulate" in line for line in commands(page))
    assert "half" in seen(page.caption[-1].value)
    assert page.get("page_link")


def test_the_most_recent_source_is_shown_first(data: Path, arena: Path) -> None:
    import os

    old = write_population(data / "old", made_up_rows(50))
    os.utime(old / "manifest.json", (1, 1))
    page = opened()
    assert page.selectbox(key="analyse-source").value == "arena-5"
    assert page.selectbox(key="analyse-source").options == ["out/arena-5", "out/old"]
    assert "48 people in 4 groups, true time to alignment in rounds" in seen(page.markdown[0].value)
    page.toggle(key="analyse-together").set_value(True).run()
    page.selectbox(key="analyse-source").select("old").run()
    assert dict(page.query_params) in ({"source": "old"}, {"source": ["old"]}), "another source begins without filters"
    assert "50 people" in seen(page.markdown[0].value)


def test_an_address_sets_every_filter_and_a_filter_the_address(arena: Path) -> None:
    address = {
        "source": "arena-5",
        "version": "declared",
        "group": "role,person_model",
        "covariates": "policy",
        "where": ["role=tool", "person_model!=impatient"],
        "tau": "3",
        "time": "rounds",
    }
    page = opened(**address)
    assert not page.error
    assert page.selectbox(key="analyse-version").value == "declared"
    assert page.multiselect(key="analyse-group").value == ["role", "person_model"]
    assert page.multiselect(key="analyse-where").value == address["where"]
    assert page.number_input(key="analyse-tau").value == 3
    line = "calib analyze out/arena-5 --version declared --time rounds --group role,person_model --covariates policy "
    line += "--where role=tool --where 'person_model!=impatient' --tau 3"
    assert commands(page)[0] == line
    page.multiselect(key="analyse-where").set_value(["role=advisor"]).run()
    page.toggle(key="analyse-together").set_value(True).run()
    page.toggle(key="analyse-kinds").set_value(True).run()
    page.number_input(key="analyse-tau").set_value(4).run()
    now = {key: page.query_params[key] for key in page.query_params}
    flat = {key: value[0] if isinstance(value, list) and len(value) == 1 else value for key, value in now.items()}
    assert flat == address | {"where": "role=advisor", "group": "", "mix_kinds": "1", "tau": "4"}
    page.number_input(key="analyse-tau").set_value(None).run()
    assert "tau" not in page.query_params and page.number_input(key="analyse-tau").value is None
    page.number_input(key="analyse-tau").set_value(4).run()
    again = opened(**now)
    assert commands(again) == commands(page)
    assert rows_of(again) == rows_of(page)


def test_the_figures_are_the_numbers_of_their_commands(arena: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = opened(source="arena-5", group="role", where=["person_model=rational"], version="true")
    assert not page.error
    lines = commands(page)
    found = said(lines[0], capsys)
    charts = rows_of(page)
    aligned = charts[0]
    for group in found["groups"]:
        of_page = [
            (t, e)
            for t, e, g in zip(aligned["t"], aligned["estimate"], aligned["group"], strict=True)
            if g == group["name"]
        ]
        of_command = [(row["t"], row["estimate"]) for row in group["cif"] if row["event"] == 1]
        assert of_command == of_page[1 : 1 + len(of_command)] and of_page[0] == (0, 0)
        assert of_page[-1][0] == group["watched_to"]
    means = next(c for c in charts if c.get("row") == [g["name"] for g in found["groups"]])
    assert means["estimate"] == [g["rmst"]["estimate"] for g in found["groups"]]
    assert means["low"] == [g["rmst"]["low"] for g in found["groups"]]
    table = page.dataframe[0].value
    assert table["people"].tolist() == [g["n"] for g in found["groups"]]
    assert table[f"mean to {found['groups'][0]['rmst']['tau']:g}"].tolist() == means["estimate"]
    by_version = next(c for c in charts if set(c.get("row", ())) >= {"declared", "verified"})
    for line in (line for line in lines if "--tau" in line):
        answer = said(line, capsys)
        for group in answer["groups"]:
            i = list(zip(by_version["row"], by_version["group"], strict=True)).index((answer["version"], group["name"]))
            assert by_version["estimate"][i] == group["rmst"]["estimate"]
    detailed = said(next(line for line in lines if "--details" in line), capsys)
    gaps = next(c for c in charts if "menu" in c.get("row", ()))
    for row, name, estimate in zip(gaps["row"], gaps["group"], gaps["estimate"], strict=True):
        group = next(g for g in detailed["groups"] if g["name"] == name)
        assert group["gaps"][row.replace(" ", "_")]["estimate"] == estimate
    degree = next(c for c in charts if "degree" in c)
    first = detailed["groups"][0]["degree"]
    assert degree["median"] == [r["median"] for kind in ("true", "estimated") for r in first[kind]]


def test_the_models_are_those_of_the_command(arena: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = opened(source="arena-5", group="role", where=["person_model=rational"])
    found = said(commands(page)[-1], capsys)
    chi2 = f"chi2 {found['logrank']['chi2']:.2f}" if found["logrank"] else ""
    assert not chi2 or any(chi2 in m.value for m in page.markdown)
    assert any(list(table.value.columns)[:2] == ["a", "b"] for table in page.dataframe)


BAD = {
    ("version", "sometimes"): "version=sometimes: choose true, declared",
    ("tau", "soon"): "tau=soon: give a number",
    ("tau", "nan"): "tau=nan: give a number",
    ("tau", "-1"): "--tau -1: give a time above 0",
    ("tau", "99"): "was watched up to",
    ("where", "role"): "where=role: give COLUMN=VALUE",
    ("where", "role=nobody"): "no row is left by --where role=nobody",
    ("where", "colour=red"): "no column 'colour'",
    ("group", "colour"): "no column 'colour'",
    ("covariates", "colour"): "no column 'colour'",
    ("time", "moons"): "no column 'moons'",
    ("mix_kinds", "yes"): "mix_kinds=yes: give 1 or 0",
    ("colour", "red"): "'colour' in the address",
    ("source", "nothing"): "there is no such population",
    ("source", "../elsewhere"): "is not in the data folder",
    ("source", "/etc"): "is not in the data folder",
    ("source", "leads-out"): "is not in the data folder",
    ("source", "."): "is not in the data folder",
    ("source", "a\0b"): "is not in the data folder",
    ("source", "x" * 5000): "is not in the data folder|no such population",
    ("source", "journal"): "calib.db",
}


@pytest.mark.parametrize("key", BAD, ids=lambda key: f"{key[0]}={key[1][:15]!r}")
def test_a_bad_address_is_one_clear_line(arena: Path, tmp_path: Path, key: tuple[str, str]) -> None:
    elsewhere = write_population(tmp_path / "elsewhere", made_up_rows(20))
    (arena.parent / "leads-out").symlink_to(elsewhere)
    page = opened(**{"source": "arena-5", key[0]: key[1]})
    lines = told(page)
    assert len(lines) == 1 and "\n" not in lines[0]
    assert any(words in lines[0] for words in BAD[key].split("|")), lines[0]
    assert not page.get("vega_lite_chart")


def test_a_manifest_that_leads_out_is_refused(arena: Path, tmp_path: Path) -> None:
    elsewhere = write_population(tmp_path / "elsewhere", made_up_rows(20))
    shutil.rmtree(arena / "parts")
    (arena / "parts").symlink_to(elsewhere / "parts")
    assert "is not in the data folder" in told(opened(source="arena-5"))[0]


def test_the_way_back_from_a_bad_address(arena: Path) -> None:
    page = opened(version="sometimes")
    page.button(key="analyse-clear").click().run()
    assert not page.error and not page.query_params and page.get("vega_lite_chart")


def test_kinds_and_scenarios_are_mixed_on_purpose_only(data: Path) -> None:
    mixed = [made_up_rows(30, 1, kind="human"), made_up_rows(30, 2, role="tool", scenario_hash="1" * 64)]
    write_population(data / "mixed", *mixed)
    page = opened(source="mixed")
    assert "different values of kind" in told(page)[0] and not page.get("vega_lite_chart")
    page.toggle(key="analyse-kinds").set_value(True).run()
    assert "different values of scenario_hash" in told(page)[0]
    page.toggle(key="analyse-scenarios").set_value(True).run()
    assert not page.error and commands(page)[0].endswith("--mix-kinds --mix-scenarios")


def test_a_source_without_details_says_so(data: Path) -> None:
    write_population(data / "bare", made_up_rows(30, details=False))
    page = opened(source="bare")
    assert not page.error
    assert {"The degree by round is not recorded in this source.", "The gaps are not recorded in this source."} <= {
        info.value for info in page.info
    }


def test_names_of_others_are_text(data: Path) -> None:
    """In markdown they come out escaped, elsewhere they are data of a chart or a table."""
    parts = [made_up_rows(30, i, role=name, policy=f"p{i}") for i, name in enumerate(NASTY)]
    write_population(data / "nasty", *parts)
    page = opened(source="nasty", group="role", where=["role!=:red[x]"])
    assert not page.error
    for name in NASTY:
        texts = [m.value for m in page.markdown] + [c.value for c in page.caption]
        assert not any(name in text for text in texts)
        assert any(name in seen(text) for text in texts)
    legend = "".join(element.proto.body for element in page.get("html"))
    assert "<script" not in legend and "&lt;script&gt;" in legend
    assert all(NASTY[0] in chart["group"] for chart in rows_of(page)[:2])
    refused = opened(source="nasty", version="<b>x</b> [a](http://b.example) --tau")
    assert told(refused)[0].startswith("version=<b>x</b> [a](http://b.example) --tau: choose")
    assert "<b>" not in refused.error[0].value and "](" not in refused.error[0].value


def test_both_models_are_those_of_the_command(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_population(data / "made-up", made_up_rows(80, 1, role="tool"), made_up_rows(80, 2, role="advisor"))
    page = opened()
    found = said(commands(page)[0], capsys)
    titles = [seen(block.value) for block in page.markdown]
    assert "**Cox model of the hazard of alignment** (efron ties)" in titles
    assert "**Fine-Gray model of the incidence of alignment** (breslow ties)" in titles
    shown = [frame.value for frame in page.dataframe if "hazard_ratio" in frame.value]
    assert [list(frame["coef"]) for frame in shown] == [[c["coef"] for c in found[m]] for m in ("cox", "fine_gray")]
    assert found["fine_gray"][0]["coef"] != found["cox"][0]["coef"]


def test_the_journal_is_a_source(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = quick_scenario(data.parent)
    for person in ("0", "1"):
        words = ["run", scenario, "--device", "simvac", "--rounds", "4", "--audit", "off", "--json"]
        assert main([*words, "--person-number", person, "--journal", "sqlite:///./calib.db"]) == 0
    capsys.readouterr()
    page = opened()
    assert not page.error
    assert page.selectbox(key="analyse-source").value == "journal"
    assert page.selectbox(key="analyse-source").options == ["journal (sqlite:///./calib.db)"]
    assert commands(page)[0] == "calib analyze sqlite:///./calib.db"
    detailed = said(next(line for line in commands(page) if "--details" in line), capsys)
    degree = next(chart for chart in rows_of(page) if "degree" in chart)
    first = detailed["groups"][0]["degree"]
    assert degree["median"] == [r["median"] for kind in ("true", "estimated") for r in first[kind]]
    assert len(degree["median"]) == 10


def test_a_csv_file_with_columns_of_its_own(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "trial.csv").write_text(
        "weeks,relapse,arm\n" + "".join(f"{t},{t % 2},{'ab'[t % 3 > 0]}\n" for t in range(1, 30))
    )
    page = opened(source="trial.csv")
    assert "name two of its columns with --time and --event" in told(page)[0]
    page.selectbox(key="analyse-time").select("weeks").run()
    page.selectbox(key="analyse-event").select("relapse").run()
    page.multiselect(key="analyse-group").set_value(["arm"]).run()
    assert not page.error
    found = said(commands(page)[0], capsys)
    assert found["n"] == 29 and [g["name"] for g in found["groups"]] == rows_of(page)[1]["row"]
