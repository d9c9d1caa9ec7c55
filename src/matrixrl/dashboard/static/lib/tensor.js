// The residual tensor of a game: its entries after each term, as slices and as a solid that can be turned.

import { h } from './dom.js';
import { colour, onTheme, penOf } from './paint.js';

/** Returns a coefficient as a number: 2, -1, or a text such as `1/2`. NaN for a complex number. */
export function numeric(value) {
  if (typeof value === 'number') return value;
  const found = /^(-?\d+)(?:\/(\d+))?$/.exec(value);
  return found ? Number(found[1]) / Number(found[2] || 1) : NaN;
}

/** The residuals of a game, computed term by term. */
export class Residuals {
  /** @param {object} game with `shape`, `target` (flat), `terms` [[u, v, w], ...] and `modulus`. */
  constructor(game) {
    this.shape = game.shape;
    this.modulus = game.modulus;
    this.terms = game.terms.map(term => term.map(vector => vector.map(numeric)));
    this.states = [Float64Array.from(game.target)];
    this.known = this.terms.every(term => term.every(vector => vector.every(Number.isFinite)));
  }

  /** Returns the entries after a number of terms. */
  at(count) {
    while (this.states.length <= count) {
      this.states.push(this.subtract(this.states[this.states.length - 1], this.terms[this.states.length - 1]));
    }
    return this.states[count];
  }

  subtract(before, [u, v, w]) {
    const after = Float64Array.from(before);
    const [, b, c] = this.shape;
    u.forEach((x, i) => {
      if (!x) return;
      v.forEach((y, j) => {
        if (!y) return;
        w.forEach((z, k) => {
          if (!z) return;
          const place = (i * b + j) * c + k;
          const value = after[place] - x * y * z;
          // Fractions leave rounding errors far below the smallest coefficient.
          const rounded = Math.abs(value) < 1e-9 ? 0 : value;
          after[place] = this.modulus ? ((rounded % this.modulus) + this.modulus) % this.modulus : rounded;
        });
      });
    });
    return after;
  }

  /** Returns the places that a term touches. */
  touched(count) {
    const [u, v, w] = this.terms[count] || [[], [], []];
    const [, b, c] = this.shape;
    const places = new Set();
    u.forEach((x, i) => x && v.forEach((y, j) => y && w.forEach((z, k) => z && places.add((i * b + j) * c + k))));
    return places;
  }

  /** Returns the number of entries that are not zero. */
  count(position) {
    return this.at(position).reduce((sum, value) => sum + (value !== 0), 0);
  }
}

/** Returns the colour of a value on a canvas. */
function tint(value) {
  if (value === 0) return colour('--cell');
  const large = Math.abs(value) > 1;
  if (value > 0) return colour(large ? '--plus-large' : '--plus');
  return colour(large ? '--minus-large' : '--minus');
}

/** Slices of a tensor along its third mode: one grid for each entry of z. */
export class Slices {
  constructor(residuals, labels, signal) {
    Object.assign(this, { residuals, labels, position: 0 });
    this.canvas = h('canvas', { role: 'img', class: 'slices' });
    this.element = h('div', { class: 'slices-area' }, this.canvas);
    const observer = new ResizeObserver(() => this.draw());
    observer.observe(this.element);
    signal?.addEventListener('abort', () => observer.disconnect());
    onTheme(() => this.draw(), signal);
  }

  show(position) {
    this.position = position;
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const [a, b, c] = this.residuals.shape;
    const gap = 10;
    const head = 16;
    const [smallest, largest] = a > 12 ? [5, 10] : a > 6 ? [10, 16] : [15, 28];
    // As many slices stand in a row as fit with the smallest cells.
    const perRow = Math.max(1, Math.min(c, Math.floor((width + gap) / (b * smallest + gap))));
    const side = Math.max(2, Math.min(largest, (width - gap * (perRow - 1)) / (perRow * b)));
    const rows = Math.ceil(c / perRow);
    const height = rows * (a * side + head + gap);
    const pen = penOf(this.canvas, width, height);
    const entries = this.residuals.at(this.position);
    const touched = this.position > 0 ? this.residuals.touched(this.position - 1) : new Set();
    const line = colour('--page');
    const ink = colour('--text');
    pen.font = `600 11px system-ui, sans-serif`;
    for (let k = 0; k < c; k += 1) {
      const left = (k % perRow) * (b * side + gap);
      const top = Math.floor(k / perRow) * (a * side + head + gap);
      pen.fillStyle = colour('--text-quiet');
      pen.textAlign = 'left';
      pen.textBaseline = 'top';
      pen.fillText(this.labels[2][k] ?? `z${k + 1}`, left, top);
      for (let i = 0; i < a; i += 1) {
        for (let j = 0; j < b; j += 1) {
          const place = (i * b + j) * c + k;
          const x = left + j * side;
          const y = top + head + i * side;
          pen.fillStyle = tint(entries[place]);
          pen.fillRect(x, y, side, side);
          pen.strokeStyle = line;
          pen.lineWidth = side > 6 ? 1 : 0.5;
          pen.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
          if (entries[place] !== 0 && side >= 12) this.sign(pen, entries[place], x + side / 2, y + side / 2, side);
          if (touched.has(place)) {
            pen.strokeStyle = ink;
            pen.lineWidth = side > 8 ? 2 : 1;
            pen.strokeRect(x + 1.5, y + 1.5, side - 3, side - 3);
          }
        }
      }
    }
    const count = this.residuals.count(this.position);
    this.canvas.setAttribute('aria-label',
      `Residual after ${this.position} terms in ${c} slices: ${count} of ${a * b * c} entries are not zero`);
  }

  sign(pen, value, x, y, side) {
    pen.fillStyle = colour('--on-colour');
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    pen.font = `700 ${Math.min(14, side * 0.6)}px system-ui, sans-serif`;
    const size = Math.abs(value);
    const digits = Number.isInteger(size) ? String(size) : size.toFixed(1);
    pen.fillText(size === 1 ? (value > 0 ? '+' : '−') : (value > 0 ? digits : `−${digits}`), x, y);
    pen.font = `600 11px system-ui, sans-serif`;
  }
}

const FACES = [
  // Normal, and corners in order.
  [[1, 0, 0], [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 1]]],
  [[-1, 0, 0], [[0, 0, 0], [0, 0, 1], [0, 1, 1], [0, 1, 0]]],
  [[0, 1, 0], [[0, 1, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]]],
  [[0, -1, 0], [[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]]],
  [[0, 0, 1], [[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]],
  [[0, 0, -1], [[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]]],
];

const EDGES = [[0, 1], [0, 2], [0, 4], [1, 3], [1, 5], [2, 3], [2, 6], [3, 7], [4, 5], [4, 6], [5, 7], [6, 7]];
const START = { yaw: -0.6, pitch: -0.5 };

/** A tensor as a solid of small cubes, one for each entry that is not zero. Drag it, or use the arrow keys. */
export class Solid {
  constructor(residuals, labels, signal) {
    Object.assign(this, { residuals, labels, position: 0, ...START, pending: false });
    this.canvas = h('canvas', {
      role: 'img', tabindex: 0, class: 'solid', data: { keys: 'own' },
      on: { keydown: event => this.press(event), dblclick: () => this.turnTo(START) },
    });
    this.element = h('div', { class: 'solid-area' }, this.canvas);
    let last = null;
    this.canvas.addEventListener('pointerdown', event => {
      last = [event.clientX, event.clientY];
      this.canvas.setPointerCapture(event.pointerId);
    });
    this.canvas.addEventListener('pointermove', event => {
      if (last === null) return;
      this.turnTo({
        yaw: this.yaw + (event.clientX - last[0]) * 0.01,
        pitch: this.pitch + (event.clientY - last[1]) * 0.01,
      });
      last = [event.clientX, event.clientY];
    });
    for (const name of ['pointerup', 'pointercancel']) this.canvas.addEventListener(name, () => { last = null; });
    const observer = new ResizeObserver(() => this.redraw());
    observer.observe(this.element);
    signal?.addEventListener('abort', () => observer.disconnect());
    onTheme(() => this.redraw(), signal);
  }

  press(event) {
    const turns = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
    if (event.key in turns) {
      const [yaw, pitch] = turns[event.key];
      this.turnTo({ yaw: this.yaw + yaw, pitch: this.pitch + pitch });
    } else if (event.key === '0') this.turnTo(START);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  turnTo({ yaw, pitch }) {
    this.yaw = yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, pitch));
    this.redraw();
  }

  show(position) {
    this.position = position;
    this.redraw();
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.draw();
    });
  }

  /** Returns a point of the tensor on the canvas, and its depth. */
  project([x, y, z]) {
    const [a, b, c] = this.residuals.shape;
    const [px, py, pz] = [x - a / 2, y - b / 2, z - c / 2];
    const [cy, sy, cp, sp] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    const right = py * cy + pz * sy;
    const away = -py * sy + pz * cy;
    return [this.middle + right * this.unit, this.centre + (px * cp + away * sp) * this.unit, away * cp - px * sp];
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const size = Math.min(width, 330);
    const pen = penOf(this.canvas, width, size);
    const [a, b, c] = this.residuals.shape;
    this.middle = width / 2;
    this.centre = size / 2;
    this.unit = (size - 44) / Math.hypot(a, b, c);
    this.frame(pen);
    const entries = this.residuals.at(this.position);
    const touched = this.position > 0 ? this.residuals.touched(this.position - 1) : new Set();
    const cubes = [];
    for (let i = 0; i < a; i += 1) for (let j = 0; j < b; j += 1) for (let k = 0; k < c; k += 1) {
      const place = (i * b + j) * c + k;
      const value = entries[place];
      if (value !== 0) cubes.push({ at: [i, j, k], value, isChanged: touched.has(place), depth: this.project([i + 0.5, j + 0.5, k + 0.5])[2] });
    }
    cubes.sort((one, other) => other.depth - one.depth);
    for (const cube of cubes) this.cube(pen, cube);
    this.letters(pen);
    this.canvas.setAttribute('aria-label',
      `Residual after ${this.position} terms as a solid: ${cubes.length} of ${a * b * c} entries are not zero. `
      + 'Arrow keys turn it, 0 turns it back.');
  }

  frame(pen) {
    const [a, b, c] = this.residuals.shape;
    const corners = [0, 1, 2, 3, 4, 5, 6, 7].map(n => this.project([n & 4 ? a : 0, n & 2 ? b : 0, n & 1 ? c : 0]));
    pen.strokeStyle = colour('--line');
    pen.lineWidth = 1;
    for (const [one, other] of EDGES) {
      pen.beginPath();
      pen.moveTo(corners[one][0], corners[one][1]);
      pen.lineTo(corners[other][0], corners[other][1]);
      pen.stroke();
    }
  }

  /** Writes the names of the three modes beside their edges, above the cubes. */
  letters(pen) {
    const [a, b, c] = this.residuals.shape;
    pen.fillStyle = colour('--text');
    pen.strokeStyle = colour('--surface');
    pen.lineWidth = 4;
    pen.font = '700 13px system-ui, sans-serif';
    pen.textAlign = 'center';
    pen.textBaseline = 'middle';
    const letters = this.labels.map(names => (names[0] || '?').replace(/[\d_]+$/, ''));
    const middles = [[a / 2, -0.6, -0.6], [-0.6, b / 2, -0.6], [-0.6, -0.6, c / 2]];
    middles.forEach((point, mode) => {
      const [x, y] = this.project(point);
      pen.strokeText(letters[mode], x, y);
      pen.fillText(letters[mode], x, y);
    });
  }

  cube(pen, { at, value, isChanged }) {
    const base = tint(value);
    const margin = 0.09;
    for (const [normal, corners] of FACES) {
      const [nx, ny, nz] = normal;
      const tip = this.project(at.map((x, axis) => x + 0.5 + [nx, ny, nz][axis] * 0.5));
      const heart = this.project(at.map(x => x + 0.5));
      if (tip[2] >= heart[2]) continue; // faces away
      pen.beginPath();
      corners.forEach((corner, index) => {
        const [x, y] = this.project(at.map((base_, axis) => base_ + margin + corner[axis] * (1 - 2 * margin)));
        if (index) pen.lineTo(x, y);
        else pen.moveTo(x, y);
      });
      pen.closePath();
      pen.fillStyle = base;
      pen.fill();
      // Light from above: the sides are darker.
      const shade = nx < 0 ? 0 : nx > 0 ? 0.45 : ny ? 0.12 : 0.28;
      pen.fillStyle = `rgba(0, 0, 0, ${shade})`;
      pen.fill();
      pen.strokeStyle = isChanged ? colour('--text') : 'rgba(0, 0, 0, 0.35)';
      pen.lineWidth = isChanged ? 1.6 : 0.6;
      pen.stroke();
    }
  }
}
