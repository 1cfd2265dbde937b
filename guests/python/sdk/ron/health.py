"""What this service says of itself.

The host adds what it sees: a service that is down, restarting or past a
deadline is not ready, whatever it says.
"""

import enum

from ron import _host
from ron._message import to_text


class Status(enum.Enum):
    """How a service is."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


def ok(detail: str | None = None) -> None:
    """All is well. A service that says nothing is taken to be."""
    report(Status.OK, detail)


def degraded(detail: str | None = None) -> None:
    """Works, with less than usual: ready, and shown as degraded."""
    report(Status.DEGRADED, detail)


def failing(detail: str | None = None) -> None:
    """Cannot do its work: not ready. The service is not restarted for it."""
    report(Status.FAILING, detail)


def report(status: Status, detail: str | None = None) -> None:
    """Says how this service is; `detail` is for people."""
    _host.current().health_report(status, None if detail is None else to_text(detail))
