import { Reject } from "./errors.js";
import { text } from "./text.js";

const TIMER = "ron.timer.";

export class Message {
  #id;

  constructor(id, topic, payload, source, attempt, wantsReply) {
    this.#id = id;
    this.topic = topic;
    this.payload = payload;
    this.source = source;
    this.attempt = attempt;
    this.wantsReply = wantsReply;
  }

  get id() {
    return BigInt(this.#id);
  }

  get text() {
    try {
      return text(this.payload);
    } catch {
      throw new Reject(`the payload of ${this.topic} is not UTF-8`);
    }
  }

  get json() {
    const text = this.text;
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Reject(`the payload of ${this.topic} is not JSON`, { cause: error });
    }
  }

  get timer() {
    return this.topic.startsWith(TIMER) ? this.topic.slice(TIMER.length) : undefined;
  }
}

/// One that the contract brought.
export const message = ({ id, topic, payload, source, attempt, wantsReply }) =>
  new Message(id, topic, payload, source, attempt, wantsReply);
