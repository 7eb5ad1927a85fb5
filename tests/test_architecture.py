"""Imports point one way, and what is heavy or somebody else's is imported in one place."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from helpers import ROOT, run_python

SOURCES = ROOT / "src"
HEAVY = (
    *("prefect", "pandas", "pyarrow", "psycopg2", "pydantic", "httpx", "shapely", "matplotlib"),
    *("obstore", "boto3", "prefect_gcp"),
)
PARTS = (
    *(
        "cli",
        "doctor",
        "report",
        "flows",
        "months",
        "places",
        "views",
        "load",
        "transform",
        "read",
        "stack",
    ),
    *("sources", "settings", "tlc", "errors"),
)
"""What the top folder shows, from the top down: each imports only what stands behind it."""

HOMES = {
    # The modules of stack/ run inside Prefect's server.
    "prefect": ("flows", "stack.prefect_app", "stack.prefect_database"),
    "prefect_sqlalchemy": ("flows",),
    # A TAB does not wait for load/.
    "psycopg2": ("load", "views", "stack", "places.databases", "flows.blocks", "cli.completion"),
    # An extra: without it all else works.
    "shapely": ("read.shapes", "transform.zones"),
    "pyproj": ("read.shapes",),
    "matplotlib": ("report.drawing",),
    "jinja2": ("report.page",),
    "shapefile": ("read.shapes",),
    "obstore": ("sources", "flows.cloud_blocks"),
    "boto3": ("sources.bucket_logins",),
    "botocore": ("sources.bucket_logins",),
    "google": (
        "places.bigquery",
        "flows.cloud_blocks",
        "flows.cloud_keys",
        "sources.bucket_logins",
        "sources.google_checksum",
    ),
    "prefect_gcp": ("flows",),
    "prefect_aws": ("flows",),
}
"""Who may import it: a part with all that is in it, or one module."""


@cache
def modules() -> dict[str, Path]:
    """Each of our modules, by its full name."""
    paths = [path.relative_to(SOURCES) for path in SOURCES.rglob("*.py")]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): SOURCES / path for path in paths}


def imported(module: str) -> Iterator[str]:
    """What a module imports, wherever in it; of ours the very module."""
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in modules() else str(node.module) for name in whole)


def part_of(module: str) -> str:
    """`load` of taxi_ingest.load.copy; empty for what stands above all parts."""
    name = module.split(".")[1] if "." in module else ""
    return "" if name == "__main__" else name


def short(module: str) -> str:
    return module.removeprefix("taxi_ingest.")


def test_the_top_folder_shows_a_dozen_names_in_their_order() -> None:
    assert {part_of(module) for module in modules()} - {""} == set(PARTS)
    assert len(PARTS) <= 15


def test_imports_point_downwards() -> None:
    upwards = {
        (short(module), name)
        for module in modules()
        for name in imported(module)
        if name in modules() and part_of(module) and part_of(name)
        if PARTS.index(part_of(name)) < PARTS.index(part_of(module))
    }
    assert upwards == set()


def test_no_modules_import_each_other() -> None:
    graph = {module: set(imported(module)) & modules().keys() - {module} for module in modules()}
    # What the package itself offers is imported when it is asked for.
    graph["taxi_ingest"] = set()
    assert list(TopologicalSorter(graph).static_order())


def test_what_is_somebody_elses_is_imported_in_its_home_alone() -> None:
    strayed = {
        (short(module), outsider)
        for module in modules()
        for outsider in {name.partition(".")[0] for name in imported(module)} & HOMES.keys()
        if not any(f"{short(module)}.".startswith(f"{home}.") for home in HOMES[outsider])
    }
    assert strayed == set()


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("taxi_ingest", HEAVY),
        ("taxi_ingest.cli", HEAVY),
        ("taxi_ingest.cli.shortcut", ("prefect",)),
        ("taxi_ingest.stack", ("prefect",)),
        ("taxi_ingest.stack.prefect_app", ("prefect",)),
        # Nothing of a cloud's, unless one is asked.
        ("taxi_ingest.places.bigquery", ("google.cloud", "google.auth", "obstore")),
        ("taxi_ingest.flows.cloud_blocks", ("google.cloud", "google.auth", "obstore", "boto3")),
    ],
)
def test_what_is_imported_later_is_not_imported_at_once(module: str, spared: tuple[str, ...]) -> None:
    done = run_python(f"import sys, {module}; print(*sys.modules)")
    assert module in done.stdout.split(), done.stderr
    assert set(spared) & set(done.stdout.split()) == set()
