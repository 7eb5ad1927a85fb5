"""`python -m taxi_ingest.tlc.sample`: write a made-up file of TLC's and print where it is."""

import argparse
import sys
from pathlib import Path

from taxi_ingest.errors import UsageError
from taxi_ingest.tlc.sample import FORMATS, file_name, write_sample


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m taxi_ingest.tlc.sample", description=__doc__)
    parser.add_argument("dataset", help="yellow, green, fhv, fhvhv or zones")
    parser.add_argument("month", help="2024-01; anything for zones, which have none")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="made if missing")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--format", choices=tuple(FORMATS), default="parquet")
    options = parser.parse_args(arguments)
    try:
        path = options.folder / file_name(options.dataset, options.month, options.format)
        options.folder.mkdir(parents=True, exist_ok=True)
        print(write_sample(options.dataset, options.month, path, options.rows))
    except UsageError as error:
        print(f"{error} {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
