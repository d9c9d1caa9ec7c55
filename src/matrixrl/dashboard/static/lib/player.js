// Step through positions: buttons, a slider, a speed, and keys. Used by games of every kind.

import { h } from './dom.js';

const SPEEDS = [0.5, 1, 2, 4, 8, 16];

// Paths in a square of 16: fonts lack some of these signs.
const ICONS = {
  first: 'M3 3h2v10H3z M13 3v10L6 8z',
  previous: 'M12 3v10L4 8z',
  play: 'M4 2.5v11L13.5 8z',
  pause: 'M3.5 3h3v10h-3z M9.5 3h3v10h-3z',
  next: 'M4 3v10l8-5z',
  last: 'M11 3h2v10h-2z M3 3v10l7-5z',
};

function icon(name) {
  return h('svg:svg', { viewBox: '0 0 16 16', width: 16, height: 16, 'aria-hidden': 'true', fill: 'currentColor' }, h('svg:path', { d: ICONS[name] }));
}

/**
 * Controls of a sequence of positions 0..last.
 *
 * Keys work while the focus is inside `area`: left and right step, Home and End jump, space plays and pauses. Where
 * keys have another meaning (a game that is played with them), `keys` is false.
 */
export class Player {
  /**
   * @param {object} options
   *   `last` index of the last position; `show(position)` draws one; `name` what a position is, such as `step`;
   *   `seconds` how long a position is shown at speed 1; `area` element whose keys count; `keys`; `signal` ends it.
   */
  constructor({ last, show, name = 'step', seconds = 0.8, area, keys = true, signal }) {
    Object.assign(this, { last, show, name, seconds, at: 0, timer: null, speed: 1 });
    const button = (name, label, action) =>
      h('button', { type: 'button', class: 'quiet player-button', 'aria-label': label, title: label, on: { click: action } }, icon(name));
    this.playButton = button('play', 'Play', () => this.toggle());
    this.slider = h('input', {
      type: 'range', min: 0, max: last, value: '0', step: 1, class: 'player-slider', 'aria-label': `Position: ${name}`,
      on: { input: event => this.seek(Number(event.target.value)) },
    });
    this.text = h('output', { class: 'player-text' });
    const speeds = h('select', { 'aria-label': 'Speed', on: { change: event => { this.speed = Number(event.target.value); this.resume(); } } },
      SPEEDS.map(speed => h('option', { value: speed, selected: speed === 1 }, `${speed}×`)));
    this.element = h('div', { class: 'player', role: 'group', 'aria-label': 'Playback' },
      button('first', 'First', () => this.seek(0)),
      button('previous', 'Previous', () => this.move(-1)),
      this.playButton,
      button('next', 'Next', () => this.move(1)),
      button('last', 'Last', () => this.seek(this.last)),
      this.slider, this.text, speeds);
    if (keys && area) area.addEventListener('keydown', event => this.press(event), { signal });
    signal?.addEventListener('abort', () => this.pause());
  }

  /** Shows a position; `quiet` keeps playing. */
  seek(position, quiet = false) {
    if (!quiet) this.pause();
    this.at = Math.max(0, Math.min(this.last, position));
    this.slider.value = String(this.at);
    this.slider.setAttribute('aria-valuetext', `${this.name} ${this.at} of ${this.last}`);
    this.text.textContent = `${this.at} / ${this.last}`;
    this.show(this.at);
  }

  move(by) {
    this.seek(this.at + by);
  }

  /** Takes further positions at the end, and shows the last one. */
  extend(last) {
    this.last = last;
    this.slider.max = String(last);
    this.seek(last);
  }

  get playing() {
    return this.timer !== null;
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (this.at >= this.last) this.seek(0);
    this.setButton(true);
    this.timer = setTimeout(() => this.tick(), (1000 * this.seconds) / this.speed);
  }

  tick() {
    this.timer = null;
    if (this.at >= this.last) {
      this.pause();
      return;
    }
    this.seek(this.at + 1, true);
    if (this.at < this.last) this.play();
    else this.pause();
  }

  resume() {
    if (!this.playing) return;
    clearTimeout(this.timer);
    this.play();
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = null;
    this.setButton(false);
  }

  setButton(playing) {
    this.playButton.replaceChildren(icon(playing ? 'pause' : 'play'));
    this.playButton.setAttribute('aria-label', playing ? 'Pause' : 'Play');
    this.playButton.title = playing ? 'Pause' : 'Play';
  }

  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const tag = event.target.tagName;
    if (tag === 'SELECT' || tag === 'TEXTAREA' || event.target.dataset?.keys === 'own') return;
    if (tag === 'INPUT' && event.target !== this.slider) return;
    if (event.key === ' ' && tag === 'BUTTON') return; // presses the button
    const actions = {
      ArrowRight: () => this.move(1),
      ArrowLeft: () => this.move(-1),
      Home: () => this.seek(0),
      End: () => this.seek(this.last),
      ' ': () => this.toggle(),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }
}
