"""The service {{name}}: answers greetings."""

import logging

import ron
from ron import bus, config, metrics

log = logging.getLogger(__name__)


class Greeter(ron.Service):
    def start(self) -> None:
        bus.subscribe("{{name}}.greet")
        log.info("ready to greet")

    def on_message(self, message: ron.Message) -> ron.Reply:
        if not message.text:
            raise ron.Reject("nobody to greet")
        metrics.add("greetings_total")
        greeting = config.get("greeting", "Hello")
        return f"{greeting}, {message.text}!"
