// The episode table: all rows, sorted, filtered and paged by the server.

import { getJson, paced, throttled } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { number, plural } from '../lib/format.js';
import { scrollBox, table } from '../lib/table.js';

const PAGE = 50;

export async function mount(container, runs, context) {
  if (runs.length === 1) return mountOne(container, runs[0], context);
  const choice = h('select', { id: 'episode-run', on: { change: show } }, runs.map(run => h('option', { value: run.key }, run.name)));
  const place = h('div', {});
  fill(container, h('form', { class: 'toolbar' }, h('label', { for: 'episode-run' }, 'Run', choice)), place);
  let abort = null;
  async function show() {
    abort?.abort();
    abort = new AbortController();
    context.signal.addEventListener('abort', () => abort.abort());
    await mountOne(place, runs.find(run => run.key === choice.value), { ...context, signal: abort.signal });
  }
  await show();
  return () => abort?.abort();
}

async function mountOne(container, run, context) {
  const columns = Object.entries(run.columns);
  const state = { sort: null, descending: false, start: 0, where: new Map() };
  const filters = h('form', { class: 'filters', on: { submit: event => event.preventDefault() } });
  const count = h('p', { class: 'quiet-text', role: 'status' });
  const place = h('div', {});
  const pager = h('nav', { class: 'pager', 'aria-label': 'Pages of the table' });
  fill(container,
    h('details', { class: 'filter-box' }, h('summary', {}, 'Filter'), filters,
      h('p', { class: 'quiet-text' }, 'Numbers: 7, >=7, <7, !=7 or 7..9. Truth values: yes or no. Texts: a part of them.')),
    count, place, pager);
  fill(filters, columns.map(([name, kind]) => {
    const id = `where-${name.replace(/\W+/g, '-')}-${kind}`;
    const input = h('input', { type: 'search', id, autocomplete: 'off', spellcheck: 'false', data: { column: name },
      on: { input: () => {
        if (input.value.trim()) state.where.set(name, input.value.trim());
        else state.where.delete(name);
        state.start = 0;
        load();
      } } });
    return h('label', { for: id }, name, input);
  }));

  function onSort(key) {
    if (state.sort !== key) Object.assign(state, { sort: key, descending: false });
    else if (!state.descending) state.descending = true;
    else Object.assign(state, { sort: null, descending: false });
    state.start = 0;
    load();
    context.announce(state.sort === null ? 'In the order of recording' : `Sorted by ${key}, ${state.descending ? 'highest' : 'lowest'} first`);
  }

  const load = paced(async () => {
    const { sort, descending, start } = state;
    const where = [...state.where].map(([name, condition]) => `${name}:${condition}`);
    let answer;
    try {
      answer = await getJson(['runs', run.key, 'episodes'], { sort, descending: descending ? 1 : 0, where, start, count: PAGE }, context.signal);
    } catch (error) {
      if (error.name !== 'AbortError') fill(count, h('span', { class: 'fault' }, error.message));
      return;
    }
    draw(answer);
  }, 500);

  function draw({ rows, steps, matching, total, start }) {
    const filtered = matching !== total ? `${number(matching)} of ` : '';
    count.textContent = matching ? `${filtered}${plural(total, 'episode')}; ${number(start + 1)} to ${number(start + rows.length)}` : `none of ${plural(total, 'episode')}`;
    const focused = document.activeElement?.dataset?.sort;
    const left = place.querySelector('.scroll')?.scrollLeft || 0;
    fill(place, scrollBox('Episodes', table({
      caption: 'Episodes', rowHead: 0, sort: state.sort, descending: state.descending, onSort,
      columns: [...columns.map(([name, kind]) => ({ key: name, title: name, numeric: kind === 'int' || kind === 'float' })),
        { key: 'step', title: 'Step', numeric: true, sortable: false }],
      rows: rows.map((values, index) => [...values.map(number), number(steps[index])]),
    })));
    place.firstElementChild.scrollLeft = left;
    if (focused) place.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
    const last = Math.max(0, Math.floor((matching - 1) / PAGE) * PAGE);
    const go = (to, text, label, isOff) => h('button', { type: 'button', 'aria-label': label, disabled: isOff, on: { click: () => { state.start = to; load(); } } }, text);
    fill(pager, go(0, '⇤', 'First page', start === 0), go(Math.max(0, start - PAGE), '←', 'Page before', start === 0),
      h('span', {}, `page ${number(Math.floor(start / PAGE) + 1)} of ${number(Math.floor(last / PAGE) + 1)}`),
      go(start + PAGE, '→', 'Next page', start + PAGE >= matching), go(last, '⇥', 'Last page', start >= last));
  }

  await load();
  context.onChange([run.key], throttled(load));
  return undefined;
}
