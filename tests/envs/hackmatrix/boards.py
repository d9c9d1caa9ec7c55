"""Short ways to write a position and to script the random draws, for hand-worked cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matrixrl.envs.hackmatrix.referee import (
    ACTION_NAMES,
    MAX_ENEMY_HP,
    PROGRAM_NUMBER,
    PROGRAMS,
    Block,
    Cell,
    Draws,
    Enemy,
    Flags,
    GameState,
    Player,
    Resource,
    Schedule,
    Sizes,
    StepResult,
    Transmission,
    legal_action_mask,
    step,
)

ACTION = {name: index for index, name in enumerate(ACTION_NAMES)}
ALL_PROGRAMS = tuple(PROGRAM_NUMBER)


class ScriptedDraws:
    """Answers the first choice, or what a test has written down.

    Args:
      orders: permutation by round; identity by default.
      spawn_cells, spawn_types: answers in the order in which they are asked, by whichever caller.
      poly: types in list order.
      warp: the target.
      stage: answers for stage generation by method name; a list is consumed one by one.
    """

    def __init__(
        self,
        *,
        orders: Mapping[int, Sequence[int]] | None = None,
        spawn_cells: Sequence[Cell] = (),
        spawn_types: Sequence[str] = (),
        poly: Sequence[str] = (),
        warp: int = 0,
        **stage: Any,
    ) -> None:
        self.orders = dict(orders or {})
        self.spawn_cells = list(spawn_cells)
        self.spawn_types = list(spawn_types)
        self.poly = list(poly)
        self.warp = warp
        self.stage = {key: list(value) if isinstance(value, list) else value for key, value in stage.items()}
        self.spawn_choices: list[tuple[str, tuple[Cell, ...]]] = []  # what each spawn could choose from
        self.permutations: list[tuple[int, int]] = []  # round, count

    def _stage(self, name: str, default: Any) -> Any:
        answer = self.stage.get(name, default)
        if isinstance(answer, list):
            return answer.pop(0) if answer else default
        return answer

    def player_corner(self, corners: Sequence[Cell]) -> Cell:
        return self._stage("player_corner", corners[0])

    def starting_bonus(self, bonuses: Sequence[str]) -> str:
        return self._stage("starting_bonus", bonuses[0])

    def exit_corner(self, corners: Sequence[Cell]) -> Cell:
        return self._stage("exit_corner", corners[0])

    def block_count(self, counts: Sequence[int]) -> int:
        return self._stage("block_count", counts[0])

    def block_cells(self, attempt: int, candidates: Sequence[Cell], count: int) -> Sequence[Cell]:
        apart = sorted(candidates, key=lambda cell: cell[0] % 2 == 0 or cell[1] % 2 == 0)  # a valid placement
        return self._stage("block_cells", tuple(apart[:count]))

    def block_content(self, index: int) -> str:
        return self._stage("block_content", "data")

    def block_is_question(self, index: int) -> bool:
        return self._stage("block_is_question", False)

    def block_points(self, index: int) -> int:
        return self._stage("block_points", 1)

    def block_program(self, index: int, unused: Sequence[str]) -> str:
        return self._stage("block_program", unused[0])

    def resource_amount(self, cell: Cell) -> int:
        return self._stage("resource_amount", 1)

    def resource_kind(self, cell: Cell) -> str:
        return self._stage("resource_kind", "credits")

    def spawn_cell(self, caller: str, index: int, cells: Sequence[Cell]) -> Cell:
        self.spawn_choices.append((caller, tuple(cells)))
        return self.spawn_cells.pop(0) if self.spawn_cells else cells[0]

    def spawn_type(self, caller: str, index: int, types: Sequence[str]) -> str:
        return self.spawn_types.pop(0) if self.spawn_types else types[0]

    def permutation(self, round_number: int, count: int) -> Sequence[int]:
        self.permutations.append((round_number, count))
        return self.orders.get(round_number, range(count))

    def poly_type(self, index: int, types: Sequence[str]) -> str:
        return self.poly[index] if self.poly else types[0]

    def warp_target(self, num_enemies: int, num_transmissions: int) -> int:
        return self.warp


def game(
    player: Cell = (2, 2),
    *,
    hp: int = 3,
    credits: int = 0,
    energy: int = 0,
    siphons: int = 0,
    attack: int = 1,
    score: int = 0,
    stage: int = 1,
    turn: int = 0,
    own: Sequence[str] = (),
    exit: Cell = (5, 5),
    blocks: Mapping[Cell, Block] | None = None,
    data_siphons: Sequence[Cell] = (),
    resources: Mapping[Cell, Resource] | None = None,
    siphoned: Sequence[Cell] = (),
    enemies: Sequence[Enemy] = (),
    transmissions: Sequence[Transmission] = (),
    flags: Flags | None = None,
    schedule: Schedule | None = None,
    sizes: Sizes | None = None,
) -> GameState:
    """A position; scheduled tasks are far away unless a schedule is given."""
    return GameState(
        player=Player(
            *player,
            hp=hp,
            credits=credits,
            energy=energy,
            data_siphons=siphons,
            attack_damage=attack,
            score=score,
        ),
        exit=exit,
        schedule=schedule or Schedule(12, 1000),
        stage=stage,
        turn=turn,
        owned_programs=set(own),
        blocks=dict(blocks or {}),
        data_siphons=set(data_siphons),
        resources=dict(resources or {}),
        siphoned_cells=set(siphoned),
        enemies=list(enemies),
        transmissions=list(transmissions),
        flags=flags or Flags(),
        config=sizes or Sizes(),
    )


def rich(player: Cell = (2, 2), **fields: Any) -> GameState:
    """A position in which every program is owned and paid for."""
    return game(player, **{"own": ALL_PROGRAMS, "credits": 50, "energy": 50, **fields})


def enemy(kind: str, row: int, col: int, hp: int | None = None, **fields: Any) -> Enemy:
    """An enemy, with full hp unless given."""
    return Enemy(kind, row, col, MAX_ENEMY_HP[kind] if hp is None else hp, **fields)


def stunned(kind: str, row: int, col: int, hp: int | None = None) -> Enemy:
    """An enemy that stays where it is in the next phase."""
    return enemy(kind, row, col, hp, stunned=True)


def transmission(row: int, col: int, kind: str = "virus", turns_left: int = 1, **fields: Any) -> Transmission:
    """A transmission."""
    return Transmission(row, col, kind, turns_left, **fields)


def data(points: int, spawn_count: int | None = None) -> Block:
    """A data block."""
    return Block("data", points=points, spawn_count=points if spawn_count is None else spawn_count)


def program(name: str, spawn_count: int | None = None) -> Block:
    """A program block."""
    spawn = PROGRAMS[PROGRAM_NUMBER[name]].spawn
    return Block("program", program=name, spawn_count=spawn if spawn_count is None else spawn_count)


def question(hidden: Block) -> Block:
    """A question block that hides a data or program block's content."""
    return Block(
        "question",
        points=hidden.points,
        program=hidden.program,
        hidden_kind=hidden.kind,
        spawn_count=hidden.spawn_count,
    )


def play(state: GameState, *actions: str, draws: Draws | None = None) -> StepResult:
    """Play named actions, all but the last of them without ending the game; the result of the last."""
    result = None
    for action in actions:
        result = step(state, ACTION[action], draws or ScriptedDraws())
        state = result.state
    assert result is not None
    return result


def legal(state: GameState) -> set[str]:
    """Names of the legal actions."""
    return {name for name, allowed in zip(ACTION_NAMES, legal_action_mask(state), strict=True) if allowed}


def places(state: GameState) -> list[Cell]:
    """Cells of the enemies, in list order."""
    return [item.cell for item in state.enemies]
