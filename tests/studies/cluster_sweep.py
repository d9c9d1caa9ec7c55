"""A sweep on a Ray cluster of this machine that loses a node in the middle and gets another one.

Arguments: study file, study folder, scratch folder or "-" for a shared disk. Prints the sweep's JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
STORE_BYTES = 80 * 2**20


def statuses(study_dir: Path) -> list[str]:
    try:
        return [trial["status"] for trial in json.loads((study_dir / "study.json").read_text())["trials"]]
    except (OSError, ValueError):
        return []


def run(file: str, study_dir: Path, scratch: str) -> int:
    from ray.cluster_utils import Cluster

    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=options)
    lost = cluster.add_node(**options)
    command = [
        "sweep",
        file,
        f"--study-dir={study_dir}",
        "--on=ray",
        f"--ray-address={cluster.address}",
        "--json",
    ]
    if scratch != "-":
        command.append(f"--scratch={scratch}")
    sweep = subprocess.Popen([sys.executable, "-m", "matrixrl", *command], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while statuses(study_dir).count("finished") < 2 and sweep.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    cluster.remove_node(lost, allow_graceful=False)
    cluster.add_node(**options)
    print("node lost at", statuses(study_dir), file=sys.stderr)
    output, _ = sweep.communicate()
    print(output.splitlines()[-1] if output else "{}")
    cluster.shutdown()
    return sweep.returncode


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
