"""Who this instance is."""

from dataclasses import dataclass

from ron import _host


@dataclass(frozen=True)
class Instance:
    """One running instance of a service."""

    service: str
    """The service's name in the configuration."""

    generation: int
    """Grows with each restart and each hot swap of the service."""

    replica: int
    """Which of the service's replicas, from 0."""


def get() -> Instance:
    """Who this instance is. It never changes while the instance lives."""
    return _host.current().identity_get()
