// The module `ron/testing`: a host for unit tests, which run without Wasm.
// `testing.d.ts` documents it.

import { install } from "./lib/host.js";
import { Instance } from "./lib/service.js";
import { failure } from "./lib/errors.js";
import { bytes, text } from "./lib/text.js";
import { payload } from "./lib/values.js";

/// As a component has it: the engine throws errors of the contract so.
const refuse = (tag, val) => Object.assign(new Error(tag), { payload: { tag, val } });

const WORLDS = ["service", "stateful-service", "bulk-service"];

export class TestHost {
  published = [];
  logs = [];
  metrics = new Map();
  subscriptions = new Set();
  timers = new Map();
  health = { status: "ok", detail: undefined };

  #config;
  #version = 1n;
  #identity;
  #answers = [];
  #definition;
  #instance;
  #nextId = 1;

  constructor({ service = "test", generation = 1n, replica = 0, config = {} } = {}) {
    this.#identity = { service, generation: BigInt(generation), replica };
    this.#config = values(config);
    install(this.#interfaces());
  }

  async start(service) {
    this.#definition = service;
    this.#instance = await this.#started();
  }

  async request(topic, body = "", options = {}) {
    const reply = await this.#instance.message(this.#message(topic, body, { wantsReply: true, ...options }));
    return reply === undefined ? undefined : text(reply);
  }

  async requestBytes(topic, body = "", options = {}) {
    return await this.#instance.message(this.#message(topic, body, { wantsReply: true, ...options }));
  }

  async publish(topic, body = "", options = {}) {
    await this.#instance.message(this.#message(topic, body, options));
  }

  async batch(messages) {
    const names = [];
    const name = (text) => (names.includes(text) ? names.indexOf(text) : names.push(text) - 1);
    const raw = messages.map(([topic, body = "", options = {}]) => this.#message(topic, body, options));
    let offset = 0;
    const entries = raw.map(({ id, topic, source, payload, attempt, wantsReply }) => {
      const entry = { id, topic: name(topic), source: name(source), offset, length: payload.length, attempt, wantsReply };
      offset += payload.length;
      return entry;
    });
    const payloads = new Uint8Array(offset);
    raw.forEach(({ payload }, index) => payloads.set(payload, entries[index].offset));
    const results = await this.#instance.batch({ names, entries, payloads });
    const outcomes = raw.map(() => ({}));
    for (const [index, { tag, val }] of results) {
      outcomes[index] = tag === "reply" ? { reply: text(val) } : { [val.tag]: val.val };
    }
    return outcomes;
  }

  async fire(name) {
    const timer = this.timers.get(name);
    if (timer === undefined) throw new Error(`no timer ${name} is set: ${[...this.timers.keys()].join(", ") || "none is"}`);
    if (!timer.repeats) this.timers.delete(name);
    await this.#instance.message(this.#message(`ron.timer.${name}`, "", { source: "host" }));
  }

  async configure(config) {
    this.#config = values(config);
    this.#version++;
    await this.event({ kind: "config-updated", version: this.#version });
  }

  async event(event) {
    const { kind, version, ...rest } = event;
    await this.#instance.event({ tag: kind, val: kind === "config-updated" ? (version ?? this.#version) : rest });
  }

  async stop() {
    await this.#instance.stop();
  }

  async swap(service = this.#definition) {
    const state = await this.#instance.save();
    this.subscriptions.clear();
    this.timers.clear();
    this.#definition = service;
    this.#identity.generation++;
    const next = await this.#started();
    await next.restore(state);
    this.#instance = next;
  }

  answer(filter, reply) {
    this.#answers.unshift({ filter, reply });
  }

  async #started() {
    const definition = this.#definition;
    const methods = typeof definition === "function" ? definition.prototype : definition;
    const has = (method) => typeof methods?.[method] === "function";
    const worlds = WORLDS.filter((world) => ({ "stateful-service": has("save"), "bulk-service": has("batch") })[world] ?? true);
    const instance = new Instance(definition, worlds);
    await instance.start();
    return instance;
  }

  #message(topic, body, { attempt = 1, source = "test", wantsReply = false }) {
    return { id: this.#nextId++, topic, payload: payload(body, "a payload").slice(), source, attempt, wantsReply };
  }

  #interfaces() {
    const count = (name, labels, change) => {
      const key = series(name, Object.fromEntries(labels));
      this.metrics.set(key, change(this.metrics.get(key)));
    };
    return {
      bus: {
        publish: (topic, payload) => {
          valid(topic, false);
          this.published.push(sent(topic, payload));
          return [...this.subscriptions].some((filter) => matches(filter, topic)) ? 1 : 0;
        },
        request: (topic, payload) => {
          valid(topic, false);
          this.published.push(sent(topic, payload));
          const known = this.#answers.find(({ filter }) => matches(filter, topic));
          if (known === undefined) throw refuse("no-responder");
          return answered(known.reply, sent(topic, payload));
        },
        subscribe: (filter) => {
          valid(filter, true);
          this.subscriptions.add(filter);
        },
        unsubscribe: (filter) => {
          valid(filter, true);
          this.subscriptions.delete(filter);
        },
      },
      config: {
        get: (key) => this.#config.get(key) ?? null,
        entries: () => [...this.#config],
        version: () => this.#version,
      },
      health: {
        report: (status, detail) => {
          this.health = { status, detail: detail ?? undefined };
        },
      },
      identity: { get: () => ({ ...this.#identity }) },
      log: {
        write: (level, message, fields) => {
          this.logs.push({ level, message, fields: Object.fromEntries(fields) });
        },
      },
      metrics: {
        add: (name, labels, delta) => count(name, labels, (before = 0n) => before + delta),
        set: (name, labels, value) => count(name, labels, () => value),
        observe: (name, labels, value) => count(name, labels, (before = []) => [...before, value]),
      },
      timer: {
        after: (name, ms) => void this.timers.set(name, { ms, repeats: false }),
        every: (name, ms) => void this.timers.set(name, { ms, repeats: true }),
        cancel: (name) => void this.timers.delete(name),
      },
    };
  }
}

/// What a series is called in `TestHost.metrics`: `orders_total{region="eu"}`.
function series(name, labels) {
  const pairs = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? name : `${name}{${pairs.map(([key, value]) => `${key}="${value}"`).join(",")}}`;
}

const sent = (topic, payload) => ({
  topic,
  payload,
  get text() {
    return text(payload);
  },
});

/// As a component sees it: a string as it stands, anything else as its JSON.
const values = (config) =>
  new Map(Object.entries(config).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]));

function answered(reply, message) {
  try {
    const value = typeof reply === "function" ? reply(message) : reply;
    if (value instanceof Error) throw value;
    return payload(value, "an answer").slice();
  } catch (error) {
    if (error?.kind !== undefined) throw refuse(error.kind, error.limit ?? error.detail);
    if (failure(error) !== undefined) throw refuse("failed", error.message);
    throw error;
  }
}

function valid(text, filter) {
  const tokens = text.split(".");
  const wild = (token, at) => filter && (token === "*" || (token === ">" && at === tokens.length - 1));
  const wrong = tokens.findIndex((token, at) => !/^[\w-]+$/.test(token) && !wild(token, at));
  if (wrong >= 0) throw refuse("invalid-topic", `token ${wrong + 1} of ${JSON.stringify(text)}`);
  if (tokens.length > 16 || bytes(text).length > 255) throw refuse("invalid-topic", `${JSON.stringify(text)} is too long`);
}

function matches(filter, topic) {
  const [wanted, tokens] = [filter.split("."), topic.split(".")];
  for (let at = 0; at < wanted.length; at++) {
    if (wanted[at] === ">") return tokens.length > at;
    if (wanted[at] !== "*" && wanted[at] !== tokens[at]) return false;
    if (tokens[at] === undefined) return false;
  }
  return wanted.length === tokens.length;
}
