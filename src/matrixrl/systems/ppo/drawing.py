"""Pictures of an environment that can draw itself, and an episode as an animated GIF.

An environment draws itself by ``render(state, params)`` or ``render(state)``, which returns a text
or an image uint8 [H, W, 3] (or [H, W], grey).
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import PyTree
from PIL import Image, ImageDraw

from matrixrl.config import ConfigError
from matrixrl.envs.adapters.gymnasium import GymnasiumEnvironment
from matrixrl.envs.adapters.gymnax import GymnaxEnvironment, described

Frame = str | np.ndarray

LAST_SECONDS = 2.0
"""Duration of the last picture."""


def can_draw(env: GymnaxEnvironment | GymnasiumEnvironment) -> bool:
    """Returns whether the environment draws itself."""
    if isinstance(env, GymnasiumEnvironment):
        return env.description.draws
    return callable(getattr(env.env, "render", None))


def draw(env: GymnaxEnvironment | GymnasiumEnvironment, state: PyTree) -> Frame:
    """Returns the picture of a state of `env`, as a text or uint8 [H, W, 3].

    A state of Gymnasium is a picture that a worker drew.

    Raises:
      ConfigError: if drawing fails, or returns something else.
    """
    if isinstance(env, GymnasiumEnvironment):
        return state
    render = env.env.render
    try:
        takes_params = len(inspect.signature(render).parameters) > 1
    except (TypeError, ValueError):
        takes_params = True
    try:
        picture = render(state.game, env.default_params) if takes_params else render(state.game)
    except Exception as error:
        raise ConfigError(f"--env {env.name}: render {described(error)}") from error
    if isinstance(picture, str):
        return picture
    pixels = np.asarray(picture)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] not in (3, 4):
        raise ConfigError(
            f"--env {env.name}: render: expected a text or an image of shape (H, W, 3), came "
            f"{type(picture).__name__} of shape {pixels.shape}"
        )
    if pixels.dtype != np.uint8:  # numbers from 0 to 1
        pixels = np.clip(pixels.astype(np.float64) * 255, 0, 255).astype(np.uint8)
    return pixels[..., :3]


def gif(frames: Sequence[Frame], seconds: float) -> bytes:
    """Renders frames as the bytes of a GIF that loops forever.

    Args:
      frames: one or more, all texts or all images of one size.
      seconds: duration of a frame; GIF stores hundredths of a second.
    """
    pictures = [_picture(frame) for frame in frames]
    width, height = (max(picture.size[axis] for picture in pictures) for axis in (0, 1))
    pictures = [
        picture if picture.size == (width, height) else _padded(picture, width, height)
        for picture in pictures
    ]
    milliseconds = max(20, round(100 * seconds) * 10)
    durations = [milliseconds] * (len(pictures) - 1) + [max(milliseconds, round(1000 * LAST_SECONDS))]
    buffer = io.BytesIO()
    first, *rest = pictures
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def _picture(frame: Frame) -> Image.Image:
    if not isinstance(frame, str):
        image = Image.fromarray(frame)
        # Few pixels are enlarged, so that they can be seen.
        scale = max(1, 160 // max(1, min(image.size)))
        return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    size = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), frame)
    image = Image.new("RGB", (int(size[2]) + 16, int(size[3]) + 16), "white")
    ImageDraw.Draw(image).multiline_text((8, 8), frame, fill="black")
    return image


def _padded(picture: Image.Image, width: int, height: int) -> Image.Image:
    sheet = Image.new("RGB", (width, height), "white")
    sheet.paste(picture, (0, 0))
    return sheet
