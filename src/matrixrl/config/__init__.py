"""Every setting of the project, declared once: frozen dataclasses that tyro turns into flags and
the journal records.

Standard library only, so that ``--help`` answers without loading JAX. The docstring of a field is
its help text; its allowed values stand beside it (`fields.Rules`). Values are checked when a config
is built, before anything compiles; derived numbers are properties.

Help texts keep their line breaks on the terminal, so a long one breaks between sentences.
"""

from matrixrl.config.checkpoint import CheckpointConfig
from matrixrl.config.durations import parse_duration
from matrixrl.config.fields import (
    MAX_NUMBER,
    ConfigError,
    Rules,
    Settings,
    group,
    may_change_on_resume,
    program_arguments,
    require,
    setting,
)
from matrixrl.config.files import read_settings_file, settings_toml, to_toml, with_file
from matrixrl.config.flip import (
    DEFAULT_MOVES,
    FlipConfig,
    FlipGraphConfig,
    FlipWalkConfig,
    WalkPlaceConfig,
    default_walkers,
)
from matrixrl.config.hackmatrix import ActorCriticConfig, AlphaZeroConfig, HackmatrixConfig, StartsConfig
from matrixrl.config.matmul import (
    MAX_MODE,
    MAX_MOVES,
    MAX_SIDE,
    MAX_TRANSFORM_MODE,
    DemonstrationConfig,
    Demonstrations,
    GameConfig,
    MatmulConfig,
    NetworkConfig,
    OptimizerConfig,
    SearchConfig,
    SelfPlayConfig,
    size_name,
)
from matrixrl.config.ppo import PPOConfig, PPOTrainerConfig
from matrixrl.config.processes import ProcessConfig
from matrixrl.config.records import as_record, differences, from_record, value_at, with_value
from matrixrl.config.run import RunConfig, TrackedRunConfig
from matrixrl.config.tracking import TrackingConfig

__all__ = [
    "DEFAULT_MOVES",
    "MAX_MODE",
    "MAX_MOVES",
    "MAX_NUMBER",
    "MAX_SIDE",
    "MAX_TRANSFORM_MODE",
    "ActorCriticConfig",
    "AlphaZeroConfig",
    "CheckpointConfig",
    "ConfigError",
    "DemonstrationConfig",
    "Demonstrations",
    "FlipConfig",
    "FlipGraphConfig",
    "FlipWalkConfig",
    "GameConfig",
    "HackmatrixConfig",
    "MatmulConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "PPOConfig",
    "PPOTrainerConfig",
    "ProcessConfig",
    "Rules",
    "RunConfig",
    "SearchConfig",
    "SelfPlayConfig",
    "Settings",
    "StartsConfig",
    "TrackedRunConfig",
    "TrackingConfig",
    "WalkPlaceConfig",
    "as_record",
    "default_walkers",
    "differences",
    "from_record",
    "group",
    "may_change_on_resume",
    "parse_duration",
    "program_arguments",
    "read_settings_file",
    "require",
    "setting",
    "settings_toml",
    "size_name",
    "to_toml",
    "value_at",
    "with_file",
    "with_value",
]
