"""Who may ask: hosts, origins, methods, paths and tokens, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from epochal.serve.app import Service
from epochal.serve.model import Served
from tests.serve.conftest import serving
from tests.serve.sockets import Answer, exchange, head

TOKEN = "a-token-of-24-characters"


def ask(
    url: str, target: str = "/healthz", method: str = "GET", host: str | None = "HOST", headers: str = "", version: str = "1.1"
) -> Answer:
    """Send a request in which HOST is the server's address."""
    place = urlsplit(url).netloc
    found = exchange(url, head(target, method, host, headers, version).replace("HOST", place))
    assert found is not None
    return found


HOSTS = [
    *[(host, 200) for host in (
        "HOST", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:9999", "localhost", "localhost:1", "LocalHost:8000", "localhost:65535",
    )],
    *[(host, 421) for host in (
        "example.org", "example.org:8000", "127.0.0.1.example.org", "localhost.example.org", "example.org.localhost", "localhost.",
        "127.0.0.2", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::1]", "[::1]:8000", "::1", "[127.0.0.1]", "192.168.0.1",
        "[::ffff:127.0.0.1]", "", ":", ":8000", "localhost:", "localhost:0", "localhost:65536", "localhost:x", "localhost:-1",
        "localhost:8000:8000", "localhost:٣", "localhost/", "localhost/path", "user@localhost", "localhost@example.org",
        "localhost, example.org", "localhost example.org", "local host", "localhost#", "localhost?", "localhost\\", "%6c%6f%63%61%6chost",
        "localhost\x80", "http://localhost", "*", "null", "localhost:999999999999999999999", "a" * 300,
    )],
]  # fmt: skip


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_hosts(url: str, host: str, status: int) -> None:
    host = host.encode("utf-8").decode("latin-1")
    assert ask(url, host=host).status == status
    assert ask(url, "/model", host=host).status == status


@pytest.mark.parametrize(
    ("host", "headers"),
    [(None, ""), ("HOST", "Host: HOST\r\n"), ("HOST", "Host: example.org\r\n"), ("example.org", "Host: HOST\r\n")],
)
def test_a_request_has_one_host(url: str, host: str | None, headers: str) -> None:
    assert ask(url, host=host, headers=headers).status == 400
    assert ask(url, host=host, headers=headers, version="1.0").status == 400


ORIGINS = [
    *[(f"Origin: {origin}\r\n", 200) for origin in ("http://HOST", "https://HOST", "HTTP://HOST")],
    ("", 200),
    *[(f"Origin: {origin}\r\n", 403) for origin in (
        "null", "http://example.org", "https://example.org", "http://HOST.example.org", "http://example.org/HOST", "http://localhost",
        "http://localhost:1", "http://127.0.0.1", "http://127.0.0.1:1", "file://", "file://HOST", "ftp://HOST", "HOST", "//HOST",
        "http://HOST/", "http://HOST/page", "http://user@HOST", "http://HOST http://example.org", "http://HOST, http://example.org",
        "", "chrome-extension://abc", "data:", "blob:http://HOST", "http://HOST#", "http:/HOST",
    )],
    ("Origin: http://HOST\r\nOrigin: http://example.org\r\n", 403),
    ("Origin: http://HOST\r\nOrigin: http://HOST\r\n", 403),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "status"), ORIGINS)
def test_origins(url: str, headers: str, status: int) -> None:
    found = ask(url, headers=headers)
    assert found.status == status
    assert "access-control-allow-origin" not in found.headers
    assert ask(url, "/predict", "POST", headers=f"{headers}Content-Length: 0\r\n").status == (400 if status == 200 else status)


METHODS = [
    *[("GET", path, 200) for path in ("/", "/model", "/healthz", "/metrics", "/openapi.json", "/?lang=zh", "/%6dodel")],
    *[("HEAD", path, 200) for path in ("/", "/model", "/healthz")],
    *[("GET", path, 405) for path in ("/predict", "/explain")],
    *[("POST", path, 405) for path in ("/", "/model", "/healthz", "/metrics", "/openapi.json", "/static/index.html")],
    *[(method, path, 405) for path in ("/predict", "/model") for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "MERGE")],
    *[("GET", path, 404) for path in (
        "/x", "//", "//model", "/model/", "/model//", "/Model", "/model%00", "/model%2f", "/./model", "/../model", "/static", "/static/",
        "/static/..", "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2fetc%2fpasswd", "/static//etc/passwd",
        "/static/index.html/", "/static/INDEX.HTML", "/static/__init__.py", "/static/index.html%00.js", "/static/C:%5Cwindows", "/app.py",
        "/.git/config", "/etc/passwd", "/static/" + "a" * 5000, "/model;x", "/docs", "/redoc", "/index.html",
    )],
    *[(method, target, 400) for method, target in (
        ("GET", "http://example.org/model"), ("GET", "http://HOST/model"), ("OPTIONS", "*"), ("CONNECT", "example.org:80"),
        ("CONNECT", "HOST"), ("GET", "model"), ("GET", "?x"), ("GET", "/static/\xff"), ("FOO", "/model"), ("get", "/model"), ("", "/model"),
    )],
]  # fmt: skip


@pytest.mark.parametrize(("method", "target", "status"), METHODS)
def test_methods_and_paths(url: str, method: str, target: str, status: int) -> None:
    found = ask(url, target, method)
    assert found.status == status
    if status == 405:
        post = target in ("/predict", "/explain")
        assert set(found.headers["allow"].split(", ")) == ({"POST"} if post else {"GET", "HEAD"})


def test_there_are_enough_cases() -> None:
    assert len(HOSTS) + len(ORIGINS) + len(METHODS) >= 150


@pytest.mark.parametrize(
    "headers", ["Connection: Upgrade\r\nUpgrade: websocket\r\n", "Expect: 100-continue\r\n", "X-Forwarded-Host: a\r\n"]
)
def test_other_protocols_are_not_spoken(url: str, headers: str) -> None:
    assert ask(url, headers=headers).status == 200


@pytest.mark.parametrize("path", ["/", "/model", "/healthz", "/nothing"])
def test_answers_forbid_what_the_page_does_not_need(url: str, path: str) -> None:
    headers = ask(url, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


@pytest.fixture(scope="module")
def locked(models: list[Served]) -> Iterator[str]:
    with serving(Service(models[-1:]), TOKEN, ("localhost", "Models.example.org")) as address:
        yield address


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("/healthz", "", 200),
        ("/model", "", 401),
        ("/", "", 401),
        ("/metrics", "", 401),
        ("/nothing", "", 401),
        ("/model", f"Authorization: Bearer {TOKEN}\r\n", 200),
        ("/model", f"authorization: bearer  {TOKEN} \r\n", 200),
        ("/model", f"Authorization: Bearer {TOKEN}x\r\n", 401),
        ("/model", f"Authorization: Bearer {TOKEN[:-1]}\r\n", 401),
        ("/model", f"Authorization: Basic {TOKEN}\r\n", 401),
        ("/model", f"Authorization: {TOKEN}\r\n", 401),
        ("/model", "Authorization: Bearer\r\n", 401),
        ("/model", "Authorization: Bearer \xff\xfe\r\n", 401),
        ("/model", f"Cookie: a=b; epochal-token={TOKEN}\r\n", 200),
        ("/model", f"Cookie: epochal-token={TOKEN}x\r\n", 401),
        ("/model", "Cookie: ;;;=,\r\n", 401),
        ("/model", "Cookie: epochal-token=\r\n", 401),
        (f"/model?token={TOKEN}", "", 401),
        (f"/?token={TOKEN}", "", 303),
        (f"/?token={TOKEN}x", "", 401),
        ("/?token=", "", 401),
        ("/?" + "&".join(["token=x"] * 9), "", 400),
        (f"/?token={TOKEN}", "Origin: http://example.org\r\n", 403),
    ],
)
def test_tokens(locked: str, target: str, headers: str, status: int) -> None:
    found = ask(locked, target, headers=headers)
    assert found.status == status
    if status == 303:
        assert found.headers["location"] == "/"
        cookie = found.headers["set-cookie"]
        assert "HttpOnly; SameSite=Strict" in cookie
        assert ask(locked, "/model", headers=f"Cookie: {cookie.partition(';')[0]}\r\n").status == 200


def test_a_name_that_is_allowed(locked: str) -> None:
    mine = f"Authorization: Bearer {TOKEN}\r\n"
    assert ask(locked, "/model", host="models.example.org", headers=mine + "Origin: https://models.example.org\r\n").status == 200
    assert ask(locked, "/model", host="other.example.org", headers=mine).status == 421
