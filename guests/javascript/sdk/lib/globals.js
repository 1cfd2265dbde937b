// What QuickJS lacks, and the author of a service expects. Imported before the author's
// modules, which may use it while they are loaded. StarlingMonkey has all of it.

import { getRandomBytes } from "wasi:random/random@0.2.0";

import { console } from "./console.js";
import { Promise, queueMicrotask } from "./promise.js";
import { random } from "./random.js";
import { decodeLossy, encode, text } from "./text.js";

export const quickjs = "__cqjs" in globalThis;

class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return encode(String(text));
  }

  encodeInto(text, target) {
    let [read, written] = [0, 0];
    for (const point of String(text)) {
      const bytes = encode(point);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      read += point.length;
      written += bytes.length;
    }
    return { read, written };
  }
}

class TextDecoder {
  #fatal;
  #keepMark;

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!/^\s*(unicode-1-1-)?utf-?8\s*$/i.test(label)) {
      throw new RangeError(`there is no decoder for ${label}: only for utf-8`);
    }
    this.#fatal = Boolean(fatal);
    this.#keepMark = Boolean(ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#keepMark;
  }

  decode(input = new Uint8Array(), { stream = false } = {}) {
    if (stream) throw new TypeError("this decoder takes the whole input at once: it has no stream");
    const bytes = ArrayBuffer.isView(input)
      ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength)
      : new Uint8Array(input);
    const decoded = this.#fatal ? text(bytes) : decodeLossy(bytes);
    return !this.#keepMark && decoded.startsWith("\ufeff") ? decoded.slice(1) : decoded;
  }
}

// A stack of ten frames is used up by libraries before it reaches the author's file.
Error.stackTraceLimit = 32;

define("console", console);
if (quickjs) {
  const { mathRandom, crypto } = random(getRandomBytes);
  define("Promise", Promise);
  define("queueMicrotask", queueMicrotask);
  define("TextEncoder", TextEncoder);
  define("TextDecoder", TextDecoder);
  define("crypto", crypto);
  Object.defineProperty(Math, "random", { value: mathRandom, writable: true, configurable: true });
}

function define(name, value) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
