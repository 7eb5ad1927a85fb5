"""A file is read whole, whatever its line ends, quotes, blanks and chunk size; or it is refused."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import written
from taxi_ingest.errors import DataError, SourceError
from taxi_ingest.read import Batch, Format, Reject, inspect, open_reader


def read(
    path: Path,
    chunk_size: int = 100_000,
    quoted_newlines: bool = True,
    types: dict[str, pa.DataType] | None = None,
) -> list[Batch]:
    layout = inspect(path)
    types = types or {field.name: field.type for field in layout.schema}
    reader = open_reader(path, layout, types, quoted_newlines)
    return [reader.parse(piece) for piece in reader.pieces(chunk_size)]


def rows(batches: list[Batch]) -> list[dict[str, object]]:
    return [row for batch in batches for row in batch.rows.to_pylist()]


def rejects(batches: list[Batch]) -> list[Reject]:
    return [reject for batch in batches for reject in batch.rejects]


def test_types_are_guessed_from_the_first_rows(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b,c,d\n1,2.5,x,2024-01-31 10:00:00\n")
    assert [str(field.type) for field in inspect(path).schema] == [
        "int64",
        "double",
        "string",
        "timestamp[us]",
    ]


def test_a_blank_line_after_the_header_is_no_row(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b"a,b\n\r\n1,2\r\n3,4\r\n"))
    assert rows(batches) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_empty_fields_behind_the_named_ones_are_ignored(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b"a,b\n1,2,,\n3,4,,\n"))
    assert rows(batches) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]


def test_a_value_behind_the_named_fields_is_not_dropped_silently(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b"a,b\n1,2,,\n3,4,x,\n"))
    assert rows(batches) == [{"a": "1", "b": "2"}]
    assert rejects(batches) == [Reject(3, None, "4 fields instead of 2", "3,4,x,")]


def test_a_row_cut_off_at_the_end_is_rejected_with_its_line(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b"a,b\n1,2\n3,4\n5"))
    assert rejects(batches) == [Reject(4, None, "1 fields instead of 2", "5")]
    assert len(rows(batches)) == 2


def test_empty_and_quoted_empty_fields_are_null_and_n_a_is_a_value(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b'a,b\n"",x\n,N/A\n1,NA\n'))
    assert rows(batches) == [{"a": None, "b": "x"}, {"a": None, "b": "N/A"}, {"a": 1, "b": "NA"}]


def test_a_line_end_inside_quotes_belongs_to_the_value(tmp_path: Path) -> None:
    content = b'a,b\n"x\ny",1\n"z",2\n'
    for chunk_size in (1, 2, 100):
        assert rows(read(written(tmp_path, content), chunk_size))[0] == {"a": "x\ny", "b": 1}


def test_one_stray_quote_in_a_tlc_file_swallows_no_other_row(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\n1,"2\n3,4\n5,6\n')
    batches = read(path, quoted_newlines=False)
    assert [reject.number for reject in rejects(batches)] == [2]
    assert [row["a"] for row in rows(batches)] == ["3", "5"]


def test_bytes_that_postgres_cannot_store_are_rejected_readably(tmp_path: Path) -> None:
    batches = read(written(tmp_path, b"a,b\nx,1\ny\xff,2\nz\0,3\n"))
    assert [(reject.number, reject.raw) for reject in rejects(batches)] == [(3, "y\\xff,2"), (4, "z\\x00,3")]


def test_a_file_in_another_encoding_is_text_whose_rows_are_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n1,Zürich\n2,Bern\n".encode("latin-1"))
    assert [str(field.type) for field in inspect(path).schema] == ["int64", "string"]
    batches = read(path)
    assert rejects(batches) == [Reject(2, None, "not UTF-8", "1,Z\\xfcrich")]
    assert [row["b"] for row in rows(batches)] == ["Bern"]


def test_names_are_made_unique_and_never_empty(tmp_path: Path) -> None:
    assert inspect(written(tmp_path, b"a,A,,\xef\xbb\xbfb\n1,2,3,4\n")).header[:3] == (
        "a",
        "A_2",
        "column_3",
    )


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert inspect(written(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")).header == ("a", "b")


def test_a_name_may_hold_a_line_end_inside_quotes(tmp_path: Path) -> None:
    path = written(tmp_path, b'"a\nb","c"\n1,2\n')
    assert inspect(path).header == ("a\nb", "c")
    assert rows(read(path)) == [{"a\nb": 1, "c": 2}]


def test_a_row_longer_than_the_first_look_is_read(tmp_path: Path) -> None:
    (row,) = rows(read(written(tmp_path, b"a,b\n1," + b"y" * 3_000_000 + b"\n")))
    assert len(str(row["b"])) == 3_000_000


def test_two_parquet_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.parquet"
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    with pytest.raises(DataError, match="two columns 'a'"):
        inspect(path)


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    assert rows(read(written(tmp_path, b"a,b\n"))) == []


def test_gzip_members_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n3,") + gzip.compress(b"4\n5,6"))
    assert inspect(path).format is Format.CSV_GZ
    assert rows(read(path)) == [{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": 5, "b": 6}]


def test_a_gzip_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)[:-20])
    with pytest.raises(SourceError, match="cut short or damaged"):
        read(path)


def test_parquet_comes_with_its_own_types_and_without_the_numbers_of_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": [1, None], "__index_level_0__": [0, 1]}), path)
    assert inspect(path).rows == 2
    assert rows(read(path)) == [{"a": 1}, {"a": None}]


def test_parquet_damaged_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": list(range(100_000))}), path)
    content = bytearray(path.read_bytes())
    content[4:2000] = bytes(1996)
    path.write_bytes(content)
    with pytest.raises(SourceError, match="damaged"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b" \n\n", "is empty"),
        ("x.csv.gz", b"\n\n<!DOCTYPE html><html></html>", "HTML"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS pointer"),
        ("x.parquet", b"PAR1" + b"0" * 100, "without its footer"),
        ("x.parquet", b"a,b\n1,2\n", "not a Parquet file"),
        ("x.csv", b"PK\x03\x04....", "cut short or damaged"),
        ("x.csv", b'{"a": 1}', "JSON"),
        ("x.csv", b"\x89abc\0\0", "neither CSV nor Parquet"),
        ("x.csv", b"<<<<<<< HEAD\na,b\n", "conflict markers"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message):
        inspect(path)


def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no readable header"):
        inspect(written(tmp_path, b"a\xff\xfe,b\n1,2\n"))


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    table=st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), _TEXT.filter(str.strip)), min_size=1, max_size=30
    ),
    line_end=st.sampled_from([b"\n", b"\r\n"]),
    final_line_end=st.booleans(),
    zipped=st.booleans(),
    chunk_size=st.integers(1, 40),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    table: list[tuple[int, str]],
    line_end: bytes,
    final_line_end: bool,
    zipped: bool,
    chunk_size: int,
) -> None:
    lines = [
        b"number,text",
        *(f'{number},"{text.replace(chr(34), chr(34) * 2)}"'.encode() for number, text in table),
    ]
    content = line_end.join(lines) + (line_end if final_line_end else b"")
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(gzip.compress(content) if zipped else content)
    batches = read(path, chunk_size, types={"number": pa.int64(), "text": pa.string()})
    # A number is a text still where the piece has what Arrow might take for another one ("E-").
    assert [(int(row["number"]), row["text"]) for row in rows(batches)] == table
    assert rejects(batches) == []
    assert all(batch.rows_read <= chunk_size for batch in batches)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), chunk_size=st.integers(1, 30), quoted_newlines=st.booleans())
def test_every_line_is_loaded_or_rejected_whatever_is_corrupted(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, chunk_size: int, quoted_newlines: bool
) -> None:
    lines = [f"{number},text {number},2024-01-01 00:00:{number:02}".encode() for number in range(20)]
    body = bytearray(b"\n".join(lines))
    # Where quotes may hold line ends, a stray one makes one row of several lines.
    bytes_drawn = st.integers(0, 255).filter(lambda byte: byte != ord('"') or not quoted_newlines)
    for _ in range(data.draw(st.integers(1, 5))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(bytes_drawn)
    path = written(tmp_path_factory.mktemp("any"), b"a,b,c\n" + bytes(body))
    batches = read(path, chunk_size, quoted_newlines)
    filled = [line for line in bytes(body).split(b"\n") if line.strip(b"\r")]
    assert sum(batch.rows_read for batch in batches) == len(filled)


def test_a_lone_carriage_return_in_the_first_row_is_a_damaged_row(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(b"a,b\n1,2\r\0x,3\n4,5\n")
    assert [reject.number for reject in rejects(read(path))] == [2]
