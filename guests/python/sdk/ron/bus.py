"""Messages between services.

A topic is dot-separated tokens of `A-Z a-z 0-9 _ -`, at most 16 tokens and 255
bytes: `orders.eu.created`. A filter may put `*` for one token and `>` for all
that follow: `orders.*.created`, `orders.>`. Topics that begin with `ron.` are
the host's.
"""

from datetime import timedelta

from ron import _errors, _host
from ron._message import Payload, to_bytes, to_text
from ron._time import millis

_U32_MAX = 2**32 - 1


def publish(topic: str, payload: Payload = b"") -> int:
    """Publishes to every subscribed service; returns how many mailboxes accepted it.

    Never blocks. Raises `Error`.
    """
    return _host.current().publish(to_text(topic), to_bytes(payload, "the payload is"))


def request(topic: str, payload: Payload = b"", *, timeout: float | timedelta) -> bytes:
    """Publishes, and waits at most `timeout` (seconds) for the first answer.

    The wait counts towards this service's own handler deadline. Raises `Error`:
    `Timeout`, `NoResponder` and `Failed` besides those of `publish`.
    """
    timeout_ms = min(millis(timeout), _U32_MAX)
    return _host.current().request(to_text(topic), to_bytes(payload, "the payload is"), timeout_ms)


def subscribe(filter: str) -> None:
    """Has messages that match `filter` delivered to `Service.on_message`.

    Repeating a filter changes nothing. Subscriptions belong to the service and
    survive a restart; after a hot swap only those made again by `start` remain.
    Raises `Error`.
    """
    _host.current().subscribe(to_text(filter))


def unsubscribe(filter: str) -> None:
    """Ends a subscription. One that does not exist is no error. Raises `Error`."""
    _host.current().unsubscribe(to_text(filter))


class Error(_errors.Error):
    """Why the bus refused a call.

    One that a handler lets pass settles its message: those that pass with time
    (`Overloaded`, `Timeout`, `NoResponder`) have it delivered again, the others
    reject it.
    """


class Denied(Error):
    """Configuration grants this service no such topic."""


class InvalidTopic(Error):
    """Not a topic, or not a filter; the text says which rule it breaks."""


class PayloadTooLarge(Error):
    """The payload is larger than `limit` bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the payload is larger than {limit} bytes")
        self.limit = limit


class _Transient(Error):
    @property
    def retry(self) -> bool:
        return True


class Overloaded(_Transient):
    """A mailbox that rejects on overflow was full, or this service publishes
    faster than its limit."""

    def __init__(self, text: str = "a mailbox is full, or this service publishes too fast") -> None:
        super().__init__(text)


class Timeout(_Transient):
    """No answer came in time."""

    def __init__(self, text: str = "no answer came in time") -> None:
        super().__init__(text)


class NoResponder(_Transient):
    """Nobody subscribes to the topic of a request, or nobody who does answers."""

    def __init__(self, text: str = "nobody answers this topic") -> None:
        super().__init__(text)


class Failed(Error):
    """The service that was asked failed to handle the request; the text is its reason."""


class Other(Error):
    """Something that this version of the SDK has no name for."""
