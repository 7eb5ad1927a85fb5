"""Many months: each by a run of its own, exactly once, whatever becomes of the others."""

import signal
import subprocess
import sys
from datetime import date
from typing import Any

import pytest

from helpers import Publish, held, query, until_session, value
from http_server import Server
from prefect_runs import flow_run, flow_runs, id_of, number_of_runs, task_runs
from taxi_ingest.errors import SourceError, UsageError
from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.caller import calling
from taxi_ingest.flows.ingest import ingest_month
from taxi_ingest.flows.outcome import BackfillOutcome, MonthsFailed
from taxi_ingest.settings.job import LoadOptions

YEAR = [f"2023-{month:02}" for month in range(1, 13)]


def failed(*arguments: object, **how: object) -> BackfillOutcome:
    """The outcome of a backfill in which some months fail."""
    with pytest.raises(MonthsFailed) as raised:
        backfill(*arguments, **how)
    return raised.value.outcome


def statuses(outcome: BackfillOutcome) -> dict[str | None, str]:
    return {month.month: month.status for month in outcome.months}


def in_table(url: str, table: str = "yellow_tripdata") -> list[str]:
    """Of which months a table has rows, and that none of them is there twice."""
    months = query(
        url,
        f"SELECT month, rows_loaded FROM taxi_ingest.loads JOIN {table} ON _load_id = load_id "
        "GROUP BY load_id HAVING count(*) = rows_loaded ORDER BY month",
    )
    return [month for month, _ in months]


def test_each_month_is_a_child_run_of_its_own_that_says_what_it_is(
    publish: Publish, api: str, embedded_database_url: str
) -> None:
    del api
    for month in YEAR[:3]:
        publish(month)
    publish(YEAR[0], dataset="green")
    outcome = backfill(["yellow"], "2023-01..2023-03")
    assert (outcome.status, outcome.rows_loaded, outcome.count("loaded")) == ("loaded", 60, 3)
    assert in_table(embedded_database_url) == YEAR[:3]

    parent = flow_run(id_of(outcome.flow_run_url))
    assert (parent.name, parent.state and parent.state.name) == (
        "backfill yellow 2023-01..2023-03",
        "Completed",
    )
    assert {"yellow", "backfill"} <= set(parent.tags)
    below = {run.name: run for run in flow_runs(parent_flow_run_id={"any_": [parent.id]})}
    assert sorted(below) == ["yellow 2023-01", "yellow 2023-02", "yellow 2023-03", "yellow_tripdata"]
    child = below["yellow 2023-02"]
    assert {"yellow", "2023-02", "backfill"} <= set(child.tags)
    assert child.parameters["month"] == "2023-02"
    assert not [task.tags for task in task_runs(child.id) if task.tags]
    urls = query(embedded_database_url, "SELECT flow_run_url FROM taxi_ingest.loads WHERE month = '2023-02'")
    assert id_of(urls[0][0]) == child.id


def test_the_same_command_goes_on_where_it_was(
    publish: Publish, api: str, embedded_database_url: str, server: Server
) -> None:
    del api
    for month in YEAR[:4]:
        publish(month)
    backfill(["yellow"], "2023-02")
    asked = len(server.requests)
    again = backfill(["yellow"], "2023-01..2023-04", jobs=1, newest_first=True)
    assert statuses(again) == dict(zip(YEAR[:4], ["loaded", "skipped", "loaded", "loaded"], strict=True))
    assert [month.month for month in again.months] == YEAR[:4]
    assert not [request for request in server.requests[asked:] if "2023-02" in request.path]
    loaded = query(embedded_database_url, "SELECT month FROM taxi_ingest.loads ORDER BY load_id")
    assert [month for (month,) in loaded] == ["2023-02", "2023-04", "2023-03", "2023-01"]
    nothing = backfill(["yellow"], "2023-01..2023-04")
    assert (nothing.status, nothing.count("skipped"), nothing.rows_loaded) == ("skipped", 4, 0)


def test_what_tlc_has_revised_replaces_its_own_month(
    publish: Publish, api: str, embedded_database_url: str
) -> None:
    del api
    for month in YEAR[:3]:
        publish(month)
    backfill(["yellow"], "2023-01..2023-03")
    publish("2023-02", rows=30)
    assert backfill(["yellow"], "2023-01..2023-03").status == "skipped"
    outcome = backfill(["yellow"], "2023-01..2023-03", reprocess="revised")
    assert statuses(outcome) == {"2023-01": "skipped", "2023-02": "replaced", "2023-03": "skipped"}
    assert value(embedded_database_url, "SELECT count(*) FROM yellow_tripdata") == 70
    anew = backfill(["yellow"], "2023-01..2023-03", reprocess="all")
    assert set(statuses(anew).values()) == {"replaced"}
    assert value(embedded_database_url, "SELECT count(*) FROM yellow_tripdata") == 70


def test_months_that_are_not_published_yet_fail_only_where_they_are_named(publish: Publish, api: str) -> None:
    del api
    this_year = date.today().year
    months = [f"{this_year - 1}-{month:02}" for month in (10, 11)]
    for month in months:
        publish(month)
    outcome = backfill(["yellow"], f"{months[0]}..")
    assert [month.status for month in outcome.months[:2]] == ["loaded", "loaded"]
    assert {month.status for month in outcome.months[2:]} == {"unpublished"}
    assert outcome.count("unpublished") == len(outcome.months) - 2 > 0
    named = failed(["yellow"], f"{months[0]}..{this_year - 1}-12")
    assert statuses(named) == {months[0]: "skipped", months[1]: "skipped", f"{this_year - 1}-12": "failed"}


def test_a_mirror_without_any_month_is_told(publish: Publish, api: str) -> None:
    del publish, api
    with pytest.raises(SourceError, match="no file of yellow"):
        backfill(["yellow"], "2023-01..")


def test_after_too_many_failures_no_other_month_is_begun(publish: Publish, api: str) -> None:
    del publish, api
    outcome = failed(["yellow"], "2023-01..2023-06", jobs=1, max_failures=2)
    assert [str(failure.url).rpartition("/")[2] for failure in outcome.failures] == [
        "yellow_tripdata_2023-01.parquet",
        "yellow_tripdata_2023-02.parquet",
    ]
    assert list(statuses(outcome).values()) == ["failed"] * 2 + ["waiting"] * 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"datasets": ["purple"]},
        {"datasets": ["zones"]},
        {"months": "2023-13"},
        {"table": ""},
        {"jobs": 0},
        {"work_pool": "nowhere"},
        {"options": LoadOptions(block="nowhere")},
    ],
)
def test_what_is_wrong_with_a_call_leaves_no_run(api: str, wrong: dict[str, Any]) -> None:
    del api
    before = number_of_runs()
    with pytest.raises(UsageError):
        backfill(**{"datasets": ["yellow"], "months": "2023-01", **wrong})
    assert number_of_runs() == before


def test_two_datasets_go_to_a_table_each(publish: Publish, api: str, embedded_database_url: str) -> None:
    del api
    for dataset in ("yellow", "green"):
        publish("2023-01", dataset=dataset)
    assert backfill(["yellow", "green"], "2023-01").count("loaded") == 2
    assert in_table(embedded_database_url, "green_tripdata") == ["2023-01"]
    with pytest.raises(UsageError, match="one dataset"):
        backfill(["yellow", "green"], "2023-01", table="trips")


def test_a_month_alone_goes_where_it_is_told(publish: Publish, api: str, embedded_database_url: str) -> None:
    del api
    publish("2023-01")
    outcome = ingest_month("yellow", "2023-01", table="trips")
    assert (outcome.status, outcome.dataset, outcome.month) == ("loaded", "yellow", "2023-01")
    assert in_table(embedded_database_url, "trips") == ["2023-01"]
    assert flow_run(id_of(outcome.flow_run_url)).name == "yellow 2023-01"


def test_the_file_of_another_month_is_refused(
    publish: Publish, api: str, embedded_database_url: str, server: Server
) -> None:
    del api
    publish("2023-01", rows=30).rename(server.folder / "yellow_tripdata_2023-02.parquet")
    publish("2023-01")
    outcome = failed(["yellow"], "2023-01..2023-02")
    assert statuses(outcome) == {"2023-01": "loaded", "2023-02": "failed"}
    assert outcome.exit_code == 4
    assert "30 of 30 rows were picked up outside 2023-02" in str(outcome.failures[0].error)
    assert in_table(embedded_database_url) == ["2023-01"]


def test_what_nobody_foresaw_in_one_month_stops_no_other(
    publish: Publish, api: str, embedded_database_url: str
) -> None:
    del api
    for month in YEAR[:2]:
        publish(month)
    told = []

    def break_first(load: str, *_: object) -> None:
        if load == "yellow 2023-01":
            raise ZeroDivisionError("division by zero")

    with calling(on_load=break_first, on_end=lambda name, result: told.append((name, result.status))):
        outcome = failed(["yellow"], "2023-01..2023-02", jobs=1)
    assert statuses(outcome) == {"2023-01": "failed", "2023-02": "loaded"}
    assert outcome.exit_code == 1
    assert told == [("yellow 2023-01", "failed"), ("yellow 2023-02", "loaded")]
    assert in_table(embedded_database_url) == ["2023-02"]


BACKFILL = """
import signal, sys
from taxi_ingest import Settings, prefect_api
from taxi_ingest.flows.backfill import backfill
from taxi_ingest.flows.runs import interruptible

signal.signal(signal.SIGTERM, signal.default_int_handler)
with prefect_api(Settings()):
    try:
        interruptible(lambda: backfill(["yellow"], "2023-01..2023-04", jobs=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_runs_as_cancelled_and_leaves_nothing_half(
    publish: Publish, api: str, embedded_database_url: str, number: signal.Signals
) -> None:
    del api
    for month in YEAR[:4]:
        publish(month)
    backfill(["yellow"], "2023-01")
    known = {run.id for run in flow_runs()}
    # Both loads wait for the ledger, which someone holds.
    lock = held(embedded_database_url, "LOCK TABLE taxi_ingest.loads IN ACCESS EXCLUSIVE MODE")
    process = subprocess.Popen([sys.executable, "-c", BACKFILL], stdout=subprocess.PIPE, text=True)
    until_session(embedded_database_url, "wait_event_type = 'Lock'")
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    lock.close()
    assert said.endswith("interrupted\n")
    ended = {run.name: run.state and run.state.name for run in flow_runs() if run.id not in known}
    assert set(ended.values()) <= {"Cancelled", "Completed"}
    assert ended["backfill yellow 2023-01..2023-04"] == "Cancelled"
    assert in_table(embedded_database_url) == ["2023-01"]
    assert backfill(["yellow"], "2023-01..2023-04").count("loaded") == 3
    assert in_table(embedded_database_url) == YEAR[:4]
