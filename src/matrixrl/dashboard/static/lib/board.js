// The board of HackMatrix as SVG: the drawing of `matrixrl hackmatrix watch`, from the scenario of a state.

import { h } from './dom.js';

const SIZE = 6;
const CELL = 76;
const MARGIN = 8;
const INK = '#d7e0ea';
const FAINT = '#8a99a9';
const DARK = '#0b1016';
const PLAYER = '#4ade80';
const CREDITS = '#facc15';
const ENERGY = '#60a5fa';
const PICKUP = '#22d3ee';
const TRANSMISSION = '#fb923c';
const BLOCKS = { data: ['#1e3a5f', '#3b82f6'], program: ['#3b2463', '#a78bfa'], question: ['#3a3f47', '#9aa5b1'] };
const ENEMIES = { virus: '#ef4444', daemon: '#d946ef', glitch: '#f59e0b', cryptog: '#2dd4bf' };
const LETTERS = { virus: 'V', daemon: 'D', glitch: 'G', cryptog: 'C' };

const key = (row, col) => `${row},${col}`;

function shape(name, attributes, ...children) {
  return h(`svg:${name}`, attributes, ...children);
}

function text(x, y, size, fill, content, anchor = 'middle') {
  return shape('text', { x, y: y + size * 0.35, 'font-size': size, fill, 'text-anchor': anchor, 'font-weight': 600 }, content);
}

function box(left, top, right, bottom, attributes) {
  return shape('rect', { x: left, y: top, width: right - left, height: bottom - top, rx: 6, ...attributes });
}

function polygon(points, fill) {
  return shape('polygon', { points: points.map(point => point.map(value => value.toFixed(1)).join(',')).join(' '), fill });
}

/**
 * Returns the board of a frame.
 *
 * @param {object} frame of the server; @param {object} options `reveal` shows what is hidden from the player;
 *   `programs` maps names of programs to what blocks show.
 */
export function board(frame, { reveal = false, programs = {} } = {}) {
  const state = frame.state;
  const side = SIZE * CELL + 2 * MARGIN;
  const svg = shape('svg', { viewBox: `0 0 ${side} ${side}`, class: 'board', role: 'img', 'aria-label': boardText(frame, reveal) });
  svg.append(box(0, 0, side, side, { fill: DARK, rx: 10 }));
  const blocks = new Map(state.blocks.map(block => [key(block.row, block.col), block]));
  const siphoned = new Set(state.siphoned_cells.map(([row, col]) => key(row, col)));
  for (const block of state.blocks) if (block.siphoned) siphoned.add(key(block.row, block.col));
  const at = {
    blocks, siphoned, frame, reveal, programs,
    centers: new Set(state.siphon_centers.map(([row, col]) => key(row, col))),
    pickups: new Set(state.data_siphons.map(([row, col]) => key(row, col))),
    resources: new Map(state.resources.map(resource => [key(resource.row, resource.col), resource])),
  };
  for (let row = 0; row < SIZE; row += 1) for (let col = 0; col < SIZE; col += 1) svg.append(...ground(at, row, col));
  for (let row = 0; row < SIZE; row += 1) for (let col = 0; col < SIZE; col += 1) svg.append(...actors(at, row, col));
  return svg;
}

const corner = (row, col) => [MARGIN + col * CELL, MARGIN + (SIZE - 1 - row) * CELL];

function ground({ frame, blocks, siphoned, centers, pickups, resources, reveal, programs }, row, col) {
  const [left, top] = corner(row, col);
  const place = key(row, col);
  const done = siphoned.has(place);
  const found = [box(left + 2, top + 2, left + CELL - 2, top + CELL - 2, { fill: done ? '#10161d' : '#151d27', stroke: '#202c3a', rx: 8 })];
  if (done) {
    for (const dx of [9, CELL - 9]) for (const dy of [9, CELL - 9]) found.push(shape('circle', { cx: left + dx, cy: top + dy, r: 1.6, fill: '#5d6b7b' }));
  }
  const middle = left + CELL / 2;
  if (centers.has(place)) found.push(shape('circle', { cx: middle, cy: top + 30, r: 27, fill: 'none', stroke: '#2b3a4b', 'stroke-width': 1.5 }));
  const block = blocks.get(place);
  const { exit } = frame.state;
  if (block) found.push(...drawBlock(block, left, top, done, reveal, programs));
  else if (exit.row === row && exit.col === col) {
    const [x, y] = [middle, top + 30];
    found.push(
      box(left + 6, top + 6, left + CELL - 6, top + CELL - 6, { fill: '#0f2a1a', stroke: '#22c55e', 'stroke-width': 2, rx: 7 }),
      polygon([[x - 12, y - 5], [x, y - 5], [x, y - 13], [x + 14, y], [x, y + 13], [x, y + 5], [x - 12, y + 5]], '#22c55e'),
      text(middle, top + 57, 11, '#22c55e', 'EXIT'));
  } else if (pickups.has(place)) {
    const [x, y] = [middle, top + 32];
    found.push(shape('circle', { cx: x, cy: y, r: 17, fill: 'none', stroke: PICKUP, 'stroke-width': 2 }));
    for (const shift of [-5, 3]) {
      found.push(shape('polyline', { points: `${x - 7},${y + shift - 2} ${x},${y + shift + 5} ${x + 7},${y + shift - 2}`, fill: 'none', stroke: PICKUP, 'stroke-width': 2.4 }));
    }
  }
  const resource = resources.get(place);
  if (resource && (!block || done || reveal)) found.push(...drawResource(resource, middle, top + CELL - 11));
  return found;
}

function drawBlock(block, left, top, done, reveal, programs) {
  const [fill, line] = done ? ['#10161d', '#5d6b7b'] : BLOCKS[block.kind];
  const ink = done ? FAINT : INK;
  const middle = left + CELL / 2;
  const found = [box(left + 6, top + 6, left + CELL - 6, top + CELL - 6, { fill, stroke: line, 'stroke-width': 1.5, rx: 7 })];
  if (block.kind === 'question' && !reveal) return [...found, text(middle, top + CELL / 2, 34, ink, '?')];
  const isProgram = (block.hidden_kind ?? block.kind) === 'program';
  found.push(isProgram ? text(middle, top + 32, 13.5, ink, programs[block.program] ?? block.program) : text(middle, top + 32, 28, ink, String(block.points)));
  if (block.spawn_count && !done) found.push(text(middle, top + CELL - 17, 10.5, '#c3cedb', `spawns ${block.spawn_count}`));
  return found;
}

function drawResource({ credits, energy }, middle, y) {
  const signs = [...Array(Math.min(credits, 4)).fill('c'), ...Array(Math.min(energy, 4)).fill('e')];
  let x = middle - (signs.length - 1) * 5.5;
  const found = signs.map(sign => {
    const here = x;
    x += 11;
    return sign === 'c'
      ? shape('circle', { cx: here, cy: y, r: 3.6, fill: CREDITS })
      : polygon([[here + 1.5, y - 5], [here - 3.5, y + 1], [here - 0.3, y + 1], [here - 1.5, y + 5], [here + 3.5, y - 1], [here + 0.3, y - 1]], ENERGY);
  });
  const most = Math.max(credits, energy);
  return most > 4 ? [...found, text(x + 4, y, 9, FAINT, `(${most})`)] : found;
}

function actors({ frame, reveal }, row, col) {
  const { state, visible } = frame;
  const here = state.player.row === row && state.player.col === col;
  const enemies = state.enemies.filter((enemy, index) => enemy.row === row && enemy.col === col && (reveal || visible[index]));
  const transmission = state.transmissions.find(item => item.row === row && item.col === col);
  const [left, top] = corner(row, col);
  const [x, y] = [left + CELL / 2, top + 30];
  const found = [];
  if (transmission) {
    const small = enemies.length > 0 || here;
    const known = reveal || state.flags.show_activated;
    const fill = known ? ENEMIES[transmission.enemy_type] : TRANSMISSION;
    const [cx, cy, r] = [x + (small ? 21 : 0), y - (small ? 16 : 0), small ? 9 : 21];
    found.push(shape('circle', { cx, cy, r, fill: 'none', stroke: fill, 'stroke-width': r / 7, 'stroke-dasharray': `${(r * 0.66).toFixed(1)} ${(r * 0.38).toFixed(1)}` }));
    found.push(text(cx, cy, r * 0.95, fill, String(transmission.turns_left)));
    if (known && !small) found.push(text(cx + 17, cy + 17, 10, fill, LETTERS[transmission.enemy_type]));
  }
  if (enemies.length) found.push(...drawEnemy(enemies[0], x + (here ? 13 : 0), y, enemies.length));
  else if (state.enemies.some((enemy, index) => enemy.last_known && enemy.last_known[0] === row && enemy.last_known[1] === col && !visible[index])) {
    found.push(shape('circle', { cx: x, cy: y, r: 15, fill: 'none', stroke: '#1f5a55', 'stroke-width': 1.5 }), text(x, y, 15, '#2b9f97', '?'));
  }
  if (here) found.push(...drawPlayer(x - (enemies.length ? 13 : 0), y, state.player.hp));
  return found;
}

function drawPlayer(x, y, hp) {
  return [
    shape('circle', { cx: x, cy: y, r: 21, fill: '#0d2417', stroke: PLAYER, 'stroke-width': 2.5 }),
    shape('circle', { cx: x, cy: y - 5, r: 6.5, fill: PLAYER }),
    shape('path', { d: `M${x - 12},${y + 15} A12,11 0 0 1 ${x + 12},${y + 15} Z`, fill: PLAYER }),
    ...pips(x, y + 25.5, hp, 3, PLAYER),
  ];
}

function pips(x, y, count, full, fill) {
  const total = Math.min(Math.max(count, full), 6);
  return Array.from({ length: total }, (_, index) =>
    shape('rect', { x: x - total * 3.5 + index * 7 + 0.8, y: y - 2, width: 5.4, height: 4, rx: 1, fill: index < count ? fill : '#2a3442' }));
}

function drawEnemy(enemy, x, y, stacked) {
  const fill = ENEMIES[enemy.type];
  const found = [];
  if (enemy.type === 'virus') {
    found.push(polygon(Array.from({ length: 16 }, (_, index) => {
      const [radius, angle] = [index % 2 ? 11.5 : 19, (index * Math.PI) / 8];
      return [x + radius * Math.cos(angle), y + radius * Math.sin(angle)];
    }), fill));
  } else if (enemy.type === 'daemon') {
    found.push(polygon([[x - 16, y - 19], [x - 5, y - 10], [x - 16, y - 2]], fill), polygon([[x + 16, y - 19], [x + 5, y - 10], [x + 16, y - 2]], fill),
      box(x - 15, y - 12, x + 15, y + 17, { fill, rx: 9 }));
  } else if (enemy.type === 'glitch') {
    for (const [dx, y0, y1] of [[-3, -17, -7], [4, -6, 4], [-4, 5, 16]]) found.push(box(x - 15 + dx, y + y0, x + 15 + dx, y + y1, { fill, rx: 1.5 }));
  } else found.push(polygon([[x, y - 20], [x + 17, y + 2], [x + 14, y + 17], [x - 14, y + 17], [x - 17, y + 2]], fill));
  if (enemy.stunned) {
    for (const dx of [-6, 6]) {
      found.push(shape('path', { d: `M${x + dx - 3},${y - 3} l6,6 M${x + dx - 3},${y + 3} l6,-6`, stroke: DARK, 'stroke-width': 2 }));
    }
  } else for (const dx of [-5.5, 5.5]) found.push(shape('circle', { cx: x + dx, cy: y, r: 2.8, fill: DARK }));
  found.push(...pips(x, y + 24.5, enemy.hp, enemy.type === 'daemon' ? 3 : 2, fill));
  if (stacked > 1) found.push(box(x + 9, y - 27, x + 27, y - 13, { fill: INK, rx: 7 }), text(x + 18, y - 20, 10, DARK, `×${stacked}`));
  return found;
}

/** Returns the board in words, for screen readers. */
export function boardText(frame, reveal = false) {
  const { state, visible } = frame;
  const where = item => `row ${item.row}, column ${item.col}`;
  const words = [`You at ${where(state.player)} with ${state.player.hp} hp`, `exit at ${where(state.exit)}`];
  state.enemies.forEach((enemy, index) => {
    if (reveal || visible[index]) words.push(`${enemy.type} with ${enemy.hp} hp at ${where(enemy)}`);
  });
  for (const item of state.transmissions) words.push(`transmission at ${where(item)}, arrives in ${item.turns_left}`);
  for (const block of state.blocks.filter(one => !one.siphoned)) words.push(`${block.kind} block at ${where(block)}`);
  return `${words.join('; ')}.`;
}
