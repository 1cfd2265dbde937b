"""Adds to each reading where its sensor is, and degrees Fahrenheit."""

import json

import ron
from ron import bus, config


class Enrich(ron.Service):
    def start(self) -> None:
        bus.subscribe("readings.raw")

    def on_message(self, message: ron.Message) -> None:
        places = config.parse("places", json.loads, {})
        try:
            reading = json.loads(message.text)
            place = places.get(reading["sensor"], "somewhere")
            fahrenheit = round(reading["celsius"] * 9 / 5 + 32, 1)
        except (ValueError, KeyError, TypeError) as error:
            raise ron.Reject(f"no reading: {error!r}") from None
        more = {"place": place, "fahrenheit": fahrenheit}
        bus.publish("readings.enriched", json.dumps(reading | more))
