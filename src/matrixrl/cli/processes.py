"""Command line of distributed training: process 0 reads it and broadcasts it to the others."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from matrixrl.cli.parse import whole_number
from matrixrl.cli.resume import flag_value
from matrixrl.config import ConfigError, ProcessConfig, as_record, from_record
from matrixrl.devices.coordinator import SINGLE, Coordinator, broadcast_result

Settings = TypeVar("Settings")


def agreed_settings(
    kind: type[Settings], arguments: Sequence[str], read: Callable[[Sequence[str]], Settings]
) -> tuple[Settings, Coordinator]:
    """Reads a command line with `read`; with `--distributed`, on process 0, once all processes have
    joined.

    Only process 0 needs to see the run folder that `--resume-run` names.

    Returns:
      The settings, and the coordinator of the processes.

    Raises:
      ConfigError: if the command line is wrong, or the processes do not connect.
    """
    if "processes" not in {item.name for item in dataclasses.fields(kind)}:  # pyright: ignore[reportArgumentType]
        return read(arguments), SINGLE
    if "--distributed" not in arguments or {"-h", "--help"} & set(arguments):
        config: Any = read(arguments)
        if config.processes.distributed:
            # A run that was trained by several processes may be resumed with one.
            config = dataclasses.replace(config, processes=ProcessConfig())
        return config, SINGLE
    settings = _process_settings(arguments)

    from matrixrl.devices.distributed import join

    if settings.process_id == 0:
        print(
            f"matrixrl: waiting at {settings.coordinator} for the other processes, {settings.num_processes} in all, "
            f"at most {settings.join_seconds} s",
            file=sys.stderr,
        )
    coordinator = join(settings)
    config = broadcast_result(
        coordinator,
        lambda: read(arguments),
        to_record=as_record,
        from_record=lambda record: from_record(kind, record),
    )
    return config, coordinator


def _process_settings(arguments: Sequence[str]) -> ProcessConfig:
    def number(flag: str) -> int | None:
        text = flag_value(arguments, flag, "a number")
        if text is None:
            return None
        value = whole_number(text)
        if value is None or value < 0:
            raise ConfigError(f"{flag} {text}: must be a whole number of 0 or more")
        return value

    given: dict[str, Any] = {"join_seconds": number("--join-seconds")}
    return ProcessConfig(
        distributed=True,
        coordinator=flag_value(arguments, "--coordinator", "HOST:PORT"),
        num_processes=number("--num-processes"),
        process_id=number("--process-id"),
        **{name: value for name, value in given.items() if value is not None},
    )
