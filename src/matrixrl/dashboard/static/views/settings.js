// Settings of runs side by side; those that differ are marked.

import { getJson } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { exact, plural } from '../lib/format.js';
import { scrollBox, table } from '../lib/table.js';

export async function mount(container, runs, context) {
  const answer = await getJson('settings', { run: runs.map(run => run.key) }, context.signal);
  const many = answer.runs.length > 1;
  const only = h('input', { type: 'checkbox', id: 'only-differences', checked: many, on: { change: draw } });
  const filter = h('input', { type: 'search', id: 'setting-filter', placeholder: 'learning_rate', autocomplete: 'off', spellcheck: 'false', on: { input: draw } });
  const place = h('div', {});
  fill(container,
    h('form', { class: 'toolbar', on: { submit: event => event.preventDefault() } },
      h('label', { for: 'setting-filter' }, 'Settings', filter),
      many ? h('label', { for: 'only-differences', class: 'check' }, only, 'Only those that differ') : null),
    place);

  function draw() {
    const text = filter.value.toLowerCase();
    const shown = answer.names.filter(one => (!many || !only.checked || one.differ) && one.name.toLowerCase().includes(text));
    const differing = answer.names.filter(one => one.differ).length;
    const columns = [{ key: 'name', title: 'Setting' }, ...answer.runs.map(run => ({ key: run.key, title: run.name }))];
    fill(place,
      many ? h('p', { class: 'quiet-text' }, differing ? `${plural(differing, 'setting')} of ${answer.names.length} differ` : 'All settings are the same') : null,
      scrollBox('Settings', table({
        caption: 'Settings', columns, rowHead: 0,
        rows: shown.map(one => ({
          attributes: { class: one.differ ? 'differs' : null },
          cells: [[one.name, one.differ ? h('span', { class: 'mark' }, ' differs') : null], ...one.values.map((value, index) => {
            const isOther = one.differ && JSON.stringify(value) !== JSON.stringify(one.values[0]) && index > 0;
            return isOther ? h('mark', {}, exact(value)) : exact(value);
          })],
        })),
      })));
  }

  draw();
}
