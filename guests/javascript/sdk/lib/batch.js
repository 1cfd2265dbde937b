import { Message } from "./message.js";
import { failure } from "./errors.js";
import { isPromise, payload } from "./values.js";

export class Batch {
  #messages;

  constructor({ names, entries, payloads }) {
    this.#messages = entries.map(
      ({ id, topic, source, offset, length, attempt, wantsReply }) =>
        new Message(id, names[topic], payloads.subarray(offset, offset + length), names[source], attempt, wantsReply),
    );
  }

  get length() {
    return this.#messages.length;
  }

  [Symbol.iterator]() {
    return this.#messages.values();
  }

  each(handle) {
    const outcomes = new Map();
    const settle = (message, run) => {
      try {
        const reply = run();
        if (reply !== undefined && reply !== null) outcomes.set(message, reply);
      } catch (error) {
        if (failure(error) === undefined) throw error;
        outcomes.set(message, error);
      }
    };
    // One message after the other, also where the handler is async.
    const from = (at) => {
      for (; at < this.#messages.length; at++) {
        const message = this.#messages[at];
        let reply;
        settle(message, () => {
          reply = handle(message);
          return isPromise(reply) ? undefined : reply;
        });
        if (!isPromise(reply)) continue;
        return reply.then(
          (reply) => {
            settle(message, () => reply);
            return from(at + 1);
          },
          (error) => {
            settle(message, () => {
              throw error;
            });
            return from(at + 1);
          },
        );
      }
      return outcomes;
    };
    return from(0);
  }

  /// What the contract wants to hear of a batch: what is not simply handled.
  results(outcomes) {
    if (outcomes === undefined || outcomes === null) return [];
    if (!(outcomes instanceof Map)) {
      throw new TypeError("batch() must return what batch.each() does: a Map of messages and what became of them");
    }
    const results = [];
    for (const [message, outcome] of outcomes) {
      const index = this.#messages.indexOf(message);
      if (index < 0) throw new TypeError("batch() returned a message that is not of the batch");
      if (outcome === undefined || outcome === null) continue;
      const failed = failure(outcome);
      const result = failed ? { tag: "failed", val: failed } : { tag: "reply", val: payload(outcome, "a reply") };
      results.push([index, result]);
    }
    return results;
  }
}
