// The console of a run: its lines from the end, and its messages.

import { getJson, paced, throttled } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { moment, number } from '../lib/format.js';

export async function mount(container, runs, context) {
  const [run] = runs;
  const state = { lines: 300 };
  const kind = h('select', { id: 'line-kind', on: { change: () => load() } },
    [['', 'all'], ['epoch', 'epochs and updates'], ['episode', 'episodes'], ['move', 'moves']].map(([value, text]) => h('option', { value }, text)));
  const search = h('input', { type: 'search', id: 'line-filter', autocomplete: 'off', spellcheck: 'false', on: { input: () => load() } });
  const more = h('p', {});
  const text = h('pre', { class: 'console', tabindex: '0', role: 'log', 'aria-label': 'Lines of the console', 'aria-live': 'off' });
  const messages = h('div', {});
  fill(container,
    h('form', { class: 'toolbar', on: { submit: event => event.preventDefault() } },
      h('label', { for: 'line-filter' }, 'Lines with', search), h('label', { for: 'line-kind' }, 'Kind', kind)),
    more, text, messages);

  const load = paced(async () => {
    const isAtEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 40;
    let answer;
    try {
      answer = await getJson(['runs', run.key, 'console'], { lines: state.lines, kind: kind.value, q: search.value }, context.signal);
    } catch (error) {
      if (error.name !== 'AbortError') fill(more, h('span', { class: 'fault' }, error.message));
      return;
    }
    const width = String(answer.lines.at(-1)?.step ?? '').length;
    fill(text, answer.lines.length
      ? answer.lines.map(line => h('span', { class: `line line-${line.kind}` }, h('span', { class: 'quiet-text' }, `${String(line.step).padStart(width)}  `), line.text, '\n'))
      : 'no lines');
    fill(more, answer.has_more
      ? h('button', { type: 'button', on: { click: () => { state.lines = Math.min(5000, state.lines * 4); load(); } } }, `Show more than the last ${number(answer.lines.length)} lines`)
      : null);
    fill(messages, answer.messages.length
      ? [h('h2', {}, 'Messages'), h('ul', { class: 'messages' }, answer.messages.map(note => h('li', { class: `message-${note.level === 'warning' ? 'warning' : 'info'}` },
        h('span', { class: 'quiet-text' }, `${moment(note.time)} ${note.step === null ? '' : `step ${number(note.step)} `}${note.level}: `), note.text)))]
      : null);
    if (isAtEnd) text.scrollTop = text.scrollHeight;
  }, 800);

  await load();
  text.scrollTop = text.scrollHeight;
  context.onChange([run.key], throttled(load));
}
