"""Settings of tracking."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from matrixrl.config.fields import Settings, require, setting


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(Settings):
    """Name of a run and destinations of its rows. The same flags serve every trainer."""

    may_change: ClassVar[bool] = True

    wandb: bool = False
    """Also send the run to Weights & Biases (offline if there is no key or no network)."""

    project: str | None = None
    """W&B project. Default: `rlmm` for matmul, `hackmatrix` for hackmatrix."""

    entity: str | None = None
    """W&B entity. Default: WANDB_ENTITY, or the default entity of the account."""

    run_name: str | None = setting(None, of_run=True)
    """Name of the run. Default: prefix, date and the next free number."""

    run_suffix: str | None = setting(None, of_run=True)
    """Suffix appended to the automatic name, such as `-bignet`."""

    resume_run: str | None = setting(None, of_run=True, in_file=False)
    """Run to resume: its name, its id, or `latest`."""

    no_artifact: bool = False
    """Do not upload checkpoints and schemes to W&B as artifacts."""

    log_interval: int = setting(10, minimum=1)
    """Number of updates between two records of the training stream."""

    runs_dir: Path = setting(Path("runs"), of_run=True, aliases=("checkpoint_dir",))
    """Folder that holds one folder per run."""

    console: Literal["quiet", "epochs", "episodes", "steps"] = "epochs"
    """Detail of the console output. `steps` also records every move in the journal."""

    record_moves: bool = False
    """Record every move (action, reward, residual) in the journal."""

    keep_artifacts: int = setting(3, minimum=0)
    """Number of checkpoints to keep on W&B in addition to the best one. 0 keeps all."""

    backlog_rows: int = setting(10_000, minimum=1)
    """Maximum number of rows waiting for upload to W&B.
    Above it the live stream is thinned (never the journal).
    """

    finish_seconds: float = setting(60.0, minimum=0)
    """Maximum time in seconds that the end of a run waits for W&B.
    `matrixrl runs sync` uploads the rest.
    """

    def check(self) -> None:
        """Checks the name of the run against the run to resume."""
        require(
            self.resume_run is None or (self.run_name is None and self.run_suffix is None),
            f"--resume-run {self.resume_run} continues a run under its own name: leave out --run-name and --run-suffix",
        )
