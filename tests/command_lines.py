"""Runs several command lines of `matrixrl` in one process, one after the other, until one of them fails."""

from __future__ import annotations

import json
import sys

from matrixrl.cli.main import main


def run(lines: list[list[str]]) -> int:
    """Runs each list of arguments; returns the first exit status that is not 0."""
    for arguments in lines:
        print("$ matrixrl", *arguments, flush=True)
        try:
            status = main(arguments)
        except SystemExit as error:  # `--help`
            status = error.code or 0
        if status:
            print("exit status", status, flush=True)
            return int(status)
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(sys.argv[1])))
