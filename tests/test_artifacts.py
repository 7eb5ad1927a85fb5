"""What runs leave in Prefect's dashboard: artifacts, names, tags and states that say what happened."""

import json
import re
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.client.schemas.objects import Artifact

from bigquery_server import BigQueryServer
from builders import row, trips
from helpers import PASSWORD, Publish, url_with, value
from prefect_runs import flow_run, id_of
from taxi_ingest.errors import TaxiIngestError
from taxi_ingest.flows.artifacts import key_of, of_several
from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.ingest import ingest
from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed, NotLoaded


def artifacts_of(url: str | None) -> dict[str, Artifact]:
    """A run's artifacts, by their kind."""
    run = id_of(url)
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter.model_validate({"flow_run_id": {"any_": [run]}})
        return {str(each.type): each for each in client.read_artifacts(artifact_filter=wanted)}


def page_of(url: str | None) -> str:
    return str(artifacts_of(url)["markdown"].data)


@pytest.mark.usefixtures("api")
def test_a_load_leaves_what_was_loaded_from_where_and_how_long_it_took(trips: Path) -> None:
    outcome = ingest(url=str(trips), table="green")
    page = page_of(outcome.flow_run_url)
    for part in (
        "loaded: 2 rows of green 2024-01 in green",
        outcome.sha256,
        str(trips),
        "| extract |",
        "| load |",
        "| lpep_pickup_datetime | lpep_pickup_datetime | timestamp[us] |",
        "*missing: null*",
    ):
        assert part in page


@pytest.mark.usefixtures("api")
def test_its_run_is_named_and_tagged_by_what_it_loads(trips: Path) -> None:
    run = flow_run(id_of(ingest(url=str(trips), table="green").flow_run_url))
    assert run.name == "green 2024-01 -> green"
    assert {"green", "2024-01"} <= set(run.tags)


@pytest.mark.usefixtures("api")
def test_rejects_are_a_table_with_the_first_of_them(tmp_path: Path) -> None:
    file = trips_file(tmp_path, [row(1), row(2, "many"), row(3, "<b>few</b>")])
    outcome = ingest(url=str(file), table="trips", max_rejects="2")
    rejects = json.loads(str(artifacts_of(outcome.flow_run_url)["table"].data))
    assert [reject["line"] for reject in rejects] == [3, 4]
    assert "<\u200bb>few<\u200b/b>" in rejects[1]["row"]


def trips_file(folder: Path, rows: list[str]) -> Path:
    return trips(folder, rows, "yellow_tripdata_2024-03.csv")


@pytest.mark.usefixtures("api")
def test_a_load_into_bigquery_is_shown_as_any_other(tmp_path: Path, bigquery: BigQueryServer) -> None:
    pytest.importorskip("google.cloud.bigquery", reason="the extra [gcp] is not installed")
    file = trips_file(tmp_path, [row(1), row(2, "many")])
    outcome = ingest(url=str(file), table="trips", to=bigquery.address, max_rejects="1")
    page = page_of(outcome.flow_run_url)
    for part in (f"`trips` in {bigquery.address}", "1 loaded, 1 rejected", "| extract |", "| load |"):
        assert part in page
    rejects = json.loads(str(artifacts_of(outcome.flow_run_url)["table"].data))
    assert [reject["line"] for reject in rejects] == [3]


@pytest.mark.usefixtures("api")
def test_a_file_that_was_there_reads_skipped(trips: Path) -> None:
    ingest(url=str(trips), table="green")
    again = ingest(url=str(trips), table="green")
    assert again.status == "skipped"
    run = flow_run(id_of(again.flow_run_url))
    assert (run.state_name, run.state and run.state.type.value) == ("Skipped", "COMPLETED")
    assert "skipped" in page_of(again.flow_run_url)


@pytest.mark.usefixtures("api")
def test_a_failed_run_says_sentence_and_hint_and_shows_no_traceback(
    tmp_path: Path, embedded_database_url: str
) -> None:
    ingest(url=str(trips_file(tmp_path, [row(1)])), table="trips")
    with pytest.raises(TaxiIngestError) as failure:
        ingest(url=str(tmp_path / "none.csv"), table="trips")
    url = value(embedded_database_url, "SELECT flow_run_url FROM taxi_ingest.attempts")
    state = flow_run(id_of(url)).state
    assert state
    assert state.name == "Failed"
    assert state.message == f"{failure.value}\n{failure.value.hint}"


def test_a_backfill_leaves_the_grid_of_its_months(publish: Publish, api: str) -> None:
    del api
    publish("2024-01")
    publish("2024-03")
    with pytest.raises(MonthsFailed) as failed:
        backfill(["yellow"], "2024-01..2024-03", jobs=1)
    page = page_of(failed.value.outcome.flow_run_url)
    assert "| yellow | 01 | 02 | 03 |" in page
    assert "| 2024 | ✓ | ✗ | ✓ |" in page
    assert "**failed**" in page


@pytest.mark.usefixtures("api")
def test_the_artifacts_of_a_table_are_one_series(tmp_path: Path) -> None:
    outcomes = [
        ingest(url=str(trips(tmp_path, [row(month)], f"yellow_tripdata_2024-0{month}.csv")), table="Rides_2")
        for month in (1, 2)
    ]
    keys = {artifacts_of(outcome.flow_run_url)["markdown"].key for outcome in outcomes}
    assert keys == {key_of("Rides_2")}


def test_each_table_has_a_key_of_its_own_that_prefect_takes() -> None:
    tables = ["My Table", '"My Table"', "a.b", "a-b", "a.B", "a_b", "A_b", "___", "😀", "Fahrten ä", "x" * 63]
    keys = [key_of(table) for table in tables]
    assert len(set(keys)) == len(tables)
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", key) for key in keys)
    assert key_of("yellow_tripdata") == "yellow-tripdata"


def test_texts_of_files_are_no_markup_of_the_page() -> None:
    failed = NotLoaded("failed", "t", "x/a|b.csv", None, None, "broken | <b>", "mend | it")
    [artifact] = of_several(BackfillOutcome((failed,), 1.0, None, "postgresql:///x"), "t")
    [line] = [line for line in str(artifact.data).splitlines() if "broken" in line]
    assert line.replace("\\|", "").count("|") == 5


@pytest.mark.usefixtures("api")
def test_no_artifact_and_no_parameter_has_a_password(
    trips: Path, system_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", url_with(system_url, dbname="postgres"))
    outcome = ingest(url=str(trips), table="with_password")
    everything = str(artifacts_of(outcome.flow_run_url)) + str(flow_run(id_of(outcome.flow_run_url)))
    assert PASSWORD not in everything
    assert isinstance(id_of(outcome.flow_run_url), UUID)
