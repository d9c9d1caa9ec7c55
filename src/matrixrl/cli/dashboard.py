"""`matrixrl dashboard`: a page in the browser that shows the runs of a folder as they happen."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from matrixrl.cli.progress import complain, say
from matrixrl.config import ConfigError, require
from matrixrl.tracking.identity import require_local
from matrixrl.tracking.numbers import plural

if TYPE_CHECKING:
    import uvicorn

DEFAULT_PORT = 8642
PORTS_TRIED = 20
"""Number of ports, from the default one, that are tried if no port is given."""

MIN_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class DashboardCommand:
    """Show the runs of a folder in the browser, as they happen. Nothing there changes a run."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    port: int | None = None
    """Port to listen on. 0 takes a free one. Default: 8642, or the next free one."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than this machine's own needs a token."""

    token: str | None = None
    """Token that browsers must show, of 16 characters or more. Default: a random one where other
    machines can connect, none otherwise.
    """

    allow_host: tuple[str, ...] = ()
    """Further names under which browsers reach this server, such as that of a proxy."""

    no_browser: bool = False
    """Do not open a browser."""

    def __post_init__(self) -> None:
        require(self.port is None or 0 <= self.port <= 65_535, f"--port {self.port}: must be from 0 to 65535")
        require(
            self.token is None
            or (len(self.token) >= MIN_TOKEN and self.token.isascii() and _is_plain(self.token)),
            f"--token: must be {MIN_TOKEN} letters, digits, - and _ or more; leave it out for a random one",
        )


def _is_plain(text: str) -> bool:
    return all(character.isalnum() or character in "-_" for character in text)


def run_command(command: DashboardCommand) -> int:
    """Serves until Ctrl-C; returns the exit status."""
    require_local(command.runs_dir)
    if command.runs_dir.exists() and not command.runs_dir.is_dir():
        raise ConfigError(f"--runs-dir {command.runs_dir}: is a file; name a folder of runs")
    from matrixrl.dashboard.security import is_loopback
    from matrixrl.dashboard.store import RunStore

    count = len(RunStore(command.runs_dir).folders())

    token = command.token
    if token is None and not is_loopback(command.host):
        token = secrets.token_urlsafe(24)
    with listening(command) as listener:
        address = _address(command.host, listener.getsockname()[1], token)
        server = make_server(command, token)
        if not is_loopback(command.host):
            complain("warning: other machines can connect; whoever has the address below sees all runs")
        where = f"{command.runs_dir} ({plural(count, 'run')})" if count else _how_to_begin(command.runs_dir)
        say(f"dashboard of {where}\n{address}\nstop with Ctrl-C")
        if not command.no_browser:
            _open_when_started(server, address)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    return 0


def _how_to_begin(runs_dir: Path) -> str:
    """Returns what to say about a folder without runs."""
    kind = "without runs so far" if runs_dir.exists() else "which does not exist yet"
    return f"{runs_dir}, {kind}; begin with: matrixrl matmul train --preset quick"


def make_server(
    command: DashboardCommand, token: str | None, framed_by: Sequence[str] = ()
) -> uvicorn.Server:
    """Returns the server, which ends its streams before it stops.

    Args:
      framed_by: origins whose pages may show the dashboard in a frame.
    """
    import uvicorn

    from matrixrl.dashboard.server import create_app

    app = create_app(
        command.runs_dir,
        token=token,
        host=command.host,
        allowed_hosts=command.allow_host,
        framed_by=framed_by,
    )

    class DashboardServer(uvicorn.Server):
        """Ends streams of changes first: a page that stays open would delay the end."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Stops serving."""
            await app.state.broadcaster.close()
            await super().shutdown(sockets)

    settings: dict[str, Any] = {"log_level": "warning", "access_log": False, "ws": "none", "http": "h11"}
    return DashboardServer(uvicorn.Config(app, timeout_graceful_shutdown=2, server_header=False, **settings))


@contextlib.contextmanager
def listening(command: DashboardCommand) -> Iterator[socket.socket]:
    """Yields a socket that listens.

    Raises:
      ConfigError: if the address cannot be used; the message names the port and what to do.
    """
    first = DEFAULT_PORT if command.port is None else command.port
    tried = range(first, first + (PORTS_TRIED if command.port is None else 1))
    try:
        family = socket.getaddrinfo(command.host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError as error:
        raise ConfigError(f"--host {command.host}: not an address of this machine ({error})") from error
    for port in tried:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((command.host, port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE and port != tried[-1]:
                continue
            raise _unusable(command, port, error) from error
        with contextlib.closing(listener):
            yield listener
        return


def _unusable(command: DashboardCommand, port: int, error: OSError) -> ConfigError:
    """Returns the error for an address that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"--port {port}: in use on {command.host}, perhaps by another dashboard; choose another one, or 0 for a free one"
        )
    if error.errno == errno.EACCES:
        return ConfigError(f"--port {port}: not allowed for this user; choose one from 1024 to 65535")
    return ConfigError(f"--host {command.host} --port {port}: {error.strerror or error}")


def _address(host: str, port: int, token: str | None) -> str:
    """Returns the address to open."""
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/{f'?token={quote(token)}' if token else ''}"


def _open_when_started(server: uvicorn.Server, address: str) -> None:
    """Opens the page in a browser, from a thread: some browsers do not return at once."""

    def open_page() -> None:
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(address)

    threading.Timer(0.5, open_page).start()
