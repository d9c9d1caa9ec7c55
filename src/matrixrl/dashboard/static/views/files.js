// Checkpoints and other files of a run, with their checksums.

import { getJson, throttled } from '../lib/api.js';
import { fill, h } from '../lib/dom.js';
import { bytes, duration, moment, number } from '../lib/format.js';
import { scrollBox, table } from '../lib/table.js';

const COLUMNS = [
  { key: 'path', title: 'File' }, { key: 'kind', title: 'Kind' }, { key: 'step', title: 'Step', numeric: true },
  { key: 'size', title: 'Size', numeric: true }, { key: 'aliases', title: 'Marked as' }, { key: 'time', title: 'Written' },
  { key: 'seconds', title: 'Took', numeric: true }, { key: 'sha256', title: 'SHA-256' },
];

export async function mount(container, [run], context) {
  function draw(details) {
    const files = [...details.files].reverse();
    if (!files.length) {
      fill(container, h('p', { class: 'empty' }, 'No checkpoint yet.'));
      return;
    }
    fill(container,
      h('p', { class: 'quiet-text' }, 'In ', h('code', {}, details.run_dir), '. The audit compares these checksums with the files.'),
      scrollBox('Files', table({
        caption: 'Checkpoints and other files', columns: COLUMNS, rowHead: 0,
        rows: files.map(file => [
          [file.path, file.is_present ? null : h('span', { class: 'quiet-text' }, ' (removed)')], file.kind, number(file.step), bytes(file.size_bytes),
          file.aliases.join(', '), moment(file.time), duration(file.seconds), h('code', { class: 'checksum' }, file.sha256),
        ]),
      })));
  }

  draw(run);
  context.onChange([run.key], throttled(async () => {
    try {
      draw(await getJson(['runs', run.key], {}, context.signal));
    } catch { /* the head of the page says so */ }
  }, 2000));
}
