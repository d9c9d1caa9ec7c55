// The tree of one search: a drawing of its most visited nodes, and a table of the candidates at the root.

import { fill, h } from './dom.js';
import { number } from './format.js';

const MAX_DRAWN = 160;
const ROW = 17;
const COLUMN = 118;

/** Returns the sum of named entries that a word such as `+0-0` spells. */
function form(word, names) {
  const values = { '=': -2, '-': -1, 0: 0, '+': 1, '#': 2 };
  let text = '';
  [...word].forEach((character, index) => {
    const value = values[character];
    if (!value) return;
    const size = Math.abs(value) === 1 ? '' : '2';
    if (text) text += value < 0 ? ' − ' : ' + ';
    else if (value < 0) text += '−';
    text += `${size}${names[index]}`;
  });
  return text || '0';
}

/** Returns a term in words: `(A11 + A22)(B11 + B22) → C11 + C22`. */
export function termText(term, labels) {
  if (!term) return 'start';
  const [u, v, w] = term.split(' ').map((word, mode) => form(word, labels[mode]));
  const bracket = text => (/ /.test(text) ? `(${text})` : text);
  return `${bracket(u)}${/ /.test(u) || / /.test(v) ? '' : '·'}${bracket(v)} → ${w}`;
}

/** Returns the drawing and the table of a move's search. */
export function searchTree(move, labels, played) {
  const detail = h('p', { class: 'tree-detail', role: 'status' }, 'Point at a node, or select it with Tab, to see its term.');
  return h('div', { class: 'tree' },
    h('div', { class: 'tree-scroll', tabindex: 0, role: 'group', 'aria-label': 'Search tree' }, drawing(move, labels, played, detail)),
    detail,
    candidates(move, labels, played));
}

function drawing(move, labels, played, detail) {
  const { parent, visits, prior, value, term } = move;
  // The most visited nodes; a node is never drawn without those above it, which have more visits.
  const order = parent.map((_, node) => node).sort((one, other) => visits[other] - visits[one] || one - other);
  const drawn = new Set();
  for (const node of order) {
    if (drawn.size >= MAX_DRAWN) break;
    if (node === 0 || drawn.has(parent[node])) drawn.add(node);
  }
  const children = new Map();
  for (const node of [...drawn].sort((one, other) => visits[other] - visits[one] || one - other)) {
    if (node) children.set(parent[node], [...(children.get(parent[node]) || []), node]);
  }
  const places = new Map();
  let rows = 0;
  let depth = 0;
  const layOut = (node, level) => {
    depth = Math.max(depth, level);
    const below = children.get(node) || [];
    if (!below.length) {
      places.set(node, [level, rows]);
      rows += 1;
      return;
    }
    below.forEach(child => layOut(child, level + 1));
    const heights = below.map(child => places.get(child)[1]);
    places.set(node, [level, (heights[0] + heights[heights.length - 1]) / 2]);
  };
  layOut(0, 0);
  const width = (depth + 1) * COLUMN + 20;
  const height = rows * ROW + 12;
  const x = node => 14 + places.get(node)[0] * COLUMN;
  const y = node => 12 + places.get(node)[1] * ROW;
  const values = [...drawn].map(node => value[node]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const svg = h('svg:svg', {
    viewBox: `0 0 ${width} ${height}`, width, height, role: 'img',
    'aria-label': `Search tree: ${parent.length} nodes, ${visits[0]} visits, value ${number(value[0])} at the root; the table below has the candidates`,
  });
  for (const node of drawn) {
    if (!node) continue;
    const [x0, y0, x1, y1] = [x(parent[node]), y(parent[node]), x(node), y(node)];
    const middle = (x0 + x1) / 2;
    svg.append(h('svg:path', {
      d: `M${x0},${y0} C${middle},${y0} ${middle},${y1} ${x1},${y1}`,
      class: `tree-edge${isPlayed(node) ? ' is-played' : ''}`,
      'stroke-width': (0.6 + 4 * Math.sqrt(visits[node] / visits[0])).toFixed(2),
    }));
  }
  function isPlayed(node) {
    return parent[node] === 0 && term[node] === played;
  }
  for (const node of [...drawn].sort((one, other) => places.get(one)[0] - places.get(other)[0])) {
    const radius = 2.5 + 5 * Math.sqrt(visits[node] / visits[0]);
    const level = high > low ? Math.round((4 * (value[node] - low)) / (high - low)) : 2;
    const words = node
      ? `${termText(term[node], labels)}: ${visits[node]} visits, prior ${(100 * prior[node]).toFixed(1)} %, value ${number(value[node])}`
      : `root: ${visits[0]} visits, value ${number(value[0])}`;
    const show = () => fill(detail, words);
    const group = h('svg:g', { class: `tree-node${isPlayed(node) ? ' is-played' : ''}`, tabindex: node ? 0 : null, role: 'img', 'aria-label': words, on: { focus: show, pointerenter: show } },
      h('svg:circle', { cx: x(node), cy: y(node), r: radius.toFixed(1), class: `value-${level}` }));
    if (node === 0 || visits[node] >= 0.04 * visits[0] || drawn.size < 40) {
      group.append(h('svg:text', { x: x(node) + radius + 3, y: y(node) + 3.5 }, `${visits[node]} · ${number(value[node])}`));
    }
    svg.append(group);
  }
  return [svg, drawn.size < parent.length ? h('p', { class: 'quiet-text' }, `The ${drawn.size} most visited of ${parent.length} nodes.`) : null];
}

function candidates(move, labels, played) {
  const byTerm = new Map();
  move.parent.forEach((parent, node) => {
    if (parent === 0) byTerm.set(move.term[node], node);
  });
  const rows = move.candidates
    .map((term, index) => ({ term, prior: move.candidate_prior[index], weight: move.weights?.[index], node: byTerm.get(term) }))
    .filter(row => row.prior > 0 || row.weight > 0)
    .sort((one, other) => (other.weight ?? 0) - (one.weight ?? 0) || other.prior - one.prior);
  const percent = share => (share === undefined ? '–' : `${(100 * share).toFixed(1)} %`);
  return h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Candidates at the root' }, h('table', { class: 'candidates' },
    h('caption', {}, `${rows.length} different candidates at the root`),
    h('thead', {}, h('tr', {}, ['Term', 'Prior', 'Visits', 'Value', 'Improved policy'].map((text, index) =>
      h('th', { scope: 'col', class: index ? 'numeric' : null }, text)))),
    h('tbody', {}, rows.slice(0, 40).map(row => h('tr', { class: row.term === played ? 'is-played' : null },
      h('th', { scope: 'row' }, row.term === played ? '▸ ' : '', termText(row.term, labels), row.term === played ? h('span', { class: 'visually-hidden' }, ' (played)') : null),
      h('td', { class: 'numeric' }, percent(row.prior)),
      h('td', { class: 'numeric' }, row.node === undefined ? '0' : number(move.visits[row.node])),
      h('td', { class: 'numeric' }, row.node === undefined ? '–' : number(move.value[row.node])),
      h('td', { class: 'numeric' }, percent(row.weight)))))));
}
