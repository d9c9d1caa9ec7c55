"""Child process that audits one run folder: `python -m matrixrl.dashboard.audit_worker FOLDER`.

It prints one line of JSON, as `matrixrl runs audit --offline --json` does, and exits with 1 if the
records of the run disagree, or with 2 if nothing can be read.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matrixrl.config import ConfigError
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal import TrackingError


def main(arguments: Sequence[str]) -> int:
    """Audits the folder; returns the exit status."""
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        report = audit(Path(arguments[0]), server=False)
    except (ConfigError, TrackingError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    answer = {
        "run": report.run,
        "agrees": report.agrees,
        "checks": report.checks,
        "notes": report.notes,
        "gaps": [asdict(gap) for gap in report.gaps],
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return int(not report.agrees)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
