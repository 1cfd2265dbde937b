import { ConfigError } from "./errors.js";
import { host } from "./host.js";
import { string } from "./values.js";

export function get(key) {
  return host().config.get(string(key)) ?? undefined;
}

export function number(key) {
  return parse(key, "a number", (value) => {
    const number = value.trim() === "" ? NaN : Number(value);
    return Number.isFinite(number) ? number : undefined;
  });
}

export function boolean(key) {
  return parse(key, "true or false", (value) => ({ true: true, false: false })[value]);
}

export function json(key) {
  return parse(key, "JSON", (value) => {
    try {
      return JSON.parse(value);
    } catch {
      return undefined;
    }
  });
}

export function entries() {
  return host().config.entries();
}

export function version() {
  return BigInt(host().config.version());
}

function parse(key, expected, read) {
  const value = get(key);
  if (value === undefined) return undefined;
  const parsed = read(value);
  if (parsed === undefined) throw new ConfigError(key, expected, value);
  return parsed;
}
