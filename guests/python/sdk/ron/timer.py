"""Timers that wake an idle service.

One that fires is delivered to `Service.on_message` as a message without
payload; `Message.timer` tells its name. A timer set again under its name
replaces the earlier one. Timers end with the instance that set them, so set
them in `start`.

A time is a number of seconds or a `timedelta`. The host keeps whole
milliseconds, rounded up.
"""

from datetime import timedelta

from ron import _host
from ron._message import to_text
from ron._time import millis


def after(name: str, delay: float | timedelta) -> None:
    """Fires once. The name is one token of a topic. Raises `bus.Error`."""
    _host.current().timer_after(to_text(name), millis(delay))


def every(name: str, period: float | timedelta) -> None:
    """Fires each period. Raises `bus.Error`.

    A tick that finds its predecessor still queued is dropped, so a slow service
    is not buried.
    """
    _host.current().timer_every(to_text(name), millis(period))


def cancel(name: str) -> None:
    """Ends a timer. One that does not exist is no error."""
    _host.current().timer_cancel(to_text(name))
