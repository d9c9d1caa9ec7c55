// Requests to the server, and the stream of changes. Nothing that is asked changes a run.

import { AnswerError } from './shared.js';

export { AnswerError, paced, throttled } from './shared.js';

/** Whether this page is a report: a file with all its data, without a server. */
export const isReport = false;

/** Returns the address of an endpoint: path parts are encoded, parameters may be lists. */
export function address(parts, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) {
      if (one !== null && one !== undefined && one !== '') query.append(name, String(one));
    }
  }
  const path = ['api', ...[parts].flat()].map(encodeURIComponent).join('/');
  const text = query.toString();
  return `${path}${text ? `?${text}` : ''}`;
}

/**
 * Returns the JSON answer of an endpoint: `getJson(['runs', name, 'episodes'], {sort: 'Reward'})`.
 *
 * @throws {AnswerError} if the server refuses, or cannot be reached.
 */
export async function getJson(parts, parameters = {}, signal = undefined) {
  return answerOf(address(parts, parameters), { signal, cache: 'no-store' });
}

async function answerOf(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new AnswerError(0, 'The dashboard’s server cannot be reached. Start it with: matrixrl dashboard');
  }
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new AnswerError(response.status, `The server answered ${response.status} without JSON.`);
  }
  if (!response.ok) throw new AnswerError(response.status, content?.error || `status ${response.status}`);
  return content;
}

/**
 * Returns the JSON answer to a question: a computation on `content`, such as a file that the user opened.
 *
 * @throws {AnswerError} if the server refuses, or cannot be reached.
 */
export async function sendJson(parts, content, signal = undefined) {
  return answerOf(address(parts), {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(content), signal, cache: 'no-store',
  });
}

/** The stream of changes: which journals grew, and which runs appeared or went. */
export class Changes {
  constructor() {
    this.listeners = new Set();
    this.states = new Set();
    this.source = null;
    this.wasConnected = false;
  }

  /** Follows as long as the page is seen: a browser has six connections to a server, and a hidden page needs none. */
  start() {
    const follow = () => {
      if (document.visibilityState === 'visible') this.open();
      else this.close();
    };
    document.addEventListener('visibilitychange', follow);
    window.addEventListener('pageshow', follow);
    window.addEventListener('pagehide', () => this.close());
    follow();
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  open() {
    if (this.source !== null) return;
    this.source = new EventSource('api/events');
    this.source.addEventListener('open', () => this.say(true));
    this.source.addEventListener('error', () => this.say(false));
    this.source.addEventListener('changed', event => {
      const names = new Set(JSON.parse(event.data).runs);
      for (const listener of [...this.listeners]) {
        if (listener.names === null || listener.names.some(name => names.has(name))) listener.callback(names);
      }
    });
    // While the page was hidden, or the server restarted, everything may have changed.
    this.source.addEventListener('hello', () => {
      if (this.wasConnected) for (const listener of [...this.listeners]) listener.callback(new Set(listener.names || []));
      this.wasConnected = true;
    });
  }

  say(connected) {
    for (const callback of this.states) callback(connected);
  }

  /** Calls back when one of these runs changed, or any for null; returns a function that ends it. */
  listen(names, callback) {
    const listener = { names, callback };
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
