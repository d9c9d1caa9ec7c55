"""`matrixrl` as a process whose HackMatrix is the game of two doors, which compiles in seconds."""

from __future__ import annotations

import sys

from matrixrl.cli import hackmatrix
from matrixrl.cli.main import main
from tests.systems.doors_run import DoorsProgram

if __name__ == "__main__":
    hackmatrix.make_program = DoorsProgram
    sys.exit(main())
