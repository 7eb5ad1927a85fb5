"""The server of the tests answers as real ones do, or as badly as it is told to."""

from pathlib import Path

import httpx
import pytest

from http_server import Server, serve

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def url(server: Server) -> str:
    (server.folder / "trips of may.csv").write_bytes(CONTENT)
    return server.url("trips of may.csv")


def test_a_file_comes_whole_with_its_validators(server: Server, url: str) -> None:
    answer = httpx.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["ETag"]
    assert answer.headers["Last-Modified"].endswith("GMT")
    assert [(request.path, request.status) for request in server.requests] == [("/trips of may.csv", 200)]


def test_a_known_etag_is_answered_without_content(url: str) -> None:
    etag = httpx.get(url).headers["ETag"]
    answer = httpx.get(url, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


def test_a_range_is_the_rest_unless_the_file_has_changed(url: str) -> None:
    etag = httpx.get(url).headers["ETag"]
    rest = httpx.get(url, headers={"Range": "bytes=1000-", "If-Range": etag})
    assert (rest.status_code, rest.content) == (206, CONTENT[1000:])
    assert rest.headers["Content-Range"] == f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}"
    changed = httpx.get(url, headers={"Range": "bytes=1000-", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, CONTENT)


def test_a_fault_lasts_as_many_requests_as_told(server: Server, url: str) -> None:
    server.fault("trips of may.csv", status=503, headers={"Retry-After": "1"}, times=2)
    answers = [httpx.get(url) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "1"


@pytest.mark.parametrize("fault", [{"cut_after_bytes": 100}, {"headers": {"Content-Length": "99999"}}])
def test_a_promise_of_more_bytes_is_broken(server: Server, url: str, fault: dict[str, object]) -> None:
    server.fault("trips of may.csv", **fault)
    with pytest.raises(httpx.TransportError):
        httpx.get(url, timeout=10)


def test_a_silent_server_is_silent(server: Server, url: str) -> None:
    server.fault("trips of may.csv", stall_seconds=0.5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url, timeout=httpx.Timeout(60, read=0.1))


def test_redirects_may_lead_anywhere(server: Server) -> None:
    server.fault("moved.csv", redirect_to="file:///etc/passwd")
    answer = httpx.get(server.url("moved.csv"))
    assert (answer.status_code, answer.headers["Location"]) == (302, "file:///etc/passwd")


def test_what_is_not_there_is_404(server: Server) -> None:
    assert httpx.get(server.url("june.csv")).status_code == 404


def test_a_login_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a\n")
    with serve(tmp_path, login="me:secret") as server:
        assert httpx.get(server.url("a.csv")).status_code == 401
        assert httpx.get(server.url("a.csv"), auth=("me", "secret")).content == b"a\n"
