import { host } from "./host.js";
import { millis, refused, string } from "./values.js";

export function after(name, delayMs) {
  const delay = millis(delayMs, Number.MAX_SAFE_INTEGER, "a delay");
  refused(() => host().timer.after(string(name), delay));
}

export function every(name, periodMs) {
  const period = millis(periodMs, Number.MAX_SAFE_INTEGER, "a period");
  refused(() => host().timer.every(string(name), period));
}

export function cancel(name) {
  host().timer.cancel(string(name));
}
