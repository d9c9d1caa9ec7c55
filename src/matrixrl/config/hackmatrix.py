"""Settings of a HackMatrix run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from matrixrl.config.fields import Settings, group, require, setting
from matrixrl.config.ppo import PPOTrainerConfig


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig(Settings):
    """The network of the HackMatrix agent."""

    torso: Literal["mlp", "grid"] = "mlp"
    """Type of torso.
    `mlp`: plain layers over the flat observation.
    `grid`: one encoder shared by the 36 cells, followed by the layers.
    """

    features: Literal["observation", "relations"] = "observation"
    """Input of the network.
    `observation`: the observation of the game.
    `relations`: also distances along paths, threats, lines of fire and affordable programs, which
    follow from the observation.
    """

    hidden_dim: int = setting(256, minimum=1)
    """Number of units per layer."""

    num_layers: int = setting(2, minimum=0)
    """Number of layers."""

    cell_dim: int = setting(16, minimum=2, multiple_of=2)
    """Number of units in the first layer of the cell encoder; the second has twice as many.
    Used by `--torso grid`.
    """

    critic: Literal["shared", "separate"] = "shared"
    """Layers of the value.
    `shared`: policy and value are two heads of one torso.
    `separate`: the value has a torso of its own, of the same size.
    """

    activation: Literal["relu", "tanh"] = "relu"
    """Activation function of the layers."""

    orthogonal_init: bool = True
    """Initialise hidden layers with orthogonal matrices; otherwise with normal random numbers."""

    precision: Literal["float32", "bfloat16"] = setting("float32", may_change=True)
    """Type of the network's matrix products.
    Parameters stay float32, and on a CPU everything does.
    """


@dataclass(frozen=True, kw_only=True)
class StartsConfig(Settings):
    """Where training games start."""

    later_starts: float = setting(0.0, minimum=0, maximum=1)
    """Initial fraction of training games that start in stage 3 to 8, from positions of own games.
    It decreases linearly to 0; 0 starts all games in stage 1.
    """

    later_starts_until: float = setting(0.5, above=0, maximum=1)
    """Fraction of the run after which all games start in stage 1 again.
    Used by --later-starts.
    """


@dataclass(frozen=True, kw_only=True)
class HackmatrixConfig(PPOTrainerConfig):
    """All settings of a HackMatrix run."""

    recorded_beside: ClassVar[tuple[str, ...]] = ("environment_version",)

    preset: str = "default"
    """Preset that supplies the other defaults: default, tuned, winning or dev."""

    network: ActorCriticConfig = group(ActorCriticConfig)

    starts: StartsConfig = group(StartsConfig)

    start_from: str | None = None
    """Agent that training starts from, instead of random parameters.
    A run in the folder of runs (its newest checkpoint), `pretrained`, or a file of `export-agent`.
    The run takes over its network, --gamma and --reward-scale.
    """

    time_limit: int = setting(1_000, minimum=1)
    """Maximum number of steps per game. Longer games are truncated."""

    def check(self) -> None:
        """Checks the starts against the ways of running."""
        super().check()
        require(
            not (self.auto_tune and self.starts.later_starts),
            f"--auto-tune and --later-starts {self.starts.later_starts:g} exclude one another: groups of games that "
            "share positions depend on the shape of the batch; leave one of them out",
        )
