// Parallel coordinates: an axis for each setting and one for the objective, a line for each trial.

import { fill, h, hidden, newId } from './dom.js';
import { exact, number, plural } from './format.js';
import { onThemeChange, ramp } from './theme.js';

const HEIGHT = 300;
const TOP = 44;
const BOTTOM = 34;
const SIDE = 62;
const LEAST_DISTANCE = 104;
const NEAR = 14; // pixels between the pointer and a line
const MAX_LABELS = 14;
const MAX_VALUES = 8; // of a setting with fewer values each is labelled
const LEAST_SHARE = 0.06; // of an axis between two labels

/** Returns a number for the tick of an axis. */
function tickText(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(Number.isInteger(Math.log10(size)) ? 0 : 1).replace('e+', 'e');
  return String(Number(value.toPrecision(4)));
}

/** Returns round numbers between two numbers. */
function ticksBetween(low, high, log) {
  if (log) {
    const powers = [];
    for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) powers.push(10 ** power);
    if (powers.length >= 2) return powers.length > 7 ? powers.filter((_, i) => i % Math.ceil(powers.length / 6) === 0) : powers;
  }
  const rough = (high - low) / 4;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(factor => factor * unit).find(size => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

/** An axis: places of values between 0 (below) and 1 (above). */
class Axis {
  constructor({ name, is_number: isNumber, log = false, values = [] }, given) {
    Object.assign(this, { name, isNumber, log });
    this.values = values.map(value => JSON.stringify(value));
    this.texts = values.map(exact);
    if (isNumber) {
      const there = given.filter(value => typeof value === 'number');
      this.low = there.reduce((a, b) => Math.min(a, b), Infinity);
      this.high = there.reduce((a, b) => Math.max(a, b), -Infinity);
      this.distinct = [...new Set(there)].sort((a, b) => a - b);
    }
  }

  /** Returns the place of a value; null where a trial has none. */
  place(value) {
    if (value === null || value === undefined) return null;
    if (!this.isNumber) return this.placeOf(this.values.indexOf(JSON.stringify(value)));
    if (!(this.high > this.low)) return 0.5;
    return this.log ? Math.log(value / this.low) / Math.log(this.high / this.low) : (value - this.low) / (this.high - this.low);
  }

  placeOf(index) {
    return this.values.length > 1 ? index / (this.values.length - 1) : 0.5;
  }

  /** Returns the value at a place. */
  at(place) {
    return this.log ? this.low * (this.high / this.low) ** place : this.low + place * (this.high - this.low);
  }

  ticks() {
    if (!this.isNumber) {
      const stride = Math.ceil(this.texts.length / MAX_LABELS);
      return this.texts.map((text, index) => [this.placeOf(index), text.length > 12 ? `${text.slice(0, 11)}…` : text]).filter((_, index) => index % stride === 0);
    }
    if (!Number.isFinite(this.low)) return [];
    if (this.high <= this.low) return [[0.5, tickText(this.low)]];
    const values = this.distinct.length <= MAX_VALUES ? this.distinct : ticksBetween(this.low, this.high, this.log);
    const found = [];
    for (const value of values) {
      const place = this.place(value);
      if (!found.length || place - found[found.length - 1][0] >= LEAST_SHARE) found.push([place, tickText(value)]);
    }
    return found;
  }
}

/**
 * Parallel coordinates in a figure.
 *
 * `update({axes, rows, mode, objective})` draws: `axes` are {name, is_number, log, values}, rows {key, name, href, values,
 * objective, words}, with a value per axis; the last axis is that of the objective if there is one. `onBrush()` is called
 * when the ranges changed, `accepts(row)` says whether a row is within them, `announce(text)` reads aloud.
 */
export class Parallel {
  constructor({ onBrush, announce }) {
    Object.assign(this, { onBrush, announce, ranges: new Map(), axes: [], rows: [], hot: null, pinned: null });
    const id = newId('parallel');
    this.svg = h('svg:svg', { role: 'img' });
    this.detail = h('p', { class: 'parallel-detail' });
    this.frame = h('div', { class: 'parallel-frame', tabindex: '0', role: 'group', 'aria-labelledby': id,
      'aria-description': 'Up and down arrow keys step through the trials, the best first. Escape ends.',
      on: { keydown: event => this.press(event), pointermove: event => this.hover(event), pointerleave: () => this.mark(this.pinned),
        click: event => this.pin(event) } }, this.svg);
    this.scale = h('p', { class: 'parallel-scale quiet-text' });
    this.fields = h('div', { class: 'ranges' });
    this.box = h('details', { class: 'filter-box' }, h('summary', {}, 'Ranges by number and by choice'), this.fields);
    this.element = h('figure', { class: 'parallel' }, h('figcaption', { id, class: 'visually-hidden' }, 'Parallel coordinates of the trials'),
      this.frame, this.scale, this.detail, this.box);
    this.ends = [onThemeChange(() => this.draw())];
    this.observer = new ResizeObserver(() => { if (this.element.clientWidth !== this.width) this.draw(); });
    this.observer.observe(this.element);
  }

  destroy() {
    for (const end of this.ends) end();
    this.observer.disconnect();
  }

  update({ axes, rows, mode, metric }) {
    const signature = JSON.stringify(axes);
    Object.assign(this, { rows, mode, metric });
    this.axes = axes.map((axis, index) => new Axis(axis, rows.map(row => row.values[index])));
    for (const name of [...this.ranges.keys()]) if (!axes.some(axis => axis.name === name)) this.ranges.delete(name);
    this.places = new Map(rows.map(row => [row.key, row.values.map((value, index) => this.axes[index].place(value))]));
    const known = rows.map(row => row.objective).filter(Number.isFinite);
    const [low, high] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
    const share = row => (high > low ? (row.objective - low) / (high - low) : 1);
    this.quality = new Map(rows.map(row => [row.key, Number.isFinite(row.objective) ? (mode === 'min' ? 1 - share(row) : share(row)) : null]));
    this.best = known.length ? (mode === 'min' ? low : high) : null;
    this.worst = known.length ? (mode === 'min' ? high : low) : null;
    // The best are drawn last, above the others.
    this.order = [...rows].sort((one, other) => (this.quality.get(one.key) ?? -1) - (this.quality.get(other.key) ?? -1));
    this.draw();
    if (signature !== this.signature) this.fillFields();
    this.signature = signature;
  }

  accepts(row) {
    const places = this.places.get(row.key);
    return places === undefined || this.axes.every((axis, index) => {
      const range = this.ranges.get(axis.name);
      if (!range) return true;
      const place = places[index];
      return place !== null && place >= range[0] - 1e-9 && place <= range[1] + 1e-9;
    });
  }

  clear() {
    this.ranges.clear();
    this.changed();
  }

  changed() {
    this.draw();
    this.fillFields();
    this.onBrush();
  }

  setRange(axis, range) {
    if (range === null) this.ranges.delete(axis.name);
    else this.ranges.set(axis.name, range);
    this.changed();
  }

  // Drawing

  x(index) {
    return SIDE + index * this.distance;
  }

  y(place) {
    return place === null ? HEIGHT - 10 : TOP + (1 - place) * (HEIGHT - TOP - BOTTOM);
  }

  draw() {
    this.width = this.element.clientWidth;
    if (!this.width || !this.axes.length) return;
    const gaps = Math.max(1, this.axes.length - 1);
    this.distance = Math.max(LEAST_DISTANCE, (this.width - 2 * SIDE) / gaps);
    const width = 2 * SIDE + gaps * this.distance;
    for (const [name, value] of Object.entries({ width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` })) this.svg.setAttribute(name, value);
    const shown = this.rows.filter(row => this.accepts(row)).length;
    this.svg.setAttribute('aria-label', `${plural(shown, 'line')} of ${plural(this.rows.length, 'trial')} over ${
      this.axes.map(axis => (axis.log ? `${axis.name} (logarithmic)` : axis.name)).join(', ')}`);
    this.lines = new Map();
    const group = h('svg:g', { fill: 'none' });
    for (const row of this.order) {
      const line = h('svg:path', { d: this.path(row), class: this.accepts(row) ? 'trial-line' : 'trial-line is-out',
        stroke: this.colour(row), data: { trial: row.key } });
      this.lines.set(row.key, line);
      group.append(line);
    }
    this.over = h('svg:path', { class: 'trial-line is-hot', fill: 'none' });
    fill(this.svg, group, this.over, this.axes.map((axis, index) => this.axis(axis, index)));
    this.drawScale();
    this.mark(this.hot);
  }

  path(row) {
    const places = this.places.get(row.key);
    const points = places.map((place, index) => [index, place]).filter(([index, place]) => place !== null || !this.isObjective(index));
    return points.map(([index, place], number) => `${number ? 'L' : 'M'}${this.x(index).toFixed(1)} ${this.y(place).toFixed(1)}`).join('');
  }

  isObjective(index) {
    return Boolean(this.metric) && index === this.axes.length - 1;
  }

  colour(row) {
    const quality = this.quality.get(row.key);
    return quality === null ? 'currentColor' : ramp(quality);
  }

  axis(axis, index) {
    const x = this.x(index);
    const range = this.ranges.get(axis.name);
    const reach = h('svg:rect', { x: x - 16, y: TOP - 10, width: 32, height: HEIGHT - TOP - BOTTOM + 20, class: 'axis-reach' },
      h('svg:title', {}, `Drag along ${axis.name} to choose a range; a click clears it`));
    reach.addEventListener('pointerdown', event => this.beginBrush(event, axis, reach));
    const title = axis.name.length > 17 ? `${axis.name.slice(0, 16)}…` : axis.name;
    return h('svg:g', { class: 'parallel-axis', 'aria-hidden': 'true' },
      h('svg:line', { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }),
      h('svg:text', { x, y: 14, class: 'axis-name' }, title, title === axis.name ? null : h('svg:title', {}, axis.name)),
      axis.log ? h('svg:text', { x, y: 28, class: 'axis-log' }, 'log scale') : null,
      axis.ticks().map(([place, text]) => [
        h('svg:line', { x1: x - 4, x2: x + 4, y1: this.y(place), y2: this.y(place) }),
        h('svg:text', { x: x - 8, y: this.y(place) + 4, class: 'tick' }, text)]),
      this.rows.some(row => this.places.get(row.key)[index] === null) && !this.isObjective(index)
        ? h('svg:text', { x: x - 8, y: this.y(null) + 4, class: 'tick' }, 'none') : null,
      range ? h('svg:rect', { x: x - 7, y: this.y(range[1]) - 2, width: 14, height: this.y(range[0]) - this.y(range[1]) + 4, class: 'axis-range' }) : null,
      reach);
  }

  drawScale() {
    if (this.best === null) {
      fill(this.scale);
      return;
    }
    const steps = 24;
    const bar = h('svg:svg', { viewBox: `0 0 ${steps} 1`, width: 120, height: 10, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      Array.from({ length: steps }, (_, i) => h('svg:rect', { x: i, y: 0, width: 1.05, height: 1, fill: ramp(i / (steps - 1)) })));
    fill(this.scale, `${this.metric}: worst ${number(this.worst)} `, bar, ` best ${number(this.best)}`);
  }

  // Ranges

  beginBrush(event, axis, reach) {
    event.preventDefault();
    reach.setPointerCapture(event.pointerId);
    const top = this.svg.getBoundingClientRect().top;
    const place = moved => Math.max(0, Math.min(1, 1 - (moved.clientY - top - TOP) / (HEIGHT - TOP - BOTTOM)));
    const from = place(event);
    this.brushing = true;
    const move = moved => {
      const to = place(moved);
      if (Math.abs(to - from) * (HEIGHT - TOP - BOTTOM) > 4) this.preview(axis, [Math.min(from, to), Math.max(from, to)]);
    };
    const up = moved => {
      reach.removeEventListener('pointermove', move);
      reach.removeEventListener('pointerup', up);
      reach.removeEventListener('pointercancel', up);
      const to = place(moved);
      const isClick = Math.abs(to - from) * (HEIGHT - TOP - BOTTOM) <= 4;
      setTimeout(() => { this.brushing = false; });
      this.setRange(axis, isClick ? null : [Math.min(from, to), Math.max(from, to)]);
    };
    reach.addEventListener('pointermove', move);
    reach.addEventListener('pointerup', up);
    reach.addEventListener('pointercancel', up);
  }

  /** Shows a range that is still being dragged: the axis keeps the pointer, so nothing is drawn from the beginning. */
  preview(axis, range) {
    this.ranges.set(axis.name, range);
    for (const row of this.rows) this.lines.get(row.key).setAttribute('class', this.accepts(row) ? 'trial-line' : 'trial-line is-out');
    const group = this.svg.querySelectorAll('.parallel-axis')[this.axes.indexOf(axis)];
    let rect = group.querySelector('.axis-range');
    if (!rect) {
      rect = h('svg:rect', { x: this.x(this.axes.indexOf(axis)) - 7, width: 14, class: 'axis-range' });
      group.insertBefore(rect, group.lastElementChild);
    }
    rect.setAttribute('y', this.y(range[1]) - 2);
    rect.setAttribute('height', this.y(range[0]) - this.y(range[1]) + 4);
  }

  fillFields() {
    if (this.fields.contains(document.activeElement)) return;
    fill(this.fields, this.axes.map(axis => (axis.isNumber ? this.numberFields(axis) : this.choices(axis))));
  }

  numberFields(axis) {
    const range = this.ranges.get(axis.name);
    const shown = place => String(Number(axis.at(place).toPrecision(4)));
    const [low, high] = [0, 1].map(end => h('input', { type: 'number', step: 'any', class: 'short', value: range ? shown(range[end]) : '',
      placeholder: Number.isFinite(axis.low) ? tickText(end ? axis.high : axis.low) : '',
      'aria-label': `${axis.name}, ${end ? 'at most' : 'at least'}`, on: { change: () => apply() } }));
    const apply = () => {
      const bound = (input, fallback) => {
        const value = Number(input.value);
        if (input.value === '' || !Number.isFinite(value)) return fallback;
        const place = axis.log && value <= 0 ? 0 : axis.place(value);
        return Math.max(-0.001, Math.min(1.001, place));
      };
      this.setRange(axis, low.value === '' && high.value === '' ? null : [bound(low, 0), bound(high, 1)]);
    };
    return h('fieldset', {}, h('legend', {}, axis.name), low, h('span', {}, ' to '), high);
  }

  choices(axis) {
    const range = this.ranges.get(axis.name);
    // A range of neighbours: from the first chosen value to the last.
    const select = (label, end) => h('select', { 'aria-label': `${axis.name}, ${label}`, on: { change: () => apply() } },
      h('option', { value: '' }, 'any'), axis.texts.map((text, index) => h('option', {
        value: String(index), selected: Boolean(range) && Math.abs(this.nearest(axis, range, end) - index) < 0.5 }, text)));
    const [first, last] = [select('from', 0), select('to', 1)];
    const apply = () => {
      const [from, to] = [first.value === '' ? 0 : Number(first.value), last.value === '' ? axis.texts.length - 1 : Number(last.value)];
      this.setRange(axis, first.value === '' && last.value === '' ? null : [axis.placeOf(Math.min(from, to)), axis.placeOf(Math.max(from, to))]);
    };
    return h('fieldset', {}, h('legend', {}, axis.name), first, h('span', {}, ' to '), last);
  }

  nearest(axis, range, end) {
    const inside = axis.texts.map((_, index) => index).filter(index => axis.placeOf(index) >= range[0] - 1e-9 && axis.placeOf(index) <= range[1] + 1e-9);
    return inside.length ? inside[end ? inside.length - 1 : 0] : -1;
  }

  // One trial

  hover(event) {
    if (this.brushing) return;
    const box = this.svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const at = Math.max(0, Math.min(this.axes.length - 1, (px - SIDE) / this.distance));
    const left = Math.min(Math.floor(at), Math.max(0, this.axes.length - 2));
    let [found, least] = [null, NEAR];
    for (const row of this.order) {
      if (!this.accepts(row)) continue;
      const places = this.places.get(row.key);
      const right = Math.min(left + 1, places.length - 1);
      if (this.isObjective(right) && places[right] === null) continue;
      const y = this.y(places[left]) + (this.y(places[right]) - this.y(places[left])) * (at - left);
      if (Math.abs(y - py) <= least) [found, least] = [row.key, Math.abs(y - py)];
    }
    this.mark(found ?? this.pinned);
  }

  pin(event) {
    if (this.brushing || event.target.classList.contains('axis-reach')) return;
    this.pinned = this.pinned === this.hot ? null : this.hot;
    this.mark(this.pinned);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const best = this.order.filter(row => this.accepts(row)).reverse();
    const here = best.findIndex(row => row.key === this.hot);
    const next = { ArrowDown: Math.min(here + 1, best.length - 1), ArrowUp: Math.max(here - 1, 0), Home: 0, End: best.length - 1 }[event.key];
    if (event.key === 'Escape') {
      this.pinned = null;
      this.mark(null);
    } else if (next !== undefined && best.length) {
      this.pinned = best[next].key;
      this.mark(this.pinned);
      this.announce(best[next].words);
    } else return;
    event.preventDefault();
  }

  /** Shows a trial by its key; none for null. */
  mark(key) {
    const row = this.rows.find(one => one.key === key);
    this.hot = row ? key : null;
    if (!this.over) return;
    this.over.setAttribute('d', row ? this.path(row) : '');
    fill(this.detail, row
      ? [row.href ? h('a', { href: row.href, class: 'run-name' }, row.name) : h('strong', {}, row.name), ` · ${row.words}`]
      : h('span', { class: 'quiet-text' }, 'Point at a line to see its trial, a click keeps it. Drag along an axis to choose a range.'),
    row ? null : hidden(' The table below has the same trials.'));
  }
}
