"""A sweep on a Ray cluster of this machine that loses a node in the middle and gets another one.

Arguments: study file, study folder, scratch folder or "-" for a shared disk. Prints the sweep's JSON object.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.studies.cluster import begin, cluster_of, exchange_node, last_line, wait_until


def statuses(study_dir: Path) -> list[str]:
    try:
        return [trial["status"] for trial in json.loads((study_dir / "study.json").read_text())["trials"]]
    except (OSError, ValueError):
        return []


def run(file: str, study_dir: Path, scratch: str) -> int:
    with cluster_of(2) as cluster:
        more = [] if scratch == "-" else [f"--scratch={scratch}"]
        sweep = begin(cluster, "sweep", file, f"--study-dir={study_dir}", *more)
        wait_until(lambda: statuses(study_dir).count("finished") >= 2, sweep)
        exchange_node(cluster)
        print("node lost at", statuses(study_dir), file=sys.stderr)
        print(last_line(sweep))
        return sweep.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
