// Line charts with bands on uPlot: smoothing, log scale, zoom and pan, a text alternative, PNG.

import uPlot from '../vendor/uPlot.esm.js';
import { fill, h, hidden, newId } from './dom.js';
import { duration, number, plural } from './format.js';
import { colour, dash, onThemeChange, variable } from './theme.js';

const HEIGHT = 220;
const TABLE_ROWS = 20;

/** Returns values smoothed by an exponential moving average without the pull of its start (weight 0 to 1). */
export function smoothed(values, weight) {
  if (!weight) return values;
  let mean = 0;
  let total = 0;
  return values.map(value => {
    if (value === null || value === undefined || !Number.isFinite(value)) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

/** Returns `#rrggbb` with an opacity. */
function faded(hex, opacity) {
  return `${hex}${Math.round(255 * opacity).toString(16).padStart(2, '0')}`;
}

/** Returns a value of the x-axis in words. */
function xText(value, axis) {
  return axis === 'time' ? duration(value) : number(Number(value.toPrecision(6)));
}

/** Returns what a curve does, in a sentence. */
export function described(curve, axis) {
  const there = curve.y.map((y, index) => [curve.x[index], y]).filter(([, y]) => Number.isFinite(y));
  if (!there.length) return `${curve.label}: no values.`;
  const lows = (curve.low || curve.y).filter(Number.isFinite);
  const highs = (curve.high || curve.y).filter(Number.isFinite);
  const low = lows.reduce((a, b) => Math.min(a, b), Infinity);
  const high = highs.reduce((a, b) => Math.max(a, b), -Infinity);
  const [first, last] = [there[0], there[there.length - 1]];
  return `${curve.label}: ${plural(there.length, 'point')}, from ${number(first[1])} at ${axis} ${xText(first[0], axis)} to `
    + `${number(last[1])} at ${xText(last[0], axis)}; lowest ${number(low)}, highest ${number(high)}.`;
}

/**
 * A chart in a figure.
 *
 * Options: `title`; `onZoom(low, high)` for a range of x, or (null, null) for all of it; `csv()` returns the address of
 * the numbers; `height`.
 *
 * `update({curves, axis, log, smoothing, range})` draws: curves are {label, x, y, low, high, kind}, `kind` being
 * 'spread' (a band of a thinned curve) or 'interval' (a band over seeds).
 */
export class Chart {
  constructor(options) {
    this.options = options;
    this.plot = null;
    this.drawn = null;
    const id = newId('chart');
    this.image = h('div', { class: 'plot', role: 'img', 'aria-label': `${options.title}: loading` });
    this.legend = h('ul', { class: 'legend' });
    this.numbers = h('details', { class: 'numbers', on: { toggle: () => this.fillNumbers() } },
      h('summary', {}, 'Numbers', hidden(` of ${options.title}`)), h('div', {}));
    const csv = options.csv
      ? h('a', { class: 'button quiet', href: options.csv(), download: '' }, 'CSV', hidden(` of ${options.title}`))
      : null;
    this.csvLink = csv;
    const png = h('button', { type: 'button', class: 'quiet', on: { click: () => this.downloadPng() } },
      'PNG', hidden(` of ${options.title}`));
    this.element = h('figure', { class: 'chart', data: { metric: options.title } },
      h('figcaption', { id }, options.title, h('span', { class: 'tools' }, csv, png)),
      h('div', { class: 'frame', tabindex: '0', role: 'group', 'aria-labelledby': id,
        'aria-description': 'Arrow keys pan, plus and minus zoom, 0 shows all.',
        on: { keydown: event => this.onKey(event) } }, this.image),
      this.legend, this.numbers);
    this.ends = [onThemeChange(() => this.redraw())];
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.image);
  }

  destroy() {
    for (const end of this.ends) end();
    this.observer.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  resize() {
    const width = Math.floor(this.image.clientWidth);
    if (this.plot !== null && width > 50 && Math.abs(width - this.plot.width) > 1) {
      this.plot.setSize({ width, height: this.plot.height });
    }
  }

  redraw() {
    this.signature = null;
    if (this.drawn !== null) this.update(this.drawn);
  }

  update(state) {
    this.drawn = state;
    const curves = state.curves.filter(curve => curve.x.length);
    this.image.setAttribute('aria-label', curves.length
      ? `Line chart of ${this.options.title} over ${state.axis}. ${curves.map(curve => described(curve, state.axis)).join(' ')}`
      : `${this.options.title}: no values in this range`);
    if (this.csvLink !== null) this.csvLink.href = this.options.csv();
    const { data, series, bands, swatches } = this.prepared(curves, state);
    const signature = JSON.stringify([series.map(one => one.key), state.log, state.axis, this.image.clientWidth > 50]);
    if (this.plot === null || signature !== this.signature) {
      this.signature = signature;
      this.plot?.destroy();
      fill(this.image);
      this.plot = new uPlot(this.settings(series, bands, state), data, this.image);
      this.wire();
    } else {
      this.plot.setData(data, false);
    }
    this.series = series;
    this.setRange(state.range, data[0]);
    this.fillLegend(swatches, state);
    if (this.numbers.open) this.fillNumbers();
  }

  prepared(curves, state) {
    const series = [];
    const bands = [];
    const tables = [];
    const swatches = [];
    const positive = value => (state.log && !(value > 0) ? null : value);
    curves.forEach((curve, number) => {
      const index = curve.index ?? number;
      const line = colour(index);
      const columns = [curve.x];
      const add = (values, options) => {
        columns.push(values.map(positive));
        series.push(options);
        return series.length;
      };
      const hasBand = curve.low && curve.low.some((low, i) => low !== curve.high[i]);
      const isInterval = curve.kind === 'interval';
      if (hasBand) {
        const edge = { stroke: 'transparent', width: 0, points: { show: false }, spanGaps: true };
        const high = add(curve.high, { ...edge, key: `${curve.label}/high`, isEdge: true });
        const low = add(curve.low, { ...edge, key: `${curve.label}/low`, isEdge: true });
        bands.push({ series: [high, low], fill: faded(line, isInterval ? 0.22 : 0.13) });
      }
      const one = curve.x.length < 2;
      const base = { stroke: line, dash: dash(index), spanGaps: true, points: { show: one, size: 6, fill: line } };
      if (state.smoothing > 0 && !isInterval) {
        add(curve.y, { ...base, dash: [], stroke: faded(line, 0.3), width: 1, key: `${curve.label}/raw`, isEdge: true });
      }
      add(smoothed(curve.y, state.smoothing), { ...base, width: 2, key: curve.label, label: curve.label });
      tables.push(columns);
      swatches.push({ curve, index, line, position: series.length });
    });
    const data = tables.length ? uPlot.join(tables) : [[]];
    return { data, series, bands, swatches };
  }

  settings(series, bands, state) {
    const text = variable('--text-quiet');
    const grid = { stroke: variable('--line'), width: 1 };
    const font = '12px system-ui, sans-serif';
    const axis = { stroke: text, grid, ticks: grid, font };
    const isTime = state.axis === 'time';
    return {
      width: Math.max(this.image.clientWidth, 200),
      height: this.options.height || HEIGHT,
      legend: { show: false },
      padding: [8, 22, 0, 0],
      cursor: {
        drag: { x: true, y: false, setScale: false, dist: 6 },
        bind: { dblclick: () => () => { this.options.onZoom?.(null, null); return null; } },
        points: { size: 7 },
      },
      select: { show: true },
      scales: {
        x: { time: false, range: (_, low, high) => this.xRange(low, high) },
        y: { distr: state.log ? 3 : 1, ...(state.log ? { range: logRange } : {}) },
      },
      axes: [
        { ...axis, size: 34, values: (_, splits) => splits.map(v => (v === null ? '' : isTime ? shortTime(v) : short(v))) },
        { ...axis, size: 58, values: (_, splits) => splits.map(v => (v === null ? '' : short(v))) },
      ],
      series: [{}, ...series.map(({ key, isEdge, ...options }) => options)],
      bands,
      hooks: {
        setCursor: [plot => this.showValues(plot)],
        setSelect: [plot => {
          if (plot.select.width > 4) {
            const low = plot.posToVal(plot.select.left, 'x');
            const high = plot.posToVal(plot.select.left + plot.select.width, 'x');
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            this.options.onZoom?.(low, high);
          }
        }],
      },
    };
  }

  xRange(low, high) {
    const range = this.drawn?.range;
    if (range && range[1] - range[0] > Math.abs(range[1]) * 1e-9) return range;
    if (low === null || high === null) return [0, 1];
    // Neighbours that a number cannot tell apart would take ticks without end.
    const least = Math.max(Math.abs(low), Math.abs(high)) * 1e-9;
    return high - low > least ? [low, high] : [low - 1, high + 1];
  }

  setRange(range, xs) {
    const [low, high] = this.xRange(xs[0] ?? null, xs[xs.length - 1] ?? null);
    this.plot.batch(() => {
      this.plot.setData(this.plot.data, true);
      this.plot.setScale('x', { min: low, max: high });
    });
  }

  wire() {
    const over = this.plot.over;
    over.addEventListener('wheel', event => {
      if (!event.ctrlKey && !event.altKey) return; // the page scrolls
      event.preventDefault();
      const at = this.plot.posToVal(event.offsetX, 'x');
      this.zoom(event.deltaY < 0 ? 0.7 : 1 / 0.7, at);
    }, { passive: false });
    over.addEventListener('mousedown', event => {
      if (!event.shiftKey) return;
      event.stopImmediatePropagation();
      event.preventDefault();
      this.pan(event);
    }, { capture: true });
  }

  pan(event) {
    const { min, max } = this.plot.scales.x;
    const perPixel = (max - min) / this.plot.over.clientWidth;
    const from = event.clientX;
    const move = moved => {
      const by = (from - moved.clientX) * perPixel;
      this.plot.setScale('x', { min: min + by, max: max + by });
      this.drawn.range = [min + by, max + by];
    };
    const up = () => {
      document.removeEventListener('mousemove', move);
      document.removeEventListener('mouseup', up);
      if (this.drawn.range) this.options.onZoom?.(...this.drawn.range);
    };
    document.addEventListener('mousemove', move);
    document.addEventListener('mouseup', up);
  }

  zoom(factor, at = null) {
    if (this.plot === null || !this.options.onZoom) return;
    const { min, max } = this.plot.scales.x;
    if (!(max > min)) return;
    const middle = at ?? (min + max) / 2;
    this.options.onZoom(middle - (middle - min) * factor, middle + (max - middle) * factor);
  }

  shift(share) {
    if (this.plot === null || !this.options.onZoom) return;
    const { min, max } = this.plot.scales.x;
    const by = (max - min) * share;
    this.options.onZoom(min + by, max + by);
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => this.shift(-0.2),
      ArrowRight: () => this.shift(0.2),
      '+': () => this.zoom(0.7),
      '=': () => this.zoom(0.7),
      '-': () => this.zoom(1 / 0.7),
      0: () => this.options.onZoom?.(null, null),
    };
    if (actions[event.key]) {
      event.preventDefault();
      actions[event.key]();
    }
  }

  fillLegend(swatches, state) {
    this.values = [];
    fill(this.legend, swatches.map(({ curve, index, line, position }) => {
      const value = h('span', { class: 'value' });
      const there = curve.y.filter(Number.isFinite);
      const last = there[there.length - 1];
      value.textContent = number(last);
      this.values.push({ value, position, last });
      const swatch = h('svg:svg', { viewBox: '0 0 28 8', width: 28, height: 8, 'aria-hidden': 'true' },
        h('svg:line', { x1: 0, y1: 4, x2: 28, y2: 4, stroke: line, 'stroke-width': 2.5, 'stroke-dasharray': dash(index).join(' ') || null }));
      const title = curve.kind === 'interval' ? `${curve.label} (band: 95 % interval)` : curve.label;
      return h('li', {}, swatch, h('span', { class: 'name', title }, curve.label), value);
    }));
    this.axis = state.axis;
  }

  showValues(plot) {
    const at = plot.cursor.idx;
    for (const { value, position, last } of this.values || []) {
      const there = at === null || at === undefined ? undefined : nearest(plot.data[position], at);
      value.textContent = there === undefined ? number(last) : `${number(there)} @ ${xText(plot.data[0][at], this.axis)}`;
    }
  }

  fillNumbers() {
    if (!this.numbers.open || this.drawn === null) return;
    const { curves, axis } = this.drawn;
    const parts = curves.map(curve => {
      const stride = Math.max(1, Math.ceil(curve.x.length / TABLE_ROWS));
      const rows = [];
      for (let i = 0; i < curve.x.length; i += stride) rows.push(i);
      if (curve.x.length && rows[rows.length - 1] !== curve.x.length - 1) rows.push(curve.x.length - 1);
      return [
        h('p', {}, described(curve, axis)),
        h('table', {}, h('caption', { class: 'visually-hidden' }, `${this.options.title}, ${curve.label}`),
          h('thead', {}, h('tr', {}, [axis, 'mean', 'lowest', 'highest'].map(text => h('th', { scope: 'col', class: 'numeric' }, text)))),
          h('tbody', {}, rows.map(i => h('tr', {}, [xText(curve.x[i], axis), number(curve.y[i]),
            number((curve.low || curve.y)[i]), number((curve.high || curve.y)[i])].map(text => h('td', { class: 'numeric' }, text)))))),
      ];
    });
    fill(this.numbers.lastElementChild, parts);
  }

  downloadPng() {
    if (this.plot === null) return;
    const source = this.plot.ctx.canvas;
    const scale = devicePixelRatio || 1;
    const rows = this.drawn.curves.length;
    const canvas = document.createElement('canvas');
    canvas.width = source.width;
    canvas.height = source.height + (34 + 18 * rows) * scale;
    const pen = canvas.getContext('2d');
    pen.fillStyle = variable('--surface');
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.scale(scale, scale);
    pen.fillStyle = variable('--text');
    pen.font = '600 14px system-ui, sans-serif';
    pen.fillText(this.options.title, 10, 20);
    pen.font = '12px system-ui, sans-serif';
    pen.drawImage(source, 0, 28, source.width / scale, source.height / scale);
    this.drawn.curves.forEach((curve, number) => {
      const index = curve.index ?? number;
      const y = 28 + source.height / scale + 12 + 18 * number;
      pen.strokeStyle = colour(index);
      pen.setLineDash(dash(index));
      pen.lineWidth = 2.5;
      pen.beginPath();
      pen.moveTo(10, y - 4);
      pen.lineTo(38, y - 4);
      pen.stroke();
      pen.fillText(curve.label, 46, y);
    });
    canvas.toBlob(blob => {
      const link = h('a', { href: URL.createObjectURL(blob), download: `${this.options.title.replace(/[^\w.-]+/g, '-')}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }
}

function nearest(values, at) {
  if (!values) return undefined;
  for (let distance = 0; distance < values.length; distance += 1) {
    for (const index of [at - distance, at + distance]) {
      const value = values[index];
      if (value !== null && value !== undefined) return value;
    }
  }
  return undefined;
}

function logRange(plot, low, high) {
  if (!(low > 0) || !(high > 0)) return [0.1, 1];
  // Rounding errors of a mean about zero would add a dozen decades.
  return uPlot.rangeLog(Math.max(low, high * 1e-9), high, 10, false);
}

/** Returns a number for the tick of an axis. */
function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(3))}G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  if (size !== 0 && size < 1e-3) return value.toExponential(0);
  return String(Number(value.toPrecision(4)));
}

function shortTime(seconds) {
  const size = Math.abs(seconds);
  if (size >= 7200) return `${Number((seconds / 3600).toPrecision(3))} h`;
  if (size >= 120) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number(seconds.toPrecision(3))} s`;
}

/** Returns a small curve as SVG, with a text for screen readers. */
export function sparkline(xs, ys, label, width = 120, height = 28) {
  const there = ys.map((y, i) => [xs[i], y]).filter(([, y]) => y !== null);
  const svg = h('svg:svg', { class: 'sparkline', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label,
    preserveAspectRatio: 'none' });
  if (!there.length) return svg;
  const [left, right] = [there[0][0], there[there.length - 1][0]];
  let [low, high] = [Infinity, -Infinity];
  for (const [, y] of there) {
    low = Math.min(low, y);
    high = Math.max(high, y);
  }
  const px = x => 2 + (right > left ? (x - left) / (right - left) : 0.5) * (width - 4);
  const py = y => height - 3 - (high > low ? (y - low) / (high - low) : 0.5) * (height - 6);
  const points = there.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`);
  svg.append(h('svg:polyline', { points: points.join(' '), fill: 'none', stroke: 'currentColor', 'stroke-width': 1.5,
    'vector-effect': 'non-scaling-stroke' }));
  const [x, y] = there[there.length - 1];
  svg.append(h('svg:circle', { cx: px(x), cy: py(y), r: 2, fill: 'currentColor' }));
  return svg;
}
