import { bus, config, log, metrics } from "ron";

/** Answers `{{name}}.greet` with a greeting. */
export default class Greeter {
  start() {
    bus.subscribe("{{name}}.greet");
    log.info("ready to greet");
  }

  message(message) {
    const greeting = config.get("greeting") ?? "Hello";
    metrics.add("greetings_total");
    return `${greeting}, ${message.text}!`;
  }
}
