"""Names inside a run folder that several layers know. Every layer may import this module."""

from __future__ import annotations

CHECKPOINTS_FOLDER = "checkpoints"
"""Folder of a run that holds a folder for each checkpoint, named by its step."""

MANIFEST_FILE = "manifest.json"
"""File of a checkpoint with the checksums of the others; it is written last."""

SEARCH_FOLDER = "search"
"""Folder of a run that holds a file for each game whose search trees were recorded."""
