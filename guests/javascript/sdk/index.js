// The module `ron`: what the author of a service imports. `index.d.ts` documents it.

export * as bus from "./lib/bus.js";
export * as config from "./lib/config.js";
export * as health from "./lib/health.js";
export * as identity from "./lib/identity.js";
export * as log from "./lib/log.js";
export * as metrics from "./lib/metrics.js";
export * as timer from "./lib/timer.js";
export { BusError, ConfigError, Reject, Retry } from "./lib/errors.js";
export { Message } from "./lib/message.js";
export { bytes, text } from "./lib/text.js";
