"""A lock is held by one at a time, be it a process or a thread, whatever becomes of its file."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from taxi_ingest.sources.file_lock import locked


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], int]:
    return lambda: os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT, 0o600)


def test_threads_of_one_process_are_kept_apart(tmp_path: Path, opened: Callable[[], int]) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(20):
            held = locked(tmp_path / "lock", opened)
            assert held
            with held:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_who_waits_is_told_and_gives_up_in_time(tmp_path: Path, opened: Callable[[], int]) -> None:
    waited: list[bool] = []
    held = locked(tmp_path / "lock", opened)
    assert held
    with held:
        assert locked(tmp_path / "lock", opened, 0, lambda: waited.append(True)) is None
        assert waited == []
        assert locked(tmp_path / "lock", opened, 0.05, lambda: waited.append(True)) is None
        assert waited == [True]
    assert locked(tmp_path / "lock", opened, 0)


def test_a_lock_whose_file_was_removed_meanwhile_is_not_taken_for_the_new_one(
    tmp_path: Path, opened: Callable[[], int]
) -> None:
    path = tmp_path / "lock"
    first = locked(path, opened)
    assert first

    def free_and_remove() -> None:
        path.unlink()
        first.close()

    second = locked(path, opened, on_wait=free_and_remove)
    assert second
    assert os.path.samestat(path.stat(), os.fstat(second.fileno()))
    assert locked(path, opened, 0) is None
    second.close()
