// A value as a text that says what it is.

/// An object that has no text of its own is JSON, and so is a list; anything else is what
/// `String` makes of it.
export function shown(value) {
  try {
    return (isData(value) && json(value)) || String(value);
  } catch {
    // One without a prototype has not even that.
    return plain.call(value);
  }
}

const plain = Object.prototype.toString;

const isData = (value) =>
  Array.isArray(value) ||
  (typeof value === "object" &&
    value !== null &&
    plain.call(value) === "[object Object]" &&
    (value.toString ?? plain) === plain);

/// `undefined` for what is not JSON, such as a circle.
function json(value) {
  try {
    return JSON.stringify(value, (_, one) => (typeof one === "bigint" ? String(one) : one));
  } catch {
    return undefined;
  }
}
