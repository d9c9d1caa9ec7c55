"""Durations as users write them: `50s`, `10m`, `2h`, `1h30m`."""

from __future__ import annotations

import re

from matrixrl.config.fields import ConfigError

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
_DURATION = re.compile(rf"(?=\d)(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?", re.ASCII)


def parse_duration(text: str, flag: str = "--time") -> float:
    """Returns the seconds of a duration in hours, minutes and seconds.

    Args:
      flag: named in the message.

    Raises:
      ConfigError: if the text is not a duration, or a duration of 0.
    """
    match = _DURATION.fullmatch(text)
    seconds = 0.0
    if match is not None:
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if not seconds:
        raise ConfigError(f"{flag} {text}: must be a duration above 0, such as 50s, 10m, 2h or 1h30m")
    return seconds
