"""Compiled programs of a matmul run: pure functions from device state to device state.

A few programs serve every phase: weight updates (pre-training and training are one program), the
start of a batch of games (from the target, or from partial solutions), one move of all games
(self-play and evaluation are one program), refinement rounds, and the insertion of finished games
into the replay buffer.

On several devices the games of a batch are sharded along the mesh, and each device searches its
own; so are the samples of a weight update, whose gradients the compiler averages, and the replay
buffer; parameters are replicated. Games are searched in groups with their own keys, and the buffer
is cut into as many parts, each filled by its games, for any number of devices, so that one device
and several play the same games and learn from the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import PartitionSpec
from jaxtyping import Bool, Float, Float32, Int32, Integer, PRNGKeyArray, PyTree, UInt16

from matrixrl.agents import refinement, replay, selfplay
from matrixrl.agents.alphazero import AlphaZero, LossMetrics, Targets
from matrixrl.agents.refinement import RefinementTotals
from matrixrl.agents.selfplay import Games
from matrixrl.config import MatmulConfig
from matrixrl.devices import groups as grouping
from matrixrl.devices.groups import is_partially_addressable, replicate, shard, with_sharding
from matrixrl.devices.machine import compute_dtype
from matrixrl.devices.mesh import DATA, along_data, data_mesh, max_groups, replicated
from matrixrl.envs.matmul import basis as bases
from matrixrl.envs.matmul import demonstrations
from matrixrl.envs.matmul.contractions import Contractions
from matrixrl.envs.matmul.demonstrations import Demonstration
from matrixrl.envs.matmul.env import TensorGame, TensorState
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.features import Features
from matrixrl.envs.matmul.tensors import ring
from matrixrl.networks.tokens import TokenNetwork
from matrixrl.networks.transforms import TransformNetwork
from matrixrl.schemes.problem import MatrixMultiplication, Problem
from matrixrl.search.sampled import SearchResult, SearchTree, search_with_tree
from matrixrl.systems.compiled import jitted
from matrixrl.training.first_calls import FirstCalls

# Maximum number of correct next actions learned per position.
MAX_LABELS = 8

# Minimum number of terms re-derived in a partial solution: fewer rarely have another
# decomposition.
MIN_REMAINING = 4

# Range of the number of terms removed in a refinement round: fewer save little, and more are
# rarely solved by the policy alone.
MIN_REMOVED, MAX_REMOVED = 6, 12

# Names of the programs while they are compiled.
INIT, LEARN, START, SELF_PLAY, KEEP = (
    "the network",
    "learning",
    "the start of games",
    "self-play",
    "the replay buffer",
)
PARTIAL_START, START_REFINEMENT, REFINEMENT = (
    "the start from partial solutions",
    "the start of refinement",
    "refinement",
)

Tree = TypeVar("Tree")


class DeviceState(NamedTuple):
    """Complete state of a run on the device."""

    params: PyTree
    opt_state: PyTree
    replay: replay.Replay
    games: Games


class MatmulProgram:
    """Builds and holds the compiled programs of a config.

    Attributes:
      config: the run's settings.
      codec: shape, ring and spelling of actions.
      targets: int8 [F, a, b, c], the tensors to decompose, one for each problem, padded with zeros
        to one shape.
      groups: number of groups in which the games of a batch are searched, with their own keys.
      mesh: devices over which games and samples are sharded; None for one.
      first_calls: of the programs.

    Raises:
      ConfigError: if there are fewer devices than requested, or games and samples cannot be sharded
        evenly.
    """

    def __init__(self, config: MatmulConfig) -> None:
        self.config = config
        self.first_calls = FirstCalls()
        game = config.game
        self.groups = math.gcd(config.selfplay.batch_of_games, max_groups())
        parts = math.gcd(self.groups, config.optimizer.batch_size)
        self.mesh = data_mesh(config.devices, parts, "groups of games and samples")
        self.codec = ActionCodec(
            game.shape,
            ring(game.ring, game.max_coefficient),
            config.network.max_token_classes,
            whole_vectors=config.transforms,
        )
        self.game = TensorGame(self.codec)
        self.targets = np.stack([self._target(problem) for problem in game.problems])
        self.agent = AlphaZero(
            network=self._network(),
            optimizer=self._optimizer(),
            num_candidates=config.search.num_candidates,
            temperature=config.search.candidate_temperature,
            best_fraction=config.search.best_fraction,
            value_coefficient=config.optimizer.value_coefficient,
        )

    @property
    def move_limits(self) -> Int32[Array, "formats"]:
        """Maximum number of moves of each problem before any scheme is found."""
        return jnp.array(self.config.game.move_limits, jnp.int32)

    def _target(self, problem: Problem) -> np.ndarray:
        """Returns the tensor of a problem in the ring, int8, padded with zeros to the shape of the
        game.
        """
        tensor = problem.tensor()
        if self.codec.ring.modulus == 2:
            tensor = tensor % 2
        padding = [(0, whole - side) for whole, side in zip(self.codec.shape, tensor.shape, strict=True)]
        return np.pad(tensor, padding).astype(np.int8)

    def format_of(self, lane: int) -> int:
        """Returns the index of the problem that a lane plays."""
        return lane % len(self.targets)

    @cached_property
    def schedule(self) -> optax.Schedule:
        """Learning rate by weight update: linear warm-up, then cosine decay over the run."""
        settings = self.config.optimizer
        total = max(self.config.total_updates, settings.warmup_steps + 1)
        return optax.warmup_cosine_decay_schedule(
            0.0,
            settings.learning_rate,
            settings.warmup_steps,
            total,
            settings.learning_rate * settings.final_learning_rate_fraction,
        )

    def _network(self) -> TransformNetwork | TokenNetwork:
        settings = self.config.network
        layout, max_value = self.codec.layout, 2 * self.config.game.standard_rank
        dtype = compute_dtype(settings.precision)
        if self.config.transforms:
            contractions = Contractions(self.codec)
            return TransformNetwork(
                layout, contractions, settings.width, settings.num_blocks, max_value, dtype
            )
        features = Features(self.codec, settings.rank_profile)
        return TokenNetwork(
            layout=layout,
            features=features,
            num_transforms=features.num_transforms,
            width=settings.width,
            num_blocks=settings.num_blocks,
            head_width=settings.head_width,
            max_value=max_value,
            dtype=dtype,
        )

    def _optimizer(self) -> optax.GradientTransformation:
        settings = self.config.optimizer
        return optax.chain(
            optax.clip_by_global_norm(settings.max_grad_norm),
            optax.adamw(self.schedule, weight_decay=settings.weight_decay),
        )

    @jitted()
    def init(self, key: PRNGKeyArray) -> DeviceState:
        """Returns initial parameters, an empty buffer, and a batch of finished games. Compiled
        separately from training.
        """
        params, opt_state = self.agent.init(key, jnp.asarray(self.targets[:1]))
        num_games = self.config.selfplay.batch_of_games
        games = self._start(key, jnp.ones(len(self.targets), jnp.int32), jnp.int32(0), jnp.float32(0))
        assert games.target.shape[0] == num_games
        size = self.config.selfplay.replay_size // self.groups * self.groups
        buffer = replay.empty(games, size)
        params, opt_state = replicate((params, opt_state), self.mesh)
        return DeviceState(
            params, opt_state, grouping.shard_arrays(buffer, self.mesh), shard(games, self.mesh)
        )

    @cached_property
    def template(self) -> DeviceState:
        """Shapes, types and shardings of the state, for restoring it."""
        shapes = jax.eval_shape(self.init, jax.random.key(0))
        if self.mesh is None:
            return shapes
        replicas, shards = replicated(self.mesh), along_data(self.mesh)
        return DeviceState(
            params=with_sharding(shapes.params, replicas),
            opt_state=with_sharding(shapes.opt_state, replicas),
            replay=jax.tree.map(
                lambda leaf: with_sharding(leaf, shards if leaf.ndim else replicas), shapes.replay
            ),
            games=with_sharding(shapes.games, shards),
        )

    def compile_ahead(self) -> None:
        """Compiles the programs of self-play in another thread, in the order in which a run needs
        them.
        """
        config = self.config
        if self.mesh is not None or config.selfplay.num_epochs == 0:
            return  # on a mesh the shardings of the arguments are unknown before there is a state
        state = self.template
        key = jax.eval_shape(lambda: jax.random.key(0))
        number, share = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.float32)
        how = (jax.ShapeDtypeStruct((len(self.targets),), jnp.int32), number, share)
        programs: dict[str, tuple[Any, tuple[Any, ...]]] = {
            START: (self.start_games, (key, *how)),
            SELF_PLAY: (self.play_move, (state.params, state.games, key, share)),
            KEEP: (self.keep, (state.replay, state.games)),
        }
        if config.selfplay.partial_solution_fraction:
            programs[PARTIAL_START] = (self.start_partial_games, (key, state.replay, *how))
        if config.selfplay.refinement_rounds:
            programs[START_REFINEMENT] = (self.start_refinement, (key, state.replay))
            programs[REFINEMENT] = (self.refine, (state.params, state.games, key, number))
        self.first_calls.compile_ahead(
            {
                name: lambda program=program, shapes=shapes: program.lower(*shapes).compile()
                for name, (program, shapes) in programs.items()
            }
        )

    def gather_to_host(self, games: Games) -> Games:
        """Gathers the games so that this host can read all of them; a collective if they are
        partially addressable.
        """
        sharded = any(map(is_partially_addressable, jax.tree.leaves(games)))
        return self._gather(games) if sharded else games

    @jitted()
    def _gather(self, games: Games) -> Games:
        return replicate(games, self.mesh)

    def positions(
        self, key: PRNGKeyArray, buffer: replay.Replay, count: int, good_costs: Float32[Array, "formats"]
    ) -> replay.Positions:
        """Samples positions of the replay buffer, the same number from each group's part."""
        each = -(-count // self.groups)
        drawn = jax.vmap(lambda key, part: replay.sample(key, part, each, good_costs))(
            jax.random.split(key, self.groups), grouping.cut(buffer, self.groups)
        )
        return grouping.interleave(drawn, count)

    @jitted(donate_argnums=(0, 1))
    def learn(
        self,
        params: PyTree,
        opt_state: PyTree,
        buffer: replay.Replay,
        key: PRNGKeyArray,
        count: Integer[Array, ""],
        use_replay: Bool[Array, ""],
        updates: Integer[Array, ""] | int = 0,
    ) -> tuple[PyTree, PyTree, LossMetrics]:
        """Performs `count` weight updates, at most a chunk of `log_interval`.

        The count is traced, so a remainder does not compile again.

        Args:
          use_replay: true if a fraction of each batch comes from the replay buffer.
          updates: number of earlier weight updates, which determines the curriculum.

        Returns:
          Parameters, optimizer state, and the metrics of each update, [log_interval], zeros beyond
          `count`.
        """
        chunk = self.config.tracking.log_interval
        # The buffer does not change within a chunk, so it is sorted once.
        good_costs = self._good_costs(buffer, self.config.selfplay.imitated_fraction)

        def one(index: Array, carry: tuple[Any, Any, LossMetrics]) -> tuple[Any, Any, LossMetrics]:
            params, opt_state, metrics = carry
            # Assemble a batch sharded over the devices, and update the replicated weights.
            targets = shard(
                self._targets(
                    jax.random.fold_in(key, index), buffer, use_replay, good_costs, updates + index
                ),
                self.mesh,
            )
            params, opt_state, one_update = replicate(
                self.agent.update(params, opt_state, targets), self.mesh
            )
            metrics = jax.tree.map(
                lambda all_updates, value: all_updates.at[index].set(value), metrics, one_update
            )
            return params, opt_state, metrics

        metrics = LossMetrics(*(jnp.zeros(chunk, jnp.float32) for _ in LossMetrics._fields))
        return jax.lax.fori_loop(0, count, one, (params, opt_state, metrics))

    @jitted()
    def start_games(
        self,
        key: PRNGKeyArray,
        step_limits: Int32[Array, "formats"],
        num_games: Integer[Array, ""],
        random_basis_fraction: Float[Array, ""],
    ) -> Games:
        """Starts a new batch; only the first `num_games` lanes are active. With F formats, lane k
        plays format k modulo F.

        Args:
          step_limits: maximum number of moves of each format.
        """
        return self._start(key, step_limits, num_games, random_basis_fraction)

    @jitted()
    def start_partial_games(
        self,
        key: PRNGKeyArray,
        buffer: replay.Replay,
        step_limits: Int32[Array, "formats"],
        num_games: Integer[Array, ""],
        random_basis_fraction: Float[Array, ""],
    ) -> Games:
        """Starts games from partial solutions, as `start_games`: some of a solution's terms are
        already applied.

        The number of terms to re-derive is the same for all, so that the games end at about the
        same time. If the buffer holds no solution of a lane's format the game starts from the
        target.
        """
        key_fresh, key_length, key_games = jax.random.split(key, 3)
        games = self._start(key_fresh, step_limits, num_games, random_basis_fraction)
        moves = self.config.game.moves
        num_remaining = jax.random.randint(key_length, (), min(MIN_REMAINING, moves), moves + 1)
        return shard(self._overlay_solutions(key_games, games, buffer, num_remaining)[0], self.mesh)

    def _overlay_solutions(
        self, key: Array, games: Games, buffer: replay.Replay, num_remaining: Array
    ) -> tuple[Games, Array]:
        """Overlays good solutions of the same formats on the games, with `num_remaining` moves not
        applied.

        Returns:
          The games, and the lanes that had a solution, bool [B].
        """
        good_costs = self._good_costs(buffer, max(self.config.selfplay.imitated_fraction, 1e-6))
        drawn = jax.vmap(
            lambda key, part, format_id: replay.partial_solutions(
                key, part, format_id, num_remaining, good_costs
            )
        )(
            jax.random.split(key, self.groups),
            grouping.cut(buffer, self.groups),
            grouping.cut(games.format_id, self.groups),
        )
        drawn: replay.PartialSolutions = grouping.join(drawn)
        prefix_mask = jnp.arange(drawn.actions.shape[1]) < drawn.prefix_length[:, None]
        residual = jax.vmap(self._residual)(drawn.target, drawn.actions.astype(jnp.int32), prefix_mask)
        chosen = drawn.found & games.active
        over = ~jnp.any(residual != 0, axis=(1, 2, 3))
        state = TensorState(residual, drawn.prefix_length, games.state.step_limit, over)
        games = selfplay.overlay(
            games, chosen, state, drawn.target, drawn.basis, drawn.actions, drawn.prefix_length
        )
        return games, chosen

    @jitted()
    def start_refinement(self, key: PRNGKeyArray, buffer: replay.Replay) -> Games:
        """Loads complete good solutions; lanes whose format has none are inactive."""
        games = self._start(
            key, self.move_limits, jnp.int32(self.config.selfplay.batch_of_games), jnp.float32(0)
        )
        games, chosen = self._overlay_solutions(key, games, buffer, jnp.int32(0))
        return shard(games._replace(active=chosen), self.mesh)

    @jitted()
    def refine(
        self, params: PyTree, games: Games, key: PRNGKeyArray, rounds: Integer[Array, ""]
    ) -> tuple[Games, RefinementTotals, Int32[Array, "B"]]:
        """Performs `rounds` rounds of `agents.refinement` on solutions, without a search.

        Each round removes the same number of terms from all solutions, from `MIN_REMOVED` to
        `MAX_REMOVED`.

        Returns:
          The solutions, the sums of the rounds, and the lengths, readable by every process.
        """
        keys = jax.random.split(key, self.groups)
        if self.mesh is None:
            games, totals = self._refine_groups(params, games, keys, key, rounds)
        else:
            replicas, shards = PartitionSpec(), PartitionSpec(DATA)
            refine = jax.shard_map(
                self._refine_groups,
                mesh=self.mesh,
                in_specs=(replicas, shards, shards, replicas, replicas),
                out_specs=(shards, shards),
                check_vma=False,
            )
            games, totals = refine(params, games, keys, key, rounds)
        return shard(games, self.mesh), *replicate(
            (jax.tree.map(jnp.sum, totals), games.num_moves), self.mesh
        )

    def _refine_groups(
        self, params: Any, games: Games, keys: Array, key: Array, rounds: Array
    ) -> tuple[Games, RefinementTotals]:
        """Performs rounds on the solutions of one device, in as many groups as there are keys;
        returns sums of each group.
        """
        most = min(MAX_REMOVED, games.actions.shape[1])

        def one_group(
            key_group: Array, actions: Array, num_moves: Array
        ) -> tuple[Array, Array, RefinementTotals]:
            def one_round(
                index: Array, carry: tuple[Array, Array, RefinementTotals]
            ) -> tuple[Array, Array, RefinementTotals]:
                actions, num_moves, sums = carry
                # Use the same number of terms in all groups, so that none waits for another.
                terms = jax.random.randint(
                    jax.random.fold_in(key, index), (), min(MIN_REMOVED, most), most + 1
                )
                actions, num_moves, outcome = refinement.refine(
                    jax.random.fold_in(key_group, index),
                    actions,
                    num_moves,
                    terms,
                    most,
                    total=jax.vmap(self._total),
                    draw=partial(self.agent.draw, params),
                    subtract=lambda residual, action: self.game.subtract(
                        residual, *self.codec.decode(action)
                    ),
                )
                return actions, num_moves, jax.tree.map(jnp.add, sums, outcome)

            start = (actions, num_moves, refinement.empty_totals())
            return jax.lax.fori_loop(0, rounds, one_round, start)

        actions, num_moves, sums = jax.vmap(one_group)(
            keys, *grouping.cut((games.actions.astype(jnp.int32), games.num_moves), keys.shape[0])
        )
        actions = actions.reshape(games.actions.shape).astype(games.actions.dtype)
        num_moves = num_moves.reshape(-1)
        state = games.state._replace(num_factors=num_moves)
        refined = selfplay.overlay(games, games.active, state, games.target, games.basis, actions, num_moves)
        return refined, sums

    @jitted()
    def finished_games(self, actions: UInt16[Array, "B M tokens"], num_moves: Int32[Array, "B"]) -> Games:
        """Returns solved games in the standard basis from their actions, as if they had been
        played.

        Args:
          actions: their terms sum to the lane's target.
          num_moves: how many of them count; 0 for an empty lane.
        """
        games = self._start(
            jax.random.key(0),
            self.move_limits,
            jnp.int32(self.config.selfplay.batch_of_games),
            jnp.float32(0),
        )
        filled = num_moves > 0
        state = games.state._replace(
            residual=jnp.zeros_like(games.state.residual),
            num_factors=num_moves,
            terminated=jnp.ones_like(games.state.terminated),
        )
        games = selfplay.overlay(games, filled, state, games.target, games.basis, actions, num_moves)
        return shard(games._replace(active=filled), self.mesh)

    def _good_costs(self, buffer: replay.Replay, fraction: float) -> Array:
        """Computes `replay.costs_of_good_games` over the whole buffer."""
        return replay.costs_of_good_games(buffer, fraction, len(self.targets))

    @jitted()
    def play_move(
        self, params: PyTree, games: Games, key: PRNGKeyArray, exploration: Float[Array, ""]
    ) -> tuple[Games, selfplay.Move]:
        """Performs one search and one move in every live game.

        Args:
          exploration: 1 in self-play; 0 in evaluation, which plays the best action found.
        """
        keys = jax.random.split(key, self.groups)
        if self.mesh is None:
            return self._play_groups(params, games, keys, exploration)
        replicas, shards = PartitionSpec(), PartitionSpec(DATA)
        play = jax.shard_map(
            self._play_groups,
            mesh=self.mesh,
            in_specs=(replicas, shards, shards, replicas),
            out_specs=(shards, shards),
            check_vma=False,
        )
        games, move = play(params, games, keys, exploration)
        return games, replicate(move, self.mesh)

    def _play_groups(
        self, params: Any, games: Games, keys: Array, exploration: Array
    ) -> tuple[Games, selfplay.Move]:
        """Performs a move of the games on one device, in as many groups as there are keys."""

        def find(key: Array, states: TensorState) -> tuple[SearchResult, SearchTree]:
            return search_with_tree(
                params,
                key,
                states,
                expand=lambda params, key, states: self.agent.expand(params, key, states.residual),
                step=self._step,
                num_simulations=self.config.search.num_simulations,
                algorithm=self.config.search.algorithm,
                exploration=exploration,
                max_depth=self.config.game.moves,
            )

        found, trees = jax.vmap(find)(keys, grouping.cut(games.state, keys.shape[0]))
        found = grouping.join(found)
        state, reward, _ = self._step(games.state, found.action)
        games, move = selfplay.play(games, found, state, reward)
        return games, move._replace(tree=trees) if self.config.search.record_search else move

    @jitted(donate_argnums=0)
    def keep(self, buffer: replay.Replay, games: Games) -> replay.Replay:
        """Inserts a finished batch into the replay buffer, each group of games into its own
        part.
        """
        insert = partial(replay.insert, good_lifetime=self.config.selfplay.good_game_lifetime)
        good = replay.is_good(games)
        filled = jax.vmap(insert)(*grouping.cut((buffer, games, good), self.groups))
        # The clocks of all groups are equal.
        flat = jax.tree.map(lambda new, old: new.reshape(old.shape) if old.ndim else new[0], filled, buffer)
        return grouping.shard_arrays(flat, self.mesh)

    def _step(self, states: TensorState, tokens: Array) -> tuple[TensorState, Array, Array]:
        states, reward = jax.vmap(self.game.step)(states, tokens)
        return states, reward, states.terminated

    def _start(self, key: Array, step_limits: Array, num_games: Array, random_basis_fraction: Array) -> Games:
        count = self.config.selfplay.batch_of_games
        key_basis, key_which = jax.random.split(key)
        standard = bases.identity(self.codec.shape)

        def target(key: Array, changed: Array, tensor: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            basis = self._random_basis(key)
            if self.codec.ring.modulus == 0 and self._may_overflow:
                # Keep the standard basis where int8 cannot hold the tensor in the other one.
                moved = bases.transform_tensor(tensor, basis.forward, self.codec.ring)
                changed = changed & jnp.all(jnp.abs(moved) <= 127)
            basis = jax.tree.map(lambda other, same: jnp.where(changed, other, same), basis, standard)
            tensor = bases.transform_tensor(tensor, basis.forward, self.codec.ring)
            return tensor.astype(jnp.int8), basis.inverse

        changed = jax.random.uniform(key_which, (count,)) < random_basis_fraction
        keys = shard(jax.random.split(key_basis, count), self.mesh)
        played = jnp.arange(count) % len(self.targets)
        targets, inverse = jax.vmap(target)(keys, changed, jnp.asarray(self.targets)[played])
        states = jax.vmap(self.game.reset)(targets, step_limits[played])
        games = selfplay.start(
            states,
            played,
            inverse,
            jnp.arange(count) < num_games,
            self.config.game.moves,
            self.config.search.num_candidates,
            self.codec.layout.num_tokens,
        )
        return shard(games, self.mesh)

    @property
    def _may_overflow(self) -> bool:
        """True if a change of basis can make entries that int8 does not hold. The entries of matrix
        products stay small.
        """
        return any(not isinstance(problem, MatrixMultiplication) for problem in self.config.game.problems)

    def _random_basis(self, key: Array) -> bases.Basis:
        """Returns any basis over F2; over the integers a unimodular one near a signed permutation.

        A sparse basis makes the standard algorithm less attractive, and still maps most ternary
        factors back to ternary ones.
        """
        return bases.random_basis(key, self.codec.shape, self.codec.ring, self.config.selfplay.basis_density)

    def _targets(
        self, key: Array, buffer: replay.Replay, use_replay: Array, good_costs: Array, updates: Array
    ) -> Targets:
        """Assembles a training batch: new demonstrations, and positions of the replay buffer if
        requested.
        """
        key_demonstrations, key_replay = jax.random.split(key)
        shown = self._demonstrations(key_demonstrations, self.config.optimizer.batch_size, updates)
        count = self.config.replay_batch
        if count == 0:
            return shown

        def mixed() -> Targets:
            own = self._replayed(key_replay, buffer, count, good_costs)
            return jax.tree.map(lambda first, second: jnp.concatenate([first, second[count:]]), own, shown)

        return jax.lax.cond(use_replay, mixed, lambda: shown)

    def _demonstrations(self, key: Array, count: int, updates: Array) -> Targets:
        settings = self.config.demonstration
        makers: list[Callable[[Array], Demonstration]] = [
            partial(self._synthetic, updates=updates)
            if kind == "synthetic"
            else partial(self._from_scheme, kind=kind)
            for kind in settings.demonstrations
        ]

        def labelled(demonstration: Demonstration) -> Targets:
            # Terms of a demonstration are in random order, so the first few are a random sample.
            tokens = _pad(demonstration.tokens[:MAX_LABELS], MAX_LABELS)
            active = jnp.arange(MAX_LABELS) < jnp.minimum(demonstration.num_factors, MAX_LABELS)
            return Targets(demonstration.residual, tokens, active / active.sum(), demonstration.num_factors)

        def one(key: Array) -> Targets:
            key_kind, key_draw = jax.random.split(key)
            choices = [lambda key, maker=maker: labelled(maker(key)) for maker in makers]
            if len(choices) == 1:
                return choices[0](key_draw)
            return jax.lax.switch(jax.random.randint(key_kind, (), 0, len(choices)), choices, key_draw)

        return jax.vmap(one)(shard(jax.random.split(key, count), self.mesh))

    def _synthetic(self, key: Array, updates: Array) -> Demonstration:
        """Samples random terms of the shape of one of the problems, chosen uniformly; a curriculum
        starts with few terms.
        """
        settings, game = self.config.demonstration, self.config.game
        make = partial(
            demonstrations.synthetic,
            codec=self.codec,
            min_factors=1,
            max_factors=self.config.max_demonstration_factors,
            min_density=settings.min_density,
            max_density=settings.max_density,
        )

        def allowed(most: Array | int) -> Array | int:
            if not settings.curriculum_steps:
                return most
            grown = 1 + most * updates // settings.curriculum_steps
            return jnp.minimum(grown, most)

        if len(game.problems) == 1:
            return make(key, most=allowed(self.config.max_demonstration_factors))
        key_format, key_terms = jax.random.split(key)
        drawn = jax.random.randint(key_format, (), 0, len(game.problems))
        lengths = jnp.array([problem.sides for problem in game.problems], jnp.int32)[drawn]
        most = [min(rank, self.config.max_demonstration_factors) for rank in game.standard_ranks]
        return make(key_terms, used=tuple(lengths), most=allowed(jnp.array(most, jnp.int32)[drawn]))

    def _from_scheme(self, key: Array, kind: str) -> Demonstration:
        """Samples terms of the standard or the known scheme of one of the problems, chosen
        uniformly.
        """
        problems = self.config.game.problems
        shown = [partial(self._of_problem, kind=kind, problem=problem) for problem in problems]
        if len(problems) == 1:
            return shown[0](key)
        key_format, key_terms = jax.random.split(key)
        return jax.lax.switch(jax.random.randint(key_format, (), 0, len(problems)), shown, key_terms)

    def _of_problem(self, key: Array, kind: str, problem: Problem) -> Demonstration:
        modulus, limit = self.codec.ring.modulus, self.codec.ring.max_coefficient
        factors = (
            problem.known() if kind == "known" else problem.standard(modulus, None if modulus else limit)
        )
        assert factors is not None  # the config has been checked
        if modulus == 2:
            factors = tuple(np.mod(factor, 2) for factor in factors)
        padded = (
            np.pad(factor, ((0, 0), (0, length - factor.shape[1])))
            for factor, length in zip(factors, self.codec.shape, strict=True)
        )
        u, v, w = padded
        shown = demonstrations.from_factors(key, self.codec, u, v, w)
        # The schemes of all problems share one shape; further labels are ignored.
        return shown._replace(tokens=_pad(shown.tokens[:MAX_LABELS], MAX_LABELS))

    def _replayed(self, key: Array, buffer: replay.Replay, count: int, good_costs: Array) -> Targets:
        key_positions, key_labels = jax.random.split(key)
        positions = self.positions(key_positions, buffer, count, good_costs)
        played = jnp.arange(positions.actions.shape[1]) < positions.move[:, None]
        tokens = selfplay.sample_labels(key_labels, positions.candidates, positions.weights, MAX_LABELS)
        weights = jnp.broadcast_to(
            (positions.filled & positions.good)[:, None] / MAX_LABELS, tokens.shape[:2]
        )
        return Targets(
            jax.vmap(self._residual)(positions.target, positions.actions, played),
            tokens.astype(jnp.int32),
            weights,
            positions.cost,
        )

    def _residual(self, target: Array, actions: Array, played: Array) -> Array:
        """Subtracts the played ones [M] of the actions [M, num_tokens] from the target."""
        terms = self._total(actions, played)
        return target ^ terms if self.codec.ring.modulus == 2 else target - terms

    def _total(self, actions: Array, played: Array) -> Array:
        """Sums the terms of the played ones [M] of the actions [M, num_tokens]."""
        return demonstrations.sum_of_terms(self.codec, *self.codec.decode(actions), played)


def _pad(rows: Array, count: int) -> Array:
    return jnp.pad(rows, ((0, count - rows.shape[0]), (0, 0)))
