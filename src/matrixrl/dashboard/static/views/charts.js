// Charts of the metrics of runs, grouped by prefix.

import { address, getJson, paced, throttled } from '../lib/api.js';
import { Chart } from '../lib/chart.js';
import { fill, h } from '../lib/dom.js';
import { number } from '../lib/format.js';

const POINTS = 600;
const METRICS_AT_ONCE = 24;
const MAX_POINT_CURVES = 8;
const COMPANIONS = ['_low', '_high', '_iqm'];

/** Returns the group of a metric: what is before the slash, or `epoch`. */
export function groupOf(name) {
  const single = /^(agent|setting)\//.exec(name);
  if (single) return single[1] === 'agent' ? 'single agents' : 'single settings';
  if (name.includes('/')) return name.slice(0, name.indexOf('/'));
  return name.startsWith('epoch_') || name === 'Epoch' ? 'epoch' : 'other';
}

/** Returns the metrics that get a chart of their own: not the bounds of the band of another one. */
export function charted(names) {
  const there = new Set(names);
  return names.filter(name => !COMPANIONS.some(end => name.endsWith(end) && there.has(name.slice(0, -end.length))
    && there.has(`${name.slice(0, -end.length)}_low`)));
}

function isMain(name, charts) {
  return charts.some(chart => name === chart || (name.startsWith(chart) && /^_\d+(x\d+)+$/.test(name.slice(chart.length))));
}

export async function mount(container, runs, context) {
  const keys = runs.map(run => run.key);
  const state = { axis: 'step', smoothing: 0, log: false, band: false, range: null, filter: '' };
  const charts = new Map(); // by element
  const visible = new Set();
  let names = null;
  const groups = await getJson('settings', { run: keys }, context.signal).then(found => found.groups).catch(() => keys.map(key => [key]));

  const smoothing = h('input', { type: 'range', id: 'smoothing', min: 0, max: 0.99, step: 0.01, value: '0',
    on: { input: () => { state.smoothing = Number(smoothing.value); smoothingText.textContent = smoothing.value; redraw(); } } });
  const smoothingText = h('output', { for: 'smoothing' }, '0');
  const axis = h('select', { id: 'x-axis', on: { change: () => { state.axis = axis.value; state.range = null; refresh(); } } },
    [['step', 'step'], ['time', 'time in training'], ['epoch', 'epoch']].map(([value, text]) => h('option', { value }, text)));
  const log = h('input', { type: 'checkbox', id: 'log-scale', on: { change: () => { state.log = log.checked; redraw(); } } });
  const band = h('input', { type: 'checkbox', id: 'seed-bands', on: { change: () => { state.band = band.checked; refresh(); } } });
  const filter = h('input', { type: 'search', id: 'metric-filter', placeholder: 'loss, return', autocomplete: 'off', spellcheck: 'false',
    on: { input: () => { state.filter = filter.value.toLowerCase(); layout(); } } });
  const hasSeeds = groups.some(group => group.length > 1);
  const zoomButtons = h('span', { class: 'buttons', role: 'group', 'aria-label': 'Zoom of all charts' },
    [['−', 'Zoom out', () => first()?.zoom(1 / 0.7)], ['+', 'Zoom in', () => first()?.zoom(0.7)], ['←', 'Move left', () => first()?.shift(-0.25)],
      ['→', 'Move right', () => first()?.shift(0.25)], ['All', 'All: show everything', () => setRange(null, null)]].map(([text, label, click]) =>
      h('button', { type: 'button', 'aria-label': label, title: label, on: { click } }, text)));
  const sections = h('div', {});
  fill(container,
    h('form', { class: 'toolbar', on: { submit: event => event.preventDefault() } },
      h('label', { for: 'metric-filter' }, 'Metrics', filter),
      h('label', { for: 'x-axis' }, 'X-axis', axis),
      h('label', { for: 'smoothing' }, h('span', {}, 'Smoothing ', smoothingText), smoothing),
      h('label', { for: 'log-scale', class: 'check' }, log, 'Log scale'),
      hasSeeds ? h('label', { for: 'seed-bands', class: 'check' }, band, 'Bands over seeds') : null,
      zoomButtons),
    sections);

  function first() {
    return [...charts.values()].find(chart => chart.plot !== null && visible.has(chart.element)) || [...charts.values()].find(chart => chart.plot !== null);
  }

  function setRange(low, high) {
    state.range = low === null ? null : [low, high];
    refresh();
  }

  const observer = new IntersectionObserver(entries => {
    let isNew = false;
    for (const entry of entries) {
      if (!entry.isIntersecting) visible.delete(entry.target);
      else {
        visible.add(entry.target);
        isNew = true;
      }
    }
    if (isNew) refresh();
  }, { rootMargin: '150px' });

  function layout() {
    for (const chart of charts.values()) chart.destroy();
    charts.clear();
    visible.clear();
    observer.disconnect();
    const wanted = charted(names).filter(name => name.toLowerCase().includes(state.filter));
    // The metric by which the runs are judged comes first.
    const main = runs.flatMap(run => [run.best_metric, ...(run.charts || [])]).filter(Boolean);
    const place = name => main.findIndex(chart => isMain(name, [chart]));
    const found = new Map([['Main', wanted.filter(name => isMain(name, main)).sort((a, b) => place(a) - place(b))]]);
    for (const name of wanted) {
      if (found.get('Main').includes(name)) continue;
      const group = groupOf(name);
      found.set(group, [...(found.get(group) || []), name]);
    }
    const order = [...found.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
    fill(sections, order.filter(group => found.get(group).length).map(group => section(group, found.get(group))));
    if (!names.length) fill(sections, h('p', { class: 'empty' }, 'No metrics yet. The first rows appear here as soon as they are recorded.'));
    else if (!wanted.length) fill(sections, h('p', { class: 'empty' }, `None of ${number(names.length)} metrics fits “${state.filter}”.`));
  }

  function rank(group) {
    return group === 'Main' ? 0 : group.startsWith('single ') ? 2 : 1;
  }

  function section(group, metrics) {
    const grid = h('div', { class: 'charts' });
    const isClosed = group.startsWith('single ') && !state.filter;
    const open = () => {
      if (grid.childElementCount) return;
      for (const metric of metrics) {
        const chart = new Chart({ title: metric, onZoom: setRange, csv: () => address(['series.csv'], { run: keys, metric }) });
        charts.set(chart.element, chart);
        grid.append(chart.element);
        observer.observe(chart.element);
      }
    };
    const details = h('details', { class: 'group', open: !isClosed, on: { toggle: () => { if (details.open) open(); } } },
      h('summary', {}, h('h2', {}, group), h('span', { class: 'quiet-text' }, ` ${number(metrics.length)}`)), grid);
    if (!isClosed) open();
    return details;
  }

  /** Returns the metrics whose curves a chart shows. */
  function needed(metric) {
    const there = new Set(names);
    const one = [metric, ...COMPANIONS.map(end => metric + end).filter(name => there.has(name))];
    const points = runs.length === 1 ? (runs[0].points || []) : [];
    if (points.length > 1 && points.length <= MAX_POINT_CURVES) {
      for (let point = 0; point < points.length; point += 1) {
        one.push(...[metric, ...COMPANIONS.map(end => metric + end)].map(name => `setting/${point}/${name}`).filter(name => there.has(name)));
      }
    }
    return one;
  }

  const refresh = paced(async () => {
    const shown = [...visible].map(element => charts.get(element)).filter(Boolean);
    for (let start = 0; start < shown.length; start += METRICS_AT_ONCE) {
      const part = shown.slice(start, start + METRICS_AT_ONCE);
      const metric = [...new Set(part.flatMap(chart => needed(chart.options.title)))];
      const { axis: x, range } = state;
      const parameters = { metric, x, points: POINTS, from: range?.[0], to: range?.[1] };
      let answers;
      try {
        answers = state.band
          ? await Promise.all(groups.map(group => getJson('series', { ...parameters, run: group, band: 1 }, context.signal)))
          : [await getJson('series', { ...parameters, run: keys }, context.signal)];
      } catch (error) {
        if (error.name === 'AbortError') return;
        fill(sections, h('p', { class: 'fault', role: 'alert' }, error.message));
        return;
      }
      for (const chart of part) {
        if (!charts.has(chart.element)) continue;
        chart.curves = curvesOf(chart.options.title, answers);
        draw(chart);
      }
    }
  }, 300);

  function curvesOf(metric, answers) {
    if (state.band) {
      return answers.flatMap((answer, index) => (answer.curves[metric] || []).map(curve => ({
        ...curve, index, kind: 'interval', label: curve.runs.length > 1 ? `${nameOf(curve.runs[0])} and ${curve.runs.length - 1} more` : nameOf(curve.runs[0]),
      })));
    }
    const [{ curves }] = answers;
    const found = (curves[metric] || []).map(curve => withInterval(metric, curve, curves, keys.indexOf(curve.run), nameOf(curve.run)));
    const points = runs.length === 1 ? (runs[0].points || []) : [];
    points.forEach((label, point) => {
      const name = `setting/${point}/${metric}`;
      for (const curve of curves[name] || []) found.push(withInterval(name, curve, curves, point + 1, label));
    });
    return found;
  }

  /** Returns a curve with the band over the agents of its run, where the run recorded one. */
  function withInterval(name, curve, curves, index, label) {
    const of = end => (curves[name + end] || []).find(other => other.run === curve.run);
    const [low, high] = [of('_low'), of('_high')];
    const isBand = low && high && low.x.length === curve.x.length && high.x.length === curve.x.length;
    return isBand ? { ...curve, index, label, low: low.y, high: high.y, kind: 'interval' } : { ...curve, index, label, kind: 'spread' };
  }

  function nameOf(key) {
    return runs.find(run => run.key === key)?.name ?? key;
  }

  function draw(chart) {
    chart.update({ curves: chart.curves || [], axis: state.axis, log: state.log, smoothing: state.smoothing, range: state.range });
  }

  function redraw() {
    for (const element of visible) {
      const chart = charts.get(element);
      if (chart?.curves) draw(chart);
    }
  }

  const loadNames = async () => {
    const answers = await Promise.all(keys.map(key => getJson(['runs', key, 'metrics'], {}, context.signal)));
    const found = [...new Set(answers.flatMap(answer => Object.keys(answer.metrics)))].filter(name => name !== 'Epoch');
    if (names === null || found.length !== names.length || found.some((name, index) => name !== names[index])) {
      names = found;
      layout();
      return true;
    }
    return false;
  };

  await loadNames();
  context.onChange(keys, throttled(async () => {
    try {
      if (!await loadNames()) await refresh();
    } catch (error) {
      if (error.name !== 'AbortError') console.warn(error.message);
    }
  }, 1000));
  return () => {
    observer.disconnect();
    for (const chart of charts.values()) chart.destroy();
  };
}
