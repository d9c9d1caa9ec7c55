"""Settings of distributed training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from matrixrl.config.fields import Settings, require, setting


@dataclass(frozen=True, kw_only=True)
class ProcessConfig(Settings):
    """Distributed training by several processes, on one host or several.
    The same flags serve every trainer.
    """

    may_change: ClassVar[bool] = True

    distributed: bool = False
    """Train together with the processes started by this same command on the other hosts."""

    coordinator: str | None = None
    """Address on which process 0 listens, HOST:PORT. Detected on TPU slices, Slurm and Open MPI."""

    num_processes: int | None = setting(None, minimum=1)
    """Number of processes, if it is not detected."""

    process_id: int | None = None
    """Index of this process, from 0, if it is not detected. Process 0 holds the run folder."""

    join_seconds: int = setting(300, minimum=1)
    """Maximum time in seconds to wait for the other processes."""

    def check(self) -> None:
        """Checks that the processes can find one another."""
        given = [self.coordinator, self.num_processes, self.process_id]
        require(
            self.distributed or given == [None] * 3,
            "--coordinator, --num-processes and --process-id say how processes find each other: add --distributed",
        )
        require(
            None not in given or given == [None] * 3,
            "--distributed: give --coordinator, --num-processes and --process-id all three, or none of them",
        )
        if self.coordinator is not None:
            host, _, port = self.coordinator.rpartition(":")
            require(
                bool(host) and port.isdecimal() and 0 < int(port) < 65536,
                f"--coordinator {self.coordinator}: must be HOST:PORT, such as 10.0.0.2:8476",
            )
        if self.process_id is not None and self.num_processes is not None:
            require(
                0 <= self.process_id < self.num_processes,
                f"--process-id {self.process_id}: must be from 0 to {self.num_processes - 1}",
            )
