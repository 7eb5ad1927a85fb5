"""The command `views`, and what commands that load say of it at their end."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import options
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, LOAD, TARGET
from taxi_ingest.cli.shared import check_text, chosen_database, open_block, stdout
from taxi_ingest.errors import UsageError, printable

if TYPE_CHECKING:
    from rich.text import Text

    from taxi_ingest.load import Database
    from taxi_ingest.views import Made

app = typer.Typer()


@app.command(
    rich_help_panel=LOAD,
    epilog="""taxi-ingest views
taxi-ingest views --schema answers --materialize
taxi-ingest views --refresh""",
)
def views(
    table: Annotated[
        list[str] | None,
        options.table("The table that they read, where several hold a dataset. May be given several times."),
    ] = None,
    schema: Annotated[
        str,
        typer.Option(metavar="SCHEMA", rich_help_panel=TARGET, help="Where the views are; it must be there."),
    ] = "public",
    materialize: Annotated[
        bool | None,
        typer.Option(
            "--materialize/--no-materialize",
            rich_help_panel=BEHAVIOUR,
            help="Whether trips_daily, trips_hourly_by_zone and zone_revenue_monthly keep their rows; "
            "each stays as it is unless told.",
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh",
            rich_help_panel=BEHAVIOUR,
            help="Only bring those up to date that keep their rows.",
        ),
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop", rich_help_panel=BEHAVIOUR, help="Drop the views again.")
    ] = False,
    block: options.Block = None,
    database_url: options.DatabaseUrl = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make ready views on the loaded tables, or bring them up to date.

    Trips with codes spelled out and zones by name, and sums by day, hour and month. All is done in one
    transaction. What taxi-ingest did not make is never touched.
    """
    with failures_told(json, schema=schema) as known:
        check_text(schema=schema, block=block, table=" ".join(table or ()) or None)
        if refresh + drop + (table is not None or materialize is not None) > 1:
            raise UsageError(
                "Views are refreshed, dropped, or made: one at a time.",
                "Give --refresh alone, or --drop alone, or neither.",
            )
        database = chosen_database(block, database_url, quiet or json)
        known["database"] = database.address
        if refresh or drop:
            result = _refreshed(database, schema) if refresh else _dropped(database, schema)
        else:
            from taxi_ingest.views import make_views

            made = make_views(database, schema=schema, tables=table or (), materialize=materialize)
            result = as_json(made), summary(made, database)
        if json:
            print_json({**known, **result[0]})
        elif not quiet:
            stdout().print(result[1], highlight=False)


def _refreshed(database: "Database", schema: str) -> "tuple[dict[str, Any], Text]":
    from taxi_ingest.views import refresh_views

    names = refresh_views(database, schema)
    return {"status": "refreshed", "views": names}, _titled("Refreshed", [("views", ", ".join(names))])


def _dropped(database: "Database", schema: str) -> "tuple[dict[str, Any], Text]":
    from taxi_ingest.views import drop_views

    names = drop_views(database, schema)
    rows = [("views", ", ".join(names))]
    shown = _titled("Dropped", rows) if names else _titled(f"There are no views in {schema}", [])
    return {"status": "dropped", "views": names}, shown


def as_json(made: "Made") -> dict[str, Any]:
    """The object that `--json` prints."""
    return {
        "status": "made",
        "schema": made.schema,
        "views": list(made.views),
        "materialized": list(made.materialized),
        "tables": {dataset: str(target) for dataset, target in made.tables.items()},
        "missing": list(made.missing),
        "notes": list(made.notes),
    }


def summary(made: "Made", database: "Database") -> "Text":
    """What there is now, line by line, with a command that asks it something."""
    from taxi_ingest.load import Target
    from taxi_ingest.stack import psql_command

    look = f"TABLE {Target(made.schema, 'loaded_months').quoted}"
    rows = [
        ("views", f"{', '.join(made.views)} (schema {made.schema})"),
        *([("keeping", f"their rows: {', '.join(made.materialized)}")] if made.materialized else []),
        ("reading", ", ".join(f"{target} ({dataset})" for dataset, target in made.tables.items())),
        *([("missing", _missing(made))] if made.missing else []),
        *(("note", note) for note in made.notes),
        ("try it", shlex.join((*psql_command(database.address), "-c", look))),
    ]
    return _titled("Views are up to date", rows)


def _missing(made: "Made") -> str:
    missing = ", ".join(made.missing)
    zones = "; zones have no names until `taxi-ingest zones` has loaded them" if "zones" in missing else ""
    return f"{missing}: nothing of it is loaded{zones}. Run this again when it is"


def _titled(title: str, rows: list[tuple[str, str]]) -> "Text":
    from rich.text import Text

    lines = [Text.assemble((f"{name:<9}", "cyan"), printable(value)) for name, value in rows]
    return Text("\n").join((Text(title, style="bold green"), *lines))


def check_views(wanted: bool, to: str | None, block: str | None, database_url: str | None) -> None:
    """Raise UsageError for views that are wanted of what is in no database."""
    if not wanted:
        return
    if to is not None:
        raise UsageError("--views makes views in a Postgres.", "Leave it, or --to, out.")
    from taxi_ingest.places import Place

    if block and database_url is None and isinstance(open_block(True, block), Place):
        raise UsageError(
            f"--views makes views in a Postgres, and the block {block} is of a bucket.",
            "Leave it, or --block, out.",
        )


@dataclass(frozen=True)
class AtEnd:
    """What a command that loads does about the views when all is loaded: it makes or offers them."""

    wanted: bool
    tables: Sequence[str]
    """Those that were named to be loaded into."""
    block: str | None
    database_url: str | None

    def made(self, outcome: dict[str, Any], known: dict[str, Any], shown: bool) -> dict[str, Any]:
        """Make the views if they are wanted, and show them; what `--json` prints of `outcome` with them.

        Raises what `make_views` raises; `known` then gets what was loaded all the same.
        """
        if not self.wanted:
            return outcome
        from taxi_ingest.views import make_views

        known.update({**outcome, "status": "failed"})
        database = chosen_database(self.block, self.database_url, quiet=True)
        made = make_views(database, tables=self.tables or _loaded(outcome))
        if shown:
            stdout().print(summary(made, database), highlight=False)
        return {**outcome, "views": as_json(made)}

    def offer(self, address: str) -> list[tuple[str, str]]:
        """The line of a summary that offers them; `address` is where the tables are, without a password."""
        from taxi_ingest.places import is_postgres

        if self.wanted or not is_postgres(address):
            return []
        given = [*(("--table", table) for table in self.tables), ("--block", self.block)]
        given.append(("--database-url", address if self.database_url else None))
        words = [word for flag, value in given if value for word in (flag, value)]
        command = shlex.join(["taxi-ingest", "views", *words])
        return [("views", f"{command}  # trips with zones and codes by name, sums by day and month")]


def _loaded(outcome: Mapping[str, Any]) -> list[str]:
    """The tables that have what was to be loaded."""
    loads = outcome.get("months", [outcome])
    return sorted({load["table"] for load in loads if load["status"] in ("loaded", "replaced", "skipped")})
