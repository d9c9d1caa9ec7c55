"""Stage generation, the start of a game and the end of a stage (rules 14, 15, 16)."""

from __future__ import annotations

from collections.abc import Sequence

from matrixrl.envs.hackmatrix.referee.draws import Draws, one_of
from matrixrl.envs.hackmatrix.referee.enemies import spawn
from matrixrl.envs.hackmatrix.referee.state import (
    CELLS,
    CORNERS,
    LAST_STAGE,
    MAX_HP,
    PROGRAM_NUMBER,
    PROGRAMS,
    Block,
    Cell,
    Flags,
    GameState,
    Player,
    Resource,
    Schedule,
    Sizes,
    neighbours,
)

BONUSES = ("credits", "energy", "data_siphon")
BLOCK_COUNTS = range(5, 12)
MAX_ATTEMPTS = 100


def new_game(draws: Draws, sizes: Sizes | None = None) -> GameState:
    """Returns a new game at the start of stage 1 (rule 15)."""
    row, col = one_of(draws.player_corner(CORNERS), CORNERS, "player_corner")
    player = Player(row, col)
    match one_of(draws.starting_bonus(BONUSES), BONUSES, "starting_bonus"):
        case "credits":
            player.credits = 10
        case "energy":
            player.energy = 11
        case "data_siphon":
            player.data_siphons = 1
    schedule = Schedule(interval=12, next_turn=12)
    state = GameState(player=player, exit=(row, col), schedule=schedule, config=sizes or Sizes())
    generate_stage(state, draws)  # draws the exit
    return state


def finish_stage(state: GameState, draws: Draws) -> bool:
    """Heals and advances to the next stage once the exit is reached; returns whether the game is
    won (rule 16).
    """
    state.player.hp = min(MAX_HP, state.player.hp + 1)
    if state.stage == LAST_STAGE:
        return True
    state.stage += 1
    state.schedule.interval = 13 - state.stage
    generate_stage(state, draws)
    return False


def generate_stage(state: GameState, draws: Draws) -> None:
    """Generates a fresh board around the player; enemies, transmissions, pending spawns and the
    player stay (rule 14).
    """
    # 1: counters, flags, history
    state.turn = 0
    state.schedule.next_turn = state.schedule.interval
    state.flags = Flags()
    state.atk_plus_uses = 0
    state.history = []
    # 2: empty board
    state.blocks = {}
    state.data_siphons = set()
    state.resources = {}
    state.siphoned_cells = set()
    state.siphon_centers = set()
    # 3 and 4: exit and pickups on the corners the player is not on
    corners = tuple(corner for corner in CORNERS if corner != state.player.cell)
    state.exit = one_of(draws.exit_corner(corners), corners, "exit_corner")
    state.data_siphons = {corner for corner in corners if corner != state.exit}
    # 5 to 7
    generate_blocks(state, draws)
    generate_resources(state, draws)
    spawn(state, draws, "stage", state.stage)


def generate_blocks(state: GameState, draws: Draws) -> None:
    """Draws the cells of the blocks in up to 100 attempts, then their contents (rule 14.1)."""
    count = one_of(draws.block_count(BLOCK_COUNTS), BLOCK_COUNTS, "block_count")
    taken = {enemy.cell for enemy in state.enemies} | {item.cell for item in state.transmissions}
    candidates = tuple(cell for cell in CELLS if cell not in CORNERS and cell not in taken)
    count = min(count, len(candidates))
    cells: Sequence[Cell] = ()
    for attempt in range(MAX_ATTEMPTS):
        tried = list(draws.block_cells(attempt, candidates, count))
        if len(set(tried)) != count or not set(tried) <= set(candidates):
            raise ValueError(f"draw block_cells: {tried} is no choice of {count} among {candidates}")
        if placement_is_valid(set(tried), state.exit):
            cells = tried
            break

    unused = [program.name for program in PROGRAMS]
    for index, cell in enumerate(cells):
        content = one_of(draws.block_content(index), ("data", "program"), "block_content")
        block = Block(kind=content)
        if content == "data":
            block.points = one_of(draws.block_points(index), range(1, 10), "block_points")
            block.spawn_count = block.points
        else:
            block.program = one_of(draws.block_program(index, tuple(unused)), unused, "block_program")
            block.spawn_count = PROGRAMS[PROGRAM_NUMBER[block.program]].spawn
            unused.remove(block.program)
        if draws.block_is_question(index):
            block.kind, block.hidden_kind = "question", content
        state.blocks[cell] = block


def placement_is_valid(blocks: set[Cell], exit_cell: Cell) -> bool:
    """Returns whether the empty cells are connected without crossing the exit and a siphon can
    reach every block (rule 14.1).
    """
    start = (0, 0)
    frontier: list[Cell] = [start]
    reached: set[Cell] = {start}
    while frontier:
        cell = frontier.pop()
        if cell == exit_cell and cell != start:
            continue  # the exit may be reached but is not expanded
        for neighbour in neighbours(cell):
            if neighbour not in blocks and neighbour not in reached:
                reached.add(neighbour)
                frontier.append(neighbour)
    connected = len(reached) == len(CELLS) - len(blocks)
    reachable = all(any(cell not in blocks for cell in neighbours(block)) for block in blocks)
    return connected and reachable


def generate_resources(state: GameState, draws: Draws) -> None:
    """Draws credits or energy for every cell that is empty or holds a data siphon (rule 14.2)."""
    for cell in CELLS:
        if cell in state.blocks or cell == state.exit:
            continue
        amount = one_of(draws.resource_amount(cell), (1, 2, 3), "resource_amount")
        kind = one_of(draws.resource_kind(cell), ("credits", "energy"), "resource_kind")
        state.resources[cell] = Resource(credits=amount) if kind == "credits" else Resource(energy=amount)
