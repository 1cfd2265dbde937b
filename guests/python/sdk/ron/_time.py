"""Durations as the host takes them."""

import math
from datetime import timedelta

_MILLISECOND = timedelta(milliseconds=1)
_U64_MAX = 2**64 - 1


def millis(time: float | timedelta) -> int:
    """Whole milliseconds, rounded up so that a short time is not none at all.

    A number is in seconds. Raises ValueError for a negative time.
    """
    if isinstance(time, timedelta):
        whole = -(-time // _MILLISECOND)
    elif math.isfinite(time):
        # 1.1 s are 1100.0000000000002 ms; a nanosecond is not worth a millisecond.
        whole = math.ceil(round(time * 1000, 6))
    else:
        raise ValueError(f"a time is finite, not {time}")
    if whole < 0:
        raise ValueError(f"a time is not negative: {time}")
    return min(whole, _U64_MAX)
