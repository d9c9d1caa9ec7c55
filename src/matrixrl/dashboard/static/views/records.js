// The ledger of records: the best known rank of each format, beside those of the library and of the runs here.

import { getJson } from '../lib/api.js';
import { fill, h, newId } from '../lib/dom.js';
import { number } from '../lib/format.js';

const NAMES = { rational: 'rationals', integer: 'integers', ternary: '−1, 0, 1', mod2: 'modulo 2' };
const STATES = { beaten: '★ beaten', matched: '✓ matched', above: 'above', none: 'not tried' };

export const title = () => 'Records';

/** A page: `#/records`. */
export async function mount(container, params, context) {
  const body = h('tbody');
  const count = h('p', { class: 'quiet-text', role: 'status' });
  const [filterId, stateId, allId] = ['format', 'state', 'all'].map(newId);
  const filter = h('input', { id: filterId, type: 'search', placeholder: '3x4', on: { input: () => show() } });
  const state = h('select', { id: stateId, on: { change: () => show() } },
    h('option', { value: '' }, 'every state'), Object.entries(STATES).map(([value, text]) => h('option', { value }, text)));
  const all = h('input', { id: allId, type: 'checkbox', on: { change: () => load() } });
  let rows = [];
  const head = h('thead', {},
    h('tr', {}, h('th', { scope: 'col', rowspan: 2 }, 'Format'), h('th', { scope: 'col', rowspan: 2, class: 'numeric' }, 'Standard'),
      h('th', { scope: 'colgroup', colspan: 4 }, 'Best known rank (library and runs here below it)'),
      h('th', { scope: 'col', rowspan: 2, class: 'numeric' }, 'AlphaTensor'), h('th', { scope: 'col', rowspan: 2 }, 'Here'),
      h('th', { scope: 'col', rowspan: 2 }, 'Source of the record')),
    h('tr', {}, Object.values(NAMES).map(name => h('th', { scope: 'col', class: 'numeric' }, name))));
  fill(container,
    h('h1', {}, 'Records'),
    h('p', { class: 'quiet-text' }, 'Ranks do not depend on the order of the sides. A scheme with coefficients −1, 0, 1 counts in every column.'),
    h('div', { class: 'toolbar game-bar' },
      h('span', {}, h('label', { for: filterId }, 'Format '), filter), h('span', {}, h('label', { for: stateId }, 'State '), state),
      h('span', { class: 'nobreak' }, all, ' ', h('label', { for: allId }, 'up to 16x16x16'))),
    count,
    h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Table of records' }, h('table', { class: 'ledger' }, head, body)));

  async function load() {
    rows = (await getJson(['records'], all.checked ? { all: 1 } : {}, context.signal)).rows;
    show();
  }
  function show() {
    const wanted = filter.value.trim().toLowerCase().split(/[x ,]+/).filter(Boolean);
    const chosen = rows.filter(row => fits(row.format.split('x'), wanted) && (!state.value || row.state === state.value));
    fill(body, chosen.map(line));
    fill(count, `${number(chosen.length)} of ${number(rows.length)} formats`);
  }
  await load();
}

/** Returns whether a format has all the wanted sides, in any order. */
function fits(sides, wanted) {
  const left = [...sides];
  return wanted.every(side => {
    const place = left.indexOf(side);
    if (place >= 0) left.splice(place, 1);
    return place >= 0;
  });
}

function line(row) {
  return h('tr', { class: `state-${row.state}` },
    h('th', { scope: 'row' }, row.format),
    h('td', { class: 'numeric quiet-text' }, number(row.standard)),
    Object.keys(NAMES).map(name => h('td', { class: 'numeric' }, number(row.known[name]), own(row, name))),
    h('td', { class: 'numeric' }, alphatensor(row.alphatensor)),
    h('td', {}, STATES[row.state]),
    h('td', { class: 'quiet-text' }, row.source));
}

/** Returns the best rank of the library and of the runs in a class of coefficients. */
function own(row, name) {
  const entries = [['library', row.library[name]], ['run', row.found[name]]].filter(([, entry]) => entry);
  if (!entries.length) return null;
  const [where, best] = entries.reduce((one, other) => (other[1].rank < one[1].rank ? other : one));
  const gap = best.rank - row.known[name];
  const text = `${number(best.rank)}${gap > 0 ? ` (+${gap})` : gap < 0 ? ` (−${-gap})` : ''}`;
  return h('div', { class: gap > 0 ? 'own' : 'own good', title: `${where} ${best.where}` }, text, ' ',
    where === 'run' ? h('a', { href: `#/runs/${encodeURIComponent(best.where)}/games` }, 'run') : 'library');
}

function alphatensor({ standard, mod2 }) {
  if (standard === null) return '–';
  return mod2 !== null && mod2 < standard ? `${standard} (${mod2} modulo 2)` : number(standard);
}
