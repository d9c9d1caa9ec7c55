"""A state as a picture: the board, with the numbers and the owned programs in a panel on its
right.
"""

from __future__ import annotations

import io
import math
from functools import cache

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageDraw, ImageFont

from matrixrl.envs.hackmatrix.referee.game import ACTION_NAMES
from matrixrl.envs.hackmatrix.referee.observation import is_visible
from matrixrl.envs.hackmatrix.referee.state import (
    BOARD_SIZE,
    CELLS,
    LAST_STAGE,
    MAX_HP,
    PROGRAMS,
    Block,
    Cell,
    Enemy,
    GameState,
    Resource,
    Transmission,
)
from matrixrl.envs.hackmatrix.render.text import block_name
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts

WIDTH, HEIGHT = 720, 496  # units of a picture at scale 1; a unit is a pixel there
THOUGHTS_WIDTH = 220  # extra width for an agent's thoughts
THOUGHTS = 10  # number of actions shown there
SUPERSAMPLING = 3  # draw larger, then reduce, for smooth edges

CELL = 76
MARGIN = 20
PANEL_LEFT = MARGIN + BOARD_SIZE * CELL + 20
PANEL_RIGHT = WIDTH - MARGIN

BACKGROUND = "#0b1016"
TILE = "#151d27"
TILE_SIPHONED = "#10161d"
TILE_LINE = "#202c3a"
TEXT = "#d7e0ea"
FAINT = "#5d6b7b"
PLAYER = "#4ade80"
EXIT = "#22c55e"
CREDITS = "#facc15"
ENERGY = "#60a5fa"
PICKUP = "#22d3ee"
HEART = "#f43f5e"
TRANSMISSION = "#fb923c"
BLOCKS = {
    "data": ("#1e3a5f", "#3b82f6"),
    "program": ("#3b2463", "#a78bfa"),
    "question": ("#3a3f47", "#9aa5b1"),
}
ENEMIES = {"virus": "#ef4444", "daemon": "#d946ef", "glitch": "#f59e0b", "cryptog": "#2dd4bf"}


def render_rgb(
    state: GameState, *, scale: float = 1.0, reveal: bool = False, thoughts: Thoughts | None = None
) -> Shaped[np.ndarray, "height width 3"]:
    """Draws the picture of a state.

    Args:
      state: the state to draw.
      scale: 1 gives 720 x 496 pixels.
      reveal: also show what is hidden from the player: hidden cryptogs, question blocks, types of
        transmissions.
      thoughts: those of the playing agent, drawn next to the panel; the picture is then 220 x scale
        wider.

    Returns:
      [round(496 * scale), round(720 * scale), 3] uint8.
    """
    canvas = _Canvas(scale, WIDTH if thoughts is None else WIDTH + THOUGHTS_WIDTH)
    for cell in CELLS:
        _draw_ground(canvas, state, cell, reveal)
    for cell in CELLS:
        _draw_actors(canvas, state, cell, reveal)
    _draw_panel(canvas, state)
    if thoughts is not None:
        _draw_thoughts(canvas, state, thoughts)
    return canvas.finish()


def render_png(state: GameState, *, scale: float = 1.0, reveal: bool = False) -> bytes:
    """Draws the picture of a state and returns the bytes of a PNG file. Arguments as for
    `render_rgb`.
    """
    buffer = io.BytesIO()
    Image.fromarray(render_rgb(state, scale=scale, reveal=reveal)).save(buffer, "PNG")
    return buffer.getvalue()


class _Canvas:
    """Drawing surface in units of the picture at scale 1."""

    def __init__(self, scale: float, width: int) -> None:
        self.size = (round(width * scale), round(HEIGHT * scale))
        self.factor = scale * SUPERSAMPLING
        large = (self.size[0] * SUPERSAMPLING, self.size[1] * SUPERSAMPLING)
        self.image = Image.new("RGB", large, BACKGROUND)
        self.pen = ImageDraw.Draw(self.image)

    def _px(self, *values: float) -> list[float]:
        return [value * self.factor for value in values]

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        *,
        fill: str | None = None,
        line: str | None = None,
        width: float = 1.5,
        radius: float = 6,
    ) -> None:
        self.pen.rounded_rectangle(
            self._px(left, top, right, bottom),
            radius=radius * self.factor,
            fill=fill,
            outline=line,
            width=max(1, round(width * self.factor)) if line else 0,
        )

    def disc(
        self,
        x: float,
        y: float,
        radius: float,
        *,
        fill: str | None = None,
        line: str | None = None,
        width: float = 2,
    ) -> None:
        self.pen.ellipse(
            self._px(x - radius, y - radius, x + radius, y + radius),
            fill=fill,
            outline=line,
            width=max(1, round(width * self.factor)) if line else 0,
        )

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, *, line: str, width: float
    ) -> None:
        self.pen.arc(
            self._px(x - radius, y - radius, x + radius, y + radius),
            start,
            end,
            fill=line,
            width=max(1, round(width * self.factor)),
        )

    def polygon(self, points: list[tuple[float, float]], *, fill: str) -> None:
        self.pen.polygon([(x * self.factor, y * self.factor) for x, y in points], fill=fill)

    def line(self, points: list[tuple[float, float]], *, fill: str, width: float) -> None:
        self.pen.line(
            [(x * self.factor, y * self.factor) for x, y in points],
            fill=fill,
            width=max(1, round(width * self.factor)),
            joint="curve",
        )

    def text(
        self, x: float, y: float, text: str, size: float, *, fill: str = TEXT, anchor: str = "mm"
    ) -> None:
        self.pen.text(
            (x * self.factor, y * self.factor),
            text,
            font=_font(round(size * self.factor)),
            fill=fill,
            anchor=anchor,
        )

    def finish(self) -> np.ndarray:
        return np.asarray(self.image.reduce(SUPERSAMPLING)).copy()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _corner(cell: Cell) -> tuple[float, float]:
    """Returns left and top of a cell; row 0 is at the bottom."""
    return MARGIN + cell[1] * CELL, MARGIN + (BOARD_SIZE - 1 - cell[0]) * CELL


# The ground: tile, block, exit, pickup, resource.


def _draw_ground(canvas: _Canvas, state: GameState, cell: Cell, reveal: bool) -> None:
    left, top = _corner(cell)
    siphoned = cell in state.siphoned_cells
    canvas.box(
        left + 2,
        top + 2,
        left + CELL - 2,
        top + CELL - 2,
        fill=TILE_SIPHONED if siphoned else TILE,
        line=TILE_LINE,
        width=1,
        radius=8,
    )
    if siphoned:  # a cross of dots in the corners of the tile
        for dx in (9, CELL - 9):
            for dy in (9, CELL - 9):
                canvas.disc(left + dx, top + dy, 1.6, fill=FAINT)
    if cell in state.siphon_centers:
        canvas.disc(left + CELL / 2, top + 30, 27, line="#2b3a4b", width=1.5)
    block = state.blocks.get(cell)
    if block is not None:
        _draw_block(canvas, left, top, block, siphoned, reveal)
    elif cell == state.exit:
        _draw_exit(canvas, left, top)
    elif cell in state.data_siphons:
        _draw_pickup(canvas, left + CELL / 2, top + 32)
    resource = state.resources.get(cell)
    if resource is not None and (block is None or siphoned or reveal):
        _draw_resource(canvas, left + CELL / 2, top + CELL - 11, resource)


def _draw_block(canvas: _Canvas, left: float, top: float, block: Block, siphoned: bool, reveal: bool) -> None:
    fill, line = BLOCKS[block.kind]
    ink = TEXT
    if siphoned:
        fill, ink, line = TILE_SIPHONED, FAINT, FAINT
    canvas.box(left + 6, top + 6, left + CELL - 6, top + CELL - 6, fill=fill, line=line, radius=7)
    middle = left + CELL / 2
    if block.kind == "question" and not reveal:
        canvas.text(middle, top + CELL / 2, "?", 34, fill=ink)
        return
    if block.content == "data":
        canvas.text(middle, top + 32, str(block.points), 28, fill=ink)
    else:
        canvas.text(middle, top + 32, block_name(block, reveal), 13.5, fill=ink)
    if block.spawn_count and not siphoned:
        canvas.text(middle, top + CELL - 17, f"spawns {block.spawn_count}", 10, fill=line)


def _draw_exit(canvas: _Canvas, left: float, top: float) -> None:
    canvas.box(
        left + 6, top + 6, left + CELL - 6, top + CELL - 6, fill="#0f2a1a", line=EXIT, width=2, radius=7
    )
    x, y = left + CELL / 2, top + 30
    canvas.polygon(
        [(x - 12, y - 5), (x, y - 5), (x, y - 13), (x + 14, y), (x, y + 13), (x, y + 5), (x - 12, y + 5)],
        fill=EXIT,
    )
    canvas.text(left + CELL / 2, top + 56, "EXIT", 11, fill=EXIT)


def _draw_pickup(canvas: _Canvas, x: float, y: float) -> None:
    """Draws a data siphon: a funnel of two chevrons in a ring."""
    canvas.disc(x, y, 17, line=PICKUP, width=2)
    for shift in (-5, 3):
        canvas.line(
            [(x - 7, y + shift - 2), (x, y + shift + 5), (x + 7, y + shift - 2)], fill=PICKUP, width=2.4
        )


def _draw_resource(canvas: _Canvas, x: float, y: float, resource: Resource) -> None:
    """Draws coins and bolts; more than four of them as a number."""
    signs = [CREDITS] * min(resource.credits, 4) + [ENERGY] * min(resource.energy, 4)
    x -= (len(signs) - 1) * 5.5
    for colour in signs:
        if colour == CREDITS:
            canvas.disc(x, y, 3.6, fill=CREDITS)
        else:
            canvas.polygon(
                [
                    (x + 1.5, y - 5),
                    (x - 3.5, y + 1),
                    (x - 0.3, y + 1),
                    (x - 1.5, y + 5),
                    (x + 3.5, y - 1),
                    (x + 0.3, y - 1),
                ],
                fill=ENERGY,
            )
        x += 11
    more = max(resource.credits, resource.energy)
    if more > 4:
        canvas.text(x, y, f"({more})", 9, fill=FAINT)


# Player, enemies and transmissions.


def _draw_actors(canvas: _Canvas, state: GameState, cell: Cell, reveal: bool) -> None:
    left, top = _corner(cell)
    x, y = left + CELL / 2, top + 30
    transmission = state.transmission_on(cell)
    enemies = [enemy for enemy in state.enemies_on(cell) if reveal or is_visible(state, enemy)]
    here = cell == state.player.cell
    if transmission is not None:
        small = bool(enemies) or here
        _draw_transmission(
            canvas,
            x + (21 if small else 0),
            y - (16 if small else 0),
            9 if small else 21,
            transmission,
            state,
            reveal,
        )
    if enemies:
        _draw_enemy(canvas, x + (13 if here else 0), y, enemies[0], len(enemies))
    elif any(enemy.last_known == cell and not is_visible(state, enemy) for enemy in state.enemies):
        canvas.disc(x, y, 15, line="#1f5a55", width=1.5)
        canvas.text(x, y, "?", 15, fill="#2b7f77")
    if here:
        _draw_player(canvas, x - (13 if enemies else 0), y, state.player.hp)


def _draw_player(canvas: _Canvas, x: float, y: float, hp: int) -> None:
    canvas.disc(x, y, 21, fill="#0d2417", line=PLAYER, width=2.5)
    canvas.disc(x, y - 5, 6.5, fill=PLAYER)
    canvas.pen.pieslice(canvas._px(x - 12, y + 4, x + 12, y + 26), 180, 360, fill=PLAYER)
    _draw_pips(canvas, x, y + 25.5, hp, MAX_HP, PLAYER)


def _draw_pips(canvas: _Canvas, x: float, y: float, count: int, full: int, colour: str) -> None:
    """Draws a short bar per hp."""
    total = min(max(count, full), 6)
    x -= total * 3.5
    for index in range(total):
        canvas.box(x + 0.8, y - 2, x + 6.2, y + 2, fill=colour if index < count else "#2a3442", radius=1)
        x += 7


def _draw_enemy(canvas: _Canvas, x: float, y: float, enemy: Enemy, stacked: int) -> None:
    colour = ENEMIES[enemy.type]
    if enemy.type == "virus":  # a spiked ball
        points = []
        for index in range(16):
            radius, angle = (19 if index % 2 == 0 else 11.5), index * math.pi / 8
            points.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
        canvas.polygon(points, fill=colour)
    elif enemy.type == "daemon":  # a horned head
        canvas.polygon([(x - 16, y - 19), (x - 5, y - 10), (x - 16, y - 2)], fill=colour)
        canvas.polygon([(x + 16, y - 19), (x + 5, y - 10), (x + 16, y - 2)], fill=colour)
        canvas.box(x - 15, y - 12, x + 15, y + 17, fill=colour, radius=9)
    elif enemy.type == "glitch":  # a torn square
        for dx, dy0, dy1 in ((-3, -17, -7), (4, -6, 4), (-4, 5, 16)):
            canvas.box(x - 15 + dx, y + dy0, x + 15 + dx, y + dy1, fill=colour, radius=1.5)
    else:  # cryptog: a hood
        canvas.polygon(
            [(x, y - 20), (x + 17, y + 2), (x + 14, y + 17), (x - 14, y + 17), (x - 17, y + 2)], fill=colour
        )
    dark = BACKGROUND
    if enemy.stunned:
        for dx in (-6, 6):
            canvas.line([(x + dx - 3, y - 3), (x + dx + 3, y + 3)], fill=dark, width=2)
            canvas.line([(x + dx - 3, y + 3), (x + dx + 3, y - 3)], fill=dark, width=2)
    else:
        for dx in (-5.5, 5.5):
            canvas.disc(x + dx, y, 2.8, fill=dark)
    full = 3 if enemy.type == "daemon" else 2
    _draw_pips(canvas, x, y + 24.5, enemy.hp, full, colour)
    if stacked > 1:
        canvas.box(x + 9, y - 27, x + 27, y - 13, fill=TEXT, radius=7)
        canvas.text(x + 18, y - 20, f"x{stacked}", 10, fill=BACKGROUND)


def _draw_transmission(
    canvas: _Canvas,
    x: float,
    y: float,
    radius: float,
    transmission: Transmission,
    state: GameState,
    reveal: bool,
) -> None:
    """Draws a broken ring around the countdown; once SHOW is active, in the colour of the arriving
    type.
    """
    known = reveal or state.flags.show_activated
    colour = ENEMIES[transmission.enemy_type] if known else TRANSMISSION
    for start in range(0, 360, 60):
        canvas.arc(x, y, radius, start, start + 38, line=colour, width=radius / 7)
    if radius > 12:
        canvas.arc(x, y, radius - 6, 20, 340, line="#4a3a2c" if not known else TILE_LINE, width=1.2)
    canvas.text(x, y, str(transmission.turns_left), radius * 0.95, fill=colour)


# The panel.


def _draw_panel(canvas: _Canvas, state: GameState) -> None:
    _draw_status(canvas, state)
    _draw_switches(canvas, state)
    _draw_owned_programs(canvas, state)
    if state.episode.outcome is not None:
        _draw_outcome(canvas, state.episode.outcome)


def _draw_status(canvas: _Canvas, state: GameState) -> None:
    """Draws stage, turn, hearts, points and resources."""
    player, left, right = state.player, PANEL_LEFT, PANEL_RIGHT
    canvas.text(left, MARGIN + 14, f"STAGE {state.stage}", 24, anchor="lm")
    canvas.text(right, MARGIN + 14, f"turn {state.turn}", 13, fill=FAINT, anchor="rm")
    step = (right - left) / LAST_STAGE
    for index in range(LAST_STAGE):
        canvas.box(
            left + index * step,
            MARGIN + 34,
            left + (index + 1) * step - 4,
            MARGIN + 40,
            fill=EXIT if index < state.stage else TILE_LINE,
            radius=2,
        )
    for index in range(MAX_HP):
        _draw_heart(canvas, left + 11 + index * 28, MARGIN + 66, HEART if index < player.hp else TILE_LINE)
    canvas.text(right, MARGIN + 66, f"{player.score} points", 14, anchor="rm")

    rows = (
        ("credits", player.credits, CREDITS),
        ("energy", player.energy, ENERGY),
        ("data siphons", player.data_siphons, PICKUP),
        ("attack", player.attack_damage, TEXT),
    )
    for index, (name, value, colour) in enumerate(rows):
        y = MARGIN + 98 + index * 22
        canvas.text(left, y, name, 13, fill=FAINT, anchor="lm")
        canvas.text(right, y, str(value), 16, fill=colour, anchor="rm")


def _draw_switches(canvas: _Canvas, state: GameState) -> None:
    switches = (
        ("SHOW", state.flags.show_activated),
        ("CALM", state.flags.scheduled_tasks_disabled),
        ("STEP", state.flags.step_active),
    )
    y = MARGIN + 192
    step = (PANEL_RIGHT - PANEL_LEFT + 6) / len(switches)
    for index, (name, active) in enumerate(switches):
        x = PANEL_LEFT + index * step
        colour = PLAYER if active else TILE_LINE
        canvas.box(x, y - 10, x + step - 6, y + 10, line=colour, radius=5)
        canvas.text(x + (step - 6) / 2, y, name, 11, fill=colour if active else FAINT)


def _draw_owned_programs(canvas: _Canvas, state: GameState) -> None:
    left, right = PANEL_LEFT, PANEL_RIGHT
    canvas.text(left, MARGIN + 224, "PROGRAMS", 11, fill=FAINT, anchor="lm")
    owned = [program for program in PROGRAMS if program.name in state.owned_programs]
    y = MARGIN + 238
    columns, height = 3, 24
    step = (right - left + 6) / columns
    for index, program in enumerate(owned):
        x, top = left + index % columns * step, y + index // columns * height
        fill, line = BLOCKS["program"]
        canvas.box(x, top, x + step - 6, top + height - 4, fill=fill, line=line, width=1, radius=4)
        canvas.text(x + (step - 6) / 2, top + (height - 4) / 2, program.display, 11)
    if not owned:
        canvas.text(left, y + 10, "none yet", 12, fill=FAINT, anchor="lm")


def _draw_outcome(canvas: _Canvas, outcome: str) -> None:
    words = {
        "won": ("YOU WON", PLAYER),
        "died": ("YOU DIED", HEART),
        "invalid_action": ("INVALID ACTION", TRANSMISSION),
    }
    text, colour = words[outcome]
    bottom = HEIGHT - MARGIN
    canvas.box(PANEL_LEFT, bottom - 34, PANEL_RIGHT, bottom, line=colour, width=2, radius=6)
    canvas.text((PANEL_LEFT + PANEL_RIGHT) / 2, bottom - 17, text, 16, fill=colour)


def _draw_thoughts(canvas: _Canvas, state: GameState, thoughts: Thoughts) -> None:
    """Draws the status of the game, the return the agent expects, and a bar for each of its
    likeliest actions.
    """
    left, right = WIDTH + 4, WIDTH + THOUGHTS_WIDTH - MARGIN
    canvas.text(left, MARGIN + 14, f"step {state.episode.steps}", 16, anchor="lm")
    rows = [("return so far", state.episode.return_)]
    if thoughts.value is not None:
        rows.append(("expects from here", thoughts.value))
    y = MARGIN + 44
    for name, value in rows:
        canvas.text(left, y, name, 13, fill=FAINT, anchor="lm")
        canvas.text(right, y, f"{value:+.2f}", 15, anchor="rm")
        y += 22
    y += 16
    for action, probability in thoughts.top(THOUGHTS):
        chosen = action == thoughts.chosen
        colour = PLAYER if chosen else ENERGY
        canvas.text(left, y, ACTION_NAMES[action], 13, fill=colour if chosen else TEXT, anchor="lm")
        canvas.text(right, y, f"{probability:.0%}", 13, fill=colour if chosen else FAINT, anchor="rm")
        canvas.box(left, y + 10, right, y + 16, fill=TILE, radius=3)
        canvas.box(left, y + 10, left + max(6, (right - left) * probability), y + 16, fill=colour, radius=3)
        y += 34


def _draw_heart(canvas: _Canvas, x: float, y: float, colour: str) -> None:
    canvas.disc(x - 4.6, y - 3, 5.4, fill=colour)
    canvas.disc(x + 4.6, y - 3, 5.4, fill=colour)
    canvas.polygon([(x - 9.6, y - 0.6), (x + 9.6, y - 0.6), (x, y + 10)], fill=colour)
