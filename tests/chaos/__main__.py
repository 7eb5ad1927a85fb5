"""The command line of the chaos."""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import randrange

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos import Round, run
from chaos.faults import FAULTS
from helpers import QUICK, set_up_environment


def main() -> int:
    """Run the rounds, print them and the count of each fault; 1 if anything went wrong."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument(
        "--once", action="store_const", dest="rounds", const=len(FAULTS), help="as many rounds as faults"
    )
    parser.add_argument("--seed", type=int, default=randrange(1_000_000))
    parser.add_argument("--lanes", type=int, default=2, help="rounds at a time")
    options = parser.parse_args()
    print(f"seed {options.seed}: {options.rounds} rounds, {options.lanes} at a time", flush=True)
    problems: list[Round] = []
    began = time.monotonic()

    def tell(done: Round) -> None:
        print(f"{time.monotonic() - began:6.0f} s  round {done.number:3}  {done.fault}", flush=True)
        if done.problem:
            problems.append(done)
            print(f"FAILED: {done.problem}", flush=True)

    with tempfile.TemporaryDirectory(prefix="ti-chaos-", dir=QUICK) as home:
        set_up_environment(Path(home))
        counts = run(options.rounds, options.seed, options.lanes, tell)
    for fault, count in sorted(counts.items()):
        print(f"{count:4} x {fault}")
    print(f"{len(problems)} of {options.rounds} rounds failed (seed {options.seed})")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
