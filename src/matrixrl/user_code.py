"""Imports files of Python code that a user names, such as `path/to/file.py:factory`.

Every layer may import this module. Whether a file may be imported at all is for the caller to
decide.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def module_name(path: Path) -> str:
    """Returns the name of a file's module: its own one, since two files may have one name."""
    digest = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()
    return f"matrixrl_user_{path.stem}_{digest[:8]}"


def import_file(path: Path) -> ModuleType:
    """Runs a file as a module, and returns the module; one that fails leaves no module behind.

    Args:
      path: absolute path of an existing file.

    Raises:
      Exception: whatever the file raises.
    """
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
