"""Python interface: train, read runs, use agents and discover schemes from a program or a notebook.

```python
import matrixrl

run = matrixrl.train(matrixrl.ppo(env="gymnax:CartPole-v1", total_timesteps=500_000))
returns = run.scalars("episode/return")
agent = matrixrl.load(run)
```

All names are attributes of `matrixrl` itself. Each one does what a command does, with the same
settings, journal, checkpoints and exact resume.
"""

from matrixrl.api.agents import Agent, EnvironmentAgent, MatmulAgent, load
from matrixrl.api.dashboards import LiveDashboard, dashboard
from matrixrl.api.discovery import Discovery, discover
from matrixrl.api.runs import Run, open
from matrixrl.api.settings import TrainingSettings, hackmatrix, matmul, ppo
from matrixrl.api.training import TrainingError, train
from matrixrl.config import ConfigError

__all__ = [
    "Agent",
    "ConfigError",
    "Discovery",
    "EnvironmentAgent",
    "LiveDashboard",
    "MatmulAgent",
    "Run",
    "TrainingError",
    "TrainingSettings",
    "dashboard",
    "discover",
    "hackmatrix",
    "load",
    "matmul",
    "open",
    "ppo",
    "train",
]
