"""What goes wrong in a round: each function runs `ingest` while it does, and returns how that ended."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from chaos.world import TABLE, File, Finished, World, finish
from helpers import exists, held, small_disk, until
from taxi_ingest import stack
from taxi_ingest.stack.account import give_to_account

Fault = Callable[[World, Random, File], list[Finished]]


def _download(**what: object) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        world.http.fault(file.name, times=random.randint(1, 2), **_drawn(what, random, file))
        return world.ingest(file)

    return fault


def _connection(**what: object) -> Fault:
    def fault(world: World, random: Random, file: File) -> list[Finished]:
        world.proxy.fault(**_drawn(what, random, file))
        return world.ingest(file)

    return fault


def _drawn(what: dict[str, object], random: Random, file: File) -> dict[str, object]:
    return {name: value(random, file) if callable(value) else value for name, value in what.items()}


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


def _blow(strike: Callable[[World, "subprocess.Popen[str]"], object]) -> Fault:
    """What strikes a run in the midst of its copy, or at any moment at all."""

    def fault(world: World, random: Random, file: File) -> list[Finished]:
        process = world.start(file)
        _wait_for_the_moment(world, random, process)
        strike(world, process)
        return [finish(process)]

    return fault


def _blow_at_backfill(strike: Callable[[World, "subprocess.Popen[str]"], object]) -> Fault:
    """What strikes a backfill in the midst of a copy, or at any moment; the same command completes it."""

    def fault(world: World, random: Random, file: File) -> list[Finished]:
        used = {name.split("_")[2][:4] for name in (file.name, *world.expected)}
        year = random.choice([year for year in range(2014, 2020) if str(year) not in used])
        months = [
            world.publish(f"yellow_tripdata_{year}-0{month}.parquet", 10_000 * month) for month in range(1, 5)
        ]
        process = world.start_backfill(f"{year}-01..{year}-04")
        _wait_for_the_moment(world, random, process)
        strike(world, process)
        struck = finish(process)
        there = {name: rows for name, rows in world.rows_by_file().items() if name not in world.expected}
        assert there.items() <= {month.name: month.rows for month in months}.items(), there
        again = finish(world.start_backfill(f"{year}-01..{year}-04"))
        assert again.exit_code == 0, f"going on ended with {again.exit_code}: {again.stderr}"
        world.expected |= {month.name: month.rows for month in months}
        return [struck, *world.ingest(file)]

    return fault


def _wait_for_the_moment(world: World, random: Random, process: "subprocess.Popen[str]") -> None:
    if random.random() < 0.7:
        world.wait_for_copy(process)
        time.sleep(random.uniform(0, 0.3))
    else:
        time.sleep(random.uniform(0, 3))


def _killed_before_the_last_commit(world: World, random: Random, file: File) -> list[Finished]:
    """The client dies when its further parts are committed, and the load is not."""
    world.connections = random.randint(2, 3)
    if not exists(world.database_url, "taxi_ingest.parts"):
        return world.ingest(file)
    with closing(held(world.database_url, "LOCK TABLE taxi_ingest.parts IN SHARE MODE")):
        process = world.start(file)
        until(lambda: process.poll() is not None or world.left_parts())
        process.kill()
        killed = finish(process)
    return [killed]


def _one_backend_of_several(world: World, random: Random, file: File) -> list[Finished]:
    world.connections = random.randint(2, 3)
    return _blow(lambda world, _: world.end_one_session())(world, random, file)


def _stopped_by_force(world: World, random: Random, file: File) -> list[Finished]:
    finished = _blow(lambda world, _: world.command("down", "--force"))(world, random, file)
    stack.start_database(world.settings)
    return finished


def _full_disk(world: World, random: Random, file: File) -> list[Finished]:
    """New tables lie on a disk of 1 MB."""
    del random
    with _megabyte() as folder:
        give_to_account(folder)
        world.execute(f"CREATE TABLESPACE tiny LOCATION '{folder}'")
        try:
            world.execute("ALTER ROLE CURRENT_USER SET default_tablespace = tiny")
            return world.ingest(file)
        finally:
            world.execute("ALTER ROLE CURRENT_USER RESET default_tablespace")
            # The ledger stays, wherever it was made.
            for kind in ("TABLE", "INDEX"):
                world.execute(f"ALTER {kind} ALL IN TABLESPACE tiny SET TABLESPACE pg_default")
            # Else a crash soon after would look for its folder.
            world.execute("DROP TABLESPACE tiny")
            world.execute("CHECKPOINT")


def _same_file(world: World, random: Random, file: File) -> list[Finished]:
    return world.ingest(*[file] * random.randint(2, 3))


def _different_files(world: World, random: Random, file: File) -> list[Finished]:
    names = {f"yellow_tripdata_2013-0{month}.csv" for month in (1, 2, 3)} - {file.name}
    others = random.sample(sorted(names), random.randint(1, 2))
    published = [world.publish(name, random.randint(1000, 20_000)) for name in others]
    finished = world.ingest(file, *published)
    world.expected |= {other.name: other.rows for other in published}
    return finished


def _detached(world: World, random: Random, file: File) -> list[Finished]:
    """Someone sets another file's partition aside, and puts it back when the load is done."""
    others = [load_id for load_id, name in world.loaded() if name != file.name]
    if not others:
        return world.ingest(file)
    load_id = random.choice(others)
    world.execute(f"ALTER TABLE {TABLE} DETACH PARTITION taxi_ingest.load_{load_id}")
    finished = world.ingest(file)
    world.execute(
        f"ALTER TABLE {TABLE} ATTACH PARTITION taxi_ingest.load_{load_id} FOR VALUES IN ({load_id})"
    )
    return finished


def _long_reader(world: World, random: Random, file: File) -> list[Finished]:
    """Someone reads the table for longer than a lock is asked for."""
    with world.reading():
        process = world.start(file)
        time.sleep(random.uniform(1, 4))
    return [finish(process)]


def _worst_settings(world: World, random: Random, file: File) -> list[Finished]:
    """The database's defaults are what nobody would choose."""
    del random
    for name, value in _WORST.items():
        world.execute(f"ALTER DATABASE {world.database} SET {name} = {value}")
    try:
        return world.ingest(file)
    finally:
        world.execute(f"ALTER DATABASE {world.database} RESET ALL")


_WORST = {
    "default_transaction_isolation": "'repeatable read'",
    "default_transaction_read_only": "on",
    "client_encoding": "'LATIN1'",
    "datestyle": "'German, DMY'",
    "timezone": "'Asia/Kolkata'",
    "statement_timeout": "'300ms'",
    "lock_timeout": "'10ms'",
    "search_path": "''",
    "bytea_output": "'escape'",
    "row_security": "off",
}


def _spelled_otherwise(world: World, random: Random, file: File) -> list[Finished]:
    """The same address in other letters."""
    host = world.http.url("").removeprefix("http://").rstrip("/")
    spelling = random.choice(
        (
            f"HTTP://{host}/{file.name}",
            f"http://{host}/x/../{file.name}",
            f"http://{host}/./{file.name.replace('_', '%5f')}",
            f"http://{host}/{file.name}#part",
        )
    )
    return [finish(world.start(file, spelling))]


def _stray_cache(world: World, random: Random, file: File) -> list[Finished]:
    """Someone left things in the folder of downloads."""
    for folder in ("files", "locks", "runs"):
        place = world.settings.cache_dir / folder / f"stray {random.randrange(1000)}"
        place.parent.mkdir(parents=True, exist_ok=True)
        if random.random() < 0.5 and folder != "locks":
            place.mkdir(exist_ok=True)
        else:
            place.touch()
    return world.ingest(file)


def _full_cache(world: World, random: Random, file: File) -> list[Finished]:
    """The folder of downloads lies on a disk of 1 MB."""
    del random
    with _megabyte() as folder:
        return [finish(world.start(file, TAXI_INGEST_CACHE_DIR=str(folder)))]


@contextmanager
def _megabyte() -> Iterator[Path]:
    """The folder of a disk of 1 MB."""
    with tempfile.TemporaryDirectory(prefix="ti-chaos-") as folder, small_disk(Path(folder), "size=1m"):
        yield Path(folder)


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
    "client killed (SIGKILL)": _blow(lambda _, process: process.kill()),
    "client interrupted (SIGINT)": _blow(lambda _, process: process.send_signal(signal.SIGINT)),
    "client ended (SIGTERM)": _blow(lambda _, process: process.terminate()),
    "client killed before the last commit": _killed_before_the_last_commit,
    "one backend of several terminated": _one_backend_of_several,
    "backend terminated": _blow(lambda world, _: world.end_sessions()),
    "server killed (SIGKILL)": _blow(lambda world, _: world.crash_database(signal.SIGKILL)),
    "server shut down immediately": _blow(lambda world, _: world.crash_database(signal.SIGQUIT)),
    "Prefect's server killed (SIGKILL)": _blow(lambda world, _: world.crash_prefect()),
    "client of a backfill killed": _blow_at_backfill(lambda _, process: process.kill()),
    "client of a backfill interrupted": _blow_at_backfill(
        lambda _, process: process.send_signal(signal.SIGINT)
    ),
    "backends of a backfill terminated": _blow_at_backfill(lambda world, _: world.end_sessions()),
    "server killed under a backfill": _blow_at_backfill(
        lambda world, _: world.crash_database(signal.SIGKILL)
    ),
    "Prefect's server killed under a backfill": _blow_at_backfill(lambda world, _: world.crash_prefect()),
    "stack stopped by force": _stopped_by_force,
    "partition detached and attached": _detached,
    "long reader": _long_reader,
    "worst settings": _worst_settings,
    "address spelled otherwise": _spelled_otherwise,
    "strays in the cache": _stray_cache,
    "same file by many": _same_file,
    "different files by many": _different_files,
}
if os.geteuid() == 0:
    FAULTS["disk full"] = _full_disk
    FAULTS["cache's disk full"] = _full_cache

ENDS: dict[str, set[int]] = {
    "client killed (SIGKILL)": {0, -signal.SIGKILL},
    "client killed before the last commit": {0, -signal.SIGKILL},
    # Minus a signal: before our own handling begins, in the first tenths of a second.
    "client interrupted (SIGINT)": {0, 130, -signal.SIGINT},
    "client ended (SIGTERM)": {0, 130, -signal.SIGTERM},
    "client of a backfill killed": {0, -signal.SIGKILL},
    "client of a backfill interrupted": {0, 130, -signal.SIGINT},
    # Before its first month is begun.
    "Prefect's server killed under a backfill": {0, 6},
    # Before the commit it is Prefect that failed; after it the load is told as done.
    "Prefect's server killed (SIGKILL)": {0, 6},
    "stack stopped by force": {0, 5, 6},
    # Nothing is written for a file that is loaded already.
    "disk full": {0, 5},
    "cache's disk full": {0, 3},
}
"""The exit codes with which a run may end; all others must succeed."""
