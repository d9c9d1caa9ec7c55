// The page of a study: curves with bands, importance of settings, parallel coordinates, and the table of trials.

import { getJson, isReport, paced, throttled } from '../lib/api.js';
import { Chart } from '../lib/chart.js';
import { append, fill, h } from '../lib/dom.js';
import { age, duration, exact, moment, number, plural } from '../lib/format.js';
import { Parallel } from '../lib/parallel.js';
import { scrollBox, table } from '../lib/table.js';
import { decoded, runAddress } from './index.js';
import { stateBadge } from './runs.js';

const FIRST_ROWS = 100;
const MORE_ROWS = 400;

export const title = params => decoded(params.study);

/** Returns what a study has done so far, in words: `44 of 48 trials done, 1 running, 1 failed`. */
export function progressText({ counts, trials, planned, state }) {
  const done = (counts.finished || 0) + (counts.failed || 0) + (counts.pruned || 0);
  const rest = ['running', 'failed', 'pruned'].filter(name => counts[name]).map(name => `${number(counts[name])} ${name === 'running' && state !== 'running' ? 'interrupted' : name}`);
  const goal = planned && ['running', 'interrupted'].includes(state) ? ` (${plural(planned, 'setting')} planned)` : '';
  return [`${number(done)} of ${plural(trials, 'trial')} done`, ...rest].join(', ') + goal;
}

/** Returns a value of a setting: short, but so that close values differ. */
function settingText(value) {
  return typeof value === 'number' && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : exact(value);
}

export async function mount(container, params, context) {
  const key = decoded(params.study);
  const state = { sort: 'objective', reverse: false, shown: FIRST_ROWS, metric: '', by: '', x: 'step', log: false };
  let study = await getJson(['studies', key], {}, context.signal);
  let curves = { groups: [], metrics: [], lasts: [], unread: 0, runs: 0, total_groups: 0, metric: '' };
  let chart = null;

  const head = h('header', { class: 'run-head' });
  const metric = h('select', { id: 'study-metric', on: { change: () => { state.metric = metric.value; loadCurves(); } } });
  const by = h('select', { id: 'study-by', on: { change: () => { state.by = by.value; loadCurves(); } } });
  const axis = h('select', { id: 'study-x', on: { change: () => { state.x = axis.value; loadCurves(); } } },
    [['step', 'step'], ['time', 'time in training']].map(([value, text]) => h('option', { value }, text)));
  const log = h('input', { type: 'checkbox', id: 'study-log', on: { change: () => { state.log = log.checked; drawChart(); } } });
  const chartPlace = h('div', { class: 'study-chart' });
  const chartNote = h('p', { class: 'quiet-text', role: 'status' });
  const importance = h('div', { class: 'importance' });
  const parallelPlace = h('div', {});
  const count = h('p', { class: 'quiet-text', role: 'status' });
  const trials = h('div', {});
  const more = h('p', {});
  const parallel = new Parallel({ onBrush: () => { state.shown = FIRST_ROWS; drawTable(); }, announce: context.announce });

  fill(container, head);
  if (study.error) {
    append(container, [h('div', { class: 'fault', role: 'alert' }, h('p', {}, `The record of this study cannot be read: ${study.error}`)),
      h('p', {}, h('a', { href: '#/' }, 'All runs'))]);
    drawHead();
    return null;
  }
  const body = h('div', {},
    h('div', { class: 'study-cards' },
      h('section', { class: 'card', 'aria-labelledby': 'study-curves' }, h('h2', { id: 'study-curves' }, 'Curves'),
        h('form', { class: 'toolbar', on: { submit: event => event.preventDefault() } },
          h('label', { for: 'study-metric' }, 'Metric', metric),
          h('label', { for: 'study-by' }, 'A curve for each', by),
          h('label', { for: 'study-x' }, 'X-axis', axis),
          h('label', { for: 'study-log', class: 'check' }, log, 'Log scale')),
        chartPlace, chartNote),
      h('section', { class: 'card', 'aria-labelledby': 'study-importance' }, h('h2', { id: 'study-importance' }, 'Importance of settings'), importance)),
    h('section', { class: 'card', 'aria-labelledby': 'study-parallel' }, h('h2', { id: 'study-parallel' }, 'Settings and objective'), parallelPlace),
    h('section', { 'aria-labelledby': 'study-trials' }, h('h2', { id: 'study-trials' }, 'Trials'), count, trials, more));
  const empty = h('section', { class: 'empty' }, h('h2', {}, 'No trials yet'),
    h('p', {}, 'The first ones appear here as soon as the study starts them.'));
  append(container, [body, empty]);

  function drawHead() {
    const { objective, best } = study;
    const words = objective
      ? `${study.mode === 'min' ? 'lowest' : 'highest'} ${objective.value === 'area' ? 'area under' : objective.value} ${study.metric}, ${objective.over_seeds} over seeds`
      : null;
    fill(head,
      h('h1', {}, study.name),
      h('ul', { class: 'run-list' }, h('li', {}, stateBadge(study.state),
        study.kind ? h('span', {}, `${study.kind} of `, h('code', {}, study.command)) : null,
        study.error ? null : h('span', { class: 'study-progress' }, progressText(study)),
        study.error ? null : h('span', { title: moment(study.last_activity) }, `active ${age(study.last_activity)}`))),
      words === null ? null : h('p', { class: 'quiet-text' }, `Objective: ${words}.`),
      best === null || best === undefined ? null
        : h('p', { class: 'study-best' }, h('strong', {}, 'Best '), `${number(best)} with ${study.best_settings || 'these settings'}`,
          study.confirmed_seeds ? `, confirmed with ${plural(study.confirmed_seeds, 'other seed')}` : ''),
      sameSettings());
  }

  function sameSettings() {
    const same = Object.entries({ ...study.shared, ...study.same });
    if (!same.length) return null;
    return h('details', { class: 'filter-box' }, h('summary', {}, `${plural(same.length, 'setting')} that all trials share`),
      h('dl', { class: 'facts' }, same.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, exact(value))))));
  }

  // Curves

  function drawChoices() {
    const names = study.axes.map(one => one.name);
    const all = names.length > 1 ? 'combination' : names[0] || 'study';
    fill(by, h('option', { value: '' }, all), names.length > 1 ? names.map(name => h('option', { value: name }, name)) : null);
    by.value = names.includes(state.by) ? state.by : '';
    state.by = by.value;
    by.disabled = names.length < 2;
    const known = curves.metrics.length ? curves.metrics : [state.metric || study.metric].filter(Boolean);
    fill(metric, known.map(name => h('option', { value: name }, name)));
    metric.value = curves.metric || state.metric || study.metric;
  }

  function drawChart() {
    if (chart === null || chart.options.title !== curves.metric) {
      chart?.destroy();
      chart = new Chart({ title: curves.metric || 'metric', height: 300 });
      fill(chartPlace, chart.element);
    }
    const shown = curves.groups.map((group, index) => ({
      label: group.curves > 1 ? `${group.label} (${plural(group.curves, 'trial')})` : group.label,
      x: group.x, y: group.y, low: group.low, high: group.high, index, kind: 'interval',
    }));
    chart.element.hidden = !shown.length;
    if (shown.length) chart.update({ curves: shown, axis: state.x, log: state.log, smoothing: 0, range: null });
    chartNote.textContent = curveNote();
  }

  function curveNote() {
    if (curves.unread) return `${number(curves.runs - curves.unread)} of ${plural(curves.runs, 'run')} read so far.`;
    if (!curves.runs) return 'No run has started yet, so there are no curves.';
    if (!curves.groups.length) return `No run has a value of ${curves.metric || 'a metric'} yet.`;
    const band = curves.groups.some(group => group.curves > 1) ? 'Mean over trials, with its 95 % interval as a band, as far as half of them reach.' : 'One trial for each curve, so there are no bands.';
    const limit = curves.total_groups > curves.groups.length
      ? ` The ${number(curves.groups.length)} ${study.metric ? 'best' : 'first'} of ${number(curves.total_groups)} curves are drawn.` : '';
    return band + limit;
  }

  const loadCurves = paced(async () => {
    while (!context.signal.aborted) {
      const asked = { metric: state.metric, by: state.by, x: state.x };
      let answer;
      try {
        answer = await getJson(['studies', key, 'curves'], asked, context.signal);
      } catch (error) {
        if (error.name !== 'AbortError') chartNote.textContent = error.message;
        return;
      }
      if (asked.metric !== state.metric || asked.by !== state.by || asked.x !== state.x) continue;
      curves = answer;
      drawChoices();
      drawChart();
      drawTable();
      if (!answer.unread) return;
    }
  }, 50);

  // Importance

  const loadImportance = paced(async () => {
    let answer;
    try {
      answer = await getJson(['studies', key, 'importance'], {}, context.signal);
    } catch (error) {
      if (error.name !== 'AbortError') fill(importance, h('p', { class: 'fault' }, error.message));
      return;
    }
    const shares = Object.entries(answer.shares);
    if (!shares.length) {
      fill(importance, h('p', {}, answer.reason));
      return;
    }
    fill(importance,
      h('table', { class: 'bars' }, h('caption', { class: 'visually-hidden' }, 'Importance of each setting for the objective'),
        h('thead', { class: 'visually-hidden' }, h('tr', {}, h('th', { scope: 'col' }, 'Setting'), h('th', { scope: 'col' }, 'Importance'))),
        h('tbody', {}, shares.map(([name, share]) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', {},
          h('svg:svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', class: 'bar-graph', 'aria-hidden': 'true' },
            h('svg:rect', { x: 0, y: 0, width: 100, height: 10, class: 'meter-back' }),
            h('svg:rect', { x: 0, y: 0, width: Math.max(0.5, 100 * share), height: 10, class: 'meter-chosen' })),
          h('span', { class: 'bar-text' }, percent(share))))))),
      h('p', { class: 'quiet-text' }, `Shares by Optuna’s evaluator (PED-ANOVA) from ${plural(answer.points, 'complete setting')}.`));
  }, 200);

  function percent(share) {
    const value = 100 * share;
    return `${value >= 99.95 || value < 0.05 ? value.toFixed(0) : value.toPrecision(value < 10 ? 2 : 3)} %`;
  }

  // Parallel coordinates

  function keyOf(row) {
    return row.agent === null ? row.run_name : `${row.run_name} agent ${row.agent}`;
  }

  function wordsOf(row) {
    const settings = study.axes.map(one => `${one.name} ${settingText(row.settings[one.name])}`);
    return [...settings, `seed ${row.seed}`, row.status, row.objective === null ? null : `${study.metric} ${number(row.objective)}`].filter(Boolean).join(', ');
  }

  function drawParallel() {
    const withObjective = study.rows.filter(row => row.objective !== null);
    const reason = !study.axes.length ? 'No setting differs between the trials, so there are no axes.'
      : study.metric && withObjective.length < 2 ? 'Two trials with an objective are needed to compare settings.'
        : !study.metric && study.axes.length < 2 ? 'One setting differs and there is no objective, so there is nothing to compare.' : '';
    if (reason) {
      fill(parallelPlace, h('p', {}, reason));
      return;
    }
    if (!parallelPlace.contains(parallel.element)) fill(parallelPlace, parallel.element);
    const axes = [...study.axes, ...(study.metric ? [{ name: study.metric, is_number: true, log: false }] : [])];
    parallel.update({
      axes, mode: study.mode, metric: study.metric,
      rows: study.rows.filter(row => row.status !== 'waiting').map(row => ({
        key: keyOf(row), name: keyOf(row), href: row.run === null ? null : runAddress([row.run]), objective: row.objective, words: wordsOf(row),
        values: [...study.axes.map(one => row.settings[one.name]), ...(study.metric ? [row.objective] : [])],
      })),
    });
  }

  // Trials

  function columns() {
    return [
      { key: 'trial', title: 'Trial', class: 'nobreak' },
      ...study.axes.map((one, index) => ({ key: `setting ${index}`, title: one.name, numeric: one.is_number })),
      { key: 'seed', title: 'Seed', numeric: true },
      { key: 'status', title: 'Status' },
      { key: 'objective', title: study.metric ? `Objective: ${study.metric}` : 'Objective', numeric: true },
      { key: 'last', title: curves.metric ? `Last ${curves.metric}` : 'Last', numeric: true, class: 'wide' },
      { key: 'seconds', title: 'Time', numeric: true, class: 'wide' },
    ];
  }

  function valueOf(row, index) {
    if (state.sort.startsWith('setting ')) return row.settings[study.axes[Number(state.sort.slice(8))]?.name];
    return state.sort === 'last' ? curves.lasts[index] : row[state.sort];
  }

  /** Returns the rows within the ranges in their order; those without a value are always last. */
  function sorted() {
    const found = study.rows.map((row, index) => ({ row, index, value: valueOf(row, index) ?? null }));
    const isBestFirst = state.sort === 'objective' && study.mode !== 'min';
    const sign = (isBestFirst ? -1 : 1) * (state.reverse ? -1 : 1);
    const compare = (a, b) => (typeof a === typeof b && typeof a !== 'object' ? (a < b ? -1 : a > b ? 1 : 0) : String(a).localeCompare(String(b)));
    found.sort((one, other) => (one.value === null) - (other.value === null)
      || (one.value === null ? 0 : sign * compare(one.value, other.value)) || one.index - other.index);
    const isBrushed = parallel.ranges.size > 0;
    return isBrushed ? found.filter(({ row }) => row.status !== 'waiting' && parallel.accepts({ key: keyOf(row) })) : found;
  }

  function onSort(by) {
    Object.assign(state, { sort: by, reverse: by === state.sort ? !state.reverse : false, shown: FIRST_ROWS });
    drawTable();
    context.announce(`Sorted by ${columns().find(one => one.key === by)?.title ?? by}${state.reverse ? ', reversed' : ''}`);
  }

  function drawTable() {
    const found = sorted();
    const total = study.rows.length;
    const all = study.rows.some(row => row.agent !== null) ? `${plural(total, 'agent')} of ${plural(study.trials, 'trial')}` : plural(total, 'trial');
    fill(count, found.length === total ? all : `${number(found.length)} of ${all} within the ranges `,
      found.length === total ? null : h('button', { type: 'button', on: { click: () => parallel.clear() } }, 'Clear the ranges'));
    const focused = document.activeElement?.dataset?.sort;
    const left = trials.querySelector('.scroll')?.scrollLeft || 0;
    const isFalling = (state.sort === 'objective' && study.mode !== 'min') !== state.reverse;
    fill(trials, scrollBox('Trials', table({
      caption: 'Trials', columns: columns(), rows: found.slice(0, state.shown).map(({ row, index }) => cellsOf(row, index)), sort: state.sort, descending: isFalling,
      onSort, rowHead: 0,
    })));
    trials.firstElementChild.scrollLeft = left;
    if (focused) trials.querySelector(`[data-sort="${CSS.escape(focused)}"]`)?.focus();
    fill(more, found.length > state.shown
      ? h('button', { type: 'button', on: { click: () => { state.shown += MORE_ROWS; drawTable(); } } },
        `Show ${number(Math.min(MORE_ROWS, found.length - state.shown))} more of ${number(found.length)}`)
      : null);
  }

  function cellsOf(row, index) {
    const name = row.run === null ? row.run_name : h('a', { href: runAddress([row.run]), class: 'run-name' }, row.run_name);
    return {
      attributes: { data: { trial: keyOf(row) }, on: { pointerenter: () => parallel.mark(keyOf(row)), pointerleave: () => parallel.mark(parallel.pinned) } },
      cells: [
        [name, row.agent === null ? null : h('span', { class: 'quiet-text' }, ` agent ${row.agent}`)],
        ...study.axes.map(one => settingText(row.settings[one.name])),
        [String(row.seed), row.confirms ? h('span', { class: 'quiet-text' }, ' confirms') : null],
        [stateBadge(row.status), row.error ? h('div', { class: 'trial-error' }, row.error) : null],
        number(row.objective), number(curves.lasts[index]), row.seconds ? duration(row.seconds) : '–',
      ],
    };
  }

  function draw() {
    drawHead();
    empty.hidden = study.rows.length > 0;
    body.hidden = study.rows.length === 0;
    if (body.hidden) return;
    drawChoices();
    drawParallel();
    drawTable();
  }

  draw();
  loadCurves();
  loadImportance();
  const runs = new Set();
  const isMine = name => name === `study:${key}` || name.startsWith(`${key}:`) || runs.has(name);
  const refresh = throttled(async () => {
    try {
      study = await getJson(['studies', key], {}, context.signal);
    } catch (error) {
      if (error.name !== 'AbortError') fill(head, h('h1', {}, key), h('p', { class: 'fault', role: 'alert' }, error.message));
      return;
    }
    for (const row of study.rows) if (row.run !== null) runs.add(row.run);
    if (study.error) fill(head, h('h1', {}, key), h('p', { class: 'fault', role: 'alert' }, study.error));
    else {
      draw();
      await Promise.all([loadCurves(), loadImportance()]);
    }
  }, 1500);
  for (const row of study.rows) if (row.run !== null) runs.add(row.run);
  if (!isReport) {
    context.onChange(null, names => {
      if (!names.size || [...names].some(isMine)) refresh();
    });
  }
  return () => {
    chart?.destroy();
    parallel.destroy();
  };
}
