"""`matrixrl.discover`: schemes as they are proved, from a search or a training in the
background.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from matrixrl.api.runs import Run, find_folder, run_location
from matrixrl.api.settings import TrainingSettings, flip, is_setting, matmul
from matrixrl.api.training import run_embedded
from matrixrl.cli.embedding import Embedding
from matrixrl.config import ConfigError
from matrixrl.tracking.identity import read_run_file

if TYPE_CHECKING:
    from matrixrl.schemes.scheme import Scheme
    from matrixrl.tracking.recorder import Recorder

Engine = Literal["auto", "flips", "agent"]

_POLL_SECONDS = 0.5  # a wait without a limit would not hear an interrupt on every system


class Discovery(Generator["Scheme", None, None]):
    """Generator of proved schemes: what `matrixrl.discover` returns.

    The training begins at the first `next`, and runs in a thread of its own.

    `close`, the end of a `with` block, an interrupt, and the end of the program finish the chunk
    and save; the run can then be resumed.

    Args:
      settings: of the run.
      every: True for every different solution.

    Example:
      >>> import matrixrl
      >>> with matrixrl.discover(size=(1, 1, 2), time="1s") as found:
      ...     found.run is None
      True
    """

    def __init__(self, settings: TrainingSettings, every: bool) -> None:
        self._search = _Search(settings, every)
        # A generator that is dropped, or still open when the program ends, is closed.
        self._finalizer = weakref.finalize(self, self._search.stop)

    @property
    def run(self) -> Run | None:
        """The run, once it is open; None before."""
        return self._search.run

    def send(self, value: None = None) -> Scheme:
        """Returns the next proved scheme, as `next` does.

        Args:
          value: unused.

        Returns:
          The scheme.

        Raises:
          StopIteration: at the end of the training.
          ConfigError: if the run cannot be opened.
          TrainingError: if the training diverged, or could not be saved.

        Example:
          >>> import matrixrl
          >>> found = matrixrl.discover(size=(1, 1, 2), console="quiet")
          >>> next(found).rank
          2
          >>> found.close()
        """
        del value
        if not self._finalizer.alive:
            raise StopIteration
        try:
            item = self._search.next_item()
        except BaseException:  # an interrupt ends the training, too
            self.close()
            raise
        if item is not None:
            return item
        self.close()
        if self._search.error is not None:
            raise self._search.error
        raise StopIteration

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> NoReturn:
        """Closes the generator, and raises an exception.

        Args:
          typ: the exception, or its type.
          val, tb: value and traceback, if a type is given.

        Raises:
          BaseException: the given one.

        Example:
          >>> import matrixrl
          >>> matrixrl.discover(size=(1, 1, 2)).throw(KeyError("enough"))
          Traceback (most recent call last):
          KeyError: 'enough'
        """
        self.close()
        if isinstance(typ, BaseException):
            raise typ
        error = val if isinstance(val, BaseException) else typ() if val is None else typ(val)
        raise error.with_traceback(tb)

    def close(self) -> None:
        """Stops the training after its chunk, saves, and waits for that. Further calls do nothing.

        Example:
          >>> import matrixrl
          >>> matrixrl.discover(size=(1, 1, 2)).close()
        """
        self._finalizer()

    def __enter__(self) -> Discovery:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Search:
    """The training of a `Discovery`, in a thread; it keeps no reference to the generator.

    Attributes:
      run: once it is open.
      error: that ended the training.
    """

    def __init__(self, settings: TrainingSettings, every: bool) -> None:
        self._settings, self._every = settings, every
        self._items: queue.SimpleQueue[Scheme | None] = queue.SimpleQueue()
        self._embedding = Embedding(self._listen)
        self._thread: threading.Thread | None = None
        self.run: Run | None = None
        self.error: BaseException | None = None

    def next_item(self) -> Scheme | None:
        """Returns the next scheme, and starts the training if necessary; None at its end."""
        if self._thread is None:
            context = contextvars.copy_context()
            # A daemon: the interpreter does not wait for it before the generator is closed.
            self._thread = threading.Thread(
                target=context.run, args=(self._train,), name="discover", daemon=True
            )
            self._thread.start()
        while True:
            with contextlib.suppress(queue.Empty):
                return self._items.get(timeout=_POLL_SECONDS)

    def stop(self) -> None:
        """Stops the training after its chunk, and waits until it is saved."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._embedding.ask_to_stop("discover() was closed")
            thread.join()

    def _train(self) -> None:
        try:
            self.run = run_embedded(self._settings, self._embedding)
        except BaseException as error:  # noqa: BLE001 raised in the thread that iterates
            self.error = error
        finally:
            self._items.put(None)

    def _listen(self, run: Recorder, trainer: Any) -> None:
        """Receives the open run in the training's thread."""
        self.run = Run(run.directory)
        for discoveries in trainer.discoveries:
            if self._every:
                discoveries.on_solution = self._items.put
            else:
                discoveries.on_better = self._items.put


def discover(
    *,
    size: tuple[int, int, int] | None = None,
    tensor: Any = None,
    ring: str | None = None,
    target_rank: int | None = None,
    time: str | float | None = None,
    every: bool = False,
    engine: Engine = "auto",
    **settings: Any,
) -> Discovery:
    """Returns a generator of proved schemes, in the order in which a search finds them.

    Each one is better than those before it: of a lower rank, or of the same rank over the integers
    instead of modulo 2. All are proved exactly, and stored in the run folder with their provenance.

    Args:
      size: format n m p: an n x m matrix times an m x p matrix. Default: 2 2 2.
      tensor: instead of `size`: an array of integers with three axes, the name of a built-in
        problem, or a file.
      ring: `F2`, with lifting to the integers, or `Z`.
      target_rank: rank at which the search ends. Default: the best known rank.
      time: maximum time, such as `10m`, or in seconds.
      every: True for every different solution of the lowest rank so far, in the ring of the search.
      engine: `flips`: random walks on flip graphs, the faster one on every format that was
        measured. `agent`: a training. `auto`: flips, unless a keyword is a setting of a training
        alone, or the run to resume is a training.
      settings: further keywords of `matrixrl.flip`, or of `matrixrl.matmul`, such as
        `preset="discover"`.

    Returns:
      The generator. Closing it stops the search and saves; its `run` is the run.

    Raises:
      ConfigError: if a keyword is unknown or a value is not allowed.

    Example:
      >>> import matrixrl
      >>> for found in matrixrl.discover(size=(1, 1, 2), console="quiet"):
      ...     print(found.rank)
      2
    """
    if engine not in ("auto", "flips", "agent"):
        raise ConfigError(f"discover(): engine={engine!r}: must be auto, flips or agent")
    named = {"size": size, "tensor": tensor, "ring": ring}
    given = {name: value for name, value in named.items() if value is not None}
    if time is not None:
        given["time"] = time if isinstance(time, str) else f"{time:g}s"
    walks = engine == "flips" or (engine == "auto" and _may_walk(settings))
    target = "target_rank" if walks else "stop_at_rank"
    if target_rank is not None:
        given[target] = target_rank
    for name in given.keys() & settings.keys():
        raise ConfigError(f"discover(): target_rank and {name} are one setting; leave one out")
    return Discovery((flip if walks else matmul)(**given, **settings), every)


def _may_walk(settings: dict[str, Any]) -> bool:
    """Returns whether walks on flip graphs have all of these settings, and resume the run that they
    name.
    """
    reference = settings.get("resume_run")
    if reference is not None:
        name, folder = run_location(reference, settings.get("runs_dir"))
        found = find_folder(name, folder, flag="discover(): resume_run=")
        return (read_run_file(found) or {}).get("system") == "flip"
    return all(is_setting("flip", name) for name in settings)
