"""Everything between here and a loaded table: what was found, and how to mend it.

for finding in examine(settings, block=None): ...      # each as soon as it is known; nothing is changed

Each part knows its own: load/diagnosis.py the database, flows/diagnosis.py Prefect, settings/origin.py who
has set what. Here they stand in the order in which a load needs them.
"""

from collections.abc import Iterator, Sequence

from taxi_ingest import stack
from taxi_ingest.doctor.finding import Finding, failed, looked_at, note, ok
from taxi_ingest.doctor.machine import examine_folders, examine_python
from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.load import Database, disagreements
from taxi_ingest.places.databases import EmbeddedDatabase, choose_database
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.origin import setting_origins, unknown_variables
from taxi_ingest.sources import logins_of, parse_source
from taxi_ingest.sources.months import month_address

__all__ = ["Finding", "examine"]

_KNOWN_MONTH = ("yellow", "2024-01")
"""One that TLC surely has."""

_MOST_BYTES = 512


def examine(settings: Settings, block: str | None = None, *, by_flag: bool = False) -> Iterator[Finding]:
    """Look at all that a load needs, in this order; nothing is started, and nothing changed.

    `block` is the Prefect block that names the database, if one was named; `by_flag` whether the settings'
    database stood on the command line.
    """
    yield from looked_at("program", examine_python)
    yield from looked_at("settings", lambda: _settings(settings, by_flag))
    yield from looked_at("folders", lambda: examine_folders(settings))
    yield from looked_at("embedded Postgres", lambda: [_embedded(settings)])
    yield from looked_at("Prefect", lambda: _prefect(settings))
    yield from looked_at("database", lambda: _database(settings, block, by_flag))
    yield from looked_at("months", lambda: [_months(settings)])


def _settings(settings: Settings, by_flag: bool) -> list[Finding]:
    found = [
        ok(each.variable, f"{each.shown}  ({'flag' if by_flag and is_database else each.origin})")
        for each in setting_origins(settings)
        for is_database in [each.variable.endswith("_DATABASE_URL")]
    ]
    strange = [
        note(variable, "is no setting.", f"Is {meant} meant?" if meant else ".env.example has them all.")
        for variable, meant in unknown_variables()
    ]
    return found + strange


def _embedded(settings: Settings) -> Finding:
    status = stack.database_status(settings)
    state = "runs" if status.running else "stopped; it is started where a load needs it"
    subject = "embedded Postgres"
    if status.note:
        return note(
            subject, f"{state}: {status.note}", "`taxi-ingest up` starts it, and says what hinders it."
        )
    return ok(subject, f"{state}: {status.address}" if status.running else state)


def _prefect(settings: Settings) -> list[Finding]:
    from taxi_ingest.flows.diagnosis import examine_prefect

    found = examine_prefect(settings)
    place = f"{found.address} (by {found.origin})"
    if not found.version:
        return [ok("Prefect", f"{place}: stopped; it is started where a load needs it")]
    if not found.is_ours:
        return [
            note(
                "Prefect",
                f"{place}: its server is {found.version}, another version than ours",
                "Prefect promises to work with servers of its own version and newer ones of its series.",
            )
        ]
    return [ok("Prefect", f"{place}: {found.version}")]


def _database(settings: Settings, block: str | None, by_flag: bool) -> list[Finding]:
    database, chosen_by = _chosen_database(settings, block)
    if isinstance(database, EmbeddedDatabase) and not database.runs:
        return [ok("database", "the embedded Postgres, which is stopped")]
    from taxi_ingest.load.diagnosis import examine_connection, examine_rights, left_parts, slow_settings

    found = examine_connection(database)
    connection = ok("database", f"{database.address} (by {chosen_by}): {found}")
    rights = looked_at("rights", lambda: [ok("rights", examine_rights(database))])
    left = [
        note(name, "was left by a load that was ended before it was complete", "The next load removes it.")
        for name in left_parts(database)
    ]
    where = ["--block", block] if block else ["--database-url", database.address] if by_flag else []
    ledger = looked_at("ledger", lambda: _ledger(database, where))
    slow = [note(each.name, f"= {each.value}", each.advice) for each in slow_settings(database)]
    return [connection, *rights, *left, *ledger, *slow]


def _ledger(database: Database, where: Sequence[str]) -> list[Finding]:
    """What tables have otherwise than the ledger says; `where` are the flags that name the database."""
    return [
        failed(str(each.target), DataError(each.found, each.mend(where))) for each in disagreements(database)
    ]


def _chosen_database(settings: Settings, block: str | None) -> tuple[Database, str]:
    """The database that a load would choose, and what has chosen it."""
    used: list[str] = []

    def find_block(name: str) -> Database | None:
        from taxi_ingest.flows.diagnosis import find_block_if_running

        found = find_block_if_running(settings, name)
        used.extend([f"block {name}"] if found else [])
        return found

    database = choose_database(settings, block, find_block)
    if used and not isinstance(database, EmbeddedDatabase):
        return database, used[0]
    return database, "TAXI_INGEST_DATABASE_URL" if settings.database_url and not block else "default"


def _months(settings: Settings) -> Finding:
    """Whether TLC's site, or the mirror in its place, gives a month."""
    subject = "months"
    source = parse_source(month_address(*_KNOWN_MONTH, settings), logins_of(settings))
    if source.find() is None:
        return note(
            subject, f"{source.url} is not there.", "Check TAXI_INGEST_TLC_URL, if this month should be."
        )
    begin = source.peek(_MOST_BYTES).lstrip()
    if begin.startswith(b"<"):
        return failed(
            subject,
            SourceError(
                f"{source.url} answers with a web page instead of a file.",
                "Does this network ask for a login, or a proxy block the address?",
            ),
        )
    return ok(subject, f"{source.url} is there")
