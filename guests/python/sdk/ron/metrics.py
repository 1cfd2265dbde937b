"""This service's own metrics, exposed by the host at `/metrics` with a
`service` label.

    metrics.add("orders_total", region="eu")

Names follow Prometheus. Values of labels are turned to text by `str`. Past the
service's limit of series a value goes to the series whose labels all read
`other`.
"""

from ron import _host
from ron._message import to_text

_U64_MAX = 2**64 - 1


def add(name: str, delta: int = 1, /, **labels: object) -> None:
    """Adds to a counter. Raises ValueError unless `delta` is from 0 to 2**64 - 1."""
    if not isinstance(delta, int):
        raise TypeError(f"a counter grows by whole numbers, not by {type(delta).__name__}")
    if not 0 <= delta <= _U64_MAX:
        raise ValueError(f"a counter grows by 0 to 2**64 - 1, not by {delta}")
    _host.current().metrics_add(to_text(name), _pairs(labels), int(delta))


def set(name: str, value: float, /, **labels: object) -> None:
    """Sets a gauge."""
    _host.current().metrics_set(to_text(name), _pairs(labels), float(value))


def observe(name: str, value: float, /, **labels: object) -> None:
    """Observes a value in a histogram; seconds for times."""
    _host.current().metrics_observe(to_text(name), _pairs(labels), float(value))


def _pairs(labels: dict[str, object]) -> list[tuple[str, str]]:
    return [(key, to_text(str(value))) for key, value in labels.items()]
