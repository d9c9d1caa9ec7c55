"""Rendering of states: a text board for terminals (`text`), a picture (`picture`), an animated game
(`animation`).
"""

from matrixrl.envs.hackmatrix.render.animation import render_gif
from matrixrl.envs.hackmatrix.render.picture import render_png, render_rgb
from matrixrl.envs.hackmatrix.render.text import LEGEND, PROGRAM_KEYS, render_text
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts

__all__ = ["LEGEND", "PROGRAM_KEYS", "Thoughts", "render_gif", "render_png", "render_rgb", "render_text"]
