"""A W&B server for the loopback: answers what wandb asks, stores what it gets, and fails on command.

It holds runs, their history lines by offset, files, and artifacts in memory, so that a test can compare. The answers are
those of wandb 0.31; an operation that it does not know is answered with an error and kept in `unknown`.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

API_KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "loopback"


@dataclass
class StoredRun:
    """What the server holds of one run."""

    name: str
    project: str
    display_name: str = ""
    config: str = "{}"
    summary: str = "{}"
    history: dict[int, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    exit_code: int | None = None
    upserts: int = 0
    sweep: str | None = None
    stopped: bool = False

    def rows(self) -> list[dict[str, Any]]:
        """History rows in the order of their offsets."""
        return [json.loads(self.history[offset]) for offset in sorted(self.history)]


@dataclass
class StoredArtifact:
    """What the server holds of one artifact."""

    identity: str
    name: str
    kind: str
    digest: str
    aliases: list[str]
    metadata: str
    project: str
    version: int
    run: str = ""
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""


class RefusalError(Exception):
    """A request that W&B answers with an HTTP error that no later try changes."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class LoopbackServer:
    """Serves on a port of 127.0.0.1 until closed. Use as a context manager.

    Attributes:
        runs: by run id.
        artifacts: by artifact id, in order.
        fault: None, or `500`, `429`, `cut` (half an answer), `hang` (accepts, never answers).
        delay_seconds: how long every answer takes.
        requests: how many requests came.
        deleted_runs: ids that no new run gets.
    """

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.created: dict[str, int] = {}
        self.deleted: list[str] = []
        self.deleted_runs: set[str] = set()
        self.unknown: list[str] = []
        self.fault: str | None = None
        self.delay_seconds = 0.0
        self.requests = 0
        self.lock = threading.RLock()
        self._listener: ThreadingHTTPServer | None = None
        self.port = 0
        self.listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this server and to none else."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "WANDB_MODE": "online"}

    def agent_environment(self, folder: Path, run_id: str, parameters: dict[str, Any]) -> dict[str, str]:
        """What `wandb agent` exports to a trial; the server has made the trial's run, without a row."""
        self.runs.setdefault(run_id, StoredRun(run_id, "swept", sweep="sweep001"))
        path = folder / f"config-{run_id}.yaml"
        lines = [f"{name}:\n  value: {json.dumps(value)}\n" for name, value in parameters.items()]
        path.write_text("wandb_version: 1\n" + "".join(lines))
        return {
            **self.environment,
            "WANDB_SWEEP_ID": "sweep001",
            "WANDB_RUN_ID": run_id,
            "WANDB_PROJECT": "swept",
            "WANDB_ENTITY": ENTITY,
            "WANDB_SWEEP_PARAM_PATH": str(path),
        }

    def delete_run(self, run_id: str) -> None:
        """Delete a run as its page does; its id is never given out again."""
        del self.runs[run_id]
        self.deleted_runs.add(run_id)

    def listen(self) -> None:
        """Accept connections (again, on the same port)."""
        server = self
        self.fault = None

        class Bound(Handler):
            loopback = server

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that was killed leaves a broken pipe: nothing to tell."""

        self._listener = Listener(("127.0.0.1", self.port), Bound)
        self.port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True).start()

    def refuse(self) -> None:
        """Refuse connections until `listen`; those that are open are cut at their next request."""
        self.fault = "refuse"
        if self._listener is not None:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None

    @contextmanager
    def failing(self, fault: str):
        """Fail in the given way inside the `with` block."""
        if fault == "refuse":
            self.refuse()
        else:
            self.fault = fault
        try:
            yield
        finally:
            if fault == "refuse":
                self.listen()
            self.fault = None

    def __enter__(self) -> LoopbackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def graphql(self, operation: str, query: str, v: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a GraphQL operation, or None where it is not known."""
        answer = getattr(self, "on_" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).lower(), None)
        if answer is None:
            self.unknown.append(f"{operation}: {query}")
            return None
        with self.lock:
            return answer(v)

    # What follows is one method per operation; field names are those of the W&B schema.

    def on_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        who = {
            "id": "viewer",
            "entity": ENTITY,
            "username": ENTITY,
            "name": ENTITY,
            "email": "",
            "admin": False,
        }
        return {"viewer": {**who, "flags": "{}", "teams": teams, "apiKeys": {"edges": []}, "deletedAt": None}}

    def on_get_default_entity(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "viewer", "entity": ENTITY}}

    def on_organization_core_weave_organization_id(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def on_artifact_type(self, v: dict[str, Any]) -> dict[str, Any]:
        kinds = [a.kind for a in self.artifacts.values() if a.name == v["name"].split("/")[-1].split(":")[0]]
        return {"project": {"artifact": {"artifactType": {"name": kinds[0]}} if kinds else None}}

    def on_server_features_query(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def on_run_resume_status(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(v["name"])
        bucket = None
        if run is not None and run.project == v.get("project", run.project) and run.config != "{}":
            tail = [run.history[offset] for offset in sorted(run.history)][-1:]
            bucket = {
                "id": f"run-{run.name}", "name": run.name, "displayName": run.display_name,
                "summaryMetrics": run.summary, "logLineCount": 0, "historyLineCount": len(run.history),
                "eventsLineCount": 0, "historyTail": json.dumps(tail), "eventsTail": "[]", "config": run.config,
                "tags": [], "notes": None, "wandbConfig": "{\"t\": 1}",
            }  # fmt: skip
        entity = {"id": "entity", "name": ENTITY}
        return {"model": {"id": "project", "name": v.get("project"), "entity": entity, "bucket": bucket}}

    def on_upsert_bucket(self, v: dict[str, Any]) -> dict[str, Any]:
        name = v.get("name") or v["id"].removeprefix("run-")
        if (entity := v.get("entity") or ENTITY) != ENTITY:
            raise RefusalError(404, f"entity {entity} not found during upsertBucket")
        if name in self.deleted_runs:
            raise RefusalError(409, f"run {name} was previously created and deleted; try a new run name")
        if (project := v.get("project")) and set(project) & set("/\\#?%:"):
            raise RefusalError(400, f"invalid project name {project}")
        inserted = name not in self.runs
        run = self.runs.setdefault(name, StoredRun(name, v.get("project") or "uncategorized"))
        run.upserts += 1
        run.sweep = v.get("sweep") or run.sweep
        run.display_name = v.get("displayName") or run.display_name
        run.config = v.get("config") or run.config
        run.summary = v.get("summaryMetrics") or run.summary
        project = {"id": "project", "name": run.project, "entity": {"id": "entity", "name": ENTITY}}
        bucket = {
            "id": f"run-{name}", "name": name, "displayName": run.display_name, "description": None,
            "config": run.config, "sweepName": None, "project": project, "historyLineCount": len(run.history),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def on_create_run_files(self, v: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": n, "uploadUrl": f"{self.url}/put/run/{v['run']}/{n}"} for n in v["files"]]
        return {"createRunFiles": {"runID": f"run-{v['run']}", "uploadHeaders": [], "files": files}}

    def on_create_artifact(self, v: dict[str, Any]) -> dict[str, Any]:
        given = v["input"]
        name = given["artifactCollectionName"]
        there = [
            a
            for a in self.artifacts.values()
            if a.name == name and a.digest == given["digest"] and a.state == "COMMITTED"
        ]
        if there:
            artifact = there[0]
        else:
            number = sum(self.created.values()) + 1
            identity = base64.b64encode(f"Artifact:{number}".encode()).decode()
            aliases = [alias["alias"] for alias in given.get("aliases") or []]
            kind = given["artifactTypeName"]
            artifact = StoredArtifact(
                identity,
                name,
                kind,
                given["digest"],
                aliases,
                given.get("metadata") or "{}",
                given["projectName"],
                self.created.get(name, 0),
                given.get("runName") or "",
            )
            self.created[name] = self.created.get(name, 0) + 1
            self.artifacts[identity] = artifact
        return {
            "createArtifact": {
                "artifact": {
                    "id": artifact.identity, "state": artifact.state, "digest": artifact.digest,
                    "artifactSequence": {"id": "sequence", "latestArtifact": None}, "versionIndex": 0,
                }
            }
        }  # fmt: skip

    def on_create_artifact_manifest(self, v: dict[str, Any]) -> dict[str, Any]:
        url = f"{self.url}/put/manifest/{v['artifactID']}/{v['name']}"
        file = {"id": "file", "uploadUrl": url, "uploadHeaders": []}
        identity = f"manifest-{v['artifactID']}"
        return {"createArtifactManifest": {"artifactManifest": {"id": identity, "file": file}}}

    def on_update_artifact_manifest(self, v: dict[str, Any]) -> dict[str, Any]:
        identity = v["artifactManifestID"]
        url = f"{self.url}/put/manifest/{identity.removeprefix('manifest-')}/updated"
        file = {"id": "file", "uploadUrl": url, "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": identity, "file": file}}}

    def on_create_artifact_files(self, v: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in v["input"]["artifactFiles"]:
            identity, name = spec["artifactID"], spec["name"]
            url = f"{self.url}/put/artifact/{identity}/{name}"
            node = {"storagePath": f"storage/{identity}/{name}", "uploadUrl": url, "uploadHeaders": []}
            edges.append({"node": {**node, "uploadMultipartUrls": None, "artifact": {"id": identity}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_commit_artifact(self, v: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[v["artifactID"]]
        artifact.state = "COMMITTED"
        if "latest" in artifact.aliases:
            for other in self.artifacts.values():
                if other is not artifact and other.name == artifact.name and "latest" in other.aliases:
                    other.aliases.remove("latest")
        return {"commitArtifact": {"artifact": {"id": artifact.identity, "digest": artifact.digest}}}

    def on_artifact_by_id(self, v: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": self.described(self.artifacts[v["id"]])}

    def described(self, artifact: StoredArtifact) -> dict[str, Any]:
        """An artifact with the fields of W&B's ArtifactFragment."""
        project = {"id": "project", "internalId": "1", "name": artifact.project, "entity": {"name": ENTITY}}
        collection = {"__typename": "ArtifactSequence", "name": artifact.name, "project": project}
        aliases = [
            {"__typename": "ArtifactAlias", "id": a, "alias": a, "artifactCollection": collection}
            for a in artifact.aliases
        ]
        size = sum(map(len, artifact.files.values()))
        now = "2026-01-01T00:00:00"
        return {
            "__typename": "Artifact", "id": artifact.identity, "artifactSequence": collection,
            "versionIndex": artifact.version, "artifactType": {"name": artifact.kind}, "description": None,
            "metadata": artifact.metadata, "ttlDurationSeconds": 0, "ttlIsInherited": False, "tags": [],
            "historyStep": None, "state": artifact.state, "size": size, "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5", "commitHash": "0", "fileCount": len(artifact.files), "createdAt": now,
            "updatedAt": now, "aliases": aliases,
        }  # fmt: skip

    def on_artifact_membership_by_name(self, v: dict[str, Any]) -> dict[str, Any]:
        name, _, version = v["name"].partition(":")
        found = [
            a for a in self.artifacts.values()
            if a.name == name and (version == f"v{a.version}" or version in a.aliases)
        ]  # fmt: skip
        if not found:
            return {"project": {"artifactCollectionMembership": None}}
        artifact = self.described(found[-1])
        membership = {
            "__typename": "ArtifactCollectionMembership", "id": f"membership-{found[-1].identity}",
            "versionIndex": found[-1].version, "createdAt": artifact["createdAt"], "aliases": artifact["aliases"],
            "artifactCollection": artifact["artifactSequence"], "artifact": artifact,
        }  # fmt: skip
        return {"project": {"artifactCollectionMembership": membership}}

    def on_run_output_artifacts(self, v: dict[str, Any]) -> dict[str, Any]:
        """Two on a page, so that a client has to turn pages."""
        found = [a for a in self.artifacts.values() if a.run == v["run"]]
        first = int(v.get("cursor") or 0)
        edges = [{"node": self.described(a)} for a in found[first : first + 2]]
        page = {
            "__typename": "PageInfo",
            "endCursor": str(first + 2),
            "hasNextPage": first + 2 < len(found),
        }
        connection = {"totalCount": len(found), "pageInfo": page, "edges": edges}
        return {"project": {"run": {"artifacts": connection}}}

    def on_get_artifact_membership_file_urls(self, v: dict[str, Any]) -> dict[str, Any]:
        (found,) = [
            a for a in self.artifacts.values() if a.name == v["collection"] and v["alias"] == f"v{a.version}"
        ]
        edges = [
            {
                "node": {
                    "__typename": "File",
                    "name": name,
                    "directUrl": f"{self.url}/artifact/{found.identity}/{name}",
                }
            }
            for name in found.files
        ]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        membership = {"files": {"pageInfo": page, "edges": edges}}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": membership}
        return {"project": {"artifactCollection": collection}}

    def on_fetch_artifact_manifest(self, v: dict[str, Any]) -> dict[str, Any]:
        file = {"directUrl": f"{self.url}/manifest/{v['id']}"}
        return {"artifact": {"currentManifest": {"file": file}}}

    def on_delete_artifact(self, v: dict[str, Any]) -> dict[str, Any]:
        identity = v["input"]["artifactID"]
        artifact = self.artifacts.pop(identity)
        self.deleted.append(artifact.name)
        return {"result": {"artifact": {"id": identity}}}

    def on_run(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(v["name"])
        if run is None or run.project != v.get("project", run.project):
            return {"project": {"run": None}}
        steps = [row.get("_step", 0) for row in run.rows()]
        now = "2026-01-01T00:00:00"
        fields = {
            "id": f"run-{run.name}", "tags": [], "name": run.name, "displayName": run.display_name, "sweepName": None,
            "state": "finished" if run.complete else "running", "config": run.config, "group": None, "jobType": None,
            "commit": None, "readOnly": False, "createdAt": now, "heartbeatAt": now, "description": None, "notes": None,
            "systemMetrics": "{}", "summaryMetrics": run.summary, "historyLineCount": len(run.history),
            "lastHistoryStep": max(steps, default=-1), "user": {"name": ENTITY, "username": ENTITY},
            "historyKeys": {"lastStep": max(steps, default=-1), "keys": {}}, "projectId": "1",
        }  # fmt: skip
        return {"project": {"internalId": "1", "run": fields}}

    def on_run_history_keys(self, v: dict[str, Any]) -> dict[str, Any]:
        steps = [row.get("_step", -1) for row in self.runs[v["name"]].rows()]
        return {"project": {"run": {"historyKeys": {"lastStep": max(steps, default=-1), "keys": {}}}}}

    def on_run_parquet_history(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": []}}}}

    def on_history_page(self, v: dict[str, Any]) -> dict[str, Any]:
        rows = self.runs[v["run"]].rows()
        page = [json.dumps(row) for row in rows if v["minStep"] <= row.get("_step", -1) < v["maxStep"]]
        return {"project": {"run": {"history": page}}}

    def on_run_files(self, v: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[v["name"]]
        names = v.get("fileNames") or sorted(run.files)
        edges = [
            {
                "node": {
                    "id": name, "name": name, "url": f"{self.url}/get/{run.name}/{name}", "mimetype": None, "md5": "",
                    "directUrl": f"{self.url}/get/{run.name}/{name}", "updatedAt": None, "sizeBytes": len(run.files[name]),
                },
                "cursor": name,
            }
            for name in names
            if name in run.files
        ]  # fmt: skip
        page = {"endCursor": None, "hasNextPage": False}
        return {
            "project": {
                "internalId": "1",
                "run": {"fileCount": len(edges), "files": {"edges": edges, "pageInfo": page}},
            }
        }


class Handler(BaseHTTPRequestHandler):
    """HTTP to the methods of `LoopbackServer`."""

    protocol_version = "HTTP/1.1"
    loopback: LoopbackServer

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, content: Any, status: int = 200) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.loopback.fault == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    def faulty(self) -> bool:
        """Count the request, wait, and fail as commanded. Whether it failed without doing anything."""
        server = self.loopback
        server.requests += 1
        if server.delay_seconds:
            time.sleep(server.delay_seconds)
        while server.fault == "hang":
            time.sleep(0.05)
        if server.fault == "refuse":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return True
        if server.fault in ("500", "429"):
            self.body()
            self.answer({"error": "commanded to fail"}, int(server.fault))
            return True
        return False

    def authorized(self) -> bool:
        given = self.headers.get("Authorization", "")
        good = base64.b64encode(f"api:{API_KEY}".encode()).decode()
        return given == f"Basic {good}"

    def do_POST(self) -> None:
        if self.faulty():
            return
        data = self.body()
        if not self.authorized():
            self.answer({"errors": [{"message": "user is not logged in"}]}, 401)
            return
        server = self.loopback
        if self.path.endswith("/graphql"):
            request = json.loads(data)
            query = request["query"]
            name = request.get("operationName") or query.split("(")[0].split("{")[0].split()[-1]
            try:
                answer = server.graphql(name, query, request.get("variables") or {})
            except RefusalError as refusal:
                self.answer({"errors": [{"message": str(refusal)}]}, refusal.status)
                return
            if answer is None:
                self.answer({"errors": [{"message": f"unknown operation {name}"}]})
            else:
                self.answer({"data": answer})
        elif self.path.endswith("/file_stream"):
            name = self.path.split("/")[-2]
            with server.lock:
                self.store(server.runs[name], json.loads(data))
            self.answer({"limits": {}, "stopped": server.runs[name].stopped})
        else:
            self.answer({"error": "not found"}, 404)

    @staticmethod
    def store(run: StoredRun, request: dict[str, Any]) -> None:
        """Store the lines of a file stream request by their offsets."""
        for file, chunk in (request.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                for index, line in enumerate(chunk["content"]):
                    run.history[chunk["offset"] + index] = line
            elif file == "wandb-summary.json":
                run.summary = chunk["content"][-1]
        if request.get("complete"):
            run.complete = True
            run.exit_code = request.get("exitcode")

    def do_PUT(self) -> None:
        if self.faulty():
            return
        data = self.body()
        _, _, kind, identity, name = unquote(self.path).split("/", 4)
        with self.loopback.lock:
            if kind == "run":
                self.loopback.runs[identity].files[name] = data
            elif kind == "artifact":
                self.loopback.artifacts[identity].files[name] = data
            else:
                self.loopback.artifacts[identity].manifest = data
        self.answer({})

    def do_GET(self) -> None:
        if self.faulty():
            return
        parts = unquote(self.path).split("/", 3)
        if parts[1] == "get":
            self.answer(self.loopback.runs[parts[2]].files[parts[3]])
        elif parts[1] == "artifact":
            identity, name = parts[2], parts[3]
            self.answer(self.loopback.artifacts[identity].files[name])
        elif parts[1] == "manifest":
            self.answer(self.loopback.artifacts[parts[2]].manifest)
        else:
            self.answer({"ok": True})
