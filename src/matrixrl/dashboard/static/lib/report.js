// In a report this takes the place of `api.js`: all answers are in the page.

import { AnswerError } from './shared.js';

export { AnswerError, paced, throttled } from './shared.js';

/** Whether this page is a report: a file with all its data, without a server. */
export const isReport = true;

const data = JSON.parse(document.getElementById('report-data').textContent);

/** Returns the address of numbers to save: they are made from what is in the page. */
export function address(parts, parameters = {}) {
  if ([parts].flat().join('/') !== 'series.csv') return '#/';
  const lines = [['run', 'step', ...[parameters.metric].flat()].map(csvCell).join(',')];
  for (const run of [parameters.run].flat()) {
    const curve = data.curves[run]?.[parameters.metric];
    curve?.x.step.forEach((step, index) => lines.push([csvCell(run), step, curve.y[index]].join(',')));
  }
  return URL.createObjectURL(new Blob([`${lines.join('\n')}\n`], { type: 'text/csv' }));
}

function csvCell(value) {
  const text = String(value);
  // A text that begins like a formula would be run by a spreadsheet.
  return /[",\n]/.test(text) || /^[=+\-@]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Returns an answer of the page, as the server would give it. */
export async function getJson(parts, parameters = {}) {
  const path = [parts].flat();
  const [first, run, part] = path;
  if (first === 'runs' && path.length === 1) return listed(parameters);
  if (first === 'sparklines') return { sparklines: Object.fromEntries([parameters.run].flat().map(key => [key, data.sparklines[key] ?? null])) };
  if (first === 'series') return series(parameters);
  if (first === 'settings') return settings([parameters.run].flat());
  if (first === 'runs' && part === 'episodes') return episodes(data.tables[run], parameters);
  if (first === 'runs' && part === 'console') return consoleLines(data.answers[`runs/${run}/console`], parameters);
  if (first === 'studies' && part === 'curves') return studyCurves(run, parameters);
  const key = `${path.join('/')}${parameters.id ? `?${parameters.id}` : ''}`;
  if (key in data.answers) return data.answers[key];
  throw new AnswerError(0, 'A report does not hold this. See it with: matrixrl dashboard');
}

export async function sendJson() {
  throw new AnswerError(0, 'A report cannot compute. Start: matrixrl dashboard');
}

/** A stream in which nothing happens. */
export class Changes {
  constructor() {
    this.states = new Set();
  }

  start() {}

  listen() {
    return () => {};
  }
}

function studyCurves(key, { metric, by = '', x = 'step' }) {
  const all = `studies/${key}/curves?`;
  const first = Object.keys(data.answers).find(name => name.startsWith(all));
  const found = metric ? data.answers[`${all}${metric}|${by}|${x}`]
    : first && data.answers[`${all}${data.answers[first].metric}|${by}|${x}`];
  if (found) return found;
  throw new AnswerError(0, 'A report does not hold these curves. See them with: matrixrl dashboard');
}

function listed({ q = '', system, state, sort, reverse, study }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const keys = study && new Set(data.answers[`studies/${study}`].rows.map(row => row.run));
  const ofStudies = new Set(data.studies.flatMap(one => data.answers[`studies/${one.key}`].rows.map(row => row.run)));
  const own = data.runs.filter(run => (study ? keys.has(run.key) : !ofStudies.has(run.key)));
  const studies = study ? [] : data.studies.filter(one => (!state || one.state === state) && (!system || one.command.split(' ').includes(system))
    && words.every(word => `study\n${one.key}\n${one.command}\n${one.state}`.toLowerCase().includes(word)));
  const runs = own.filter(run => (!system || run.system === system) && (!state || run.state === state)
    && words.every(word => `${run.key}\n${run.id}\n${run.system}\n${run.state}`.toLowerCase().includes(word)));
  const value = { age: run => -run.last_activity, started: run => -run.started, name: run => run.name, state: run => run.state, system: run => run.system,
    steps: run => -run.step, episodes: run => -run.episodes, best: run => (run.best === null ? Infinity : run.lowest ? run.best : -run.best) }[sort || 'age'];
  runs.sort((one, other) => (value(one) < value(other) ? -1 : value(one) > value(other) ? 1 : 0));
  if (reverse) runs.reverse();
  const unique = name => [...new Set(data.runs.map(run => run[name]))].sort();
  return { runs, total: own.length, systems: unique('system'), states: unique('state'), runs_dir: '', studies, total_studies: data.studies.length };
}

function settings(keys) {
  const found = keys.map(key => data.answers[`runs/${key}`].settings);
  const names = [...new Set(found.flatMap(Object.keys))].sort();
  return {
    runs: keys.map(key => data.runs.find(run => run.key === key)),
    names: names.map(name => {
      const values = found.map(one => one[name] ?? null);
      return { name, values, differ: values.some(value => JSON.stringify(value) !== JSON.stringify(values[0])) };
    }),
    groups: data.groups.map(group => group.filter(key => keys.includes(key))).filter(group => group.length),
  };
}

function series({ run, metric, x = 'step', from, to, band }) {
  const curves = {};
  for (const name of [metric].flat()) {
    const found = [run].flat().map(key => [key, data.curves[key]?.[name]]).filter(([, curve]) => curve).map(([key, curve]) => {
      const xs = curve.x[x] || curve.x.step;
      const kept = xs.map((_, index) => index).filter(index => (from === undefined || xs[index + 1] === undefined || xs[index + 1] >= from)
        && (to === undefined || xs[index - 1] === undefined || xs[index - 1] <= to));
      const pick = values => kept.map(index => values[index]);
      return { run: key, x: pick(xs), y: pick(curve.y), low: pick(curve.low || curve.y), high: pick(curve.high || curve.y) };
    });
    curves[name] = band && found.length ? [averaged(found)] : found;
  }
  return { x, curves };
}

/** Returns the mean of curves and its 95 % interval, each curve within its own range. */
function averaged(curves) {
  const xs = [...new Set(curves.flatMap(curve => curve.x))].sort((a, b) => a - b);
  const result = { runs: curves.map(curve => curve.run), x: [], y: [], low: [], high: [] };
  for (const x of xs) {
    const values = curves.map(curve => interpolated(curve, x)).filter(value => value !== null);
    if (!values.length) continue;
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / Math.max(values.length - 1, 1));
    const half = (1.96 * spread) / Math.sqrt(values.length);
    for (const [name, value] of Object.entries({ x, y: mean, low: mean - half, high: mean + half })) result[name].push(value);
  }
  return result;
}

function interpolated({ x, y }, at) {
  if (!x.length || at < x[0] || at > x[x.length - 1]) return null;
  let [low, high] = [0, x.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle;
    else high = middle;
  }
  if (at === x[low] || high === low) return y[low];
  return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
}

function episodes(table, { sort, descending, where = [], start = 0, count = 50 }) {
  const names = Object.keys(table.columns);
  const conditions = [where].flat().map(text => condition(text, table.columns));
  let order = table.rows.map((_, index) => index).filter(index => conditions.every(([column, test]) => test(table.rows[index][column])));
  if (sort) {
    const column = names.indexOf(sort);
    const rank = value => (value === null ? -Infinity : typeof value === 'boolean' ? Number(value) : value);
    order.sort((one, other) => {
      const [a, b] = [rank(table.rows[one][column]), rank(table.rows[other][column])];
      return (a < b ? -1 : a > b ? 1 : 0) * (descending ? -1 : 1) || one - other;
    });
  }
  const matching = order.length;
  order = order.slice(start, start + count);
  return { columns: table.columns, rows: order.map(index => table.rows[index]), steps: order.map(index => table.steps[index]),
    start, matching, total: table.rows.length, recorded: table.total };
}

function condition(text, columns) {
  const names = Object.keys(columns);
  const name = names.filter(one => text.startsWith(`${one}:`)).sort((a, b) => b.length - a.length)[0];
  const wanted = text.slice(name.length + 1).trim();
  const column = names.indexOf(name);
  if (columns[name] === 'str') {
    const negated = wanted.startsWith('!=');
    const part = wanted.replace(/^!?=/, '').trim().toLowerCase();
    return [column, value => String(value ?? '').toLowerCase().includes(part) !== negated];
  }
  const found = /^(>=|<=|!=|>|<|=)?\s*(.*)$/.exec(wanted);
  const [sign, rest] = [found[1] || '=', found[2]];
  const truths = { yes: 1, true: 1, no: 0, false: 0 };
  const parse = one => truths[one.toLowerCase()] ?? Number(one.replaceAll(',', ''));
  const [low, high = low] = rest.split('..').map(one => parse(one.trim()));
  if (Number.isNaN(low) || Number.isNaN(high)) throw new AnswerError(400, `where ${text}: ${name} takes a number, >=NUMBER, <NUMBER, !=NUMBER or LOW..HIGH`);
  const tests = { '>=': v => v >= low, '<=': v => v <= low, '>': v => v > low, '<': v => v < low, '!=': v => v !== low, '=': v => v >= low && v <= high };
  return [column, value => value !== null && tests[sign](Number(value))];
}

function consoleLines(answer, { lines = 300, kind = '', q = '' }) {
  const found = answer.lines.filter(line => (!kind || line.kind === kind) && line.text.toLowerCase().includes(q.toLowerCase()));
  return { ...answer, lines: found.slice(-lines), has_more: found.length > lines };
}
