"""The commands of schedules: schedule DATASET, ls, rm, run, serve."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from taxi_ingest.cli.failures import failures_told, print_json
from taxi_ingest.cli.options import Block, Json, Quiet, WorkPool
from taxi_ingest.cli.shared import prefect_context, stderr
from taxi_ingest.settings.job import MONTHS_BACK, NEW_YORK

if TYPE_CHECKING:
    from taxi_ingest.flows.schedule import Schedule

_CREATE = "create"


class _Datasets(TyperGroup):
    """Takes a dataset's name where another group takes a command's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            args = [_CREATE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Datasets,
    no_args_is_help=True,
    help="Load what is new again and again: schedule yellow --cron '0 6 5 * *' (ls, rm, run, serve).",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule, as its dataset is called.")]


@app.command(
    _CREATE,
    hidden=True,
    epilog="Example: taxi-ingest schedule yellow --cron '0 6 5 * *' --timezone America/New_York",
)
def schedule_create(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="yellow, green, fhv or fhvhv.")],
    cron: Annotated[
        str, typer.Option(metavar="LINE", help="When: minute, hour, day, month, day of the week.")
    ],
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="The time zone of that.")] = NEW_YORK,
    months_back: Annotated[
        int, typer.Option(min=1, help="For how many months to look for what is new or revised.")
    ] = MONTHS_BACK,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="The table, DATASET_tripdata unless told.")
    ] = None,
    block: Block = None,
    work_pool: WorkPool = None,
    notify: Annotated[
        str | None,
        typer.Option(
            metavar="BLOCK", help="Prefect's block that tells of runs that fail (Slack, webhook, …)."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Have what is new of a dataset loaded by a cron line: months newly published, and those revised."""
    with failures_told(json), prefect_context(quiet=True):
        from taxi_ingest.flows.deployments import USUAL_POOL
        from taxi_ingest.flows.schedule import create_schedule

        made = create_schedule(
            dataset,
            cron,
            timezone,
            months_back=months_back,
            table=table,
            block=block,
            pool=work_pool,
            notify=notify,
        )
        if json:
            print_json(made.as_json())
        elif not quiet:
            _show(made)
            pool = "" if made.pool == USUAL_POOL else f" --work-pool {made.pool}"
            stderr().print(f"Keep `taxi-ingest schedule serve{pool}` running: it carries this out.")


@app.command("ls", epilog="Example: taxi-ingest schedule ls --json")
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


@app.command("rm", epilog="Example: taxi-ingest schedule rm yellow")
def schedule_rm(name: Name, quiet: Quiet = False) -> None:
    """Remove a schedule, and the runs that it has planned. What it has loaded stays."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.schedule import remove_schedule

        remove_schedule(name)
        if not quiet:
            typer.echo(f"Removed schedule {name}")


@app.command("run", epilog="Example: taxi-ingest schedule run yellow --month 2023-05")
def schedule_run(
    name: Name,
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="Look for what was new in this month, not now.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Have a schedule run now, beside the times of its cron line."""
    with failures_told(json=False), prefect_context(quiet=True):
        from taxi_ingest.flows.schedule import run_schedule

        address = run_schedule(name, month)
        if not quiet:
            typer.echo(address)


@app.command("serve", epilog="Example: taxi-ingest schedule serve --jobs 1")
def schedule_serve(
    work_pool: WorkPool = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="How many runs at once; as many as the cores bear unless told.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Carry out the runs of schedules, and of backfill --work-pool, until interrupted."""
    with failures_told(json=False), prefect_context(quiet):
        from taxi_ingest.flows.serve import serve

        serve(work_pool, jobs, (lambda _: None) if quiet else stderr().print)


def _show(schedule: "Schedule") -> None:
    when = f"next {schedule.next_run:%Y-%m-%d %H:%M %Z}" if schedule.next_run else "paused"
    where = f"block {schedule.block}" if schedule.block else "its worker's database"
    told = f", failures told by {schedule.notify}" if schedule.notify else ""
    typer.echo(
        f"{schedule.name}\t{schedule.cron}\t{schedule.timezone}\t{when}\t{schedule.table} in {where}, "
        f"pool {schedule.pool}{told}"
    )
