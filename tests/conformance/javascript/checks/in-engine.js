// Checks of the SDK that are about QuickJS. They run when this is built: a component is
// made of what the engine is after it has evaluated this, and of nothing if that throws.

import { format } from "../sdk/lib/console.js";
import { drain, settled } from "../sdk/lib/promise.js";
import { Instance } from "../sdk/lib/service.js";
import { BUNDLE, origin } from "../sdk/lib/stack.js";
import { decodeLossy } from "../sdk/lib/text.js";

function same(found, expected, what) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`);
}

function fails(act, expected) {
  let text = "nothing";
  try {
    act();
  } catch (error) {
    text = String(error);
  }
  same(text, expected, "the error");
}

function codec() {
  const texts = [
    "",
    "plain",
    "\0\x7f",
    "größe",
    "\x80\xff",
    "日本語",
    "🎉 and 🏳️‍🌈",
    "\ufeffmarked",
    "100% %41 \\u0041 +/=",
    "x".repeat(70_000),
    "ö€🎉".repeat(20_000),
  ];
  const [encoder, decoder] = [new TextEncoder(), new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })];
  for (const text of texts) {
    const bytes = encoder.encode(text);
    same([...bytes].slice(0, 100), slowly(text).slice(0, 100), "the bytes");
    same(bytes.length, slowly(text).length, "the length");
    same(decoder.decode(bytes) === text, true, `${text.slice(0, 20)} there and back`);
    const inner = new Uint8Array(bytes.length + 5);
    inner.set(bytes, 3);
    same(decoder.decode(inner.subarray(3, 3 + bytes.length)) === text, true, "in the middle of a buffer");
  }
  same([...encoder.encode("a\ud800b")], [97, 0xef, 0xbf, 0xbd, 98], "half a pair");
  same(new TextDecoder().decode(encoder.encode("\ufeffx")), "x", "a mark");
  same(encoder.encodeInto("aö🎉", new Uint8Array(4)), { read: 2, written: 3 }, "encodeInto");
  for (const bad of [[0xff], [0xc0, 0x80], [0xe2, 0x82], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80]]) {
    fails(() => decoder.decode(new Uint8Array(bad)), "TypeError: the bytes are not UTF-8");
  }
  // As the WHATWG's tests have it: one mark for each longest part that could have begun a character.
  const lossy = (...bytes) => decodeLossy(new Uint8Array(bytes));
  same(lossy(97, 0xff, 98), "a\ufffdb", "one bad byte");
  same(lossy(0xe2, 0x82, 97), "\ufffda", "one cut short");
  same(lossy(0xf0, 0x9f, 0x8e), "\ufffd", "one at the end");
  same(lossy(0xed, 0xa0, 0x80), "\ufffd\ufffd\ufffd", "a surrogate");
  same(lossy(0xc3, 0xb6, 0xff), "ö\ufffd", "a good one before");
}

/** UTF-8 by the book. */
function slowly(text) {
  const bytes = [];
  for (const one of text) {
    const point = one.codePointAt(0);
    if (point < 0x80) bytes.push(point);
    else if (point < 0x800) bytes.push(0xc0 | (point >> 6), 0x80 | (point & 63));
    else if (point < 0x10000) bytes.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
    else bytes.push(0xf0 | (point >> 18), 0x80 | ((point >> 12) & 63), 0x80 | ((point >> 6) & 63), 0x80 | (point & 63));
  }
  return bytes;
}

function promises() {
  const order = [];
  const note = (text) => order.push(text);
  async function work() {
    note("begins");
    await null;
    note("goes on");
    try {
      await Promise.reject(new Error("no"));
    } catch (error) {
      note(error.message);
    } finally {
      note("finally");
    }
    for await (const value of numbers()) note(value);
    return "done";
  }
  async function* numbers() {
    yield 1;
    yield Promise.resolve(2);
  }
  Promise.resolve().then(() => note("a"));
  queueMicrotask(() => note("b"));
  const result = work();
  note("returned");
  same(settled(result, "message"), "done", "what it resolves to");
  same(order, ["begins", "returned", "a", "b", "goes on", "no", "finally", 1, 2], "the order");

  const all = Promise.all([1, Promise.resolve(2), { then: (yes) => yes(3) }]);
  same(settled(all), [1, 2, 3], "all");
  same(settled(Promise.all([])), [], "all of none");
  same(settled(Promise.race([new Promise(() => {}), 2])), 2, "race");
  same(settled(Promise.any([Promise.reject(1), 2])), 2, "any");
  const each = Promise.allSettled([Promise.reject(1), 2]);
  same(settled(each), [{ status: "rejected", reason: 1 }, { status: "fulfilled", value: 2 }], "allSettled");
  same(settled(Promise.try((x) => x + 1, 1)), 2, "try");
  same(settled(Promise.resolve(1).finally(() => 2)), 1, "finally");
  fails(() => settled(Promise.all([Promise.reject(new Error("one"))])), "Error: one");
  fails(() => settled(Promise.any([Promise.reject(1)])), "AggregateError: All promises were rejected");
  fails(
    () => settled(new Promise(() => {}), "message"),
    "Error: message() awaits a promise that nothing can settle: nothing goes on in a service between two calls; use timer.after and bus.request",
  );

  Promise.reject(new Error("nobody asked"));
  fails(drain, "Error: nobody asked");
  const late = Promise.reject(new Error("asked in time"));
  late.catch(() => {});
  drain();
  let long = 0;
  let chain = Promise.resolve();
  for (let i = 0; i < 5000; i++) chain = chain.then(() => long++);
  settled(chain);
  same(long, 5000, "a long chain");
  class Own extends Promise {}
  same(new Own(() => {}).then(() => {}) instanceof Own, true, "what then of a subclass makes");
  same(Object.prototype.toString.call(Promise.resolve()), "[object Promise]", "the tag");
}

function lines() {
  const circular = { name: "a" };
  circular.self = circular;
  same(format(["%s is %d%%", "it", 5, { a: [1n] }]), "it is 5% { a: [ 1n ] }", "a format");
  same(format([circular]), '{ name: "a", self: [circular] }', "a circle");
  same(format([new Map([["k", new Set([1])]])]), 'Map(1) { "k" => Set(1) { 1 } }', "a map");
  same(format([[], {}, null, undefined, -0, () => {}]), "[] {} null undefined -0 [function]", "others");
  same(format([Array.from({ length: 102 }, () => 0)]).endsWith("0, ... 2 more ]"), true, "a long one");
  class Order {
    id = 7;
  }
  same(format([new Order(), new Uint8Array(2)]), "Order { id: 7 } Uint8Array(2) [ 0, 0 ]", "classes");
}

function places() {
  const map = { find: (line, column) => column > 0 && { source: "a.js", line } };
  const method = { async message() {} }.message;
  same(method.fileName.endsWith(BUNDLE), true, "the file of a function");
  same(origin(method, map), `a.js:${method.lineNumber}`, "where a function begins");
  same(method.lineNumber > 1, true, "the line");
  same(origin(Math.max, map), undefined, "where one of the engine's begins");
}

/** What is told of names needs the text of functions, which an engine may not keep. */
function names() {
  const make = (service) => new Instance(service, ["service"]);
  fails(
    () => make(class { mesage() {} }),
    "TypeError: the service has a method mesage(), which is never called: did you mean message()?",
  );
  make(class { message() { this.saves(); } saves() {} });
  make(class { message = async () => {}; });
}

codec();
promises();
lines();
places();
names();

export default { message() {} };
