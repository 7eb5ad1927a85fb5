"""Rounds of chaos: a fault, then the table is checked, then a plain run must complete it.

    python tests/chaos --rounds 200 --seed 7

After each fault the rows of each file are those of its source, or what they were before; ledger and
partitions agree. The same seed draws the same faults; with `--lanes 1` also the same files.
"""

import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random

from chaos.faults import ENDS, FAULTS
from chaos.world import File, Finished, World, world
from helpers import QUICK
from taxi_ingest.load import database_at
from taxi_ingest.load.parts import remove_ownerless

_FORMATS = {2011: "csv", 2012: "csv.gz", 2021: "parquet", 2022: "parquet"}
"""Of each year's files: a table refuses a month that it has from another address."""


@dataclass(frozen=True)
class Round:
    """What happened in a round."""

    number: int
    fault: str
    problem: str | None


def run(rounds: int, seed: int, lanes: int, on_round: Callable[[Round], None]) -> Counter[str]:
    """Run the rounds, some at a time; return how often each fault was injected."""
    # A lane takes the next one when it is done with one: some last twenty times as long as others.
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(rounds):
        numbers.put(number)

    def run_lane(_: int) -> list[Round]:
        with (
            tempfile.TemporaryDirectory(prefix="ti-chaos-", dir=QUICK) as folder,
            world(Path(folder)) as place,
        ):
            done = []
            with suppress(Empty):
                while True:
                    done.append(_round(place, numbers.get_nowait(), seed))
                    on_round(done[-1])
            return done

    with ThreadPoolExecutor(lanes) as pool:
        done = [one for lane in pool.map(run_lane, range(lanes)) for one in lane]
    return Counter(one.fault for one in done)


def _round(place: World, number: int, seed: int) -> Round:
    random = Random(f"{seed}-{number}")
    names = Random(seed).sample(list(FAULTS), len(FAULTS))
    # Each fault in turn, so that none is left out, in an order that the seed draws.
    fault = names[number % len(names)]
    try:
        _check_round(place, random, fault)
    except Exception as problem:
        place.reset()
        return Round(number, fault, f"{type(problem).__name__}: {problem}")
    return Round(number, fault, None)


def _check_round(place: World, random: Random, fault: str) -> None:
    place.forget()
    file = _draw_file(place, random)
    place.connections = random.randint(1, 3)
    before = dict(place.expected)
    ended = FAULTS[fault](place, random, file)
    _check_ends(fault, ended)
    after = {**place.expected, file.name: file.rows}
    found = place.rows_by_file()
    if all(end.exit_code == 0 for end in ended):
        assert found == after, f"succeeded, but has {found} instead of {after}"
    else:
        assert found in (before, after), f"has {found}, neither {before} nor {after}"
    place.http.faults.clear()
    place.proxy.faults.clear()
    again = place.ingest_plainly(file)
    assert again.exit_code == 0, f"the plain run ended with {again.exit_code}: {again.stderr}"
    place.expected[file.name] = file.rows
    assert place.rows_by_file() == place.expected, f"has {place.rows_by_file()}, not {place.expected}"
    _check_left_parts(place)


def _check_left_parts(place: World) -> None:
    """Nothing is left of a load that has ended, once the next begins."""
    with database_at(place.database_url).transaction() as cursor:
        remove_ownerless(cursor)
    assert not place.left_parts(), place.left_parts()


def _draw_file(place: World, random: Random) -> File:
    """A new file, a revised one, or one that is loaded already."""
    kind = random.choice(["new", "new", "revised", "same"]) if place.expected else "new"
    if kind == "new":
        year = random.choice(list(_FORMATS))
        name = f"yellow_tripdata_{year}-{random.randint(1, 12):02}.{_FORMATS[year]}"
        return place.publish(name, random.randint(20_000, 60_000))
    name = random.choice(sorted(place.expected))
    rows = place.expected[name] + (random.randint(1, 100) if kind == "revised" else 0)
    return place.publish(name, rows)


_PYTHONS_OWN = ("Fatal Python error: init_import_site", "Exception ignored in")
"""What Python itself says of an interrupt while it starts or tidies up: no code of ours hears of it."""


def _check_ends(fault: str, ended: list[Finished]) -> None:
    for end in ended:
        if fault.startswith("client") and any(text in end.stderr for text in _PYTHONS_OWN):
            continue
        assert end.exit_code in ENDS.get(fault, {0}), f"ended with {end.exit_code}: {end.stderr}"
        assert "Traceback" not in end.stderr or end.exit_code < 0, end.stderr
