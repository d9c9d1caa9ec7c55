// What pages with a server and reports share.

/** An answer of the server that is an error; `message` is its one line. */
export class AnswerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
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
