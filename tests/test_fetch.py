"""A file is fetched whole, or the error says what is wrong. From a real HTTP server."""

import hashlib
from pathlib import Path

import pytest

from http_server import Server, serve
from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.fetch import (
    Download,
    canonical_url,
    download_folder,
    fetch,
    is_unchanged,
    login_of,
    without_login,
)

CONTENT = b"a,b\n1,2\n" * 100_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trips.csv").write_bytes(CONTENT)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    return downloads


def test_a_download_is_whole_and_its_sha256_known(server: Server, folder: Path) -> None:
    seen: list[Download] = []
    source = fetch(server.url("trips.csv"), folder, on_progress=seen.append)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert (source.name, source.bytes) == ("trips.csv", len(CONTENT))
    assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert source.etag
    assert seen[-1] == Download(len(CONTENT), len(CONTENT))


def test_an_unchanged_file_costs_one_round_trip_and_no_download(server: Server, folder: Path) -> None:
    first = fetch(server.url("trips.csv"), folder)
    assert first
    assert first.etag
    assert fetch(first.url, folder, etag=first.etag) is None
    assert is_unchanged(first.url, first.etag, None)
    assert [request.status for request in server.requests] == [200, 304, 304]


def test_a_changed_file_is_fetched_anew(server: Server, folder: Path) -> None:
    first = fetch(server.url("trips.csv"), folder)
    assert first
    (server.folder / "trips.csv").write_bytes(b"a\n1\n")
    second = fetch(first.url, folder, etag=first.etag)
    assert second
    assert second.bytes == 4


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "two months"), (403, "not published yet"), (500, "later")]
)
def test_an_answer_that_is_no_file_is_an_error(server: Server, folder: Path, status: int, hint: str) -> None:
    server.fault("trips.csv", status=status)
    with pytest.raises(SourceError, match=f"answers {status}") as failure:
        fetch(server.url("trips.csv"), folder)
    assert hint in failure.value.hint


def test_a_connection_cut_half_way_is_an_error(server: Server, folder: Path) -> None:
    server.fault("trips.csv", cut_after_bytes=1000)
    with pytest.raises(SourceError, match="broke off"):
        fetch(server.url("trips.csv"), folder)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/x.csv", "can't be reached"),
        ("http://no-such-host.invalid/x.csv", "can't be reached"),
        ("http://[/x.csv", "URL"),
    ],
)
def test_a_host_that_is_not_there_is_an_error(folder: Path, url: str, message: str) -> None:
    with pytest.raises((SourceError, UsageError), match=message):
        fetch(url, folder)


def test_a_redirect_is_followed_but_not_out_of_http(server: Server, folder: Path) -> None:
    server.fault("moved.csv", redirect_to=server.url("trips.csv"))
    source = fetch(server.url("moved.csv"), folder)
    assert source
    assert (source.url, source.bytes) == (server.url("moved.csv"), len(CONTENT))
    server.fault("evil.csv", redirect_to="file:///etc/passwd")
    with pytest.raises(SourceError, match="redirects to an address that is not http"):
        fetch(server.url("evil.csv"), folder)


def test_a_login_opens_the_source_and_is_no_part_of_its_address(tmp_path: Path, folder: Path) -> None:
    with serve(tmp_path, login="me:secret") as server:
        url = server.url("trips.csv").replace("http://", "http://me:secret@")
        with pytest.raises(SourceError, match="answers 401") as failure:
            fetch(without_login(url), folder)
        assert "TAXI_INGEST_SOURCE_LOGIN" in failure.value.hint
        source = fetch(url, folder, login=("me", "secret"))
    assert source
    assert source.url == server.url("trips.csv")
    assert login_of(url) == "me:secret"


def test_a_path_becomes_an_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical_url("a b.csv") == f"{tmp_path.as_uri()}/a%20b.csv"
    assert canonical_url(f"file://{tmp_path}/x.csv") == f"file://{tmp_path}/x.csv"
    assert canonical_url("http://u:p@host/x.csv?y=1#z") == "http://host/x.csv?y=1"


@pytest.mark.parametrize("url", ["ftp://u:secret@host/x.csv", "s3://bucket/x", "data:text/csv,a"])
def test_other_schemes_are_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        canonical_url(url)
    assert "secret" not in str(failure.value)


def test_local_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "nothing.csv", "There is no file"),
        (tmp_path, "is a folder"),
        ("file://elsewhere/x.csv", "on another machine"),
    ):
        with pytest.raises(SourceError, match=message):
            fetch(str(source), tmp_path)


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    killed, living = tmp_path / "downloads" / "999999999-x", tmp_path / "downloads" / "1-x"
    for folder in (killed, living):
        folder.mkdir(parents=True)
    with download_folder(tmp_path):
        assert (killed.exists(), living.exists()) == (False, True)


def test_downloads_leave_nothing_behind(tmp_path: Path) -> None:
    with download_folder(tmp_path) as folder:
        (folder / "content").write_bytes(b"x")
    assert list((tmp_path / "downloads").iterdir()) == []
