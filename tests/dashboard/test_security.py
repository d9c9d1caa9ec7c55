"""Who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from matrixrl.dashboard.security import Access, host_name, is_loopback
from matrixrl.dashboard.server import create_app, static_files
from tests.dashboard.client import Client

TOKEN = "an-example-of-a-token"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.mark.parametrize("host", ["127.0.0.1:8642", "localhost", "LOCALHOST:1", "[::1]:8642", "127.0.0.1"])
def test_names_of_this_machine_are_answered(empty: Path, host: str) -> None:
    assert Client(create_app(empty), host).get("/api/runs").status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8642",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "evil.example?127.0.0.1",
        "evil.example/127.0.0.1",
        "127.0.0.1:8642:80",
        "127.0.0.1:port",
        "192.168.1.5",
        "[::1",
        "",
        None,
    ],
)
def test_other_names_are_refused(empty: Path, host: str | None) -> None:
    """DNS rebinding: a page of evil.example whose name points to this machine."""
    answer = Client(create_app(empty), host).get("/api/runs")
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]


def test_further_names_are_answered_where_they_are_allowed(empty: Path) -> None:
    app = create_app(empty, allowed_hosts=["proxy.example"])
    assert Client(app, "proxy.example").get("/").status_code == 200
    assert Client(app, "other.example").get("/").status_code == 421


def test_bound_to_all_addresses_any_address_is_a_name_but_no_other_domain(empty: Path) -> None:
    app = create_app(empty, host="0.0.0.0", token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert Client(app, "192.168.1.5:8642").get("/", headers=headers).status_code == 200
    assert Client(app, "evil.example").get("/", headers=headers).status_code == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://127.0.0.1:8642"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link
    ],
)
def test_requests_of_other_sites_are_refused(empty: Path, headers: dict[str, str], status: int) -> None:
    assert Client(create_app(empty)).get("/api/runs", headers=headers).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
@pytest.mark.parametrize("path", ["/", "/api/runs", "/api/runs/x", "/static/app.js"])
def test_there_is_only_get(client: Client, method: str, path: str) -> None:
    answer = client.get(path, method=method)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/runs", "/api/nonsense", "/api/runs/nothing"])
def test_every_answer_has_the_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    parts = [part.strip().partition(" ") for part in headers["content-security-policy"].split(";")]
    policy = {name: value for name, _, value in parts}
    assert policy["default-src"] == policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "access-control-allow-origin" not in headers


def test_refused_requests_have_the_headers_too(empty: Path) -> None:
    answer = Client(create_app(empty), "evil.example").get("/")
    assert "content-security-policy" in answer.headers


def test_frames_are_allowed_to_named_pages_only(empty: Path) -> None:
    app = create_app(empty, framed_by=["http://localhost:8888"])
    headers = Client(app).get("/").headers
    assert "frame-ancestors http://localhost:8888;" in headers["content-security-policy"]
    assert "x-frame-options" not in headers


@pytest.fixture
def guarded(empty: Path) -> Client:
    return Client(create_app(empty, token=TOKEN))


def test_without_the_token_nothing_is_answered(guarded: Client) -> None:
    for path in ("/", "/static/app.js", "/api/runs", "/api/nothing", "/api/runs?token=wrong", "/?token="):
        answer = guarded.get(path)
        assert answer.status_code == 401, path
        assert TOKEN not in answer.text
        assert "set-cookie" not in answer.headers


def test_the_token_in_the_address_becomes_a_cookie(guarded: Client) -> None:
    answer = guarded.get(f"/?token={TOKEN}")
    assert answer.status_code == 200
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert guarded.get("/api/runs", headers={"Cookie": f"other=1; {cookie}"}).status_code == 200
    assert guarded.get("/api/runs", headers={"Cookie": f"{cookie}x"}).status_code == 401
    assert guarded.get("/api/runs", headers={"Cookie": "\x01=;;=nonsense"}).status_code == 401


def test_scripts_may_send_the_token_as_a_header(guarded: Client) -> None:
    assert guarded.get("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/api/runs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/api/runs", headers={"Authorization": TOKEN}).status_code == 401


def test_tokens_are_compared_in_constant_time(guarded: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    compared: list[bytes] = []
    compare = hmac.compare_digest

    def counted(first: bytes, second: bytes) -> bool:
        compared.append(first)
        return compare(first, second)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    assert guarded.get("/?token=abc").status_code == 401
    assert guarded.get("/?token=%C3%A9").status_code == 401  # not ASCII
    assert b"abc" in compared


def test_names_in_host_headers() -> None:
    assert host_name("LocalHost:80") == "localhost"
    assert host_name("[::1]:80") == "::1"
    assert host_name("a@b") == host_name("a/b") == host_name("a:b") == ""
    assert Access(host="10.0.0.1").is_known_host("10.0.0.1:5")
    assert not Access(host="10.0.0.1").is_known_host("10.0.0.2:5")


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "", "localhost.example")))


def test_the_page_loads_nothing_from_elsewhere_and_parses_no_text_as_html() -> None:
    files = static_files()
    assert files["/"].content == files["/static/index.html"].content
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:|\bstyle="
    )
    for path, file in files.items():
        if not path.endswith((".js", ".html", ".css")):
            continue
        text = file.content.decode()
        assert not sinks.search(text), path
        # Addresses in comments of libraries and in namespaces load nothing.
        loaded = re.findall(
            r"""(?:(?:src|href|import|from)\s*[=(]?\s*['"]|url\(\s*['"]?)(?:https?:)?//[^'")\s]+""", text
        )
        assert not loaded, (path, loaded)
    html = files["/"].content.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\son\w+=", html)


def test_every_module_that_is_imported_is_there() -> None:
    files = static_files()
    for path, file in files.items():
        if path.endswith(".js"):
            for name in re.findall(r"""(?:from|import\()\s*'(\.[^']+)'""", file.content.decode()):
                folder = path.rpartition("/")[0]
                parts = f"{folder}/{name}".split("/")
                resolved: list[str] = []
                for part in parts:
                    if part == "..":
                        resolved.pop()
                    elif part != ".":
                        resolved.append(part)
                assert "/".join(resolved) in files, f"{path} imports {name}"


def test_files_of_the_page_are_cached_by_their_content(client: Client) -> None:
    first = client.get("/static/app.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = client.get("/static/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/favicon.ico").headers["content-type"].startswith("image/svg+xml")
    assert "MIT" in client.get("/static/vendor/uPlot.LICENSE.txt").text
