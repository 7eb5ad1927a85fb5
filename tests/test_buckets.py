"""Objects in buckets are files like any other. From emulators of each cloud, and a server with faults."""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from bucket_servers import SECRET, Bucket, GcsServer, s3_environment
from helpers import Cli
from http_server import Server
from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.settings.environment import BucketLogin, Settings
from taxi_ingest.sources import (
    Cache,
    DownloadProgress,
    Found,
    SourceFile,
    download,
    files_of,
    logins_of,
    parse_source,
)
from taxi_ingest.tlc.sample import write_sample

pytest.importorskip("obstore", reason="the extra taxi-ingest[gcp] is not installed")

CONTENT = b"a,b\n1,2\n" * 100_000
KEY = "raw data/trips+100%.csv"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_DELAY_SECONDS", 0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    return downloads


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1_000_000_000)


@pytest.fixture
def faulty(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that is taken for S3, with the object s3://taxi/trips.csv."""
    for name, value in s3_environment(server.url("").rstrip("/")).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "taxi").mkdir()
    (tmp_path / "taxi/trips.csv").write_bytes(CONTENT)
    return server


def fetch(url: str, folder: Path, cache: Cache, **how: Any) -> SourceFile | None:
    return parse_source(url).fetch(folder, cache, **how)


def fetched(url: str, folder: Path, cache: Cache, **how: Any) -> bytes:
    file = fetch(url, folder, cache, **how)
    assert file
    return file.path.read_bytes()


def statuses(server: Server) -> list[int]:
    return [request.status for request in server.requests]


# Each cloud


def test_an_object_is_fetched_whole_and_its_sha256_known(bucket: Bucket, folder: Path, cache: Cache) -> None:
    bucket.put(KEY, CONTENT)
    seen: list[DownloadProgress] = []
    file = fetch(bucket.url(KEY), folder, cache, on_progress=seen.append)
    assert file
    assert (file.url, file.name, file.bytes) == (bucket.url(KEY), "trips+100%.csv", len(CONTENT))
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert file.path.read_bytes() == CONTENT
    assert seen[-1] == DownloadProgress(len(CONTENT), len(CONTENT))


def test_an_object_that_is_the_same_is_not_fetched_and_a_changed_one_is(
    bucket: Bucket, folder: Path, cache: Cache
) -> None:
    bucket.put(KEY, CONTENT)
    source = parse_source(bucket.url(KEY))
    file = source.fetch(folder, cache)
    assert file
    assert source.fetch(folder, Cache(folder / "new", 0), known=file.validators) is None
    assert source.is_unchanged(file.sha256, file.validators)
    bucket.put(KEY, b"new")
    assert source.is_changed(file.sha256, file.validators)
    assert fetched(bucket.url(KEY), folder, cache, known=file.validators) == b"new"


def test_what_is_known_of_an_object_before_it_is_fetched(bucket: Bucket) -> None:
    bucket.put(KEY, CONTENT)
    assert parse_source(bucket.url(KEY)).find() == Found(len(CONTENT))
    assert parse_source(bucket.url(KEY)).peek(5) == CONTENT[:5]
    assert parse_source(bucket.url("none.csv")).find() is None


def test_a_missing_object_and_a_missing_bucket_are_told_apart(
    bucket: Bucket, folder: Path, cache: Cache
) -> None:
    with pytest.raises(SourceError, match=rf"^There is no object {bucket.url('none.csv')}\.$"):
        fetch(bucket.url("none.csv"), folder, cache)
    nowhere = f"{bucket.scheme}://nowhere/x.csv"
    with pytest.raises(SourceError, match=r"^There is no (bucket|container) nowhere\.$"):
        fetch(nowhere, folder, cache)
    # Nobody takes its months for unpublished.
    assert parse_source(nowhere).find() == Found()


def test_nothing_new_in_google_costs_one_request(gcs: GcsServer, gcs_bucket: Bucket, folder: Path) -> None:
    gcs_bucket.put("x.csv", CONTENT)
    file = fetch(gcs_bucket.url("x.csv"), folder, Cache(folder / "one", 1 << 30))
    assert file
    gcs.requests.clear()
    assert fetch(gcs_bucket.url("x.csv"), folder, Cache(folder / "two", 0), known=file.validators) is None
    assert [status for _, _, status in gcs.requests] == [304]


def test_folders_and_patterns_name_the_objects_in_them(bucket: Bucket) -> None:
    for key in ("2024/a.csv", "2024/b.parquet", "2024/notes.md", "2024/old/c.csv", "2025/d.csv", "x[1].csv"):
        bucket.put(key, b"x")
    for pattern, keys in {
        "2024/": ["2024/a.csv", "2024/b.parquet"],
        "2024/*.csv": ["2024/a.csv"],
        "*/*.csv": ["2024/a.csv", "2025/d.csv"],
        "x[1].csv": ["x[1].csv"],
        "2024/a.csv": ["2024/a.csv"],
    }.items():
        assert files_of(bucket.url(pattern)) == [bucket.url(key) for key in keys]
    with pytest.raises(UsageError, match="No object matches"):
        files_of(bucket.url("2026/*"))
    with pytest.raises(SourceError, match="has no CSV or Parquet files"):
        files_of(bucket.url("2026/"))


# What goes wrong on the way


def test_a_cut_download_goes_on_where_it_was_cut(faulty: Server, folder: Path, cache: Cache) -> None:
    faulty.fault("taxi/trips.csv", cut_after_bytes=600_000, times=1)
    assert fetched("s3://taxi/trips.csv", folder, cache) == CONTENT
    assert statuses(faulty) == [200, 206]
    assert int(faulty.requests[1].headers["range"].removeprefix("bytes=").rstrip("-")) > 0


def test_an_object_that_changes_while_it_is_fetched_is_begun_anew(
    faulty: Server, tmp_path: Path, folder: Path, cache: Cache
) -> None:
    new = b"new" * 300_000
    faulty.fault(
        "taxi/trips.csv",
        cut_after_bytes=600_000,
        times=1,
        then=lambda: (tmp_path / "taxi/trips.csv").write_bytes(new),
    )
    assert fetched("s3://taxi/trips.csv", folder, cache) == new
    assert statuses(faulty) == [200, 412, 200]


def test_a_damaged_object_is_fetched_again(faulty: Server, folder: Path, cache: Cache) -> None:
    right = hashlib.md5(CONTENT).hexdigest()
    faulty.fault("taxi/trips.csv", headers={"ETag": f'"{right}"'}, stall_seconds=0, times=1)
    (faulty.folder / "taxi/trips.csv").write_bytes(b"x" + CONTENT[1:])
    faulty.faults["/taxi/trips.csv"][0].then = lambda: (faulty.folder / "taxi/trips.csv").write_bytes(CONTENT)
    assert fetched("s3://taxi/trips.csv", folder, cache) == CONTENT
    assert statuses(faulty) == [200, 200]


@pytest.mark.parametrize("composed", [False, True])
def test_a_damaged_object_of_googles_is_fetched_again(
    gcs: GcsServer, gcs_bucket: Bucket, folder: Path, cache: Cache, composed: bool
) -> None:
    key = f"{composed}.csv"
    gcs_bucket.put(key, CONTENT)
    if composed:
        gcs.composed.add(key)
    gcs.damaged.append(key)
    assert fetched(gcs_bucket.url(key), folder, cache) == CONTENT
    assert gcs.damaged == []


def test_an_object_whose_checksum_is_not_told_is_fetched_with_a_warning(
    gcs: GcsServer,
    gcs_bucket: Bucket,
    folder: Path,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gcs_bucket.put("untold.csv", CONTENT)
    gcs.composed.add("untold.csv")
    monkeypatch.setattr(gcs, "knows_nothing", True)
    assert fetched(gcs_bucket.url("untold.csv"), folder, cache) == CONTENT
    assert "The checksum of untold.csv was not told" in caplog.text


def test_an_encrypted_object_is_fetched_whose_etag_only_looks_like_a_checksum(
    faulty: Server, folder: Path, cache: Cache
) -> None:
    faulty.fault("taxi/trips.csv", headers={"ETag": f'"{"0" * 32}"'})
    assert fetched("s3://taxi/trips.csv", folder, cache) == CONTENT


def test_what_may_pass_is_tried_again(faulty: Server, folder: Path, cache: Cache) -> None:
    faulty.fault("taxi/trips.csv", status=503, times=2)
    assert fetched("s3://taxi/trips.csv", folder, cache, tries=3) == CONTENT


@pytest.mark.parametrize(
    ("status", "code", "message", "hint"),
    [
        (400, "ExpiredToken", "The credentials for S3 have expired.", "AWS_PROFILE"),
        (403, "InvalidAccessKeyId", "S3 does not accept the credentials.", "AWS_PROFILE"),
        (400, "AuthorizationHeaderMalformed", "The bucket taxi is in another region.", "AWS_REGION"),
        (403, "AccessDenied", "S3 denies access to s3://taxi/trips.csv (403).", "need a right on it"),
        (401, "", "S3 does not accept the credentials.", "AWS_PROFILE"),
        (503, "", "S3 answers 503 for s3://taxi/trips.csv.", "Try again later."),
        (301, "", "The bucket taxi is in another region.", "AWS_REGION"),
    ],
)
def test_what_a_store_refuses_is_said(
    faulty: Server, folder: Path, cache: Cache, status: int, code: str, message: str, hint: str
) -> None:
    faulty.fault("taxi/trips.csv", status=status, body=f"<Error><Code>{code}</Code></Error>".encode())
    with pytest.raises(SourceError) as failure:
        fetch("s3://taxi/trips.csv", folder, cache, tries=1)
    assert str(failure.value) == message
    assert hint in failure.value.hint
    assert SECRET not in repr(failure.value)


def test_a_store_that_is_not_there_is_said(
    folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
    with pytest.raises(SourceError, match=r"Google Cloud Storage can't be reached for gs://taxi/x.csv"):
        fetch("gs://taxi/x.csv", folder, cache, tries=1)


# Who asks


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "can't be read"),
        ("no JSON", "is no key file of Google's"),
        (
            json.dumps({"type": "service_account", "client_email": "a@b", "private_key": SECRET}),
            "The credentials for Google Cloud Storage can't be used",
        ),
    ],
)
def test_a_key_file_that_cannot_be_used_is_said_and_not_shown(
    tmp_path: Path,
    folder: Path,
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    content: str | None,
    said: str,
) -> None:
    path = tmp_path / "key.json"
    if content:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(SourceError) as failure:
        fetch("gs://taxi/x.csv", folder, cache, tries=1)
    assert said in str(failure.value)
    assert SECRET not in str(failure.value) + failure.value.hint


def test_a_profile_opens_a_bucket_and_one_that_is_not_there_is_said(
    s3_bucket: Bucket, tmp_path: Path, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_bucket.put("x.csv", b"x")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    path.write_text(
        f"[taxi]\naws_access_key_id = AKIA\naws_secret_access_key = {SECRET}\nregion = eu-west-1\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_PROFILE", "taxi")
    assert fetched(s3_bucket.url("x.csv"), folder, cache) == b"x"
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(SourceError, match=r"The credentials for S3 can't be used: .*other"):
        fetch(s3_bucket.url("x.csv"), folder, cache)


def test_without_credentials_a_public_bucket_is_read(
    faulty: Server, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert fetched("s3://taxi/trips.csv", folder, cache) == CONTENT
    assert "authorization" not in faulty.requests[0].headers


def test_a_login_that_is_handed_on_is_used_and_never_stored(
    faulty: Server, folder: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = monkeypatch.delenv("AWS_ENDPOINT_URL") or faulty.url("").rstrip("/")
    login = BucketLogin("s3", {"endpoint": address, "access_key_id": "OTHER", "secret_access_key": SECRET})
    settings = Settings().with_bucket_login(login)
    source = parse_source("s3://taxi/trips.csv", logins_of(settings))
    assert source.fetch(folder, cache)
    assert "OTHER" in faulty.requests[0].headers["authorization"]
    assert SECRET not in repr(source) + repr(settings) + repr(login) + settings.model_dump_json()
    with pytest.raises(TypeError):
        pickle.dumps(source)


# Addresses


@pytest.mark.parametrize(
    "url",
    [f"s3://key:{SECRET}@taxi/x.csv", "gs:///x.csv", "gs://taxi//x.csv", "gs://taxi/a/../x", "gs://taxi/a\0"],
)
def test_an_address_that_cannot_be_asked_for_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_source(url)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("url", ["gs://taxi", "gs://taxi/", "gs://taxi/2024/"])
def test_a_folder_is_no_file(url: str) -> None:
    with pytest.raises(UsageError, match="is no file, but a folder of a bucket"):
        parse_source(url)


def test_an_address_has_one_spelling() -> None:
    assert parse_source(" GS://taxi/a b%20.csv ").url == "gs://taxi/a b%20.csv"


# By the command line


def test_a_bucket_is_loaded_from_and_the_same_object_again_is_skipped(
    cli: Cli, gcs: GcsServer, gcs_bucket: Bucket, tmp_path: Path, embedded_database_url: str
) -> None:
    file = write_sample("green", "2024-01", tmp_path / "month.parquet", 20)
    url = gcs_bucket.url("green/green_tripdata_2024-01.parquet")
    gcs_bucket.put("green/green_tripdata_2024-01.parquet", file.read_bytes())
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    done = cli("ingest", url, "--table", "green", "--json", env=env)
    assert json.loads(done.stdout)["rows_loaded"] == 20, done.stderr
    gcs.requests.clear()
    env["TAXI_INGEST_TLC_URL"] = gcs_bucket.url("{dataset}")
    again = cli("ingest", "--dataset", "green", "--month", "2024-01", "--table", "green", "--json", env=env)
    outcome = json.loads(again.stdout)
    assert (outcome["status"], outcome["url"]) == ("skipped", url), again.stderr
    assert gcs.requests[-1][2] == 304


def test_without_the_extra_a_bucket_is_refused_and_all_else_works(
    cli: Cli, trips: Path, tmp_path: Path, embedded_database_url: str
) -> None:
    for name in ("obstore", "google", "boto3", "prefect_gcp", "prefect_aws"):
        (tmp_path / "absent" / name).mkdir(parents=True)
        (tmp_path / "absent" / name / "__init__.py").write_text(f"raise ImportError('{name}')")
    path = os.pathsep.join([str(tmp_path / "absent"), *sys.path])
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url, "PYTHONPATH": path}
    done = cli("ingest", "gs://taxi/x.csv", "--table", "green", env=env)
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        "Error: gs://, s3:// and az:// need an extra that isn't installed.\n"
        "Hint: pip install 'taxi-ingest[gcp]'\n"
    )
    assert cli("ingest", trips, "--table", "green", env=env).returncode == 0
    assert cli("blocks", "ls", env=env).returncode == 0
