"""The main job: Strassen's seven products, found with nothing shown, proved over the integers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify
from matrixrl.tracking.audit import audit
from tests.systems.conftest import train


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_quick_finds_seven_products_for_2x2x2_with_nothing_shown(tmp_path: Path) -> None:
    result = train(tmp_path, "--seed", "1", base=["--preset", "quick"])
    assert result.status == 0
    summary = result.summary
    assert summary["best_rank"] == 7
    assert summary["ring"] == "Z"
    assert summary["verified"] is True
    assert summary["shown"] == "nothing shown"
    assert "nothing shown" in result.output
    scheme = Scheme.load(result.scheme)
    assert scheme.rank == 7
    assert verify(scheme)
    assert json.loads(result.scheme.read_text())["provenance"]["shown"] == "nothing shown"
    assert (result.directory / "scheme.png").stat().st_size > 1000
    assert audit(result.directory).agrees
