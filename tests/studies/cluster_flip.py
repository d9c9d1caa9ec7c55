"""Two searches on a Ray cluster of two nodes. The first loses a node in the middle, and another one joins. The
second is killed, and resumed by `matrixrl matmul flip --resume-run` on the same cluster.

Arguments: folder for the runs, and the flags of a search. Prints the JSON object of each search.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from matrixrl.config import ConfigError
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from tests.studies.cluster import begin, cluster_of, exchange_node, last_line, wait_until


def rounds(folder: Path) -> int:
    """Returns the number of rounds in a run's journal."""
    try:
        with JournalReader(folder) as reader:
            return reader.last_step()
    except (ConfigError, JournalError):
        return 0  # it begins


def has_checkpoint(folder: Path) -> bool:
    return any(folder.glob("checkpoints/[0-9]*"))


def run(runs_dir: Path, flags: list[str]) -> None:
    where = f"--runs-dir={runs_dir}"
    with cluster_of(2) as cluster:
        search = begin(cluster, "matmul", "flip", *flags, where, "--run-name=nodes")
        wait_until(lambda: rounds(runs_dir / "nodes") >= 8, search)
        assert search.poll() is None, "the search was over before the node was lost"
        exchange_node(cluster)
        print("node lost after round", rounds(runs_dir / "nodes"), file=sys.stderr)
        print(last_line(search))
        search = begin(cluster, "matmul", "flip", *flags, where, "--run-name=head")
        wait_until(lambda: has_checkpoint(runs_dir / "head"), search)
        search.send_signal(signal.SIGKILL)
        search.communicate()
        assert search.returncode == -signal.SIGKILL
        print("killed after round", rounds(runs_dir / "head"), file=sys.stderr)
        # Without --on: the run knows where its walkers were.
        print(last_line(begin(cluster, "matmul", "flip", "--resume-run=head", where, "--console=quiet")))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2:])
