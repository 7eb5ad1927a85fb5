"""What the views must say, reckoned from the source files by pandas alone.

Names, codes and eras stand here anew, so that an error in the catalogue shows.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

_ENDS = {"pickup": "pulocationid", "dropoff": "dolocationid"}

_NAMES = {
    "vendorid": "vendor_id",
    "ratecodeid": "ratecode_id",
    "rate_code": "ratecode_id",
    "pulocationid": "pickup_location_id",
    "dolocationid": "dropoff_location_id",
    "locationid": "pickup_location_id",
    "store_and_forward": "store_and_fwd_flag",
    "start_lon": "pickup_longitude",
    "start_lat": "pickup_latitude",
    "end_lon": "dropoff_longitude",
    "end_lat": "dropoff_latitude",
    "fare_amt": "fare_amount",
    "surcharge": "extra",
    "tip_amt": "tip_amount",
    "tolls_amt": "tolls_amount",
    "total_amt": "total_amount",
    "pickup_date": "pickup_datetime",
    "dispatching_base_number": "dispatching_base_num",
    **{f"{prefix}pep_{end}_datetime": f"{end}_datetime" for prefix in "tl" for end in _ENDS},
    **{f"trip_{end}_datetime": f"{end}_datetime" for end in _ENDS},
}

_VENDORS = {1: "Creative Mobile Technologies", 2: "Curb Mobility", 6: "Myle Technologies", 7: "Helix"}
_VENDOR_NAMES = {"CMT": 1, "VTS": 2}
_RATES = {
    1: "Standard rate",
    2: "JFK",
    3: "Newark",
    4: "Nassau or Westchester",
    5: "Negotiated fare",
    6: "Group ride",
    99: "Unknown",
}
_PAYMENTS = {
    0: "Flex fare",
    1: "Credit card",
    2: "Cash",
    3: "No charge",
    4: "Dispute",
    5: "Unknown",
    6: "Voided trip",
}
_PAYMENT_NAMES = {
    "crd": 1,
    "cre": 1,
    "credit": 1,
    "csh": 2,
    "cas": 2,
    "cash": 2,
    "noc": 3,
    "no": 3,
    "no charge": 3,
    "dis": 4,
    "dispute": 4,
    "unk": 5,
    "na": 5,
}
_HAILED = {1: "Street-hail", 2: "Dispatch"}
_APPS = {"HV0002": "Juno", "HV0003": "Uber", "HV0004": "Via", "HV0005": "Lyft"}

_TEXTS = (
    *("vendor_name", "payment_type_name", "store_and_fwd_flag", "dispatching_base_num", "sr_flag"),
    *("affiliated_base_number", "hvfhs_license_num", "originating_base_num", "shared_request_flag"),
    *("shared_match_flag", "access_a_ride_flag", "wav_request_flag", "wav_match_flag"),
)


def read(path: Path) -> pd.DataFrame:
    """A file's rows, with one name for a column whatever its year."""
    if path.suffix == ".parquet":
        rows = pd.read_parquet(path)
    else:
        # Not the words for no value: `NA ` is how a passenger paid.
        how = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
        with warnings.catch_warnings(action="ignore"):
            # Of 2016 each row ends in two more commas.
            rows = pd.read_csv(path, **how)  # type: ignore[call-overload]
    rows.columns = [name.strip().lower() for name in rows.columns]
    if "dispatching_base_number" in rows:
        rows = rows.drop(columns="dispatching_base_num")
    if "surcharge" in rows:
        texts = {"vendor_id": "vendor_name", "payment_type": "payment_type_name"}
        rows = rows.rename(columns={old: new for old, new in texts.items() if old in rows})
    rows = rows.rename(columns=_NAMES)
    for name in rows:
        if name.endswith("_datetime"):
            rows[name] = pd.to_datetime(rows[name]).astype("datetime64[us]")
        elif name not in _TEXTS:
            rows[name] = pd.to_numeric(rows[name]).astype("float64")
    dataset, _, month = path.name.split(".")[0].partition("_tripdata_")
    return rows.assign(dataset=dataset, file_month=month)


def all_trips(paths: Sequence[Path], zones: Path) -> pd.DataFrame:
    """The trips of these files, with all that the views `trips`, `fhv_trips` and `fhvhv_trips` add."""
    trips = pd.concat([read(path) for path in paths], ignore_index=True)
    lookup = pd.read_csv(zones, dtype={"LocationID": float}, keep_default_na=False).set_index("LocationID")
    minutes = (trips["dropoff_datetime"] - trips["pickup_datetime"]).dt.total_seconds() / 60
    trips["duration_minutes"] = minutes
    for end in _ENDS:
        ids = column(trips, f"{end}_location_id")
        trips[f"{end}_borough"], trips[f"{end}_zone"] = ids.map(lookup["Borough"]), ids.map(lookup["Zone"])
    miles = column(trips, "trip_distance").fillna(column(trips, "trip_miles"))
    trips["average_mph"] = (miles / (minutes / 60)).where(minutes > 0)
    trips["waiting_minutes"] = (
        trips["pickup_datetime"] - pd.to_datetime(column(trips, "request_datetime"))
    ).dt.total_seconds() / 60
    names = column(trips, "vendor_name")
    trips["vendor_id"] = column(trips, "vendor_id").fillna(names.map(_VENDOR_NAMES))
    trips["vendor"] = trips["vendor_id"].map(_VENDORS)
    trips.loc[names == "DDS", "vendor"] = "Digital Dispatch Systems"
    ways = column(trips, "payment_type_name").astype(object).map(_way)
    trips["payment_type"] = column(trips, "payment_type").fillna(ways)
    trips["payment"] = trips["payment_type"].map(_PAYMENTS)
    trips["rate"] = column(trips, "ratecode_id").map(_RATES)
    trips["hailed"] = column(trips, "trip_type").map(_HAILED)
    trips["app"] = column(trips, "hvfhs_license_num").map(_APPS)
    return trips


def _way(name: object) -> float:
    return float("nan") if not isinstance(name, str) else _PAYMENT_NAMES[name.strip().lower()]


def column(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column; one without values where there is none."""
    return rows[name] if name in rows else pd.Series(float("nan"), rows.index)


def check_equal(view: pd.DataFrame, reckoned: pd.DataFrame) -> None:
    """Both have the same rows, in whatever order; `view` says which columns."""
    assert len(view) == len(reckoned)
    reckoned = pd.DataFrame({name: column(reckoned, name) for name in view})
    pd.testing.assert_frame_equal(_ordered(view), _ordered(reckoned), check_dtype=False, rtol=1e-9)


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows in an order of their values, with one kind of null."""
    plain = pd.DataFrame({name: _plain(rows[name]) for name in rows})
    keys = plain.select_dtypes("float").round(4).join(plain.select_dtypes(exclude="float")).astype(str)
    return plain.loc[keys.sort_values(list(keys)).index].reset_index(drop=True)


def _plain(values: pd.Series) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.astype("datetime64[us]")
    numbers = pd.to_numeric(values, errors="coerce").astype("float64")
    if numbers.notna().sum() == values.notna().sum():
        return numbers
    return values.astype(object).where(values.notna(), None)
