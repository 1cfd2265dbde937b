// Between the values of JavaScript and those of the contract.

import { BusError } from "./errors.js";
import { shown } from "./shown.js";
import { bytes } from "./text.js";

/// A payload, an answer or a state as bytes. `what` names it where it is neither text
/// nor bytes.
export function payload(value, what) {
  if (typeof value === "string") return bytes(value);
  if (isBytes(value)) return value;
  throw new TypeError(`${what} must be a string or a Uint8Array, not ${kind(value)}`);
}

/// By its tag: a payload of StarlingMonkey's is of a `Uint8Array` that is not the global one.
const isBytes = (value) => ArrayBuffer.isView(value) && value[Symbol.toStringTag] === "Uint8Array";

/// A string as the host takes it: half a surrogate pair is not Unicode, and would end
/// the instance without a word of why.
export const string = (value) => shown(value).toWellFormed();

export const pairs = (object) =>
  Object.entries(object).map(([name, value]) => [string(name), string(value)]);

/// Whole milliseconds, rounded up so that a short time is not none at all.
export function millis(value, limit, what) {
  if (typeof value !== "number" || !(value >= 0)) {
    throw new RangeError(`${what} is a number of milliseconds from 0 on, not ${show(value)}`);
  }
  return Math.min(Math.ceil(value), limit);
}

/// What `run` returns. What the bus refuses comes as a `BusError`.
export function refused(run) {
  try {
    return run();
  } catch (error) {
    if (error?.payload?.tag === undefined) throw error;
    throw new BusError(error.payload.tag, error.payload.val);
  }
}

export const isPromise = (value) => typeof value?.then === "function";

/// `next` of the value, or of what it resolves to: handlers may be async or not.
export const then = (value, next) => (isPromise(value) ? value.then(next) : next(value));

export function kind(value) {
  if (value === null) return "null";
  if (isPromise(value)) return "a promise: await it";
  if (typeof value === "object") {
    const name = value.constructor?.name;
    return name && name !== "Object" ? `of type ${name}` : "an object: JSON.stringify makes text of it";
  }
  return `a ${typeof value}`;
}

const show = (value) => (typeof value === "bigint" ? `${value}n` : String(value));
