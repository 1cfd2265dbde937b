// Does what each conformance component does, so that one test drives all languages.

import { BusError, Reject, Retry, bus, config, health, identity, log, metrics, text, timer } from "ron";

const LABELS = { kind: "test" };

export default class Conformance {
  schema = 1;
  counter = 0n;

  start() {
    const failure = config.get("fail_start");
    if (failure !== undefined) throw new Reject(failure);
    bus.subscribe("do.>");
    log.info("conformance: started");
  }

  message(message) {
    if (message.timer !== undefined) {
      bus.publish("seen.timer", message.timer);
      return;
    }
    const act = acts[message.topic.replace(/^do\./, "")];
    if (act === undefined) throw new Reject(`unknown topic ${message.topic}`);
    return act(message, this);
  }

  event(event) {
    switch (event.kind) {
      case "health":
        return void bus.publish("seen.event", `health ${event.service} ${event.ok}`);
      case "config-updated":
        return void bus.publish("seen.event", `config-updated ${event.version}`);
      case "service-crashed": {
        const { label, message } = event.reason;
        return void bus.publish("seen.event", `service-crashed ${event.service} ${label} ${message}`);
      }
      case "shutdown":
        return void bus.publish("seen.event", "shutdown");
    }
  }

  stop() {
    bus.publish("seen.stop");
  }

  save() {
    const failure = config.get("fail_save");
    if (failure !== undefined) throw new Reject(failure);
    return String(this.counter);
  }

  restore(schema, state) {
    if (schema !== this.schema) throw new Reject(`schema ${schema}`);
    const number = text(state);
    if (!/^\d+$/.test(number)) throw new Reject("not a number");
    this.counter = BigInt(number);
  }

  batch(batch) {
    metrics.add("batched_total", batch.length, LABELS);
    return batch.each((message) => this.message(message));
  }
}

/** By the rest of the topic: what a message does, and what it is answered. */
const acts = {
  echo: ({ payload }) => payload,
  silent: () => {},
  message: ({ id, topic, source, attempt, wantsReply, payload }) =>
    `${id} ${topic} ${source} ${attempt} ${wantsReply} ${payload.length}`,

  retry: ({ attempt }) => {
    if (attempt === 1) throw new Retry("once more");
    return String(attempt);
  },
  reject: () => {
    throw new Reject("never");
  },
  crash: () => {
    throw new Error("told to crash");
  },
  spin: () => {
    for (;;);
  },
  grow: () => {
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20));
  },

  publish: ({ text }) => {
    const [topic, body = ""] = words(text, 2);
    return orError(() => String(bus.publish(topic, body)));
  },
  "publish-size": ({ text }) => {
    const [topic, size] = words(text, 2);
    return orError(() => String(bus.publish(topic, new Uint8Array(Number(size)))));
  },
  request: ({ text }) => {
    const [topic, millis, body = ""] = words(text, 3);
    return orError(() => bus.request(topic, body, Number(millis)));
  },
  subscribe: ({ text }) => done(() => bus.subscribe(text)),
  unsubscribe: ({ text }) => done(() => bus.unsubscribe(text)),

  config: ({ text }) => {
    const value = config.get(text);
    return value === undefined ? "none" : `= ${value}`;
  },
  "config-all": () => {
    const lines = config.entries().map(([key, value]) => `${key}=${value}`);
    return lines.sort().join("\n");
  },
  "config-version": () => String(config.version()),
  identity: () => {
    const { service, generation, replica } = identity.get();
    return `${service} ${generation} ${replica}`;
  },
  health: ({ text }) => {
    const [status, detail] = words(text, 2);
    return done(() => health[status](detail));
  },
  log: ({ text }) => {
    const [level, line] = words(text, 2);
    return done(() => log[level](line, { answer: 42, word: "größe" }));
  },

  add: ({ text }) => {
    const [name, delta] = words(text, 2);
    return done(() => metrics.add(name, BigInt(delta), LABELS));
  },
  set: ({ text }) => {
    const [name, value] = words(text, 2);
    return done(() => metrics.set(name, Number(value), LABELS));
  },
  observe: ({ text }) => {
    const [name, value] = words(text, 2);
    return done(() => metrics.observe(name, Number(value), LABELS));
  },

  after: ({ text }) => {
    const [name, millis] = words(text, 2);
    return done(() => timer.after(name, Number(millis)));
  },
  every: ({ text }) => {
    const [name, millis] = words(text, 2);
    return done(() => timer.every(name, Number(millis)));
  },
  cancel: ({ text }) => done(() => timer.cancel(text)),

  next: (_, service) => {
    service.counter += 1n;
    return String(service.counter);
  },
  put: ({ text }, service) => {
    service.counter = BigInt(text);
    return "done";
  },
  item: ({ text }) => {
    bus.publish("seen.item", text);
    if (text.endsWith("9")) throw new Reject("ninth");
  },
};

/** At most that many words; the last has the rest. */
function words(text, most) {
  const all = text.split(" ");
  return all.length <= most ? all : [...all.slice(0, most - 1), all.slice(most - 1).join(" ")];
}

const done = (act) =>
  orError(() => {
    act();
    return "done";
  });

/** What `act` returns, or the error of the bus as text. */
function orError(act) {
  try {
    return act();
  } catch (error) {
    if (!(error instanceof BusError)) throw error;
    const value = error.limit ?? error.detail;
    return value === undefined ? `error ${error.kind}` : `error ${error.kind} ${value}`;
  }
}
