// Light, dark, or as the system has it; and colours of curves that colour-blind readers can tell apart.

import { fill, h, hidden } from './dom.js';

const KEY = 'matrixrl-theme';
const CHOICES = ['system', 'light', 'dark'];

// Okabe and Ito, lightened or darkened where the background asks for it.
const LIGHT = ['#0072b2', '#c74e00', '#00805d', '#b3528a', '#946200', '#2b7fb3', '#1f2937', '#7a5195'];
const DARK = ['#56b4e9', '#ff8f4d', '#2fc79b', '#e79cc4', '#f0b93a', '#9ad0f5', '#e5e7eb', '#c3a5e0'];

// From the worst to the best, in the order of viridis: the best have the most contrast with the background.
const RAMPS = { light: ['#c9a80f', '#4da85c', '#21918c', '#3b528b', '#440154'], dark: ['#6a5bb5', '#3f7fb5', '#22a39a', '#6fd45e', '#fde725'] };

/** Dashes of curves: a second difference beside the colour. */
export const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [14, 5], [5, 2], [1, 4], [12, 3, 4, 3]];

function stored() {
  try {
    const value = localStorage.getItem(KEY);
    return CHOICES.includes(value) ? value : 'system';
  } catch {
    return 'system'; // storage is switched off
  }
}

function store(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch { /* the choice lasts as long as the page */ }
}

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === 'light' || chosen === 'dark') return chosen === 'dark';
  return matchMedia('(prefers-color-scheme: dark)').matches;
}

/** Returns the colour of the curve of this number. */
export function colour(index) {
  const palette = isDark() ? DARK : LIGHT;
  return palette[index % palette.length];
}

/** Returns the colour of a value between the worst (0) and the best (1). */
export function ramp(share) {
  const stops = RAMPS[isDark() ? 'dark' : 'light'];
  const at = Math.max(0, Math.min(1, share)) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2);
  const part = (hex, place) => parseInt(hex.slice(place, place + 2), 16);
  const mixed = [1, 3, 5].map(place => Math.round(part(stops[low], place) * (1 - at + low) + part(stops[low + 1], place) * (at - low)));
  return `#${mixed.map(value => value.toString(16).padStart(2, '0')).join('')}`;
}

export function dash(index) {
  return DASHES[index % DASHES.length];
}

const known = { light: new Map(), dark: new Map() };

/** Returns a colour of the style sheet, such as `--text`, for a canvas: the one of the present theme. */
export function variable(name) {
  const found = known[isDark() ? 'dark' : 'light'];
  if (!found.has(name)) {
    const probe = h('span', { hidden: true });
    document.body.append(probe);
    probe.style.color = `var(${name})`;
    found.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return found.get(name);
}

/** Calls back when light and dark change; returns a function that ends it. */
export function onThemeChange(callback) {
  document.addEventListener('themechange', callback);
  return () => document.removeEventListener('themechange', callback);
}

export function startTheme(button) {
  function apply(choice) {
    if (choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    const [sign, word] = { system: ['◐', 'Auto'], light: ['☀', 'Light'], dark: ['☾', 'Dark'] }[choice];
    fill(button, h('span', { 'aria-hidden': 'true' }, sign), ' ', word, hidden(' colours; change'));
    document.dispatchEvent(new Event('themechange'));
  }
  let choice = stored();
  button.addEventListener('click', () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    store(choice);
    apply(choice);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => apply(choice));
  apply(choice);
}
