"""Several loads, whoever carries them out: threads of this process, or the workers of a pool."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from taxi_ingest import stack
from taxi_ingest.flows.caller import caller
from taxi_ingest.flows.outcome import NotLoaded, Outcome

Result = Outcome | NotLoaded


class Crew(Protocol):
    """What carries out loads, which it knows by their numbers."""

    def begin(self, left: deque[int]) -> None:
        """Begin as many of those that are left, the first ones, as there is room for."""

    def ended(self) -> Iterable[tuple[int, Result | None]]:
        """Wait a while, and tell what has ended since; None where it is to be begun anew."""

    def withdraw(self) -> None:
        """Take back what was begun and nobody works on yet."""

    @property
    def works(self) -> bool:
        """Whether something is under way."""


def carry_out(names: Sequence[str], crew: Crew, max_failures: int | None) -> list[Result | None]:
    """What has become of each load, in their order; None for those not begun after `max_failures`.

    Called in a flow run, whose caller is told of each end. Raises DatabaseError where the local stack was
    stopped under it.
    """
    results: list[Result | None] = [None] * len(names)
    left = deque(range(len(names)))
    while left or crew.works:
        # Raises where `down --force` has ended it: what comes next would start the stack again.
        stack.enter()
        if max_failures and sum(isinstance(result, NotLoaded) for result in results) >= max_failures:
            left.clear()
            crew.withdraw()
        crew.begin(left)
        for number, result in crew.ended():
            if result is None:
                left.appendleft(number)
                continue
            results[number] = result
            caller().on_end(names[number], result)
    return results
