import { host } from "./host.js";
import { millis, payload, refused, string } from "./values.js";

const U32_MAX = 2 ** 32 - 1;

export function publish(topic, body = "") {
  const bytes = payload(body, "a payload");
  return refused(() => host().bus.publish(string(topic), bytes));
}

export function request(topic, body, timeoutMs) {
  const bytes = payload(body, "a payload");
  const timeout = millis(timeoutMs, U32_MAX, "the timeout of a request");
  return refused(() => host().bus.request(string(topic), bytes, timeout));
}

export function subscribe(filter) {
  refused(() => host().bus.subscribe(string(filter)));
}

export function unsubscribe(filter) {
  refused(() => host().bus.unsubscribe(string(filter)));
}
