// Where in the author's files an error happened.
//
// The engine knows the one file that the build has bundled. The build appends that
// file's source map, and a stack is translated when somebody is to read it.

import { shown } from "./shown.js";

/// What the bundle is called in stacks.
export const BUNDLE = "service.bundle.js";
/// Where the bundle keeps its source map.
export const MAP = Symbol.for("ron.source-map");

const QUICKJS = /^\s*at (?:(.*?) ?\()?(.*?)(?::(\d+)(?::(\d+))?)?\)?$/;
const STARLING = /^(.*?)@(.*?):(\d+):(\d+)$/;
const PLACE = new RegExp(`/?${BUNDLE.replaceAll(".", "\\.")}:(\\d+)(?::(\\d+))?`, "g");

/// A source map of version 3. A source `null` is not the author's: the SDK, or what
/// esbuild adds.
export class SourceMap {
  #sources;
  #mappings;
  #lines;

  constructor({ sources, mappings }) {
    this.#sources = sources;
    this.#mappings = mappings;
  }

  /// The place of a place of the bundle, both from line 1 and column 1.
  find(line, column = 1) {
    this.#lines ??= decode(this.#mappings);
    let found;
    for (const segment of this.#lines[line - 1] ?? []) {
      // A call that begins a line may be left of its first mapping.
      if (segment[0] > column - 1 && found !== undefined) break;
      found = segment;
    }
    const source = found && this.#sources[found[1]];
    return source ? { source, line: found[2] + 1, column: found[3] + 1 } : undefined;
  }
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Lines of segments: column of the bundle, source, line and column there, all from 0.
function decode(mappings) {
  let [source, line, column] = [0, 0, 0];
  return mappings.split(";").map((text) => {
    let at = 0;
    const segments = [];
    for (const segment of text === "" ? [] : text.split(",")) {
      const fields = numbers(segment);
      at += fields[0];
      if (fields.length < 4) continue;
      source += fields[1];
      line += fields[2];
      column += fields[3];
      segments.push([at, source, line, column]);
    }
    return segments;
  });
}

function numbers(segment) {
  const all = [];
  let [value, shift] = [0, 0];
  for (const digit of segment) {
    const bits = DIGITS.indexOf(digit);
    value |= (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    all.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return all;
}

let map;

/// The bundle's own, which is decoded when it is first wanted.
function own() {
  if (globalThis[MAP]) map ??= new SourceMap(globalThis[MAP]);
  return map;
}

/// The frames of an error in the author's files, and those of its dependencies, the
/// innermost first: `{ name, source, line, column }`.
export function frames(error, known = own()) {
  const all = [];
  for (const text of String(error?.stack ?? "").split("\n")) {
    const [, name, file, line, column] = QUICKJS.exec(text) ?? STARLING.exec(text) ?? [];
    if (!file?.endsWith(BUNDLE) || line === undefined) continue;
    const place = known?.find(Number(line), Number(column ?? 1));
    if (place) all.push({ name: name ?? "", ...place });
  }
  return all;
}

/// The innermost place in the author's own files: `src/service.js:12`.
export function location(error) {
  const all = frames(error);
  const own = all.find(({ source }) => !source.includes("node_modules/")) ?? all[0];
  return own && `${own.source}:${own.line}`;
}

/// Where a function of the author's begins, which QuickJS knows.
export function origin(method, known = own()) {
  const { fileName, lineNumber, columnNumber } = method ?? {};
  if (!String(fileName).endsWith(BUNDLE)) return undefined;
  const place = known?.find(lineNumber, columnNumber);
  return place && `${place.source}:${place.line}`;
}

/// An error with its stack and its causes, as lines for people.
export function describe(error, depth = 0) {
  if (!(error instanceof Error)) return `${depth ? "" : "thrown: "}${shown(error)}`;
  const lines = [headline(error)];
  for (const { name, source, line, column } of frames(error)) {
    const place = `${source}:${line}:${column}`;
    lines.push(name && name !== "<anonymous>" ? `    at ${name} (${place})` : `    at ${place}`);
  }
  if (error instanceof AggregateError && depth < 8) {
    for (const one of error.errors) lines.push(`of: ${describe(one, depth + 1)}`);
  }
  if (error.cause !== undefined && depth < 8) lines.push(`caused by: ${describe(error.cause, depth + 1)}`);
  return lines.join("\n");
}

export const headline = (error) => (error.message ? `${error.name}: ${error.message}` : String(error.name));

/// A text in which stacks of the bundle may stand, such as `error.stack`, with the
/// author's places in their stead, and without the frames of others.
export function translate(text, known = own()) {
  if (!text.includes(BUNDLE)) return text;
  const lines = [];
  for (const line of text.split("\n")) {
    let strange = false;
    const translated = line.replace(PLACE, (whole, line, column) => {
      const place = known?.find(Number(line), Number(column ?? 1));
      strange = known !== undefined && place === undefined;
      return place ? `${place.source}:${place.line}:${place.column}` : whole;
    });
    if (!strange) lines.push(translated);
  }
  return lines.join("\n");
}
