"""Eras: what a dataset's files looked like in which months, and made-up trips of each.

`eras.csv` has a row an era:

    format      what TLC published; a CSV where it published only Parquet is written as pandas would
    first, last months; an empty one is no limit
    header_end  the line ends behind the header, `+` between them; `blank` is the empty line some have
    row_end     the line end of each row
    fields      in a row; those beyond the header are empty
    quoted      `all` fields, or those of `string`; the header in both cases
    style       how numbers are written (see `STYLES` beside `write_sample`)
    values      `column=value*weight/value`, where they differ from `CHOICES`; no value means null
    empty       `column=share` of nulls; columns with the same share are null in the same rows
    header      the names, with their types in Parquet

A new era is a new row. What a column holds goes by its canonical name, in every era alike: a choice among
a few values (`CHOICES`, which an era may replace), an amount (`AMOUNTS`, in cents, so that a total is the
exact sum of its parts), or something else (`OTHERS`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from taxi_ingest import tlc
from taxi_ingest.errors import UsageError

Numbers = npt.NDArray[Any]

_LINE_ENDS = {"LF": "\n", "CRLF": "\r\n", "blank": "\r\n"}


@dataclass(frozen=True)
class Field:
    """A column as the era has it."""

    name: str
    type: pa.DataType | None
    """None in a CSV, which has none."""
    column: tlc.Column
    """What it means."""


@dataclass(frozen=True)
class Era:
    """A row of `eras.csv`: months in which a dataset's files looked alike."""

    dataset: str
    format: str
    first: str
    last: str
    header_end: str
    row_end: str
    width: int
    quoted: str
    style: str
    values: Mapping[str, str]
    empty: Mapping[str, float]
    fields: tuple[Field, ...]

    def covers(self, month: str) -> bool:
        """Whether a month is one of them."""
        return self.first <= month <= (self.last or month)


@cache
def eras() -> tuple[Era, ...]:
    """All eras."""
    return tuple(_era(row) for row in tlc.read_table("sample/eras.csv"))


def era_of(dataset: str, month: str, format: str) -> Era:
    """What a dataset's file of a month looks like, as `csv` or `parquet`; a lookup's month is empty.

    Raises UsageError for a dataset that TLC does not have, and for a month that it has no trips of.
    """
    known = tlc.dataset_named(dataset)
    written = known.kind == "lookup" or tlc.parse_file_name(f"{dataset}_tripdata_{month}").month == month
    fitting = [era for era in eras() if era.dataset == dataset and era.covers(month)]
    if not fitting or not written:
        raise UsageError(
            f"TLC has no {dataset} trips of {month!r}.", f"Months begin with {known.first_month}."
        )
    # TLC's CSVs end in 2021, and the Parquet file's columns stand in for later ones.
    return min(fitting, key=lambda era: era.format != format)


def _era(row: dict[str, str]) -> Era:
    return Era(
        dataset=row["dataset"],
        format=row["format"],
        first=row["first"],
        last=row["last"],
        header_end="".join(_LINE_ENDS[end] for end in row["header_end"].split("+")),
        row_end=_LINE_ENDS[row["row_end"]],
        width=int(row["fields"]),
        quoted=row["quoted"],
        style=row["style"],
        values=_pairs(row["values"]),
        empty={name: float(share) for name, share in _pairs(row["empty"]).items()},
        fields=_fields(tlc.dataset_named(row["dataset"]), row["header"]),
    )


def _fields(dataset: tlc.Dataset, header: str) -> tuple[Field, ...]:
    """The fields of `name:type,name:type` or `name,name`."""
    pairs = [field.partition(":") for field in header.split(",")]
    names = frozenset(tlc.normalise(name) for name, _, _ in pairs)
    columns = [dataset.column_of(tlc.normalise(name), names) for name, _, _ in pairs]
    return tuple(
        Field(name, pa.type_for_alias(type) if type else None, column)
        for (name, _, type), column in zip(pairs, columns, strict=True)
        if column
    )


def _pairs(text: str) -> dict[str, str]:
    """`a=1;b=2` as a mapping."""
    return {name: value for name, _, value in (pair.partition("=") for pair in text.split(";") if pair)}


class Trips:
    """Some rows of a file, each column made when asked for: the same for the same arguments.

    A column has random numbers of its own, so that a month's trips are alike in all formats.
    """

    def __init__(self, era: Era, month: str, rows: range, total: int, seed: int) -> None:
        """The rows `rows` of a file of `total`."""
        self.era = era
        self.rows = rows
        self.size = len(rows)
        self._month = month
        self._total = total
        self._seed = f"{era.dataset} {month} {seed} {rows.start} "
        self._names = {field.column.snake for field in era.fields}

    def column(self, field: Field) -> pa.Array:
        """The values of a column, in the era's type if it has one."""
        name = field.column.snake
        if name in OTHERS:
            values = pa.array(OTHERS[name](self), mask=self._empty(name))
        elif field.column.type == "float64":
            # Plus 0, which makes a refund of -0 a plain one.
            values = pa.array(self.cents(name) * self._signs / 100 + 0.0, from_pandas=True)
        else:
            values = pc.if_else(pa.array(self._empty(name)), None, self._choice(name))
        if field.type == pa.null():
            return pa.nulls(self.size)
        return values.cast(field.type) if field.type else values

    def random(self, name: str) -> np.random.Generator:
        """The random numbers that belong to a name."""
        return np.random.default_rng(list((self._seed + name).encode()))

    def cents(self, name: str) -> Numbers:
        """An amount before refunds turn its sign; not a number where it is null."""
        chosen = AMOUNTS[name](self) if name in AMOUNTS else self._dollars(name) * 100
        return np.where(self._empty(name), np.nan, np.rint(chosen))

    def total(self) -> Numbers:
        """Cents that the passenger is charged: the sum of the parts that the era knows."""
        parts = [np.nan_to_num(self.cents(name)) for name in PARTS if name in self._names]
        return np.asarray(sum(parts))

    @cached_property
    def pickups(self) -> Numbers:
        """When each trip starts: in the month, and one batch of rows after the other."""
        start = np.datetime64(self._month, "M")
        length = ((start + 1).astype("M8[s]") - start.astype("M8[s]")).astype(int)
        share = (self.rows.start + self.random("pickups").random(self.size) * self.size) / self._total
        return np.asarray(start.astype("M8[s]") + (length * share).astype("m8[s]"))

    @cached_property
    def miles(self) -> Numbers:
        """How far, to the hundredth; a few trips go nowhere."""
        random = self.random("miles")
        miles = np.minimum(random.lognormal(0.7, 0.8, self.size), 60)
        return np.asarray((miles * (random.random(self.size) > 0.01)).round(2))

    @cached_property
    def seconds(self) -> Numbers:
        """How long."""
        pace = self.random("seconds").integers(120, 420, self.size)
        return np.asarray(60 + self.miles * pace).astype("m8[s]")

    @cached_property
    def fares(self) -> Numbers:
        """Cents by time and distance, in steps of half a dollar."""
        return np.asarray(250 + (self.miles * 5 + self.seconds.astype(int) / 300).astype(int) * 50)

    def by_card(self) -> Numbers:
        """Which trips are paid by card or in an app: those whose tips are known."""
        for name in self._names & {"payment_type", "payment_type_name"}:
            words = self._choice(name).fill_null("")
            return np.asarray(pc.match_substring_regex(words, "^(1|cr)", ignore_case=True))
        return np.ones(self.size, bool)

    def degrees(self, name: str, centre: float) -> Numbers:
        """A coordinate in the city; 0 where the whole trip's are unknown."""
        located = self.random("located").random(self.size) > 0.02
        return np.asarray((centre + self.random(name).normal(0, 0.03, self.size)).round(6) * located)

    def integers(self, name: str, first: int, last: int) -> Numbers:
        """Any of these numbers."""
        return self.random(name).integers(first, last + 1, self.size)

    @cached_property
    def _signs(self) -> Numbers:
        return np.where(self.random("refunds").random(self.size) < 0.01, -1, 1)

    @cached_property
    def _luck(self) -> Numbers:
        return self.random("empty").random(self.size)

    def _empty(self, name: str) -> Numbers:
        return np.asarray(self._luck < self.era.empty.get(name, 0))

    def _choice(self, name: str) -> pa.Array:
        """The column's words, by their weights."""
        pairs = [word.partition("*") for word in self.era.values.get(name, CHOICES[name]).split("/")]
        weights = np.array([float(weight or 1) for _, _, weight in pairs])
        chosen = self.random(name).choice(len(pairs), self.size, p=weights / weights.sum())
        return pa.array([word or None for word, _, _ in pairs], pa.string()).take(pa.array(chosen))

    def _dollars(self, name: str) -> Numbers:
        return np.asarray(self._choice(name).cast(pa.float64()).to_numpy(zero_copy_only=False))


CHOICES = {
    "vendor_id": "1*4/2*6",
    "vendor_name": "CMT/VTS",
    "passenger_count": "1*70/2*15/3*4/4*2/5*4/6*2/0",
    "ratecode_id": "1*95/2*3/3/5",
    "store_and_fwd_flag": "N*99/Y",
    "payment_type": "1*62/2*36/3/4",
    "payment_type_name": "CSH*40/CRD*60",
    "trip_type": "1*97/2*3",
    "sr_flag": "*8/1*2",
    "extra": "0*3/0.5*5/1*2",
    "mta_tax": "0.5*99/0",
    "ehail_fee": "",
    "improvement_surcharge": "0.3*99/0",
    "congestion_surcharge": "2.5*7/0*3",
    "airport_fee": "0*9/1.75",
    "cbd_congestion_fee": "0*3/0.75*7",
    "tolls_amount": "0*95/6.12*5",
    "tolls": "0*95/6.94*5",
    "dispatching_base_num": "B02510*4/B02764*3/B02872/B02875/B02682/B00013/B00256/B01312",
    "dispatching_base_num_2018": "",
    "affiliated_base_number": "B02510*4/B02764*3/B02872/B02875/B02682/B00013/B00256/B01312",
    "originating_base_num": "B02764*3/B02872/B02875/B02682",
    "hvfhs_license_num": "HV0003*3/HV0005",
    "shared_request_flag": "N*95/Y*5",
    "shared_match_flag": "N*98/Y*2",
    "access_a_ride_flag": "N",
    "wav_request_flag": "N*99/Y",
    "wav_match_flag": "N*93/Y*7",
}
"""Columns with few values: `value*weight`; no value means null."""

AMOUNTS: dict[str, Callable[[Trips], Numbers]] = {
    "fare_amount": lambda trips: trips.fares,
    "tip_amount": lambda trips: trips.fares * 0.2 * trips.by_card(),
    "total_amount": Trips.total,
    "base_passenger_fare": lambda trips: trips.fares * 1.13,
    "bcf": lambda trips: trips.fares * 0.03,
    "sales_tax": lambda trips: trips.fares * 0.08875,
    "tips": lambda trips: trips.fares * 0.15 * (trips.random("tips").random(trips.size) < 0.2),
    "driver_pay": lambda trips: trips.fares * 0.85,
}
"""Amounts in cents that are not one of a few; the other ones are in `CHOICES`, in dollars."""

PARTS = (
    "fare_amount",
    "extra",
    "mta_tax",
    "tip_amount",
    "tolls_amount",
    "ehail_fee",
    "improvement_surcharge",
    "congestion_surcharge",
    "airport_fee",
    "cbd_congestion_fee",
)
"""What adds up to `total_amount`."""

ZONES = 265
_NAMED_ZONES = {
    1: ("EWR", "Newark Airport", "EWR"),
    264: ("Unknown", "N/A", "N/A"),
    265: ("N/A", "Outside of NYC", "N/A"),
}


def _zones(part: int) -> Callable[[Trips], Numbers]:
    """A column of the zones' table: 0 for the boroughs, 1 the zones, 2 the service zones."""

    def names(trips: Trips) -> Numbers:
        zones = [_NAMED_ZONES.get(row + 1, ("Queens", f"Zone {row + 1}", "Boro Zone")) for row in trips.rows]
        return np.array([zone[part] for zone in zones], object)

    return names


OTHERS: dict[str, Callable[[Trips], Numbers]] = {
    "pickup_datetime": lambda trips: trips.pickups,
    "dropoff_datetime": lambda trips: trips.pickups + trips.seconds,
    "request_datetime": lambda trips: trips.pickups - np.timedelta64(270, "s"),
    "on_scene_datetime": lambda trips: trips.pickups - np.timedelta64(40, "s"),
    "trip_distance": lambda trips: trips.miles,
    "trip_miles": lambda trips: trips.miles,
    "trip_time": lambda trips: trips.seconds.astype(int),
    "pickup_location_id": lambda trips: trips.integers("pickup zone", 1, ZONES),
    "dropoff_location_id": lambda trips: trips.integers("drop-off zone", 1, ZONES),
    "pickup_longitude": lambda trips: trips.degrees("pickup longitude", -73.97),
    "pickup_latitude": lambda trips: trips.degrees("pickup latitude", 40.75),
    "dropoff_longitude": lambda trips: trips.degrees("drop-off longitude", -73.97),
    "dropoff_latitude": lambda trips: trips.degrees("drop-off latitude", 40.75),
    "location_id": lambda trips: np.array(trips.rows) + 1,
    "borough": _zones(0),
    "zone": _zones(1),
    "service_zone": _zones(2),
}
"""All other columns."""
