"""The `calib` command: finds the command's file, reads its arguments, and turns errors into exit codes.

A command is a file `cli/NAME.py` with `add_arguments(parser) -> None` and `main(args) -> int`; the first line of its
docstring is its line in `calib --help`. Only the chosen file is imported, so a broken or slow one hinders no other.
With `COMPUTES = True` everything is compiled before it begins (experiments/ahead.py).

Exit codes: 0 success; 2 a mistake of the user; 3 a robot or link failed; 130 interrupted; 1 is left to commands
that compare (a difference was found). Anything else is a bug and shows its traceback.
"""

import argparse
import ast
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from calib.errors import UserError

FOLDER = Path(__file__).parent
DISTRIBUTION = "interaction-calibration-lab"


class Parser(argparse.ArgumentParser):
    """argparse, with a mistake told in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see `{self.prog} --help`)\n")


def command_names() -> list[str]:
    """The commands, which are the files of this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "main" and not path.stem.startswith("_"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    code = 0
    _open_what_is_closed()
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # here, where a reader that has gone is still quiet
        return code
    except SystemExit as stop:  # argparse: help was shown, or a mistake told
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        return code


def _open_what_is_closed() -> None:
    """Started with a standard stream closed (`>&-`): into nothing, before a file of ours gets its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"calib {_version()}")
        return 0
    name = words[0]
    if name not in command_names():
        return _tell(f"calib: {_no_such_command(name)}")
    command = importlib.import_module(f"cli.{name}")
    parser = Parser(prog=f"calib {name}", description=command.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    command.add_arguments(parser)
    _add_json(parser, default=False)
    args = parser.parse_args(words[1:])
    try:
        if getattr(command, "COMPUTES", False):
            from experiments.ahead import ensure

            ensure()
        return int(command.main(args))
    except UserError as error:
        return _tell(f"calib {name}: {error}")
    except Exception as error:
        if not _is_device_error(error):
            raise
        if args.json:
            print(json.dumps({"error": str(error)}))
        _tell(f"calib {name}: {error}")
        return 3


def _tell(message: str) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return 2


def _add_json(parser: argparse.ArgumentParser, default: bool | str) -> None:
    # Before or after a subcommand: the inner flag has no default, which would undo the outer one.
    if not any("--json" in action.option_strings for action in parser._actions):
        parser.add_argument("--json", action="store_true", default=default, help="one JSON document on standard output")
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _add_json(inner, argparse.SUPPRESS)


def _is_device_error(error: Exception) -> bool:
    # Whoever raised one has imported its module; importing it here would load it for every command.
    module = sys.modules.get("devices.device")
    return module is not None and isinstance(error, module.DeviceError)


def _reader_has_gone() -> bool:
    # Only standard output is excused: a broken pipe elsewhere is a bug of a driver.
    import select

    poll = select.poll()
    poll.register(sys.stdout, 0)
    if not poll.poll(0):
        return False
    # What is still buffered would fail once more when Python exits.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _help() -> str:
    names = command_names()
    width = max((len(name) for name in names), default=0)
    lines = ["usage: calib COMMAND [ARGUMENTS]", "", "commands:"]
    lines += [f"  {name:<{width}}  {_first_line(FOLDER / f'{name}.py')}" for name in names]
    return "\n".join([*lines, "", "`calib COMMAND --help` tells more; every command takes --json; `calib --version`."])


def _first_line(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except SyntaxError:
        return "(the file has a syntax error)"
    return text.splitlines()[0] if text else ""


def _no_such_command(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, command_names(), n=1)
    return f"no command {name!r}: " + (f"did you mean `calib {near[0]}`?" if near else "`calib --help` lists them")


def _version() -> str:
    from importlib.metadata import version

    return version(DISTRIBUTION)


if __name__ == "__main__":
    sys.exit(main())
