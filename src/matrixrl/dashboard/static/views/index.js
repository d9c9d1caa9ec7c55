// All views: pages by the address, and tabs of the page of a run. The package's docstring says how to add one.

import { isReport } from '../lib/api.js';

/** Returns a matcher for addresses with these parts; `:name` matches any part and is decoded. */
function path(...pattern) {
  return parts => {
    if (parts.length > pattern.length) return null;
    const params = {};
    for (const [index, wanted] of pattern.entries()) {
      const part = parts[index];
      if (wanted.endsWith('?')) params[wanted.slice(1, -1)] = part === undefined ? '' : decoded(part);
      else if (part === undefined) return null;
      else if (wanted.startsWith(':')) params[wanted.slice(1)] = part;
      else if (part !== wanted) return null;
    }
    return params;
  };
}

/** Returns a part of an address as text. */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Returns the names in `a,b`: a comma in a name is encoded. */
export function namesIn(text) {
  return text.split(',').filter(Boolean).map(decoded);
}

/** Returns the address of the page of runs. */
export function runAddress(names, tab = '') {
  return `#/runs/${names.map(encodeURIComponent).join(',')}${tab ? `/${tab}` : ''}`;
}

/** Returns the address of the page of a study. */
export function studyAddress(key) {
  return `#/studies/${encodeURIComponent(key)}`;
}

export const NAVIGATION = [
  { href: '#/', text: 'Runs' },
  { href: '#/records', text: 'Records' },
  { href: '#/hackmatrix', text: 'HackMatrix' },
].slice(0, isReport ? 1 : 3);

export const PAGES = [
  { match: parts => (parts.length === 0 ? {} : null), load: () => import('./runs.js') },
  {
    match: path('runs', ':names', ':tab?'),
    load: () => import('./run.js'),
    // The page stays when only the tab changes.
    key: params => `runs/${params.names}`,
  },
  { match: path('studies', ':study'), load: () => import('./study.js') },
  { match: path('records'), load: () => import('./records.js') },
  { match: path('hackmatrix'), load: () => import('./hackmatrix.js') },
];

/** Returns whether a run decomposes tensors: its episode table has the column that says so. */
const isTensorGame = run => ['matmul', 'flip'].includes(run.system) || 'Rank' in (run.columns || {});

/**
 * Tabs of the page of a run. `appliesTo` gets the details of the selected runs (`/api/runs/RUN`), the first one first.
 */
export const TABS = [
  { id: 'charts', title: 'Charts', load: () => import('./charts.js') },
  { id: 'episodes', title: 'Episodes', load: () => import('./episodes.js') },
  { id: 'games', title: 'Games', load: () => import('./games.js'), appliesTo: runs => runs.length === 1 && isTensorGame(runs[0]) },
  { id: 'play', title: 'Play', load: () => import('./agentgames.js'), appliesTo: runs => runs.length === 1 && runs[0].system === 'hackmatrix' && (!isReport || runs[0].replays > 0) },
  { id: 'settings', title: 'Settings', load: () => import('./settings.js') },
  { id: 'console', title: 'Console', load: () => import('./console.js'), appliesTo: runs => runs.length === 1 },
  { id: 'files', title: 'Files', load: () => import('./files.js'), appliesTo: runs => runs.length === 1 },
  { id: 'delivery', title: 'Delivery & audit', load: () => import('./delivery.js'), appliesTo: runs => runs.length === 1 },
];
