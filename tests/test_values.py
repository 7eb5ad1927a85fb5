"""What is in the table equals what is in the file, or its row is in rejects. Nothing is changed silently."""

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders import csv_of, parquet_of, row, trips
from helpers import execute, loaded, query
from taxi_ingest.errors import DataError
from taxi_ingest.load import Database, LoadResult
from taxi_ingest.read.csv_file import infer
from taxi_ingest.read.texts import DECIMAL, NULL_WORDS, Origin, parse
from taxi_ingest.transform import open_stream
from taxi_ingest.transform.types import cast, column_type

_names = count()


def load_any(path: Path, database: Database, table: str = "t", chunk_size: int = 100_000) -> LoadResult:
    """Load a file whose rows may all be rejected, but for one."""
    return loaded(path, database, table, max_rejects="100%", chunk_size=chunk_size)


def types_of(url: str, table: str = "t") -> dict[object, object]:
    return dict(
        query(
            url,
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{table}'::regclass AND attnum > 0 AND attname <> '_load_id'",
        )
    )


def texts_of(url: str, column: str = "a", table: str = "t") -> list[object]:
    return [text for (text,) in query(url, f'SELECT "{column}"::text FROM {table} ORDER BY tableoid, ctid')]


def rejected(url: str) -> list[tuple[object, ...]]:
    return query(url, "SELECT number, reason FROM taxi_ingest.rejects ORDER BY 1")


def read(text: str, type: pa.DataType, origin: Origin) -> object:
    """The value that a text is, None where it is a word for none; "bad" where it is no value."""
    values, bad = parse(pa.chunked_array([pa.array([text], pa.string())]), type, origin)
    return values[0].as_py() if bad is None else "bad"


# Numbers


@pytest.mark.parametrize("place", ["first", "within the first megabyte", "after it"])
def test_ids_beyond_a_doubles_integers_stay_distinct_beside_a_decimal(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, place: str
) -> None:
    rows = [str(9007199254740993 + number) for number in range(70_000)]
    rows.insert({"first": 0, "within the first megabyte": 1_000, "after it": 70_000}[place], "1.5")
    load_any(csv_of(tmp_path, "a", *rows), embedded_database)
    assert types_of(embedded_database_url) == {"a": "numeric"}
    assert query(embedded_database_url, "SELECT count(DISTINCT a), max(a), min(a) FROM t") == [
        (70_001, 9007199254740993 + 69_999, Decimal("1.5"))
    ]


@pytest.mark.parametrize(
    ("first", "second", "type"),
    [
        ("9007199254740993", "1.5", "numeric"),
        ("1", "9223372036854775808", "numeric"),
        ("1", "12345678901234567890123456789012345678", "numeric"),
        ("1", "123456789012345678901234567890123456789", "text"),
        ("1", "00501", "text"),
        ("1", "1e5", "text"),
        ("1.5", "x", "text"),
        ("2019-01-01", "2019-01-01 10:00:00", "timestamp without time zone"),
        ("true", "perhaps", "text"),
        ("12345678901234567890", "x", "text"),
    ],
)
def test_rows_already_stored_never_lose_a_digit(
    tmp_path: Path, database: Database, database_url: str, first: str, second: str, type: str
) -> None:
    load_any(csv_of(tmp_path, "a", first), database)
    load_any(csv_of(tmp_path, "a", second), database)
    assert types_of(database_url) == {"a": type}
    stored = [str(text).removesuffix(" 00:00:00") for text in texts_of(database_url)]
    expected = [first, second]
    if type == "numeric":
        assert [Decimal(text) for text in stored] == [Decimal(text) for text in expected]
    else:
        assert stored == expected


@pytest.mark.parametrize("number", ["9007199254740993", "-9007199254740993", "0.12345678901234567890"])
def test_a_column_of_doubles_stays_one_and_rejects_what_it_cannot_hold(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, number: str
) -> None:
    load_any(csv_of(tmp_path, "a", "1.5", "0.1"), embedded_database)
    result = load_any(
        csv_of(tmp_path, "a", number, "9007199254740992", "0.30000000000000004"), embedded_database
    )
    assert (result.record.rows_loaded, result.record.rows_rejected) == (2, 1)
    assert types_of(embedded_database_url) == {"a": "double precision"}
    assert rejected(embedded_database_url) == [(2, f"{number!r} is no double precision")]
    assert texts_of(embedded_database_url)[2:] == ["9.007199254740992e+15", "0.30000000000000004"]


@pytest.mark.parametrize(
    ("stored", "type"), [("1", "bigint"), ("1.5", "double precision"), ("true", "boolean")]
)
@pytest.mark.parametrize("word", ["", "NA"])
def test_a_file_without_values_in_a_column_changes_no_stored_type(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, stored: str, type: str, word: str
) -> None:
    load_any(csv_of(tmp_path, "a,b", f"{stored},x"), embedded_database)
    load_any(csv_of(tmp_path, "a,b", f"{word},y"), embedded_database)
    assert types_of(embedded_database_url)["a"] == type
    assert texts_of(embedded_database_url) == [stored, None]


@pytest.mark.parametrize("number", ["1e400", "0." + "123456789" * 5, "1" * 60])
def test_a_number_that_no_type_holds_makes_no_text_of_stored_doubles(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, number: str
) -> None:
    load_any(csv_of(tmp_path, "a", "1.5"), embedded_database)
    result = load_any(csv_of(tmp_path, "a", number, "2.5"), embedded_database)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (1, 1)
    assert texts_of(embedded_database_url) == ["1.5", "2.5"]


@pytest.mark.parametrize("text", ["x", "007", "+1"])
def test_what_is_no_number_makes_text_of_stored_doubles(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, text: str
) -> None:
    load_any(csv_of(tmp_path, "a", "1.5"), embedded_database)
    load_any(csv_of(tmp_path, "a,b", *["2.5," + "b" * 1000] * 1_100, f"{text},b"), embedded_database)
    assert types_of(embedded_database_url)["a"] == "text"
    assert set(texts_of(embedded_database_url)) == {"1.5", "2.5", text}


@pytest.mark.parametrize(
    ("type", "values", "kept"),
    [
        ("double precision", pa.array([2**53, 2**53 + 1, 2**60, 2**63 - 1]), [2**53, 2**60]),
        ("double precision", pa.array([2**64 - 1, 2**63], pa.uint64()), [2**63]),
        ("real", pa.array([2**24, 2**24 + 1]), [2**24]),
        ("real", pa.array([0.5, 0.1, 1e300]), [0.5]),
        ("bigint", pa.array([1.0, 1.5, 1e19]), [1]),
        ("smallint", pa.array([Decimal("1.00"), Decimal("1.50")], pa.decimal128(5, 2)), [1]),
        ("bigint", pa.array([2**63 - 1, 2**63], pa.uint64()), [2**63 - 1]),
        ("numeric", pa.array([0.1, 1e37, math.inf, 1e39]), [Decimal("0.1"), Decimal(10) ** 37]),
        ("bigint", pa.array([True, False]), []),
        ("bigint", pa.array([1], pa.timestamp("us")), []),
        ("timestamp", pa.array([1]), []),
        ("boolean", pa.array([2, 0]), []),
    ],
)
def test_a_tables_own_column_takes_what_it_can_hold_exactly(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    type: str,
    values: pa.Array,
    kept: list[object],
) -> None:
    execute(embedded_database_url, f"CREATE TABLE t (a {type}, b int)")
    path = parquet_of(tmp_path, {"a": values, "b": pa.array(range(len(values)), pa.int32())})
    if not kept:
        with pytest.raises(DataError, match="no row is left"):
            load_any(path, embedded_database)
        return
    result = load_any(path, embedded_database)
    assert result.record.rows_rejected == len(values) - len(kept)
    assert [value for (value,) in query(embedded_database_url, "SELECT a FROM t ORDER BY b")] == kept


def test_a_numeric_column_of_limited_scale_is_refused_and_never_rounds(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    execute(embedded_database_url, "CREATE TABLE t (a numeric(10,2))")
    with pytest.raises(DataError, match=r"has the type numeric\(10,2\)"):
        load_any(csv_of(tmp_path, "a", "1.505"), embedded_database)


_DECIMALS = st.builds(
    # Not by arithmetic, which would round to Python's 28 digits.
    lambda digits, scale: Decimal(f"{digits}e-{scale}"),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.integers(0, 38),
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.one_of(_DECIMALS, st.integers(-(10**20), 10**20).map(Decimal)), min_size=1))
@example([Decimal(text) for text in ("1e37", "-1e-38", "0", "9" * 38, f"-0.{'9' * 38}", "10000", "0.0001")])
def test_any_decimals_of_38_digits_arrive_as_they_are(
    embedded_database: Database, embedded_database_url: str, tmp_path: Path, numbers: list[Decimal]
) -> None:
    table = f"t_{next(_names)}"
    execute(embedded_database_url, f"CREATE TABLE {table} (a numeric)")
    result = load_any(csv_of(tmp_path, "a", *(f"{number:f}" for number in numbers)), embedded_database, table)
    assert result.record.rows_rejected == 0
    stored = query(embedded_database_url, f"SELECT a FROM {table} ORDER BY ctid")
    assert [value for (value,) in stored] == numbers
    execute(embedded_database_url, f"DROP TABLE {table}")


def test_the_digits_behind_the_point_of_a_parquet_decimal_stay(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    ones = [Decimal("1.50"), None, Decimal("-0.01")]
    decimals = {
        "d128": pa.array(ones, pa.decimal128(20, 2)),
        "d256": pa.array(ones, pa.decimal256(60, 2)),
        "d32": pa.array(ones, pa.decimal32(5, 2)),
        "d64": pa.array(ones, pa.decimal64(15, 2)),
    }
    load_any(parquet_of(tmp_path, decimals), database)
    assert set(types_of(database_url).values()) == {"numeric"}
    for name in decimals:
        assert texts_of(database_url, name) == ["1.50", None, "-0.01"]


def test_decimals_of_every_scale_arrive_digit_by_digit(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    integers = [n for power in range(38) for n in (10**power, -(10**power), 10 ** (power + 1) - 1)]
    integers += [0, int("1234567890" * 3 + "12345678"), -(2**64), 2**96, -(2**126)]
    columns = {
        f"scale_{scale}": pa.array(
            [*(Decimal(f"{n}e-{scale}") for n in integers), None], pa.decimal128(38, scale)
        )
        for scale in range(39)
    }
    loaded(parquet_of(tmp_path, columns), database, "t")
    for name, values in columns.items():
        # Not by str(), which writes 1E-38.
        assert texts_of(database_url, name) == [*(f"{value:f}" for value in values.to_pylist()[:-1]), None]


def test_the_digits_of_decimals_beside_nulls_need_no_common_scale(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    texts = [f"1{'0' * 30}", "", f"0.{'0' * 29}1", "", "-2.5"] * 5000
    path = csv_of(tmp_path, "a,b", *(f"{text},{number}" for number, text in enumerate(texts)))
    execute(embedded_database_url, "CREATE TABLE t (a numeric, b bigint)")
    load_any(path, embedded_database)
    stored = query(embedded_database_url, "SELECT a FROM t ORDER BY b")
    assert [value for (value,) in stored] == [Decimal(text) if text else None for text in texts]


def test_a_decimal_of_more_than_38_digits_is_rejected(tmp_path: Path, embedded_database: Database) -> None:
    numbers = pa.array([Decimal(10) ** 39, Decimal(5)], pa.decimal256(60, 2))
    result = load_any(parquet_of(tmp_path, {"a": numbers}), embedded_database)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (1, 1)


@pytest.mark.parametrize(
    ("values", "type"),
    [
        (["1", "-2"], pa.int64()),
        (["1", "9223372036854775808"], DECIMAL),
        (["12345678901234567890"], DECIMAL),
        (["1" * 39], pa.string()),
        (["1.5", "2", "1e5"], pa.float64()),
        (["1e-07", "2"], pa.float64()),
        (["1", "1e5"], pa.string()),
        (["9007199254740993", "1.5"], DECIMAL),
        (["0.12345678901234567890"], DECIMAL),
        (["0.30000000000000004", "1.0"], pa.float64()),
        (["00501", "10001"], pa.string()),
        (["1", "007"], pa.string()),
        (["-01", "2"], pa.string()),
        (["+14155550100"], pa.string()),
        (["0x1F"], pa.string()),
        (["1_000"], pa.string()),
        (["1,000"], pa.string()),
        (["0", "10", "-0"], pa.int64()),
        (["0.5", "-0.5", ".5"], pa.float64()),
        (["00.5"], pa.string()),
        ([" 5", "6"], pa.int64()),
        (["1", "NA", "2"], pa.int64()),
        (["1.5", "nan", "NULL", "\\N"], pa.float64()),
        (["NA", "N/A"], pa.string()),
        ([None, None], pa.string()),
        ([*["NA"] * 60, "1"], pa.int64()),
        (["true", "False", "NA"], pa.bool_()),
        (["Y", "N"], pa.string()),
        (["true", "1"], pa.string()),
        (["2019-03-01", "None"], pa.date32()),
        (["2019-02-31"], pa.string()),
        (["03/01/2019", "12/31/2019"], pa.date32()),
        (["03/01/2019", "31/12/2019"], pa.string()),
        (["12:30", "00:00:01.5"], pa.time64("us")),
        (["1:30"], pa.string()),
        (["2019-03-01 00:00:01", "NaT"], pa.timestamp("us")),
        (["2019-03-01T00:00"], pa.timestamp("us")),
        (["03/01/2019 12:02:21 AM", "3/1/2019 0:02"], pa.timestamp("us")),
        (["2019-03-01 00:00:01Z", "2019-03-01 00:00:01+05:30"], pa.timestamp("us", "UTC")),
        (["2019-03-01 00:00:01Z", "2019-03-01 00:00:01"], pa.string()),
        (["2019-03-01 00:00:01.123456789"], pa.string()),
        (["2019-03-01 00:00:01.123456000"], pa.timestamp("us")),
        (["2019-03-01 00:00:01 EST"], pa.string()),
    ],
)
def test_a_guessed_type_keeps_each_value(values: list[str | None], type: pa.DataType) -> None:
    assert infer(pa.chunked_array([pa.array(values, pa.string())])) == type


@pytest.mark.parametrize(
    ("early", "late"),
    [
        *(("10001", late) for late in ("00501", "+14155550100", "0x1F", "1e5")),
        *(("1.5", late) for late in ("-007", "+1.5")),
    ],
)
def test_a_code_after_the_first_megabyte_makes_the_whole_column_text(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, early: str, late: str
) -> None:
    load_any(csv_of(tmp_path, "a,b", *[f"{early},1"] * 180_000, f"{late},1"), embedded_database)
    assert types_of(embedded_database_url) == {"a": "text", "b": "bigint"}
    assert query(embedded_database_url, "SELECT a, count(*) FROM t GROUP BY 1 ORDER BY 2") == [
        (late, 1),
        (early, 180_000),
    ]


def test_in_tlcs_columns_the_value_counts_not_its_spelling(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    rows = [row("-73.993896484375001", vendor="007"), row("1e5", vendor="+1"), row("1e-07", vendor="2.0")]
    path = trips(tmp_path, rows)
    assert load_any(path, embedded_database).record.rows_rejected == 0
    assert query(embedded_database_url, 'SELECT "VendorID", total_amount FROM t ORDER BY ctid') == [
        (7, -73.993896484375),
        (1, 100000.0),
        (2, 1e-07),
    ]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("amount", "9007199254740993"),
        ("amount", "1e400"),
        ("amount", "1e-400"),
        ("vendor", "0x10"),
        ("vendor", "40000"),
        ("vendor", "1.5"),
    ],
)
def test_in_tlcs_columns_too_what_does_not_fit_is_rejected(
    tmp_path: Path, embedded_database: Database, column: str, text: str
) -> None:
    path = trips(tmp_path, [row(), row(**{column: text})])
    result = load_any(path, embedded_database)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (1, 1)


# Words for no value


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (pa.int64(), "5"),
        (pa.float64(), "1.5"),
        (DECIMAL, "1.5"),
        (pa.bool_(), "true"),
        (pa.date32(), "2019-03-01"),
        (pa.time64("us"), "12:00:00"),
        (pa.timestamp("us"), "03/01/2019 1:00"),
        (pa.timestamp("us", "UTC"), "2019-03-01 00:00:00Z"),
    ],
)
@pytest.mark.parametrize("origin", ["tlc", "guess"])
def test_a_word_for_no_value_is_null(type: pa.DataType, value: str, origin: Origin) -> None:
    for word in (*NULL_WORDS, "NaN", "NULL", "N/A", "None", "NaT", " NA "):
        values, bad = parse(pa.chunked_array([pa.array([word, value])]), type, origin)
        assert bad is None
        assert [item is None for item in values.to_pylist()] == [True, False]


def test_words_for_no_value_are_counted_and_stay_text_in_texts(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    path = csv_of(tmp_path, "a,b,c,d", "1,1.5,N/A,", "NA,nan,Bronx,2019-03-01", "3,inf,nan,NULL")
    result = load_any(path, embedded_database)
    assert result.record.quality == {"null_word": 3}
    assert query(embedded_database_url, "SELECT * FROM t ORDER BY a") == [
        (1, 1, 1.5, "N/A", None),
        (1, 3, math.inf, "nan", None),
        (1, None, None, "Bronx", date(2019, 3, 1)),
    ]


@pytest.mark.parametrize("word", ["nan", "NULL", "-nan"])
def test_a_sum_of_tlcs_amounts_is_not_spoilt(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, word: str
) -> None:
    path = trips(tmp_path, [row(), row(word)])
    result = load_any(path, embedded_database)
    assert (result.record.rows_loaded, result.record.quality["null_word"]) == (2, 1)
    assert query(embedded_database_url, "SELECT sum(total_amount) FROM t") == [(2.0,)]


@pytest.mark.parametrize("type", ["bigint", "numeric", "double precision", "real"])
def test_nan_of_a_parquet_file_is_null(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, type: str
) -> None:
    execute(embedded_database_url, f"CREATE TABLE t (a {type})")
    result = load_any(parquet_of(tmp_path, {"a": [1.0, math.nan, None]}), embedded_database)
    assert result.record.quality == {"null_word": 1}
    assert texts_of(embedded_database_url) == ["1", None, None]


def test_values_in_rejected_rows_are_not_counted(tmp_path: Path, embedded_database: Database) -> None:
    path = trips(tmp_path, [row(), row("NULL", vendor="x"), row("NULL")])
    assert load_any(path, embedded_database).record.quality["null_word"] == 1


STEP = """
def ratio(trips):
    trips["ratio"] = [float("nan")] + [0.5] * (len(trips) - 1)
    return trips
"""


def test_nan_behind_a_users_step_is_null_too(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "step_for_values.py").write_text(STEP)
    monkeypatch.syspath_prepend(tmp_path)
    path = csv_of(tmp_path, "a,b", "1.5,1", "NA,2")
    stream = open_stream(path, path.name, 10, "step_for_values:ratio")
    loaded(path, embedded_database, "t", stream=stream)
    assert query(embedded_database_url, "SELECT a, ratio FROM t ORDER BY b") == [(1.5, None), (None, 0.5)]


# Times


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2019-03-01 00:02:21", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01T00:02:21", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01 00:02", datetime(2019, 3, 1, 0, 2)),
        ("2019-03-01", datetime(2019, 3, 1)),
        ("2019-03-01 00:02:21.5", datetime(2019, 3, 1, 0, 2, 21, 500_000)),
        ("2019-03-01 00:02:21.123456000", datetime(2019, 3, 1, 0, 2, 21, 123_456)),
        ("2019-03-01 00:02:21.123456789", "bad"),
        ("03/01/2019 12:02:21 AM", datetime(2019, 3, 1, 0, 2, 21)),
        ("03/01/2019 12:02:21 PM", datetime(2019, 3, 1, 12, 2, 21)),
        ("3/1/2019 0:02", datetime(2019, 3, 1, 0, 2)),
        ("03/01/2019 01:02:21 pm", datetime(2019, 3, 1, 13, 2, 21)),
        ("03/01/2019 13:02:21 PM", "bad"),
        ("03/01/2019 0:02:21 AM", "bad"),
        ("2019-03-01 05:02:21Z", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01T05:02:21+00:00", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01 05:02:21+0000", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01 00:02:21-05", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-03-01 05:02:21 UTC", datetime(2019, 3, 1, 0, 2, 21)),
        ("2019-07-01 04:02:21 UTC", datetime(2019, 7, 1, 0, 2, 21)),
        ("2038-07-01 04:02:21 UTC", "bad"),
        ("2019-03-01 10:32:21.25+05:30", datetime(2019, 3, 1, 0, 2, 21, 250_000)),
        ("2019-02-29 00:00:00", "bad"),
        ("2019-03-01 24:00:01", "bad"),
        ("2019-03-01 00:60:00", "bad"),
        ("13/01/2019 00:00", "bad"),
        ("20190301", "bad"),
        ("2019-03-01 00:02:21 EST", "bad"),
    ],
)
def test_tlcs_times_are_new_yorks_in_any_known_spelling(text: str, moment: object) -> None:
    assert read(text, pa.timestamp("us"), "tlc") == moment


@settings(max_examples=60, deadline=None)
@given(st.datetimes(datetime(1900, 1, 1), datetime(2037, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_a_time_with_a_zone_is_the_same_moment(moment: datetime, offset: int) -> None:
    zoned = moment.replace(tzinfo=UTC)
    sign, (hours, minutes) = "-" if offset < 0 else "+", divmod(abs(offset), 60)
    text = f"{moment + timedelta(minutes=offset):%Y-%m-%d %H:%M:%S.%f}{sign}{hours:02}:{minutes:02}"
    assert read(text, pa.timestamp("us", "UTC"), "guess") == zoned
    new_york = zoned.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None)
    assert read(text, pa.timestamp("us"), "tlc") == new_york
    assert read(text, pa.timestamp("us"), "guess") == "bad"
    column = pa.chunked_array([pa.array([zoned], pa.timestamp("us", "UTC"))])
    assert cast(column, pa.timestamp("us"), "tlc")[0].to_pylist() == [new_york]


def test_times_with_a_zone_in_other_files_are_moments(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    load_any(csv_of(tmp_path, "a", "2019-03-01 00:02:21-05", "2019-03-01T05:02:21Z"), database)
    assert types_of(database_url) == {"a": "timestamp with time zone"}
    assert query(database_url, "SELECT DISTINCT a AT TIME ZONE 'UTC' FROM t") == [
        (datetime(2019, 3, 1, 5, 2, 21),)
    ]


@pytest.mark.parametrize("early", ["2019-03-01 01:00:00", "1.5000", "TRUE", "03/01/2019"])
def test_a_guess_that_a_later_row_contradicts_leaves_the_files_own_text(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, early: str
) -> None:
    load_any(csv_of(tmp_path, "a", *[early] * 220_000, "31/12/2019 1:00"), embedded_database)
    assert query(embedded_database_url, "SELECT a, count(*) FROM t GROUP BY 1 ORDER BY 2") == [
        ("31/12/2019 1:00", 1),
        (early, 220_000),
    ]


def test_a_spelling_that_no_row_has_right_is_named_with_those_that_would_do(
    tmp_path: Path, embedded_database: Database
) -> None:
    rows = [row(pickup="15.01.2024 12:00")] * 3
    path = trips(tmp_path, rows)
    with pytest.raises(DataError, match=r"'15\.01\.2024 12:00' is no timestamp") as failure:
        load_any(path, embedded_database)
    assert "2019-03-01 00:02:21" in failure.value.hint
    assert "03/01/2019 12:02:21 AM" in failure.value.hint


def test_a_file_in_another_encoding_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, embedded_database: Database
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("name,n\nMüller,1\nÖz,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as failure:
        load_any(path, embedded_database)
    assert "iconv" in failure.value.hint


def test_day_first_dates_are_not_read_month_first(tmp_path: Path, embedded_database: Database) -> None:
    rows = [row(pickup=f"{day}/01/2024 12:00") for day in ("02", "03", "15")]
    path = trips(tmp_path, rows)
    with pytest.raises(DataError, match="3 of 3 rows can't be represented"):
        load_any(path, embedded_database)


@pytest.mark.parametrize("chunk_size", [1, 3, 1000])
def test_a_day_first_date_counts_for_the_whole_file(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str, chunk_size: int
) -> None:
    execute(embedded_database_url, "CREATE TABLE own (a date, b timestamp, n integer)")
    rows = [f"{day:02}/01/2024,2024-01-01 10:00,{day}" for day in (2, 3, 4, 31)]
    path = csv_of(tmp_path, "a,b,n", *rows, "2024-02-01,05/01/2024 10:00,5", "2024-02-01,,6")
    result = load_any(path, embedded_database, "own", chunk_size=chunk_size)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (1, 5)
    assert query(embedded_database_url, "SELECT n FROM own") == [(6,)]


def test_a_late_day_first_date_counts_for_all_columns(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    early = ["03/01/2019,04/01/2019 12:00"] * 60_000
    load_any(csv_of(tmp_path, "a,b", *early, "31/12/2019,05/01/2019 12:00"), embedded_database)
    assert query(embedded_database_url, "SELECT a, b, count(*) FROM t GROUP BY 1, 2 ORDER BY 3") == [
        ("31/12/2019", "05/01/2019 12:00", 1),
        ("03/01/2019", "04/01/2019 12:00", 60_000),
    ]


@pytest.mark.parametrize(
    ("price", "thousands", "type"),
    [
        ("12,50", "1.000", pa.string()),
        ("1.234,56", "2.500", pa.string()),
        ("12.50", "1.000", pa.float64()),
    ],
)
@pytest.mark.parametrize(("first", "types"), [("1.5", pa.float64()), ("", None)])
def test_beside_decimal_commas_a_point_may_part_thousands(
    tmp_path: Path,
    price: str,
    thousands: str,
    type: pa.DataType,
    first: str,
    types: pa.DataType | None,
) -> None:
    path = csv_of(tmp_path, "a;b", f"{price};{thousands}", f"{price};{first}")
    stream = open_stream(path, path.name, 10)
    assert stream.plan.columns[1].type == (types or type)
    assert any("is that a thousand?" in note for note in stream.plan.warnings) == (
        (types or type) == pa.string()
    )


def test_thousands_are_not_put_into_a_stored_column_of_doubles(
    tmp_path: Path, embedded_database: Database, embedded_database_url: str
) -> None:
    load_any(csv_of(tmp_path, "a,b", "x,2.5", name="first.csv"), embedded_database, "things")
    load_any(csv_of(tmp_path, "a;b", "12,50;1.000", "12,50;2.000"), embedded_database, "things")
    rows = query(embedded_database_url, "SELECT b::text FROM things ORDER BY 1")
    assert rows == [("1.000",), ("2.000",), ("2.5",)]


def test_dates_that_are_read_month_first_are_told(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a,b,c", "03/01/2019,2019-03-01,x", "04/01/2019,2019-03-01,03/01/2019")
    assert open_stream(path, path.name, 10).plan.warnings == (
        "Dates such as '03/01/2019' in column 'a' are read month first.",
    )


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_times_in_coarse_units_do_not_overflow(unit: str) -> None:
    values = pa.chunked_array([pa.array([0, 2**62, -(2**62)]).cast(pa.timestamp(unit))])
    converted, bad = cast(values, pa.timestamp("us"))
    assert converted.to_pylist() == [datetime(1970, 1, 1), None, None]
    assert bad.to_pylist() == [False, True, True]


@pytest.mark.parametrize(
    ("type", "numbers", "kept"),
    [
        (pa.timestamp("us"), [0, -(2**63), -210_866_803_200_000_001, 2**63 - 1], [0, 3]),
        (pa.timestamp("us"), [-210_866_803_200_000_000, 0], [0, 1]),
        (pa.timestamp("ns"), [1_000, 1_001], [0]),
        (pa.timestamp("ns", "UTC"), [1_000, 1_001], [0]),
        (pa.timestamp("ms"), [0, 2**62, -(2**62)], [0]),
        (pa.date32(), [0, 2**31 - 1, -(2**31), -2_440_588, 2_145_042_905], [0, 3, 4]),
        (pa.date64(), [86_400_000], [0]),
        (pa.time64("ns"), [1_000, 1_001], [0]),
        (pa.time64("us"), [0, 86_400_000_000, 86_400_000_001, -1], [0, 1]),
        (pa.time32("ms"), [1, 86_400_001], [0]),
    ],
)
def test_times_that_postgres_cannot_hold_are_rejected(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    type: pa.DataType,
    numbers: list[int],
    kept: list[int],
) -> None:
    values = pa.array(numbers, pa.int32() if type.bit_width == 32 else pa.int64()).cast(type, safe=False)
    path = parquet_of(tmp_path, {"a": values, "b": pa.array(range(len(numbers)), pa.int32())})
    result = load_any(path, embedded_database)
    assert result.record.rows_rejected == len(numbers) - len(kept)
    assert query(embedded_database_url, "SELECT b, a IS NULL FROM t ORDER BY b") == [(n, False) for n in kept]


# Whole files


def test_a_load_in_which_everything_was_rejected_is_no_success(
    tmp_path: Path, database: Database, database_url: str
) -> None:
    path = trips(tmp_path, [row(vendor="x"), row(vendor="y")])
    with pytest.raises(DataError, match="2 of 2 rows can't be represented, and no row is left") as failure:
        load_any(path, database)
    assert failure.value.exit_code == 4
    assert query(database_url, "SELECT to_regclass('t') IS NULL") == [(True,)]
    empty = trips(tmp_path, [], "yellow_tripdata_2024-02.csv")
    assert load_any(empty, database).record.rows_loaded == 0


@pytest.mark.parametrize(
    ("values", "type", "texts"),
    [
        (pa.array([1.5], pa.float16()), "real", ["1.5"]),
        (pa.array([b"ab"], pa.binary(2)), "bytea", ["\\x6162"]),
        (pa.array([b"ab"], pa.large_binary()), "bytea", ["\\x6162"]),
        (pa.array(["ü"], pa.large_string()), "text", ["ü"]),
        (pa.array(["ü"], pa.string_view()), "text", ["ü"]),
        (pa.array([1, 2]).dictionary_encode(), "bigint", ["1", "2"]),
        (pa.array([2**64 - 1, 0], pa.uint64()), "numeric", ["18446744073709551615", "0"]),
        (pa.array([b"\x01" * 16], pa.uuid()), "bytea", ["\\x" + "01" * 16]),
        (pa.nulls(2), "text", [None, None]),
        (
            pa.array([-0.0, math.inf, -math.inf, 5e-324]),
            "double precision",
            ["-0", "Infinity", "-Infinity", "5e-324"],
        ),
    ],
)
def test_other_types_of_parquet_arrive_as_they_are(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    values: pa.Array,
    type: str,
    texts: list[str | None],
) -> None:
    load_any(parquet_of(tmp_path, {"a": values}), embedded_database)
    assert types_of(embedded_database_url) == {"a": type}
    assert texts_of(embedded_database_url) == texts


@pytest.mark.parametrize(
    "type",
    [pa.list_(pa.int64()), pa.struct([("x", pa.int64())]), pa.duration("s"), pa.month_day_nano_interval()],
)
def test_types_that_no_column_holds_are_refused(type: pa.DataType) -> None:
    with pytest.raises(DataError, match="does not load"):
        column_type("a", type)


def test_parquet_text_that_is_not_utf8_is_rejected(tmp_path: Path, embedded_database: Database) -> None:
    content = pa.array([b"Z\xfcrich", b"Bern"], pa.binary())
    texts = pa.StringArray.from_buffers(2, *content.buffers()[1:])
    result = load_any(parquet_of(tmp_path, {"a": texts}), embedded_database)
    assert (result.record.rows_loaded, result.record.rows_rejected) == (1, 1)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([0.1, 1 / 3, 1e300]), ["0.1", "0.3333333333333333", "1e+300"]),
        (pa.array([0.1], pa.float32()), ["0.1"]),
        (pa.array([True]), ["true"]),
        (pa.array([date(2024, 2, 29)]), ["2024-02-29"]),
        (pa.array([time(1, 2, 3, 4)]), ["01:02:03.000004"]),
        (pa.array([datetime(2024, 1, 1, 1, 2, 3, 4)]), ["2024-01-01 01:02:03.000004"]),
        (pa.array([datetime(2024, 1, 1)], pa.timestamp("us", "UTC")), ["2024-01-01 00:00:00+00"]),
    ],
)
def test_a_stored_column_that_becomes_text_keeps_its_values_whatever_the_settings(
    tmp_path: Path, database: Database, database_url: str, values: pa.Array, texts: list[str]
) -> None:
    load_any(parquet_of(tmp_path, {"a": values}), database)
    execute(
        database_url,
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -5', current_database());"
        "EXECUTE format('ALTER DATABASE %I SET DateStyle = ''SQL, DMY''', current_database());"
        "EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database()); END $$",
    )
    load_any(csv_of(tmp_path, "a", "x"), database)
    assert texts_of(database_url) == [*texts, "x"]


# The property: equal, or rejected

_ODD = st.sampled_from(
    [
        *("", "NA", "nan", "NULL", "\\N", "007", "+1", "0x10", "1e5", "-0", "1.0", "1.50", " 5", "1_000"),
        *("9007199254740993", "12345678901234567890", "0.12345678901234567890", "1e400", "inf", "x", "N/A"),
        *(
            "2019-03-01",
            "31/12/2019",
            "03/01/2019",
            "2019-03-01 00:00:01.1234567",
            "2019-03-01T05:00:00Z",
            "true",
        ),
    ]
)
_PLAIN = st.sampled_from(
    [
        st.integers(-(10**6), 10**6).map(str),
        st.integers(2**53 - 5, 2**53 + 5).map(str),
        st.integers(-(10**30), 10**30).map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.decimals(-1000, 1000, places=2).map(str),
        st.dates().map(str),
        st.datetimes().map(str),
        st.times().map(str),
        st.booleans().map(str),
        st.sampled_from(["Bronx", "Y", "501"]),
    ]
)
_COLUMN = _PLAIN.flatmap(lambda plain: st.lists(st.one_of(plain, plain, plain, _ODD), min_size=6, max_size=6))


def _is(text: str, stored: str | None, type: str) -> bool:
    """Whether what Postgres shows of a stored value is what a CSV says."""
    word = text.strip().lower() in NULL_WORDS
    if stored is None or (word and type != "text"):
        return stored is None and (text == "" or (word and type != "text"))
    if type == "text":
        return stored == text
    if type in ("bigint", "numeric"):
        return Decimal(stored) == Decimal(text)
    if type == "double precision":
        value = float(text)
        same = math.isinf(value) or Decimal(repr(value)) == Decimal(text) or Decimal(value) == Decimal(text)
        return float(stored) == value and same and ("inf" in text) == math.isinf(value)
    if type == "boolean":
        return stored == text.lower()
    if type == "time without time zone":
        return time.fromisoformat(stored) == time.fromisoformat(text)
    if "/" in text:
        text = f"{text[6:10]}-{text[:2]}-{text[3:5]}{text[10:]}"
    return datetime.fromisoformat(stored) == datetime.fromisoformat(text)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=_COLUMN, second=_COLUMN, chunk_size=st.integers(1, 6))
def test_a_csv_is_in_the_table_or_in_rejects(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    first: list[str],
    second: list[str],
    chunk_size: int,
) -> None:
    """Two files, one after the other: what the second one needs may not spoil the first one's rows."""
    table = f"t_{next(_names)}"
    said: dict[tuple[object, int], str] = {}
    for values in (first, second):
        path = csv_of(tmp_path, "a,n", *(f"{text},{number}" for number, text in enumerate(values, start=2)))
        try:
            result = load_any(path, embedded_database, table, chunk_size=chunk_size)
        except DataError as error:
            if "no row is left" not in str(error):
                raise
            continue
        said |= {(result.record.load_id, number): text for number, text in enumerate(values, start=2)}
    if not said:
        return
    type = str(types_of(embedded_database_url, table)["a"])
    loaded = query(embedded_database_url, f"SELECT _load_id, n, a::text FROM {table}")
    ids = ", ".join(str(load_id) for load_id, _ in said)
    bad = query(
        embedded_database_url, f"SELECT load_id, number FROM taxi_ingest.rejects WHERE load_id IN ({ids})"
    )
    places = [(load_id, number) for load_id, number, _ in loaded]
    assert sorted([*places, *bad]) == sorted(said)
    for load_id, number, stored in loaded:
        text = said[(load_id, number)]
        if type == "text" and text != stored:
            # Stored as something else before a later file made text of it.
            assert _readable_as(text, str(stored))
        else:
            assert _is(text, stored, type)
    execute(embedded_database_url, f"DROP TABLE {table}")


def _readable_as(text: str, stored: str) -> bool:
    """Whether Postgres' spelling of a value says the same as the file's."""
    if text.strip().lower() in NULL_WORDS:
        return stored == "None"
    for type in ("numeric", "double precision", "boolean", "time without time zone", "timestamp"):
        try:
            if _is(text, stored, type):
                return True
        except (ArithmeticError, ValueError, TypeError):
            continue
    return False


_TYPES = {
    pa.int8(): st.integers(-128, 127),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.decimal128(38, 10): st.decimals(-(10**27), 10**27, places=10, allow_nan=False),
    pa.decimal256(50, 5): st.integers(-(10**49), 10**49).map(lambda n: Decimal(n).scaleb(-5)),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=5),
    pa.binary(): st.binary(max_size=5),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    pa.timestamp("ns"): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("us"): st.integers(-(2**63), 2**63 - 1),
    pa.timestamp("s", "UTC"): st.integers(-(2**50), 2**50),
}
"""What Parquet can hold; times by their numbers, as Python's own hold fewer."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), chunk_size=st.integers(1, 4))
def test_a_parquet_file_is_in_the_table_or_in_rejects(
    tmp_path: Path,
    embedded_database: Database,
    embedded_database_url: str,
    data: st.DataObject,
    chunk_size: int,
) -> None:
    type = data.draw(st.sampled_from(list(_TYPES)))
    drawn = data.draw(st.lists(st.one_of(st.none(), _TYPES[type]), min_size=1, max_size=6))
    numeric_time = pa.types.is_temporal(type)
    values = (
        pa.array(drawn, pa.int32() if type == pa.date32() else pa.int64()).cast(type)
        if numeric_time
        else pa.array(drawn, type)
    )
    table = f"t_{next(_names)}"
    path = parquet_of(tmp_path, {"a": values, "n": pa.array(range(1, len(drawn) + 1), pa.int32())})
    try:
        result = load_any(path, embedded_database, table, chunk_size=chunk_size)
    except DataError as error:
        if "no row is left" not in str(error):
            raise
        return
    shown = {
        pa.binary(): "encode(a, 'hex')",
        pa.date32(): "(a - '1970-01-01')::text",
        pa.time64("ns"): "(extract(epoch FROM a) * 1000000000)::numeric::text",
        pa.timestamp("ns"): "(extract(epoch FROM a) * 1000000000)::numeric::text",
        pa.timestamp("us"): "(extract(epoch FROM a) * 1000000)::numeric::text",
        pa.timestamp("s", "UTC"): "extract(epoch FROM a)::numeric::text",
    }.get(type, "a::text")
    loaded = dict(query(embedded_database_url, f"SELECT n, {shown} FROM {table}"))
    bad = query(
        embedded_database_url,
        f"SELECT number FROM taxi_ingest.rejects WHERE load_id = {result.record.load_id}",
    )
    assert sorted([*loaded, *(number for (number,) in bad)]) == list(range(1, len(drawn) + 1))
    for number, stored in loaded.items():
        assert _same_value(drawn[int(str(number)) - 1], stored, type)
    execute(embedded_database_url, f"DROP TABLE {table}")


def _same_value(value: object, stored: object, type: pa.DataType) -> bool:
    if value is None or value != value:
        return stored is None
    if isinstance(value, bool):
        return stored == str(value).lower()
    if isinstance(value, bytes):
        return stored == value.hex()
    if isinstance(value, str):
        return stored == value
    if isinstance(value, float):
        return pc.equal(
            pa.array([float(str(stored))], pa.float64()).cast(type, safe=False), pa.array([value], type)
        )[0].as_py()
    return Decimal(str(stored)) == Decimal(str(value))
