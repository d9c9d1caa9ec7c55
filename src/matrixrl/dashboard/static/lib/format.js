// Numbers for people: three significant digits, thousands separators, units.

const MISSING = '–';

/** Returns a number with three significant digits; whole numbers keep all of theirs. */
export function number(value) {
  if (value === null || value === undefined) return MISSING;
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (typeof value !== 'number') return String(value);
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString('en-US');
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e15) return value.toExponential(2).replace(/e([+-])(\d)$/, 'e$10$2');
  const digits = Math.max(0, 2 - Math.floor(Math.log10(size)));
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Returns a value of a setting in full: three digits could hide a difference. */
export function exact(value) {
  if (value === null || value === undefined) return MISSING;
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (Array.isArray(value)) return value.length ? value.map(exact).join(' ') : 'none';
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

/** Returns a time span: `12 s`, `3 min`, `2 h 07 min`, `3 d 04 h`. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return MISSING;
  const whole = Math.max(0, Math.round(seconds));
  const two = part => String(part).padStart(2, '0');
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${two(Math.floor((whole % 86400) / 3600))} h`;
}

/** Returns the age of a moment, given in seconds since the epoch. */
export function age(moment) {
  const seconds = Date.now() / 1000 - moment;
  if (!moment || !Number.isFinite(seconds)) return MISSING;
  if (seconds < 5) return 'now';
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

/** Returns a moment, given in seconds since the epoch, as local date and time. */
export function moment(seconds) {
  if (!seconds) return MISSING;
  const date = new Date(seconds * 1000);
  const two = part => String(part).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Returns a size: `640 B`, `12.3 KB`, `1.20 GB`. */
export function bytes(size) {
  if (!Number.isFinite(size)) return MISSING;
  if (size < 1000) return `${size} B`;
  const units = ['KB', 'MB', 'GB', 'TB'];
  let value = size;
  let unit = -1;
  do {
    value /= 1000;
    unit += 1;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value.toPrecision(3)} ${units[unit]}`;
}

/** Returns a count with its noun: `1 run`, `1,200 runs`. */
export function plural(count, noun, nouns = `${noun}s`) {
  return `${number(count)} ${count === 1 ? noun : nouns}`;
}
