/**
 * A host for unit tests, which run in Node and without Wasm.
 *
 * ```js
 * const host = new TestHost({ config: { greeting: "Good morning" } });
 * await host.start(Greeter);
 * assert.equal(await host.request("greeter.hello", "Ada"), "Good morning, Ada!");
 * ```
 */

import type { BusError, Event, Failure, Payload, Service } from "ron";

/** What a test says of the instance that it makes. */
export interface TestOptions {
  /** The name of the service; `test` unless it is said. */
  service?: string;
  generation?: bigint;
  replica?: number;
  /** `[service.NAME.config]`: a string as it stands, any other value as its JSON. */
  config?: Record<string, unknown>;
}

/** What a test says of a message besides its topic and payload. */
export interface MessageOptions {
  /** 1 unless it is said. */
  attempt?: number;
  /** `test` unless it is said. */
  source?: string;
  /** Whether the publisher waits for an answer. */
  wantsReply?: boolean;
}

/** Something that the service published or asked for. */
export interface Sent {
  readonly topic: string;
  readonly payload: Uint8Array;
  /** The payload as text. */
  readonly text: string;
}

/** What became of one message of a batch; nothing of one that was handled and not answered. */
export interface Outcome {
  reply?: string;
  retry?: string;
  reject?: string;
}

/** What an other service answers; an error is what the service that asks gets. */
export type Answer = Payload | Failure | BusError | ((message: Sent) => Payload);

/**
 * The host as one service sees it. The newest one made is the one in force.
 *
 * Limits, grants and deadlines are not looked at, and nothing is delivered by itself: the
 * test does it, and awaits it. What a handler throws, the test gets.
 */
export class TestHost {
  constructor(options?: TestOptions);

  /** Makes an instance of the service, and starts it. Throws what the build would say of it. */
  start(service: Service | (new () => Service)): Promise<void>;
  /** Delivers a message whose publisher waits. Resolves to the answer as text, `undefined` for none. */
  request(topic: string, payload?: Payload, options?: MessageOptions): Promise<string | undefined>;
  /** As `request`, with the bytes of the answer. */
  requestBytes(topic: string, payload?: Payload, options?: MessageOptions): Promise<Uint8Array | undefined>;
  /** Delivers a message whose publisher does not wait. */
  publish(topic: string, payload?: Payload, options?: MessageOptions): Promise<void>;
  /** Delivers messages as one batch. Resolves to what became of each. */
  batch(messages: [topic: string, payload?: Payload, options?: MessageOptions][]): Promise<Outcome[]>;
  /** Has a timer that the service set fire, whatever its time. */
  fire(timer: string): Promise<void>;
  /** Puts another configuration in force, and tells the service. */
  configure(config: Record<string, unknown>): Promise<void>;
  /** Tells the service of an event. */
  event(event: Event): Promise<void>;
  /** Stops the service. */
  stop(): Promise<void>;
  /** Hands the state over to a new instance: of the same service, or of its next version. */
  swap(service?: Service | (new () => Service)): Promise<void>;
  /** Says what `bus.request` gets for topics that match. The newest that matches counts. */
  answer(filter: string, reply: Answer): void;

  /** What the service published and asked for, the oldest first. */
  published: Sent[];
  /** What the service logged, `console` not included: that is Node's own. */
  logs: { level: string; message: string; fields: Record<string, string> }[];
  /**
   * Counters as BigInts, gauges as numbers, histograms as arrays of what was observed; by
   * `name` or `name{label="value"}`, with labels in the order of their names.
   */
  metrics: Map<string, bigint | number | number[]>;
  /** What the service subscribes to. */
  subscriptions: Set<string>;
  /** The timers that are set, times in milliseconds. */
  timers: Map<string, { ms: number; repeats: boolean }>;
  /** What the service said of itself last. */
  health: { status: "ok" | "degraded" | "failing"; detail: string | undefined };
}
