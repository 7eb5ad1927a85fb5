"""A run whose process is gone ends in Prefect with its parts, and nobody else's run does."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from prefect import tags
from prefect.utilities.urls import url_for

import builders
from helpers import loaded, until
from prefect_runs import flow_run, flow_runs, id_of, seeming_run, task_runs
from taxi_ingest import ingest
from taxi_ingest.flows.process_marks import machine_tag, process_mark
from taxi_ingest.flows.runs import end_dead_runs, tied_flow
from taxi_ingest.load import database_at
from taxi_ingest.places import Postgres

_STOPS_AT = """
import signal, sys
from pathlib import Path
from prefect.client.orchestration import SyncPrefectClient
from taxi_ingest import Settings, ingest, prefect_api
from taxi_ingest.flows import ingest as flow, tasks

moment, url, stopped = sys.argv[1:]
create = SyncPrefectClient.create_flow_run


def stop(*_, **__):
    Path(stopped).touch()
    signal.pause()


def create_and_stop(*args, **kwargs):
    create(*args, **kwargs)
    stop()


if moment == "created":
    SyncPrefectClient.create_flow_run = create_and_stop
else:
    setattr(tasks if moment == "open_stream" else flow, moment, stop)
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


def put_right() -> None:
    """What the next run does."""
    end_dead_runs(Postgres(database_at(os.environ["TAXI_INGEST_DATABASE_URL"])))


def shown(ids: set[UUID]) -> list[str]:
    """The names and states of runs and of their tasks."""
    found = [run for run in flow_runs() if run.id in ids]
    # Until it begins, a run has a random name of Prefect's.
    names = ["killed" if run.name.endswith("killed") else "unnamed" for run in found]
    return sorted(f"{name} {run.state_name}" for name, run in zip(names, found, strict=True)) + sorted(
        f"{re.split('[ ]|-[0-9]', task.name)[0]} {task.state_name}" for task in task_runs(*ids)
    )


LeftBehind = Callable[..., UUID]


@pytest.fixture
def left_behind(api: str) -> Iterator[LeftBehind]:
    """Make a run that seems to go on, with these tags and the mark of a process."""
    del api
    with ExitStack() as runs:
        yield lambda *tags, process=None: runs.enter_context(seeming_run(*tags, process=process))


@pytest.mark.slow
@pytest.mark.parametrize("moment", _MOMENTS)
def test_a_run_killed_at_any_moment_ends_as_crashed_with_its_parts(
    api: str, trips: Path, moment: str
) -> None:
    del api
    stopped = trips.with_name("stopped")
    before = {run.id for run in flow_runs()}
    process = subprocess.Popen(
        [sys.executable, "-c", _STOPS_AT, moment, str(trips), str(stopped)], stderr=subprocess.DEVNULL
    )

    def left() -> list[str]:
        ids = {run.id for run in flow_runs()} - before
        return [line for line in shown(ids) if not line.endswith("Completed")]

    try:
        until(stopped.exists)
        until(lambda: left() == _MOMENTS[moment], left)
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
    run_id = id_of(outcome.flow_run_url)
    until(lambda: len(task_runs(run_id)) == 4, lambda: task_runs(run_id))
    run = flow_run(run_id)
    assert set(run.tags) == {"mine", "green", "2024-01", machine_tag()}
    assert run.flow_version == process_mark(os.getpid())
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
    run = left_behind(machine_tag(), process=process_mark(sleeper.pid))
    put_right()
    assert flow_run(run).state_name == "Running"
    os.kill(sleeper.pid, signal.SIGKILL)
    until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, lambda: "no zombie")
    put_right()
    assert flow_run(run).state_name == "Crashed"


@pytest.mark.skipif(not psutil.LINUX, reason="only there do times of creation move with the clock")
@pytest.mark.parametrize("step_seconds", [-86_400, -3, 3, 86_400])
def test_a_clock_step_does_not_make_a_live_run_look_dead(
    left_behind: LeftBehind,
    sleeper: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    step_seconds: int,
) -> None:
    """The kernel reckons its start from the clock (btime in proc_stat(5)), and psutil the rest from that."""
    run = left_behind(machine_tag(), process=process_mark(sleeper.pid))
    before = psutil.Process(sleeper.pid).create_time()
    booted = psutil.boot_time() + step_seconds
    monkeypatch.setattr("psutil._pslinux.BOOT_TIME", booted, raising=False)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: booted)
    assert psutil.Process(sleeper.pid).create_time() == pytest.approx(before + step_seconds, abs=1)
    put_right()
    assert flow_run(run).state_name == "Running"


_HERE = "machine:{user}@{host}/{machine}"
_ENDED = "process:{boot}/{pid}/1"


@pytest.mark.parametrize(
    ("tag", "process", "state"),
    [
        (_HERE, _ENDED, "Crashed"),
        (_HERE, "process:00000000/{pid}/{began}", "Crashed"),
        (_HERE, "process:{boot}/4194999/{began}", "Crashed"),
        ("machine:{user}@{host}/00000000", _ENDED, "Running"),
        ("machine:{user}1@{host}/{machine}", _ENDED, "Running"),
        ("machine:{user}@elsewhere/{machine}", _ENDED, "Running"),
        ("someone else's", _ENDED, "Running"),
        (_HERE, "", "Running"),
        (_HERE, "process:what is this", "Running"),
        ("someone else's", "", "Running"),
    ],
    ids=[
        *("another process with its number", "before the machine's restart", "no such process"),
        *("another machine or container", "another user", "another host", "without a machine"),
        *("without a process", "a process that can't be read", "no run of ours"),
    ],
)
def test_whose_process_is_surely_gone_ends_and_nobody_else(
    left_behind: LeftBehind, tag: str, process: str, state: str
) -> None:
    ours = f"{machine_tag()} {process_mark(os.getpid())}"
    parts = re.fullmatch(
        r"machine:(?P<user>\d+)@(?P<host>.*)/(?P<machine>\w+) "
        r"process:(?P<boot>\w+)/(?P<pid>\d+)/(?P<began>\d+)",
        ours,
    )
    assert parts
    known = parts.groupdict()
    run = left_behind(tag.format(**known), process=process.format(**known))
    put_right()
    assert flow_run(run).state_name == state


def test_a_run_whose_load_was_committed_is_completed_and_another_of_a_dead_process_crashed(
    left_behind: LeftBehind, tmp_path: Path
) -> None:
    done, half = (left_behind(machine_tag(), process="process:00000000/1/1") for _ in range(2))
    path = builders.trips(tmp_path, [builders.row(1)])
    loaded(
        path,
        database_at(os.environ["TAXI_INGEST_DATABASE_URL"]),
        flow_run_url=url_for("flow-run", done),
    )
    put_right()
    assert (flow_run(done).state_name, flow_run(half).state_name) == ("Completed", "Crashed")


def test_a_run_that_is_alone_asks_no_database_about_itself(api: str) -> None:
    del api
    nowhere = database_at("postgresql://me@127.0.0.1:1/db")

    @tied_flow(name="alone")
    def alone() -> bool:
        end_dead_runs(Postgres(nowhere))
        return True

    assert alone()


@pytest.mark.skipif(os.geteuid() != 0 or not psutil.LINUX, reason="namespaces need root, and Linux")
def test_a_container_with_the_same_host_name_has_runs_of_its_own() -> None:
    """Where each sees only its own processes, all of the other's would look dead."""
    shown = (
        "import os; from taxi_ingest.flows.process_marks import machine_tag, process_mark; "
        "print(machine_tag(), process_mark(os.getpid()))"
    )
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", shown]
    done = subprocess.run(inside, capture_output=True, text=True, timeout=60)
    if "unshare" in done.stderr:
        pytest.skip("namespaces are not permitted here")
    machine, process = machine_tag(), process_mark(os.getpid())
    other_machine, other_process = done.stdout.split()
    assert other_machine.partition("/")[0] == machine.partition("/")[0]
    assert other_machine != machine
    assert other_process.partition("/")[0] == process.partition("/")[0]
