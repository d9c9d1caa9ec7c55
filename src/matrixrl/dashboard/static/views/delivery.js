// Where the rows of a run are, and whether all its records agree.

import { getJson, throttled } from '../lib/api.js';
import { externalLink, fill, h } from '../lib/dom.js';
import { age, moment, number, plural } from '../lib/format.js';
import { scrollBox, table } from '../lib/table.js';

const MODES = {
  online: 'rows arrive', offline: 'rows wait in a local spool', wait: 'the tracker is away; rows wait', none: 'rows stay in the journal',
  ahead: 'the tracker has rows that the journal does not', starting: 'starting',
};

export async function mount(container, [run], context) {
  const trackers = h('div', {});
  const audits = h('div', { 'aria-live': 'polite' });
  const attempts = h('div', {});
  fill(container, h('h2', {}, 'Trackers'), trackers, h('h2', {}, 'Audit'), audits, h('h2', {}, 'Attempts'), attempts);

  function draw(details) {
    fill(trackers, details.delivery.length
      ? scrollBox('Trackers', table({
        caption: 'Trackers', rowHead: 0,
        columns: [{ key: 'tracker', title: 'Tracker' }, { key: 'mode', title: 'Mode' }, { key: 'pending', title: 'Pending rows', numeric: true },
          { key: 'confirmed', title: 'Confirmed to step', numeric: true }, { key: 'files', title: 'Files', numeric: true }, { key: 'url', title: 'Address' }],
        rows: details.delivery.map(one => [one.tracker, [h('strong', {}, one.mode), ` ${one.reason || MODES[one.mode] || ''}`],
          number(one.pending_rows), number(one.confirmed_step), number(one.artifacts.length), externalLink(one.url)]),
      }))
      : h('p', {}, 'Not tracked anywhere else: all rows are in the journal. Deliver them with ', h('code', {}, 'matrixrl runs sync'), '.'));
    fill(attempts, scrollBox('Attempts', table({
      caption: 'Attempts', rowHead: 0,
      columns: [{ key: 'attempt', title: 'Attempt', numeric: true }, { key: 'status', title: 'Ended as' }, { key: 'started', title: 'Started' },
        { key: 'ended', title: 'Ended' }, { key: 'host', title: 'Machine' }, { key: 'step', title: 'From step', numeric: true }],
      rows: details.attempts_list.map(one => [number(one.attempt), one.status || 'not recorded', moment(one.started), moment(one.ended),
        `${one.host}, process ${one.pid}`, number(one.start_step)]),
    })));
  }

  function drawAudit(result) {
    const button = h('button', { type: 'button', disabled: result.state === 'running', on: { click: start } },
      result.state === 'none' ? 'Audit this run' : 'Audit again');
    const lines = [h('p', {}, 'Proves that journal, console, episode table, tracker files and checksums agree by count and by value. ', button)];
    if (result.state === 'running') lines.push(h('p', { role: 'status' }, 'Auditing …'));
    if (result.state === 'failed') lines.push(h('p', { class: 'fault' }, result.error));
    if (result.state === 'done') {
      const { answer } = result;
      lines.push(h('p', { class: result.agrees ? 'good' : 'fault' },
        result.agrees ? '✓ Everything agrees' : `✕ ${plural(answer.gaps.length, 'gap')}`, ` (${age(result.ended)}${result.is_current ? '' : '; the journal has grown since'})`));
      if (answer.gaps.length) {
        lines.push(h('ul', {}, answer.gaps.slice(0, 50).map(gap => h('li', {}, `${gap.place}: ${gap.kind}${gap.step === null ? '' : ` at step ${number(gap.step)}`}: ${gap.text}`))));
      }
      lines.push(h('ul', { class: 'quiet-text' }, Object.entries(answer.checks).map(([place, count]) => h('li', {}, `${place}: ${number(count)}`)),
        answer.notes.map(note => h('li', {}, note))));
    }
    fill(audits, lines);
  }

  async function follow(start) {
    let result = await getJson(['runs', run.key, 'audit'], { start }, context.signal);
    drawAudit(result);
    while (result.state === 'running' && !context.signal.aborted) {
      await new Promise(resolve => setTimeout(resolve, 500));
      result = await getJson(['runs', run.key, 'audit'], {}, context.signal);
    }
    drawAudit(result);
  }

  function start() {
    follow(1).catch(error => {
      if (error.name !== 'AbortError') fill(audits, h('p', { class: 'fault', role: 'alert' }, error.message));
    });
  }

  draw(run);
  await follow(0);
  context.onChange([run.key], throttled(async () => {
    try {
      draw(await getJson(['runs', run.key], {}, context.signal));
    } catch { /* the head of the page says so */ }
  }, 2000));
}
