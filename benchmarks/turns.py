"""Contenders take turns, and prove that they have loaded the same."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.data import Input
from benchmarks.measure import Failed, Measurement, measured
from benchmarks.place import Place

_SETTLED_SECONDS = 6
"""How long Prefect's server is still watched after a run: it writes events every five seconds."""

Results = Mapping[str, Sequence[Measurement]]
"""Case (`contender, input`) -> its runs, one a round. Cases that took turns pair by round."""


class Turns:
    """Runs commands, and keeps what each run took."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.results: dict[str, list[Measurement]] = {}
        self.inputs: dict[str, Input] = {}
        self.unavailable: dict[str, str] = {}
        """Case of a peer -> why it can't be run."""
        self._proofs: dict[int, str] = {}

    def alternate(self, rounds: int, *turns: tuple[str, Input]) -> None:
        """Have contenders load their inputs into an empty database, A B A B.

        Raises RuntimeError where one has loaded other rows than those before it.
        """
        for number in range(rounds):
            for name, input in turns:
                if number < CONTENDERS[name].most_rounds:
                    self._load(name, input)

    def time(self, case: str, command: Sequence[str]) -> None:
        """Run one of our commands, which finds the database as the run before has left it."""
        self._keep(case, measured(command, self.place.env, self.place.folder))

    def prove(self, case: str, input: Input, of_lake: bool = False) -> None:
        """Raise RuntimeError if the table, or the lake, has other rows than the input."""
        proof = self.place.proof(of_lake)
        if proof != self._proofs.setdefault(input.rows, proof) or not proof.startswith(f"{input.rows}|"):
            raise RuntimeError(
                f"{case} has loaded {proof}, others {self._proofs[input.rows]}, of {input.rows} rows"
            )

    def _load(self, name: str, input: Input) -> None:
        contender, case = CONTENDERS[name], f"{name}, {input.name}"
        if case in self.unavailable:
            return
        self.inputs[input.name] = input
        self.place.begin(contender.typed)
        try:
            run = self._run(contender, input)
        except Failed as reason:
            if not contender.is_peer:
                raise
            self.unavailable[case] = str(reason).splitlines()[-1]
            print(f"not available: {case}: {self.unavailable[case]}", flush=True)
            return
        self.prove(case, input, contender.into_lake)
        self._keep(case, run)

    def _run(self, contender: Contender, input: Input) -> Measurement:
        place, command = self.place, contender.command(self.place, input)
        if not contender.by_prefect:
            return measured(command, place.env, place.folder, contender.own_clock)
        before = place.server_cpu_seconds()
        run = measured(command, place.env, place.folder, contender.own_clock)
        time.sleep(_SETTLED_SECONDS)
        return replace(run, server_cpu_seconds=place.server_cpu_seconds() - before)

    def _keep(self, case: str, run: Measurement) -> None:
        self.results.setdefault(case, []).append(run)
        print(f"{run.seconds:8.2f} s  {run.peak_mb:5.0f} MB  {case}", flush=True)
