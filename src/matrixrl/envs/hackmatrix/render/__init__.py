"""A state for people: a text board for terminals (`text`) and a picture (`picture`)."""

from matrixrl.envs.hackmatrix.render.picture import render_png, render_rgb
from matrixrl.envs.hackmatrix.render.text import LEGEND, PROGRAM_KEYS, render_text

__all__ = ["LEGEND", "PROGRAM_KEYS", "render_png", "render_rgb", "render_text"]
