"""What is odd about rows that are loaded all the same: counted, never "cleaned" unasked."""

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest.read.constants import constant
from taxi_ingest.transform.plan import Plan, PlannedColumn

_AMOUNTS = ("total_amount", "base_passenger_fare")
_DISTANCES = ("trip_distance", "trip_miles")
_TIMES = ("pickup_datetime", "dropoff_datetime")
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
_IDS = ("vendor_id", "pickup_location_id", "dropoff_location_id")

NULL_WORD = "null_word"
PICKUP_IN_NO_ZONE, DROPOFF_IN_NO_ZONE = "pickup_in_no_zone", "dropoff_in_no_zone"

Columns = dict[str, pa.ChunkedArray]
"""The columns that a file has, by their snake_case names."""


def count_oddities(rows: pa.Table, plan: Plan) -> dict[str, int]:
    """How many trips of a TLC file are odd, by kind (see `ODDITIES`); nothing for other files."""
    if "pickup_datetime" not in (column.snake for column in plan.loaded):
        return {}
    columns = {
        str(column.snake): _wall_time(rows.column(column.name))
        for column in plan.loaded
        if _is_judged(column)
    }
    masks = {name: find(columns, plan.month) for name, (_, find) in ODDITIES.items()}
    return {name: pc.sum(mask).as_py() or 0 for name, mask in masks.items() if mask is not None}


def _is_judged(column: PlannedColumn) -> bool:
    """Whether it has values of its kind: a user's own table may keep times or amounts as text."""
    if column.snake in _TIMES:
        return bool(pa.types.is_timestamp(column.type))
    if column.snake in (*_AMOUNTS, *_DISTANCES):
        return any(is_number(column.type) for is_number in _NUMBERS)
    return column.snake is not None


def _wall_time(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times with a zone, which a user's own table may have, as the clocks of New York show them."""
    if not (pa.types.is_timestamp(values.type) and values.type.tz):
        return values
    return pc.local_timestamp(values.cast(pa.timestamp("us", "America/New_York")))


def _outside_month(columns: Columns, month: str | None) -> pa.ChunkedArray | None:
    if month is None or "pickup_datetime" not in columns:
        return None
    start = datetime.fromisoformat(f"{month}-01").replace(tzinfo=UTC)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    pickups = columns["pickup_datetime"]
    return pc.or_(pc.less(pickups, _moment(start)), pc.greater_equal(pickups, _moment(end)))


def _moment(moment: datetime) -> pa.Scalar:
    return constant(int(moment.timestamp()) * 1_000_000).cast(pa.timestamp("us"))


def _backwards(columns: Columns, _: str | None) -> pa.ChunkedArray | None:
    if not columns.keys() >= set(_TIMES):
        return None
    return pc.less(columns["dropoff_datetime"], columns["pickup_datetime"])


def _any(columns: Columns, names: tuple[str, ...], test: Callable[..., pa.Array]) -> pa.ChunkedArray | None:
    """Rows where the test holds in one of these columns; None where the file has none of them."""
    found = [test(columns[name]) for name in names if name in columns]
    if not found:
        return None
    result = found[0]
    for mask in found[1:]:
        result = pc.or_kleene(result, mask)
    return result


_ZERO = constant(0)

ODDITIES: dict[str, tuple[str, Callable[[Columns, str | None], pa.ChunkedArray | None]]] = {
    "pickup_outside_month": ("picked up outside the month", _outside_month),
    "dropoff_before_pickup": ("dropped off before picked up", _backwards),
    "negative_amount": (
        "negative amounts",
        lambda columns, _: _any(columns, _AMOUNTS, lambda v: pc.less(v, _ZERO)),
    ),
    "zero_distance": (
        "zero distance",
        lambda columns, _: _any(columns, _DISTANCES, lambda v: pc.equal(v, _ZERO)),
    ),
    "null_id": ("null ids", lambda columns, _: _any(columns, _IDS, pc.is_null)),
    NULL_WORD: ("values such as NaN, NULL or N/A taken as null", lambda *_: None),
    PICKUP_IN_NO_ZONE: ("picked up in no zone", lambda *_: None),
    DROPOFF_IN_NO_ZONE: ("dropped off in no zone", lambda *_: None),
}
"""Name -> what it means, and what finds the rows. Words (values, not rows) are counted where they are still
words, what lies in no zone when zones are assigned."""
