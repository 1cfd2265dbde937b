// Promises whose jobs the SDK runs.
//
// QuickJS has promises, but in a component nobody runs their jobs: what stands after an
// `await` would never be reached. So a service gets promises of its own, and esbuild
// makes async functions into generators that use them. `drain` runs all jobs before the
// call of the host returns. Nothing settles a promise between two calls: there is no
// timer, socket or file that would.

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

let jobs = [];
/// Rejected, and nobody has asked yet.
const unhandled = new Set();

/// Runs every job, those that come up meanwhile too. What a job throws that belongs to
/// no promise goes to the caller, as does the reason of a rejection that nobody handles.
export function drain() {
  for (let at = 0; at < jobs.length; at++) {
    // What is done need not be kept while a long chain goes on.
    if (at === 1024) {
      jobs.splice(0, at);
      at = 0;
    }
    jobs[at]();
  }
  jobs = [];
  for (const promise of unhandled) {
    unhandled.clear();
    throw look(promise).result;
  }
}

/// What the promise that a method returned was fulfilled with; throws what it was rejected
/// with.
export function settled(value, method) {
  const promise = SdkPromise.resolve(value);
  promise.then(ignore, ignore);
  drain();
  const { state, result } = look(promise);
  if (state === REJECTED) throw result;
  if (state === PENDING) {
    throw new Error(
      `${method}() awaits a promise that nothing can settle: nothing goes on in a service between two calls; use timer.after and bus.request`,
    );
  }
  return result;
}

const ignore = () => {};

export function queueMicrotask(job) {
  if (typeof job !== "function") throw new TypeError("a microtask is a function");
  jobs.push(() => job());
}

/// Into a promise, for this module alone.
let settle, look;

class SdkPromise {
  #state = PENDING;
  #result = undefined;
  #waiting = [];

  static {
    look = (promise) => ({ state: promise.#state, result: promise.#result });
    settle = (promise, state, result) => {
      const waiting = promise.#waiting;
      promise.#state = state;
      promise.#result = result;
      promise.#waiting = [];
      if (state === REJECTED && waiting.length === 0) unhandled.add(promise);
      jobs.push(...waiting);
    };
  }

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("a promise takes a function");
    const { resolve, reject } = resolvers(this);
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  then(onFulfilled, onRejected) {
    const next = capability(this.constructor?.[Symbol.species] ?? SdkPromise);
    const job = () => {
      const fulfilled = this.#state === FULFILLED;
      const act = fulfilled ? onFulfilled : onRejected;
      try {
        if (typeof act === "function") next.resolve(act(this.#result));
        else if (fulfilled) next.resolve(this.#result);
        else next.reject(this.#result);
      } catch (error) {
        next.reject(error);
      }
    };
    unhandled.delete(this);
    if (this.#state === PENDING) this.#waiting.push(job);
    else jobs.push(job);
    return next.promise;
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(act) {
    if (typeof act !== "function") return this.then(act, act);
    return this.then(
      (value) => SdkPromise.resolve(act()).then(() => value),
      (reason) =>
        SdkPromise.resolve(act()).then(() => {
          throw reason;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static get [Symbol.species]() {
    return this;
  }

  static resolve(value) {
    if (value instanceof SdkPromise && value.constructor === this) return value;
    return new this((resolve) => resolve(value));
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static withResolvers() {
    return capability(this);
  }

  static try(act, ...args) {
    return new this((resolve) => resolve(act(...args)));
  }

  static all(values) {
    return gather(this, values, (one, set, all) => one.then(set, all.reject));
  }

  static allSettled(values) {
    return gather(this, values, (one, set) =>
      one.then(
        (value) => set({ status: "fulfilled", value }),
        (reason) => set({ status: "rejected", reason }),
      ),
    );
  }

  static any(values) {
    const all = capability(this);
    gather(this, values, (one, set) => one.then(all.resolve, set)).then(
      (errors) => all.reject(new AggregateError(errors, "All promises were rejected")),
      all.reject,
    );
    return all.promise;
  }

  static race(values) {
    const all = capability(this);
    for (const value of values) this.resolve(value).then(all.resolve, all.reject);
    return all.promise;
  }
}

/// The two functions that settle a promise; the first call of either counts.
function resolvers(promise) {
  let called = false;
  const once = (act) => (value) => {
    if (called) return;
    called = true;
    act(value);
  };
  const reject = (reason) => settle(promise, REJECTED, reason);
  const resolve = (value) => {
    if (value === promise) return reject(new TypeError("a promise cannot resolve to itself"));
    let then;
    try {
      then = (typeof value === "object" && value !== null) || typeof value === "function" ? value.then : undefined;
    } catch (error) {
      return reject(error);
    }
    if (typeof then !== "function") return settle(promise, FULFILLED, value);
    jobs.push(() => {
      const { resolve, reject } = resolvers(promise);
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  };
  return { resolve: once(resolve), reject: once(reject) };
}

function capability(Constructor) {
  let resolve, reject;
  const promise = new Constructor((yes, no) => {
    [resolve, reject] = [yes, no];
  });
  return { promise, resolve, reject };
}

function gather(Constructor, values, each) {
  const all = capability(Constructor);
  const results = [];
  let missing = 1;
  const done = () => {
    if (--missing === 0) all.resolve(results);
  };
  let index = 0;
  try {
    for (const value of values) {
      const at = index++;
      results[at] = undefined;
      missing++;
      let set = false;
      each(
        Constructor.resolve(value),
        (result) => {
          if (set) return;
          set = true;
          results[at] = result;
          done();
        },
        all,
      );
    }
    done();
  } catch (error) {
    all.reject(error);
  }
  return all.promise;
}

Object.defineProperty(SdkPromise, "name", { value: "Promise" });

export { SdkPromise as Promise };
