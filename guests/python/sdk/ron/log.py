"""Structured logs: a text, and fields by name.

    log.info("accepted", order=7, region="eu")

Python's own `logging` reaches the host too, with what is given as `extra` for
fields. Every level passes, because the host filters: a level can change while
the service runs. What is printed is logged as well, a record a line.
"""

import enum

from ron import _host
from ron._message import to_text


class Level(enum.Enum):
    """Severity."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


def trace(message: str, /, **fields: object) -> None:
    """Writes a record of the level trace."""
    write(Level.TRACE, message, fields)


def debug(message: str, /, **fields: object) -> None:
    """Writes a record of the level debug."""
    write(Level.DEBUG, message, fields)


def info(message: str, /, **fields: object) -> None:
    """Writes a record of the level info."""
    write(Level.INFO, message, fields)


def warn(message: str, /, **fields: object) -> None:
    """Writes a record of the level warn."""
    write(Level.WARN, message, fields)


def error(message: str, /, **fields: object) -> None:
    """Writes a record of the level error."""
    write(Level.ERROR, message, fields)


def write(level: Level, message: str, fields: dict[str, object] | None = None) -> None:
    """Writes a record. Values of fields are turned to text by `str`."""
    pairs = [(to_text(key), to_text(str(value))) for key, value in (fields or {}).items()]
    _host.current().log_write(level, to_text(message), pairs)
