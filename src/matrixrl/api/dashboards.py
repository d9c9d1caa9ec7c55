"""The dashboard in a notebook: a server in the background, shown inline."""

from __future__ import annotations

import contextlib
import html
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from matrixrl.config import ConfigError, TrackingConfig, require

START_SECONDS = 20.0
"""Maximum time in seconds for the server to start."""

NOTEBOOKS = (
    "'self'",
    "http://localhost:*",
    "http://127.0.0.1:*",
    "https://localhost:*",
    "vscode-webview:",
)
"""Origins of notebooks on this machine, which may show the page in a frame."""


class LiveDashboard:
    """A dashboard that is being served from this process: what `matrixrl.dashboard` returns. As the
    last value of a notebook's cell it is shown inline. It ends with `stop()`, with a `with` block,
    and with the process.

    Example:
      >>> import matrixrl
      >>> with matrixrl.dashboard() as board:
      ...     board.url.startswith("http://127.0.0.1:")
      True
    """

    def __init__(self, runs_dir: Path, port: int, height: int, page: str = "") -> None:
        from matrixrl.cli.dashboard import DashboardCommand, make_server

        self._height = height
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(128)
        except OSError as error:
            self._listener.close()
            raise ConfigError(
                f"dashboard(port={port}): cannot be used ({error.strerror or error}); leave it out for a free one"
            ) from error
        self._server = make_server(DashboardCommand(runs_dir=runs_dir), None, framed_by=NOTEBOOKS)
        self._url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/{page}"
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="dashboard", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._server.started:
            self.stop()
            raise ConfigError(f"dashboard(): the server did not start in {START_SECONDS:.0f} s")

    @property
    def url(self) -> str:
        """Address of the page, for a browser on this machine."""
        return self._url

    @property
    def is_running(self) -> bool:
        """True until the dashboard is stopped."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stops the server. A second call does nothing.

        Example:
          >>> import matrixrl
          >>> board = matrixrl.dashboard()
          >>> board.stop()
          >>> board.is_running
          False
        """
        self._server.should_exit = True
        self._thread.join()
        with contextlib.suppress(OSError):
            self._listener.close()

    def __enter__(self) -> LiveDashboard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<dashboard {self.url}{'' if self.is_running else ', stopped'}>"

    def _repr_html_(self) -> str:
        address = html.escape(self.url, quote=True)
        if not self.is_running:
            return f"<p>The dashboard {address} is stopped.</p>"
        return (
            f'<iframe src="{address}" title="matrixrl dashboard" width="100%" height="{self._height}" '
            f'style="border: 1px solid #8888; border-radius: 6px"></iframe>'
            f'<p><a href="{address}" target="_blank" rel="noopener">Open the dashboard in a tab of its own</a></p>'
        )


def dashboard(
    run: str | os.PathLike[str] | None = None,
    *,
    runs_dir: str | os.PathLike[str] | None = None,
    port: int = 0,
    height: int = 720,
) -> LiveDashboard:
    """Serves the dashboard from this process and shows it inline in a notebook.

    Args:
      run: run or study whose page is shown: name, id or folder of a run, `latest`, or name or
        folder of a study; the list of runs without it.
      runs_dir: folder that holds one folder per run; default `runs`.
      port: to listen on, on this machine only; 0 takes a free one.
      height: of the frame in a notebook, in pixels.

    Returns:
      The dashboard, with `url` and `stop()`.

    Raises:
      ConfigError: if there is no such run or study, or the port cannot be used.

    Example:
      >>> import matrixrl
      >>> board = matrixrl.dashboard(height=900)
      >>> board.is_running
      True
      >>> board.stop()
    """
    require(0 <= port <= 65535, f"dashboard(port={port}): must be from 0 to 65535")
    require(100 <= height <= 10_000, f"dashboard(height={height}): must be from 100 to 10000 pixels")
    folder = Path(TrackingConfig().runs_dir if runs_dir is None else runs_dir)
    page = ""
    if run is not None:
        from matrixrl.api.runs import find_folder, run_location
        from matrixrl.studies.record import RECORD_FILE

        reference, folder = run_location(run, runs_dir)
        path = Path(run)
        if (path / RECORD_FILE).is_file():  # a study by its folder
            path = path.resolve()
            reference, folder = path.name, path.parent
        if (folder / reference / RECORD_FILE).is_file():
            page = f"#/studies/{quote(reference, safe='')}"
        else:
            page = f"#/runs/{quote(find_folder(reference, folder, flag='dashboard()').name, safe='')}"
    return LiveDashboard(folder, port, height, page)
