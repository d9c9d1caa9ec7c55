"""What the processes of a training exchange: results and errors of the leader, folders, decisions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from matrixrl.config import ConfigError
from matrixrl.devices.coordinator import (
    PROBE_PREFIX,
    SINGLE,
    Coordinator,
    broadcast_result,
    copy_folder,
    find_shared_folder,
)
from tests.devices.threads import run_together


def test_one_process_leads_and_exchanges_nothing(tmp_path: Path) -> None:
    coordinator: Coordinator = SINGLE
    assert coordinator.is_leader
    assert coordinator.num_processes == 1
    assert coordinator.broadcast(7) == 7
    assert coordinator.broadcast(b"seven") == b"seven"
    assert coordinator.agree(True, False) == (True, False)
    assert coordinator.gather(tmp_path) is tmp_path
    assert not coordinator.is_peer_failure(ValueError("UNAVAILABLE: gone"))
    assert find_shared_folder(coordinator, tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    assert copy_folder(coordinator, tmp_path, tmp_path / "copies") == tmp_path


def result_of(coordinator: Coordinator, work: Any) -> Any:
    return broadcast_result(
        coordinator, work, to_record=lambda value: [value], from_record=lambda record: ("copy", record)
    )


def test_the_leader_works_and_the_others_rebuild_its_result() -> None:
    ran: list[int] = []

    def work() -> int:
        ran.append(1)
        return 5

    assert run_together(lambda coordinator: result_of(coordinator, work), 3) == [
        5,
        ("copy", [5]),
        ("copy", [5]),
    ]
    assert ran == [1]


def test_an_error_of_the_leader_ends_all_processes() -> None:
    def refuse() -> int:
        raise ConfigError("--lr 0: must be above 0")

    def break_down() -> int:
        raise KeyError("defect")

    first, second = run_together(lambda coordinator: result_of(coordinator, refuse))
    assert str(first) == "--lr 0: must be above 0"
    assert isinstance(second, ConfigError)
    assert str(second) == "process 0 says: --lr 0: must be above 0"
    first, second = run_together(lambda coordinator: result_of(coordinator, break_down))
    assert isinstance(first, KeyError)
    assert isinstance(second, ConfigError)


def test_a_shared_folder_is_found_and_left_clean(tmp_path: Path) -> None:
    def find(coordinator: Coordinator) -> Path | None:
        return find_shared_folder(coordinator, tmp_path if coordinator.is_leader else None)

    assert run_together(find) == [tmp_path.resolve()] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_one_process_does_not_see_is_not_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    is_file = Path.is_file

    def seen_once(path: Path) -> bool:
        if path.name.startswith(PROBE_PREFIX):
            asked.append(path)
            return len(asked) == 1
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", seen_once)
    found = run_together(lambda c: find_shared_folder(c, tmp_path if c.is_leader else None))
    assert found == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_copied_to_the_others(tmp_path: Path) -> None:
    source = tmp_path / "40"
    (source / "arrays").mkdir(parents=True)
    (source / "arrays" / "x").write_bytes(b"bytes")
    copies = tmp_path / "copies"

    def copy(coordinator: Coordinator) -> Path | None:
        return copy_folder(coordinator, source if coordinator.is_leader else None, copies)

    assert run_together(copy) == [source, copies / "40"]
    assert (copies / "40" / "arrays" / "x").read_bytes() == b"bytes"
    assert run_together(lambda coordinator: copy_folder(coordinator, None, copies)) == [None, None]


def test_a_command_has_its_coordinator_before_jax_is_loaded() -> None:
    program = (
        "import sys; import matrixrl.cli.session, matrixrl.cli.processes, matrixrl.devices.coordinator; "
        "print('jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"
