"""Makes a component of `app.py`; the build command in `ron.toml` runs it.

    .venv/bin/python sdk/build.py -o greeter.wasm
    .venv/bin/python sdk/build.py -w stateful-service -w bulk-service -o greeter.wasm

It runs the `componentize-py` that is installed for its own Python, shows what
is wrong with `app.py` without that program's own traces, and mends a leak of it
(`fix_leak.py`).
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

# `ron-host dev` watches this directory.
sys.dont_write_bytecode = True

import fix_leak  # noqa: E402

SDK = Path(__file__).parent
WORLDS = ("service", "stateful-service", "bulk-service")
# Not the program in `.venv/bin`, which names its Python by where that once was: a project
# is moved and renamed.
COMPONENTIZE = "import sys, componentize_py; sys.exit(componentize_py.script())"
# How the SDK, which runs inside componentize-py, says what is wrong.
BUILD_ERROR = re.compile(r"^ron\._author\.BuildError: (.*?)\n\n\nCaused by:", re.S | re.M)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a component of app.py.")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the component")
    parser.add_argument(
        "-w",
        "--world",
        action="append",
        choices=WORLDS,
        help="what the service exports; repeatable [default: service]",
    )
    parser.add_argument(
        "-p",
        "--python-path",
        action="append",
        metavar="DIR",
        help="where app.py and what it imports are; repeatable [default: .]",
    )
    args = parser.parse_args()
    directories = args.python_path or ["."]
    look_for_app(directories)
    # Beside the finished one, so that a build that fails leaves that alone.
    unfinished = args.output + ".unfinished"
    command = [*componentize_py(), "--quiet", *worlds(set(args.world or ()))]
    command += ["componentize", "ron.entry", "--output", unfinished]
    for directory in (*directories, SDK):
        command += ["--python-path", str(directory)]
    done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        told = BUILD_ERROR.search(done.stderr)
        sys.exit(f"error: {told[1]}" if told else done.stderr)
    sys.stderr.write(done.stderr)
    fix_leak.fix_file(unfinished)
    os.replace(unfinished, args.output)


def look_for_app(directories: list[str]) -> None:
    names = ("app.py", "app/__init__.py")
    if not any(Path(directory, name).is_file() for directory in directories for name in names):
        where = " or ".join(directories)
        sys.exit(f"error: there is no app.py in {'this directory' if where == '.' else where}")


def componentize_py() -> list[str]:
    """The command that runs it."""
    if importlib.util.find_spec("componentize_py") is None:
        sys.exit(
            f"error: {sys.executable} has no componentize-py:"
            f" {sys.executable} -m pip install -r requirements.txt"
        )
    return [sys.executable, "-c", COMPONENTIZE]


def worlds(names: set[str]) -> list[str]:
    """The options that say what the component exports."""
    if names >= {"stateful-service", "bulk-service"}:
        files, world = [SDK / "wit", SDK / "worlds"], "ron:guest/stateful-bulk-service"
    else:
        files, world = [SDK / "wit"], next(iter(names - {"service"}), "service")
    return [option for file in files for option in ("--wit-path", str(file))] + ["--world", world]


def environment() -> dict[str, str]:
    env = os.environ | {"RUST_BACKTRACE": "0"}
    if sys.prefix != sys.base_prefix:
        # Else it takes the libraries of another Python.
        env["VIRTUAL_ENV"] = sys.prefix
    return env


if __name__ == "__main__":
    main()
