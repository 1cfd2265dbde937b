"""Write a service for ron-host in Python: one class in `app.py`.

    import ron
    from ron import bus

    class Echo(ron.Service):
        def start(self) -> None:
            bus.subscribe("echo")

        def on_message(self, message: ron.Message) -> ron.Reply:
            return message.payload

The host calls a service once at a time, so there is nothing to lock. What a
handler does decides what becomes of its message: what it returns settles it,
`Retry` has it delivered again, `Reject` sends it to the service's dead letters.
Any other exception ends the instance: the host starts a new one and delivers
the message again.

Everything that calls the host (`bus`, `config`, `timer`, ...) needs a running
service, or `ron.testing.Host` in a test. While `app.py` is imported there is
neither.
"""

import sys

if sys.platform == "wasi":
    # The component is built with the project's own directories open for writing.
    sys.dont_write_bytecode = True

from ron import bus, config, health, identity, log, metrics, timer
from ron._errors import Error, Reject, Retry
from ron._events import ConfigUpdated, CrashReason, Event, HealthChanged, ServiceCrashed, Shutdown
from ron._message import Message, Payload, Reply
from ron._service import Batch, Outcomes, Service

__all__ = [
    "Batch",
    "ConfigUpdated",
    "CrashReason",
    "Error",
    "Event",
    "HealthChanged",
    "Message",
    "Outcomes",
    "Payload",
    "Reject",
    "Reply",
    "Retry",
    "Service",
    "ServiceCrashed",
    "Shutdown",
    "bus",
    "config",
    "health",
    "identity",
    "log",
    "metrics",
    "timer",
]
