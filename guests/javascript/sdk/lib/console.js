// `console`, whose lines are records of the host's log.

import { write } from "./log.js";
import { describe, translate } from "./stack.js";
import { string } from "./values.js";

const MAX_DEPTH = 4;
const MAX_ITEMS = 100;

let indent = "";
const counts = new Map();
const times = new Map();

const at =
  (level) =>
  (...values) =>
    write(level, indent + string(translate(format(values))), []);

const info = at("info");
const warn = at("warn");
const error = at("error");
const elapsed = (label) => `${label}: ${(performance.now() - times.get(label)).toFixed(3)} ms`;

export const console = {
  log: info,
  info,
  warn,
  error,
  debug: at("debug"),
  dir: (value) => info(value),
  table: (value) => info(value),
  trace: (...values) => {
    const here = describe(Object.assign(new Error(format(values)), { name: "Trace" }));
    write("trace", indent + string(here), []);
  },
  assert: (holds, ...values) => {
    if (!holds) error(...(values.length === 0 ? ["Assertion failed"] : ["Assertion failed:", ...values]));
  },
  count: (label = "default") => {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    info(`${label}: ${counts.get(label)}`);
  },
  countReset: (label = "default") => counts.delete(label),
  time: (label = "default") => times.set(label, performance.now()),
  timeLog: (label = "default", ...values) => times.has(label) && info(elapsed(label), ...values),
  timeEnd: (label = "default") => {
    if (times.has(label)) info(elapsed(label));
    times.delete(label);
  },
  group: (...values) => {
    if (values.length > 0) info(...values);
    indent += "  ";
  },
  groupEnd: () => {
    indent = indent.slice(2);
  },
};
console.groupCollapsed = console.group;

export function format(values) {
  let rest = [...values];
  let text = "";
  if (typeof rest[0] === "string" && rest.length > 1) {
    text = rest.shift().replace(/%([sdifjoOc%])/g, (whole, letter) => {
      if (letter === "%") return "%";
      if (rest.length === 0) return whole;
      const value = rest.shift();
      switch (letter) {
        case "s":
          return typeof value === "string" ? value : inspect(value);
        case "d":
          return typeof value === "bigint" ? `${value}n` : String(Number(value));
        case "i":
          return String(parseInt(value, 10));
        case "f":
          return String(parseFloat(value));
        case "j":
          return JSON.stringify(value);
        case "c":
          return "";
        default:
          return inspect(value);
      }
    });
    rest = [text, ...rest];
  }
  return rest.map((value) => (typeof value === "string" ? value : inspect(value))).join(" ");
}

export function inspect(value, depth = 0, above = []) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `[${value.name || "function"}]`;
  if (typeof value !== "object" || value === null) return Object.is(value, -0) ? "-0" : String(value);
  if (value instanceof Error) return describe(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  if (above.includes(value)) return "[circular]";
  const name = value.constructor?.name ?? "null prototype";
  if (depth > MAX_DEPTH) return `[${name}]`;
  const within = (inner) => inspect(inner, depth + 1, [...above, value]);
  const list = (items, [open, close], size) => {
    const shown = [...items];
    if (size > shown.length) shown.push(`... ${size - shown.length} more`);
    return shown.length === 0 ? open + close : `${open} ${shown.join(", ")} ${close}`;
  };
  const some = (items, show) => Iterator.from(items).take(MAX_ITEMS).map(show);
  if (Array.isArray(value)) return list(some(value, within), "[]", value.length);
  if (ArrayBuffer.isView(value) && "length" in value) {
    return `${name}(${value.length}) ${list(some(value, String), "[]", value.length)}`;
  }
  if (value instanceof Map) {
    const entries = some(value, ([key, one]) => `${within(key)} => ${within(one)}`);
    return `Map(${value.size}) ${list(entries, "{}", value.size)}`;
  }
  if (value instanceof Set) return `Set(${value.size}) ${list(some(value, within), "{}", value.size)}`;
  const keys = Object.keys(value);
  const fields = some(keys, (key) => `${/^[\w$]+$/.test(key) ? key : JSON.stringify(key)}: ${within(value[key])}`);
  const body = list(fields, "{}", keys.length);
  return name === "Object" ? body : `${name} ${body}`;
}
