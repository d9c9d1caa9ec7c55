"""The lines that a trainer prints before its settings were tried on this machine."""

from __future__ import annotations

ANNOUNCED = ("run", "trains", "folder", "W&B", "stop", "device")
STATUS = (" ...", " so far)")


def without_announcement(output: str) -> str:
    """Returns the output without what names the run, and without what a slow machine says of its progress."""
    return "\n".join(
        line
        for line in output.splitlines()
        if line.partition(" ")[0] not in ANNOUNCED and not line.endswith(STATUS) and ": done in " not in line
    )
