"""Sends the records of Python's `logging` to the host."""

import logging

from ron import _crash, _host
from ron.log import Level, write

# What every record has; the rest is what the author gave as `extra`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# Where the service's own name, which the host adds, says all.
_HOME = ("root", "app")


class HostHandler(logging.Handler):
    """Writes each record to the host, with `extra` for fields."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _host.is_present():
            return
        try:
            fields = {key: value for key, value in vars(record).items() if key not in _OWN}
            if record.name not in _HOME:
                fields["target"] = record.name
            if record.exc_info and record.exc_info[1] is not None:
                fields["traceback"] = _crash.format_traceback(record.exc_info[1])
            write(_level(record.levelno), record.getMessage(), fields)
        except Exception:
            self.handleError(record)


def install() -> "Restore":
    """Routes the root logger to the host, at every level: the host filters."""
    root = logging.getLogger()
    restore = Restore(root.level)
    root.addHandler(restore.handler)
    root.setLevel(logging.NOTSET + 1)
    return restore


class Restore:
    """What `install` changed, to undo it after a test."""

    def __init__(self, level: int) -> None:
        self.level = level
        self.handler = HostHandler()

    def __call__(self) -> None:
        root = logging.getLogger()
        root.removeHandler(self.handler)
        root.setLevel(self.level)


def _level(number: int) -> Level:
    if number >= logging.ERROR:
        return Level.ERROR
    if number >= logging.WARNING:
        return Level.WARN
    if number >= logging.INFO:
        return Level.INFO
    return Level.DEBUG if number >= logging.DEBUG else Level.TRACE
