// HackMatrix: replays, games of a trained agent, and play in the page.

import { getJson, isReport, sendJson } from '../lib/api.js';
import { board } from '../lib/board.js';
import { append, fill, h, newId } from '../lib/dom.js';
import { number } from '../lib/format.js';
import { Player } from '../lib/player.js';

const MOVES = { ArrowUp: 0, ArrowDown: 1, ArrowLeft: 2, ArrowRight: 3, ' ': 4 };
const COMPONENTS = {
  stage: 'stage', score: 'score', kills: 'kills', dataSiphon: 'data siphon', distance: 'distance', victory: 'victory', death: 'death',
  resourceGain: 'resources gained', resourceHolding: 'resources kept', damagePenalty: 'damage', hpRecovery: 'hp gained',
  siphonQuality: 'siphon quality', programWaste: 'wasted program', siphonDeathPenalty: 'death by siphon',
};
const MAX_FILE = 4_000_000;

export const title = () => 'HackMatrix';

/** A page: `#/hackmatrix`, play and replays from files. */
export async function mount(container, params, context) {
  const rules = await getJson(['hackmatrix', 'rules'], {}, context.signal);
  const stage = h('div', { class: 'hackmatrix' });
  const view = new Stage(stage, rules, context);
  const seedId = newId('seed');
  const seed = h('input', { id: seedId, type: 'number', min: 0, max: 4294967295, value: '0', class: 'short' });
  fill(container,
    h('h1', {}, 'HackMatrix'),
    h('div', { class: 'toolbar game-bar' },
      h('form', { class: 'inline', on: { submit: event => { event.preventDefault(); view.play(Number(seed.value) || 0); } } },
        h('label', { for: seedId }, 'Seed '), seed, ' ', h('button', { type: 'submit' }, 'New game')),
      filePicker(view)),
    stage);
  await view.play(0);
  return () => view.leave();
}

/** A tab of the page of a run: its agent plays, and its replay files. */
export async function mountRun(container, runs, context) {
  const name = runs[0].key ?? runs[0].name;
  const rules = await getJson(['hackmatrix', 'rules'], {}, context.signal);
  const files = await getJson(['runs', name, 'replays'], {}, context.signal);
  const stage = h('div', { class: 'hackmatrix' }, h('p', { class: 'empty' }, 'The agent of this run can play a game here, or help in a game of yours.'));
  const view = new Stage(stage, rules, context, name);
  const ids = { seed: newId('seed'), game: newId('game'), policy: newId('policy'), file: newId('replay') };
  const seed = h('input', { id: ids.seed, type: 'number', min: 0, max: 4294967295, value: '0', class: 'short' });
  const game = h('input', { id: ids.game, type: 'number', min: 0, max: 2147483647, value: '0', class: 'short' });
  const policy = h('select', { id: ids.policy }, h('option', { value: 'sampled' }, 'sampled'), h('option', { value: 'greedy' }, 'greedy'));
  const watch = () => view.load('The agent plays. The first game starts JAX and compiles: up to a minute.', () =>
    getJson(['runs', name, 'watch'], { seed: seed.value, game: game.value, policy: policy.value }, context.signal));
  fill(container,
    h('div', { class: 'toolbar game-bar' },
      isReport ? null : h('form', { class: 'inline', on: { submit: event => { event.preventDefault(); watch(); } } },
        h('label', { for: ids.seed }, 'Seed '), seed, ' ', h('label', { for: ids.game }, 'Game '), game, ' ',
        h('label', { for: ids.policy }, 'Policy '), policy, ' ', h('button', { type: 'submit' }, 'Watch the agent')),
      isReport ? null : h('button', { type: 'button', on: { click: () => view.play(Number(seed.value) || 0) } }, 'Play with its help'),
      files.replays.length
        ? h('span', {}, h('label', { for: ids.file }, 'Replay '), h('select', { id: ids.file, on: { change: event => view.load('Opening the replay.', () => getJson(['runs', name, 'replays'], { id: event.target.value }, context.signal)) } },
          files.replays.map(file => h('option', { value: file }, file))))
        : null,
      isReport ? null : filePicker(view)),
    stage);
  if (files.replays.length) await view.load('Opening the replay.', () => getJson(['runs', name, 'replays'], { id: files.replays[0] }, context.signal));
  return () => view.leave();
}

function filePicker(view) {
  const id = newId('file');
  return h('span', {}, h('label', { for: id }, 'Scenario or replay file '), h('input', {
    id, type: 'file', accept: '.json,application/json',
    on: { change: async event => {
      const file = event.target.files[0];
      if (!file) return;
      if (file.size > MAX_FILE) view.fail(`${file.name}: ${number(Math.round(file.size / 1e6))} MB; at most ${MAX_FILE / 1e6} MB`);
      else await view.openText(await file.text());
    } },
  }));
}

/** The board with what stands beside it: a replay, or a game that is played. */
export class Stage {
  constructor(element, rules, context, run = null) {
    Object.assign(this, { element, rules, context, run, frames: [], game: null, reveal: false, controller: null });
    this.programs = Object.fromEntries(rules.actions.map(action => [action.name, action.label]));
    element.tabIndex = -1;
  }

  leave() {
    this.controller?.abort();
    this.player?.pause();
  }

  fail(message) {
    this.leave();
    fill(this.element, h('p', { class: 'fault', role: 'alert' }, message));
  }

  async load(message, read) {
    this.leave();
    fill(this.element, h('p', { class: 'empty', role: 'status' }, message));
    try {
      this.showReplay(await read());
    } catch (error) {
      if (error.name !== 'AbortError') this.fail(error.message);
    }
  }

  /** Opens the text of a file: a replay is shown, a scenario without one is played from. */
  async openText(text) {
    await this.load('Opening the file.', () => sendJson(['hackmatrix', 'replay'], { scenario: text }, this.context.signal));
    if (this.frames.length === 1 && !this.frames[0].state.episode.done) await this.play(0, text);
  }

  showReplay({ frames, differences = [], meta = {}, agent = '' }) {
    this.game = null;
    this.frames = frames;
    const facts = [agent, ...Object.entries(meta).filter(([, value]) => value).map(([name, value]) => `${name} ${value}`)].filter(Boolean);
    this.build(frames.length - 1, true);
    if (facts.length) this.notes.append(h('p', { class: 'quiet-text' }, facts.join(' · ')));
    if (differences.length) this.notes.append(h('div', { class: 'fault', role: 'alert' }, `Not as recorded: ${differences.slice(0, 5).join('; ')}`));
    this.player.seek(0);
  }

  async play(seed, scenario = null) {
    this.leave();
    this.game = { seed, scenario, actions: [], busy: false };
    this.frames = [];
    try {
      await this.advance([]);
    } catch (error) {
      if (error.name !== 'AbortError') this.fail(error.message);
    }
  }

  async advance(actions) {
    const { seed, scenario } = this.game;
    const { frame, start } = await sendJson(['hackmatrix', 'play'], { seed, scenario, actions }, this.context.signal);
    this.game.actions = actions;
    if (start) this.game.start = start;
    this.frames = [...this.frames.slice(0, actions.length), frame];
    if (actions.length === 0) this.build(0, false);
    this.player.extend(actions.length);
    if (this.run !== null && !frame.state.episode.done) this.askAgent(frame);
  }

  async askAgent(frame) {
    try {
      const { seed, scenario, actions } = this.game;
      const answer = await sendJson(['hackmatrix', 'think'], { run: this.run, seed, scenario, actions }, this.context.signal);
      frame.thoughts = answer.thoughts;
      if (this.frames[this.player.at] === frame) this.show(this.player.at);
    } catch (error) {
      if (error.name !== 'AbortError') fill(this.notes, h('p', { class: 'quiet-text', role: 'status' }, error.message));
    }
  }

  build(last, isReplay) {
    this.controller = new AbortController();
    this.context.signal?.addEventListener('abort', () => this.controller.abort());
    this.boardBox = h('div', { class: 'board-box', tabindex: isReplay ? null : 0, 'aria-label': isReplay ? null : 'Board: arrow keys move, space siphons, letters use programs', role: isReplay ? null : 'application' });
    this.panel = h('div', { class: 'hm-panel' });
    this.actionsBox = h('div', { class: 'hm-actions' });
    this.rewardBox = h('div', { class: 'hm-reward' });
    this.notes = h('div');
    this.player = new Player({ last, show: position => this.show(position), name: 'step', area: this.element, keys: isReplay, signal: this.controller.signal, seconds: 0.5 });
    const revealId = newId('reveal');
    const reveal = h('input', { id: revealId, type: 'checkbox', checked: this.reveal, on: { change: event => { this.reveal = event.target.checked; this.show(this.player.at); } } });
    fill(this.element, this.notes, this.player.element,
      h('p', { class: 'hm-options' }, reveal, ' ', h('label', { for: revealId }, 'Show what is hidden from the player'),
        isReplay ? null : [' ', h('button', { type: 'button', class: 'quiet', on: { click: () => this.back() } }, 'Take back'), ' ', h('button', { type: 'button', class: 'quiet', on: { click: () => this.save() } }, 'Save as replay')]),
      h('div', { class: 'hm-area' }, this.boardBox, this.panel, this.actionsBox, this.rewardBox));
    if (!isReplay) {
      this.boardBox.addEventListener('keydown', event => this.press(event), { signal: this.controller.signal });
      this.boardBox.focus({ preventScroll: true });
    }
  }

  show(position) {
    const frame = this.frames[position];
    if (!frame) return;
    fill(this.boardBox, board(frame, { reveal: this.reveal, programs: this.programs }));
    this.boardBox.dataset.hash = frame.hash;
    fill(this.panel, statusPanel(frame, this.rules));
    fill(this.actionsBox, this.actions(frame, position));
    fill(this.rewardBox, rewardPanel(frame, this.rules));
  }

  actions(frame, position) {
    const next = this.frames[position + 1];
    const canPlay = this.game !== null && position === this.game.actions.length && !frame.state.episode.done;
    const thoughts = frame.thoughts;
    const owned = new Set(frame.state.owned_programs);
    const shown = this.rules.actions
      .map((action, index) => ({ ...action, index, legal: frame.legal[index], chance: thoughts?.probabilities[index] ?? null }))
      .filter(action => action.index < 5 || owned.has(action.name));
    const note = frame.state.episode.done
      ? 'The game is over.'
      : thoughts ? `The agent expects ${signed(thoughts.value)} from here.` : this.run !== null && this.game ? 'The agent is thinking.' : '';
    return [
      h('h2', {}, 'Actions'),
      note ? h('p', { class: 'quiet-text', role: 'status' }, note) : null,
      h('ul', { class: 'action-list' }, shown.map(action => {
        const isChosen = next ? next.action === action.index : thoughts?.chosen === action.index && thoughts !== null;
        const classes = ['action', action.legal ? 'is-legal' : 'is-illegal', isChosen ? 'is-chosen' : ''].join(' ');
        const why = action.legal ? '' : frame.reasons?.[action.index] || 'not possible';
        const label = [action.label, action.cost].filter(Boolean).join(' ');
        const content = [
          h('span', { class: 'action-name' }, isChosen ? '▸ ' : '', label, canPlay && action.index > 4 ? h('kbd', {}, action.key) : null),
          action.chance === null ? null : h('span', { class: 'action-chance' }, `${(100 * action.chance).toFixed(1)} %`),
          action.chance === null ? null : meter(action.chance, isChosen),
          action.legal ? null : h('span', { class: 'action-why' }, `✕ ${why}`),
        ];
        return h('li', { class: classes }, canPlay
          ? h('button', { type: 'button', data: { action: action.name }, disabled: !action.legal, title: why || null, on: { click: () => this.choose(action.index) } }, content)
          : h('div', { class: 'action-row' }, content));
      })),
    ];
  }

  async choose(action) {
    if (this.game === null || this.game.busy) return;
    this.game.busy = true;
    try {
      await this.advance([...this.game.actions, action]);
      const frame = this.frames[this.frames.length - 1];
      this.context.announce?.(`${this.rules.actions[action].label}: reward ${signed(frame.reward)}`);
    } catch (error) {
      if (error.name !== 'AbortError') fill(this.notes, h('p', { class: 'fault', role: 'alert' }, error.message));
    } finally {
      this.game.busy = false;
    }
    this.boardBox.focus({ preventScroll: true });
  }

  back() {
    if (!this.game || !this.game.actions.length) return;
    this.game.actions = this.game.actions.slice(0, -1);
    this.frames = this.frames.slice(0, this.game.actions.length + 1);
    this.player.extend(this.game.actions.length);
  }

  press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || this.player.at !== this.game.actions.length) return;
    const index = MOVES[event.key] ?? this.rules.actions.findIndex((action, place) => place > 4 && action.key === event.key);
    if (event.key === 'U' || event.key === 'Backspace') {
      event.preventDefault();
      this.back();
    } else if (index >= 0) {
      event.preventDefault();
      const frame = this.frames[this.player.at];
      if (frame.legal[index]) this.choose(index);
      else if (!frame.state.episode.done) this.context.announce?.(`${this.rules.actions[index].label}: ${frame.reasons[index] || 'not possible'}`);
    }
  }

  /** Saves the game as a scenario file with a replay: `matrixrl hackmatrix play --agent replay --seed SEED` reads it. */
  save() {
    const expect = this.frames.slice(1).map(frame => ({ reward: frame.reward, done: frame.state.episode.done, state_hash: frame.hash }));
    const scenario = {
      ...this.game.start,
      meta: { name: 'played in the dashboard', seed: this.game.seed },
      replay: { actions: this.game.actions, expect },
    };
    const content = new Blob([`${JSON.stringify(scenario, null, 1)}\n`], { type: 'application/json' });
    const link = h('a', { href: URL.createObjectURL(content), download: `hackmatrix-seed-${this.game.seed}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

function signed(value) {
  return `${value >= 0 ? '+' : '−'}${Math.abs(value).toFixed(2)}`;
}

function meter(share, isChosen) {
  return h('svg:svg', { class: 'meter', viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    h('svg:rect', { x: 0, y: 0, width: 100, height: 6, class: 'meter-back' }),
    h('svg:rect', { x: 0, y: 0, width: Math.max(0.6, 100 * share).toFixed(2), height: 6, class: isChosen ? 'meter-chosen' : 'meter-bar' }));
}

function statusPanel({ state }, rules) {
  const { player, flags, schedule, episode } = state;
  const outcome = { won: 'Won', died: 'Died', invalid_action: 'Ended by an invalid action' }[episode.outcome];
  const facts = [
    ['Stage', `${state.stage} of ${rules.stages}`], ['Turn', number(state.turn)], ['Step', number(episode.steps)],
    ['HP', `${'♥'.repeat(player.hp)}${'♡'.repeat(rules.max_hp - player.hp)}`], ['Score', number(player.score)],
    ['Credits', number(player.credits)], ['Energy', number(player.energy)], ['Data siphons', number(player.data_siphons)],
    ['Attack', number(player.attack_damage)], ['Next task', `turn ${number(schedule.next_turn)}`], ['Return', signed(episode.return)],
  ];
  const switches = [['SHOW', flags.show_activated], ['CALM', flags.scheduled_tasks_disabled], ['STEP', flags.step_active]].filter(([, on]) => on).map(([name]) => name);
  const programs = rules.actions.filter(action => state.owned_programs.includes(action.name)).map(action => action.label);
  return append(h('div'), [
    outcome ? h('p', { class: `badge ${episode.outcome === 'won' ? 'good' : 'bad'}` }, outcome) : null,
    h('dl', { class: 'facts' }, facts.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value)))),
    switches.length ? h('p', {}, switches.join(' ')) : null,
    h('p', { class: 'quiet-text' }, programs.length ? `Programs: ${programs.join(', ')}` : 'No programs yet'),
  ]);
}

function rewardPanel(frame, rules) {
  if (frame.action === null) return [h('h2', {}, 'Reward'), h('p', { class: 'quiet-text' }, 'The start of the game.')];
  const parts = rules.components.filter(name => frame.breakdown[name]);
  return [
    h('h2', {}, 'Reward'),
    h('p', {}, h('strong', {}, signed(frame.reward)), ` for ${rules.actions[frame.action].label}`),
    parts.length
      ? h('table', { class: 'breakdown' }, h('caption', { class: 'visually-hidden' }, 'Components of the reward'),
        h('tbody', {}, parts.map(name => h('tr', {}, h('th', { scope: 'row' }, COMPONENTS[name] || name), h('td', { class: 'numeric' }, signed(frame.breakdown[name]))))))
      : h('p', { class: 'quiet-text' }, 'No component of the reward changed.'),
  ];
}
