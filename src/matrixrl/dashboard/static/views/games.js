// Recorded games of tensor decomposition: factors, residual, formulas and search trees, term by term.

import { getJson } from '../lib/api.js';
import { append, fill, h, newId } from '../lib/dom.js';
import { number, plural } from '../lib/format.js';
import { Player } from '../lib/player.js';
import { searchTree } from '../lib/searchtree.js';
import { Residuals, Slices, Solid, numeric } from '../lib/tensor.js';

const MAX_FORMULAS = 400;

/** A tab of the page of a run. */
export async function mount(container, runs, context) {
  const run = runs[0];
  const name = run.key ?? run.name;
  const list = await getJson(['runs', name, 'games'], {}, context.signal);
  const stage = h('div', { class: 'game' });
  if (!list.games.length && !list.episodes) {
    fill(container, h('p', { class: 'empty' }, 'No game is recorded yet. A scheme appears here when the run finds one; ',
      h('code', {}, '--record-search'), ' records the search trees of a game per epoch, ', h('code', {}, '--record-moves'), ' the moves of every game.'));
    return undefined;
  }
  let shown = null;
  const open = async id => {
    shown?.abort();
    shown = new AbortController();
    context.signal?.addEventListener('abort', () => shown.abort(), { signal: shown.signal });
    stage.setAttribute('aria-busy', 'true');
    try {
      const game = await getJson(['runs', name, 'game'], { id }, shown.signal);
      showGame(stage, game, { signal: shown.signal, announce: context.announce });
    } catch (error) {
      if (error.name !== 'AbortError') fill(stage, h('p', { class: 'fault', role: 'alert' }, error.message));
    } finally {
      stage.removeAttribute('aria-busy');
    }
  };
  fill(container, chooser(list, open), stage);
  const first = list.games.find(game => game.kind === 'scheme') || list.games[0];
  await open(first ? first.id : `episode:${list.episodes.last}`);
  return () => shown?.abort();
}

function chooser(list, open) {
  const titles = { scheme: 'Best schemes', search: 'Games with search trees', solution: 'Solutions of the lowest rank' };
  const groups = Object.entries(titles).map(([kind, title]) => {
    const games = list.games.filter(game => game.kind === kind);
    return games.length ? h('optgroup', { label: title }, games.map(game => h('option', { value: game.id }, game.title))) : null;
  });
  const box = h('div', { class: 'toolbar game-bar' });
  if (list.games.length) {
    const id = newId('game');
    append(box, h('span', { class: 'choice' }, h('label', { for: id }, 'Game '), h('select', { id, class: 'game-choice', on: { change: event => open(event.target.value) } }, groups)));
  }
  if (list.episodes) {
    const id = newId('episode');
    const input = h('input', {
      id, type: 'number', min: list.episodes.first, max: list.episodes.last, value: String(list.episodes.last), class: 'short',
    });
    append(box, h('form', { class: 'inline', on: { submit: event => { event.preventDefault(); open(`episode:${Number(input.value)}`); } } },
      h('label', { for: id }, 'Episode '), input, ' ', h('button', { type: 'submit' }, 'Open')));
  }
  return box;
}

/** Fills an element with a game. */
export function showGame(stage, game, { signal, announce } = {}) {
  stage.tabIndex = -1;
  const residuals = game.target ? new Residuals(game) : null;
  const isDrawn = residuals !== null && residuals.known;
  const last = game.terms.length;
  const factors = new FactorGrids(game);
  const parts = isDrawn ? [new Slices(residuals, game.labels, signal), new Solid(residuals, game.labels, signal)] : [];
  const curve = isDrawn ? new ResidualCurve(residuals, last) : null;
  const formulas = new Formulas(game);
  const tree = h('div');
  const caption = h('p', { class: 'position', role: 'status', 'aria-live': 'polite' });
  const show = position => {
    factors.show(position);
    for (const part of parts) part.show(position);
    curve?.show(position);
    formulas.show(position);
    showTree(tree, game, position);
    fill(caption, positionText(game, residuals, isDrawn, position));
  };
  const player = new Player({ last, show, name: 'term', area: stage, signal, seconds: 0.7 });
  fill(stage,
    h('h2', {}, game.title),
    verdict(game),
    player.element,
    caption,
    h('div', { class: 'cards' },
      card('Factors', factors.element, 'factors-card'),
      isDrawn
        ? [card('Residual, in slices', parts[0].element), card('Residual, in space', parts[1].element, '', 'Drag to turn; arrow keys too.'), card('What is left', curve.element)]
        : card('Residual', h('p', { class: 'quiet-text' }, unknownResidual(game)))),
    game.moves.some(move => move.parent) ? card('Search before the next term', tree, 'whole') : null,
    formulas.element);
  player.seek(0);
  announce?.(game.title);
}

function unknownResidual(game) {
  if (game.target) return 'Complex coefficients are not drawn.';
  if (game.basis === 'unknown') return 'The game started in another basis, which was not recorded with its moves: its start is unknown.';
  return 'The tensor is too large to be drawn.';
}

function positionText(game, residuals, isDrawn, position) {
  const parts = [position === 0 ? 'Start' : `After term ${position} of ${game.terms.length}`];
  if (isDrawn) parts.push(`${plural(residuals.count(position), 'entry', 'entries')} left`);
  const move = game.moves.find(one => one.move === position);
  if (move) {
    parts.push(`reward ${number(move.reward)}`, `sum of absolute values ${number(move.residual)}`);
    if (move.root_value !== undefined) parts.push(`expected return before it ${number(move.root_value)}`);
  }
  return parts.join(' · ');
}

function showTree(element, game, position) {
  const move = game.moves.find(one => one.move === position + 1);
  if (!move?.parent) {
    fill(element, h('p', { class: 'quiet-text' }, position >= game.terms.length ? 'The game is over.' : 'No search was made for the next term: it was part of the start.'));
    return;
  }
  const played = game.terms[position].map(vector => vector.map(value => '=-0+#'[value + 2]).join('')).join(' ');
  fill(element, searchTree(move, game.labels, played));
}

function verdict(game) {
  const facts = [];
  if (game.record) {
    const state = /beats/.test(game.record.message) ? 'good' : /matches/.test(game.record.message) ? 'good' : 'plain';
    facts.push(h('span', { class: `badge ${state}` }, game.record.message));
  }
  if (game.solved) facts.push(h('span', { class: 'badge good' }, game.formulas ? 'verified exactly' : 'solved'));
  else facts.push(h('span', { class: 'badge bad' }, game.verified || 'not solved'));
  const ring = { F2: 'modulo 2', F3: 'modulo 3', Z: 'over the integers' }[game.ring] || `over ${game.ring}`;
  facts.push(h('span', { class: 'badge plain' }, ring));
  if (game.basis === 'changed') facts.push(h('span', { class: 'badge plain' }, 'in another basis'));
  const known = game.provenance || {};
  const how = [known.source, known.found_by, known.shown, ...['run', 'epoch', 'episode'].filter(name => name in known).map(name =>
    `${name} ${typeof known[name] === 'number' ? number(known[name]) : known[name]}`)].filter(Boolean).map(String);
  return h('div', {}, h('p', { class: 'badges' }, facts), how.length ? h('p', { class: 'quiet-text' }, how.join(' · ')) : null);
}

function card(title, content, kind = '', note = '') {
  return h('section', { class: `card ${kind}` }, h('h3', {}, title), content, note ? h('p', { class: 'quiet-text' }, note) : null);
}

/** The three factor matrices: rows are entries of A, B and C, columns are the products. */
class FactorGrids {
  constructor(game) {
    this.groups = Array.from({ length: game.terms.length }, () => []);
    const grids = game.labels.map((names, mode) => this.grid(game, names, mode));
    this.element = h('div', { class: 'factors', tabindex: 0, role: 'group', 'aria-label': 'Factor matrices' }, grids);
  }

  grid(game, names, mode) {
    const rank = game.terms.length;
    const cell = rank > 40 ? 11 : rank > 14 ? 16 : 24;
    const [label, head] = [names.reduce((most, name) => Math.max(most, name.length), 0) * 7 + 10, rank > 40 ? 0 : 18];
    const perRow = game.row_lengths[mode] || names.length;
    const gap = row => Math.floor(row / perRow) * (perRow < names.length ? 5 : 0);
    const height = head + names.length * cell + gap(names.length - 1) + 4;
    const width = label + rank * cell + 4;
    const letter = (names[0] || '').replace(/[\d_]+$/, '');
    const svg = h('svg:svg', {
      viewBox: `0 0 ${width} ${height}`, width, height, role: 'img',
      'aria-label': `Factor ${'uvw'[mode]}, entries of ${letter}: ${names.length} rows, ${rank} products. The formulas say the same in text.`,
    });
    names.forEach((name, row) => svg.append(h('svg:text', { x: label - 6, y: head + gap(row) + (row + 0.5) * cell + 4, class: 'row-name' }, name)));
    game.terms.forEach((term, column) => {
      const group = h('svg:g', { class: 'product' });
      if (head) group.append(h('svg:text', { x: label + (column + 0.5) * cell, y: 12, class: 'column-name' }, cell > 20 ? `M${column + 1}` : String(column + 1)));
      names.forEach((_, row) => {
        const value = term[mode][row];
        const [x, y] = [label + column * cell, head + gap(row) + row * cell];
        const size = numeric(value);
        const kind = size === 0 ? 'zero' : Number.isNaN(size) ? 'plus-large' : `${size > 0 ? 'plus' : 'minus'}${Math.abs(size) === 1 ? '' : '-large'}`;
        group.append(h('svg:rect', { x: x + 1, y: y + 1, width: cell - 2, height: cell - 2, rx: Math.min(4, cell / 5), class: `cell ${kind}` }));
        if (size !== 0 && cell > 12) {
          const text = size === 1 ? '+' : size === -1 ? '−' : String(value).replace('-', '−');
          group.append(h('svg:text', { x: x + cell / 2, y: y + cell / 2 + 4.5, class: text.length > 2 ? 'sign small' : 'sign' }, text));
        }
      });
      this.groups[column].push(group);
      svg.append(group);
    });
    return h('figure', {}, h('figcaption', {}, `${'uvw'[mode]}: entries of ${letter}`), svg);
  }

  /** Marks the products that were played; at the start all are shown. */
  show(position) {
    this.groups.forEach((groups, column) => {
      for (const group of groups) {
        group.classList.toggle('is-played', column < position || position === 0);
        group.classList.toggle('is-current', column === position - 1);
      }
    });
  }
}

/** The number of entries that are left after each term. */
class ResidualCurve {
  constructor(residuals, last) {
    const counts = Array.from({ length: last + 1 }, (_, position) => residuals.count(position));
    const [width, height, pad] = [320, 130, 26];
    const high = Math.max(1, ...counts);
    this.x = position => pad + (position * (width - pad - 8)) / Math.max(1, last);
    this.y = count => height - 18 - (count * (height - 30)) / high;
    this.counts = counts;
    this.mark = h('svg:circle', { r: 5, class: 'curve-mark' });
    const points = counts.map((count, position) => `${this.x(position).toFixed(1)},${this.y(count).toFixed(1)}`).join(' ');
    this.element = h('svg:svg', { viewBox: `0 0 ${width} ${height}`, class: 'left-curve', role: 'img', 'aria-label': `Entries left after each term: ${counts.join(', ')}` },
      h('svg:line', { x1: pad, x2: width - 8, y1: this.y(0), y2: this.y(0), class: 'axis' }),
      h('svg:line', { x1: pad, x2: pad, y1: 8, y2: this.y(0), class: 'axis' }),
      h('svg:text', { x: pad - 4, y: this.y(high) + 4, class: 'tick end' }, high),
      h('svg:text', { x: pad - 4, y: this.y(0) + 4, class: 'tick end' }, 0),
      h('svg:text', { x: width - 8, y: height - 3, class: 'tick end' }, `${last} terms`),
      h('svg:polyline', { points, class: 'curve-line' }), this.mark);
  }

  show(position) {
    this.mark.setAttribute('cx', this.x(position));
    this.mark.setAttribute('cy', this.y(this.counts[position]));
  }
}

/** The algorithm as formulas; the current product is marked. */
class Formulas {
  constructor(game) {
    this.lines = [];
    if (!game.formulas) {
      this.element = null;
      return;
    }
    const products = game.formulas.filter(line => /^M\d+ = /.test(line));
    const results = game.formulas.filter(line => !/^M\d+ = /.test(line));
    const line = text => h('li', {}, text.replaceAll('-', '−'));
    this.lines = products.slice(0, MAX_FORMULAS).map(line);
    this.element = card('Formulas', h('div', { class: 'formulas', tabindex: 0, role: 'group', 'aria-label': 'Formulas' },
      h('ol', { class: 'products' }, this.lines), h('ul', { class: 'results' }, results.slice(0, MAX_FORMULAS).map(line))), 'whole');
  }

  show(position) {
    this.lines.forEach((item, index) => {
      item.classList.toggle('is-current', index === position - 1);
      item.classList.toggle('is-played', index < position);
    });
  }
}
