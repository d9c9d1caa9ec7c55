// Elements from JavaScript. Text is set as text, never parsed: names of runs are hostile until proved otherwise.

const SVG = 'http://www.w3.org/2000/svg';

const PROPERTIES = new Set(['value', 'checked', 'disabled', 'selected', 'open', 'indeterminate']);

/**
 * Returns an element.
 *
 * @param {string} name of the tag; `svg:path` for one of SVG.
 * @param {object} attributes `class`, `aria-label`, ...; `on` maps events to listeners, `data` to data attributes;
 *   null, undefined and false leave an attribute out, true sets it empty.
 * @param {...(Node|string|number|null|Array)} children
 */
export function h(name, attributes = {}, ...children) {
  const element = name.startsWith('svg:')
    ? document.createElementNS(SVG, name.slice(4))
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      if (PROPERTIES.has(key) && key !== 'value') element[key] = false;
    } else if (key === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (key === 'data') {
      for (const [item, text] of Object.entries(value)) element.dataset[item] = text;
    } else if (PROPERTIES.has(key)) {
      element[key] = value;
    } else {
      element.setAttribute(key, value === true ? '' : String(value));
    }
  }
  append(element, children);
  return element;
}

/** Appends nodes and texts; lists are flattened, null and false left out. */
export function append(parent, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return parent;
}

/** Replaces what an element holds. */
export function fill(parent, ...children) {
  parent.replaceChildren();
  return append(parent, children);
}

/** Returns a text that only screen readers show. */
export function hidden(text) {
  return h('span', { class: 'visually-hidden' }, text);
}

/** Returns a link to an address of a journal's state; a text where it is no web address. */
export function externalLink(address, text = address) {
  return /^https?:\/\//.test(address || '')
    ? h('a', { href: address, rel: 'noopener noreferrer', target: '_blank' }, text)
    : text || '';
}

let numberOfIds = 0;

/** Returns an id that no other element has. */
export function newId(prefix) {
  numberOfIds += 1;
  return `${prefix}-${numberOfIds}`;
}
