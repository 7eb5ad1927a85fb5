"""A run whose process is gone ends in Prefect with its parts, and nobody else's run does."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from prefect import flow, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.states import Running
from prefect.utilities.urls import url_for

from taxi_ingest import Settings, ingest, prefect_api
from taxi_ingest.flows import marks
from taxi_ingest.flows.runs import end_dead_runs, tied_flow
from taxi_ingest.load import database_at
from test_load import load_file, row
from test_load import trips as trips_of

_STOPS_AT = """
import signal, sys
from prefect.client.orchestration import SyncPrefectClient
from taxi_ingest import Settings, ingest, prefect_api
from taxi_ingest.flows import ingest as flows

moment, url = sys.argv[1:]
create = SyncPrefectClient.create_flow_run


def stop(*_, **__):
    signal.pause()


def create_and_stop(*args, **kwargs):
    create(*args, **kwargs)
    stop()


if moment == "created":
    SyncPrefectClient.create_flow_run = create_and_stop
else:
    setattr(flows, moment, stop)
with prefect_api(Settings()):
    ingest(url=url, table="killed")
"""
"""A process that stops for ever at a moment of a run, so that it can be killed there."""

_MOMENTS = {
    "created": ["unnamed Pending"],
    "end_dead_runs": ["killed Running"],
    "get_run_logger": ["killed Running", "killed Running", "log-table-name Running"],
    "open_stream": ["killed Running", "transform Running"],
}
"""Where a run stops, and what Prefect then shows as unfinished."""


@pytest.fixture
def api(prefect_server: str, embedded_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The local Prefect server, and a new database that the settings name."""
    monkeypatch.setenv("TAXI_INGEST_DATABASE_URL", embedded_database_url)
    with prefect_api(Settings()) as url:
        assert url == prefect_server
        yield url


def put_right() -> None:
    """What the next run does."""
    end_dead_runs(database_at(os.environ["TAXI_INGEST_DATABASE_URL"]))


def flow_runs() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({}))


def task_runs(*of: UUID) -> list[TaskRun]:
    with get_client(sync_client=True) as client:
        wanted = FlowRunFilter.model_validate({"id": {"any_": list(of)}})
        return client.read_task_runs(flow_run_filter=wanted) if of else []


def shown(ids: set[UUID]) -> list[str]:
    """The names and states of runs and of their tasks."""
    found = [run for run in flow_runs() if run.id in ids]
    # Until it begins, a run has a random name of Prefect's.
    names = [run.name if run.name == "killed" else "unnamed" for run in found]
    return sorted(f"{name} {run.state_name}" for name, run in zip(names, found, strict=True)) + sorted(
        f"{task.name.rpartition('-')[0]} {task.state_name}" for task in task_runs(*ids)
    )


def state_of(run_id: UUID) -> str | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id).state_name


LeftBehind = Callable[..., UUID]


@pytest.fixture
def left_behind(api: str) -> Iterator[LeftBehind]:
    """Make a run that seems to go on, with these tags."""
    del api
    made: list[UUID] = []

    @flow(name="ingest")
    def anything() -> None: ...

    with get_client(sync_client=True) as client:

        def make(*tags: str) -> UUID:
            made.append(client.create_flow_run(anything, tags=tags, state=Running()).id)
            return made[-1]

        yield make
        for run_id in made:
            client.delete_flow_run(run_id)


def wait_for(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_run_killed_at_any_moment_ends_as_crashed_with_its_parts(
    api: str, trips: Path, moment: str
) -> None:
    del api
    before = {run.id for run in flow_runs()}
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPS_AT, moment, str(trips)], stderr=subprocess.DEVNULL
    )

    def left() -> list[str]:
        ids = {run.id for run in flow_runs()} - before
        return [line for line in shown(ids) if not line.endswith("Completed")]

    try:
        wait_for(lambda: left() == _MOMENTS[moment], left)
        put_right()
        assert left() == _MOMENTS[moment]
    finally:
        process.kill()
        process.wait()
    put_right()
    assert left() == [f"{line.rpartition(' ')[0]} Crashed" for line in _MOMENTS[moment]]


def test_a_run_names_its_process_and_its_tasks_have_no_tags(api: str, trips: Path) -> None:
    """For each tag of a task Prefect asks the server for a limit."""
    del api
    with tags("mine"):
        outcome = ingest.with_options(name="other")(url=str(trips), table="green")
    assert outcome.flow_run_url
    run_id = UUID(outcome.flow_run_url.rpartition("/")[2])
    wait_for(lambda: len(task_runs(run_id)) == 4, lambda: task_runs(run_id))
    [run] = [run for run in flow_runs() if run.id == run_id]
    assert {tag.partition(":")[0] for tag in run.tags} == {"mine", "machine", "process"}
    assert {tuple(task.tags) for task in task_runs(run_id)} == {("mine",)}


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does nothing until it is killed."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def test_the_run_of_a_live_process_goes_on_and_that_of_a_zombie_does_not(
    left_behind: LeftBehind, sleeper: "subprocess.Popen[bytes]"
) -> None:
    """As under a process 1 that reaps nobody."""
    run = left_behind(*marks.tags_of(sleeper.pid))
    put_right()
    assert state_of(run) == "Running"
    os.kill(sleeper.pid, signal.SIGKILL)
    wait_for(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, lambda: "no zombie")
    put_right()
    assert state_of(run) == "Crashed"


@pytest.mark.skipif(not psutil.LINUX, reason="only there do times of creation move with the clock")
@pytest.mark.parametrize("step_seconds", [-86_400, -3, 3, 86_400])
def test_a_clock_step_does_not_make_a_live_run_look_dead(
    left_behind: LeftBehind,
    sleeper: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    step_seconds: int,
) -> None:
    """The kernel reckons its start from the clock (btime in proc_stat(5)), and psutil the rest from that."""
    run, before = left_behind(*marks.tags_of(sleeper.pid)), psutil.Process(sleeper.pid).create_time()
    booted = psutil.boot_time() + step_seconds
    monkeypatch.setattr("psutil._pslinux.BOOT_TIME", booted, raising=False)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted)
    assert psutil.Process(sleeper.pid).create_time() == pytest.approx(before + step_seconds, abs=1)
    put_right()
    assert state_of(run) == "Running"


_ENDED = ("machine:{user}@{host}/{machine}", "process:{boot}/{pid}/1")


@pytest.mark.parametrize(
    ("tags", "state"),
    [
        (_ENDED, "Crashed"),
        ((_ENDED[0], "process:00000000/{pid}/{began}"), "Crashed"),
        ((_ENDED[0], "process:{boot}/4194999/{began}"), "Crashed"),
        (("machine:{user}@{host}/00000000", _ENDED[1]), "Running"),
        (("machine:{user}1@{host}/{machine}", _ENDED[1]), "Running"),
        (("machine:{user}@elsewhere/{machine}", _ENDED[1]), "Running"),
        ((_ENDED[1],), "Running"),
        ((_ENDED[0],), "Running"),
        ((_ENDED[0], "process:what is this"), "Running"),
        (("someone else's",), "Running"),
    ],
    ids=[
        *("another process with its number", "before the machine's restart", "no such process"),
        *("another machine or container", "another user", "another host", "without a machine"),
        *("without a process", "a process that can't be read", "no run of ours"),
    ],
)
def test_whose_process_is_surely_gone_ends_and_nobody_else(
    left_behind: LeftBehind, tags: tuple[str, ...], state: str
) -> None:
    ours = " ".join(sorted(marks.tags_of(os.getpid())))
    parts = re.fullmatch(
        r"machine:(?P<user>\d+)@(?P<host>.*)/(?P<machine>\w+) "
        r"process:(?P<boot>\w+)/(?P<pid>\d+)/(?P<began>\d+)",
        ours,
    )
    assert parts
    run = left_behind(*(tag.format(**parts.groupdict()) for tag in tags))
    put_right()
    assert state_of(run) == state


def test_a_run_whose_load_was_committed_is_completed_and_another_of_a_dead_process_crashed(
    left_behind: LeftBehind, tmp_path: Path
) -> None:
    done, half = (left_behind(marks.machine_tag(), "process:00000000/1/1") for _ in range(2))
    path = trips_of(tmp_path, [row(1)])
    load_file(
        path,
        database_at(os.environ["TAXI_INGEST_DATABASE_URL"]),
        flow_run_url=url_for("flow-run", done),
    )
    put_right()
    assert (state_of(done), state_of(half)) == ("Completed", "Crashed")


def test_a_run_that_is_alone_asks_no_database_about_itself(api: str) -> None:
    del api
    nowhere = database_at("postgresql://me@127.0.0.1:1/db")

    @tied_flow(name="alone")
    def alone() -> bool:
        end_dead_runs(nowhere)
        return True

    assert alone()


@pytest.mark.skipif(os.geteuid() != 0 or not psutil.LINUX, reason="namespaces need root, and Linux")
def test_a_container_with_the_same_host_name_has_runs_of_its_own() -> None:
    """Where each sees only its own processes, all of the other's would look dead."""
    shown = "import os; from taxi_ingest.flows import marks; print(*sorted(marks.tags_of(os.getpid())))"
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", shown]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip("namespaces are not permitted here")
    machine, process = sorted(marks.tags_of(os.getpid()))
    other_machine, other_process = done.stdout.split()
    assert other_machine.partition("/")[0] == machine.partition("/")[0]
    assert other_machine != machine
    assert other_process.partition("/")[0] == process.partition("/")[0]
