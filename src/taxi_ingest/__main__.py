"""The program's entry: an interrupt while the rest is imported ends it as cleanly as a later one."""

import sys

_INTERRUPTED = 130


def main() -> None:
    """Import the command line, and run it."""
    try:
        from taxi_ingest.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Error: Interrupted.\nHint: Nothing was done yet; run the same command again.\n")
        raise SystemExit(_INTERRUPTED) from None
    run()


if __name__ == "__main__":
    main()
