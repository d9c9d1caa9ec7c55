// The tab of a HackMatrix run: its agent plays, and its replay files.

export { mountRun as mount } from './hackmatrix.js';
