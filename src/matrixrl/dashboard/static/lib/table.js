// Tables whose heads sort.

import { h } from './dom.js';

/**
 * Returns a table.
 *
 * @param {object} options
 *   caption: text for screen readers;
 *   columns: list of {key, title, numeric, class, sortable};
 *   rows: list of lists of children, one per column, or of {cells, attributes};
 *   sort: key of the sorted column; descending: its direction; onSort: called with a key.
 */
export function table({ caption, columns, rows, sort = null, descending = false, onSort = null, rowHead = -1 }) {
  const heads = columns.map(column => {
    const isSorted = column.key === sort;
    const direction = isSorted ? (descending ? 'descending' : 'ascending') : null;
    const classes = [column.numeric ? 'numeric' : '', column.class || ''].filter(Boolean).join(' ');
    const attributes = { scope: 'col', class: classes || null, 'aria-sort': direction };
    if (onSort === null || column.sortable === false) return h('th', attributes, column.title);
    const arrow = isSorted ? (descending ? '▼' : '▲') : '';
    return h('th', attributes,
      h('button', { type: 'button', class: 'sort', data: { sort: column.key }, on: { click: () => onSort(column.key) } },
        column.title, ' ', h('span', { 'aria-hidden': 'true', class: 'arrow' }, arrow)));
  });
  const body = rows.map(row => {
    const { cells, attributes = {} } = Array.isArray(row) ? { cells: row } : row;
    return h('tr', attributes, cells.map((cell, index) => {
      const column = columns[index];
      const classes = [column.numeric ? 'numeric' : '', column.class || ''].filter(Boolean).join(' ');
      const isHead = index === rowHead;
      return h(isHead ? 'th' : 'td', { class: classes || null, scope: isHead ? 'row' : null }, cell);
    }));
  });
  return h('table', {}, h('caption', { class: 'visually-hidden' }, caption), h('thead', {}, h('tr', {}, heads)),
    h('tbody', {}, body));
}

/** Returns a box around a table that scrolls sideways, by keyboard too. */
export function scrollBox(label, ...children) {
  return h('div', { class: 'scroll', role: 'region', 'aria-label': label, tabindex: '0' }, children);
}
