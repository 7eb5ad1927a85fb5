"""The flow `ingest-files`: several files into one table, each by a child run of its own."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect.runtime import flow_run

from taxi_ingest.flows.artifacts import key_of, leave, of_several
from taxi_ingest.flows.caller import caller, settings_in_use
from taxi_ingest.flows.cloud_blocks import source_opened
from taxi_ingest.flows.ingest import check_target, chosen_place, ingest, log_table_name
from taxi_ingest.flows.outcome import BackfillOutcome, NotLoaded
from taxi_ingest.flows.runs import known_to_down, own_url, parent_of_loads, tell_first, tied_flow
from taxi_ingest.flows.side_by_side import Load, load_side_by_side
from taxi_ingest.load import parse_target
from taxi_ingest.settings.job import DEFAULT_OPTIONS, LoadOptions, check_numbers
from taxi_ingest.sources import Source, logins_of, parse_source
from taxi_ingest.tlc import parse_file_name


def _name() -> str:
    parameters = flow_run.get_parameters()
    return f"{len(parameters['urls'])} files -> {parameters['table']}"


def _check(parameters: dict[str, Any]) -> None:
    check_numbers(parameters["jobs"], parameters["max_failures"])
    sources = [parse_source(url) for url in parameters["urls"]]
    check_target([parameters["table"]], parameters["options"], sources)


@tied_flow(name="ingest-files", flow_run_name=_name, check=_check)
def ingest_files(
    urls: list[str],
    table: str,
    jobs: int | None = None,
    max_failures: int | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
) -> BackfillOutcome:
    """Load several files into one table, each exactly once.

    Args:
        urls: Paths or URLs (file, http, https, gs, s3, az), without logins, which Prefect would store.
        table: Table, or schema.table; made where it is missing.
        jobs: How many to load at once; as many as the cores bear if not told.
        max_failures: After how many failures no other file is begun.
        options: How each is loaded.

    Returns:
        What has become of each file, in their order.

    Raises:
        MonthsFailed: some files failed; it has the whole outcome. All others were loaded.
        TaxiIngestError: nothing was begun.
    """
    began = time.monotonic()
    with known_to_down(table), source_opened(options.source_block):
        sources = [parse_source(url, logins_of(settings_in_use())) for url in urls]
        place = chosen_place(options.to, options.block)
        # With who loads but one of them each file waits all the same.
        waiting = replace(options, wait=True)
        loads = [_load(source, sources, table, waiting) for source in sources]
        with place.loading_many([parse_target(table)], options.wait), parent_of_loads(place):
            log_table_name(table)
            caller().on_plan({load.name: None for load in loads})
            results = load_side_by_side(
                loads, ingest, jobs=jobs, cache=options.cache, max_failures=max_failures
            )
        outcome = BackfillOutcome(
            months=tuple(
                result or NotLoaded("waiting", table, source.url, *_known(source))
                for source, result in zip(sources, results, strict=True)
            ),
            seconds=round(time.monotonic() - began, 3),
            flow_run_url=own_url(),
            database=place.address,
        )
        tell_first(outcome)
        leave(of_several(outcome, key_of(table, "files")))
        return outcome.checked()


def _load(source: Source, among: Sequence[Source], table: str, options: LoadOptions) -> Load:
    dataset, month = _known(source)
    alike = sum(other.name == source.name for other in among) > 1
    name = source.named_url if alike else source.name
    flow = ingest.with_options(flow_run_name=name.replace("{", "{{").replace("}", "}}"))
    return Load(
        name=name,
        find=lambda: source,
        run=lambda: flow(url=source.named_url, table=table, **vars(options)),
        failed=lambda error, _: NotLoaded.failed(
            error, table=table, url=source.url, dataset=dataset, month=month
        ),
        about={"dataset": dataset, "month": month, "table": table, "url": source.url},
    )


def _known(source: Source) -> tuple[str | None, str | None]:
    """The dataset and the month that a file's name tells."""
    named = parse_file_name(source.name)
    return named.dataset, named.month
