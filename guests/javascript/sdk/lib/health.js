import { host } from "./host.js";
import { string } from "./values.js";

const report = (status) => (detail) =>
  host().health.report(status, detail === undefined ? null : string(detail));

export const ok = report("ok");
export const degraded = report("degraded");
export const failing = report("failing");
