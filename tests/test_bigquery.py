"""BigQuery: a month is a partition, put there by one load job; what it costs is nothing.

The server in bigquery_server.py stands for Google: what is asked of it is what is tested here.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.bigquery", reason="the extra [gcp] is not installed")

from bigquery_server import BigQueryServer, Refused
from builders import HEADER, csv_of, elsewhere, row, trips, written
from helpers import Cli, Publish, run_python, until
from taxi_ingest.errors import BusyError, DatabaseError, DataError, TransientDatabaseError, UsageError
from taxi_ingest.load import Filter, LoadRecord, LoadResult, parse_target
from taxi_ingest.places import Place, place_at
from taxi_ingest.settings.job import Job, LoadOptions
from taxi_ingest.sources import local_file, parse_source
from taxi_ingest.tlc import dataset_named
from taxi_ingest.tlc.sample import write_sample
from taxi_ingest.transform import open_stream

TABLE = "yellow_tripdata"
YELLOW = parse_target(TABLE)
LEDGER = "taxi_ingest_loads"


@pytest.fixture
def warehouse(bigquery: BigQueryServer) -> Place:
    return place_at(bigquery.address)


def load(place: Place, path: Path, table: str = TABLE, run: str | None = None, **how: Any) -> LoadResult:
    """Load a file as the task of the flow does."""
    job = Job(url=str(path), table=table, **how)
    stream = open_stream(path, path.name, job.chunk_size)
    return place.load(stream, local_file(str(path)), parse_target(table), job, flow_run_url=run)


def amounts(server: BigQueryServer, month: str = "202401", table: str = TABLE) -> list[float]:
    return sorted(each["total_amount"] for each in server.partition(table, month))


def month_jobs(server: BigQueryServer, table: str = TABLE) -> list[dict[str, Any]]:
    """What was asked for of jobs that load into a table."""
    found = [job["configuration"]["load"] for job in server.job_requests()]
    return [job for job in found if job["destinationTable"]["tableId"].partition("$")[0] == table]


def states(place: Place) -> list[tuple[int, str]]:
    return [(load.load_id, load.status) for load in place.list_loads(Filter())]


def service_account_key(token_uri: str) -> dict[str, str]:
    """A key file's content, whose tokens come from an address of ours."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "loader@my-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


def refuse(status: HTTPStatus, reason: str, message: str) -> Any:
    def refused() -> None:
        raise Refused(status, reason, message)

    return refused


# What is asked


def test_a_month_is_put_into_a_partition_of_its_own_by_one_load_job(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(7), row(2), row(3)])
    done = load(warehouse, path)
    assert (done.status, done.record.rows_loaded, amounts(bigquery)) == ("loaded", 3, [2, 3, 7])
    [job] = month_jobs(bigquery)
    del job["schema"]
    assert job == {
        "destinationTable": {
            "projectId": bigquery.project,
            "datasetId": bigquery.dataset,
            "tableId": "yellow_tripdata$202401",
        },
        "sourceFormat": "PARQUET",
        "writeDisposition": "WRITE_TRUNCATE",
        "createDisposition": "CREATE_NEVER",
        "schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"],
    }
    named = bigquery.job_requests()[0]["jobReference"]
    sha256 = done.record.sha256
    assert named["jobId"] == f"taxi-ingest-{bigquery.dataset}-yellow_tripdata-202401-{sha256}-1"
    assert named["location"] == "EU"


def test_the_table_is_made_for_months_by_their_ingestion_and_clustered_by_pickup(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    made = bigquery.tables[TABLE].resource
    assert made["timePartitioning"] == {"type": "MONTH"}
    assert made["clustering"] == {"fields": ["tpep_pickup_datetime"]}
    types = {column["name"]: column["type"] for column in made["schema"]["fields"]}
    assert list(types) == [column.name for column in dataset_named("yellow").columns]
    assert types["tpep_pickup_datetime"] == "DATETIME"
    described = [column["name"] for column in made["schema"]["fields"] if column.get("description")]
    assert described == list(types)


def test_stray_pickups_stay_in_the_month_of_their_file(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    stray = row(9, pickup="2008-12-31 23:59:59")
    load(warehouse, trips(tmp_path, [stray, *(row(n) for n in range(30))]))
    assert list(bigquery.tables[TABLE].partitions) == ["202401"]
    first = bigquery.partition(TABLE, "202401")[0]
    assert first["tpep_pickup_datetime"] == datetime(2008, 12, 31, 23, 59, 59)


def test_months_of_all_eras_go_into_one_table(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    eras = ("2009-01", "2012-05", "2015-03", "2019-02", "2025-01")
    for month in eras:
        load(warehouse, write_sample("yellow", month, tmp_path / f"yellow_tripdata_{month}.parquet", 50))
    partitions = bigquery.tables[TABLE].partitions
    assert {month: len(rows) for month, rows in partitions.items()} == {
        month.replace("-", ""): 50 for month in eras
    }


def test_nothing_is_asked_that_costs(tmp_path: Path, bigquery: BigQueryServer, warehouse: Place) -> None:
    path = trips(tmp_path, [row(2)])
    load(warehouse, path)
    load(warehouse, trips(tmp_path, [row(3)]))
    warehouse.list_loads(Filter())
    warehouse.undo(2)
    assert all(set(job["configuration"]) == {"load"} for job in bigquery.job_requests())
    assert not [request for request in bigquery.requests if request.path.endswith("/queries")]
    assert not [request for request in bigquery.requests if "insertAll" in request.path]


# Exactly once


def test_the_same_file_again_asks_for_no_job(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    assert warehouse.look_back(YELLOW, parse_source(str(path))).file is None
    first = load(warehouse, path)
    number = len(bigquery.jobs)
    known = warehouse.look_back(YELLOW, parse_source(str(path)))
    assert (known.file, known.table and known.table.dataset) == (first.record, "yellow")
    again = load(warehouse, path)
    assert (again.status, again.record, len(bigquery.jobs)) == ("skipped", first.record, number)


def test_a_revised_file_takes_the_place_of_its_month_and_of_no_other(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(1)], "yellow_tripdata_2023-12.csv"))
    load(warehouse, trips(tmp_path, [row(2)]))
    done = load(warehouse, trips(tmp_path, [row(3), row(4)]))
    assert (done.status, done.record.replaces) == ("replaced", 2)
    assert (amounts(bigquery, "202312"), amounts(bigquery)) == ([1], [3, 4])
    assert states(warehouse) == [(1, "loaded"), (2, "replaced"), (3, "loaded")]


def test_what_was_loaded_but_not_written_down_is_found_and_not_loaded_again(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    bigquery.fault("POST", "/jobs", lambda: None)
    bigquery.fault("POST", "/jobs", refuse(HTTPStatus.FORBIDDEN, "accessDenied", "Access Denied: the ledger"))
    with pytest.raises(DatabaseError, match="Access Denied: the ledger"):
        load(warehouse, path)
    assert states(warehouse) == []
    assert load(warehouse, path).status == "loaded"
    assert (len(month_jobs(bigquery)), amounts(bigquery), states(warehouse)) == (1, [2], [(1, "loaded")])


def test_what_was_not_written_down_and_has_been_replaced_since_is_loaded_again(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    lost = trips(tmp_path, [row(2)])
    bigquery.fault("POST", "/jobs", lambda: None)
    bigquery.fault("POST", "/jobs", refuse(HTTPStatus.FORBIDDEN, "accessDenied", "Access Denied"))
    with pytest.raises(DatabaseError):
        load(warehouse, lost)
    load(warehouse, elsewhere(tmp_path, [row(3)]))
    assert amounts(bigquery) == [3]
    load(warehouse, lost, if_loaded="replace")
    assert amounts(bigquery) == [2]
    assert [job.rpartition("-")[2] for job in bigquery.jobs if "202401" in job] == ["1", "1", "2"]


def test_two_that_load_the_same_file_share_one_job_and_one_row_in_the_ledger(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(n) for n in range(50)])
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: load(warehouse, path), range(4)))
    assert len([job for job in bigquery.jobs if "202401" in job]) == 1
    assert {result.record.rows_loaded for result in done} == {50}
    assert states(warehouse) == [(1, "loaded")]


def test_months_that_are_loaded_at_once_get_numbers_of_their_own(tmp_path: Path, warehouse: Place) -> None:
    paths = [trips(tmp_path, [row(n)], f"yellow_tripdata_2024-0{n}.csv") for n in range(1, 6)]
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda path: load(warehouse, path), paths))
    assert sorted(result.record.load_id for result in done) == [1, 2, 3, 4, 5]
    assert {load.load_id for load in warehouse.list_loads(Filter())} == {1, 2, 3, 4, 5}


def test_the_run_that_did_not_get_the_answer_is_told_that_it_has_loaded(
    tmp_path: Path, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    load(warehouse, path, run="http://prefect/run/1")
    assert load(warehouse, path, run="http://prefect/run/1").status == "loaded"
    assert load(warehouse, path, run="http://prefect/run/2").status == "skipped"


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/jobs"), ("POST", "/tables"), ("POST", "/jobs"), ("GET", "/datasets/")],
)
def test_an_answer_that_is_lost_on_its_way_makes_nothing_happen_twice(
    method: str, path: str, tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    bigquery.lost_answers.append((method, path))
    file = trips(tmp_path, [row(2)])
    with suppress(TransientDatabaseError):
        load(warehouse, file, run="http://prefect/run/1")
    assert bigquery.lost_answers == []
    done = load(warehouse, file, run="http://prefect/run/1")
    assert (done.status, done.record.load_id, amounts(bigquery)) == ("loaded", 1, [2])
    assert (states(warehouse), len(bigquery.tables[LEDGER].rows)) == ([(1, "loaded")], 1)
    assert len([job for job in bigquery.jobs if "202401" in job]) == 1


def test_a_ledger_that_does_not_answer_is_written_once(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    file = trips(tmp_path, [row(2)])
    # It comes after the month's file.
    bigquery.fault("PUT", "/jobs", lambda: bigquery.lost_answers.append(("POST", "/jobs")))
    with suppress(TransientDatabaseError):
        load(warehouse, file)
    assert load(warehouse, file).record.load_id == 1
    assert (states(warehouse), len(bigquery.tables[LEDGER].rows)) == ([(1, "loaded")], 1)


def test_googles_short_absence_is_waited_for(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    absent = refuse(HTTPStatus.SERVICE_UNAVAILABLE, "backendError", "Try again")
    for method, path in (("GET", "/datasets/"), ("GET", "/jobs/"), ("POST", "/jobs"), ("PUT", "/jobs")):
        bigquery.fault(method, path, absent)
    assert load(warehouse, trips(tmp_path, [row(2)])).status == "loaded"
    assert (bigquery.faults, amounts(bigquery)) == ([], [2])


def test_who_is_not_to_wait_for_another_run_is_told_that_it_loads(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    bigquery.holds_jobs = True
    with ThreadPoolExecutor(1) as pool:
        # Whose own job it is waits for it.
        first = pool.submit(load, warehouse, path, wait=False)
        until(lambda: bigquery.jobs)
        with pytest.raises(BusyError):
            load(warehouse, path, wait=False)
        bigquery.holds_jobs = False
        assert first.result().status == "loaded"
    assert states(warehouse) == [(1, "loaded")]


def test_rejects_that_could_not_be_stored_are_stored_by_the_next_run(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2), row("much")])

    def fails() -> None:
        bigquery.job_error = {"reason": "backendError", "message": "Retry"}

    # The second that is uploaded.
    bigquery.fault("PUT", "/jobs", lambda: bigquery.fault("PUT", "/jobs", fails))
    with pytest.raises(TransientDatabaseError):
        load(warehouse, path, max_rejects="1")
    assert load(warehouse, path, max_rejects="1").status == "loaded"
    assert (len(month_jobs(bigquery)), len(warehouse.rejects(YELLOW, 1))) == (1, 1)


# What goes wrong


def test_a_job_that_fails_changes_nothing_and_the_next_try_is_a_job_of_another_name(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    revised = trips(tmp_path, [row(3)])
    bigquery.job_error = {"reason": "invalid", "message": "Error while reading data."}
    with pytest.raises(DatabaseError, match="has not loaded the file: Error while reading data") as failed:
        load(warehouse, revised)
    assert not isinstance(failed.value, TransientDatabaseError)
    assert (amounts(bigquery), states(warehouse)) == ([2], [(1, "loaded")])
    load(warehouse, revised)
    assert amounts(bigquery) == [3]
    assert [job.rpartition("-")[2] for job in bigquery.jobs if "202401" in job] == ["1", "1", "2"]


def test_a_job_that_failed_for_googles_own_reasons_is_worth_another_try(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    bigquery.job_error = {"reason": "backendError", "message": "Retry"}
    with pytest.raises(TransientDatabaseError):
        load(warehouse, trips(tmp_path, [row(2)]))


def test_rows_that_bigquery_does_not_count_are_an_error_and_no_load(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2), row(3)])
    bigquery.lost_rows = 1
    with pytest.raises(DatabaseError, match="loaded 1 rows of 2"):
        load(warehouse, path)
    assert states(warehouse) == []
    assert load(warehouse, path).status == "loaded"
    assert (len(month_jobs(bigquery)), states(warehouse)) == (2, [(1, "loaded")])


def test_too_many_rejects_are_refused_before_anything_is_sent(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    with pytest.raises(DataError):
        load(warehouse, trips(tmp_path, [row(2), row("much")]), max_rejects="0")
    assert (bigquery.tables, bigquery.jobs) == ({}, {})


def test_a_month_from_elsewhere_is_refused_unless_it_is_to_replace(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    other = elsewhere(tmp_path, [row(3)])
    with pytest.raises(DataError, match="has yellow 2024-01 already"):
        load(warehouse, other)
    assert load(warehouse, other, if_loaded="replace").status == "replaced"
    assert amounts(bigquery) == [3]


def test_another_dataset_is_refused(tmp_path: Path, warehouse: Place) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    green = write_sample("green", "2024-01", tmp_path / "green_tripdata_2024-01.parquet", 5)
    with pytest.raises(DataError, match="holds files of TLC's dataset yellow"):
        load(warehouse, green)


def test_a_table_that_does_not_keep_months_apart_is_refused(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    bigquery.tables[TABLE].resource["timePartitioning"] = {"type": "DAY"}
    with pytest.raises(DataError, match="not partitioned by the month"):
        load(warehouse, trips(tmp_path, [row(3)]))


def test_a_table_of_the_ledgers_name_that_is_another_is_refused(
    bigquery: BigQueryServer, warehouse: Place
) -> None:
    resource = {
        "tableReference": {"tableId": LEDGER},
        "schema": {"fields": [{"name": "a", "type": "STRING"}]},
    }
    bigquery.answer(_post_table(bigquery, resource), b"", {})
    with pytest.raises(DatabaseError, match="no ledger of taxi-ingest's"):
        warehouse.list_loads(Filter())


def _post_table(server: BigQueryServer, resource: dict[str, Any]) -> Any:
    from bigquery_server import Request

    path = f"/bigquery/v2/projects/{server.project}/datasets/{server.dataset}/tables"
    return Request("POST", path, {}, resource)


@pytest.mark.parametrize(
    ("address", "message", "hint"),
    [
        ("bigquery://my-project/nope", "can't find my-project.nope", "bq mk --dataset my-project:nope"),
        (
            "bigquery://other/trips_data_all",
            "denies access to other.trips_data_all",
            "roles/bigquery.jobUser",
        ),
    ],
)
@pytest.mark.usefixtures("bigquery")
def test_a_wrong_project_or_dataset_is_told_with_what_mends_it(address: str, message: str, hint: str) -> None:
    with pytest.raises(DatabaseError, match=message) as failed:
        place_at(address).list_loads(Filter())
    assert (failed.value.exit_code, hint in failed.value.hint) == (5, True)


def test_without_credentials_it_is_said_where_they_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    with pytest.raises(DatabaseError, match="no credentials for Google") as failed:
        place_at("bigquery://my-project/trips_data_all").list_loads(Filter())
    assert "gcloud auth application-default login" in failed.value.hint


def test_expired_credentials_are_told_and_no_key_is_shown(
    tmp_path: Path, bigquery: BigQueryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = service_account_key(f"{bigquery.url}/token/refused")
    monkeypatch.delenv("BIGQUERY_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(written(tmp_path, json.dumps(key), "key.json")))
    place = place_at(bigquery.address)
    with pytest.raises(DatabaseError, match=r"expired or were revoked: .*Invalid JWT Signature") as failed:
        place.list_loads(Filter())
    shown = f"{failed.value} {failed.value.hint} {place!r}"
    assert "gcloud auth application-default login" in shown
    assert not [line for line in key["private_key"].splitlines() if line in shown]


def test_the_extra_that_is_missing_is_told_with_how_to_install_it() -> None:
    done = run_python(
        "import sys; sys.modules['google.cloud'] = sys.modules['google.cloud.bigquery'] = None\n"
        "from taxi_ingest.load import Filter\n"
        "from taxi_ingest.places import place_at\n"
        "try: place_at('bigquery://p/d').list_loads(Filter())\n"
        "except Exception as error: print(type(error).__name__, error, error.hint)"
    )
    assert "UsageError BigQuery takes Google's library" in done.stdout
    assert "pip install 'taxi-ingest[gcp]'" in done.stdout


@pytest.mark.parametrize("address", ["bigquery://", "bigquery://p", "bigquery://p/d/t", "bigquery://p/d-e"])
def test_what_names_no_dataset_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="names no dataset") as refused:
        place_at(address)
    assert refused.value.hint == "Write bigquery://project/dataset."


@pytest.mark.parametrize(
    ("options", "table", "message"),
    [
        (LoadOptions(names="snake"), "t", "spelled as TLC does"),
        (LoadOptions(keep_both=True), "t", "each month once"),
        (LoadOptions(), "a.b", "no name for a table"),
    ],
)
def test_what_it_can_not_do_is_said_before_anything_starts(
    options: LoadOptions, table: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        place_at("bigquery://p/d").check(options, [parse_target(table)])


# What becomes of loads


def test_an_undone_month_is_gone_and_the_ledger_says_so(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    load(warehouse, path)
    assert warehouse.undo(1).rows == 1
    assert (bigquery.tables[TABLE].partitions, states(warehouse)) == ({}, [(1, "undone")])
    with pytest.raises(DataError, match="undone already"):
        warehouse.undo(1)
    again = load(warehouse, path)
    assert (again.status, again.record.load_id, amounts(bigquery)) == ("loaded", 2, [2])


def test_a_partition_that_somebody_deletes_is_known_to_be_gone(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])
    load(warehouse, path)
    del bigquery.tables[TABLE].partitions["202401"]
    assert states(warehouse) == [(1, "dropped")]
    assert load(warehouse, path).status == "loaded"
    assert (amounts(bigquery), states(warehouse)) == ([2], [(1, "replaced"), (2, "loaded")])


def test_a_load_that_there_never_was_can_not_be_undone(warehouse: Place) -> None:
    with pytest.raises(UsageError, match="no load 7"):
        warehouse.undo(7)


def test_the_ledger_tells_all_that_is_known_of_a_load(tmp_path: Path, warehouse: Place) -> None:
    path = write_sample("yellow", "2024-01", tmp_path / "yellow_tripdata_2024-01.parquet", 500)
    record = load(warehouse, path, run="http://prefect/run/1").record
    [listed] = warehouse.list_loads(Filter(YELLOW, "yellow", "2024-01", "loaded"))
    assert listed == record
    assert isinstance(listed, LoadRecord)
    assert listed.quality
    assert warehouse.find_load(1) == record
    assert warehouse.list_loads(Filter(month="2024-02")) == []


def test_rejects_stand_in_a_table_beside_and_go_with_their_load(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2), row("much"), row("more")]), max_rejects="2")
    found = warehouse.rejects(YELLOW, 1, 10)
    assert [(reject.number, reject.column) for reject in found] == [(3, "total_amount"), (4, "total_amount")]
    assert "much" in found[0].raw
    load(warehouse, trips(tmp_path, [row(2), row(3)]))
    assert bigquery.partition(f"{TABLE}_rejects", "202401") == []
    assert warehouse.rejects(YELLOW, 2, 10) == []


def test_a_column_that_no_month_had_before_is_added(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    load(warehouse, trips(tmp_path, [row(2)]))
    header = "VendorID,tpep_pickup_datetime,passenger_count,total_amount,night_fee"
    new = csv_of(tmp_path, header, f"{row(3)},1.5", name="yellow_tripdata_2024-02.csv")
    load(warehouse, new)
    load(warehouse, trips(tmp_path, [row(4)], "yellow_tripdata_2024-03.csv"))
    assert bigquery.partition(TABLE, "202402")[0]["night_fee"] == 1.5
    assert (amounts(bigquery), amounts(bigquery, "202403")) == ([2], [4])


def test_a_column_of_another_type_is_refused_with_its_name(tmp_path: Path, warehouse: Place) -> None:
    header = "VendorID,tpep_pickup_datetime,passenger_count,total_amount,night_fee"
    load(warehouse, csv_of(tmp_path, header, f"{row(3)},1.5", name="yellow_tripdata_2024-02.csv"))
    with pytest.raises(DataError, match="column night_fee has the type FLOAT, the file's STRING"):
        load(warehouse, csv_of(tmp_path, header, f"{row(3)},yes", name="yellow_tripdata_2024-03.csv"))


def test_a_preview_says_what_would_become_of_a_file_and_sends_nothing(
    tmp_path: Path, bigquery: BigQueryServer, warehouse: Place
) -> None:
    path = trips(tmp_path, [row(2)])

    def action() -> str:
        job = Job(url=str(path), table=TABLE)
        stream = open_stream(path, path.name, job.chunk_size)
        return warehouse.preview(stream, local_file(str(path)), YELLOW, job).action

    assert (action(), bigquery.jobs) == ("load", {})
    load(warehouse, path)
    assert action() == "skip"
    trips(tmp_path, [row(3)])
    assert action() == "replace"


# By the command line


def test_the_commands_serve_a_dataset(
    tmp_path: Path, cli: Cli, publish: Publish, bigquery: BigQueryServer
) -> None:
    publish("2024-01")
    done = cli("ingest", "--dataset", "yellow", "--month", "2024-01", "--to", bigquery.address, "--json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["status"], outcome["rows_loaded"]) == ("loaded", 20)
    assert outcome["flow_run_url"]
    told = cli("loads", "--to", bigquery.address)
    assert "yellow 2024-01" in told.stdout
    undone = cli("undo", 1, "--to", bigquery.address)
    assert (undone.returncode, bigquery.partition(TABLE, "202401")) == (0, [])
    wrong = csv_of(tmp_path, HEADER, row(2), row("much"), name="yellow_tripdata_2024-02.csv")
    cli("ingest", wrong, "--table", TABLE, "--to", bigquery.address, "--max-rejects", 1)
    shown = cli("rejects", 2, "--to", bigquery.address)
    assert shown.stdout.startswith("3\ttotal_amount: 'much' is no"), shown.stderr
    whole = cli("rejects", 2, "--to", bigquery.address, "--csv").stdout.splitlines()
    assert (whole[0], len(whole)) == ("number,column_name,reason,raw", 2)
    missing = cli("loads", "--to", f"{bigquery.address}_2")
    assert (missing.returncode, "bq mk --dataset" in missing.stderr) == (5, True)


@pytest.mark.slow
def test_a_block_has_the_credentials_of_who_loads_and_reads(
    tmp_path: Path, cli: Cli, publish: Publish, bigquery: BigQueryServer
) -> None:
    bigquery.wants_token = True
    key = service_account_key(f"{bigquery.url}/token")
    file = written(tmp_path, json.dumps(key), "key.json")
    cli("blocks", "create", "--type", "bigquery-warehouse", "--name", "course", "--key-file", file)
    publish("2024-01")
    there = ("--to", bigquery.address, "--block", "course")
    done = cli("ingest", "--dataset", "yellow", "--month", "2024-01", *there)
    assert done.returncode == 0, done.stderr
    assert len(bigquery.partition(TABLE, "202401")) == 20
    assert "yellow 2024-01" in cli("loads", *there).stdout
    refused = cli("loads", "--to", bigquery.address, "--block", "other")
    assert (refused.returncode, "There is no block other" in refused.stderr) == (2, True), refused.stderr
    both = cli("loads", "--to", tmp_path, "--block", "course")
    assert (both.returncode, "Both --to and --block" in both.stderr) == (2, True)
