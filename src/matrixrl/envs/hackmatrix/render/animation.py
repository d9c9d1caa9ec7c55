"""A game as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image

from matrixrl.envs.hackmatrix.referee.state import GameState
from matrixrl.envs.hackmatrix.render.picture import render_rgb
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts

COLOURS = 128
LAST_SECONDS = 3.0  # the end stays longer
SAMPLES = 6

Frame = tuple[GameState, Thoughts | None]


def render_gif(
    frames: Sequence[Frame], *, seconds: float = 0.5, scale: float = 1.0, reveal: bool = False
) -> bytes:
    """The bytes of a GIF that repeats for ever.

    Args:
      frames: positions in order, one or more, each with the thoughts to draw beside it; all of them with, or none.
      seconds: how long a frame is shown; GIF counts in hundredths.
      scale, reveal: as in `render_rgb`.
    """

    def picture(frame: Frame) -> Image.Image:
        return Image.fromarray(render_rgb(frame[0], scale=scale, reveal=reveal, thoughts=frame[1]))

    palette = _palette([picture(frame) for frame in _spread(frames, SAMPLES)])

    def pictures() -> Iterator[Image.Image]:
        for frame in frames:
            yield picture(frame).quantize(palette=palette, dither=Image.Dither.NONE)

    made = pictures()
    first, buffer = next(made), io.BytesIO()
    milliseconds = max(20, round(100 * seconds) * 10)
    durations = [milliseconds] * (len(frames) - 1) + [max(milliseconds, round(1000 * LAST_SECONDS))]
    first.save(buffer, "GIF", save_all=True, append_images=made, duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def _palette(samples: Sequence[Image.Image]) -> Image.Image:
    """One palette for all frames: what does not change between two of them keeps its colours, and costs nothing."""
    width, height = samples[0].size
    sheet = Image.new("RGB", (width, height * len(samples)))
    for index, sample in enumerate(samples):
        sheet.paste(sample, (0, index * height))
    # An octree keeps colours that cover few pixels, such as an enemy's.
    return sheet.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Up to `count` frames from first to last, evenly."""
    last = len(frames) - 1
    places = {round(last * index / (count - 1)) for index in range(count)}
    return [frames[place] for place in sorted(places)]
