"""A sink of a user: a text file with a line per row. It edits no file of the package."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence

from matrixrl.tracking.sinks import Opened, Row, Sink, UnavailableError


class LineSink(Sink):
    name = "lines"
    label = "Lines"

    def open(self) -> Opened:
        self.path = self.context.directory / f"{self.name}.jsonl"
        # A kill may have cut off the last line.
        whole = self.path.read_bytes() if self.path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]
        self.path.write_bytes(whole)
        self.last = json.loads(whole.splitlines()[-1])["step"] if whole else 0
        self.file = self.path.open("a")
        return Opened(self.last)

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.file.write(json.dumps({"step": row.step, **row.metrics}) + "\n")
        self.file.flush()
        self.last = rows[-1].step

    def confirmed_step(self) -> int:
        return self.last

    def close(self, status: str, seconds: float) -> bool:
        self.file.close()
        return True


class OtherSink(LineSink):
    name = "other"


class FailingSink(LineSink):
    """Fails at every third write, after half of the rows; a deletion of FAIL ends that."""

    name = "failing"

    def write(self, rows: Sequence[Row]) -> None:
        count = self.context.state.own["writes"] = self.context.state.own.get("writes", 0) + 1
        if count % 3 == 0 and "FAIL" in os.environ:
            super().write(rows[: len(rows) // 2 + 1])
            raise UnavailableError("out of lines")
        super().write(rows)


class StuckSink(LineSink):
    """Never returns from its end."""

    name = "stuck"

    def close(self, status: str, seconds: float) -> bool:
        time.sleep(1000.0)
        return True
