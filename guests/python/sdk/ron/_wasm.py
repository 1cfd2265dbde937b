# mypy: disable-error-code="import-not-found"
"""The contract, as componentize-py binds it; exists only inside a component."""

from typing import NoReturn

from componentize_py_types import Err
from wit_world.imports import bus, config, health, identity, log, metrics, timer, types

import ron.bus
from ron._events import ConfigUpdated, CrashReason, Event, HealthChanged, ServiceCrashed, Shutdown
from ron._host import Pairs
from ron.health import Status
from ron.identity import Instance
from ron.log import Level

_STATUS = {
    Status.OK: health.Status.OK,
    Status.DEGRADED: health.Status.DEGRADED,
    Status.FAILING: health.Status.FAILING,
}
_LEVEL = {
    Level.TRACE: log.Level.TRACE,
    Level.DEBUG: log.Level.DEBUG,
    Level.INFO: log.Level.INFO,
    Level.WARN: log.Level.WARN,
    Level.ERROR: log.Level.ERROR,
}


class ComponentHost:
    """`ron._host.Host` by way of the component's imports."""

    def publish(self, topic: str, payload: bytes) -> int:
        try:
            count: int = bus.publish(topic, payload)
            return count
        except Err as refusal:
            _refuse(refusal.value)

    def request(self, topic: str, payload: bytes, timeout_ms: int) -> bytes:
        try:
            answer: bytes = bus.request(topic, payload, timeout_ms)
            return answer
        except Err as refusal:
            _refuse(refusal.value)

    def subscribe(self, filter: str) -> None:
        try:
            bus.subscribe(filter)
        except Err as refusal:
            _refuse(refusal.value)

    def unsubscribe(self, filter: str) -> None:
        try:
            bus.unsubscribe(filter)
        except Err as refusal:
            _refuse(refusal.value)

    def config_get(self, key: str) -> str | None:
        value: str | None = config.get(key)
        return value

    def config_entries(self) -> Pairs:
        pairs: list[tuple[str, str]] = config.entries()
        return pairs

    def config_version(self) -> int:
        version: int = config.version()
        return version

    def health_report(self, status: Status, detail: str | None) -> None:
        health.report(_STATUS[status], detail)

    def identity_get(self) -> Instance:
        instance = identity.get()
        return Instance(instance.service, instance.generation, instance.replica)

    def log_write(self, level: Level, message: str, fields: Pairs) -> None:
        log.write(_LEVEL[level], message, list(fields))

    def metrics_add(self, name: str, labels: Pairs, delta: int) -> None:
        metrics.add(name, list(labels), delta)

    def metrics_set(self, name: str, labels: Pairs, value: float) -> None:
        metrics.set(name, list(labels), value)

    def metrics_observe(self, name: str, labels: Pairs, value: float) -> None:
        metrics.observe(name, list(labels), value)

    def timer_after(self, name: str, delay_ms: int) -> None:
        try:
            timer.after(name, delay_ms)
        except Err as refusal:
            _refuse(refusal.value)

    def timer_every(self, name: str, period_ms: int) -> None:
        try:
            timer.every(name, period_ms)
        except Err as refusal:
            _refuse(refusal.value)

    def timer_cancel(self, name: str) -> None:
        timer.cancel(name)


def _refuse(error: object) -> NoReturn:
    """Raises the SDK's error for one of the contract's."""
    # `from None`: the binding's own exception says nothing more.
    match error:
        case types.BusError_Denied(text):
            raise ron.bus.Denied(text) from None
        case types.BusError_InvalidTopic(text):
            raise ron.bus.InvalidTopic(text) from None
        case types.BusError_PayloadTooLarge(limit):
            raise ron.bus.PayloadTooLarge(limit) from None
        case types.BusError_Overloaded():
            raise ron.bus.Overloaded from None
        case types.BusError_Timeout():
            raise ron.bus.Timeout from None
        case types.BusError_NoResponder():
            raise ron.bus.NoResponder from None
        case types.BusError_Failed(text):
            raise ron.bus.Failed(text) from None
        case types.BusError_Other(text):
            raise ron.bus.Other(text) from None
    raise ron.bus.Other(repr(error)) from None


def event(event: object) -> Event:
    """The SDK's event for one of the contract's."""
    match event:
        case types.KernelEvent_Health(health):
            return HealthChanged(health.service, health.ok)
        case types.KernelEvent_ConfigUpdated(version):
            return ConfigUpdated(version)
        case types.KernelEvent_ServiceCrashed(crash):
            reason = CrashReason(crash.reason.label, crash.reason.message)
            return ServiceCrashed(crash.service, reason)
        case types.KernelEvent_Shutdown():
            return Shutdown()
    raise TypeError(f"the host announced {event!r}")
