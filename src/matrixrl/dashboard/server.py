"""The dashboard's server: an ASGI application that answers GET requests from journals.

Requests run in worker threads. Files of the page are read once, when the application is made: no
path from a request reaches the file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import mimetypes
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from matrixrl.config import ConfigError
from matrixrl.dashboard.changes import Broadcaster, ChangeDetector
from matrixrl.dashboard.endpoints import ENDPOINTS, QUESTIONS, RUN_ENDPOINTS, STUDY_ENDPOINTS, Dashboard
from matrixrl.dashboard.query import Download, NotFoundError, Query, as_json
from matrixrl.dashboard.security import Access, Guard
from matrixrl.dashboard.studies import StudyEntry
from matrixrl.tracking.journal import TrackingError

MAX_QUESTION_BYTES = 8_000_000
"""Maximum size of the content of a POST request."""

MEDIA_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".css": "text/css", ".html": "text/html"}


class StaticFile(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str
    etag: str


def create_app(
    runs_dir: Path,
    *,
    token: str | None = None,
    host: str = "127.0.0.1",
    allowed_hosts: Sequence[str] = (),
    framed_by: Sequence[str] = (),
) -> Starlette:
    """Returns the application.

    Args:
      runs_dir: folder that holds a folder per run; it need not exist yet.
      token: that a request must show, where other machines can connect.
      host: address that the server is bound to.
      allowed_hosts: further names of this server.
      framed_by: origins whose pages may show the dashboard in a frame.
    """
    dashboard = Dashboard(runs_dir)
    broadcaster = Broadcaster(ChangeDetector(dashboard.store))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # The first page is asked for in a moment, and a folder of thousands of runs takes one.
        reading = asyncio.create_task(asyncio.to_thread(dashboard.warm_up))
        yield
        await reading
        await broadcaster.close()
        dashboard.close()

    async def events(_: Request) -> Response:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(broadcaster.events(), media_type="text/event-stream", headers=headers)

    routes = [
        Route("/api/events", events),
        *(_route(f"/api/{name}", _endpoint(dashboard, answer)) for name, answer in ENDPOINTS.items()),
        *(
            _route(f"/api/runs/{{run}}{'/' if name else ''}{name}", _run_endpoint(dashboard, answer))
            for name, answer in RUN_ENDPOINTS.items()
        ),
        *(
            _route(f"/api/studies/{{study}}{'/' if name else ''}{name}", _study_endpoint(dashboard, answer))
            for name, answer in STUDY_ENDPOINTS.items()
        ),
        *(
            Route(f"/api/{name}", _question(dashboard, answer), methods=["POST"])
            for name, answer in QUESTIONS.items()
        ),
        *(Route(path, _static_file(file)) for path, file in static_files().items()),
    ]
    access = Access(
        token=token,
        host=host,
        allowed_hosts=tuple(allowed_hosts),
        framed_by=tuple(framed_by),
        questions=frozenset(f"/api/{name}" for name in QUESTIONS),
    )
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        lifespan=lifespan,
        exception_handlers={404: _not_found, 500: _failed},
    )
    app.state.broadcaster = broadcaster
    app.state.dashboard = dashboard
    return app


def _route(path: str, endpoint: Callable[[Request], Response]) -> Route:
    return Route(path, endpoint, methods=["GET"])


def _endpoint(
    dashboard: Dashboard, answer: Callable[[Dashboard, Query], Any]
) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        return _answered(lambda: answer(dashboard, _query(request)))

    return endpoint


def _run_endpoint(
    dashboard: Dashboard, answer: Callable[[Dashboard, Path, Query], Any]
) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        def work() -> Any:
            folder = dashboard.store.folder(request.path_params["run"])
            return answer(dashboard, folder, _query(request))

        return _answered(work)

    return endpoint


def _study_endpoint(
    dashboard: Dashboard, answer: Callable[[Dashboard, StudyEntry, Query], Any]
) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        def work() -> Any:
            entry = dashboard.studies.entry(request.path_params["study"])
            return answer(dashboard, entry, _query(request))

        return _answered(work)

    return endpoint


def _question(
    dashboard: Dashboard, answer: Callable[[Dashboard, Mapping[str, Any]], Any]
) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_QUESTION_BYTES:
                text = f"more than {MAX_QUESTION_BYTES / 1e6:.0f} MB were sent"
                return JSONResponse({"error": text}, 413, {"connection": "close"})

        def work() -> Any:
            try:
                content = json.loads(bytes(body))
            except (ValueError, RecursionError):
                raise ConfigError("the content of the request is not JSON") from None
            if not isinstance(content, dict):
                raise ConfigError("the content of the request must be a JSON object")
            return answer(dashboard, content)

        return await run_in_threadpool(_answered, work)

    return endpoint


def _query(request: Request) -> Query:
    return Query(request.query_params.multi_items())


def _answered(work: Callable[[], Any]) -> Response:
    """Returns the answer of an endpoint; one line for each error that a request can cause."""
    headers = {"cache-control": "no-store"}
    try:
        found = work()
    except NotFoundError as error:
        return JSONResponse({"error": str(error)}, 404, headers)
    except ConfigError as error:
        return JSONResponse({"error": str(error)}, 400, headers)
    except TrackingError as error:
        return JSONResponse({"error": str(error)}, 503, headers)
    except FileNotFoundError as error:  # a run that is deleted at this moment
        return JSONResponse({"error": f"{error.filename}: gone; is the run being deleted?"}, 404, headers)
    if isinstance(found, Download):
        name = urllib.parse.quote(found.name, safe="")
        headers["content-disposition"] = f"attachment; filename*=UTF-8''{name}"
        return StreamingResponse(iter(found.parts), media_type=found.media_type, headers=headers)
    body = json.dumps(as_json(found), allow_nan=False, separators=(",", ":"))
    return Response(body, media_type="application/json", headers=headers)


def _not_found(request: Request, _: Exception) -> Response:
    return JSONResponse({"error": f"nothing at {request.url.path[:200]}"}, 404)


def _failed(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the server failed ({type(error).__name__}); its terminal says more"}, 500)


# Files of the page


def static_files() -> dict[str, StaticFile]:
    """Returns the files of the page by path, `/` included."""
    root = resources.files("matrixrl.dashboard") / "static"
    found = dict(_walk(root, "/static"))
    return {"/": found["/static/index.html"], "/favicon.ico": found["/static/icon.svg"], **found}


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, StaticFile]]:
    found: list[tuple[str, StaticFile]] = []
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        path = f"{prefix}/{item.name}"
        if item.is_dir():
            found += _walk(item, path)
            continue
        content = item.read_bytes()
        suffix = Path(item.name).suffix
        media_type = MEDIA_TYPES.get(suffix) or mimetypes.guess_type(item.name)[0] or "text/plain"
        found.append((path, StaticFile(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:20]}"')))
    return found


def _static_file(file: StaticFile) -> Callable[[Request], Any]:
    headers: Mapping[str, str] = {"etag": file.etag, "cache-control": "no-cache"}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)

    return answer
