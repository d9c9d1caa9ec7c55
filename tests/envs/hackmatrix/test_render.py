"""The text board and the picture."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from matrixrl.envs.hackmatrix.referee import Block, GameState, Resource, step
from matrixrl.envs.hackmatrix.render import Thoughts, render_gif, render_png, render_rgb, render_text
from tests.envs.hackmatrix.boards import (
    ScriptedDraws,
    data,
    enemy,
    game,
    play,
    program,
    question,
    rich,
    stunned,
    transmission,
)
from tests.envs.hackmatrix.strategies import game_states

relaxed = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def cell_text(state: GameState, row: int, col: int, **options) -> tuple[str, str]:
    """The two lines of a cell."""
    lines = render_text(state, **options).split("\n")
    top = 1 + 3 * (5 - row)
    left = 3 + 8 * col
    return lines[top][left : left + 7].rstrip(), lines[top + 1][left : left + 7].rstrip()


# Text


@relaxed
@given(game_states())
def test_any_state_fits_80_columns_and_22_lines_and_colour_changes_no_character(state: GameState) -> None:
    text = render_text(state)
    lines = text.split("\n")
    assert len(lines) == 22
    assert max(map(len, lines)) <= 80
    assert text.isascii()
    painted = render_text(state, colour=True)
    assert [line.rstrip() for line in plain(painted).split("\n")] == lines
    assert lines[0].startswith("  +-------+-------+")
    assert {line[2:51:8] for line in lines[0:19:3]} == {"+++++++"}
    assert {line[2:51:8] for index, line in enumerate(lines[:19]) if index % 3} == {"|||||||"}


def test_what_stands_in_a_cell() -> None:
    state = game(
        (0, 0),
        exit=(5, 5),
        data_siphons=[(5, 0)],
        blocks={
            (4, 1): data(6),
            (4, 2): program("anti_v"),
            (4, 3): question(data(3)),
            (4, 4): program("row", 0),
        },
        siphoned=[(4, 4), (3, 3)],
        resources={(0, 0): Resource(2), (5, 0): Resource(0, 3), (4, 1): Resource(1), (4, 4): Resource(3)},
        enemies=[stunned("virus", 2, 2), enemy("daemon", 2, 2), enemy("glitch", 0, 3, 1)],
        transmissions=[transmission(1, 1, "daemon", turns_left=4)],
    )
    state.siphon_centers = {(3, 3)}
    assert cell_text(state, 0, 0) == ("@", "2c")
    assert cell_text(state, 5, 5) == ("", "EXIT")
    assert cell_text(state, 5, 0) == ("", "* 3e")
    assert cell_text(state, 4, 1) == ("", "6pt   6")
    assert cell_text(state, 4, 2) == ("", "ANTI-V4")
    assert cell_text(state, 4, 3) == ("", "???")
    assert cell_text(state, 4, 4) == ("      ,", "ROW  3c")
    assert cell_text(state, 3, 3) == ("      o", "")
    assert cell_text(state, 2, 2) == ("V2~+1", "")
    assert cell_text(state, 0, 3) == ("G1", "")
    assert cell_text(state, 1, 1) == ("!4", "")


def test_hidden_things_are_shown_only_when_revealed() -> None:
    state = game(
        (0, 0),
        blocks={(4, 3): question(program("hack"))},
        enemies=[enemy("cryptog", 2, 2, last_known=(3, 3))],
        transmissions=[transmission(1, 1, "daemon")],
    )
    assert cell_text(state, 2, 2) == ("", "")
    assert cell_text(state, 3, 3) == ("c", "")
    assert cell_text(state, 2, 2, reveal=True) == ("C2", "")
    assert cell_text(state, 4, 3, reveal=True) == ("", "HACK  4")
    assert cell_text(state, 1, 1, reveal=True) == ("!D1", "")
    state.flags.show_activated = True
    assert cell_text(state, 2, 2) == ("C2", "")
    assert cell_text(state, 1, 1) == ("!D1", "")
    assert cell_text(state, 4, 3) == ("", "???")


def test_the_panel_gives_numbers_and_programs_with_costs() -> None:
    text = render_text(rich((2, 2), hp=2, credits=12, energy=3, score=44, stage=6))
    for words in (
        "stage 6 of 8",
        "hp ##.",
        "score 44",
        "credits 12",
        "energy 3",
        "f WAIT   1e",
        "  CALM   2c4e",
    ):
        assert words in text


# What an agent thinks


@relaxed
@given(game_states())
def test_thoughts_fit_beside_any_state(state: GameState) -> None:
    text = render_text(state, thoughts=Thoughts((0.5, *[0.5 / 27] * 27), -123.456, 26))
    assert len(text.split("\n")) == 22
    assert max(map(len, text.split("\n"))) <= 80
    assert "expects -123.46" in text
    assert re.search(r"> ?(reduc|atk_plus|hack)", text)


def test_the_likeliest_actions_are_shown_and_always_the_chosen_one() -> None:
    thoughts = Thoughts((0.5, 0.25, 0.15, 0.1, *[0.0] * 24), 2.5, 3)
    assert thoughts.top(9) == [(0, 0.5), (1, 0.25), (2, 0.15), (3, 0.1)]
    assert thoughts.top(2) == [(0, 0.5), (3, 0.1)]
    assert Thoughts().top(2) == []
    lines = render_text(game(), thoughts=thoughts).split("\n")
    beside = [line[52:] for line in lines if line[52:].startswith(("expects", "  ", "> "))][-5:]
    assert beside == [
        "expects +2.50",
        "  up         50% ######",
        "  down       25% ###",
        "  left       15% ##",
        "> right      10% #",
    ]
    over = render_text(game(), thoughts=Thoughts())
    assert "expects" not in over
    assert over.split("\n") == render_text(game()).split("\n")


def test_thoughts_are_drawn_beside_the_picture() -> None:
    plain = render_rgb(game(), scale=0.5)
    drawn, other, over = (
        render_rgb(game(), scale=0.5, thoughts=thoughts)
        for thoughts in (Thoughts((0.9, 0.1), 1.0, 0), Thoughts((0.8, 0.2), 1.0, 0), Thoughts())
    )
    assert drawn.shape == over.shape == (248, 470, 3)
    assert np.array_equal(drawn[:, :360], plain)
    assert not np.array_equal(drawn, other)


def test_a_gif_shows_the_frames_in_order() -> None:
    states = [game(score=score) for score in (1, 2, 3)]
    image = Image.open(io.BytesIO(render_gif([(state, None) for state in states], seconds=0.1, scale=0.5)))
    assert getattr(image, "n_frames") == 3  # noqa: B009
    for index, state in enumerate(states):
        image.seek(index)
        shown = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(shown - render_rgb(state, scale=0.5)).mean() < 4
        assert image.info["duration"] == (100 if index < 2 else 3000)
    assert Image.open(io.BytesIO(render_gif([(states[0], None)], scale=0.5))).size == (360, 248)


# Picture


def test_the_picture_has_the_size_of_its_scale() -> None:
    picture = render_rgb(game())
    assert picture.shape == (496, 720, 3)
    assert picture.dtype == np.uint8
    assert render_rgb(game(), scale=0.5).shape == (248, 360, 3)


def test_the_png_holds_the_picture() -> None:
    state = rich(blocks={(3, 3): data(4)}, enemies=[enemy("virus", 4, 4)])
    image = Image.open(io.BytesIO(render_png(state, scale=0.5)))
    assert image.format == "PNG"
    assert np.array_equal(np.asarray(image), render_rgb(state, scale=0.5))


BASE = {"blocks": {(4, 4): data(3)}, "enemies": [enemy("daemon", 3, 1)]}


@pytest.mark.parametrize(
    "change",
    [
        {"hp": 2},
        {"credits": 1},
        {"score": 5},
        {"stage": 2},
        {"exit": (0, 5)},
        {"own": ["row"]},
        {"data_siphons": [(5, 0)]},
        {"resources": {(0, 0): Resource(1)}},
        {"siphoned": [(0, 0)]},
        {"blocks": {(4, 4): data(4)}},
        {"blocks": {(4, 4): question(data(3))}},
        {"blocks": {(4, 4): Block("data", points=3, spawn_count=2)}},
        {"enemies": [enemy("daemon", 3, 1, 2)]},
        {"enemies": [stunned("daemon", 3, 1)]},
        {"enemies": [enemy("glitch", 3, 1)]},
        {"enemies": [enemy("virus", 3, 1)]},
        {"enemies": [enemy("daemon", 3, 1), enemy("daemon", 3, 1)]},
        {"transmissions": [transmission(0, 0)]},
        {"player": (2, 3)},
    ],
)
def test_what_the_player_sees_changes_the_picture(change) -> None:
    before = render_rgb(game(**BASE), scale=0.5)
    assert not np.array_equal(before, render_rgb(game(**{**BASE, **change}), scale=0.5))


def test_what_the_player_cannot_see_does_not_change_the_picture() -> None:
    def seen(hidden: Block, kind: str, **options):
        state = game(
            (0, 0), blocks={(4, 4): question(hidden)}, transmissions=[transmission(1, 1, kind)],
            resources={(4, 4): Resource(hidden.points)}, enemies=[enemy("cryptog", 2, 2, 1, last_known=(5, 0))],
        )  # fmt: skip
        return render_rgb(state, scale=0.5, **options)

    assert np.array_equal(seen(data(3), "virus"), seen(program("row"), "daemon"))
    assert not np.array_equal(
        seen(data(3), "virus", reveal=True), seen(program("row"), "daemon", reveal=True)
    )


@settings(parent=relaxed, max_examples=8)
@given(game_states())
def test_any_state_can_be_drawn(state: GameState) -> None:
    assert render_rgb(state, scale=0.5, reveal=True).std() > 0


def test_a_finished_game_says_so() -> None:
    over = step(game((0, 0)), 1, ScriptedDraws()).state
    before = game((0, 0))
    assert not np.array_equal(render_rgb(over, scale=0.5), render_rgb(before, scale=0.5))
    assert play(game((5, 4), stage=8), "right").won
