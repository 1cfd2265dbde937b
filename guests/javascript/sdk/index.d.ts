/**
 * Write a service for ron-host: a class with a method for what the host calls.
 *
 * ```js
 * import { bus } from "ron";
 *
 * export default class Greeter {
 *   start() {
 *     bus.subscribe("greeter.hello");
 *   }
 *
 *   message(message) {
 *     return `Hello, ${message.text}!`;
 *   }
 * }
 * ```
 *
 * The host calls a service once at a time, so there is nothing to lock. What a handler
 * does decides what becomes of its message: it returns, and the message is settled; it
 * throws a `Retry`, and the message is delivered again; it throws a `Reject`, and the
 * message goes to the service's dead letters. Anything else that is thrown ends the
 * instance: the host reads why in the log, starts a new instance and delivers the message
 * again. All methods may be async.
 */

/** Text, which goes out as UTF-8, or bytes. */
export type Payload = string | Uint8Array;

/** An answer; nothing means that this service does not answer. */
export type Reply = Payload | void | undefined | null;

/** What the author of a service writes. The module exports it as its default: a class, or an object. */
export interface Service {
  /**
   * Called once in each new instance, before any message: subscribe and set timers here.
   * Where it throws, the instance is discarded and the restart policy decides.
   */
  start?(): void | Promise<void>;
  /** Handles a message that a subscription or a timer brought. */
  message?(message: Message): Reply | Promise<Reply>;
  /** Hears what the kernel announced. Lossy: a service that falls behind misses the oldest events. */
  event?(event: Event): void | Promise<void>;
  /** The last call: finish within the stop deadline. Not called after a crash. */
  stop?(): void | Promise<void>;
}

/** State that outlives a hot swap. The build names `--world stateful-service`. */
export interface Handover extends Service {
  /** The author's own number for the layout of the state, a u32. Raise it when the layout changes. */
  readonly schema: number;
  /** Returns the state, at most 1 MiB unless configuration says more. Called when the last message is done. */
  save(): Payload | Promise<Payload>;
  /** Takes over a state, after `start` and before any message. Where it throws, the old instance stays. */
  restore(schema: number, bytes: Uint8Array): void | Promise<void>;
}

/** Messages by the batch, for very many small ones. The build names `--world bulk-service`. */
export interface Bulk extends Service {
  /** Handles the messages in order: `return batch.each((message) => this.message(message))`. */
  batch(batch: Batch): Outcomes | Promise<Outcomes>;
}

/** One message taken from this service's mailbox. */
export class Message {
  private constructor();
  /** Unique in this host for as long as it runs; the same on redelivery. */
  readonly id: bigint;
  readonly topic: string;
  /** What was published. */
  readonly payload: Uint8Array;
  /** The service that published it, or the host's own name for a bridge. */
  readonly source: string;
  /** 1 on first delivery, then 2, 3, ... */
  readonly attempt: number;
  /** Whether the publisher waits for an answer. */
  readonly wantsReply: boolean;
  /** The payload as text. Where it is not UTF-8, this throws a `Reject`. */
  readonly text: string;
  /** What the payload is the JSON of, read anew at each use. Where it is none, this throws a `Reject`. */
  readonly json: any;
  /** The name of the timer that brought this, `undefined` for any other message. */
  readonly timer: string | undefined;
}

/** Several messages, in the order of the mailbox. Never empty. */
export interface Batch extends Iterable<Message> {
  readonly length: number;
  /** Handles each message as `message` handles one. A `Retry`, a `Reject` or a `BusError` settles its own message alone. */
  each(handle: (message: Message) => Reply): Outcomes;
  each(handle: (message: Message) => Promise<Reply>): Promise<Outcomes>;
  each(handle: (message: Message) => Reply | Promise<Reply>): Outcomes | Promise<Outcomes>;
}

/** What became of the messages of a batch. One that is not mentioned was handled and is not answered. */
export type Outcomes = Map<Message, Reply | Failure | BusError>;

/** Something that the kernel announced to every service. */
export type Event =
  | { kind: "health"; service: string; ok: boolean }
  /** New values are in force. */
  | { kind: "config-updated"; version: bigint }
  | { kind: "service-crashed"; service: string; reason: CrashReason }
  /** The host is about to stop every service. */
  | { kind: "shutdown" };

/** Why a service stopped running. */
export interface CrashReason {
  /** A stable, machine-readable name: `panic`, `deadline`, `memory-limit`, ... New ones may appear. */
  label: string;
  /** What a person should read. */
  message: string;
}

/** `Retry` or `Reject`. The causes of the error are told behind its text. */
export type Failure = Retry | Reject;

/** Throw it, and the message is delivered again, up to the service's `max_deliveries`. */
export class Retry extends Error {
  constructor(text: string, options?: ErrorOptions);
}

/** Throw it, and the message goes to the dead letters; a publisher that waits is told the text. */
export class Reject extends Error {
  constructor(text: string, options?: ErrorOptions);
}

/** A value of the configuration that is not what the service expects. Rejects the message where it escapes. */
export class ConfigError extends Reject {
  private constructor();
  readonly key: string;
}

/**
 * Why the bus refused a call.
 *
 * - `denied`: configuration grants this service no such topic
 * - `invalid-topic`: not a topic, or not a filter; `detail` says which rule it breaks
 * - `payload-too-large`: `limit` is what a payload may have
 * - `overloaded`: a mailbox that rejects on overflow was full, or this service publishes too fast
 * - `timeout`: no answer came in time
 * - `no-responder`: nobody subscribes to the topic of a request, or nobody who does answers
 * - `failed`: the service that was asked failed; `detail` is what it said
 * - `other`: something that this SDK has no name for
 *
 * Where it escapes from a handler, the message is delivered again if the error passes with
 * time, and rejected otherwise.
 */
export class BusError extends Error {
  constructor(kind: BusError["kind"], value?: string | bigint);
  readonly kind:
    | "denied"
    | "invalid-topic"
    | "payload-too-large"
    | "overloaded"
    | "timeout"
    | "no-responder"
    | "failed"
    | "other";
  /** The host's own words, where it has any. */
  readonly detail?: string;
  /** Bytes. */
  readonly limit?: bigint;
  /** Whether the same call may succeed later: `overloaded`, `timeout`, `no-responder`. */
  readonly transient: boolean;
}

/**
 * Messages between services. A topic is dot-separated tokens of `A-Z a-z 0-9 _ -`; a filter
 * may have `*` for one token and `>` for all that follow. All throw a `BusError`.
 */
export namespace bus {
  /** Publishes to every subscribed service. Returns how many mailboxes took the message. Never blocks. */
  function publish(topic: string, payload?: Payload): number;
  /**
   * Publishes, and waits up to `timeoutMs` milliseconds for the first answer: the whole
   * service waits, and the wait counts towards its handler deadline.
   */
  function request(topic: string, payload: Payload, timeoutMs: number): Uint8Array;
  /** Has matching messages delivered. Repeating a filter changes nothing. After a hot swap only those of `start` remain. */
  function subscribe(filter: string): void;
  /** Ends a subscription. One that does not exist is no error. */
  function unsubscribe(filter: string): void;
}

/** This service's own table of the configuration, `[service.NAME.config]`, always its newest values. */
export namespace config {
  /** A string as it stands, any other TOML value as its JSON; `undefined` where there is none. */
  function get(key: string): string | undefined;
  /** The value as a number. Throws a `ConfigError` where it is none. */
  function number(key: string): number | undefined;
  /** The value as true or false. Throws a `ConfigError` where it is neither. */
  function boolean(key: string): boolean | undefined;
  /** What the value is the JSON of: an array, a table. Throws a `ConfigError` where it is none. */
  function json(key: string): any;
  /** All keys and their values. */
  function entries(): [key: string, value: string][];
  /** Grows by at least one with each applied change. */
  function version(): bigint;
}

/** What this service says of itself. The host adds what it sees. */
export namespace health {
  /** All is well. A service that says nothing is taken to be. */
  function ok(detail?: string): void;
  /** Works, with less than usual: ready, and shown as degraded. */
  function degraded(detail?: string): void;
  /** Cannot do its work: not ready. The service is not restarted for it. */
  function failing(detail?: string): void;
}

/** Who this instance is. */
export namespace identity {
  interface Instance {
    /** The service's name in the configuration. */
    service: string;
    /** Grows with each restart and each hot swap of the service. */
    generation: bigint;
    /** Which of the service's replicas, from 0. */
    replica: number;
  }
  /** It never changes while the instance lives. */
  function get(): Instance;
}

/** Records of the host's log, with fields. `console` goes there too. All levels are sent: the host filters. */
export namespace log {
  /** An object or a list is told as JSON. */
  type Fields = Record<string, unknown>;
  function trace(message: string, fields?: Fields): void;
  function debug(message: string, fields?: Fields): void;
  function info(message: string, fields?: Fields): void;
  function warn(message: string, fields?: Fields): void;
  function error(message: string, fields?: Fields): void;
}

/** This service's own metrics, exposed by the host at `/metrics`. Names follow Prometheus. */
export namespace metrics {
  type Labels = Record<string, string | number | boolean>;
  /** Adds to a counter: a whole number from 0 on, 1 unless it is said; a BigInt past 2 ** 53. */
  function add(name: string, delta?: number | bigint, labels?: Labels): void;
  /** Sets a gauge. */
  function set(name: string, value: number, labels?: Labels): void;
  /** Observes a value in a histogram; seconds for times. */
  function observe(name: string, value: number, labels?: Labels): void;
}

/**
 * Timers that wake an idle service: one that fires is a message without payload, whose
 * `timer` is the name. They end with the instance that set them, so set them in `start`.
 * Times are milliseconds, rounded up to whole ones. A name is one token of a topic.
 */
export namespace timer {
  /** Fires once. One set again under its name replaces the earlier one. Throws a `BusError`. */
  function after(name: string, delayMs: number): void;
  /** Fires each period. A tick that finds its predecessor still queued is dropped. Throws a `BusError`. */
  function every(name: string, periodMs: number): void;
  /** Ends a timer. One that does not exist is no error. */
  function cancel(name: string): void;
}

/** Text as UTF-8. */
export function bytes(text: string): Uint8Array;

/** UTF-8 as text. Throws a `TypeError` where it is none. */
export function text(bytes: Uint8Array): string;
