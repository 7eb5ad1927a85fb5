"""Which views there are, and their SQL: the file of a name, and what differs from database to database.

In the files `{schema}` stands for the schema of the views, `{yellow}`, `{zones}` and the like for a dataset's
columns in snake_case (see sources.py), and `{payment_type}` and the like for what codes mean (`code_values`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from psycopg2 import sql

from taxi_ingest import tlc

MARK = "taxi-ingest: view. "
"""How the comment on a view begins that is ours."""


@dataclass(frozen=True)
class View:
    """A view, by its name."""

    name: str
    key: tuple[str, ...] = ()
    """What its rows differ in, where it may be materialised."""

    @property
    def _text(self) -> str:
        return files(__package__).joinpath(f"{self.name}.sql").read_text(encoding="utf-8")

    @property
    def comment(self) -> str:
        """What it is, in the words of its file's first line."""
        return MARK + self._text.partition("\n")[0].removeprefix("-- ")

    def query(self, parts: Mapping[str, sql.Composable]) -> sql.Composable:
        """Its SELECT."""
        return sql.SQL(self._text).format(**parts)


VIEWS = (
    View("zones"),
    View("vendors"),
    View("vendor_names"),
    View("rate_codes"),
    View("payment_types"),
    View("payment_names"),
    View("trip_types"),
    View("apps"),
    View("loaded_months"),
    View("trips"),
    View("fhv_trips"),
    View("fhvhv_trips"),
    View("trips_daily", key=("day", "dataset")),
    View("trips_hourly_by_zone", key=("hour", "dataset", "pickup_location_id")),
    View("zone_revenue_monthly", key=("month", "dataset", "pickup_location_id")),
)
"""In such an order that none reads one behind it; none reads one that may be materialised."""


def code_values() -> dict[str, sql.Composable]:
    """The rows of each code's meanings, by the code's column: a number and its meaning; a text, the number
    that later files have in its place, and its meaning.

    `…_numbers` are the branches of a CASE from a column's texts to those numbers, which a trip gets without a
    join.
    """
    rows: dict[str, list[sql.Composable]] = {}
    branches: dict[str, list[sql.Composable]] = {}
    for code in tlc.codes():
        rows.setdefault(code.column, []).append(_row(code))
        if code.number is not None:
            branch = sql.SQL("WHEN {} THEN {}::smallint").format(*map(sql.Literal, (code.value, code.number)))
            branches.setdefault(f"{code.column}_numbers", []).append(branch)
    values = {column: sql.SQL(", ").join(lines) for column, lines in rows.items()}
    return {**values, **{name: sql.SQL(" ").join(lines) for name, lines in branches.items()}}


def _row(code: tlc.Code) -> sql.Composable:
    if isinstance(code.value, int):
        return sql.SQL("({}::smallint, {})").format(sql.Literal(code.value), sql.Literal(code.meaning))
    values = map(sql.Literal, (code.value, code.number, code.meaning))
    return sql.SQL("({}, {}::smallint, {})").format(*values)
