"""What goes wrong in a round: each function runs `ingest` while it does, and returns how that ended."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from chaos.world import File, Finished, World, finish
from taxi_ingest.stack.account import give_to_account

Fault = Callable[[World, Random, File], list[Finished]]


def _download(**what: object) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        drawn = {name: value(random, file) if callable(value) else value for name, value in what.items()}
        world.http.fault(file.name, times=random.randint(1, 2), **drawn)
        return world.ingest(file)

    return fault


def _anywhere(random: Random, file: File) -> int:
    return random.randrange(file.bytes)


def _changed_midway(world: World, random: Random, file: File) -> list[Finished]:
    """The download is cut, and the file is another when it goes on."""

    def change() -> None:
        changed = world.publish(file.name, file.rows + 1)
        file.rows, file.bytes = changed.rows, changed.bytes

    # One that was not downloaded before, so that there is something to cut.
    change()
    cut = random.randrange(1, file.bytes)
    world.http.fault(file.name, cut_after_bytes=cut, then=change, times=1)
    return world.ingest(file)


def _connection(**what: object) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        drawn = {name: value(random, file) if callable(value) else value for name, value in what.items()}
        world.proxy.fault(**drawn)
        return world.ingest(file)

    return fault


def _signal(number: signal.Signals) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        process = world.start(file)
        _wait(world, random, process)
        process.send_signal(number)
        return [finish(process)]

    return fault


def _backend(world: World, random: Random, file: File) -> list[Finished]:
    process = world.start(file)
    _wait(world, random, process)
    world.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'taxi-ingest' AND pid <> pg_backend_pid()"
    )
    return [finish(process)]


def _server(number: signal.Signals) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        process = world.start(file)
        _wait(world, random, process)
        world.crash_database(number)
        return [finish(process)]

    return fault


def _wait(world: World, random: Random, process: "subprocess.Popen[str]") -> None:
    """Until a moment in the copy, or any moment at all."""
    if random.random() < 0.7:
        world.wait_for_copy(process)
        time.sleep(random.uniform(0, 0.3))
    else:
        time.sleep(random.uniform(0, 3))


def _full_disk(world: World, random: Random, file: File) -> list[Finished]:
    """New tables lie on a disk of 1 MB."""
    del random
    folder = Path(tempfile.mkdtemp(prefix="ti-chaos-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    give_to_account(folder)
    try:
        world.execute(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        world.execute("ALTER ROLE CURRENT_USER SET default_tablespace = tiny")
        return world.ingest(file)
    finally:
        world.execute("ALTER ROLE CURRENT_USER RESET default_tablespace")
        # Else a crash soon after would look for its folder.
        world.execute("DROP TABLESPACE tiny")
        world.execute("CHECKPOINT")
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def _same_file(world: World, random: Random, file: File) -> list[Finished]:
    return world.ingest(*[file] * random.randint(2, 3))


def _different_files(world: World, random: Random, file: File) -> list[Finished]:
    others = [f"yellow_tripdata_{2012 + number}-01.csv" for number in range(random.randint(1, 2))]
    published = [world.publish(name, random.randint(1000, 20_000)) for name in others]
    finished = world.ingest(file, *published)
    world.expected |= {other.name: other.rows for other in published}
    return finished


FAULTS: dict[str, Fault] = {
    "no fault": lambda world, _, file: world.ingest(file),
    "download cut": _download(cut_after_bytes=_anywhere),
    "download stalled": _download(stall_seconds=lambda random, _: random.uniform(0.5, 2)),
    "download of wrong length": _download(
        headers={"Content-Length": "999999999"}, cut_after_bytes=999_999_999
    ),
    "file changed midway": _changed_midway,
    "500, then 200": _download(status=lambda random, _: random.choice([500, 502, 503, 504])),
    "429 with Retry-After": _download(status=429, headers={"Retry-After": "1"}),
    "connection cut": _connection(after_bytes=lambda random, file: random.randrange(file.rows * 100)),
    "connection stalled": _connection(
        after_bytes=lambda random, file: random.randrange(file.rows * 50), stall_seconds=1.5
    ),
    "cut before COMMIT": _connection(at_commit="unsent"),
    "cut after COMMIT was sent": _connection(at_commit="sent"),
    "COMMIT's answer lost": _connection(at_commit="answered"),
    "client killed (SIGKILL)": _signal(signal.SIGKILL),
    "client interrupted (SIGINT)": _signal(signal.SIGINT),
    "client ended (SIGTERM)": _signal(signal.SIGTERM),
    "backend terminated": _backend,
    "server killed (SIGKILL)": _server(signal.SIGKILL),
    "server shut down immediately": _server(signal.SIGQUIT),
    "same file by many": _same_file,
    "different files by many": _different_files,
}
if os.geteuid() == 0:
    FAULTS["disk full"] = _full_disk

ENDS: dict[str, set[int]] = {
    "client killed (SIGKILL)": {0, -signal.SIGKILL},
    # Minus a signal: before our own handling begins, in the first tenths of a second.
    "client interrupted (SIGINT)": {0, 130, -signal.SIGINT},
    "client ended (SIGTERM)": {0, 130, -signal.SIGTERM},
    # Nothing is written for a file that is loaded already.
    "disk full": {0, 5},
}
"""The exit codes with which a run may end; all others must succeed."""
