"""The way to the host: the contract inside a component, a double in tests."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

if TYPE_CHECKING:
    from ron.health import Status
    from ron.identity import Instance
    from ron.log import Level

Pairs = Sequence[tuple[str, str]]


class Host(Protocol):
    """What the host offers, in Python's own types. Refusals are `ron.bus.Error`."""

    def publish(self, topic: str, payload: bytes) -> int: ...
    def request(self, topic: str, payload: bytes, timeout_ms: int) -> bytes: ...
    def subscribe(self, filter: str) -> None: ...
    def unsubscribe(self, filter: str) -> None: ...
    def config_get(self, key: str) -> str | None: ...
    def config_entries(self) -> Pairs: ...
    def config_version(self) -> int: ...
    def health_report(self, status: "Status", detail: str | None) -> None: ...
    def identity_get(self) -> "Instance": ...
    def log_write(self, level: "Level", message: str, fields: Pairs) -> None: ...
    def metrics_add(self, name: str, labels: Pairs, delta: int) -> None: ...
    def metrics_set(self, name: str, labels: Pairs, value: float) -> None: ...
    def metrics_observe(self, name: str, labels: Pairs, value: float) -> None: ...
    def timer_after(self, name: str, delay_ms: int) -> None: ...
    def timer_every(self, name: str, period_ms: int) -> None: ...
    def timer_cancel(self, name: str) -> None: ...


_current: Host | None = None


def current() -> Host:
    """The host of this moment."""
    if _current is None:
        _absent()
    return _current


def is_present() -> bool:
    """Whether there is a host to call."""
    return _current is not None


def install(host: Host | None) -> Host | None:
    """Makes `host` the one that is called, and returns the one before."""
    global _current
    before, _current = _current, host
    return before


def _absent() -> NoReturn:
    raise RuntimeError(
        "there is no host to call: this runs while app.py is imported, or in a test"
        " without ron.testing.Host. Call the host in start() or later"
    )
