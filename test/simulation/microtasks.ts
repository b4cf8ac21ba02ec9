/**
 * Makes the event loop a matter of the simulation. Production code uses promises, `queueMicrotask` and `setImmediate`;
 * for as long as a simulation runs, the first two are carried out when it says so, to the last one, and the third becomes
 * an event of its agenda. So a simulation is one synchronous call: nothing else of the process gets a turn in between, and
 * nothing depends on how fast the machine is.
 */
import { runInThisContext } from "node:vm";
import { setFlagsFromString } from "node:v8";

// V8 empties the queue of microtasks whenever it is told to outside of a microtask; only its natives syntax says it.
setFlagsFromString("--allow-natives-syntax");
const performMicrotaskCheckpoint = runInThisContext("() => %PerformMicrotaskCheckpoint()") as () => void;

/** What the simulation puts in the place of what the process has. */
export interface EventLoop {
  setImmediate(callback: () => void): void;
  /** A callback of `queueMicrotask` has thrown. In production that ends the process. */
  uncaught(error: unknown): void;
}

/** Carries out everything that waits in the queue of microtasks, and what that brings about. */
export function drain(): void {
  performMicrotaskCheckpoint();
}

/** Resolves to what `run` returns; `run` is called from outside of any microtask, as `drain` needs it. */
export function outsideMicrotasks<T>(run: () => T): Promise<T> {
  const { setImmediate } = globalThis;
  return new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(run());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  });
}

/** What no simulated code may ask for: it would bring real time and real chance in. */
function forbidden(name: string): () => never {
  return () => {
    throw new Error(`${name} was called in a simulation`);
  };
}

/** Runs with the simulation's event loop in the place of the process's, and no way to real time or chance. */
export function withEventLoop<T>(loop: EventLoop, run: () => T): T {
  const saved = {
    setImmediate: globalThis.setImmediate,
    queueMicrotask: globalThis.queueMicrotask,
    setTimeout: globalThis.setTimeout,
    setInterval: globalThis.setInterval,
  };
  const { random } = Math;
  const { now } = Date;
  const performanceNow = performance.now.bind(performance);
  const resolved = Promise.resolve();
  try {
    Object.assign(globalThis, {
      setImmediate: (callback: () => void) => loop.setImmediate(callback),
      queueMicrotask: (task: () => void) => void resolved.then(task).catch((error: unknown) => loop.uncaught(error)),
      setTimeout: forbidden("setTimeout"),
      setInterval: forbidden("setInterval"),
    });
    Math.random = forbidden("Math.random");
    Date.now = forbidden("Date.now");
    performance.now = forbidden("performance.now");
    drain();
    return run();
  } finally {
    drain();
    Object.assign(globalThis, saved);
    Math.random = random;
    Date.now = now;
    performance.now = performanceNow;
  }
}
