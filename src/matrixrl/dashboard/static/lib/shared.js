// What pages with a server and reports share.

/** An answer of the server that is an error; `message` is its one line. */
export class AnswerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/**
 * Returns a function that runs `work` for changes of journals: at most once per interval, and at most a quarter of the
 * time, since the machine that shows a run often is the one that trains it.
 */
export function throttled(work, milliseconds = 1000) {
  let next = 0;
  let timer = null;
  let again = false;
  return function call() {
    if (timer !== null) {
      again = true;
      return;
    }
    timer = setTimeout(async () => {
      const began = performance.now();
      again = false;
      try {
        await work();
      } finally {
        const ended = performance.now();
        next = Math.max(began + milliseconds, ended + Math.min(3 * (ended - began), 4000));
        timer = null;
        if (again) call();
      }
    }, Math.max(0, next - performance.now()));
  };
}

/** Returns a function that runs `work` at once and after each call, but never twice at a time nor too often. */
export function paced(work, milliseconds = 400) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await work();
        if (again) await new Promise(resolve => setTimeout(resolve, milliseconds));
      } while (again);
    } finally {
      running = false;
    }
  };
}
