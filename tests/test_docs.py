"""The documentation holds what it says: links, paths, commands, scenario keys, and the examples run as they stand."""

import argparse
import importlib
import io
import itertools
import json
import re
import shlex
import signal
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import calib.policies
import devices
import devices.catalog
import experiments.people
import test_core_policies
from calib.engines import engine_names
from calib.scenario import load_scenario
from calib.setup import Setup
from cli import main as cli_main
from devices.device import Device, Refused

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PACKAGES = ("cli", "experiments", "calib", "devices", "firmware_bridge", "scenarios", "docs", "tests")
EXAMPLES = {
    match.group(1): match.group(0)
    for match in re.finditer(
        r"^# (\S+\.py)\n.*?(?=^```$)", (ROOT / "docs" / "extending.md").read_text(), re.MULTILINE | re.DOTALL
    )
}


def ids(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        goal = page.parent / path if path else page
        assert goal.exists(), f"{target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", goal.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_paths_that_are_named_exist(page: Path) -> None:
    """Files of the project; those that an example of docs/extending.md makes are its own."""
    for path in re.findall(rf"(?<![\w/.])((?:{'|'.join(PACKAGES)})/[\w./-]*\w)", page.read_text()):
        assert (ROOT / path).exists() or path in EXAMPLES, f"{path} does not exist"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_line_of_a_page_is_too_long(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for line in prose.splitlines():
        assert len(line) <= 140 or line.startswith("|"), line


def command_lines() -> list[str]:
    """Every `calib ...` of the pages, in code spans, blocks of text and indented lines."""
    found: dict[str, None] = {}
    for page in PAGES:
        text = page.read_text()
        spans = re.findall(r"`(calib [^`\n]+)`", text)
        lines = [line.split(" #")[0] for line in re.findall(r"^    (calib .*)$", text, re.MULTILINE)]
        found |= dict.fromkeys(text.strip() for text in spans + lines)
    return list(found)


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_is_one_that_calib_takes(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exists, and its parser takes every word."""
    words = ["1" if word == "N" else word for word in shlex.split(line)[1:]]
    if words[0].startswith("-"):
        assert cli_main.main([words[0]]) == 0
        return
    assert words[0] in cli_main.command_names()
    command = importlib.import_module(f"cli.{words[0]}")
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    if len(words) == 1:  # the command as a name in a sentence
        return
    if "--json" in words:
        words.remove("--json")
    if [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)] and len(words) == 2:
        assert words[1] in parser.format_help()
        return
    try:
        parser.parse_args(words[1:])
    except SystemExit:
        pytest.fail(f"{line}: {capsys.readouterr().err}")


def test_every_command_is_documented() -> None:
    text = " ".join(command_lines())
    for name in cli_main.command_names():
        assert f"calib {name}" in text


def keys_of(table: dict[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        yield key
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from keys_of(inner)


@pytest.mark.parametrize("path", sorted((ROOT / "scenarios").glob("*.toml")), ids=ids)
def test_every_key_of_a_scenario_is_documented(path: Path) -> None:
    raw = tomllib.loads(path.read_text())
    names = set(itertools.chain(*(plan["rooms"] for plan in raw["floor_plans"].values()), raw["floor_plans"]))
    spoken = set(re.findall(r"\w+", " ".join(re.findall(r"`[^`\n]+`|^## .*$", scenario_page(), re.MULTILINE))))
    missing = set(keys_of(raw)) - names - spoken
    assert not missing, f"docs/scenario.md does not tell of {', '.join(sorted(missing))}"


def scenario_page() -> str:
    return (ROOT / "docs" / "scenario.md").read_text()


@pytest.mark.parametrize(
    ("key", "low", "high"),
    [
        ("eps", 0.001, 0.5),
        ("horizon", 0, 100),
        ("max_rounds", 1, 200),
        ("run_every", 1, 100),
        ("reconnect_s", 0, 3600),
        ("run_limit_s", 1, 14400),
        ("num_cards", 2, 24),
        ("particles", 64, 16384),
    ],
)
def test_the_documented_bounds_are_those_of_the_code(key: str, low: float, high: float) -> None:
    """The page says them, and the reader refuses what lies beyond with the same figures."""
    assert re.search(rf"`[\w.]*{key}` \| \w+, {low:g} to {high:g}\b", scenario_page())
    text = (ROOT / "scenarios" / "arena.toml").read_text()
    changed = re.sub(rf"^{key} = [^#\n]+", f"{key} = {high + 1}", text, flags=re.MULTILINE)
    assert changed != text
    from calib.errors import UserError
    from calib.scenario import load_scenario_text

    with pytest.raises(UserError, match=rf"must lie in {low:g} to {high:g}"):
        load_scenario_text(changed, "changed.toml")


def test_sections_that_docstrings_name_are_there() -> None:
    """`definitions 3.1` in the code is section 3 or 3.1 of docs/definitions.md."""
    page = (ROOT / "docs" / "definitions.md").read_text()
    known = set(re.findall(r"^## (\d+)\.", page, re.MULTILINE)) | set(
        re.findall(r"^\*\*(\d+\.\d+) ", page, re.MULTILINE)
    )
    assert {str(n) for n in range(1, 11)} <= known
    for package in PACKAGES[:5]:
        for path in (ROOT / package).rglob("*.py"):
            for numbers in re.findall(r"definitions(?:\.md)? ((?:\d+(?:\.\d+)?(?:, | and )?)+)", path.read_text()):
                for number in re.findall(r"\d+(?:\.\d+)?", numbers):
                    assert number in known, f"{path.name}: definitions {number}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=ids)
def test_a_picture_is_whole_and_asks_nothing_of_the_net(path: Path) -> None:
    ElementTree.parse(path)
    addresses = set(re.findall(r"https?://[^\s\"<)]+", path.read_text()))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_sessions_picture_is_its_text() -> None:
    """README shows one session twice. Both are written by `write_session`, below."""
    tree = ElementTree.parse(PICTURE)
    shown = re.sub(r"\s", "", "".join(tree.getroot().itertext()))
    for line in session_text().splitlines():
        assert re.sub(r"\s", "", line) in shown, f"{line}\nmake run | .venv/bin/python tests/test_docs.py"


PICTURE = ROOT / "docs" / "images" / "session.svg"
SESSION = re.compile(r"(?<=^```text\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


def session_text() -> str:
    block = SESSION.search((ROOT / "README.md").read_text())
    assert block is not None
    return block.group()


def write_session(text: str) -> None:
    """Put what `make run` printed into README and its picture: `make run | .venv/bin/python tests/test_docs.py`."""
    from rich.console import Console
    from rich.text import Text

    text = text[text.index(load_scenario("apartment").title) :].rstrip("\n") + "\n"
    readme = ROOT / "README.md"
    readme.write_text(SESSION.sub(lambda _: text, readme.read_text()))
    colours = {
        r"\|[ \-o]+\|": "#7ee787",
        r"^(degree of|time to|gaps of|what would|audit by|stopped after).*?(?=  |,|$)": "bold #79c0ff",
        r"accepted(?=  )": "#f2cc60",
    }
    width = max(map(len, text.splitlines())) + 1
    console = Console(record=True, width=width, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    for line in text.splitlines():
        coloured = Text(line)
        for pattern, style in colours.items():
            coloured.highlight_regex(pattern, style)
        console.print(coloured, soft_wrap=True)
    svg = console.export_svg(title="make run", unique_id="session")
    # No font from the net: whatever monospace the reader has.
    svg = re.sub(
        r"@font-face \{.*?\}\s*|\s*font-variant-east-asian: full-width;|\n\s*<!--.*?-->", "", svg, flags=re.DOTALL
    )
    PICTURE.write_text(svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"))


# --- the examples of docs/extending.md --------------------------------------------------------------------------------


@pytest.fixture
def examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples as files of their folders, found by their names as if they lay in the tree."""
    assert [Path(path).parent.as_posix() for path in EXAMPLES] == ["calib/policies", "experiments/people", "devices"]
    for path, code in EXAMPLES.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True)
        file.write_text(code)
    for package, listing in ((calib.policies, "policy_names"), (experiments.people, "person_names")):
        folder = tmp_path / package.__name__.replace(".", "/")
        add(monkeypatch, package, folder, package, listing)
    add(monkeypatch, devices, tmp_path / "devices", devices.catalog, "device_names")


def add(monkeypatch: pytest.MonkeyPatch, package: Any, folder: Path, lister: Any, listing: str) -> None:
    names = [path.stem for path in folder.glob("*.py")]
    there = getattr(lister, listing)()
    assert not set(names) & set(there), "the example's name is taken"
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setattr(lister, listing, lambda: sorted([*there, *names]))
    for name in names:
        monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)  # forgotten again after the test
        del sys.modules[f"{package.__name__}.{name}"]


@pytest.mark.usefixtures("examples")
def test_the_policy_of_the_example(lab: Callable[..., Setup]) -> None:
    for role in ("tool", "advisor"):
        test_core_policies.test_a_policy(lab, "disagreement", role)
    test_core_policies.test_a_policy_in_a_session(lab, "disagreement")


@pytest.mark.usefixtures("examples")
def test_the_person_of_the_example(lab: Callable[..., Setup]) -> None:
    for role in ("tool", "advisor"):
        test_core_policies.test_a_person_model(lab, "stubborn", role)
        for engine in engine_names():
            test_core_policies.test_a_person_model_in_sessions(lab, "stubborn", role, engine)


@pytest.mark.usefixtures("examples")
def test_the_robot_of_the_example() -> None:
    """What docs/extending.md promises of every driver."""
    device: Device = devices.catalog.make_device("turtle")
    with pytest.raises(ValueError, match="no address"):
        devices.catalog.make_device("turtle:/dev/ttyUSB0")
    scenario = load_scenario("arena")
    assert all(isinstance(v, str) for v in device.open().values())
    with pytest.raises(Refused):
        device.start(scenario.default)
    device.prepare(scenario.contexts[0], 3)
    readback = device.start(scenario.default)
    assert readback.settings == scenario.default and set(readback.how) == set(vars(scenario.default))
    before = 0.0
    while not (progress := device.advance()).done:
        assert 0 < progress.elapsed_s - before <= 1.0 and 0 < progress.fraction <= 1
        before = progress.elapsed_s
    outcome = device.finish()
    assert outcome.z.shape == outcome.error.shape == (6,) and outcome.end in ("finished", "run_limit", "battery")
    device.prepare(scenario.contexts[0], 3)
    device.start(scenario.default)
    device.advance()
    device.stop()
    device.stop()
    assert device.advance().done and device.finish().end == "stopped"
    device.close()
    device.close()


@pytest.mark.usefixtures("examples")
def test_the_three_examples_in_one_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    people = ["--person", "stubborn,rationality=8", "--policy", "disagreement"]
    words = ["run", "arena", "--device", "turtle", *people, "--rounds", "2", "--json"]
    try:
        assert cli_main.main([*words, "--journal", f"sqlite:///{tmp_path}/calib.db"]) == 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    summary = json.loads(capsys.readouterr().out)
    assert (summary["device"], summary["policy"], summary["rounds"]) == ("turtle", "disagreement", 2)
    assert not list((tmp_path / "calib").glob("*.json")), "the runner has left its entry behind"


if __name__ == "__main__":
    write_session(sys.stdin.read())
