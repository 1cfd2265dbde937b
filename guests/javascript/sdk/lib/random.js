// Random numbers that differ from instance to instance.
//
// QuickJS seeds `Math.random` when it starts, which is when the component is built: all
// instances would draw the same numbers, after each restart again.

import { present } from "./host.js";

/// As many bytes as the web's function gives at once.
const MOST = 65536;

/// `draw` gives that many random bytes of the host's.
export function random(draw) {
  const atBuild = Math.random;
  let state;

  // sfc32: enough for what `Math.random` is for, and quick.
  const next = () => {
    let [a, b, c, count] = state;
    const sum = (a + b + count) | 0;
    state = [b ^ (b >>> 9), (c + (c << 3)) | 0, (((c << 21) | (c >>> 11)) + sum) | 0, (count + 1) | 0];
    return sum >>> 0;
  };

  function mathRandom() {
    if (!present()) return atBuild();
    if (state === undefined) {
      state = Array.from(new Int32Array(draw(16).slice().buffer));
      for (let i = 0; i < 12; i++) next();
    }
    return (next() * 2 ** 21 + (next() >>> 11)) / 2 ** 53;
  }

  function bytes(count) {
    if (present()) return draw(count);
    throw new Error(
      "random bytes that are drawn while the module is loaded, which the build does, would be the same in each instance: draw them from start() on",
    );
  }

  const crypto = {
    getRandomValues(array) {
      const whole = ArrayBuffer.isView(array) && !(array instanceof DataView) && !/Float/.test(array.constructor.name);
      if (!whole) throw new TypeError("getRandomValues fills an array of integers");
      if (array.byteLength > MOST) throw new RangeError(`getRandomValues fills ${MOST} bytes at most`);
      new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(bytes(array.byteLength));
      return array;
    },

    randomUUID() {
      const drawn = bytes(16).slice();
      drawn[6] = (drawn[6] & 0x0f) | 0x40;
      drawn[8] = (drawn[8] & 0x3f) | 0x80;
      return drawn.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
  };

  return { mathRandom, crypto };
}
