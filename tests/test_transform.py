"""Values arrive in the table's types unchanged, or their row is rejected with a reason."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import row, trips
from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.load.types import for_postgres
from taxi_ingest.read.texts import NULL_WORDS
from taxi_ingest.transform import CanonicalBatch, Misjudged, Stream, load_step, open_stream
from taxi_ingest.transform.plan import snake_case
from taxi_ingest.transform.types import cast, column_type


def converted(values: pa.Array, type: pa.DataType) -> tuple[list[object], list[int]]:
    """The values, and the indexes of those that do not fit."""
    result, bad = cast(pa.chunked_array([values]), type)
    return result.to_pylist(), [] if bad is None else pc.indices_nonzero(bad).to_pylist()


def consume(stream: Stream) -> list[CanonicalBatch]:
    while True:
        convert = stream.converter()
        try:
            return [convert(piece) for piece in stream.pieces()]
        except Misjudged as reason:
            stream = reason.corrected(stream)


@pytest.mark.parametrize(
    ("values", "type", "expected", "bad"),
    [
        (pa.array(["1", " 2 ", "+3", "4.0", "5.", "-6"]), pa.int16(), [1, 2, 3, 4, 5, -6], []),
        (pa.array(["1", "1.5", "x", "70000", None, "9" * 30]), pa.int16(), [1, *[None] * 5], [1, 2, 3, 5]),
        (pa.array([1.0, 2.5, None, float("nan"), 1e30]), pa.int16(), [1, *[None] * 4], [1, 4]),
        (pa.array([1, 40_000]), pa.int16(), [1, None], [1]),
        (pa.array([2**63], pa.uint64()), pa.int64(), [None], [0]),
        (pa.array([9.2e18, 9.3e18]), pa.int64(), [9_200_000_000_000_000_000, None], [1]),
        (
            pa.array(["1.5", ".5", "1e3", "+2", " 3 ", "1,5", "0x1"]),
            pa.float64(),
            [1.5, 0.5, 1000, 2, 3, None, None],
            [5, 6],
        ),
        (pa.array(["a", "b\0c"]), pa.string(), ["a", None], [1]),
        (pa.array([1.0, 2.0]), pa.string(), ["1", "2"], []),
        (pa.array([None, None]), pa.float64(), [None, None], []),
        (pa.array(["Y", "N"]).dictionary_encode(), pa.string(), ["Y", "N"], []),
    ],
)
def test_a_value_fits_or_is_named(
    values: pa.Array, type: pa.DataType, expected: list[object], bad: list[int]
) -> None:
    assert converted(values, type) == (expected, bad)


def test_timestamps_are_read_as_postgres_reads_them_and_no_day_is_invented() -> None:
    texts = [
        "2024-01-31 10:20:30",
        "2024-01-31T10:20:30.5",
        " 2024-01-31 ",
        "2024-02-31 00:00:00",
        "2024-01-31 24:00:01",
        "31/01/2024 0:30",
    ]
    values, bad = converted(pa.array(texts), pa.timestamp("us"))
    assert values[:3] == [
        datetime(2024, 1, 31, 10, 20, 30),
        datetime(2024, 1, 31, 10, 20, 30, 500_000),
        datetime(2024, 1, 31),
    ]
    assert bad == [3, 4, 5]


def test_nanoseconds_fit_where_postgres_keeps_them() -> None:
    values, bad = converted(pa.array([1_000, 1_500], pa.timestamp("ns")), pa.timestamp("us"))
    assert values == [datetime(1970, 1, 1, 0, 0, 0, 1), None]
    assert bad == [1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-(2**15), 2**15 - 1)), max_size=20))
def test_integers_come_back_equal_from_any_physical_type(numbers: list[int | None]) -> None:
    shapes = [pa.array(numbers, type) for type in (pa.int16(), pa.int32(), pa.int64(), pa.float64())]
    texts = [
        pa.array([None if n is None else text(n) for n in numbers], pa.string())
        for text in (str, "{}.0".format)
    ]
    for shape in (*shapes, *texts):
        assert converted(shape, pa.int16()) == (numbers, [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)), max_size=20))
def test_doubles_come_back_equal_from_text(numbers: list[float | None]) -> None:
    texts = pa.array([None if n is None else repr(n) for n in numbers], pa.string())
    assert converted(texts, pa.float64()) == (numbers, [])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(max_size=25), max_size=20),
    st.sampled_from([pa.int16(), pa.float64(), pa.timestamp("us")]),
)
def test_any_text_fits_or_is_named_and_nothing_breaks(texts: list[str], type: pa.DataType) -> None:
    values, bad = converted(pa.array(texts, pa.string()), type)
    words = [index for index, text in enumerate(texts) if text.strip().lower() in NULL_WORDS]
    assert sorted(bad + words) == [index for index, value in enumerate(values) if value is None]


def test_a_tlc_file_gets_all_columns_of_its_dataset_and_loads_those_it_has(tmp_path: Path) -> None:
    plan = open_stream(trips(tmp_path, [row(2.5)]), "yellow_tripdata_2024-01.csv", 10).plan
    assert (plan.dataset, plan.month) == ("yellow", "2024-01")
    assert [column.name for column in plan.loaded] == [
        "VendorID",
        "tpep_pickup_datetime",
        "passenger_count",
        "total_amount",
    ]
    assert "pickup_longitude" in [column.name for column in plan.columns]


def test_a_bad_row_is_rejected_with_line_column_reason_and_text(tmp_path: Path) -> None:
    path = trips(tmp_path, [row(2), row(3, "many"), row(4)])
    (batch,) = consume(for_postgres(open_stream(path, path.name, 10)))
    assert batch.rows.column("total_amount").to_pylist() == [2.0, 4.0]
    (reject,) = batch.rejects
    assert (reject.number, reject.column) == (3, "passenger_count")
    assert reject.reason == "'many' is no smallint"
    assert reject.raw == row(3, "many")


def test_lines_are_counted_across_chunks(tmp_path: Path) -> None:
    rows = [row(2, "x" if number in (3, 7) else 1) for number in range(10)]
    batches = consume(open_stream(trips(tmp_path, rows), "x.csv", 2))
    assert [reject.number for batch in batches for reject in batch.rejects] == [5, 9]
    assert sum(batch.rows_read for batch in batches) == 10


def test_a_misleading_name_is_reported(tmp_path: Path) -> None:
    path = trips(tmp_path, [row()], "green_tripdata_2024-01.csv")
    plan = open_stream(path, path.name, 10).plan
    assert (plan.dataset, plan.month) == ("yellow", None)
    assert plan.warnings == ("The file is named green, but its columns are those of yellow.",)


def test_a_column_that_nobody_has_seen_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "y.csv"
    path.write_text(
        "VendorID,tpep_pickup_datetime,passenger_count,total_amount,mood\n1,2024-01-01 00:00:00,1,2,fine\n"
    )
    plan = open_stream(path, path.name, 10).plan
    assert plan.unknown == ("mood",)
    assert plan.columns[-1].type == pa.string()


def test_a_guessed_type_widens_when_a_later_row_needs_it(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text("a,b\n" + "1,1\n" * 300_000 + "2.5,x\n")
    stream = open_stream(path, path.name, 100_000)
    assert [column.type for column in stream.plan.columns] == [pa.int64(), pa.int64()]
    batches = consume(stream)
    assert batches[-1].rows.schema.types == [pa.decimal128(38, 1), pa.string()]
    assert sum(batch.rows.num_rows for batch in batches) == 300_001


def test_names_that_postgres_cannot_hold_beside_each_other_are_changed(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text(f"_load_id,{'ü' * 40}a,{'ü' * 40}b,\n1,2,3,4\n")
    stream = open_stream(path, path.name, 10)
    columns = [column.name for column in for_postgres(stream).plan.columns]
    assert columns == ["_load_id_2", "ü" * 31, "ü" * 30 + "_2", "column_4"]
    snake = for_postgres(open_stream(path, path.name, 10, names="snake")).plan.columns
    assert len({column.name for column in snake}) == 4


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("PULocationID", "pulocation_id"),
        ("Trip Type ", "trip_type"),
        ("a-b.c", "a_b_c"),
        ("2nd", "column_2nd"),
    ],
)
def test_snake_case_needs_no_quotes(name: str, snake: str) -> None:
    assert snake_case(name) == snake


def test_two_columns_for_one_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "y.csv"
    path.write_text("tpep_pickup_datetime,trip_pickup_datetime,passenger_count,total_amount\n")
    with pytest.raises(DataError, match="both mean"):
        open_stream(path, path.name, 10)


def test_parquet_types_that_no_table_holds_are_an_error() -> None:
    with pytest.raises(DataError, match="'tags' has the type list"):
        column_type("tags", pa.list_(pa.string()))


STEP = """
def long_ones(trips):
    trips = trips[trips["trip_distance"] > 2].copy()
    trips["double_distance"] = trips["trip_distance"] * 2
    return trips[["trip_distance", "double_distance"]]

def failing(trips):
    raise ValueError("no such luck")

def returning_none(trips):
    return None

def unchanged(trips):
    return trips

def renaming(trips):
    return trips.rename(columns={"_load_id": "_load_id" + "x" * 80})[["_load_id" + "x" * 80]]
"""


@pytest.fixture
def step_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / f"step_{tmp_path.name}.py").write_text(STEP)
    monkeypatch.syspath_prepend(tmp_path)
    return f"step_{tmp_path.name}"


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A Parquet file of three green trips."""
    path = tmp_path / "green_tripdata_2024-01.parquet"
    pickups = pa.array([datetime(2024, 1, 1)] * 3, pa.timestamp("us"))
    pq.write_table(
        pa.table(
            {
                "lpep_pickup_datetime": pickups,
                "trip_distance": [1.0, 3.0, None],
                "total_amount": [1.0, 2.0, 3.0],
            }
        ),
        path,
    )
    return path


def test_the_users_step_gets_frames_and_decides_the_columns(three: Path, step_module: str) -> None:
    stream = open_stream(three, three.name, 10, f"{step_module}:long_ones")
    (batch,) = consume(stream)
    assert batch.rows.to_pylist() == [{"trip_distance": 3.0, "double_distance": 6.0}]
    assert batch.rows_read == 3


@pytest.mark.parametrize(
    ("function", "message"), [("failing", "no such luck"), ("returning_none", "NoneType")]
)
def test_a_step_that_fails_is_named(three: Path, step_module: str, function: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_stream(three, three.name, 10, f"{step_module}:{function}")


def test_a_step_does_not_hinder_a_column_that_needs_another_type_behind_the_first_megabyte(
    tmp_path: Path, step_module: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + f"1,{'b' * 1000}\n" * 1_100 + "x,b\n")
    stream = open_stream(path, path.name, 10_000, f"{step_module}:unchanged")
    assert [column.type for column in stream.plan.columns] == [pa.string(), pa.string()]


def test_a_step_sees_the_files_names_and_may_give_any(tmp_path: Path, step_module: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("_load_id,b\n1,2\n")
    stream = for_postgres(open_stream(path, path.name, 10, f"{step_module}:renaming"))
    (batch,) = consume(stream)
    assert batch.rows.to_pylist() == [{"_load_id" + "x" * 55: 1}]


@pytest.mark.parametrize("name", ["os", "os:", "no_such_module_here:f", "os:no_such_function", "os:sep"])
def test_a_step_that_does_not_exist_is_an_error_of_the_command_line(name: str) -> None:
    with pytest.raises(UsageError):
        load_step(name)
