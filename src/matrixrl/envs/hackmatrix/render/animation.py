"""A game as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from PIL import Image

from matrixrl.envs.hackmatrix.referee.state import GameState
from matrixrl.envs.hackmatrix.render.picture import render_rgb
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts

COLOURS = 128
LAST_SECONDS = 3.0  # duration of the last frame
SAMPLES = 6

Frame = tuple[GameState, Thoughts | None]


def render_gif(
    frames: Sequence[Frame], *, seconds: float = 0.5, scale: float = 1.0, reveal: bool = False
) -> bytes:
    """Renders frames as the bytes of a GIF that loops forever.

    Args:
      frames: positions in order, one or more, each with the thoughts to draw next to it; all of
        them or none have thoughts.
      seconds: duration of a frame; GIF stores hundredths of a second.
      scale, reveal: as for `render_rgb`.
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
    """Computes one palette for all frames, so that unchanged pixels keep their colours and cost
    nothing.
    """
    width, height = samples[0].size
    sheet = Image.new("RGB", (width, height * len(samples)))
    for index, sample in enumerate(samples):
        sheet.paste(sample, (0, index * height))
    # The octree method keeps colours that cover few pixels, such as an enemy's.
    return sheet.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """Selects up to `count` frames, evenly spaced from first to last."""
    last = len(frames) - 1
    places = {round(last * index / (count - 1)) for index in range(count)}
    return [frames[place] for place in sorted(places)]
