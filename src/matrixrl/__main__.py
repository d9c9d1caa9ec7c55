"""`python -m matrixrl`: the command `matrixrl` where its script is not on the path."""

from __future__ import annotations

import runpy

if __name__ == "__main__":
    runpy.run_module("matrixrl.cli.main", run_name="__main__")
