// Makes of an author's service what the contract wants a component to export.

import * as bus from "ron:kernel/bus@1.0.0";
import * as config from "ron:kernel/config@1.0.0";
import * as health from "ron:kernel/health@1.0.0";
import * as identity from "ron:kernel/identity@1.0.0";
import * as log from "ron:kernel/log@1.0.0";
import * as metrics from "ron:kernel/metrics@1.0.0";
import * as timer from "ron:kernel/timer@1.0.0";
import { exit } from "wasi:cli/exit@0.2.0";

import { BusError, Reject, Retry, failure } from "./errors.js";
import { quickjs } from "./globals.js";
import { install } from "./host.js";
import { drain, settled } from "./promise.js";
import { Instance } from "./service.js";
import { shown } from "./shown.js";
import { describe, headline, location, origin } from "./stack.js";
import { isPromise, then } from "./values.js";

/// QuickJS takes a u64 as a number and no BigInt, StarlingMonkey the other way around.
const u64 = quickjs ? Number : BigInt;
/// QuickJS takes a u32 as the signed number of the same bits.
const u32 = quickjs ? (value) => value | 0 : Number;

const host = {
  bus: {
    publish: bus.publish,
    request: (topic, payload, ms) => bus.request(topic, payload, u32(ms)),
    subscribe: bus.subscribe,
    unsubscribe: bus.unsubscribe,
  },
  config,
  health,
  identity,
  log,
  metrics: {
    add: (name, labels, delta) => metrics.add(name, labels, u64(delta)),
    set: metrics.set,
    observe: metrics.observe,
  },
  timer: {
    after: (name, ms) => timer.after(name, u64(ms)),
    every: (name, ms) => timer.every(name, u64(ms)),
    cancel: timer.cancel,
  },
};

/// `worlds` are those that the build names.
export function component(definition, worlds) {
  const instance = new Instance(definition, worlds);
  // Each by the name of the author's method, what to run, and which errors have a word in
  // the contract.
  const finish = (method, run, told) => settle(method, run, (error) => fail(error, told, instance.method(method)));
  return {
    lifecycle: {
      start: () => {
        install(host);
        return finish("start", () => instance.start(), text);
      },
      onMessage: (message) => finish("message", () => instance.message(message), failure),
      onEvent: (event) => finish("event", () => instance.event(event)),
      stop: () => finish("stop", () => instance.stop()),
    },
    handover: {
      save: () => finish("save", () => then(instance.save(), state), text),
      restore: (state) => finish("restore", () => instance.restore(state), text),
    },
    bulk: {
      onBatch: (batch) => finish("batch", () => instance.batch(batch)),
    },
  };
}

/// Runs one call of the host to its end.
function settle(method, run, fail) {
  try {
    const value = run();
    if (!isPromise(value)) {
      if (quickjs) drain();
      return value;
    }
    if (quickjs) return settled(value, method);
    return value.then(undefined, fail);
  } catch (error) {
    return fail(error);
  }
}

/// An error that `told` has a word for is thrown as that, which makes it an error of the
/// contract; any other ends the instance.
function fail(error, told, method) {
  const said = told?.(error);
  if (said === undefined) crash(error, method);
  try {
    // What else the call began ends with it.
    if (quickjs) drain();
  } catch (other) {
    crash(other, method);
  }
  throw said;
}

const state = ({ schema, bytes }) => ({ schema: u32(schema), bytes });

/// What an error of the SDK says where the contract has room for a text alone.
function text(error) {
  const own = error instanceof Retry || error instanceof Reject || error instanceof BusError;
  return own ? error.message.toWellFormed() : undefined;
}

/// QuickJS throws an `InternalError` of that text, StarlingMonkey the text itself.
const isOutOfMemory = (error) => (error instanceof Error ? error.message : error) === "out of memory";

/// `Error` says nothing that is not known.
const short = (error) => (error.name === "Error" && error.message ? error.message : headline(error));

/// Tells the host why, and ends the instance. An exit and not a trap, since the only
/// traps within reach are the engine's own panics, which would tell a story of theirs.
/// `method` is what the host called: the place of an error that no line of the author's
/// threw, such as an answer of the wrong type.
function crash(error, method) {
  const fields = [["ron.panic", isOutOfMemory(error) ? "out-of-memory" : "true"]];
  let message = "crashed";
  try {
    message = error instanceof Error ? short(error) : shown(error);
    const place = location(error) ?? origin(method);
    if (place !== undefined) fields.push(["location", place]);
    fields.push(["traceback", describe(error).toWellFormed()]);
  } catch {
    // Such as no memory left for it: what there is must do.
  }
  log.write("error", message.toWellFormed(), fields);
  exit({ tag: "err" });
}
