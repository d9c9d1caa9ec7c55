"""A state as text that fits 80 columns and 22 lines: the board, a panel on its right, a legend
below.

Each cell has two lines of seven characters, the occupants and the ground::

    V2~!1 ,      virus with 2 hp, stunned; a transmission that arrives in 1; the cell is siphoned
    CRASH 6      a program block that spawns 6

The board is complete without colour; colour only makes it easier to read.
"""

from __future__ import annotations

from matrixrl.envs.hackmatrix.referee.game import ACTION_NAMES, FIRST_PROGRAM, legal_action_mask
from matrixrl.envs.hackmatrix.referee.observation import is_visible
from matrixrl.envs.hackmatrix.referee.state import (
    BOARD_SIZE,
    LAST_STAGE,
    MAX_HP,
    PROGRAM_NUMBER,
    PROGRAMS,
    Block,
    Cell,
    GameState,
    Resource,
)
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts

CELL_WIDTH = 7
PANEL_WIDTH = 28
THOUGHTS = 7  # maximum number of actions shown of an agent's thoughts
PROGRAM_KEYS = "abcdefghijklmnopqrstuvw"  # the key of program i is letter i
LETTERS = {"virus": "V", "daemon": "D", "glitch": "G", "cryptog": "C"}

LEGEND = (
    "@ you  V virus  D daemon  G glitch  C cryptog (c: last seen)  2: hp  ~ stunned",
    "!1 arrives in 1 * data siphon 2c 3e credits, energy  ROW 2 spawns 2  ,o siphoned",
)

# Select graphic rendition codes.
GREEN, RED, MAGENTA, YELLOW, CYAN, BLUE = "92", "91", "95", "93", "96", "94"
DIM, BOLD = "2", "1"
ENEMY_COLOURS = {"virus": RED, "daemon": MAGENTA, "glitch": YELLOW, "cryptog": CYAN}

# A piece of text and its colour; the width of a line is the sum of the pieces' lengths.
Piece = tuple[str, str]


def render_text(
    state: GameState,
    *,
    colour: bool = False,
    legend: bool = True,
    reveal: bool = False,
    thoughts: Thoughts | None = None,
) -> str:
    """Renders the state as text, at most 80 columns wide and 22 lines long, without a final line
    break.

    Args:
      state: the state to render.
      colour: add ANSI colours.
      legend: add the two lines that explain the signs.
      reveal: also show what is hidden from the player: hidden cryptogs, question blocks, types of
        transmissions.
      thoughts: those of the playing agent, rendered below the panel, or in one line below the board
        if programs fill the panel.
    """
    rule: list[Piece] = [("  +" + ("-" * CELL_WIDTH + "+") * BOARD_SIZE, DIM)]
    lines = [rule]
    for row in reversed(range(BOARD_SIZE)):
        cells = [(row, col) for col in range(BOARD_SIZE)]
        lines.append([(f"{row} ", DIM), *_joined([_who(state, cell, reveal) for cell in cells])])
        lines.append([("  ", DIM), *_joined([_what(state, cell, reveal) for cell in cells])])
        lines.append(rule)
    lines.append([("   " + "".join(f"{col:^{CELL_WIDTH + 1}}" for col in range(BOARD_SIZE)), DIM)])
    panel = _panel(state)
    below = [LEGEND[0], LEGEND[1]] if legend else []
    if thoughts is not None:
        room = len(lines) - 1 - len(panel)
        aside = _thoughts(thoughts, room - 1)
        if room > 2:
            panel += [[]] * (len(lines) - len(panel) - len(aside)) + aside
        else:
            below = [_thoughts_line(thoughts), *below[1:]]
    text = []
    for index, line in enumerate(lines):
        beside = panel[index] if index < len(panel) else []
        text.append(_painted([*line, (" ", ""), *beside], colour).rstrip())
    text += [_painted([(line, DIM)], colour) for line in below]
    return "\n".join(text)


def _joined(cells: list[list[Piece]]) -> list[Piece]:
    """Joins the cells of a line with bars."""
    line: list[Piece] = [("|", DIM)]
    for cell in cells:
        line += [*_fitted(cell, CELL_WIDTH), ("|", DIM)]
    return line


def _fitted(pieces: list[Piece], width: int) -> list[Piece]:
    """Cuts or pads the pieces to a width."""
    result: list[Piece] = []
    for text, code in pieces:
        result.append((text[:width], code))
        width -= len(result[-1][0])
    return [*result, (" " * width, "")]


def _painted(pieces: list[Piece], colour: bool) -> str:
    return "".join(
        f"\x1b[{code}m{text}\x1b[0m" if colour and code and text.strip() else text for text, code in pieces
    )


def _who(state: GameState, cell: Cell, reveal: bool) -> list[Piece]:
    """Returns the upper line of a cell: player, enemies, transmission; marks at the right edge."""
    pieces: list[Piece] = []
    if cell == state.player.cell:
        pieces.append(("@", f"{BOLD};{GREEN}"))
    enemies = [enemy for enemy in state.enemies_on(cell) if reveal or is_visible(state, enemy)]
    if enemies:
        first = enemies[0]
        stack = f"+{len(enemies) - 1}" if len(enemies) > 1 else ""
        text = f"{LETTERS[first.type]}{first.hp}{'~' if first.stunned else ''}{stack}"
        pieces.append((text, ENEMY_COLOURS[first.type]))
    elif any(enemy.last_known == cell and not is_visible(state, enemy) for enemy in state.enemies):
        pieces.append(("c", f"{DIM};{CYAN}"))
    transmission = state.transmission_on(cell)
    if transmission is not None:
        known = reveal or state.flags.show_activated
        letter = LETTERS[transmission.enemy_type] if known else ""
        pieces.append((f"!{letter}{transmission.turns_left}", "7"))
    if cell in state.siphoned_cells:
        mark = "o" if cell in state.siphon_centers else ","
        pieces = [*_fitted(pieces, CELL_WIDTH - 1), (mark, DIM)]
    return pieces


def _what(state: GameState, cell: Cell, reveal: bool) -> list[Piece]:
    """Returns the lower line of a cell: block, exit, pickup, resource."""
    resource = state.resources.get(cell)
    block = state.blocks.get(cell)
    if block is not None:
        if cell in state.siphoned_cells:
            return [(f"{block_name(block, reveal):<4} ", f"{DIM};{BLUE}"), *_resource(resource)]
        count = f"{min(block.spawn_count, 9)}" if block.kind != "question" or reveal else ""
        return [(f"{block_name(block, reveal):<6}{count}", f"{BOLD};{BLUE}")]
    if cell == state.exit:
        return [("EXIT ", f"{BOLD};{GREEN}"), *_resource(resource)]
    if cell in state.data_siphons:
        return [("* ", f"{BOLD};{CYAN}"), *_resource(resource)]
    return _resource(resource)


def block_name(block: Block, reveal: bool = False) -> str:
    """Returns the visible content of a block: its points, its program, or a sign that it is
    hidden.
    """
    if block.kind == "question" and not reveal:
        return "???"
    if block.program is not None:
        return PROGRAMS[PROGRAM_NUMBER[block.program]].display
    return f"{block.points}pt"


def _resource(resource: Resource | None) -> list[Piece]:
    if resource is None:
        return []
    pieces: list[Piece] = []
    if resource.credits:
        pieces.append((f"{resource.credits}c", YELLOW))
    if resource.energy:
        pieces.append((f"{resource.energy}e", BLUE))
    return pieces


def program_cost(name: str) -> str:
    """Returns the price of a program, such as ``3c2e``."""
    program = PROGRAMS[PROGRAM_NUMBER[name]]
    credits = f"{program.credits}c" if program.credits else ""
    energy = f"{program.energy}e" if program.energy else ""
    return credits + energy


def _panel(state: GameState) -> list[list[Piece]]:
    """Returns the lines of the panel: numbers, switches, and the owned programs, usable ones with
    their key.
    """
    player, flags = state.player, state.flags
    switches = [
        name
        for name, active in (
            ("SHOW", flags.show_activated),
            ("CALM", flags.scheduled_tasks_disabled),
            ("STEP", flags.step_active),
        )
        if active
    ]
    lines: list[list[Piece]] = [
        [(f"stage {state.stage} of {LAST_STAGE}   turn {state.turn}", BOLD)],
        [
            ("hp ", ""),
            ("#" * player.hp, RED),
            ("." * (MAX_HP - player.hp), DIM),
            (f"   score {player.score}", ""),
        ],
        [("credits ", ""), (f"{player.credits:<5}", YELLOW), ("energy ", ""), (f"{player.energy}", BLUE)],
        [(f"siphons {player.data_siphons:<5}attack {player.attack_damage}", "")],
        [(f"task at turn {state.schedule.next_turn}, every {state.schedule.interval}", DIM)],
        [(" ".join(switches), f"{BOLD};{GREEN}")],
    ]
    mask = legal_action_mask(state)
    owned = [program for program in PROGRAMS if program.name in state.owned_programs]
    entries: list[list[Piece]] = []
    for program in owned:
        number = PROGRAM_NUMBER[program.name]
        usable = bool(mask[FIRST_PROGRAM + number])
        entries.append(
            [
                (PROGRAM_KEYS[number] if usable else " ", f"{BOLD};{GREEN}"),
                (f" {program.display:<6} {program_cost(program.name):<4} ", "" if usable else DIM),
            ]
        )
    lines.append([("programs (key name cost)" if owned else "no programs yet", DIM)])
    rows = (len(entries) + 1) // 2
    for row in range(rows):
        lines.append([*entries[row], *(entries[row + rows] if row + rows < len(entries) else [])])
    return [_fitted(line, PANEL_WIDTH) for line in lines]


def _thoughts(thoughts: Thoughts, most: int) -> list[list[Piece]]:
    """Returns the value and a bar for each of the likeliest actions, with the chosen one marked.

    The number of lines is always the same.

    Args:
      most: maximum number of actions.
    """
    most = max(0, min(most, THOUGHTS))
    if thoughts.value is None:
        return [[]] * (1 + most)
    lines: list[list[Piece]] = [[("expects ", DIM), (f"{thoughts.value:+.2f}", BOLD)]]
    for action, probability in thoughts.top(most):
        chosen = action == thoughts.chosen
        code = f"{BOLD};{GREEN}" if chosen else ""
        bar = "#" * round(11 * probability)
        lines.append(
            [
                (f"{'>' if chosen else ' '} {ACTION_NAMES[action]:<9}{probability:5.0%} ", code),
                (bar, code or CYAN),
            ]
        )
    lines += [[]] * (1 + most - len(lines))
    return [_fitted(line, PANEL_WIDTH) for line in lines]


def _thoughts_line(thoughts: Thoughts) -> str:
    """Returns the thoughts as one line of 80 columns."""
    if thoughts.value is None:
        return ""
    words = [
        f"{'>' if action == thoughts.chosen else ''}{ACTION_NAMES[action]} {probability:.0%}"
        for action, probability in thoughts.top(4)
    ]
    return f"expects {thoughts.value:+.2f}: {', '.join(words)}"[:80]
