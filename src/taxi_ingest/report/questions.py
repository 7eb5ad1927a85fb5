"""What is asked of a table's rows: a row a question, each a SELECT from `trips` (see load/survey.py).

`trips` has the columns of `ROLES` that the table has, under any of their names, and `weight`: how many rows a
row stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ROLES: Mapping[str, tuple[str, ...]] = {
    "pickup": ("pickup_datetime",),
    "dropoff": ("dropoff_datetime",),
    "distance": ("trip_distance", "trip_miles"),
    "fare": ("fare_amount", "base_passenger_fare"),
    "zone": ("pickup_location_id",),
    "payment": ("payment_type",),
    "payment_name": ("payment_type_name",),
    "app": ("hvfhs_license_num",),
    "base": ("dispatching_base_num",),
}
"""What a question calls a column -> the columns of TLC's datasets, in snake_case, that are it."""

KINDS = {"pickup": "time", "dropoff": "time", "distance": "number", "fare": "number", "zone": "number"}
"""What the values of a column must be, where that matters."""

ASSIGNED = {"zone": "assigned_pickup_zone"}
"""What taxi-ingest has found out, where TLC tells nothing."""


@dataclass(frozen=True)
class Bins:
    """How values are put into bins: from zero, each so wide, what is above the last in one more."""

    name: str
    title: str
    needs: tuple[str, ...]
    value: str
    width: float
    number: int
    unit: str

    @property
    def question(self) -> str:
        """The SQL that counts the trips of each bin; -1 is what lies below, the last what lies above."""
        return f"""
            SELECT least(greatest(floor(value / {self.width}), -1), {self.number})::integer AS bin,
                round(sum(weight)) AS trips
            FROM (SELECT ({self.value})::double precision AS value, weight FROM trips) AS valued
            WHERE value <> 'NaN' GROUP BY 1 ORDER BY 1
        """  # noqa: S608


BINS = (
    Bins("distance", "Distance", ("distance",), "distance", 0.5, 40, "miles"),
    Bins(
        "duration",
        "Duration",
        ("pickup", "dropoff"),
        "CASE WHEN isfinite(pickup) AND isfinite(dropoff) THEN extract(epoch FROM dropoff - pickup) / 60 END",
        2,
        45,
        "minutes",
    ),
    Bins("fare", "Fare", ("fare",), "fare", 2, 50, "dollars"),
)

_RANKED = """
SELECT {value}::text AS value, round(sum(weight)) AS trips FROM trips
GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1000
"""

QUESTIONS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "total": ((), "SELECT count(*) AS read, coalesce(round(sum(weight)), 0) AS trips FROM trips"),
    "hours": (
        ("pickup",),
        """
        SELECT date_trunc('hour', pickup) AS hour, round(sum(weight)) AS trips FROM trips
        WHERE pickup >= '0001-01-01' AND pickup < '9999-12-01' GROUP BY 1 ORDER BY 1
        """,
    ),
    "zones": (
        ("zone",),
        """
        SELECT CASE WHEN zone BETWEEN 0 AND 32767 THEN zone::integer END AS zone, round(sum(weight)) AS trips
        FROM trips GROUP BY 1 ORDER BY 2 DESC, 1
        """,
    ),
    "payments": (("payment",), _RANKED.format(value="payment")),
    "named_payments": (
        ("payment", "payment_name"),
        _RANKED.format(value="coalesce(payment::text, payment_name)"),
    ),
    "apps": (("app",), _RANKED.format(value="app")),
    "bases": (("base",), _RANKED.format(value="base")),
    **{bins.name: (bins.needs, bins.question) for bins in BINS},
}
"""Name -> the columns that it needs, and the question."""


def questions_for(columns: Mapping[str, object]) -> dict[str, str]:
    """The questions that a table with these columns can answer."""
    return {name: text for name, (needs, text) in QUESTIONS.items() if columns.keys() >= set(needs)}
