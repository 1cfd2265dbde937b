"""Does what it is told by messages, so that a test sees all of the contract."""

from datetime import timedelta

import ron
from ron import bus, config, health, identity, log, metrics, timer


class Conformance(ron.Service):
    SCHEMA = 1

    def start(self) -> None:
        self.counter = 0
        reason = config.get("fail_start")
        if reason is not None:
            raise ron.Error(reason)
        bus.subscribe("do.>")
        log.info("conformance: started")

    def on_message(self, message: ron.Message) -> ron.Reply:
        if message.timer is not None:
            bus.publish("seen.timer", message.timer)
            return None
        try:
            return self.do(message)
        except bus.Error as error:
            return f"error {told(error)}"

    def do(self, message: ron.Message) -> ron.Reply:
        match message.topic.removeprefix("do."):
            case "echo":
                return message.payload
            case "silent":
                return None
            case "message":
                wants = "true" if message.wants_reply else "false"
                return (
                    f"{message.id} {message.topic} {message.source} {message.attempt}"
                    f" {wants} {len(message.payload)}"
                )
            case "retry":
                if message.attempt == 1:
                    raise ron.Retry("once more")
                return str(message.attempt)
            case "reject":
                raise ron.Reject("never")
            case "crash":
                raise RuntimeError("told to crash")
            case "spin":
                while True:
                    pass
            case "grow":
                held = []
                while True:
                    held.append(bytearray(1 << 20))
            case "publish":
                topic, _, body = message.text.partition(" ")
                return str(bus.publish(topic, body))
            case "publish-size":
                topic, _, size = message.text.partition(" ")
                return str(bus.publish(topic, bytes(int(size))))
            case "request":
                topic, millis, body = words(message, 3)
                return bus.request(topic, body, timeout=timedelta(milliseconds=int(millis)))
            case "subscribe":
                bus.subscribe(message.text)
            case "unsubscribe":
                bus.unsubscribe(message.text)
            case "config":
                value = config.get(message.text)
                return "none" if value is None else f"= {value}"
            case "config-all":
                entries = sorted(config.entries().items())
                return "\n".join(f"{key}={value}" for key, value in entries)
            case "config-version":
                return str(config.version())
            case "identity":
                me = identity.get()
                return f"{me.service} {me.generation} {me.replica}"
            case "health":
                status, detail = words(message, 2)
                health.report(health.Status(status), detail or None)
            case "log":
                level, text = words(message, 2)
                log.write(log.Level(level), text, {"answer": 42, "word": "größe"})
            case "add":
                name, delta = words(message, 2)
                metrics.add(name, int(delta), kind="test")
            case "set":
                name, value = words(message, 2)
                metrics.set(name, float(value), kind="test")
            case "observe":
                name, value = words(message, 2)
                metrics.observe(name, float(value), kind="test")
            case "after":
                name, millis = words(message, 2)
                timer.after(name, timedelta(milliseconds=int(millis)))
            case "every":
                name, millis = words(message, 2)
                timer.every(name, timedelta(milliseconds=int(millis)))
            case "cancel":
                timer.cancel(message.text)
            case "next":
                self.counter += 1
                return str(self.counter)
            case "put":
                self.counter = int(message.text)
            case "item":
                bus.publish("seen.item", message.payload)
                if message.text.endswith("9"):
                    raise ron.Reject("ninth")
                return None
            case _:
                raise ron.Reject(f"unknown topic {message.topic}")
        return "done"

    def on_batch(self, batch: ron.Batch) -> ron.Outcomes:
        metrics.add("batched_total", len(batch), kind="test")
        return batch.each(self.on_message)

    def on_event(self, event: ron.Event) -> None:
        match event:
            case ron.HealthChanged(service, ok):
                text = f"health {service} {'true' if ok else 'false'}"
            case ron.ConfigUpdated(version):
                text = f"config-updated {version}"
            case ron.ServiceCrashed(service, reason):
                text = f"service-crashed {service} {reason.label} {reason.message}"
            case ron.Shutdown():
                text = "shutdown"
        bus.publish("seen.event", text)

    def stop(self) -> None:
        bus.publish("seen.stop")

    def save(self) -> str:
        reason = config.get("fail_save")
        if reason is not None:
            raise ron.Error(reason)
        return str(self.counter)

    def restore(self, schema: int, state: bytes) -> None:
        if schema != self.SCHEMA:
            raise ron.Error(f"schema {schema}")
        try:
            self.counter = int(state)
        except ValueError:
            raise ron.Error("not a number") from None


def words(message: ron.Message, count: int) -> list[str]:
    """The first words of the payload, and all that follows as the last."""
    found = message.text.split(" ", count - 1)
    return found + [""] * (count - len(found))


def told(error: bus.Error) -> str:
    match error:
        case bus.PayloadTooLarge(limit=limit):
            return f"payload-too-large {limit}"
        case bus.Overloaded():
            return "overloaded"
        case bus.Timeout():
            return "timeout"
        case bus.NoResponder():
            return "no-responder"
        case bus.Denied():
            return f"denied {error}"
        case bus.InvalidTopic():
            return f"invalid-topic {error}"
        case bus.Failed():
            return f"failed {error}"
        case _:
            return f"other {error}"
