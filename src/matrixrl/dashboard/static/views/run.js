// The page of one run, or of several that are compared: a head and tabs.

import { AnswerError, getJson, throttled } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { age, moment, number } from '../lib/format.js';
import { colour, dash } from '../lib/theme.js';
import { TABS, namesIn, runAddress } from './index.js';
import { stateBadge } from './runs.js';

export const title = params => namesIn(params.names).join(', ');

export async function mount(container, params, context) {
  const names = namesIn(params.names);
  const controller = { tab: null, abort: null, cleanup: null };
  let runs = await details();
  const head = h('header', { class: 'run-head' });
  const tabs = h('nav', { class: 'tabs', 'aria-label': 'Parts of the run' });
  const panel = h('section', { class: 'panel' });
  fill(container, head, tabs, panel);

  async function details() {
    return Promise.all(names.map(name => getJson(['runs', name], {}, context.signal)));
  }

  function available() {
    return TABS.filter(tab => !tab.appliesTo || tab.appliesTo(runs));
  }

  function drawHead() {
    const many = runs.length > 1;
    fill(head,
      h('h1', {}, many ? `${runs.length} runs` : runs[0].name),
      h('ul', { class: 'run-list' }, runs.map((run, index) => h('li', {},
        many ? swatch(index) : null,
        many ? h('a', { href: runAddress([run.key]), class: 'run-name' }, run.name) : null,
        stateBadge(run.state),
        h('span', {}, run.system),
        h('span', {}, 'step ', h('strong', {}, number(run.step))),
        run.episodes ? h('span', {}, h('strong', {}, number(run.episodes)), ' episodes') : null,
        run.best === null ? null : h('span', {}, `${run.best_label} `, h('strong', {}, number(run.best))),
        h('span', { title: moment(run.last_activity) }, `active ${age(run.last_activity)}`),
        many ? null : h('span', { class: 'quiet-text' }, `id ${run.id}`)))),
      runs.flatMap(run => [...(run.damage || []).map(text => ['fault', text]),
        ...(run.warnings || []).slice(-2).map(note => ['note', note.text])].map(([kind, text]) =>
        h('p', { class: kind }, many ? `${run.name}: ` : '', text))));
  }

  function swatch(index) {
    return h('svg:svg', { viewBox: '0 0 28 8', width: 28, height: 8, 'aria-hidden': 'true' },
      h('svg:line', { x1: 0, y1: 4, x2: 28, y2: 4, stroke: colour(index), 'stroke-width': 2.5, 'stroke-dasharray': dash(index).join(' ') || null }));
  }

  function drawTabs(active) {
    fill(tabs, available().map(tab => h('a', { href: runAddress(names, tab.id), 'aria-current': tab.id === active ? 'page' : null }, tab.title)));
  }

  function leaveTab() {
    controller.abort?.abort();
    if (typeof controller.cleanup === 'function') controller.cleanup();
    Object.assign(controller, { tab: null, abort: null, cleanup: null });
  }

  async function showTab(id, query) {
    const tab = available().find(one => one.id === id) || available()[0];
    leaveTab();
    const abort = new AbortController();
    Object.assign(controller, { tab: tab.id, abort });
    context.signal.addEventListener('abort', () => abort.abort());
    drawTabs(tab.id);
    document.title = `${tab.title} · ${runs.map(run => run.name).join(', ')} · matrixrl`;
    fill(panel);
    const module = await tab.load();
    if (abort.signal.aborted) return;
    const own = { ...context, signal: abort.signal, query, tab: tab.id,
      onChange: (ofNames, callback) => {
        const end = context.onChange(ofNames, callback);
        abort.signal.addEventListener('abort', end);
        return end;
      } };
    try {
      const mounted = await module.mount(panel, runs, own);
      if (abort.signal.aborted) {
        if (typeof mounted === 'function') mounted();
      } else {
        controller.cleanup = mounted;
      }
    } catch (error) {
      if (error.name === 'AbortError' || abort.signal.aborted) return;
      if (!(error instanceof AnswerError)) console.error(error);
      fill(panel, h('p', { class: 'fault', role: 'alert' }, error.message));
    }
  }

  drawHead();
  await showTab(params.tab, context.query);
  context.onChange(names, throttled(async () => {
    try {
      runs = await details();
    } catch (error) {
      if (error.name === 'AbortError') return;
      fill(head, h('h1', {}, names.join(', ')), h('p', { class: 'fault', role: 'alert' }, error.message));
      return;
    }
    drawHead();
  }, 1500));
  context.signal.addEventListener('abort', leaveTab);
  return { update: (changed, query) => showTab(changed.tab, query) };
}
