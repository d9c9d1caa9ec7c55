"""A script in a process with eight forced CPU devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def said_on_eight_devices(script: str, *arguments: str) -> tuple[str, str]:
    """What it prints, and the end of what it complains about."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    return done.stdout, done.stderr[-3000:]
