"""Local system metrics (CPU, memory, accelerator memory), a few times a minute, kept by the journal."""

from __future__ import annotations

import time
from collections.abc import Callable

INTERVAL_SECONDS = 15.0


class SystemMonitor:
    """Samples the process and the machine when a sample is due; costs about 0.1 ms per sample.

    Args:
        accelerator_bytes: returns the accelerator memory in use, or None where there is none to ask.
    """

    def __init__(self, accelerator_bytes: Callable[[], int | None] | None = None) -> None:
        self._accelerator_bytes = accelerator_bytes
        self._next = time.monotonic() + INTERVAL_SECONDS
        self._process = None

    def due(self) -> dict[str, float] | None:
        """A sample where the last one is `INTERVAL_SECONDS` old, else None."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + INTERVAL_SECONDS
        import psutil  # not needed in the first seconds, which are those of the start-up

        if self._process is None:
            self._process = psutil.Process()
        sample = {
            "cpu_percent": psutil.cpu_percent(None),
            "process_cpu_percent": self._process.cpu_percent(None),
            "process_memory_bytes": self._process.memory_info().rss,
            "memory_percent": psutil.virtual_memory().percent,
        }
        accelerator = self._accelerator_bytes() if self._accelerator_bytes else None
        if accelerator is not None:
            sample["accelerator_memory_bytes"] = accelerator
        return sample
