"""Schedules: what is new of a dataset, loaded again and again without anybody's doing."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed, Failed, Scheduled

from helpers import WAITING, Cli, held, query, start_cli, until, until_session
from prefect_runs import flow_run, flow_runs
from taxi_ingest.errors import UsageError
from taxi_ingest.flows.load_new import load_new
from taxi_ingest.flows.schedule import (
    create_schedule,
    list_schedules,
    name_planned_runs,
    remove_schedule,
    run_schedule,
)
from taxi_ingest.settings.job import LoadOptions
from taxi_ingest.tlc.sample import write_sample

FIFTH = "0 6 5 * *"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with three months."""
    monkeypatch.setenv("TAXI_INGEST_TLC_URL", str(tmp_path))
    for month in ("2024-01", "2024-02", "2024-03"):
        publish(tmp_path, month)
    return tmp_path


def publish(folder: Path, month: str, rows: int = 200) -> None:
    write_sample("yellow", month, folder / f"yellow_tripdata_{month}.parquet", rows)


@pytest.fixture(autouse=True)
def no_schedules(mirror: Path, api: str) -> Iterator[None]:
    """The settings that `api` takes name the mirror; no test leaves a schedule to another."""
    del mirror, api
    yield
    for schedule in list_schedules():
        remove_schedule(schedule.name)


def deployment(name: str) -> UUID:
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(f"load-new/{name}").id


def runs(name: str) -> list[FlowRun]:
    """A schedule's runs, in the order in which they were made."""
    found = flow_runs(deployment_id={"any_": [deployment(name)]})
    return sorted(found, key=lambda run: str(run.created))


def loaded(url: str) -> dict[str, int]:
    """How many rows of each month are there."""
    counted = "SELECT month, count(*)::int FROM yellow_tripdata JOIN taxi_ingest.loads ON load_id = _load_id"
    return dict(query(url, f"{counted} GROUP BY month ORDER BY month"))


def test_a_schedule_is_listed_changed_and_removed(cli: Cli) -> None:
    made = cli("schedule", "yellow", "--cron", FIFTH)
    assert made.stdout.startswith("yellow\t0 6 5 * *\tAmerica/New_York\tnext 20"), made.stderr
    assert "schedule serve" in made.stderr
    cli("schedule", "yellow", "--cron", "30 7 * * *", "--timezone", "Europe/Berlin", "--table", "mine")
    [schedule] = list_schedules()
    assert (schedule.cron, schedule.timezone, schedule.table) == ("30 7 * * *", "Europe/Berlin", "mine")
    assert schedule.next_run
    assert (schedule.next_run.hour, schedule.next_run.minute) == (7, 30)
    assert '"timezone": "Europe/Berlin"' in cli("schedule", "ls", "--json").stdout
    assert cli("schedule", "rm", "yellow").returncode == 0
    assert list_schedules() == []
    gone = cli("schedule", "rm", "yellow")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "There is no schedule yellow." in gone.stderr


@pytest.mark.parametrize(
    ("dataset", "how", "says"),
    [
        ("purple", {}, "no dataset 'purple'"),
        ("zones", {}, "zones has no months"),
        ("yellow", {"cron": "each day"}, "'each day' is no cron line"),
        ("yellow", {"cron": "* * * * * *"}, "is no cron line"),
        ("yellow", {"cron": "0 6 31 2 *"}, "a time that never comes"),
        ("yellow", {"timezone": "Mars/Olympus"}, "no time zone 'Mars/Olympus'"),
        ("yellow", {"timezone": ""}, "no time zone ''"),
        ("yellow", {"block": "nowhere"}, "There is no block nowhere."),
        ("yellow", {"to": "gs://user:geheim@b/p"}, "has a login in it"),
        ("yellow", {"to": "./lake", "table": "staging.t"}, "no name for a table in a lake"),
        ("yellow", {"pool": "nowhere"}, "no work pool nowhere"),
        ("yellow", {"notify": "nobody"}, "no block nobody that can tell"),
        ("yellow", {"table": ""}, "table"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said_and_none_is_made(
    dataset: str, how: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        create_schedule(dataset, **{"cron": FIFTH, **how})
    assert list_schedules() == []


@pytest.mark.parametrize("parameters", [{"dataset": "purple"}, {"month": "2024-13"}, {"months_back": "six"}])
def test_prefect_checks_what_somebody_enters_in_the_dashboard(parameters: dict[str, str]) -> None:
    create_schedule("yellow", FIFTH)
    with get_client(sync_client=True) as client, pytest.raises(PrefectHTTPStatusError, match="Validation"):
        client.create_flow_run_from_deployment(deployment("yellow"), parameters=parameters)


def test_a_schedules_runs_are_planned_under_the_names_that_they_will_bear() -> None:
    next_run = create_schedule("yellow", FIFTH).next_run
    assert next_run
    planned = {run.expected_start_time: run.name for run in runs("yellow")}
    assert planned[next_run] == f"yellow as of {next_run:%Y-%m}"
    assert all(name.startswith("yellow as of ") for name in planned.values())


def test_prefects_scheduler_plans_runs_too_and_those_are_named_afterwards() -> None:
    create_schedule("yellow", FIFTH)
    with get_client(sync_client=True) as client:
        for run in runs("yellow"):
            client.delete_flow_run(run.id)
        until(lambda: runs("yellow"))
        name_planned_runs(client)
    assert all(run.name.startswith("yellow as of ") for run in runs("yellow"))


def test_what_is_new_and_what_was_revised_is_loaded_up_to_a_month(
    mirror: Path, embedded_database_url: str
) -> None:
    assert load_new("yellow", 2, month="2024-02").count("loaded") == 2
    assert loaded(embedded_database_url) == {"2024-01": 200, "2024-02": 200}
    publish(mirror, "2024-01", rows=300)
    outcome = load_new("yellow", 3, month="2024-03")
    assert {month.month: month.status for month in outcome.months} == {
        "2024-01": "replaced",
        "2024-02": "skipped",
        "2024-03": "loaded",
    }
    assert loaded(embedded_database_url) == {"2024-01": 300, "2024-02": 200, "2024-03": 200}


def test_a_schedule_loads_into_a_lake_wherever_its_worker_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = create_schedule("yellow", FIFTH, to="./lake")
    assert made.to == str(tmp_path / "lake")
    outcome = load_new("yellow", 3, "2024-03", options=LoadOptions(to=made.to))
    assert (outcome.database, outcome.count("loaded")) == (made.to, 3)
    again = load_new("yellow", 3, "2024-03", options=LoadOptions(to=made.to))
    assert again.count("skipped") == 3


def test_what_is_not_published_yet_is_no_failure_and_older_months_are_left_alone(
    embedded_database_url: str,
) -> None:
    outcome = load_new("yellow", 4, month="2024-05")
    assert [f"{month.month} {month.status}" for month in outcome.months] == [
        "2024-02 loaded",
        "2024-03 loaded",
        "2024-04 unpublished",
        "2024-05 unpublished",
    ]
    assert list(loaded(embedded_database_url)) == ["2024-02", "2024-03"]


@contextmanager
def receiver() -> Iterator[tuple[str, list[str]]]:
    """An HTTP server that somebody is told by: its address, and what it was sent."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-token", told
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["custom-webhook", "webhook"])
def test_a_block_of_prefects_tells_of_a_run_that_fails(kind: str, cli: Cli) -> None:
    with receiver() as (address, told):
        if kind == "webhook":
            Webhook(url=address).save("hook", overwrite=True)
        else:
            message = {"text": "{{subject}}: {{body}}"}
            custom = CustomWebhookNotificationBlock(name="hook", url=address, json_data=message)
            custom.save("hook", overwrite=True)
        made = cli("schedule", "yellow", "--cron", FIFTH, "--notify", f"{kind}/hook")
        assert f"failures told by {kind}/hook" in made.stdout, made.stderr
        assert "secret-token" not in made.stdout + cli("schedule", "ls", "--json").stdout
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(deployment("yellow"), name='of "May"')
            client.set_flow_run_state(run.id, Failed(message="There is no file."), force=True)
            until(lambda: told)
            remove_schedule("yellow")
            assert client.read_automations_by_name("taxi-ingest: yellow failed") == []
    [text] = told
    assert "There is no file." in text
    assert f"/runs/flow-run/{run.id}" in text
    assert "secret-token" not in text


@pytest.mark.slow
def test_serve_carries_out_a_past_dated_run_and_its_end_leaves_none_that_seems_to_go_on(
    embedded_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "runner_storage").write_text("As another user's folder would be, it is in the way.")
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"TAXI_INGEST_TLC_URL={tmp_path}\n")
    monkeypatch.delenv("TAXI_INGEST_TLC_URL")
    load_new("yellow", 1, month="2024-01")
    create_schedule("yellow", FIFTH, months_back=2)
    with get_client(sync_client=True) as client:
        past = Scheduled(scheduled_time=datetime(2024, 3, 1, 4, tzinfo=UTC))  # February in New York
        first = client.create_flow_run_from_deployment(deployment("yellow"), state=past).id
    with closing(held(embedded_database_url, "LOCK taxi_ingest.loads IN EXCLUSIVE MODE")):
        serving = start_cli("schedule", "serve")
        until_session(embedded_database_url, WAITING)
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=60) == 0, serving.communicate()
    assert flow_run(first).state_name == "Cancelled"
    assert list(loaded(embedded_database_url)) == ["2024-01"]
    [again] = [run for run in runs("yellow") if "again:1" in run.tags]
    with get_client(sync_client=True) as client:
        assert not client.read_deployment(deployment("yellow")).paused
    # As a script starts what goes on in the background.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    serving = start_cli("schedule", "serve")
    signal.signal(signal.SIGINT, interrupt)
    until(lambda: flow_run(again.id).state_name == "Completed", lambda: flow_run(again.id).state)
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=60) == 0, serving.communicate()
    assert flow_run(again.id).name == "yellow as of 2024-02"
    assert list(loaded(embedded_database_url)) == ["2024-01", "2024-02"]


@pytest.mark.slow
def test_a_run_that_crashed_before_it_began_is_begun_anew_once(embedded_database_url: str) -> None:
    create_schedule("yellow", FIFTH, months_back=2)
    with get_client(sync_client=True) as client:
        past = Scheduled(scheduled_time=datetime(2024, 3, 1, 4, tzinfo=UTC))
        lost = client.create_flow_run_from_deployment(deployment("yellow"), state=past)
        client.set_flow_run_state(lost.id, Crashed(message="Prefect's server was gone."), force=True)
    serving = start_cli("schedule", "serve")
    try:
        until(
            lambda: any("again:1" in run.tags and run.state_name == "Completed" for run in runs("yellow")),
            lambda: [(run.name, run.tags, run.state, run.start_time) for run in runs("yellow")],
        )
    finally:
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=60) == 0, serving.communicate()
    assert sum("again:1" in run.tags for run in runs("yellow")) == 1
    assert "2024-02" in loaded(embedded_database_url)


def test_a_run_now_is_one_more(api: str) -> None:
    create_schedule("yellow", FIFTH)
    address = run_schedule("yellow", "2024-02")
    assert address.startswith(api.removesuffix("/api"))
    run = flow_run(UUID(address.rpartition("/")[2]))
    assert (run.name, run.parameters["month"]) == ("yellow as of 2024-02", "2024-02")
    for name, month in (("green", None), ("yellow", "2024"), ("yellow", "2008-01"), ("yellow", "2090-01")):
        with pytest.raises(UsageError):
            run_schedule(name, month)
