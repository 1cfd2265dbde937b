import assert from "node:assert/strict";
import { test } from "node:test";

import { Reject } from "ron";
import { TestHost } from "ron/testing";

import Greeter from "../src/service.js";

test("greets as configuration says", async () => {
  const host = new TestHost({ config: { greeting: "Good morning" } });
  await host.start(Greeter);

  assert.equal(await host.request("{{name}}.greet", "Ada"), "Good morning, Ada!");
  assert.equal(host.metrics.get("greetings_total"), 1n);
});

test("rejects what is no text", async () => {
  const host = new TestHost();
  await host.start(Greeter);

  await assert.rejects(host.request("{{name}}.greet", new Uint8Array([0xff])), Reject);
});
