"""`main()` inside another program: everything that it changes in the process is put back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, json, logging, os, signal, sys, threading, warnings
import jax
from jax._src.lru_cache import LRUCache
from matrixrl.cli.main import main
from tests.cli import descent

runs, settings = sys.argv[1:]
descent.as_train_command()
heard = []

def state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    mask = os.umask(0)
    os.umask(mask)
    return {
        "wakeup": wakeup,
        "handlers": {n: str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGPIPE)},
        "environment": dict(os.environ),
        "jax": {name: str(value) for name, value in jax.config.values.items()},
        "put": str(LRUCache.put),
        "folder": os.getcwd(),
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "files": [os.readlink(f"/proc/self/fd/{n}") for n in range(3)] if os.path.exists("/proc/self/fd") else [],
        "umask": mask,
        "levels": {name: logging.getLogger(name).level for name in ("", "jax", "absl", "wandb")},
        "handlers of the root logger": len(logging.getLogger().handlers),
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.displayhook)],
    }

async def host():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, heard.append, "during")
    loop.add_signal_handler(signal.SIGTERM, heard.append, "after")
    before = state()
    status = main(["matmul", "train", runs, settings])
    statuses = [status, main(["runs", "audit", "r", "--runs-dir", runs]), main(["no", "such"])]
    after = state()
    os.kill(os.getpid(), signal.SIGTERM)
    while len(heard) < 2:
        await asyncio.sleep(0.01)
    return before, after, statuses

before, after, statuses = asyncio.run(asyncio.wait_for(host(), 120))
changed = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
print(json.dumps({"changed": changed, "heard": sorted(heard), "statuses": statuses}))
"""


def test_the_process_is_as_it_was(tmp_path: Path) -> None:
    settings = {"tracking": {"wandb": True, "finish_seconds": 30.0}, "signal_at": 7}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(settings)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": "",
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "WANDB_MODE": "offline",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == {"changed": {}, "heard": ["after", "during"], "statuses": [0, 0, 2]}
