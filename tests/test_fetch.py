"""A file is fetched whole, or the error says what is wrong. From a real HTTP server."""

import base64
import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from http_server import Server, serve
from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.fetch import (
    Cache,
    Download,
    Validators,
    canonical_url,
    fetch,
    is_unchanged,
    login_of,
    run_folder,
    without_login,
)

CONTENT = b"a,b\n1,2\n" * 100_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trips.csv").write_bytes(CONTENT)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    return downloads


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1_000_000_000)


def statuses(server: Server) -> list[int]:
    return [request.status for request in server.requests]


def test_a_download_is_whole_and_its_sha256_known(server: Server, folder: Path, cache: Cache) -> None:
    seen: list[Download] = []
    source = fetch(server.url("trips.csv"), folder, cache, on_progress=seen.append)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert (source.name, source.bytes) == ("trips.csv", len(CONTENT))
    assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert source.validators.etag
    assert seen[-1] == Download(len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("field", ["etag", "last_modified"])
def test_an_unchanged_file_costs_one_round_trip_and_no_download(
    server: Server, folder: Path, cache: Cache, field: str
) -> None:
    first = fetch(server.url("trips.csv"), folder, cache)
    assert first
    known = Validators(**{field: getattr(first.validators, field)})
    anew = Cache(folder / "other", 0)
    assert fetch(first.url, folder, anew, known=known) is None
    assert is_unchanged(first.url, known, None)
    assert statuses(server) == [200, 304, 304]


def test_a_changed_file_is_fetched_anew(server: Server, folder: Path, cache: Cache) -> None:
    first = fetch(server.url("trips.csv"), folder, cache)
    assert first
    (server.folder / "trips.csv").write_bytes(b"a\n1\n")
    second = fetch(first.url, folder, cache, known=first.validators)
    assert second
    assert (second.bytes, second.path.read_bytes()) == (4, b"a\n1\n")


def test_what_was_downloaded_before_is_taken_from_the_cache(
    server: Server, folder: Path, cache: Cache
) -> None:
    first, second = (fetch(server.url("trips.csv"), folder, cache) for _ in range(2))
    assert first == second
    assert second
    assert second.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 304]


def test_a_cached_file_that_was_damaged_is_not_used(server: Server, folder: Path, cache: Cache) -> None:
    first = fetch(server.url("trips.csv"), folder, cache)
    assert first
    next(cache.folder.glob("files/*/content")).write_bytes(b"damaged")
    second = fetch(first.url, folder, cache)
    assert second
    assert (second.sha256, second.path.read_bytes()) == (first.sha256, CONTENT)


def test_a_full_cache_lets_the_oldest_go_and_a_run_keeps_what_it_uses(server: Server, folder: Path) -> None:
    small = Cache(folder / "cache", int(len(CONTENT) * 2.5))
    for name in ("a.csv", "b.csv", "c.csv", "d.csv"):
        (server.folder / name).write_bytes(CONTENT)
        run = folder / name
        run.mkdir()
        source = fetch(server.url(name), run, small)
        assert source
        assert source.path.read_bytes() == CONTENT
    kept = [path.read_bytes() for path in small.folder.glob("files/*/content")]
    assert kept == [CONTENT] * 2
    assert (folder / "a.csv" / "content").read_bytes() == CONTENT
    for name in ("c.csv", "d.csv", "a.csv"):
        fetch(server.url(name), folder, small)
    assert statuses(server)[4:] == [304, 304, 200]


def test_a_cut_download_goes_on_where_it_was_cut(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    server.fault("trips.csv", cut_after_bytes=200_000, times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert [request.headers.get("Range") for request in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=500000-",
    ]


def test_a_later_run_goes_on_where_a_failed_one_was_cut(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    with pytest.raises(SourceError, match="broke off"):
        fetch(server.url("trips.csv"), folder, cache, tries=1)
    source = fetch(server.url("trips.csv"), folder, cache, tries=1)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 206]


def test_a_file_that_changes_while_it_is_downloaded_is_begun_anew(
    server: Server, folder: Path, cache: Cache
) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    with pytest.raises(SourceError):
        fetch(server.url("trips.csv"), folder, cache, tries=1)
    other = CONTENT.replace(b"1", b"3")
    (server.folder / "trips.csv").write_bytes(other)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == other
    assert statuses(server) == [200, 200]


def test_without_a_validator_a_cut_download_is_begun_anew(server: Server, folder: Path, cache: Cache) -> None:
    server.without_validators = True
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 200]


def test_a_part_that_was_not_asked_for_is_not_taken(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    server.fault(
        "trips.csv", headers={"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"}, times=1
    )
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 206, 200]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: Server, folder: Path, cache: Cache, status: int) -> None:
    server.fault("trips.csv", status=status, times=1)
    assert fetch(server.url("trips.csv"), folder, cache)
    assert statuses(server) == [status, 200]


def test_a_server_that_asks_to_wait_is_waited_for(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", status=429, headers={"Retry-After": "2"}, times=1)
    began = time.monotonic()
    assert fetch(server.url("trips.csv"), folder, cache)
    assert time.monotonic() - began >= 2


def test_one_that_asks_to_wait_for_hours_is_not(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", status=503, headers={"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"})
    with pytest.raises(SourceError, match="answers 503"):
        fetch(server.url("trips.csv"), folder, cache)
    assert statuses(server) == [503]


@pytest.mark.parametrize("header", ["Repr-Digest", "Digest", "Content-MD5"])
def test_a_checksum_that_came_with_the_file_is_checked(
    server: Server, folder: Path, cache: Cache, header: str
) -> None:
    name = "md5" if header == "Content-MD5" else "sha256"
    right, wrong = (
        base64.b64encode(hashlib.new(name, content).digest()).decode() for content in (CONTENT, b"other")
    )
    form = {"Repr-Digest": "sha-256=:{}:", "Digest": "sha-256={}", "Content-MD5": "{}"}[header]
    server.fault("trips.csv", headers={header: form.format(wrong)}, times=1)
    server.fault("trips.csv", headers={header: form.format(right)}, times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 200]


def test_two_runs_download_a_file_once(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", stall_seconds=0.5, times=1)
    with ThreadPoolExecutor(2) as pool:
        places = [folder / "a", folder / "b"]
        for place in places:
            place.mkdir()
        sources = list(pool.map(lambda place: fetch(server.url("trips.csv"), place, cache), places))
    assert [source and source.path.read_bytes() for source in sources] == [CONTENT, CONTENT]
    assert sorted(statuses(server)) == [200, 304]


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "two months"), (403, "not published yet"), (500, "later")]
)
def test_an_answer_that_is_no_file_is_an_error(
    server: Server, folder: Path, cache: Cache, status: int, hint: str
) -> None:
    server.fault("trips.csv", status=status)
    with pytest.raises(SourceError, match=f"answers {status}") as failure:
        fetch(server.url("trips.csv"), folder, cache, tries=2)
    assert hint in failure.value.hint
    assert statuses(server) == [status] * (2 if status == 500 else 1)


WRONG_LENGTH = {"headers": {"Content-Length": "999999999"}, "cut_after_bytes": 999_999_999}


@pytest.mark.parametrize("fault", [{"cut_after_bytes": 0}, WRONG_LENGTH])
def test_a_download_that_never_gets_whole_is_an_error(
    server: Server, folder: Path, cache: Cache, fault: dict[str, object]
) -> None:
    server.fault("trips.csv", **fault)
    with pytest.raises(SourceError, match=r"broke off|another part than asked for"):
        fetch(server.url("trips.csv"), folder, cache, tries=2)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://127.0.0.1:9/x.csv", "can't be reached"),
        ("http://no-such-host.invalid/x.csv", "can't be reached"),
        ("http://[/x.csv", "URL"),
    ],
)
def test_a_host_that_is_not_there_is_an_error(folder: Path, cache: Cache, url: str, message: str) -> None:
    with pytest.raises((SourceError, UsageError), match=message):
        fetch(url, folder, cache, tries=1)


def test_a_redirect_is_followed_but_not_out_of_http(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("moved.csv", redirect_to=server.url("trips.csv"))
    source = fetch(server.url("moved.csv"), folder, cache)
    assert source
    assert (source.url, source.bytes) == (server.url("moved.csv"), len(CONTENT))
    server.fault("evil.csv", redirect_to="file:///etc/passwd")
    with pytest.raises(SourceError, match="redirects to an address that is not http"):
        fetch(server.url("evil.csv"), folder, cache)


def test_a_login_opens_the_source_and_is_no_part_of_its_address(
    tmp_path: Path, folder: Path, cache: Cache
) -> None:
    with serve(tmp_path, login="me:secret") as server:
        url = server.url("trips.csv").replace("http://", "http://me:secret@")
        with pytest.raises(SourceError, match="answers 401") as failure:
            fetch(without_login(url), folder, cache)
        assert "TAXI_INGEST_SOURCE_LOGIN" in failure.value.hint
        source = fetch(url, folder, cache, login=("me", "secret"))
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
            fetch(str(source), tmp_path, Cache(tmp_path, 0))


def test_what_a_killed_run_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    killed, living = tmp_path / "runs" / "999999999-x", tmp_path / "runs" / "1-x"
    for folder in (killed, living):
        folder.mkdir(parents=True)
    with run_folder(tmp_path):
        assert (killed.exists(), living.exists()) == (False, True)


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        (folder / "content").write_bytes(b"x")
    assert list((tmp_path / "runs").iterdir()) == []
