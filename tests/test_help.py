"""What --help shows, of every command that there is, and what is said to one who has mistyped something."""

import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers import PROGRAM, ROOT, loaded, run_cli
from prefect_runs import block
from taxi_ingest.cli import app
from taxi_ingest.cli.help import BEHAVIOUR, OUTPUT, SOURCE, TARGET, Page, all_pages, as_text
from taxi_ingest.cli.shared import read_settings
from taxi_ingest.cli.usage import misread
from taxi_ingest.errors import UsageError
from taxi_ingest.load import Database
from taxi_ingest.settings.environment import Settings
from taxi_ingest.settings.origin import PREFIX, setting_origins
from taxi_ingest.tlc.sample import write_sample

PAGES = {page.command: page for page in all_pages(app, "taxi-ingest")}
GROUPS = ("taxi-ingest", "taxi-ingest blocks", "taxi-ingest schedule")
COMMANDS = [name for name in PAGES if name not in GROUPS]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
PYDANTICS = re.compile(r"Input should|Invalid value|unable to parse|validation error|pydantic")


def read(*words: str) -> None:
    """Have the program read a command line, and do nothing of what it says."""
    command: Any = typer.main.get_command(app)
    for each in below(command):
        each.callback = lambda **_: None
    try:
        command([*words], standalone_mode=False, prog_name="taxi-ingest")
    except UsageError:
        raise
    except Exception as error:
        raise misread(error) from error


def refusal(act: Callable[[], object]) -> str:
    """What is said against it, with its hint; nothing if it is fine."""
    try:
        act()
    except UsageError as failure:
        return f"{failure} {failure.hint}"
    return ""


def below(command: Any) -> Iterator[Any]:
    """A command and all below it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from below(each)


def options() -> Iterator[tuple[str, Any]]:
    """Each flag and argument, with its command's words."""

    def walk(command: Any, words: str) -> Iterator[tuple[str, Any]]:
        yield from ((words, parameter) for parameter in command.params)
        for name, each in getattr(command, "commands", {}).items():
            yield from walk(each, f"{words} {name}".strip())

    yield from walk(typer.main.get_command(app), "")


OPTIONS = list(options())


def flags(page: Page) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", str(page.groups)))


# Pages


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_says_in_one_line_what_the_command_is_for(page: Page) -> None:
    assert page.purpose.endswith(".")
    assert len(page.purpose) <= 66 or page.command == "taxi-ingest"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_has_examples_that_the_program_understands(page: Page) -> None:
    assert page.examples
    for example in page.examples:
        program, *words = shlex.split(example.partition(" >")[0])
        assert (program, len(example) <= 76) == ("taxi-ingest", True)
        read(*words)


@pytest.mark.parametrize("name", COMMANDS)
def test_flags_stand_in_groups_of_the_same_names(name: str) -> None:
    assert list(PAGES[name].groups) == [
        group for group in (SOURCE, TARGET, BEHAVIOUR, OUTPUT) if group in PAGES[name].groups
    ]


@pytest.mark.parametrize(("words", "option"), OPTIONS)
def test_a_flag_has_its_group_its_meaning_and_the_kind_of_its_value(words: str, option: Any) -> None:
    assert option.rich_help_panel or not words
    assert option.help
    if option.metavar is None:
        assert option.is_flag or option.count
    else:
        assert not option.metavar.startswith("[")


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_fits_the_terminal_and_breaks_no_name(page: Page, columns: int) -> None:
    text = ESCAPE.sub("", as_text(page, columns - 2))
    prose = text.partition("\nExamples\n")[0]
    assert max(map(len, prose.splitlines())) < columns
    assert "…" not in text
    assert flags(page) <= set(re.findall(r"--[a-z][a-z-]+", text))
    known = {origin.variable for origin in setting_origins(Settings())}
    assert set(re.findall(rf"{PREFIX}\w*", text)) <= known


def test_defaults_are_shown() -> None:
    shown = str(PAGES["taxi-ingest ingest"].groups)
    for default in ("[default: skip]", "[default: 1%]", "[default: 100000]", "[default: --index]"):
        assert default in shown
    assert "[default: sqlalchemy-connector]" in str(PAGES["taxi-ingest blocks create"].groups)


# As it is shown


@pytest.mark.parametrize("words", ["", "ingest", "blocks", "blocks create", "schedule create"])
def test_help_is_had_in_three_ways(words: str) -> None:
    shown = run_cli(*words.split(), "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert run_cli(*words.split(), "-h").stdout == shown.stdout
    assert run_cli("help", *words.split()).stdout == shown.stdout
    assert "\x1b" not in shown.stdout


def test_a_group_without_a_command_shows_its_help() -> None:
    done = run_cli("blocks")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run_cli("blocks", "--help").stdout


@pytest.mark.parametrize(
    ("env", "colored"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_help_on_a_terminal_is_the_same_in_colour(env: dict[str, str], colored: bool) -> None:
    main, terminal = pty.openpty()
    size = {"COLUMNS": "80", "LINES": "40"}
    subprocess.run(
        [PROGRAM, "undo", "--help"], stdout=terminal, env={**os.environ, **size, **env}, check=True
    )
    os.close(terminal)
    shown = os.read(main, 100_000).decode()
    os.close(main)
    assert ("\x1b" in shown) == colored
    assert ESCAPE.sub("", shown).replace("\r\n", "\n") == run_cli("undo", "--help", env=size).stdout


def test_colour_can_be_had_without_a_terminal() -> None:
    assert "\x1b[" in run_cli("undo", "--help", env={"FORCE_COLOR": "1"}).stdout


# Near misses


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("ingest --tabel t", "--table"),
        ("loads --db-url u", "--database-url"),
        ("ingest --chunksize 1", "--chunk-size"),
        ("ingest --if_loaded skip", "--if-loaded"),
        ("ingest -month 2024-01", "--month"),
        ("ingest --names snak", "snake"),
        ("ingest --names TLC", "tlc"),
        ("ingest --if-loaded Skip", "skip"),
        ("backfill yellow all --reprocess mising", "missing"),
        ("loads --status lodaed", "loaded"),
        ("inges", "taxi-ingest ingest"),
        ("blocks crate", "taxi-ingest blocks create"),
        ("create", "taxi-ingest blocks create"),
        ("schedule lss", "taxi-ingest schedule ls"),
        ("schedule yelow", "yellow"),
        ("status yellow", "--dataset yellow"),
        ("status green_trips", "--table green_trips"),
        ("report 2024-01", "--month 2024-01"),
        ("--verison", "--version"),
        ("stop", "taxi-ingest down"),
        ("start", "taxi-ingest up"),
        ("list", "taxi-ingest loads"),
        ("schedule delete yellow", "taxi-ingest schedule rm"),
        ("backfill yellow all --if-loaded replace", "--reprocess all"),
    ],
)
def test_what_is_mistyped_is_told_with_what_was_meant(words: str, meant: str) -> None:
    with pytest.raises(UsageError) as failure:
        read(*words.split())
    assert failure.value.hint == f"Did you mean {meant}?" or failure.value.hint.startswith(
        f"Did you mean {meant}? "
    )


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("--json status", "No such option: --json", "behind the command: taxi-ingest COMMAND --json"),
        ("psql -c x", "No such option: -c", "taxi-ingest psql -- -c"),
        ("undo", "LOAD_ID is missing", "Write it like this: taxi-ingest undo 7"),
        ("undo many", "LOAD_ID is wrong: many is no whole number", "`taxi-ingest loads` shows"),
        ("undo 1 2", "One word too many: 2", "`taxi-ingest undo --help`"),
        ("schedule yellow", "--cron is missing", "taxi-ingest schedule yellow --cron '0 6 5 * *'"),
        ("ingest --month", "--month needs a value", "`taxi-ingest ingest --help`"),
        ("ingest --month --json", "--month needs a value, and --json is a flag", "ingest --help"),
        ("ingest --json=no", "--json takes no value", "Leave it out"),
        ("loads --limit 0", "--limit is wrong: 0 is less than 1", "`taxi-ingest loads --help`"),
        ("up --port 70000", "--port is wrong: 70000 is more than 65535", "`taxi-ingest up --help`"),
        ("backfill --dataset yellow", "No such option: --dataset", "taxi-ingest backfill yellow 2024-01"),
        ("schedule yellow green --cron x", "One word too many: green", "schedule create --help"),
        ("frobnicate", "No such command: frobnicate", "There are backfill, blocks"),
    ],
)
def test_what_is_wrong_is_told_with_what_is_right(words: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as failure:
        read(*words.split())
    assert hint in failure.value.hint


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("ingest --dataset yelow --month 2024-01", "yellow"),
        ("ingest --dataset yellow --month 2024/01", "2024-01"),
        ("backfill hvfhv 2024", "fhvhv"),
        ("backfill green_tripdata 2024", "green"),
        ("backfill yellow Jan 2024", "2024-01"),
        ("backfill yellow 2024-01 2024-03", "2024-01..2024-03"),
        ("loads --month 202401", "2024-01"),
        ("status --dataset Yellow", "yellow"),
        ("report --month 2024/01", "2024-01"),
        ("report --dataset fhv_tripdata", "fhv"),
        ("schedule run yellow --month 2024-1", "2024-01"),
        ("help blocks crate", "taxi-ingest blocks create"),
        ("ingest yellow 2024-01", "taxi-ingest ingest --dataset yellow --month 2024-01"),
        ("backfill yellow 2023-2024", "2023..2024"),
    ],
)
def test_datasets_and_months_are_looked_at_before_anything_starts(words: str, meant: str) -> None:
    done = run_cli(*words.split(), env={"TAXI_INGEST_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Hint: Did you mean {meant}?" in done.stderr


def test_tables_are_told_with_the_one_that_was_meant(embedded_database: Database, tmp_path: Path) -> None:
    file = write_sample("green", "2024-01", tmp_path / "green_tripdata_2024-01.parquet", 20)
    loaded(file, embedded_database, "green_tripdata")
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database.address}
    for command in ("report --text", "loads", "status", "views"):
        done = run_cli(*command.split(), "--table", "gren_tripdata", env=env)
        assert "Did you mean green_tripdata?" in done.stdout + done.stderr


def test_a_block_is_told_with_the_one_that_was_meant(api: str, embedded_database_url: str) -> None:
    del api
    block(embedded_database_url, "warehouse")
    for command in ("blocks check warehose", "loads --block warehose"):
        done = run_cli(*command.split())
        assert (done.returncode, "Did you mean warehouse?" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "option"), [(words, option) for words, option in OPTIONS if option.metavar and words]
)
def test_no_value_is_refused_in_the_words_of_a_library(words: str, option: Any) -> None:
    is_flag = option.param_type_name == "option"
    for value in ("nonsense", "-1", "1.5", "", "9" * 30):
        given = [f"{option.opts[0]}={value}"] if is_flag else ["--", value]
        assert not PYDANTICS.search(refusal(lambda given=given: read(*words.split(), *given)))


@pytest.mark.parametrize("name", Settings.model_fields)
@pytest.mark.parametrize("value", ["nonsense", "-1", "1e400", "http://x y"])
def test_no_setting_is_refused_in_the_words_of_a_library(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"{PREFIX}{name.upper()}"
    monkeypatch.setenv(variable, value)
    said = refusal(read_settings)
    assert said.startswith(f"{variable} is wrong: ") or not said
    assert not PYDANTICS.search(said)


# Documents


@pytest.mark.parametrize("name", ["commands", "settings"])
def test_the_documents_are_made_of_the_code(name: str) -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / name], capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "docs" / f"{name}.md").read_text()


def test_the_documents_name_every_flag_and_every_setting() -> None:
    commands = (ROOT / "docs" / "commands.md").read_text()
    sections = {section.partition("\n")[0]: section for section in commands.split("\n## ")}
    for words, option in OPTIONS:
        section = sections[f"taxi-ingest {words}".strip()]
        names = [*option.opts, *option.secondary_opts] if option.param_type_name == "option" else []
        assert option.hidden or all(name in section for name in names)
    for document in ("docs/settings.md", ".env.example"):
        text = (ROOT / document).read_text()
        assert all(f"{PREFIX}{name.upper()}" in text for name in Settings.model_fields)
