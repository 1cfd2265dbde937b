import { host } from "./host.js";
import { pairs, string } from "./values.js";

/// Of a number of this many bits at most, each is a number of JavaScript.
const EXACT = 53n;

export function add(name, delta = 1, labels = {}) {
  const whole = counted(delta);
  const own = pairs(labels);
  for (const part of exact(whole)) host().metrics.add(string(name), own, part);
}

export function set(name, value, labels = {}) {
  host().metrics.set(string(name), pairs(labels), measured(value));
}

export function observe(name, value, labels = {}) {
  host().metrics.observe(string(name), pairs(labels), measured(value));
}

function counted(delta) {
  const whole = typeof delta === "bigint" ? delta : Number.isSafeInteger(delta) ? BigInt(delta) : -1n;
  if (whole < 0n || whole !== BigInt.asUintN(64, whole)) {
    throw new RangeError(
      `a counter grows by a whole number from 0 on, not ${String(delta)}; past 2 ** 53 it is a BigInt`,
    );
  }
  return whole;
}

function measured(value) {
  if (typeof value !== "number") throw new TypeError(`a value is a number, not a ${typeof value}`);
  return value;
}

/// A large delta is added in two parts, as the engine hands numbers to the host, which
/// are exact to 53 bits.
function exact(whole) {
  const low = BigInt.asUintN(64 - Number(EXACT), whole);
  return whole >> EXACT === 0n || low === 0n ? [whole] : [whole - low, low];
}
