// The errors that mean something to the host.

import { shown } from "./shown.js";

/// With the causes of an error behind it: `asking for stock: no answer came in time`.
function chain(text, cause) {
  let all = shown(text);
  for (let depth = 0; cause !== undefined && cause !== null && depth < 8; depth++) {
    all += `: ${cause instanceof Error ? cause.message : shown(cause)}`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return all;
}

class Failure extends Error {
  constructor(text, options) {
    super(chain(text, options?.cause), options);
  }
}

export class Retry extends Failure {
  get name() {
    return "Retry";
  }
}

export class Reject extends Failure {
  get name() {
    return "Reject";
  }
}

export class ConfigError extends Reject {
  get name() {
    return "ConfigError";
  }

  constructor(key, expected, found) {
    super(`config \`${key}\`: expected ${expected}, found \`${found}\``);
    this.key = key;
  }
}

const texts = {
  denied: (text) => `denied: ${text}`,
  "invalid-topic": (text) => `invalid topic: ${text}`,
  "payload-too-large": (limit) => `the payload is larger than ${limit} bytes`,
  overloaded: () => "a mailbox is full, or this service publishes too fast",
  timeout: () => "no answer came in time",
  "no-responder": () => "nobody answers this topic",
  failed: (text) => `the service that was asked failed: ${text}`,
};

export class BusError extends Error {
  get name() {
    return "BusError";
  }

  constructor(kind, value) {
    super((texts[kind] ?? String)(value));
    this.kind = kind;
    if (kind === "payload-too-large") this.limit = BigInt(value);
    else if (value !== undefined) this.detail = value;
  }

  get transient() {
    return this.kind === "overloaded" || this.kind === "timeout" || this.kind === "no-responder";
  }
}

/// What an error says of the message whose handler it escaped from, as the contract's
/// `failure`; `undefined` where it is a crash.
export function failure(error) {
  if (error instanceof Retry) return { tag: "retry", val: error.message.toWellFormed() };
  if (error instanceof Reject) return { tag: "reject", val: error.message.toWellFormed() };
  if (error instanceof BusError) {
    return { tag: error.transient ? "retry" : "reject", val: error.message.toWellFormed() };
  }
}
