"""Local dashboard: a page in the browser that shows runs from their journals alone.

The server (`server.create_app`, an ASGI application of Starlette) answers GET requests under `/api`
with JSON, streams which journals changed (`/api/events`), and serves the page: plain modules in
`static/`, nothing loaded from elsewhere and no build step. It reads journals and changes no run. No
module of this package imports JAX.

**How to add an endpoint.** Write a function from journals to JSON values in a module of this
package, and name it in one of the tables of `endpoints.py`:

- `ENDPOINTS["records"] = records`: answers `/api/records`. The function takes the `Dashboard` (all
  that the server keeps: `dashboard.store` knows the run folders) and the `Query` (the checked
  parameters of the request: `query.text("sort")`, `query.integer("limit", 50, 1, 500)`).
- `RUN_ENDPOINTS["games"] = games`: answers `/api/runs/RUN/games`. It takes the `Dashboard`, the
  folder of the run, which was looked up in the listing, and the `Query`.
- `STUDY_ENDPOINTS["curves"] = curves`: answers `/api/studies/STUDY/curves`. It takes the
  `Dashboard`, the `StudyEntry` of the listing, and the `Query`.

All run in a worker thread, one call at a time per thread, and may open a `JournalReader` for the
duration of the call. The value that they return is sent as JSON; NaN and infinities become null. A
`ConfigError` is answered with status 400 and its message, `NotFoundError` with 404, a
`JournalError` with 503. Never use a text of the request as a path: look it up in a listing. What
takes long or needs JAX runs in a child process (`audits.py` is an example).

**How to add a view.** Write a module in `static/views/` and name it in `static/views/index.js`,
either in `PAGES` (`#/records`) or in `TABS` of the page of a run (`#/runs/NAME/games`, with a
condition such as `run => run.system === 'matmul'`). A page module exports

    export const title = params => 'Records';
    export async function mount(container, params, context) { ...; return cleanup; }

and a tab module exports `mount(container, runs, context)`, where `runs` are the details of the
selected runs (`/api/runs/RUN`), the first one first. `context` has `signal` (aborted when the user
leaves), `onChange(names, callback)` (called when one of these journals grew, or
for `study:NAME` the record of a study), `navigate(hash)` and
`announce(text)` (read aloud by screen readers). `cleanup` is optional. `mount` fills the container
with `h()` of `lib/dom.js`, which sets text and attributes only: a run's name is never parsed as
HTML, and the content security policy forbids inline scripts and styles. `lib/` has the rest:
`api.js` (`getJson`), `chart.js` (`Chart`), `table.js` (`table`), `format.js` (numbers, times).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """`matrixrl.dashboard` is a public function and this package: it is called as the function."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return importlib.import_module("matrixrl.api").dashboard(*arguments, **settings)


sys.modules[__name__].__class__ = _CallablePackage
