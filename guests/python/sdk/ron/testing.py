"""A host for tests, without Wasm.

    from ron.testing import Host
    from app import Greeter

    def test_greets():
        with Host(Greeter, config={"greeting": "Hello"}) as host:
            assert host.request("greet", "Ada") == b"Hello, Ada!"
            assert host.published == [("greeted", b"Ada")]

One service runs in it, as it would alone in a host. Nothing runs by itself: a
test publishes, fires timers and announces events, and each call returns when
the service has handled it. What the service raises reaches the test as it is.
"""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from ron import _author, _host, _logging, bus
from ron._events import ConfigUpdated, Event
from ron._host import Pairs
from ron._message import TIMER, Message, Payload, Reply, to_bytes
from ron._service import Batch, Outcomes, Service
from ron.health import Status
from ron.identity import Instance
from ron.log import Level

S = TypeVar("S", bound=Service)

Answer: TypeAlias = Payload | Exception | Callable[[bytes], Payload]
"""What another service does with a request: an answer, an exception to raise, or
a function of the payload that returns the answer."""

# A service that publishes to itself without end would hang its test.
_MAX_ECHOES = 10_000
_MAX_TOPIC_BYTES = 255
_MAX_TOPIC_TOKENS = 16


class Published(NamedTuple):
    """A message that the service published, or a request that it made."""

    topic: str
    payload: bytes


class Record(NamedTuple):
    """A log record of the service."""

    level: Level
    message: str
    fields: dict[str, str]


class Timer(NamedTuple):
    """A timer of the service; times in milliseconds."""

    millis: int
    repeats: bool


@dataclass
class _Series:
    value: float = 0
    observed: list[float] = field(default_factory=list)


class Host(Generic[S]):
    """Runs one service. Enter it with `with`: that starts the service and, at the
    end, stops it."""

    def __init__(
        self,
        service: type[S],
        *,
        name: str = "service",
        config: Mapping[str, object] | None = None,
        max_payload: int = 1 << 20,
    ) -> None:
        """`config` are values as in `ron.toml`; `max_payload` is in bytes.

        Raises what the build would say of the service's methods: of their names and
        of what they take.
        """
        _author.check_names(service)
        _author.check_signatures(service)
        self._class = service
        self._config = {key: _as_text(value) for key, value in (config or {}).items()}
        self._version = 1
        self._instance = Instance(name, 0, 0)
        self._max_payload = max_payload
        self._last_id = 0
        self._others: list[tuple[str, Answer]] = []
        self._refusals: list[tuple[str, bus.Error]] = []
        self._queue: deque[Published] = deque()
        self._metrics: dict[tuple[str, tuple[tuple[str, str], ...]], _Series] = {}
        self._before: _host.Host | None = None
        self._restore_logging: Callable[[], None] | None = None
        self._service: S | None = None

        self.published: list[Published] = []
        """What the service published and requested, in order."""
        self.subscriptions: list[str] = []
        """The filters of the service's subscriptions."""
        self.timers: dict[str, Timer] = {}
        """The timers that are set, by name."""
        self.logs: list[Record] = []
        """What the service logged."""
        self.health: tuple[Status, str | None] = (Status.OK, None)
        """What the service said of itself last."""

    # The test's side.

    @property
    def service(self) -> S:
        """The service's object, to look into."""
        assert self._service is not None, "the host is not entered: write `with Host(...) as host:`"
        return self._service

    def __enter__(self) -> "Host[S]":
        self._before = _host.install(_Inside(self))
        self._restore_logging = _logging.install()
        try:
            self._start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            # Not called after a crash.
            if kind is None:
                self.service.stop()
        finally:
            self._leave()

    def publish(
        self, topic: str, payload: Payload = b"", *, source: str = "test", attempt: int = 1
    ) -> None:
        """Publishes a message to the service; nothing happens without a subscription
        to its topic."""
        self._deliver(topic, payload, source, attempt, wants_reply=False)
        self._settle()

    def request(
        self, topic: str, payload: Payload = b"", *, source: str = "test", attempt: int = 1
    ) -> bytes:
        """Publishes a message and returns the service's answer.

        Raises `ron.bus.NoResponder` when there is none.
        """
        reply = self._deliver(topic, payload, source, attempt, wants_reply=True)
        self._settle()
        if reply is None:
            raise bus.NoResponder
        return reply

    def batch(self, *messages: tuple[str, Payload]) -> Outcomes:
        """Delivers messages (topic, payload) at once, and returns what
        `Service.on_batch` says became of them."""
        made = [
            self._message(topic, to_bytes(payload, "the payload is"))
            for topic, payload in messages
        ]
        outcomes = self.service.on_batch(Batch(made))
        self._settle()
        return outcomes

    def fire(self, timer: str) -> None:
        """Fires a timer that the service has set; how long it would wait does not matter."""
        if timer not in self.timers:
            raise AssertionError(f"no timer {timer!r} is set, only {sorted(self.timers)}")
        if not self.timers[timer].repeats:
            del self.timers[timer]
        self.service.on_message(self._message(TIMER + timer, b"", source="ron.timer"))
        self._settle()

    def announce(self, event: Event) -> None:
        """Announces an event to the service."""
        self.service.on_event(event)
        self._settle()

    def configure(self, **values: object) -> None:
        """Changes values of the configuration and announces that; None removes a key."""
        for key, value in values.items():
            if value is None:
                self._config.pop(key, None)
            else:
                self._config[key] = _as_text(value)
        self._version += 1
        self.announce(ConfigUpdated(self._version))

    def answer(self, filter: str, answer: Answer) -> None:
        """Plays another service, that answers requests to topics matching `filter`.

            host.answer("stock.check", b"7")
            host.answer("stock.order", bus.Timeout())
        """
        _check_topic(filter, wildcards=True)
        self._others.append((filter, answer))

    def refuse(self, filter: str, error: bus.Error) -> None:
        """Has calls of the bus whose topic or filter matches `filter` raise `error`."""
        _check_topic(filter, wildcards=True)
        self._refusals.append((filter, error))

    def swap(self) -> None:
        """Replaces the instance by a new one, with a handover where the service has
        `save` and `restore`."""
        state = None
        if self._class.save is not Service.save:
            state = to_bytes(self.service.save(), "save returned")
        schema = self._class.SCHEMA
        self.service.stop()
        self.subscriptions.clear()
        self._start()
        if state is not None:
            self.service.restore(schema, state)

    def restart(self) -> None:
        """Replaces the instance by a new one, as after a crash: the state is gone and
        subscriptions stay."""
        self._start()

    def metric(self, name: str, /, **labels: object) -> float:
        """The value of a counter or gauge; 0 where nothing was added or set."""
        return self._series(name, labels).value

    def observed(self, name: str, /, **labels: object) -> list[float]:
        """What was observed in a histogram, in order."""
        return self._series(name, labels).observed

    def _series(self, name: str, labels: Mapping[str, object]) -> _Series:
        pairs = tuple(sorted((key, str(value)) for key, value in labels.items()))
        return self._metrics.get((name, pairs), _Series())

    def _start(self) -> None:
        self.timers.clear()
        before = self._instance
        self._instance = Instance(before.service, before.generation + 1, before.replica)
        self._service = self._class()
        self._service.start()
        self._settle()

    def _leave(self) -> None:
        _host.install(self._before)
        if self._restore_logging is not None:
            self._restore_logging()

    def _message(
        self,
        topic: str,
        payload: bytes,
        source: str = "test",
        attempt: int = 1,
        wants_reply: bool = False,
    ) -> Message:
        self._last_id += 1
        return Message(self._last_id, topic, payload, source, attempt, wants_reply)

    def _deliver(
        self, topic: str, payload: Payload, source: str, attempt: int, wants_reply: bool
    ) -> bytes | None:
        _check_topic(topic, wildcards=False)
        data = to_bytes(payload, "the payload is")
        if not self._is_subscribed(topic):
            return None
        reply: Reply = self.service.on_message(
            self._message(topic, data, source, attempt, wants_reply)
        )
        return None if reply is None else to_bytes(reply, "on_message returned")

    def _settle(self) -> None:
        """Delivers what the service published to itself meanwhile."""
        for _ in range(_MAX_ECHOES):
            if not self._queue:
                return
            topic, payload = self._queue.popleft()
            self._deliver(topic, payload, self._instance.service, 1, wants_reply=False)
        raise AssertionError("the service publishes to itself without end")

    def _send(self, topic: str, payload: bytes) -> None:
        _check_topic(topic, wildcards=False)
        self._check_refusals(topic)
        if len(payload) > self._max_payload:
            raise bus.PayloadTooLarge(self._max_payload)
        self.published.append(Published(topic, payload))

    def _check_refusals(self, topic: str) -> None:
        for filter, error in self._refusals:
            if filter == topic or _matches(filter, topic):
                raise error

    def _is_subscribed(self, topic: str) -> bool:
        return any(_matches(filter, topic) for filter in self.subscriptions)


class _Inside:
    """What the service calls: `ron._host.Host`."""

    def __init__(self, host: Host[Any]) -> None:
        self._host = host

    def publish(self, topic: str, payload: bytes) -> int:
        host = self._host
        host._send(topic, payload)
        count = sum(_matches(filter, topic) for filter, _ in host._others)
        if host._is_subscribed(topic):
            host._queue.append(Published(topic, payload))
            count += 1
        return count

    def request(self, topic: str, payload: bytes, timeout_ms: int) -> bytes:
        host = self._host
        host._send(topic, payload)
        answer = next((answer for filter, answer in host._others if _matches(filter, topic)), None)
        if callable(answer):
            answer = answer(payload)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            # A service that asks itself waits for itself.
            raise bus.Timeout if host._is_subscribed(topic) else bus.NoResponder
        return to_bytes(answer, "the answer is")

    def subscribe(self, filter: str) -> None:
        _check_topic(filter, wildcards=True)
        self._host._check_refusals(filter)
        if filter not in self._host.subscriptions:
            self._host.subscriptions.append(filter)

    def unsubscribe(self, filter: str) -> None:
        _check_topic(filter, wildcards=True)
        if filter in self._host.subscriptions:
            self._host.subscriptions.remove(filter)

    def config_get(self, key: str) -> str | None:
        return self._host._config.get(key)

    def config_entries(self) -> Pairs:
        return list(self._host._config.items())

    def config_version(self) -> int:
        return self._host._version

    def health_report(self, status: Status, detail: str | None) -> None:
        self._host.health = status, detail

    def identity_get(self) -> Instance:
        return self._host._instance

    def log_write(self, level: Level, message: str, fields: Pairs) -> None:
        self._host.logs.append(Record(level, message, dict(fields)))

    def metrics_add(self, name: str, labels: Pairs, delta: int) -> None:
        self._series(name, labels).value += delta

    def metrics_set(self, name: str, labels: Pairs, value: float) -> None:
        self._series(name, labels).value = value

    def metrics_observe(self, name: str, labels: Pairs, value: float) -> None:
        self._series(name, labels).observed.append(value)

    def _series(self, name: str, labels: Pairs) -> _Series:
        return self._host._metrics.setdefault((name, tuple(sorted(labels))), _Series())

    def timer_after(self, name: str, delay_ms: int) -> None:
        self._set_timer(name, Timer(delay_ms, repeats=False))

    def timer_every(self, name: str, period_ms: int) -> None:
        if period_ms == 0:
            raise bus.Other("a period is at least 1 ms")
        self._set_timer(name, Timer(period_ms, repeats=True))

    def timer_cancel(self, name: str) -> None:
        self._host.timers.pop(name, None)

    def _set_timer(self, name: str, timer: Timer) -> None:
        try:
            _check_topic(TIMER + name, wildcards=False)
        except bus.InvalidTopic as error:
            raise bus.InvalidTopic(f"not a timer's name: {error}") from None
        self._host.timers[name] = timer


def _as_text(value: object) -> str:
    """A value of the configuration as the host gives it."""
    return value if isinstance(value, str) else json.dumps(value)


def _matches(filter: str, topic: str) -> bool:
    wanted, given = filter.split("."), topic.split(".")
    for place, token in enumerate(wanted):
        if token == ">":
            return len(given) > place
        if place >= len(given) or token not in ("*", given[place]):
            return False
    return len(wanted) == len(given)


def _check_topic(text: str, *, wildcards: bool) -> None:
    """Raises what the host would say of `text`."""
    if not text:
        raise bus.InvalidTopic("a topic has at least one token")
    size = len(text.encode())
    if size > _MAX_TOPIC_BYTES:
        raise bus.InvalidTopic(f"a topic is at most {_MAX_TOPIC_BYTES} bytes, this has {size}")
    tokens = text.split(".")
    if len(tokens) > _MAX_TOPIC_TOKENS:
        raise bus.InvalidTopic(
            f"a topic has at most {_MAX_TOPIC_TOKENS} tokens, this has {len(tokens)}"
        )
    for number, token in enumerate(tokens, 1):
        if not token:
            raise bus.InvalidTopic(f"token {number} is empty: tokens are separated by single dots")
        if token in ("*", ">"):
            if not wildcards:
                raise bus.InvalidTopic(
                    f"token {number} is a wildcard: wildcards belong in filters, not in topics"
                )
            if token == ">" and number != len(tokens):
                raise bus.InvalidTopic(f"token {number} is '>', which may only come last")
            continue
        bad = next((c for c in token if not (c.isascii() and (c.isalnum() or c in "_-"))), None)
        if bad is not None:
            raise bus.InvalidTopic(
                f"token {number} has '{bad}': a token is made of A-Z a-z 0-9 _ -"
            )
