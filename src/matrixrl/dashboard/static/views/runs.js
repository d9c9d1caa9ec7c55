// The list of runs.

import { AnswerError, getJson, paced, throttled } from '../lib/api.js';
import { sparkline } from '../lib/chart.js';
import { fill, h, hidden } from '../lib/dom.js';
import { age, moment, number, plural } from '../lib/format.js';
import { scrollBox, table } from '../lib/table.js';
import { runAddress, studyAddress } from './index.js';
import { progressText } from './study.js';

const FIRST_ROWS = 100;
const MAX_COMPARED = 64;

const COLUMNS = [
  { key: 'select', title: hidden('Select'), sortable: false, class: 'select' },
  { key: 'name', title: 'Run' },
  { key: 'state', title: 'State' },
  { key: 'system', title: 'System', class: 'wide' },
  { key: 'best', title: 'Best', numeric: true },
  { key: 'curve', title: 'Curve', sortable: false, class: 'curve' },
  { key: 'steps', title: 'Steps', numeric: true, class: 'wide' },
  { key: 'episodes', title: 'Episodes', numeric: true, class: 'wide' },
  { key: 'age', title: 'Active', class: 'age' },
];

// Where the first click sorts in the direction that people ask for most.
const SIGNS = { running: '▶', finished: '✓', interrupted: '❚❚', crashed: '✕', stale: '◌', damaged: '!', failed: '✕', pruned: '✂', waiting: '…' };

export const title = () => 'Runs';

/** Returns a state as a badge: a sign and a word, not a colour alone. */
export function stateBadge(state) {
  return h('span', { class: `state state-${/^[a-z]+$/.test(state) ? state : 'stale'}` },
    h('span', { 'aria-hidden': 'true' }, `${SIGNS[state] || '?'} `), state);
}

export async function mount(container, params, context) {
  const query = context.query;
  const state = {
    q: query.get('q') || '',
    system: query.get('system') || '',
    state: query.get('state') || '',
    sort: query.get('sort') || 'age',
    reverse: query.get('reverse') === '1',
    shown: FIRST_ROWS,
    selected: new Set(),
    open: new Set(), // studies whose runs are shown
  };
  const ofStudies = new Map(); // runs of the studies that are open
  const sparklines = new Map();
  let answer = { runs: [], total: 0, systems: [], states: [], studies: [], total_studies: 0 };

  const search = h('input', { type: 'search', id: 'run-filter', value: state.q, placeholder: 'name, id, system',
    autocomplete: 'off', spellcheck: 'false', on: { input: () => change({ q: search.value }) } });
  const system = h('select', { id: 'run-system', on: { change: () => change({ system: system.value }) } });
  const stateChoice = h('select', { id: 'run-state', on: { change: () => change({ state: stateChoice.value }) } });
  const sort = h('select', { id: 'run-sort', on: { change: () => change({ sort: sort.value, reverse: false }) } },
    [['age', 'last active'], ['started', 'started'], ['name', 'name'], ['state', 'state'], ['system', 'system'],
      ['best', 'best value'], ['steps', 'steps'], ['episodes', 'episodes']].map(([value, text]) =>
      h('option', { value }, text)));
  const count = h('p', { class: 'quiet-text', role: 'status' });
  const compare = h('a', { class: 'button primary' });
  const selection = h('div', { class: 'selection', hidden: true }, compare,
    h('button', { type: 'button', class: 'quiet', on: { click: () => { state.selected.clear(); draw(); } } }, 'Clear'));
  const list = h('div', {});
  const more = h('p', {});

  fill(container,
    h('h1', {}, 'Runs'),
    h('form', { class: 'toolbar', role: 'search', on: { submit: event => event.preventDefault() } },
      h('label', { for: 'run-filter' }, 'Filter', search),
      h('label', { for: 'run-system' }, 'System', system),
      h('label', { for: 'run-state' }, 'State', stateChoice),
      h('label', { for: 'run-sort' }, 'Sort by', sort)),
    count, selection, list, more);

  function change(values) {
    Object.assign(state, values, { shown: FIRST_ROWS });
    const kept = new URLSearchParams();
    for (const name of ['q', 'system', 'state']) if (state[name]) kept.set(name, state[name]);
    if (state.sort !== 'age') kept.set('sort', state.sort);
    if (state.reverse) kept.set('reverse', '1');
    const text = kept.toString();
    context.replace(text ? `#/?${text}` : '#/');
    load();
  }

  function onSort(key) {
    change({ sort: key, reverse: key === state.sort ? !state.reverse : false });
    context.announce(`Sorted by ${key}${state.reverse ? ', reversed' : ''}`);
  }

  const load = paced(async () => {
    const { q, system: ofSystem, state: ofState, sort: by, reverse } = state;
    try {
      answer = { studies: [], total_studies: 0, ...await getJson('runs', { q, system: ofSystem, state: ofState, sort: by, reverse: reverse ? 1 : 0 }, context.signal) };
      await Promise.all(answer.studies.filter(study => state.open.has(study.key)).map(loadStudy));
      draw();
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (!(error instanceof AnswerError)) throw error;
      fill(count, h('span', { class: 'fault' }, error.message));
    }
  }, 500);

  async function loadStudy({ key }) {
    const found = await getJson('runs', { study: key, sort: state.sort, reverse: state.reverse ? 1 : 0 }, context.signal);
    ofStudies.set(key, found.runs);
  }

  async function toggle(study) {
    if (state.open.has(study.key)) state.open.delete(study.key);
    else {
      await loadStudy(study).catch(error => {
        if (error.name !== 'AbortError') ofStudies.set(study.key, []);
      });
      state.open.add(study.key);
    }
    draw();
  }

  function options(select, values, chosen, all) {
    fill(select, h('option', { value: '' }, all), values.map(value => h('option', { value }, value)));
    if (chosen && !values.includes(chosen)) select.append(h('option', { value: chosen }, chosen));
    select.value = chosen;
  }

  function draw() {
    options(system, answer.systems, state.system, 'all');
    options(stateChoice, answer.states, state.state, 'all');
    sort.value = state.sort;
    if (answer.total === 0 && answer.total_studies === 0) {
      fill(list, howToBegin(answer.runs_dir || 'runs'));
      fill(more);
      count.textContent = '';
      return;
    }
    const filtered = answer.runs.length !== answer.total;
    const studies = answer.total_studies ? `${plural(answer.studies.length, 'study', 'studies')}${
      answer.studies.length !== answer.total_studies ? ` of ${number(answer.total_studies)}` : ''} and ` : '';
    count.textContent = studies + (filtered ? `${plural(answer.runs.length, 'run')} of ${number(answer.total)}` : plural(answer.total, 'run'));
    const shown = answer.runs.slice(0, state.shown);
    const focused = document.activeElement?.dataset?.keep;
    const left = list.querySelector('.scroll')?.scrollLeft || 0;
    fill(list, scrollBox('Runs', table({
      caption: 'Runs', columns: COLUMNS, rows: [...answer.studies.flatMap(studyRows), ...shown.map(run => row(run))], sort: state.sort, descending: state.reverse, onSort, rowHead: 1,
    })));
    list.firstElementChild.scrollLeft = left;
    if (focused) list.querySelector(`[data-keep="${CSS.escape(focused)}"]`)?.focus();
    fill(more, answer.runs.length > state.shown
      ? h('button', { type: 'button', on: { click: () => { state.shown += 400; draw(); } } },
        `Show ${number(Math.min(400, answer.runs.length - state.shown))} more of ${number(answer.runs.length)}`)
      : null);
    drawSelection();
    watchCurves();
  }

  /** Returns the row of a study, and those of its runs if it is open. */
  function studyRows(study) {
    const isOpen = state.open.has(study.key);
    const runs = isOpen ? ofStudies.get(study.key) || [] : [];
    const button = h('button', { type: 'button', class: 'quiet fold', 'aria-expanded': String(isOpen), 'aria-label': `Runs of study ${study.name}`,
      data: { keep: `fold ${study.key}` }, on: { click: () => toggle(study) } }, h('span', { 'aria-hidden': 'true' }, isOpen ? '▾' : '▸'));
    const about = study.error || `${study.kind} of ${study.command} · ${progressText(study)}`;
    const head = {
      attributes: { class: 'study-row', data: { study: study.key } },
      cells: [
        button,
        [h('a', { href: studyAddress(study.key), class: 'run-name', data: { keep: `study ${study.key}` } }, study.name),
          h('span', { class: study.error ? 'run-about fault' : 'run-about' }, about)],
        stateBadge(study.state), 'study', study.best === null ? '–' : [h('span', { class: 'quiet-text wide' }, study.metric, ' '), number(study.best)],
        '', '', '',
        h('time', { title: moment(study.last_activity), datetime: new Date(study.last_activity * 1000).toISOString() }, age(study.last_activity)),
      ],
    };
    const children = runs.slice(0, FIRST_ROWS).map(run => row(run, 'study-child'));
    if (isOpen && runs.length !== children.length) {
      const text = `All ${number(runs.length)} runs on the page of the study`;
      children.push({ attributes: { class: 'study-child' }, cells: ['', h('a', { href: studyAddress(study.key) }, text), '', '', '', '', '', '', ''] });
    } else if (isOpen && !runs.length) {
      children.push({ attributes: { class: 'study-child' }, cells: ['', 'No run has started yet', '', '', '', '', '', '', ''] });
    }
    return [head, ...children];
  }

  function row(run, kind = null) {
    const box = h('input', { type: 'checkbox', checked: state.selected.has(run.key), 'aria-label': `Select ${run.name}`,
      data: { keep: `box ${run.key}` },
      on: { change: () => {
        if (box.checked) state.selected.add(run.key);
        else state.selected.delete(run.key);
        drawSelection();
      } } });
    const best = run.best === null ? '–' : [h('span', { class: 'quiet-text' }, run.best_label, ' '), number(run.best)];
    const curve = h('span', { class: 'curve-place', data: { run: run.key, activity: String(run.last_activity) } });
    drawCurve(curve);
    return {
      attributes: { class: kind, data: { run: run.key } },
      cells: [
        box,
        [h('a', { href: runAddress([run.key]), class: 'run-name', data: { keep: `link ${run.key}` } }, run.name),
          h('span', { class: 'run-about' }, [run.id, run.key === run.name || kind !== null ? null : `folder ${run.key}`].filter(Boolean).join(' · '))],
        stateBadge(run.state), run.system, best, curve, number(run.step), number(run.episodes),
        h('time', { title: moment(run.last_activity), datetime: new Date(run.last_activity * 1000).toISOString() }, age(run.last_activity)),
      ],
    };
  }

  function drawSelection() {
    const there = [...answer.studies.flatMap(study => (state.open.has(study.key) ? ofStudies.get(study.key) || [] : [])), ...answer.runs];
    const keys = there.map(run => run.key).filter(key => state.selected.has(key));
    const hiddenOnes = [...state.selected].filter(key => !keys.includes(key));
    const all = [...keys, ...hiddenOnes].slice(0, MAX_COMPARED);
    selection.hidden = all.length === 0;
    compare.textContent = all.length === 1 ? 'Open 1 run' : `Compare ${all.length} runs`;
    compare.href = runAddress(all);
  }

  // Curves are asked for when their rows come into view.
  const observer = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) wanted.add(entry.target.dataset.run);
    if (wanted.size) loadCurves();
  }, { rootMargin: '200px' });
  const wanted = new Set();

  function watchCurves() {
    observer.disconnect();
    for (const place of list.querySelectorAll('.curve-place')) {
      if (sparklines.get(place.dataset.run)?.activity !== place.dataset.activity) observer.observe(place);
    }
  }

  const loadCurves = paced(async () => {
    while (wanted.size && !context.signal.aborted) {
      const keys = [...wanted].slice(0, 20);
      for (const key of keys) wanted.delete(key);
      const activity = new Map([...answer.runs, ...[...ofStudies.values()].flat()].map(run => [run.key, String(run.last_activity)]));
      const found = await getJson('sparklines', { run: keys }, context.signal).catch(() => null);
      if (found === null) return;
      for (const [key, curve] of Object.entries(found.sparklines)) sparklines.set(key, { curve, activity: activity.get(key) });
      for (const place of list.querySelectorAll('.curve-place')) if (keys.includes(place.dataset.run)) drawCurve(place);
    }
  }, 200);

  function drawCurve(place) {
    const curve = sparklines.get(place.dataset.run)?.curve;
    if (!curve || !curve.x.length) return;
    const label = `${curve.metric}: ${number(curve.y[0])} to ${number(curve.last)}`;
    fill(place, sparkline(curve.x, curve.y, label));
    place.title = label;
  }

  await load();
  context.onChange(null, throttled(load, 1500));
  const ticking = setInterval(() => {
    for (const place of list.querySelectorAll('time')) place.textContent = age(Date.parse(place.dateTime) / 1000);
  }, 10_000);
  return () => {
    clearInterval(ticking);
    observer.disconnect();
  };
}

function howToBegin(folder) {
  return h('section', { class: 'empty' },
    h('h2', {}, 'No runs yet'),
    h('p', {}, 'There are no runs in ', h('code', {}, folder), '. Start one in a terminal; it appears here at once:'),
    h('pre', { tabindex: '0' }, 'matrixrl matmul train --preset quick\nmatrixrl ppo train --env gymnax:CartPole-v1\nmatrixrl hackmatrix train'),
    h('p', {}, 'Runs of another folder: ', h('code', {}, 'matrixrl dashboard --runs-dir FOLDER')));
}
