// The SDK for JavaScript: what it does in QuickJS, by building components, and what it
// does in Node, by unit tests as an author writes them.
//
// Run in a copy of this directory in which `ron-host build` was run, which brings the SDK
// and the tools: `node --test`.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const sdk = join(here, "sdk");

const { BusError, Reject, Retry, bus, config, health, identity, log, metrics, timer } = await import(join(sdk, "index.js"));
const { TestHost } = await import(join(sdk, "testing.js"));
const { SourceMap } = await import(join(sdk, "lib/stack.js"));

function build(file, ...more) {
  const out = mkdtempSync(join(tmpdir(), "ron-test-"));
  const args = [join(sdk, "build.js"), file, "-o", join(out, "x.wasm"), ...more];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: here, encoding: "utf8" });
  rmSync(out, { recursive: true });
  return { status, stderr };
}

test("the codec, promises and console hold in the engine", () => {
  assert.deepEqual(build("checks/in-engine.js"), { status: 0, stderr: "" });
});

test("an error tells the author's file and line", () => {
  const { status, stderr } = build("checks/throws-when-loaded.ts");
  assert.equal(status, 1);
  assert.match(stderr, /^error: the service could not be loaded: Error: cannot read property 'length' of undefined\n/);
  assert.match(stderr, /at total \(checks\/throws-when-loaded\.ts:7:\d+\)\n +at <anonymous> \(checks\/throws-when-loaded\.ts:9:\d+\)\n$/);
});

test("a world that is not named is a mistake", () => {
  const { stderr } = build("service.js");
  assert.match(stderr, /has a method save\(\), which is never called: the build must name --world stateful-service/);
});

test("a handler that there is not is a mistake", async () => {
  const refused = (service) => new TestHost().start(service).then(() => undefined, (error) => error.message);
  const meant = (name, handler) => `the service has a method ${name}(), which is never called: did you mean ${handler}()?`;
  for (const [name, handler] of Object.entries({
    strat: "start",
    mesage: "message",
    massage: "message",
    onMessage: "message",
    on_message: "message",
    handleEvent: "event",
    events: "event",
    sotp: "stop",
    svae: "save",
    restroe: "restore",
    bacth: "batch",
  })) {
    assert.equal(await refused({ [name]() {} }), meant(name, handler));
    const Service = class {};
    Service.prototype[name] = () => {};
    assert.equal(await refused(Service), meant(name, handler));
    class Derived extends Service {}
    assert.equal(await refused(Derived), meant(name, handler));
  }

  const none = "`export default` must be the service: a class, or an object, with a method message()";
  for (const service of [undefined, 7, {}, class {}, { handle() {} }, class { handle() {} }]) {
    assert.equal(await refused(service), none);
  }
});

test("methods of the author's own are no mistake", async () => {
  class Own {
    start() {}
    restart() {}
    message() {
      this.saves();
    }
    messages() {}
    saves() {}
    store() {}
    step() {}
  }
  class Fields {
    message = () => {};
    messages() {}
  }
  class Dispatches {
    message(message) {
      return this[message.timer]();
    }
    stops() {}
  }
  for (const service of [Own, Fields, Dispatches, new Own(), { start() {}, starts() {} }]) {
    await new TestHost().start(service);
  }
});

test("a source map is read as the format says", () => {
  // Two lines; the second begins where the first file's line 3 does, then has another file.
  const map = new SourceMap({ sources: ["a.js", null, "b.js"], mappings: "AAAA;AAEE,IEAF,KDAA" });
  assert.deepEqual(map.find(1, 9), { source: "a.js", line: 1, column: 1 });
  assert.deepEqual(map.find(2, 1), { source: "a.js", line: 3, column: 3 });
  assert.deepEqual(map.find(2, 5), { source: "b.js", line: 3, column: 1 });
  assert.equal(map.find(2, 10), undefined);
  assert.equal(map.find(7, 1), undefined);
});

class Shop {
  schema = 2;
  sold = 0;

  start() {
    bus.subscribe("shop.*.sold");
    timer.every("report", 1000.2);
  }

  async message(message) {
    if (message.timer === "report") return void metrics.set("sold", this.sold);
    if (message.text === "soon") throw new Retry("not yet");
    if (message.text === "ask") return bus.request("stock.left", "a1", 100);
    this.sold += message.json.count;
    metrics.add("sold_total", message.json.count, { shop: message.topic.split(".")[1] });
    log.info("sold", { id: message.id, by: identity.get().service });
    bus.publish("shop.total", String(this.sold));
    return `sold ${this.sold}`;
  }

  event(event) {
    if (event.kind === "config-updated") health.degraded(config.get("why"));
  }

  save() {
    return String(this.sold);
  }

  restore(schema, bytes) {
    if (schema !== 2) throw new Reject(`schema ${schema}`);
    this.sold = Number(new TextDecoder().decode(bytes));
  }

  batch(batch) {
    return batch.each((message) => this.message(message));
  }
}

test("a service is driven without Wasm", async () => {
  const host = new TestHost({ service: "shop", config: { open: true, most: 5, names: ["a"] } });
  await host.start(Shop);
  assert.deepEqual([...host.subscriptions], ["shop.*.sold"]);
  assert.deepEqual(host.timers.get("report"), { ms: 1001, repeats: true });

  assert.equal(await host.request("shop.eu.sold", '{"count":2}'), "sold 2");
  assert.deepEqual(host.published.map(({ topic, text }) => [topic, text]), [["shop.total", "2"]]);
  assert.deepEqual(host.logs, [{ level: "info", message: "sold", fields: { id: "1", by: "shop" } }]);
  assert.equal(host.metrics.get('sold_total{shop="eu"}'), 2n);

  await host.fire("report");
  assert.equal(host.metrics.get("sold"), 2);
  await assert.rejects(host.fire("other"), /no timer other is set: report/);

  await host.configure({ why: "low on ink" });
  assert.deepEqual(host.health, { status: "degraded", detail: "low on ink" });

  await host.swap();
  assert.equal(await host.request("shop.eu.sold", '{"count":1}'), "sold 3");
});

test("what fails is told as the host would be told", async () => {
  const host = new TestHost();
  await host.start(Shop);
  await assert.rejects(host.request("shop.eu.sold", "soon"), Retry);
  await assert.rejects(host.request("shop.eu.sold", "{"), { name: "Reject", message: /is not JSON: / });
  await assert.rejects(host.request("shop.eu.sold", new Uint8Array([255])), { message: "the payload of shop.eu.sold is not UTF-8" });
  await assert.rejects(host.request("shop.eu.sold", "ask"), (error) => error instanceof BusError && error.transient);
  host.answer("stock.>", (message) => `left of ${message.text}`);
  assert.equal(await host.request("shop.eu.sold", "ask"), "left of a1");
  host.answer("stock.left", new BusError("payload-too-large", 10n));
  await assert.rejects(host.request("shop.eu.sold", "ask"), { kind: "payload-too-large", limit: 10n, transient: false });

  const outcomes = await host.batch([["shop.eu.sold", "soon"], ["shop.us.sold", '{"count":4}'], ["ron.timer.report"], ["shop.us.sold", "{"]]);
  assert.deepEqual(outcomes.slice(0, 3), [{ retry: "not yet" }, { reply: "sold 4" }, {}]);
  assert.match(outcomes[3].reject, /is not JSON/);
});

test("values that the host could not take are refused by name", () => {
  new TestHost({ config: { n: 5, word: "soon", flag: false, list: [1] } });
  assert.equal(config.number("n"), 5);
  assert.equal(config.boolean("flag"), false);
  assert.deepEqual(config.json("list"), [1]);
  assert.equal(config.number("none"), undefined);
  assert.throws(() => config.number("word"), { message: "config `word`: expected a number, found `soon`" });
  assert.throws(() => bus.publish("a", { a: 1 }), { message: /a payload must be a string or a Uint8Array, not an object/ });
  assert.throws(() => bus.publish("a..b"), { kind: "invalid-topic" });
  assert.throws(() => bus.request("a", ""), { message: "the timeout of a request is a number of milliseconds from 0 on, not undefined" });
  assert.throws(() => timer.after("x", -1), RangeError);
  assert.throws(() => metrics.add("x", 1.5), RangeError);
  assert.throws(() => metrics.add("x", 2n ** 64n), RangeError);
});

test("a counter grows by each u64 exactly", () => {
  for (const delta of [0n, 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n + 1n, 2n ** 64n - 1n]) {
    const host = new TestHost();
    metrics.add("x", delta);
    assert.equal(host.metrics.get("x"), delta);
  }
});

test("a number goes to the host as a part that is exact", async () => {
  const parts = [];
  const { install } = await import(join(sdk, "lib/host.js"));
  install({ metrics: { add: (_, __, part) => parts.push(part) } });
  metrics.add("x", 2n ** 64n - 1n);
  assert.ok(parts.every((part) => BigInt(Number(part)) === part));
});

test("what has no text of its own is JSON", () => {
  const host = new TestHost();
  const circle = { name: "a" };
  circle.self = circle;
  log.info({ a: 1 }, { d: { e: 1, n: 2n }, list: [1, ["x"]], none: null, big: 5n, circle, bare: Object.create(null) });
  log.info("others", { map: new Map(), error: new TypeError("no"), bytes: new Uint8Array([1, 2]), own: { toString: () => "mine" } });
  assert.deepEqual(host.logs, [
    {
      level: "info",
      message: '{"a":1}',
      fields: { d: '{"e":1,"n":"2"}', list: '[1,["x"]]', none: "null", big: "5", circle: "[object Object]", bare: "{}" },
    },
    { level: "info", message: "others", fields: { map: "[object Map]", error: "TypeError: no", bytes: "1,2", own: "mine" } },
  ]);
  assert.equal(new Reject("no", { cause: { a: 1 } }).message, 'no: {"a":1}');
});

test("fields and texts are Unicode whatever they are", () => {
  const host = new TestHost();
  log.info("half \ud800", { "a\udc00": "b\ud800" });
  assert.deepEqual(host.logs[0], { level: "info", message: "half \ufffd", fields: { "a\ufffd": "b\ufffd" } });
});
