"""Local system metrics (CPU and memory), a few times a minute, kept by the journal."""

from __future__ import annotations

import time

INTERVAL_SECONDS = 15.0


class SystemMonitor:
    """Samples the process and the machine when a sample is due; costs about 0.1 ms per sample."""

    def __init__(self) -> None:
        self._next = time.monotonic() + INTERVAL_SECONDS
        self._process = None

    def due(self) -> dict[str, float] | None:
        """Returns a sample if the last one is `INTERVAL_SECONDS` old, otherwise None."""
        now = time.monotonic()
        if now < self._next:
            return None
        self._next = now + INTERVAL_SECONDS
        import psutil  # not needed in the first seconds, which are those of the start-up

        if self._process is None:
            self._process = psutil.Process()
        return {
            "cpu_percent": psutil.cpu_percent(None),
            "process_cpu_percent": self._process.cpu_percent(None),
            "process_memory_bytes": self._process.memory_info().rss,
            "memory_percent": psutil.virtual_memory().percent,
        }
