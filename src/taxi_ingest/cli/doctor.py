"""The command that says what is wrong: doctor."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import HELP, OUTPUT
from taxi_ingest.cli.options import Block, DatabaseUrl, Json
from taxi_ingest.cli.shared import check_environment, chosen_settings, stdout
from taxi_ingest.errors import UsageError

if TYPE_CHECKING:
    from taxi_ingest.doctor import Finding

_SIGNS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "failed": ("✗", "red")}
_PLAIN_SIGNS = {"ok": "+", "note": "!", "failed": "x"}
_WIDTH = 26

app = typer.Typer()


@app.command(
    rich_help_panel=HELP,
    epilog="""taxi-ingest doctor
taxi-ingest doctor --bundle report.txt""",
)
def doctor(
    block: Block = None,
    database_url: DatabaseUrl = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=OUTPUT,
            help="Write it all, with the servers' logs, for a bug report.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Look at all that a load needs, and say how to mend what is wrong.

    It starts and changes nothing. Python and packages, settings and who has set them, disks, the local stack,
    Prefect, the database with the rights there and what makes it slow, TLC's site. The exit code is that of
    the first failure.
    """
    with failures_told(json):
        settings, block = chosen_settings(block, database_url)
        check_environment()
        from taxi_ingest.doctor import examine
        from taxi_ingest.flows.logs import show_prefect_logs

        show_prefect_logs(stdout(), quiet=True)
        found = list(_shown(examine(settings, block, by_flag=database_url is not None), not json))
        failures = [finding for finding in found if finding.state == "failed"]
        if bundle:
            from taxi_ingest.doctor.bundle import as_text

            _write(bundle, as_text(found, settings))
        if json:
            status = "failed" if failures else "ok"
            print_json({"status": status, "findings": [vars(finding) for finding in found]})
        elif bundle:
            typer.echo(f"Written to {bundle}. Read it before you send it on.")
    raise typer.Exit(failures[0].exit_code if failures else 0)


def _shown(findings: "Iterator[Finding]", visible: bool) -> "Iterator[Finding]":
    """Show each finding as soon as it is there."""
    from rich.table import Table
    from rich.text import Text

    console = stdout()
    unicode = "utf" in console.encoding
    for finding in findings:
        if visible:
            sign, color = _SIGNS[finding.state]
            row = Table.grid(padding=(0, 1))
            row.add_column(width=1)
            row.add_column(width=_WIDTH)
            row.add_column(overflow="fold")
            shown = sign if unicode else _PLAIN_SIGNS[finding.state]
            row.add_row(Text(shown, color), Text(finding.subject), Text(finding.found))
            if finding.hint:
                row.add_row("", "", Text(finding.hint, "dim"))
            console.print(row)
        yield finding


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", "Name another file.") from error
