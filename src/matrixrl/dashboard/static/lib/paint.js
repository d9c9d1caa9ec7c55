// Drawings on a canvas: colours of the page, a call when the theme changes, a pen.

export { variable as colour } from './theme.js';

/** Calls back when the theme changes, until the signal aborts. */
export function onTheme(callback, signal) {
  const media = matchMedia('(prefers-color-scheme: dark)');
  const observer = new MutationObserver(callback);
  observer.observe(document.documentElement, { attributes: true });
  media.addEventListener('change', callback, { signal });
  signal?.addEventListener('abort', () => observer.disconnect());
}

/** Sizes a canvas to a number of CSS pixels, and returns its pen in these units. */
export function penOf(canvas, width, height) {
  const scale = globalThis.devicePixelRatio || 1;
  const pixels = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext('2d');
  pen.setTransform(pixels[0] / width, 0, 0, pixels[1] / height, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}
