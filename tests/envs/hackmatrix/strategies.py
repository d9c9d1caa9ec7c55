"""Hypothesis strategies for HackMatrix: random valid positions, far wilder than play reaches.

`game_states` draws positions of several kinds: sparse and crowded boards, stacks of enemies, full boards, players who own
everything. `scenario_dicts` is the same as scenario objects, ready for `scenario.load`. Every position loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from matrixrl.envs.hackmatrix.referee import (
    ENEMY_TYPES,
    MAX_ENEMY_HP,
    PROGRAM_NUMBER,
    Block,
    Cell,
    Enemy,
    Flags,
    GameState,
    Player,
    Resource,
    Schedule,
    Sizes,
    Transmission,
)
from matrixrl.envs.hackmatrix.referee.enemies import push_snapshot
from matrixrl.envs.hackmatrix.referee.state import CELLS, CORNERS
from matrixrl.envs.hackmatrix.scenario import dump

PROGRAM_NAMES = tuple(PROGRAM_NUMBER)
DEFAULT_SIZES = Sizes()

actions = st.integers(0, 27)
cells = st.sampled_from(CELLS)
# A board is sparse, as in play, crowded or nearly full: the most blocks, enemies and transmissions it may get.
CROWDS = {"sparse": (6, 3, 3), "play": (11, 6, 8), "crowded": (20, 16, 16), "full": (34, 36, 36)}


@st.composite
def blocks(draw: DrawFn) -> Block:
    """A block of any kind; points and spawn counts may lie above 9."""
    content = draw(st.sampled_from(("data", "program")))
    hidden = draw(st.integers(0, 3)) == 0
    return Block(
        kind="question" if hidden else content,
        points=draw(st.integers(0, 12)) if content == "data" else 0,
        program=draw(st.sampled_from(PROGRAM_NAMES)) if content == "program" else None,
        hidden_kind=content if hidden else None,
        spawn_count=draw(st.integers(0, 12)),
    )


@st.composite
def enemies(draw: DrawFn, places: Sequence[Cell]) -> Enemy:
    """An enemy on one of some cells; hp may be above the maximum."""
    kind = draw(st.sampled_from(ENEMY_TYPES))
    cell = draw(st.sampled_from(places))
    return Enemy(
        type=kind,
        row=cell[0],
        col=cell[1],
        hp=draw(st.integers(1, MAX_ENEMY_HP[kind] + 1)),
        stunned=draw(st.booleans()),
        disabled_turns=draw(st.sampled_from((0, 0, 0, 1, 2))),
        from_siphon=draw(st.booleans()),
        from_schedule=draw(st.booleans()),
        last_known=cell if kind == "cryptog" else None,
    )


@st.composite
def players(draw: DrawFn) -> Player:
    """A player who is alive, poor or boosted."""
    cell = draw(cells)
    wealth = st.integers(0, 60) if draw(st.booleans()) else st.integers(0, 8)
    return Player(
        row=cell[0],
        col=cell[1],
        hp=draw(st.integers(1, 3)),
        credits=draw(wealth),
        energy=draw(wealth),
        data_siphons=draw(st.integers(0, 3)),
        attack_damage=draw(st.integers(1, 4)),
        score=draw(st.integers(0, 40)),
    )


@st.composite
def game_states(draw: DrawFn, sizes: Sizes = DEFAULT_SIZES, max_history: int = 2) -> GameState:
    """A position that is not over.

    Args:
      sizes: slots and undo depth; no list is longer than they allow.
      max_history: most snapshots in the history.
    """
    exit_cell = draw(st.sampled_from(CORNERS))
    state = draw(_boards(exit_cell, sizes))
    for _ in range(draw(st.integers(0, min(max_history, sizes.undo_depth)))):
        earlier = draw(_boards(exit_cell, sizes))
        push_snapshot(earlier)
        state.history += earlier.history
    return state


@st.composite
def _boards(draw: DrawFn, exit_cell: Cell, sizes: Sizes) -> GameState:
    max_blocks, max_enemies, max_transmissions = CROWDS[draw(st.sampled_from(sorted(CROWDS)))]
    block_cells = draw(st.sets(cells, max_size=max_blocks)) - {exit_cell}
    pickups = draw(st.sets(cells, max_size=3)) - block_cells - {exit_cell}
    # enemies anywhere, or stacked on few cells
    places = CELLS if draw(st.booleans()) else sorted(draw(st.sets(cells, min_size=1, max_size=4)))
    # transmissions on blocks are allowed, though play cannot reach them
    clear = [cell for cell in CELLS if cell not in block_cells]
    transmission_cells = draw(
        st.lists(
            st.sampled_from(CELLS if draw(st.integers(0, 4)) == 0 else clear),
            unique=True,
            max_size=max_transmissions,
        )
    )
    the_blocks = {cell: draw(blocks()) for cell in sorted(block_cells)}
    siphoned = {
        cell
        for cell in draw(st.sets(cells, max_size=8))
        if cell not in the_blocks or the_blocks[cell].kind != "question"
    }
    owned = draw(st.one_of(st.just(set(PROGRAM_NAMES)), st.sets(st.sampled_from(PROGRAM_NAMES))))
    return GameState(
        stage=draw(st.integers(1, 8)),
        turn=draw(st.integers(0, 30)),
        player=draw(players()),
        owned_programs=owned,
        exit=exit_cell,
        blocks=the_blocks,
        data_siphons=pickups,
        resources={
            cell: Resource(draw(st.integers(1, 3)), draw(st.integers(0, 3)))
            if draw(st.booleans())
            else Resource(0, draw(st.integers(1, 3)))
            for cell in sorted(draw(st.sets(cells, max_size=12)))
        },
        siphoned_cells=siphoned,
        siphon_centers=draw(st.sets(cells, max_size=3)),
        enemies=draw(st.lists(enemies(places), max_size=min(max_enemies, sizes.enemy_slots))),
        transmissions=[
            Transmission(
                row,
                col,
                draw(st.sampled_from(ENEMY_TYPES)),
                turns_left=draw(st.integers(1, 5)),
                from_siphon=draw(st.booleans()),
                from_schedule=draw(st.booleans()),
            )
            for row, col in transmission_cells[: sizes.transmission_slots]
        ],
        flags=Flags(draw(st.booleans()), draw(st.booleans()), draw(st.booleans())),
        atk_plus_uses=draw(st.integers(0, 2)),
        schedule=Schedule(draw(st.integers(0, 12)), draw(st.integers(0, 40)), draw(st.integers(0, 6))),
        config=sizes,
    )


def scenario_dicts(**arguments: Any) -> SearchStrategy[dict[str, Any]]:
    """The positions of `game_states` as scenario objects."""
    return game_states(**arguments).map(dump)
