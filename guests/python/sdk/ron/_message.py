"""A message, and what may be sent."""

from dataclasses import dataclass
from typing import TypeAlias

from ron._errors import Reject

Payload: TypeAlias = str | bytes | bytearray | memoryview
"""What can be sent. Text is sent as UTF-8."""

Reply: TypeAlias = Payload | None
"""The answer to a message. `None` is no answer, `""` is an empty one.

The first answer goes to a publisher that waits for one, and is dropped
otherwise. A publisher that waits gets `bus.NoResponder` when nobody answers.
"""

TIMER = "ron.timer."
_LARGE = 64 * 1024


@dataclass(slots=True)
class Message:
    """One message taken from this service's mailbox."""

    id: int = 0
    """Unique in this host for as long as it runs; the same on redelivery."""

    topic: str = ""
    """The topic it was published to."""

    payload: bytes = b""
    """What was published."""

    source: str = ""
    """The service that published it, or the host's own name for a bridge."""

    attempt: int = 1
    """1 on first delivery, then 2, 3, ..."""

    wants_reply: bool = False
    """Whether the publisher waits for an answer."""

    @property
    def text(self) -> str:
        """The payload as text.

        Raises `ron.Reject` when it is not UTF-8: it will not be the next time either.
        """
        try:
            return self.payload.decode()
        except UnicodeDecodeError as error:
            text = f"the payload is not UTF-8: {error.reason} at byte {error.start}"
            raise Reject(text) from None

    @property
    def timer(self) -> str | None:
        """The name of the timer that fired, if one brought this message."""
        return self.topic.removeprefix(TIMER) if self.topic.startswith(TIMER) else None


def to_bytes(value: Payload, what: str) -> bytes:
    """`value` as the host takes it. `what` begins the sentence of the TypeError."""
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, str):
        data = value.encode()
    elif isinstance(value, (bytearray, memoryview)):
        data = bytes(value)
    else:
        raise TypeError(f"{what} {type(value).__name__}, not str or bytes")
    if len(data) >= _LARGE:
        # componentize-py copies it without a look at whether it got the memory to, and
        # would write over what lies at address 0. This raises MemoryError instead.
        bytearray(len(data))
    return data


def to_text(text: str) -> str:
    """`text` without what UTF-8 cannot say, such as half of a surrogate pair."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
