"""A file is fetched whole, or the error says what is wrong. From a real HTTP server."""

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from helpers import small_disk
from http_server import Server, serve
from taxi_ingest.errors import SourceError, UsageError, without_login
from taxi_ingest.sources import (
    Cache,
    DownloadProgress,
    Logins,
    SourceFile,
    Validators,
    download,
    parse_source,
    run_folder,
)
from taxi_ingest.sources.address import Login
from taxi_ingest.sources.cache import linked

CONTENT = b"a,b\n1,2\n" * 100_000


def fetch(
    url: str, folder: Path, cache: Cache, *, login: Login | None = None, **how: Any
) -> SourceFile | None:
    return parse_source(url, Logins(bare=login)).fetch(folder, cache, **how)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_DELAY_SECONDS", 0.02)


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
    seen: list[DownloadProgress] = []
    source = fetch(server.url("trips.csv"), folder, cache, on_progress=seen.append)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert (source.name, source.bytes) == ("trips.csv", len(CONTENT))
    assert source.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert source.validators.etag
    assert seen[-1] == DownloadProgress(len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("field", ["etag", "last_modified"])
def test_an_unchanged_file_costs_one_round_trip_and_no_download(
    server: Server, folder: Path, cache: Cache, field: str
) -> None:
    first = fetch(server.url("trips.csv"), folder, cache)
    assert first
    known = Validators(**{field: getattr(first.validators, field)})
    anew = Cache(folder / "other", 0)
    assert fetch(first.url, folder, anew, known=known) is None
    assert parse_source(first.url).is_unchanged(first.sha256, known)
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
    assert (folder / "a.csv" / "a.csv").read_bytes() == CONTENT
    for name in ("c.csv", "d.csv", "a.csv"):
        fetch(server.url(name), run, small)
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


def test_as_long_as_it_gets_further_it_is_tried_again(server: Server, folder: Path, cache: Cache) -> None:
    for _ in range(4):
        server.fault("trips.csv", cut_after_bytes=100_000, times=1)
    source = fetch(server.url("trips.csv"), folder, cache, tries=2)
    assert source
    assert source.path.read_bytes() == CONTENT


def test_a_part_that_is_less_than_the_rest_is_not_the_end(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    less = {"Content-Range": f"bytes 300000-300999/{len(CONTENT)}", "Content-Length": "1000"}
    server.fault("trips.csv", headers=less, cut_after_bytes=1000, times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 206, 206]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server: Server, folder: Path, cache: Cache, status: int) -> None:
    server.fault("trips.csv", status=status, times=1)
    assert fetch(server.url("trips.csv"), folder, cache)
    assert statuses(server) == [status, 200]


def test_a_server_that_asks_to_wait_is_waited_for(server: Server, folder: Path, cache: Cache) -> None:
    server.fault("trips.csv", status=429, headers={"Retry-After": "1"}, times=1)
    began = time.monotonic()
    assert fetch(server.url("trips.csv"), folder, cache)
    assert time.monotonic() - began >= 1


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


OTHER_VERSION = {
    "ETag": [("ETag", '"other"')],
    "Last-Modified": [("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")],
    "no validator at all": [("ETag", ""), ("Last-Modified", "")],
    "weak ETag": [("ETag", 'W/"other"')],
    "whole length": [("Content-Range", f"bytes 300000-{len(CONTENT)}/{len(CONTENT) + 1}")],
    "many parts": [("Content-Range", ""), ("Content-Type", "multipart/byteranges; boundary=x")],
    "no sense": [("Content-Range", "bytes x-y/z")],
}


@pytest.mark.parametrize("difference", OTHER_VERSION)
def test_a_part_of_another_version_is_not_taken(
    server: Server, folder: Path, cache: Cache, difference: str
) -> None:
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    server.fault("trips.csv", headers=dict(OTHER_VERSION[difference]), times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 206, 200]


def test_a_server_that_does_not_heed_if_range_mixes_no_versions(
    server: Server, folder: Path, cache: Cache
) -> None:
    def change() -> None:
        (server.folder / "trips.csv").write_bytes(CONTENT.replace(b"1", b"3"))

    server.without_if_range = True
    server.fault("trips.csv", cut_after_bytes=300_000, then=change, times=1)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT.replace(b"1", b"3")
    assert statuses(server) == [200, 206, 200]


def _dated(sent: str) -> dict[str, str]:
    """The headers of a file changed at midnight, and sent that day at `sent` by its server's clock."""
    day = "Mon, 01 Jan 2024"
    return {"ETag": "", "Last-Modified": f"{day} 00:00:00 GMT", "Date": f"{day} {sent} GMT"}


@pytest.mark.parametrize(
    ("headers", "resumed"),
    [
        ({"ETag": 'W/"1"', "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, False),
        ({"ETag": "", "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, True),
        (_dated("00:00:59"), False),
        (_dated("00:01:00"), True),
        ({"ETag": "", "Last-Modified": "yesterday"}, False),
        ({"ETag": '"ü"', "Last-Modified": ""}, False),
    ],
)
def test_only_a_strong_validator_resumes(
    server: Server, folder: Path, cache: Cache, headers: dict[str, str], resumed: bool
) -> None:
    server.without_if_range = True
    server.fault("trips.csv", cut_after_bytes=300_000, headers=headers, times=1)
    server.fault("trips.csv", headers=headers)
    source = fetch(server.url("trips.csv"), folder, cache)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert statuses(server) == [200, 206 if resumed else 200]


ODD_ANSWERS = [
    ({"status": 304}, "answers 304"),
    ({"status": 204}, "answers 204"),
    ({"status": 205}, "answers 205"),
    ({"status": 202}, "answers 202"),
    ({"status": 300}, "answers 300"),
    ({"status": 206}, "another part"),
    ({"status": 416}, "become shorter"),
    ({"status": 407}, "answers 407"),
    ({"headers": {"Content-Length": "abc"}}, "broke off"),
    ({"headers": {"Content-Length": "-5"}}, "broke off"),
    ({"redirect_to": "http://[/x"}, "can't be reached"),
    ({"redirect_to": "x.csv"}, "can't be followed"),
    ({"redirect_to": "http://127.0.0.1:9/x"}, "can't be reached"),
    *(
        ({"status": 503, "headers": {"Retry-After": value}}, "answers 503")
        for value in ("abc", "-5", "nan", "1e9", "²", "9" * 400, "Fri, 31 Dec 9999999 23:59:59 GMT", "0")
    ),
]


@pytest.mark.parametrize(("fault", "message"), ODD_ANSWERS)
def test_no_answer_is_taken_for_a_file_that_is_none(
    server: Server, folder: Path, cache: Cache, fault: dict[str, object], message: str
) -> None:
    (server.folder / "x.csv").write_bytes(CONTENT)
    server.fault("x.csv", **fault)
    with pytest.raises(SourceError, match=message):
        fetch(server.url("x.csv"), folder, cache, tries=1)


@pytest.mark.parametrize("value", ["abc", "=", "sha-256=abc", "sha-256=:!:", "sha-256=:YQ==:", "YQ=="])
@pytest.mark.parametrize("name", ["Content-MD5", "Repr-Digest", "Digest", "x-amz-checksum-sha256"])
def test_what_is_no_checksum_checks_nothing(
    server: Server, folder: Path, cache: Cache, name: str, value: str
) -> None:
    server.fault("trips.csv", headers={name: value, "x-amz-checksum-type": "FULL_OBJECT"})
    assert fetch(server.url("trips.csv"), folder, cache, tries=1)
    assert statuses(server) == [200]


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
        source = fetch(url, folder, cache)
        assert fetch(without_login(url), folder, cache, login=Login("me", "secret")) == source
    assert source
    assert source.url == server.url("trips.csv")


def authorizations(server: Server) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


@pytest.mark.parametrize("by", ["argument", "netrc"])
def test_a_login_is_not_taken_along_to_another_server(
    server: Server, tmp_path: Path, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc") if by == "netrc" else "/none")
    with serve(tmp_path, login="me:secret") as first:
        first.fault("moved.csv", redirect_to=server.url("trips.csv"))
        first.fault("near.csv", redirect_to="trips.csv")
        for name in ("moved.csv", "near.csv"):
            login = Login("me", "secret") if by == "argument" else None
            source = fetch(first.url(name), folder, cache, login=login)
            assert source
            assert source.bytes == len(CONTENT)
    assert authorizations(server) == [None]
    assert [value is not None for value in authorizations(first)] == [True, True, True]


def test_a_netrc_that_cannot_be_read_is_not_used(
    server: Server, tmp_path: Path, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"nonsense x", b"\xff\xfe", b"machine other login a password b"):
        (tmp_path / "netrc").write_bytes(content)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert fetch(server.url("trips.csv"), folder, cache)
    assert set(authorizations(server)) == {None}


def test_a_proxy_is_used_for_sources_and_its_password_told_to_nobody(
    server: Server, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url("").rstrip("/"))
    (server.folder / "x.csv").write_bytes(CONTENT)
    source = fetch("http://no-such-host.invalid/x.csv", folder, cache)
    assert source
    assert source.bytes == len(CONTENT)
    assert server.requests[0].headers["Host"] == "no-such-host.invalid"
    for proxy in (
        "http://me:secret@127.0.0.1:9",
        "socks5://me:secret@127.0.0.1:9",
        "ftp://me:secret@h",
        "http://me:secret@[",
    ):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(SourceError) as failure:
            fetch("http://no-such-host.invalid/x.csv", folder, cache, tries=1)
        assert "secret" not in f"{failure.value} {failure.value.hint}"
        assert "proxy" in failure.value.hint


def test_a_path_becomes_an_absolute_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_source("a b.csv").url == f"{tmp_path.as_uri()}/a%20b.csv"
    assert parse_source(f"file://{tmp_path}/x.csv").url == f"file://{tmp_path}/x.csv"
    assert parse_source("http://u:p@host/x.csv?y=1#z").url == "http://host/x.csv?y=1"


@pytest.mark.parametrize("url", ["ftp://u:secret@host/x.csv", "s3://user:secret@bucket/x", "data:text/csv,a"])
def test_other_schemes_are_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_source(url)
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


STRANGERS = [
    "files/x",
    "files/" + "0" * 32,
    "files/" + "1" * 33,
    "runs/x",
    "runs/-1-x",
    "runs/99999999999-x",
    "locks/x",
]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_else_lies_in_the_cache_is_no_matter(
    server: Server, cache: Cache, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "trips.csv").write_bytes(CONTENT)
    for name in STRANGERS:
        path = cache.folder / name
        for parent in (cache.folder, path.parent):
            parent.mkdir(mode=0o700, exist_ok=True)
        {"file": path.touch, "folder": path.mkdir, "link": lambda path=path: path.symlink_to("/etc")}[kind]()
    with run_folder(cache.folder) as place:
        assert fetch(server.url("trips.csv"), place, Cache(cache.folder, 0))
    left = {name for name in STRANGERS if os.path.lexists(cache.folder / name)}
    assert left == set(STRANGERS) - {"files/" + "0" * 32}


@pytest.mark.parametrize(
    "name", ["", "content", "content.json", "partial", "partial.json", "description.new"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "link", "garbage"])
def test_whatever_stands_in_the_place_of_a_download_is_replaced(
    server: Server, folder: Path, cache: Cache, name: str, kind: str, tmp_path: Path
) -> None:
    fetch(server.url("trips.csv"), folder, cache)
    [entry] = (cache.folder / "files").iterdir()
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    path = entry / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    garbage = json.dumps({"url": 1, "validators": {"etag": 2}, "total": "x", "sha256": [], "strong": {}})
    if kind == "folder":
        (path / "x").mkdir(parents=True)
    elif kind == "link":
        path.symlink_to(victim)
    else:
        path.write_text("" if kind == "file" else garbage)
    source = fetch(server.url("trips.csv"), folder, cache, tries=1)
    assert source
    assert source.path.read_bytes() == CONTENT
    assert victim.read_text() == "as it was"


def test_a_cache_that_another_account_can_write_to_is_refused(
    server: Server, folder: Path, cache: Cache, tmp_path: Path
) -> None:
    fetch(server.url("trips.csv"), folder, cache)
    (cache.folder / "files").chmod(0o777)
    with pytest.raises(SourceError, match="only we can write"):
        fetch(server.url("trips.csv"), folder, cache)
    (cache.folder / "files").rename(tmp_path / "elsewhere")
    (cache.folder / "files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="only we can write"):
        fetch(server.url("trips.csv"), folder, cache)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_the_cache_is_for_its_owner_only_whatever_the_umask(
    server: Server, cache: Cache, tmp_path: Path, umask: int
) -> None:
    (tmp_path / "trips.csv").write_bytes(CONTENT)
    server.fault("trips.csv", cut_after_bytes=300_000, times=1)
    before = os.umask(umask)
    try:
        with run_folder(cache.folder) as place:
            fetch(server.url("trips.csv"), place, cache)
            modes = [path.stat().st_mode for path in (cache.folder, *cache.folder.rglob("*"))]
    finally:
        os.umask(before)
    assert len(modes) > 6
    assert {oct(mode & 0o077) for mode in modes} == {"0o0"}


def test_two_runs_that_trim_at_once_disturb_nobody(server: Server, folder: Path, cache: Cache) -> None:
    tiny = Cache(cache.folder, 0)

    def work(number: int) -> bool:
        place = folder / str(number)
        place.mkdir()
        (server.folder / f"{number}.csv").write_bytes(CONTENT)
        return all(fetch(server.url(f"{number}.csv"), place, tiny) for _ in range(3))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(12)))


@pytest.fixture
def megabyte(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "small").mkdir()
    with small_disk(tmp_path / "small", "size=1m,mode=700") as folder:
        yield folder


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "few").mkdir()
    with small_disk(tmp_path / "few", "size=9m,nr_inodes=14,mode=700") as folder:
        yield folder


def test_a_full_disk_makes_room_of_what_is_kept(server: Server, megabyte: Path) -> None:
    for name in ("a.csv", "b.csv", "a.csv"):
        (server.folder / name).write_bytes(CONTENT[:700_000])
        with run_folder(megabyte) as place:
            assert fetch(server.url(name), place, Cache(megabyte, 10**9))


def test_a_download_that_fills_the_disk_fails_and_the_next_small_one_works(
    server: Server, megabyte: Path
) -> None:
    (server.folder / "big.csv").write_bytes(CONTENT * 2)
    (server.folder / "small.csv").write_bytes(CONTENT[:90_000])
    cache = Cache(megabyte, 10**9)
    with run_folder(megabyte) as place, pytest.raises(SourceError, match="No space left"):
        fetch(server.url("big.csv"), place, cache)
    with run_folder(megabyte) as place:
        source = fetch(server.url("small.csv"), place, cache)
        assert source
        assert source.path.read_bytes() == CONTENT[:90_000]


def test_where_no_inodes_are_left_downloads_make_room_too(server: Server, few_inodes: Path) -> None:
    for number in range(8):
        (server.folder / f"{number}.csv").write_bytes(CONTENT[:1000])
        with run_folder(few_inodes) as place:
            source = fetch(server.url(f"{number}.csv"), place, Cache(few_inodes, 10**9))
            assert source
            assert source.path.read_bytes() == CONTENT[:1000]


def test_where_others_took_the_last_inode_downloads_make_room_for_a_run(
    server: Server, few_inodes: Path
) -> None:
    (server.folder / "a.csv").write_bytes(CONTENT[:1000])
    with run_folder(few_inodes) as place:
        fetch(server.url("a.csv"), place, Cache(few_inodes, 10**9))
    with suppress(OSError):
        for number in range(20):
            (few_inodes / str(number)).touch()
    with run_folder(few_inodes) as place:
        assert place.is_dir()
    assert (few_inodes / "0").exists()


def test_a_download_moves_to_its_run_where_there_is_no_inode_for_a_link(few_inodes: Path) -> None:
    (few_inodes / "content").write_bytes(CONTENT)
    (few_inodes / "run").mkdir()
    with suppress(OSError):
        for number in range(20):
            (few_inodes / str(number)).touch()
    assert linked(few_inodes / "content", few_inodes / "run", "a.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_whatever_stands_in_the_place_of_a_lock_is_replaced(
    server: Server, folder: Path, cache: Cache, tmp_path: Path, kind: str
) -> None:
    fetch(server.url("trips.csv"), folder, cache)
    [lock] = (cache.folder / "locks").iterdir()
    lock.unlink()
    if kind == "folder":
        lock.mkdir()
    else:
        lock.symlink_to(tmp_path / "victim")
    assert fetch(server.url("trips.csv"), folder, cache)
    assert lock.is_file()
    assert not (tmp_path / "victim").exists()


def test_a_cache_that_cannot_be_written_is_an_error(server: Server, tmp_path: Path, megabyte: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", megabyte], check=True)
    (tmp_path / "file").touch()
    for folder in (megabyte / "x", Path("/dev/null/x"), Path("/proc/x"), tmp_path / "file"):
        with pytest.raises(SourceError, match="can't be written"):
            fetch(server.url("trips.csv"), tmp_path, Cache(folder, 0))
        with pytest.raises(SourceError, match="can't be written"), run_folder(folder):
            pass


def test_what_comes_through_a_pipe_is_kept_and_known_by_its_content(tmp_path: Path, cache: Cache) -> None:
    fifo = tmp_path / "trips.csv"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fifo.write_bytes, CONTENT)
        source = fetch(str(fifo), tmp_path, cache)
    assert source
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (source.url, source.sha256, source.bytes) == (f"pipe:{sha256}", sha256, len(CONTENT))
    assert source.path.read_bytes() == CONTENT
    with pytest.raises(SourceError, match="can't be read again"):
        fetch(source.url, tmp_path, cache)


def test_a_pipe_that_fills_the_disk_is_an_error_and_downloads_make_room_for_it(
    server: Server, megabyte: Path
) -> None:
    cache = Cache(megabyte, 10**9)
    (server.folder / "kept.csv").write_bytes(CONTENT[:600_000])
    with run_folder(megabyte) as place:
        fetch(server.url("kept.csv"), place, cache)
    fifo = server.folder / "fifo"
    os.mkfifo(fifo)
    for content, fits in ((CONTENT, True), (CONTENT * 2, False)):
        with ThreadPoolExecutor(1) as pool, run_folder(megabyte) as place:
            pool.submit(fifo.write_bytes, content)
            if fits:
                source = fetch(str(fifo), place, cache)
                assert source
                assert source.path.read_bytes() == content
            else:
                with pytest.raises(SourceError, match="No space left"):
                    fetch(str(fifo), place, cache)


def test_devices_and_sockets_are_no_files(tmp_path: Path, cache: Cache) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path / "socket", "socket"),
            (Path("/dev/zero"), "device"),
            (tmp_path, "folder"),
        ):
            with pytest.raises(SourceError, match=f"is a {kind}"):
                fetch(str(path), tmp_path, cache)


def test_a_run_leaves_nothing_behind(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        (folder / "content").write_bytes(b"x")
    assert list((tmp_path / "runs").iterdir()) == []
