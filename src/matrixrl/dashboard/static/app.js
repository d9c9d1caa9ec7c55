// Start of the page: theme, stream of changes, and the view that the address names.

import { AnswerError, Changes } from './lib/api.js';
import { fill, h } from './lib/dom.js';
import { startTheme } from './lib/theme.js';
import { NAVIGATION, PAGES } from './views/index.js';

const main = document.getElementById('main');
const navigation = document.getElementById('navigation');
const announcer = document.getElementById('announcer');
const connection = document.getElementById('connection');

const changes = new Changes();
let current = null;

/** Returns path parts and parameters of the address: `#/runs/a,b/charts?x=time`. */
export function parsedHash(hash) {
  const [path, query = ''] = hash.replace(/^#?\/?/, '').split('?');
  return { parts: path.split('/').filter(Boolean), query: new URLSearchParams(query) };
}

function pageFor(parts) {
  for (const page of PAGES) {
    const params = page.match(parts);
    if (params !== null) return { page, params };
  }
  return null;
}

async function leave() {
  if (current === null) return;
  const leaving = current;
  current = null;
  leaving.controller.abort();
  for (const end of leaving.ends) end();
  if (typeof leaving.cleanup === 'function') leaving.cleanup();
}

async function show() {
  const { parts, query } = parsedHash(location.hash);
  const found = pageFor(parts);
  const key = found === null ? '' : found.page.key ? found.page.key(found.params) : location.hash;
  if (current !== null && current.key === key && current.update) {
    current.update(found.params, query);
    return;
  }
  await leave();
  const controller = new AbortController();
  const state = { key, controller, ends: [], cleanup: null, update: null };
  current = state;
  const context = {
    signal: controller.signal,
    query,
    onChange: (names, callback) => {
      const end = changes.listen(names, callback);
      state.ends.push(end);
      return end;
    },
    navigate: hash => { location.hash = hash; },
    replace: hash => { history.replaceState(null, '', hash); },
    announce: text => { announcer.textContent = text; },
  };
  for (const link of navigation.querySelectorAll('a')) {
    const isHere = link.getAttribute('href') === `#/${parts[0] || ''}`;
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  if (found === null) {
    document.title = 'Not found · matrixrl';
    fill(main, h('h1', {}, 'Nothing here'), h('p', {}, h('a', { href: '#/' }, 'All runs')));
    return;
  }
  try {
    const module = await found.page.load();
    if (controller.signal.aborted) return;
    document.title = `${module.title(found.params)} · matrixrl`;
    fill(main);
    const mounted = await module.mount(main, found.params, context);
    if (controller.signal.aborted) {
      if (typeof mounted === 'function') mounted();
      return;
    }
    state.cleanup = typeof mounted === 'function' ? mounted : null;
    state.update = mounted && typeof mounted === 'object' ? mounted.update : null;
  } catch (error) {
    if (error.name === 'AbortError' || controller.signal.aborted) return;
    showError(error);
  }
}

function showError(error) {
  const text = error instanceof AnswerError ? error.message : `The page failed: ${error.message}`;
  if (!(error instanceof AnswerError)) console.error(error);
  fill(
    main,
    h('div', { class: 'fault', role: 'alert' }, h('h1', {}, 'This cannot be shown'), h('p', {}, text),
      h('p', {}, h('button', { type: 'button', on: { click: () => { current = null; show(); } } }, 'Try again'), ' ',
        h('a', { href: '#/' }, 'All runs'))),
  );
}

function start() {
  // The token is in a cookie by now: it need not stay in the address.
  const url = new URL(location.href);
  if (url.searchParams.has('token')) {
    url.searchParams.delete('token');
    history.replaceState(null, '', url);
  }
  startTheme(document.getElementById('theme'));
  fill(navigation, NAVIGATION.map(item => h('a', { href: item.href }, item.text)));
  changes.states.add(connected => {
    connection.textContent = connected ? 'live' : 'not connected';
    connection.classList.toggle('is-live', connected);
  });
  changes.start();
  window.addEventListener('hashchange', () => {
    show().then(() => main.focus({ preventScroll: true }));
    window.scrollTo(0, 0);
  });
  show();
}

start();
