// UTF-8. Node and StarlingMonkey have a codec; QuickJS has none, and a loop over 64 KiB
// takes it 7 ms and more. What it has natively is base64 and the escapes of URIs, so
// bytes go by way of those: 0.7 ms for 64 KiB of ASCII, 3 ms where there is more.

const ASCII = /^[\x00-\x7f]*$/;

const native = typeof TextEncoder === "function" && {
  encoder: new TextEncoder(),
  decoder: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }),
};

/// The text as UTF-8. Half a surrogate pair becomes U+FFFD.
export const bytes = native ? (text) => native.encoder.encode(text) : encode;

/// The UTF-8 as text; a `TypeError` where it is none. A byte order mark stays.
export const text = native ? (bytes) => native.decoder.decode(bytes) : decode;

export function encode(text) {
  if (ASCII.test(text)) return Uint8Array.fromBase64(btoa(text));
  return Uint8Array.fromBase64(btoa(unescape(encodeURIComponent(text.toWellFormed()))));
}

export function decode(bytes) {
  const units = atob(bytes.toBase64());
  if (ASCII.test(units)) return units;
  try {
    return decodeURIComponent(escape(units));
  } catch {
    throw new TypeError("the bytes are not UTF-8");
  }
}

/// Where each ill-formed sequence becomes U+FFFD, as the web's decoders have it.
export function decodeLossy(bytes) {
  try {
    return decode(bytes);
  } catch {
    return repair(bytes);
  }
}

function repair(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    if (first < 0x80) {
      text += String.fromCharCode(first);
      continue;
    }
    let more = first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : 0;
    if (more === 0) {
      text += "\ufffd";
      continue;
    }
    // The second byte is bounded so that nothing is overlong, a surrogate or too large.
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    let point = first & (0x3f >> more);
    while (more > 0 && bytes[at] >= low && bytes[at] <= high) {
      point = (point << 6) | (bytes[at++] & 0x3f);
      more--;
      [low, high] = [0x80, 0xbf];
    }
    text += more === 0 ? String.fromCodePoint(point) : "\ufffd";
  }
  return text;
}
