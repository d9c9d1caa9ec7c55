"""`/api/runs`, `/api/sparklines`, `/api/runs/RUN` and `/api/settings`: what they say of journals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

from matrixrl.dashboard import store
from matrixrl.dashboard.server import create_app
from matrixrl.dashboard.store import RunStore
from matrixrl.systems.ppo.spec import SPEC
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.summary import summarize
from tests.cli.runs_made import make_run, open_made
from tests.dashboard.client import Client
from tests.dashboard.runs_made import CLIMB, HOSTILE_FOLDERS, SCRIPT, returns


def test_every_run_is_listed_with_its_summary(client: Client, runs_dir: Path) -> None:
    answer = client.get("/api/runs").json()
    assert answer["total"] == len(answer["runs"]) == len(list(runs_dir.iterdir()))
    rows = {row["key"]: row for row in answer["runs"]}
    for key in ("seed-1", "other-rate", "matmul-1"):
        summary = summarize(runs_dir / key)
        row = rows[key]
        assert (row["name"], row["id"], row["system"]) == (summary.name, summary.run_id, summary.system)
        assert (row["state"], row["step"], row["best"]) == (summary.state, summary.last_step, summary.best)
    assert rows["other-rate"]["state"] == "crashed"
    assert rows["matmul-1"]["lowest"]
    assert not rows["seed-1"]["lowest"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=seed&sort=name", ["seed-0", "seed-1", "seed-2"]),
        ("q=seed&sort=name&reverse=1", ["seed-2", "seed-1", "seed-0"]),
        ("q=seed&sort=best", ["seed-2", "seed-1", "seed-0"]),
        ("q=SEED%20ppo&sort=started", ["seed-2", "seed-1", "seed-0"]),
        ("system=matmul", ["matmul-1"]),
        ("state=crashed", ["other-rate"]),
        ("state=crashed&system=matmul", []),
        ("q=seed&sort=age", ["seed-2", "seed-1", "seed-0"]),
    ],
)
def test_runs_are_filtered_and_sorted(client: Client, query: str, expected: list[str]) -> None:
    answer = client.get(f"/api/runs?{query}").json()
    assert [row["key"] for row in answer["runs"]] == expected
    assert answer["systems"] == ["matmul", "ppo"]


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        ("runs?sort=nonsense", 400, "age, name, state"),
        ("runs?reverse=maybe", 400, "reverse"),
        ("runs/nothing", 404, "nothing"),
        ("runs/..", 404, ""),
        ("series?run=seed-0&metric=episode/return&points=1e9", 400, "points"),
        ("series?run=seed-0&metric=episode/return&from=nan", 400, "from"),
        ("series?run=seed-0&metric=episode/return&from=5&to=1", 400, "below"),
        ("series?run=nothing&metric=episode/return", 404, "nothing"),
        ("series.csv?run=seed-0", 400, "metric"),
        ("settings", 400, "run"),
        ("runs/matmul-1/episodes?sort=nonsense", 400, "Global Episode"),
        ("runs/matmul-1/episodes?count=1000000", 400, "count"),
        ("runs/matmul-1/episodes?where=Reward", 400, "COLUMN:CONDITION"),
        ("runs/matmul-1/episodes?where=Reward:many", 400, "a number"),
        ("runs/matmul-1/episodes?where=Solved:perhaps", 400, "yes or no"),
        ("runs/matmul-1/console?kind=nonsense", 400, "epoch"),
        ("nonsense", 404, "nothing at"),
        (f"runs?q={'x' * 3000}", 400, "at most"),
    ],
)
def test_bad_requests_get_one_line(client: Client, path: str, status: int, named: str) -> None:
    response = client.get(f"/api/{path}")
    assert response.status_code == status
    error = response.json()["error"]
    assert named in error
    assert "\n" not in error
    assert "Traceback" not in error


def test_a_run_is_found_by_its_id(client: Client) -> None:
    by_name = client.get("/api/runs/seed-1").json()
    assert client.get(f"/api/runs/{by_name['id']}").json()["key"] == "seed-1"


def test_details_of_a_run(client: Client, runs_dir: Path) -> None:
    run = client.get("/api/runs/seed-1").json()
    assert run["settings"]["seed"] == 1
    assert run["settings"]["ppo.num_envs"] == 16
    assert run["columns"]["Global Episode"] == "int"
    assert "episode/return" in run["charts"]
    assert [attempt["status"] for attempt in run["attempts_list"]] == ["finished"]
    assert run["run_dir"] == str(runs_dir / "seed-1")
    assert not run["damage"]
    many = client.get("/api/runs/many").json()
    assert many["points"] == ["learning_rate 1e-4", "learning_rate 1e-3"]
    assert many["num_seeds"] == 2


def test_settings_are_compared_and_seeds_grouped(client: Client) -> None:
    keys = ["seed-0", "seed-1", "other-rate"]
    answer = client.get("/api/settings", params={"run": keys}).json()
    rows = {row["name"]: row for row in answer["names"]}
    assert rows["ppo.learning_rate"]["differ"]
    assert rows["ppo.learning_rate"]["values"][2] == 0.01
    assert rows["seed"]["values"] == [0, 1, 0]
    assert not rows["ppo.num_envs"]["differ"]
    assert answer["groups"] == [["seed-0", "seed-1"], ["other-rate"]]


def test_sparklines(client: Client) -> None:
    found = client.get("/api/sparklines", params={"run": ["seed-2", "matmul-1", "nothing"]}).json()
    curve = found["sparklines"]["seed-2"]
    assert curve["metric"] == "episode/return"
    assert curve["last"] == curve["y"][-1] == 39 * 3
    assert found["sparklines"]["matmul-1"]["metric"] == "epoch_loss"
    assert found["sparklines"]["nothing"] is None
    assert client.get("/api/sparklines", params={"run": ["seed-2"] * 61}).status_code == 400


def test_a_summary_is_read_again_only_when_the_run_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "still", returns(3))
    run = open_made(tmp_path, "growing", None, SPEC)
    read: list[str] = []

    def counted(folder: Path, record: object = None) -> object:
        read.append(folder.name)
        return summarize(folder)

    monkeypatch.setattr(store, "summarize", counted)
    monkeypatch.setattr(store, "READ_SHARE", 1e9)
    runs = RunStore(tmp_path)
    runs.entries()
    assert sorted(read) == ["growing", "still"]
    assert {entry.summary.state for entry in runs.entries()} == {"running", "finished"}
    read.clear()
    run.record([ScalarRow(run.clock.advance(7)[-1], {"episode/return": 5.0})])
    found = {entry.key: entry.summary for entry in runs.entries()}
    assert read == ["growing"]
    assert found["growing"].last_step == 7
    run.finish("interrupted")
    assert {entry.key: entry.summary.state for entry in runs.entries()}["growing"] == "interrupted"


def test_runs_appear_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LISTING_SECONDS", 0.0)
    runs_dir = tmp_path / "runs"
    client = Client(create_app(runs_dir))
    assert client.get("/api/runs").json() == {
        "runs": [],
        "total": 0,
        "systems": [],
        "states": [],
        "runs_dir": str(runs_dir),
    }
    folder = make_run(runs_dir, "short-lived", returns(2))
    assert [row["name"] for row in client.get("/api/runs").json()["runs"]] == ["short-lived"]
    shutil.rmtree(folder)
    assert client.get("/api/runs").json()["runs"] == []
    assert client.get("/api/runs/short-lived").status_code == 404


def test_damaged_and_foreign_folders_do_no_harm(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "damaged", returns(3))
    (folder / "summary.json").unlink(missing_ok=True)
    (folder / "journal.sqlite").write_bytes(b"not a database" * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    client = Client(create_app(tmp_path))
    assert [(row["key"], row["state"]) for row in client.get("/api/runs").json()["runs"]] == [
        ("damaged", "damaged")
    ]
    for path in ("", "/metrics", "/episodes", "/console"):
        response = client.get(f"/api/runs/damaged{path}")
        assert response.status_code == 503
        assert "nothing of this journal can be read" in response.json()["error"]
    assert client.get("/api/sparklines?run=damaged").json()["sparklines"] == {"damaged": None}


def test_reading_changes_no_file(tmp_path: Path) -> None:
    make_run(tmp_path, "done", returns(3))
    running = open_made(tmp_path, "running", None, SPEC)
    running.record([ScalarRow(running.clock.advance()[-1], {"episode/return": 1.0})])

    def state() -> dict[str, tuple[int, int]]:
        files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        return {
            str(path.relative_to(tmp_path)): (path.stat().st_mtime_ns, path.stat().st_size) for path in files
        }

    before = state()
    client = Client(create_app(tmp_path))
    for name in ("done", "running"):
        paths = ["runs", f"runs/{name}", f"runs/{name}/metrics", f"runs/{name}/episodes"]
        paths += [f"runs/{name}/console", f"runs/{name}/audit", f"sparklines?run={name}"]
        paths += [f"series?run={name}&metric=episode/return", f"settings?run={name}"]
        for path in paths:
            assert client.get(f"/api/{path}").status_code == 200, path
    assert state() == before
    running.finish("finished")


def test_hostile_names_are_data(client: Client, runs_dir: Path) -> None:
    """Every run is reached by its folder's name, encoded; what it recorded comes back unchanged."""
    rows = {row["key"]: row for row in client.get("/api/runs").json()["runs"]}
    for folder in (*HOSTILE_FOLDERS, "climbing", "lines", "long"):
        assert folder in rows
        answer = client.get(f"/api/runs/{quote(folder, safe='')}")
        assert answer.status_code == 200, folder
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["settings"][SCRIPT] == SCRIPT
        assert client.get("/api/settings", params={"run": folder}).status_code == 200
    assert rows["climbing"]["name"] == CLIMB
    assert rows["lines"]["name"] == "a\nb\r\tc\x00d"
    episodes = client.get("/api/runs/hostile/episodes", params={"where": f"{SCRIPT}:script", "sort": SCRIPT})
    assert [row[2] for row in episodes.json()["rows"]] == [SCRIPT] * 3
    assert (runs_dir / "hostile").is_dir()


@pytest.mark.parametrize(
    "path",
    [
        "/api/runs/..%2f..%2f..%2fetc%2fpasswd",
        "/api/runs/%2e%2e/%2e%2e/etc/passwd",
        "/api/runs/%2fetc%2fpasswd",
        "/api/runs/hostile%2f..%2fseed-0",
        "/api/runs/.%00",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/static/vendor/../../server.py",
        "/static//etc/passwd",
        "/../../etc/passwd",
    ],
)
def test_no_path_leads_out(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "root:" not in response.text
    assert "create_app" not in response.text


def test_a_file_that_a_journal_names_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    from matrixrl.dashboard.details import _is_inside

    (tmp_path / "secret").write_text("")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "own").write_text("")
    (folder / "link").symlink_to(tmp_path / "secret")
    assert _is_inside(folder, "own")
    assert not _is_inside(folder, "../secret")
    assert not _is_inside(folder, str(tmp_path / "secret"))
    assert not _is_inside(folder, "link")
    assert not _is_inside(folder, "x\0y")


def test_console_and_messages(client: Client) -> None:
    answer = client.get("/api/runs/matmul-1/console?lines=4").json()
    assert len(answer["lines"]) == 4
    assert answer["has_more"]
    assert answer["lines"][-1]["kind"] == "epoch"
    episodes = client.get("/api/runs/matmul-1/console?kind=episode&q=episode 7 ").json()
    assert [line["text"].split(" |")[0] for line in episodes["lines"]] == ["Episode 7"]
    messages = client.get("/api/runs/hostile/console").json()["messages"]
    assert SCRIPT in [message["text"] for message in messages]


def test_audit_runs_in_a_process_of_its_own(client: Client, runs_dir: Path) -> None:
    assert client.get("/api/runs/matmul-1/audit").json()["state"] == "none"
    answer = client.get("/api/runs/matmul-1/audit?start=1").json()
    assert answer["state"] == "running"
    other = client.get("/api/runs/seed-0/audit?start=1")
    assert other.status_code == 400
    assert "matmul-1" in other.json()["error"]
    client.app.state.dashboard.audits.wait()
    answer = client.get("/api/runs/matmul-1/audit").json()
    assert answer["state"] == "done", answer
    assert answer["agrees"]
    assert answer["answer"]["checks"]["journal episodes"] == 30
    assert answer["is_current"]
    assert json.dumps(answer)
