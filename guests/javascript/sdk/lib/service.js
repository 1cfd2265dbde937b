// One instance of an author's service, in a component or in a unit test. What its
// methods throw goes to the caller.

import { Batch } from "./batch.js";
import { flush } from "./log.js";
import { message } from "./message.js";
import { isPromise, payload, then } from "./values.js";

/// The methods that belong to a world other than `service`.
const OPTIONAL = { "stateful-service": ["save", "restore"], "bulk-service": ["batch"] };

export class Instance {
  #definition;
  #worlds;
  #service;

  constructor(definition, worlds) {
    this.#definition = definition;
    this.#worlds = worlds;
    check(definition, worlds);
  }

  start() {
    flush();
    const definition = this.#definition;
    this.#service = typeof definition === "function" ? new definition() : definition;
    for (const world of this.#worlds) {
      for (const method of OPTIONAL[world] ?? []) {
        if (typeof this.#service[method] !== "function") {
          throw new TypeError(`the build names the world ${world}, for which the service needs a method ${method}()`);
        }
      }
    }
    return this.#service.start?.();
  }

  /// What the author wrote for a call of the host.
  method(name) {
    return this.#service?.[name] ?? this.#definition;
  }

  message(raw) {
    return then(this.#service.message?.(message(raw)), (reply) =>
      reply === undefined || reply === null ? undefined : payload(reply, "what message() returns"),
    );
  }

  event(raw) {
    return this.#service.event?.(event(raw));
  }

  stop() {
    return this.#service.stop?.();
  }

  save() {
    const schema = this.#service.schema;
    if (!Number.isInteger(schema) || schema < 0 || schema >= 2 ** 32) {
      throw new TypeError("a service that saves needs a `schema`: a whole number from 0 on");
    }
    return then(this.#service.save(), (state) => ({ schema, bytes: payload(state, "what save() returns") }));
  }

  restore({ schema, bytes }) {
    return this.#service.restore(schema, bytes);
  }

  batch(raw) {
    const batch = new Batch(raw);
    return then(this.#service.batch(batch), (outcomes) => batch.results(outcomes));
  }
}

/// What can be seen before there is an instance, so that the build says it.
function check(definition, worlds) {
  const methods = typeof definition === "function" ? definition.prototype : definition;
  if (typeof methods !== "object" || methods === null || isPromise(methods)) {
    throw new TypeError("`export default` must be the service: a class, or an object, with a method message()");
  }
  for (const [world, names] of Object.entries(OPTIONAL)) {
    for (const name of names) {
      if (typeof methods[name] === "function" && !worlds.includes(world)) {
        throw new TypeError(`the service has a method ${name}(), which is never called: the build must name --world ${world}`);
      }
    }
  }
}

function event({ tag, val }) {
  switch (tag) {
    case "health":
      return { kind: tag, service: val.service, ok: val.ok };
    case "config-updated":
      return { kind: tag, version: BigInt(val) };
    case "service-crashed":
      return { kind: tag, service: val.service, reason: val.reason };
    default:
      return { kind: tag };
  }
}
