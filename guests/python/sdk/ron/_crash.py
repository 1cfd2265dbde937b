"""Carries an uncaught exception to the host, which makes a crash report of it."""

import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from types import CodeType
from typing import NoReturn

from ron import _host
from ron._message import to_text
from ron.log import Level

_SDK = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Bytes; together less than the 16 KiB of a record that the host keeps.
_MAX_SUMMARY = 2 * 1024
_MAX_TRACEBACK = 12 * 1024

_project = os.getcwd() + os.sep


def set_project(directory: str) -> None:
    """Says where the author's modules are; crashes are located in there."""
    global _project
    _project = directory.rstrip(os.sep) + os.sep


def keep_lines() -> None:
    """Keeps the lines of the author's modules for tracebacks: a component has no
    files to read them from."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and _is_authors(path) and path.endswith(".py"):
            lines = linecache.getlines(path)
            # Without a time of change it is never compared with the file.
            linecache.cache[path] = (sum(map(len, lines)), None, lines, path)


def end(error: BaseException, called: CodeType | None) -> NoReturn:
    """Tells the host why the instance ends, and ends it.

    `called` is what the host called: the place of an error that no line of the
    author's raised, such as an answer of the wrong type.
    """
    out_of_memory = isinstance(error, MemoryError)
    if out_of_memory:
        # The frames hold what took all the memory, and telling needs some.
        traceback.clear_frames(error.__traceback__)
    _flush()
    fields = [("ron.panic", "out-of-memory" if out_of_memory else "true")]
    where = _location(error, called)
    if where is not None:
        fields.append(("location", where))
    fields.append(("traceback", format_traceback(error)))
    _host.current().log_write(Level.ERROR, _summary(error), fields)
    # Not a trap: componentize-py's would print the traceback a second time.
    os._exit(1)


def place(code: CodeType) -> str:
    """Where a function begins: `app.py:12`."""
    return f"{_shown(code.co_filename)}:{code.co_firstlineno}"


def format_traceback(error: BaseException) -> str:
    """Python's own traceback with the project's paths, without the SDK's frames."""
    whole = traceback.TracebackException.from_exception(error)
    for one in _chain(whole):
        # All of it where there is nothing of the author's: then the SDK is at fault.
        one.stack[:] = [f for f in one.stack if not _is_hidden(f.filename)] or list(one.stack)
        syntax_error = getattr(one, "filename", None)
        if syntax_error is not None:
            one.filename = _shown(syntax_error)
        for frame in one.stack:
            frame.filename = _shown(frame.filename)
    text = to_text("".join(whole.format())).rstrip().encode()
    if len(text) > _MAX_TRACEBACK:
        text = text[: _MAX_TRACEBACK // 2] + b"\n...\n" + text[-_MAX_TRACEBACK // 2 :]
    return text.decode(errors="ignore")


def _flush() -> None:
    """What was printed without the end of a line is not lost."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _summary(error: BaseException) -> str:
    name = type(error).__name__
    text = str(error)
    summary = to_text(f"{name}: {text}" if text else name).encode()
    return summary[:_MAX_SUMMARY].decode(errors="ignore")


def _location(error: BaseException, called: CodeType | None) -> str | None:
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_authors(frame.f_code.co_filename)
    ]
    if places:
        path, line = places[-1]
        return f"{_shown(path)}:{line}"
    return place(called) if called is not None and _is_authors(called.co_filename) else None


def _is_hidden(path: str) -> bool:
    """What stands around the author's code in each traceback and says nothing of it."""
    return _is_sdk(path) or "importlib" in path


def _is_sdk(path: str) -> bool:
    return path.startswith(_SDK)


def _is_authors(path: str) -> bool:
    return path.startswith(_project) and not _is_sdk(path)


def _shown(path: str) -> str:
    """Relative to where its module was found."""
    roots = (root.rstrip(os.sep) + os.sep for root in (_project, *sys.path) if root)
    root = max((root for root in roots if path.startswith(root)), key=len, default="")
    return path.removeprefix(root)


def _chain(error: traceback.TracebackException | None) -> Iterator[traceback.TracebackException]:
    if error is None:
        return
    yield error
    yield from _chain(error.__cause__)
    yield from _chain(error.__context__)
    for inner in error.exceptions or ():
        yield from _chain(inner)
