"""What the host announces to every service."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class HealthChanged:
    """A service became able or unable to do its work."""

    service: str
    ok: bool


@dataclass(frozen=True)
class ConfigUpdated:
    """New values are in force; `ron.config` reads them."""

    version: int


@dataclass(frozen=True)
class CrashReason:
    """Why a service stopped running."""

    label: str
    """A stable, machine-readable name: `trap-unreachable`, `deadline`,
    `memory-limit`, `panic`, ... New labels may appear."""

    message: str
    """What a person should read: the panic message, the exit code, the limit."""


@dataclass(frozen=True)
class ServiceCrashed:
    """A service stopped running when it should not have."""

    service: str
    reason: CrashReason


@dataclass(frozen=True)
class Shutdown:
    """The host is about to stop every service."""


Event: TypeAlias = HealthChanged | ConfigUpdated | ServiceCrashed | Shutdown
"""Something that the host announced. Take it apart with `match`."""
