"""The flow as Prefect sees it: one sub-flow, then three tasks; nothing secret in it."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from builders import TRIPS
from helpers import free_port, query, until
from prefect_runs import flow_run, flow_runs, id_of, task_runs
from taxi_ingest import Outcome, Settings, ingest, prefect_api, stack
from taxi_ingest.errors import DataError, PrefectError, SourceError
from taxi_ingest.flows.caller import calling


def test_a_run_shows_its_sub_flow_first_and_then_three_tasks(api: str, trips: Path) -> None:
    del api
    outcome = ingest(url=str(trips), table="green")
    run = flow_run(id_of(outcome.flow_run_url))
    assert run.state is not None
    assert run.state.is_completed()
    assert run.parameters["table"] == "green"
    until(lambda: len(task_runs(run.id)) >= 4)
    tasks = sorted(task_runs(run.id), key=lambda task: str(task.expected_start_time))
    sub_flow, *names = [task.name for task in tasks]
    assert sub_flow.startswith("log-table-name")
    assert names == [f"extract {trips.name}", f"transform {trips.name}", "load into green"]
    assert [below.name for below in flow_runs(parent_flow_run_id={"any_": [run.id]})] == ["green"]


def test_the_outcome_counts_what_the_database_holds(
    api: str, trips: Path, embedded_database_url: str
) -> None:
    del api
    outcome = ingest(url=str(trips), table="green", chunk_size=1)
    assert (outcome.status, outcome.rows_read, outcome.rows_loaded, outcome.rows_rejected) == (
        "loaded",
        2,
        2,
        0,
    )
    assert (outcome.dataset, outcome.month, outcome.bytes) == ("green", "2024-01", len(TRIPS))
    assert outcome.url == trips.as_uri()
    assert query(embedded_database_url, "SELECT sum(total_amount) FROM green") == [(6.0,)]
    assert query(embedded_database_url, "SELECT flow_run_url FROM taxi_ingest.loads") == [
        (outcome.flow_run_url,)
    ]


def test_the_ledger_names_a_childs_own_run_and_not_its_parents(
    api: str, tmp_path: Path, embedded_database_url: str
) -> None:
    del api
    # What a load finds itself by after a lost commit: were it the parent's, one child would take another's.
    paths = [tmp_path / f"green_tripdata_2024-{month:02}.csv" for month in range(1, 4)]
    for month, path in enumerate(paths, 1):
        path.write_text(TRIPS.replace("2024-01", f"2024-{month:02}"))

    @task(cache_policy=NO_CACHE)
    def one_month(path: Path) -> tuple[int | None, str | None]:
        outcome = ingest(url=str(path), table="green")
        return outcome.load_id, outcome.flow_run_url

    @flow
    def months() -> tuple[str, list[tuple[int | None, str | None]]]:
        first = one_month(paths[0])
        others = [one_month.submit(path) for path in paths[1:]]
        return str(runtime.flow_run.id), [first, *(other.result() for other in others)]

    parent, children = months()
    ledger = "SELECT load_id, flow_run_url FROM taxi_ingest.loads"
    assert sorted(query(embedded_database_url, ledger)) == sorted(children)
    for _, url in children:
        child = flow_run(id_of(url))
        assert (child.parameters["table"], str(child.id) == parent) == ("green", False)
    assert len({url for _, url in children}) == 3


def test_a_failed_run_is_failed_in_prefect_and_raises_the_error_itself(api: str, tmp_path: Path) -> None:
    del api
    with pytest.raises(SourceError, match="There is no file") as failure:
        ingest(url=str(tmp_path / "nothing.csv"), table="green")
    assert failure.value.hint == "Check the path."


def test_a_step_is_called_inside_the_flow(
    api: str, trips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_database_url: str
) -> None:
    del api
    (tmp_path / "flow_step.py").write_text("def dear(trips):\n    return trips[trips['total_amount'] > 3]\n")
    monkeypatch.syspath_prepend(tmp_path)
    outcome = ingest(url=str(trips), table="dear", transform="flow_step:dear")
    assert (outcome.rows_read, outcome.rows_loaded) == (2, 1)
    assert query(embedded_database_url, "SELECT total_amount FROM dear") == [(3.5,)]


def test_a_watcher_sees_rows_and_bytes(api: str, trips: Path) -> None:
    del api
    seen: list[tuple[int, int]] = []
    with calling(on_load=lambda _, source, progress: seen.append((progress.rows, source.bytes))):
        ingest(url=str(trips), table="green", chunk_size=1)
    assert seen == [(1, len(TRIPS)), (2, len(TRIPS))]


def test_an_api_that_is_not_there_is_an_error_with_a_hint() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    own = temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"})
    with own, pytest.raises(PrefectError, match="can't be reached"), prefect_api(Settings()):
        pass


@pytest.mark.slow
def test_an_api_that_goes_away_before_the_run_is_made_is_an_error_with_a_hint(
    tmp_path: Path, trips: Path
) -> None:
    settings = Settings(home=tmp_path / "home", prefect_port=free_port())

    def without_server() -> None:
        with prefect_api(settings):
            stack.stop_prefect(settings)
            ingest(url=str(trips), table="green")

    try:
        with pytest.raises(PrefectError, match="Failed to reach API") as failure:
            without_server()
    finally:
        stack.stop_prefect(settings)
    assert "`taxi-ingest status`" in failure.value.hint


def test_errors_survive_prefects_pickling_with_their_hint() -> None:
    error = pickle.loads(pickle.dumps(DataError("what", "do this")))
    assert (str(error), error.hint, error.exit_code) == ("what", "do this", 4)


def test_of_the_runs_of_one_parent_each_tells_its_own(api: str, trips: Path) -> None:
    del api

    @flow
    def parent() -> list[Outcome]:
        return [ingest(url=str(trips), table="green"), ingest(url=str(trips), table="green")]

    first, again = parent()
    assert (first.status, again.status) == ("loaded", "skipped")
    assert first.flow_run_url != again.flow_run_url
    assert flow_run(id_of(again.flow_run_url)).name == "green 2024-01 -> green"


def test_where_no_api_is_set_a_run_goes_to_the_local_stack_also_in_a_plain_thread(
    prefect_server: str, trips: Path, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread does not inherit its parent's context, and Prefect would start a server of its own."""
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(ingest, url=str(trips), table="green").result()
    assert outcome.status == "loaded"
    assert str(outcome.flow_run_url).startswith(prefect_server.removesuffix("/api"))
