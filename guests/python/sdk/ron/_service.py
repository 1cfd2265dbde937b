"""What an author derives from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, TypeAlias, overload

from ron._errors import Error
from ron._events import Event
from ron._message import Message, Payload, Reply

Outcomes: TypeAlias = Mapping[int, Payload | Error]
"""What became of messages of a batch, by their place in it: an answer, or why a
message was not handled. One that is not mentioned was handled and is not
answered."""


class Service:
    """A service: its state, and what it does with messages.

    Derive one class from it in `app.py`. The host makes an object of that class
    in each new instance and calls its methods one at a time.
    """

    SCHEMA: ClassVar[int] = 1
    """The author's own number for the layout of what `save` returns, from 0 to
    2**32 - 1. Raise it when the layout changes."""

    def start(self) -> None:
        """Subscribes, sets timers, prepares the state.

        Called once in each new instance, before any message. After a `ron.Error`
        the instance is discarded and the service's restart policy decides.
        """

    def on_message(self, message: Message) -> Reply:
        """Handles a message that a subscription or a timer brought.

        Returns the answer, if any. `ron.Retry` has the message delivered again,
        `ron.Reject` sends it to the dead letters; see `ron.bus.Error` for those
        of the bus. Any other exception is a crash.
        """
        return None

    def on_event(self, event: Event) -> None:
        """Hears what the host announced.

        Lossy: a service that falls behind misses the oldest events. There is
        nobody to tell of an error, so any exception is a crash.
        """

    def stop(self) -> None:
        """Ends the service within the stop deadline. Not called after a crash."""

    def save(self) -> Payload:
        """Returns the state for the version that replaces this one.

        Optional, and so is `restore`: with both, and the world `stateful-service`
        in the build command, the state outlives a hot swap. At most 1 MiB unless
        configuration says more. Called when the last message is done. A
        `ron.Error` keeps this instance.
        """
        raise NotImplementedError

    def restore(self, schema: int, state: bytes) -> None:
        """Takes over the state that a version of this service saved as `schema`.

        Called after `start` and before any message. A `ron.Error` keeps the old
        instance.
        """
        raise NotImplementedError

    def on_batch(self, batch: "Batch") -> Outcomes:
        """Handles several messages at once, in order.

        Optional, for a service that handles very many small messages: with it,
        and the world `bulk-service` in the build command, the host calls
        `on_batch` when several messages wait and `on_message` when one does. A
        crash here costs no message: all of the batch are delivered again, one at
        a time, so that the one at fault is found.
        """
        return batch.each(self.on_message)


class Batch(Sequence[Message]):
    """Several messages, in the order of the mailbox; never none."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def each(self, handle: Callable[[Message], Reply]) -> dict[int, Payload | Error]:
        """Handles each message with `handle`, as `Service.on_message` handles one.

        A `ron.Error` settles its own message alone; the rest go on.
        """
        outcomes: dict[int, Payload | Error] = {}
        for place, message in enumerate(self._messages):
            try:
                reply = handle(message)
            except Error as error:
                outcomes[place] = error
            else:
                if reply is not None:
                    outcomes[place] = reply
        return outcomes

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | Sequence[Message]:
        return self._messages[place]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)
