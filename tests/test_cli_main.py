"""The command line: what exits how, what is printed where, and what may not be loaded for a page of help."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cli
import cli.main
from calib.journal import open_journal
from cli.main import command_names, main
from test_journal import a_session, a_version_0_journal

ROOT = Path(__file__).parent.parent
HEAVY = ("numpy", "numba", "scipy", "pymc", "pytensor", "sqlalchemy", "rich", "serial", "pyarrow", "statsmodels")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Put a command's file into an otherwise empty folder of commands."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setattr(cli.main, "FOLDER", folder)
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(folder)])

    def put(name: str, body: str, arguments: str = "pass") -> None:
        (folder / f"{name}.py").write_text(
            f'"""What {name} does.\n\nMore."""\n'
            f"def add_arguments(parser):\n    {arguments}\n"
            f"def main(args):\n    {body}\n"
        )

    known = set(sys.modules)
    yield put
    for name in set(sys.modules) - known:
        if name.startswith("cli."):
            del sys.modules[name]


def calib(*words: str, cwd: Path = ROOT, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words], cwd=cwd, env=environment, capture_output=True, text=True, **options
    )


def one_line(text: str) -> str:
    assert text.endswith("\n") and text.count("\n") == 1, text
    return text.strip()


def test_help_lists_every_command_with_its_first_line(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert {"runs", "journal", "participant", "doctor"} <= set(command_names())
    for name in command_names():
        assert f"  {name} " in out
    assert "List the journal's runs" in out
    assert "main " not in out and "_table" not in out
    assert main([]) == 0
    assert capsys.readouterr().out == out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("calib 0.")


def test_help_is_quick_and_loads_nothing_heavy():
    code = f"""
import sys
from cli.main import main
main(["--help"])
loaded = [name for name in {HEAVY} if name in sys.modules]
commands = [name for name in sys.modules if name.startswith("cli.") and name != "cli.main"]
assert not loaded and not commands, (loaded, commands)
for name in ("runs", "journal", "participant", "doctor"):
    assert main([name, "--help"]) == 0
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.stem)
def test_a_command_file_keeps_its_contract(path):
    if path.stem == "main" or path.stem.startswith("_"):
        return
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the first line is the command's line in the help"
    assert {"add_arguments", "main"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_help_does_not_import_a_command_and_survives_a_broken_one(command, capsys):
    command("good", "return 0")
    command("bad", "return (")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "good  What good does." in out and "bad   (the file has a syntax error)" in out
    assert main(["good"]) == 0
    with pytest.raises(SyntaxError):
        main(["bad"])


@pytest.mark.parametrize(
    ("body", "code", "err"),
    [
        ("return 0", 0, ""),
        ("return 1", 1, ""),
        (
            "from calib.errors import UserError; raise UserError('wrong\\nfile: fix it')",
            2,
            "calib it: wrong file: fix it\n",
        ),
        ("from calib.errors import JournalError; raise JournalError('full')", 2, "calib it: full\n"),
        (
            "from devices.device import LinkLost; raise LinkLost('cable: plug it in')",
            3,
            "calib it: cable: plug it in\n",
        ),
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
    ],
)
def test_exit_codes(command, capsys, body, code, err):
    command("it", body)
    assert main(["it"]) == code
    assert capsys.readouterr() == ("", err)


def test_a_bug_shows_itself(command):
    command("it", "return {}['x']")
    with pytest.raises(KeyError):
        main(["it"])


def test_a_failed_robot_still_answers_in_json(command, capsys):
    command("it", "from devices.device import DeviceError; raise DeviceError('flat battery: charge it')")
    assert main(["it", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out) == {"error": "flat battery: charge it"}
    assert err == "calib it: flat battery: charge it\n"


def test_every_command_has_json_before_and_after_its_action(command, capsys):
    command("it", "print(args.json); return 0", "parser.add_subparsers(dest='action').add_parser('go')")
    command("own", "print(args.json); return 0", "parser.add_argument('--json', action='store_const', const='mine')")
    for words in (["it", "--json", "go"], ["it", "go", "--json"], ["it", "--json"]):
        assert main(words) == 0
        assert capsys.readouterr().out == "True\n"
    assert main(["it", "go"]) == 0
    assert capsys.readouterr().out == "False\n"
    assert main(["own", "--json"]) == 0
    assert capsys.readouterr().out == "mine\n"


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (["journl"], "calib: no command 'journl': did you mean `calib journal`?"),
        (["../runs"], "calib: no command '../runs'"),
        (["main"], "calib: no command 'main'"),
        (["_table"], "calib: no command '_table'"),
        (["--bogus"], "calib: no command '--bogus'"),
        (["runs", "--bogus"], "calib runs: unrecognized arguments: --bogus"),
        (["journal"], "calib journal: the following arguments are required: ACTION"),
        (["participant", "enrol", "p1"], "calib participant enrol: the following arguments are required: --consent"),
        (["runs", "--journal", "calib.db"], "calib runs: journal calib.db: no database URL"),
        (
            ["runs", "--journal", "sqlite:///no/calib.db"],
            "calib runs: journal no/calib.db: the folder no does not exist",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(capsys, words, begin):
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err).startswith(begin)


def test_a_reader_that_leaves_early_is_no_error():
    code = "import sys; from cli.main import main; sys.exit(main(['doctor', '--json']))"
    for _ in range(3):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_broken_pipe_elsewhere_is_shown(command):
    command("it", "raise BrokenPipeError('a socket')")
    with pytest.raises(BrokenPipeError):
        main(["it"])


def test_runs_and_verify(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open_journal("sqlite:///./calib.db") as journal:
        pass
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "no runs yet: `calib run` makes one\n"
    with open_journal("sqlite:///./calib.db") as journal:
        a_session(journal)
    assert main(["runs", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["run"], row["kind"], row["state"], row["rounds"], row["documents"]) == ("r1", "human", "accepted", 2, 5)
    assert main(["runs"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "run" and "roomba:emulator" in line
    assert main(["journal", "verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"journal": "sqlite:///./calib.db", "runs": 1, "problems": []}
    assert main(["journal", "verify", "r9"]) == 2
    assert "no run r9" in one_line(capsys.readouterr().err)


def test_verify_fails_on_a_changed_entry(tmp_path, monkeypatch, capsys):
    from test_journal import tamper

    monkeypatch.chdir(tmp_path)
    with open_journal("sqlite:///./calib.db") as journal:
        a_session(journal)
    tamper(tmp_path / "calib.db", "UPDATE entries SET body = '{}' WHERE seq = 1")
    assert main(["journal", "verify"]) == 1
    assert "entry 1" in one_line(capsys.readouterr().out)


def test_migrate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    a_version_0_journal(tmp_path / "calib.db")
    assert main(["runs"]) == 2
    assert "run `calib journal migrate`" in one_line(capsys.readouterr().err)
    assert main(["journal", "migrate", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["migrated"] and Path(answer["backup"]).exists()
    assert main(["journal", "migrate"]) == 0
    assert capsys.readouterr().out == "the journal is current: nothing to do\n"


def test_a_participant_comes_and_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["participant", "enrol", "p1", "--consent", "v1", "--name", "Ada [bold]"]) == 0
    assert main(["participant", "enrol", "p2", "--consent", "v1"]) == 0
    with open_journal("sqlite:///./calib.db") as journal:
        journal.append("r1", "start", {"participant": "p1"})
    capsys.readouterr()
    assert main(["participant", "list"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == ["pseudonym", "p1", "p2"] and "Ada" not in out
    assert main(["participant", "export", "p1"]) == 0
    held = json.loads(capsys.readouterr().out)
    assert held["name"] == "Ada [bold]" and held["runs"][0]["run"] == "r1"
    assert main(["participant", "erase", "p1"]) == 0
    assert capsys.readouterr().out == "participant p1 is erased: 1 documents of 1 runs, 1 name\n"
    assert main(["participant", "erase", "p1"]) == 0
    assert "was erased on" in one_line(capsys.readouterr().out)
    assert main(["participant", "erase", "p1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"] == 0
    assert main(["participant", "export", "p1"]) == 2
    assert "was erased on" in one_line(capsys.readouterr().err)
    assert main(["participant", "erase", "p9"]) == 2
    assert "not in this journal" in one_line(capsys.readouterr().err)


def test_doctor_looks_without_importing(tmp_path):
    code = f"""
import sys
from cli.main import main
assert main(["doctor", "--json"]) == 0
assert not [name for name in {HEAVY} if name in sys.modules]
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    checks = {check["name"]: check for check in answer["checks"]}
    assert {"Python 3.11", "numpy", "pymc", "sqlalchemy", "serial port", "serial permission"} <= set(checks)
    assert {"C++ compiler", "AVR compiler", "browser"} <= set(answer["missing"])  # nothing is on this PATH
    assert all(checks[name]["gives"] and checks[name]["remedy"] for name in answer["missing"])
    done = calib("doctor")
    assert done.returncode == 0 and "numpy" in done.stdout


@pytest.mark.parametrize(("system", "way"), [("Darwin", "virtual machine"), ("Windows", "WSL2")])
def test_doctor_says_what_a_platform_lacks_and_the_way_round(capsys, monkeypatch, system, way):
    import platform

    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(sys, "platform", "elsewhere")
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    (check,) = (each for each in answer["checks"] if each["name"] == "platform")
    assert not check["found"] and way in check["remedy"] and "socket://HOST:PORT" in check["remedy"]
    assert "serial permission" in {each["name"] for each in answer["checks"]}
