"""The commands of schedules: schedule DATASET, ls, rm, run, serve."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from taxi_ingest.cli import completion, options
from taxi_ingest.cli.command import Group
from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.help import BEHAVIOUR, SOURCE, TARGET
from taxi_ingest.cli.options import Json, PlaceBlock, Quiet, To
from taxi_ingest.cli.shared import prefect_context, stderr, told_apart
from taxi_ingest.cli.usage import meant_command, no_such_command
from taxi_ingest.errors import UsageError
from taxi_ingest.settings.job import MONTHS_BACK, NEW_YORK

if TYPE_CHECKING:
    from taxi_ingest.flows.schedule import Schedule

_CREATE = "create"


class _Datasets(Group):
    """Takes a dataset's name where another group takes a command's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            if not ctx.resilient_parsing:
                self._check_dataset(ctx, args[0])
            args = [_CREATE, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What TAB offers: commands, and datasets."""
        [dataset] = [each for each in self.commands[_CREATE].params if each.name == "dataset"]
        return [*super().shell_complete(ctx, incomplete), *dataset.shell_complete(ctx, incomplete)]

    def _check_dataset(self, ctx: Any, word: str) -> None:
        """Raise UsageError for what is no dataset, with the dataset or command that was meant."""
        from taxi_ingest.tlc import trips_named

        try:
            trips_named(word)
        except UsageError:
            if meant_command(word, list(self.commands)):
                raise no_such_command(ctx, word) from None
            raise


app = typer.Typer(
    cls=_Datasets,
    no_args_is_help=True,
    help="Have what is new of a dataset loaded again and again.",
    epilog="""taxi-ingest schedule yellow --cron '0 6 5 * *'
taxi-ingest schedule serve""",
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        rich_help_panel=SOURCE,
        autocompletion=completion.datasets,
        help="The schedule, as its dataset is called.",
    ),
]


@app.command(
    _CREATE,
    epilog="""taxi-ingest schedule yellow --cron '0 6 5 * *'
taxi-ingest schedule create green --cron '0 7 * * 1' --timezone UTC""",
)
def schedule_create(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            rich_help_panel=SOURCE,
            autocompletion=completion.datasets,
            help="yellow, green, fhv or fhvhv.",
        ),
    ],
    cron: Annotated[
        str,
        typer.Option(
            metavar="LINE",
            rich_help_panel=BEHAVIOUR,
            help="When: minute, hour, day, month, day of the week.",
        ),
    ],
    months_back: Annotated[
        int,
        options.number("For how many months to look for what is new or revised.", SOURCE),
    ] = MONTHS_BACK,
    table: Annotated[
        str | None,
        options.table("The table, DATASET_tripdata unless told.", TARGET),
    ] = None,
    to: To = None,
    block: PlaceBlock = None,
    source_block: options.SourceBlock = None,
    timezone: Annotated[
        str, typer.Option(metavar="ZONE", rich_help_panel=BEHAVIOUR, help="The time zone of --cron.")
    ] = NEW_YORK,
    work_pool: Annotated[
        str | None,
        options.work_pool("The work pool whose workers load it; taxi-ingest, that of `serve`, unless told."),
    ] = None,
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCK",
            rich_help_panel=BEHAVIOUR,
            help="Prefect's block that tells of runs that fail (by Slack, a webhook or the like).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Have what is new of a dataset loaded by a cron line.

    Months newly published, and those revised. The word `create` may be left out: a dataset's name will do.
    """
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.flows.deployments import USUAL_POOL
        from taxi_ingest.flows.schedule import create_schedule

        to, database_url = told_apart(to, block, None)
        made = create_schedule(
            dataset,
            cron,
            timezone,
            months_back=months_back,
            table=table,
            to=to or database_url,
            block=block,
            source_block=source_block,
            pool=work_pool,
            notify=notify,
        )
        if json:
            print_json(made.as_json())
        elif not quiet:
            _show(made)
            pool = "" if made.pool == USUAL_POOL else f" --work-pool {made.pool}"
            stderr().print(f"Keep `taxi-ingest schedule serve{pool}` running: it carries this out.")


@app.command("ls", epilog="taxi-ingest schedule ls --json")
def schedule_ls(json: Json = False) -> None:
    """List the schedules."""
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.flows.schedule import list_schedules

        schedules = list_schedules()
        if json:
            print_json({"schedules": [schedule.as_json() for schedule in schedules]})
        elif not schedules:
            stderr().print("No schedules yet: `taxi-ingest schedule yellow --cron '0 6 5 * *'` makes one.")
        for schedule in schedules if not json else []:
            _show(schedule)


@app.command("rm", epilog="taxi-ingest schedule rm yellow")
def schedule_rm(name: Name, quiet: Quiet = False) -> None:
    """Remove a schedule, and the runs that it has planned.

    What it has loaded stays.
    """
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.schedule import remove_schedule

        remove_schedule(name)
        if not quiet:
            typer.echo(f"Removed schedule {name}")


@app.command("run", epilog="taxi-ingest schedule run yellow --month 2023-05")
def schedule_run(
    name: Name,
    month: Annotated[
        str | None,
        options.month("Look for what was new in this month, not now."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Have a schedule run now, beside the times of its cron line."""
    from taxi_ingest.tlc import parse_month

    with failures_told(json=False):
        month = parse_month(month) if month is not None else None
        with prefect_context(quiet=True):
            from taxi_ingest.flows.schedule import run_schedule

            address = run_schedule(name, month)
        if not quiet:
            typer.echo(address)


@app.command("serve", epilog="taxi-ingest schedule serve --jobs 1")
def schedule_serve(
    work_pool: Annotated[
        str | None,
        options.work_pool("The work pool whose runs are carried out; taxi-ingest unless told."),
    ] = None,
    jobs: Annotated[
        int | None,
        options.number("How many runs at once; as many as the cores bear unless told."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Carry out runs of schedules, until interrupted.

    And those of backfill --work-pool.
    """
    with failures_told(json=False), prefect_context(quiet):
        from taxi_ingest.flows.serve import serve

        serve(work_pool, jobs, (lambda _: None) if quiet else stderr().print)


def _show(schedule: "Schedule") -> None:
    when = f"next {schedule.next_run:%Y-%m-%d %H:%M %Z}" if schedule.next_run else "paused"
    where = schedule.to or (f"block {schedule.block}" if schedule.block else "its worker's database")
    told = f", failures told by {schedule.notify}" if schedule.notify else ""
    typer.echo(
        f"{schedule.name}\t{schedule.cron}\t{schedule.timezone}\t{when}\t{schedule.table} in {where}, "
        f"pool {schedule.pool}{told}"
    )
