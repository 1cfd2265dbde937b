import { host, present } from "./host.js";
import { pairs, string } from "./values.js";

/// What was logged while the component was built. Each instance begins with it, and
/// says it when it starts, as if it had loaded the module itself.
let early = [];

const at = (level) => (message, fields = {}) => write(level, string(message), pairs(fields));

export const trace = at("trace");
export const debug = at("debug");
export const info = at("info");
export const warn = at("warn");
export const error = at("error");

/// Not for authors: fields as pairs.
export function write(level, message, fields) {
  if (present()) host().log.write(level, message, fields);
  else early.push([level, message, fields]);
}

/// Not for authors.
export function flush() {
  for (const [level, message, fields] of early) host().log.write(level, message, fields);
  early = [];
}
