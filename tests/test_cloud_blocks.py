"""Buckets and clouds are Prefect's blocks, whose credentials are used and shown to nobody."""

import json
import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, get_args
from uuid import UUID

import pytest

from bucket_servers import SECRET, Bucket, service_account_key
from builders import TRIPS
from helpers import Cli, query
from http_server import Server
from taxi_ingest.errors import DatabaseError, UsageError
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.job import BlockType, LoadOptions
from taxi_ingest.tlc.sample import write_sample

pytest.importorskip("obstore", reason="the extra taxi-ingest[gcp] is not installed")

AMAZON = f"Access key ID,Secret access key\nAKIABLOCK,{SECRET}\n"


def documents() -> list[dict[str, Any]]:
    """Prefect's blocks of all our types."""
    # Imports Prefect.
    from taxi_ingest.flows import blocks

    return blocks.documents(get_args(BlockType))


@pytest.fixture
def google_key(server: Server) -> dict[str, str]:
    """The key of a service account, which gets its tokens from the test's server."""
    return service_account_key(server.url("token"))


@pytest.fixture
def tokens(tmp_path: Path) -> None:
    """The test's server gives tokens."""
    token = {"access_token": "given", "expires_in": 3600, "token_type": "Bearer"}
    (tmp_path / "token").write_text(json.dumps(token))


def create(type: Any, name: str, key: str | None, bucket: str = "", overwrite: bool = True) -> Any:
    from taxi_ingest.flows.cloud_blocks import create_cloud_block

    with NamedTemporaryFile("w", suffix=".json") as file:
        file.write(key or "")
        file.flush()
        return create_cloud_block(type, name, bucket, "", file.name if key else None, None, overwrite)


def keys_that_are_none(whole: dict[str, str]) -> dict[str, str]:
    """Texts that somebody might take for Google's key -> what is wrong with them."""

    def key(**changes: Any) -> str:
        return json.dumps(whole | changes)

    private = whole["private_key"]
    return {
        SECRET: "is no JSON",
        key()[:-40]: "is no JSON, or not all of it",
        json.dumps([SECRET]): "is no key of a service account",
        key(type="authorized_user"): "is no key of a service account",
        key(client_email=""): "has no client_email",
        key(token_uri=None): "has no token_uri",
        key(private_key=None): "has no private_key",
        key(private_key=SECRET): "has a private_key that is none, or not all of it",
        key(private_key=private[:400]): "has a private_key that is none, or not all of it",
        key(private_key=private.replace("A", "")): "has a private_key that is none, or not all of it",
    }


def test_blocks_of_buckets_are_created_listed_checked_and_removed(
    cli: Cli, gcs_bucket: Bucket, google_key: dict[str, str]
) -> None:
    gcs_bucket.put("data/x.csv", b"x")
    where = ("--type", "gcs-bucket", "--name", "zoom-gcs", "--bucket", gcs_bucket.name, "--folder", "data")
    made = cli("blocks", "create", *where, "--key-file", "-", input=json.dumps(google_key))
    assert made.stdout == f"Saved block zoom-gcs: gs://{gcs_bucket.name}/data/\n", made.stderr
    listed = cli("blocks", "ls", "--json").stdout
    expected = {"name": "zoom-gcs", "type": "gcs-bucket", "address": f"gs://{gcs_bucket.name}/data/"}
    assert expected in json.loads(listed)["blocks"]
    checked = cli("blocks", "check", "gcs-bucket/zoom-gcs")
    assert checked.stdout == f"gcs-bucket/zoom-gcs: gs://{gcs_bucket.name}/data/ answers\n", checked.stderr
    assert "PRIVATE" not in made.stderr + listed + checked.stderr
    assert cli("blocks", "rm", "zoom-gcs").stdout == "Removed block zoom-gcs\n"
    assert "zoom-gcs" not in cli("blocks", "ls").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--type", "gcs-bucket"), "Which bucket?"),
        (("--type", "gcs-bucket", "--bucket", "b", "--host", "h"), "--host says nothing of a gcs-bucket."),
        (("--type", "gcp-credentials", "--key-file", "/none.json"), "The key file /none.json can't be read"),
    ],
)
def test_flags_that_make_no_block_are_refused(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    done = cli("blocks", "create", *arguments)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("block_type", ["gcs-bucket", "gcp-credentials", "bigquery-warehouse"])
def test_a_broken_key_of_googles_makes_no_block_and_is_shown_nowhere(
    api: str, google_key: dict[str, str], server: Server, block_type: Any
) -> None:
    del api
    for text, said in keys_that_are_none(google_key).items():
        with pytest.raises(UsageError, match=f"The key file /.*json {said}") as failure:
            create(block_type, "unusable", text, "nowhere-at-all")
        assert not {SECRET, "PRIVATE"} & set(re.split(r"\W", repr(failure.getrepr())))
    assert not server.requests
    assert "unusable" not in [each["name"] for each in documents()]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (SECRET, "is no access key of Amazon's"),
        (f"{{{SECRET}}}", "is no access key of Amazon's"),
        (f"[me]\naws_secret_access_key={SECRET}", "has no aws_access_key_id"),
        (f"[me\naws_secret_access_key={SECRET}", "is no access key of Amazon's"),
        ("Access key ID,Secret access key\nAKIABLOCK", "has no aws_secret_access_key"),
        (f"Secret access key\n{SECRET}", "has no aws_access_key_id"),
        ("Access key ID,Secret access key\n", "is no access key of Amazon's"),
    ],
)
def test_a_broken_key_of_amazons_makes_no_block_and_is_shown_nowhere(api: str, key: str, said: str) -> None:
    del api
    with pytest.raises(UsageError, match=f"The key file /.*json {said}") as failure:
        create("s3-bucket", "unusable", key, "nowhere-at-all")
    assert SECRET not in repr(failure.getrepr())
    assert "unusable" not in [each["name"] for each in documents()]


def stored(name: str, data: dict[str, Any]) -> None:
    """Have a block hold this, whatever it is."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import BlockDocumentUpdate

    with get_client(sync_client=True) as client:
        (found,) = (each for each in documents() if each["name"] == name)
        client.update_block_document(UUID(found["id"]), BlockDocumentUpdate(data=data))


def test_a_stored_block_whose_key_is_broken_says_so_wherever_it_is_used(
    cli: Cli, api: str, google_key: dict[str, str], tokens: None, tmp_path: Path
) -> None:
    del api, tokens
    create("gcp-credentials", "broken", json.dumps(google_key))
    stored("broken", {"service_account_info": google_key | {"private_key": SECRET}})
    said = "The block broken can't be used: its key has a private_key that is none, or not all of it."
    source, place = ("ingest", "gs://taxi/x.csv", "--table", "t", "--source-block"), "bigquery://taxi/trips"
    for command, code in (
        (("blocks", "check", "broken"), 5),
        ((*source, "broken"), 3),
        (("loads", "--to", place, "--block", "broken"), 5),
    ):
        done = cli(*command)
        assert (done.returncode, said in done.stderr, SECRET in done.stderr) == (code, True, False), done
    file = tmp_path / "gone.json"
    stored("broken", {"service_account_file": str(file)})
    done = cli("blocks", "check", "broken")
    said = f"The block broken can't be used: the key file {file} can't be read: No such file or directory."
    assert (done.returncode, said in done.stderr) == (5, True), done


def test_a_block_without_a_key_where_nobody_is_logged_in_is_not_saved(api: str, gcs_bucket: Bucket) -> None:
    del api
    with pytest.raises(DatabaseError, match="Google's library makes no GcsBucket"):
        create("gcs-bucket", "nobody", None, gcs_bucket.name)
    for block_type in ("gcp-credentials", "gcs-bucket"):
        with pytest.raises(UsageError, match="is no name for a block"):
            create(block_type, "Not_Allowed", None, gcs_bucket.name)
    with pytest.raises(UsageError, match="Which project"):
        create("bigquery-warehouse", "nobody", None)


def test_a_key_gets_a_token_or_its_block_is_not_saved(
    api: str, google_key: dict[str, str], tokens: None, server: Server
) -> None:
    del api, tokens
    key = json.dumps(google_key)
    assert create("gcp-credentials", "asked-cloud", key).address == google_key["client_email"]
    with pytest.raises(UsageError, match="There is a block asked-cloud already"):
        create("gcp-credentials", "asked-cloud", key, overwrite=False)
    server.fault("token", status=400)
    with pytest.raises(DatabaseError, match="Google does not take the credentials"):
        create("gcp-credentials", "refused", key)
    with pytest.raises(DatabaseError, match="Google can't be reached"):
        create("gcp-credentials", "refused", json.dumps(google_key | {"token_uri": "http://127.0.0.1:9/"}))


def test_a_warehouse_is_asked_for_its_datasets(
    api: str, google_key: dict[str, str], tokens: None, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    del api, tokens
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.url("").rstrip("/"))
    datasets = server.folder / "bigquery/v2/projects/taxi/datasets"
    datasets.parent.mkdir(parents=True)
    datasets.write_text('{"datasets": []}')
    assert create("bigquery-warehouse", "warehouse", json.dumps(google_key)).address == "bigquery://taxi"
    for status, said in ((403, "denies access to the project taxi"), (404, "can't find the project taxi")):
        server.fault("bigquery/v2/projects/taxi/datasets", status=status, times=1)
        with pytest.raises(DatabaseError, match=f"BigQuery {said}"):
            create("bigquery-warehouse", "refused", json.dumps(google_key))


def test_a_bucket_that_is_not_there_is_told_in_the_same_way_for_any_block(
    cli: Cli, gcs_bucket: Bucket
) -> None:
    del gcs_bucket
    done = cli("blocks", "create", "--type", "gcs-bucket", "--bucket", "nowhere-at-all", "--name", "unusable")
    assert (done.returncode, "There is no bucket nowhere-at-all." in done.stderr) == (5, True), done.stderr
    assert "unusable" not in cli("blocks", "ls").stdout


def test_a_source_is_read_with_a_blocks_credentials_which_stand_nowhere_else(
    api: str,
    s3_bucket: Bucket,
    server: Server,
    embedded_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from prefect_runs import flow_run, id_of
    from taxi_ingest import ingest

    del api
    create("s3-bucket", "of-amazon", AMAZON, s3_bucket.name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url("").rstrip("/"))
    (server.folder / "taxi").mkdir()
    (server.folder / "taxi/green_tripdata_2024-01.csv").write_text(TRIPS)
    outcome = ingest("s3://taxi/green_tripdata_2024-01.csv", "green", source_block="of-amazon")
    assert outcome.rows_loaded == 2
    assert "AKIABLOCK" in server.requests[-1].headers["authorization"]
    assert SECRET not in flow_run(id_of(outcome.flow_run_url)).model_dump_json()
    assert SECRET not in str(
        query(embedded_database_url, "SELECT loads::text FROM taxi_ingest.loads AS loads")
    )


def test_months_are_read_from_a_bucket_by_a_block(
    prefect_server: str,
    s3_bucket: Bucket,
    tmp_path: Path,
    embedded_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from taxi_ingest import backfill, prefect_api

    del prefect_server
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    monkeypatch.setenv("TAXI_INGEST_TLC_URL", s3_bucket.url("data/{dataset}"))
    for month in ("2021-01", "2021-02"):
        file = write_sample("green", month, tmp_path / "month.parquet", 20)
        s3_bucket.put(f"data/green/green_tripdata_{month}.parquet", file.read_bytes())
    options = LoadOptions(source_block="of-months")
    with prefect_api(Settings()):
        create("s3-bucket", "of-months", AMAZON, s3_bucket.name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        assert backfill(["green"], "2021-01..2021-02", options=options).rows_loaded == 40
        again = backfill(["green"], "2021-01..2021-02", options=options, reprocess="new")
    assert [month.status for month in again.months] == ["skipped", "skipped"]


def test_a_block_of_the_wrong_type_and_a_mistyped_one_are_told_alike_by_all_commands(
    cli: Cli,
    api: str,
    s3_bucket: Bucket,
    google_key: dict[str, str],
    tokens: None,
    embedded_database_url: str,
) -> None:
    from prefect_runs import block

    del api, tokens
    block(embedded_database_url, "my-database")
    create("s3-bucket", "my-bucket", AMAZON, s3_bucket.name)
    create("gcp-credentials", "my-google", json.dumps(google_key))
    load = ("ingest", "s3://taxi/x.csv", "--table", "t")
    for command, name, said in (
        ((*load, "--source-block"), "my-database", "sqlalchemy-connector, which opens no bucket"),
        (
            ("loads", "--to", "bigquery://p/d", "--block"),
            "my-bucket",
            "s3-bucket, which does not open BigQuery",
        ),
        (("status", "--block"), "my-bucket", "s3-bucket, which names no database"),
        (("loads", "--block"), "my-google", "gcp-credentials, which does not say where to load into"),
        (("blocks", "check"), "my-google", None),
    ):
        if said:
            done = cli(*command, name)
            said = f"Error: The block {name} is of type {said}.\nHint: "
            assert (done.returncode, done.stderr.startswith(said)) == (2, True), done.stderr
        done = cli(*command, f"{name}s")
        said = f"Error: There is no block {name}s.\nHint: Did you mean {name}?\n"
        assert (done.returncode, done.stderr) == (2, said)


def test_blocks_of_one_name_are_told_apart_by_their_type(
    cli: Cli, api: str, s3_bucket: Bucket, embedded_database_url: str
) -> None:
    from prefect_runs import block

    del api
    block(embedded_database_url, "twice")
    create("s3-bucket", "twice", AMAZON, s3_bucket.name)
    for command in (("blocks", "check", "twice"), ("blocks", "rm", "twice"), ("loads", "--block", "twice")):
        done = cli(*command)
        assert (done.returncode, "There are 2 blocks twice." in done.stderr) == (2, True), done.stderr
    listed = [line.split("\t") for line in cli("blocks", "ls").stdout.splitlines()]
    assert ["twice", "s3-bucket", s3_bucket.url("")] in listed
    assert ["twice", "sqlalchemy-connector"] in [line[:2] for line in listed]
    for name in ("s3-bucket/twice", "sqlalchemy-connector/twice"):
        for command in (("blocks", "check", name), ("loads", "--block", name), ("blocks", "rm", name)):
            done = cli(*command)
            assert done.returncode == 0, done.stderr
