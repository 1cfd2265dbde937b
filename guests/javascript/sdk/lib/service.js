// One instance of an author's service, in a component or in a unit test. What its
// methods throw goes to the caller.

import { Batch } from "./batch.js";
import { flush } from "./log.js";
import { message } from "./message.js";
import { isPromise, payload, then } from "./values.js";

/// The methods that belong to a world other than `service`.
const OPTIONAL = { "stateful-service": ["save", "restore"], "bulk-service": ["batch"] };
/// All that the host calls.
const HANDLERS = ["start", "message", "event", "stop", ...Object.values(OPTIONAL).flat()];

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

const NO_SERVICE = "`export default` must be the service: a class, or an object, with a method message()";

/// What can be seen before there is an instance, so that the build says it.
function check(definition, worlds) {
  const methods = typeof definition === "function" ? definition.prototype : definition;
  if (typeof methods !== "object" || methods === null || isPromise(methods)) {
    throw new TypeError(NO_SERVICE);
  }
  checkNames(definition, methods);
  for (const [world, names] of Object.entries(OPTIONAL)) {
    for (const name of names) {
      if (typeof methods[name] === "function" && !worlds.includes(world)) {
        throw new TypeError(`the service has a method ${name}(), which is never called: the build must name --world ${world}`);
      }
    }
  }
}

/// Refuses a method that looks like a handler and is none, and a service without any. It
/// looks so when it is named much like a handler that is lacking, and nothing of the
/// service's own calls it.
function checkNames(definition, methods) {
  const own = functions(methods);
  const source = [...own.values(), ...classes(methods)].map(String).join("\n");
  const isField = (name) =>
    typeof definition === "function" && new RegExp(`\\b${name}\\s*=[^=>]|"${name}",`).test(source);
  const lacking = HANDLERS.filter((name) => !(name in methods) && !isField(name));
  const isCalled = (name) => source.includes(`.${name}`) || /\bthis\[(?!")/.test(source);
  for (const name of own.keys()) {
    const meant = lacking.find((handler) => isLike(name, handler));
    if (meant !== undefined && !isCalled(name)) {
      throw new TypeError(`the service has a method ${name}(), which is never called: did you mean ${meant}()?`);
    }
  }
  if (lacking.length === HANDLERS.length) throw new TypeError(NO_SERVICE);
}

/// The methods of an object and of what it inherits from, by name.
function functions(object) {
  const all = new Map();
  for (const one of prototypes(object)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(one))) {
      if (typeof value === "function" && name !== "constructor" && !all.has(name)) all.set(name, value);
    }
  }
  return all;
}

const classes = (object) => prototypes(object).map((one) => (Object.hasOwn(one, "constructor") ? one.constructor : ""));

function prototypes(object) {
  const all = [];
  for (let at = object; at && at !== Object.prototype; at = Object.getPrototypeOf(at)) all.push(at);
  return all;
}

/// `onMessage` for `message`, or a slip: one letter amiss.
function isLike(name, handler) {
  const bare = name.replace(/^(?:on|handle)_?(?=[a-z])/i, "").toLowerCase();
  if (bare[0] !== handler[0]) return false;
  // Another letter makes another word of a short one: `step`, `safe`.
  if (bare.length === 4 && handler.length === 4) return letters(bare) === letters(handler);
  return distance(bare, handler) <= 1;
}

const letters = (word) => [...word].sort().join("");

/// How many letters to put in, take out, replace or swap with the next.
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.length][b.length];
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
