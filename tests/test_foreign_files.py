"""Files that are not TLC's, however they are written: read right, or refused with a reason.

Where DuckDB's sniffer reads such a file right, ours must read the same.
"""

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders import written
from helpers import SHARED_DATA, Cli, query, run_python
from taxi_ingest import tlc
from taxi_ingest.errors import DataError, SourceError, TaxiIngestError, UsageError
from taxi_ingest.load.types import for_postgres
from taxi_ingest.read import Batch, Format, Reject, inspect, open_reader
from taxi_ingest.read import csv_rows as row_rules
from taxi_ingest.read.csv_rows import RowRules, cut, row_ends
from taxi_ingest.sources.source import look_at
from taxi_ingest.transform import open_stream


def read(
    path: Path, delimiter: str | None = None, header: bool | None = None, chunk_size: int = 100_000
) -> list[Batch]:
    layout = inspect(path, delimiter, header)
    types = {field.name: field.type for field in layout.schema}
    reader = open_reader(path, layout, types, quoted_newlines=True)
    return [reader.parse(piece) for piece in reader.pieces(chunk_size)]


def rows(batches: list[Batch]) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for batch in batches for row in batch.rows.to_pylist()]


def rejects(batches: list[Batch]) -> list[Reject]:
    return [reject for batch in batches for reject in batch.rejects]


# What the file holds; its header; its rows; what the notes say (a part of it, empty for no note).
READ = [
    ("a;b;c\n1;x;2.5\n2;y;3.5\n", "a b c", [(1, "x", 2.5), (2, "y", 3.5)], "separated by semicolons"),
    ("a\tb\n1\tx\n2\ty\n", "a b", [(1, "x"), (2, "y")], "separated by tabs"),
    ("a|b\n1|x\n2|y\n", "a b", [(1, "x"), (2, "y")], "separated by vertical bars"),
    ("a,b\r\n1,x\r\n", "a b", [(1, "x")], ""),
    ("a,b\r1,x\r2,y\r", "a b", [(1, "x"), (2, "y")], ""),
    ('a,b\r1,"x\ry"\r2,z', "a b", [(1, "x\ry"), (2, "z")], ""),
    ("\ufeffa;b\n1;2\n", "a b", [(1, 2)], "semicolons"),
    ("sep=;\r\na;b\r\n1;2\r\n", "a b", [(1, 2)], "names the delimiter"),
    ('\ufeff"sep=|"\na|b\n1|2\n', "a b", [(1, 2)], "names the delimiter"),
    ("sep=,\na,b\n1,2\n", "a b", [(1, 2)], "names the delimiter"),
    ("sep=^\na^b\n1^2\n", "a b", [(1, 2)], "names the delimiter"),
    ("name;price\nA;1,5\nB;2,5\n", "name price", [("A", "1,5"), ("B", "2,5")], "decimal comma"),
    ("a;b\n1,5;2,5\n3,5;4,5\n", "a b", [("1,5", "2,5"), ("3,5", "4,5")], "decimal comma"),
    ('a,b\n1,"x;y;z"\n2,"p;q;r"\n', "a b", [(1, "x;y;z"), (2, "p;q;r")], ""),
    ('"a";"b"\n"1";"x, y"\n"2";"z, w"\n', "a b", [(1, "x, y"), (2, "z, w")], "semicolons"),
    ("id,tags\n1,a|b\n2,c|d\n", "id tags", [(1, "a|b"), (2, "c|d")], ""),
    ("id,t\n1,a;b\n2,c\n", "id t", [(1, "a;b"), (2, "c")], ""),
    (
        "Report\n\nid;name\n1;A\n2;B\n",
        "id name",
        [(1, "A"), (2, "B")],
        "Left out before the header: 'Report'",
    ),
    ("# one\n# two, three\nid,name,v\n1,a,2\n", "id name v", [(1, "a", 2)], "'# one', '# two, three'"),
    ("By,Jane\nid,name,v\n1,a,2.5\n", "id name v", [(1, "a", 2.5)], "'By,Jane'"),
    ("Report;;\nid;name;v\n1;a;2\n", "id name v", [(1, "a", 2)], "'Report;;'"),
    ("\n\nid,name\n1,a\n", "id name", [(1, "a")], ""),
    ("#id,name\n1,a\n2,b\n", "#id name", [(1, "a"), (2, "b")], ""),
    (
        "country,2019,2020\nFR,1.5,2.5\nDE,3.5,4.5\n",
        "country 2019 2020",
        [("FR", 1.5, 2.5), ("DE", 3.5, 4.5)],
        "",
    ),
    ("at,1/22/20,1/23/20\nFR,1,2\n", "at 1/22/20 1/23/20", [("FR", 1, 2)], ""),
    (",a\n0,x\n1,y\n", "column_1 a", [(0, "x"), (1, "y")], ""),
    ("name,city\nAnn,Bern\nBob,Rome\n", "name city", [("Ann", "Bern"), ("Bob", "Rome")], ""),
    ("a,a,a_3,a\n1,2,3,4\n", "a a_2 a_3 a_4", [(1, 2, 3, 4)], ""),
    ("a,b,b_4,b\n1,2,3,4\n", "a b b_4 b_4_4", [(1, 2, 3, 4)], ""),
    ("a,b,\n1,2,3\n", "a b column_3", [(1, 2, 3)], ""),
    ("v\n1\n2\n", "v", [(1,), (2,)], "one column"),
    ("t\nx:1\ny:2\n", "t", [("x:1",), ("y:2",)], "one column"),
    ('a,b\n1,5" pipe\n2,6" pipe\n', "a b", [(1, '5" pipe'), (2, '6" pipe')], ""),
    ('a,b\n1,"say ""hi"""\n2,""\n', "a b", [(1, 'say "hi"'), (2, None)], ""),
    ('a,"b\nc"\n1,2\n', "a b\nc", [(1, 2)], ""),
]


@pytest.mark.parametrize(("content", "header", "expected", "note"), READ, ids=[case[0] for case in READ])
def test_a_file_is_read_as_it_is_written(
    tmp_path: Path, content: str, header: str, expected: list[tuple[object, ...]], note: str
) -> None:
    path = written(tmp_path, content)
    layout = inspect(path)
    assert layout.header == tuple(header.split(" "))
    assert rows(read(path)) == expected
    assert rejects(read(path)) == []
    assert note in " ".join(layout.notes)
    assert bool(note) == bool(layout.notes)


# Not among them: what DuckDB takes otherwise (BOM with sep=, CR inside quotes, titles of several fields, …).
ALSO_READ_BY_DUCKDB = [0, 1, 2, 3, 6, 13, 15, 26]


@pytest.mark.parametrize("case", ALSO_READ_BY_DUCKDB)
def test_duckdb_reads_the_same(tmp_path: Path, case: int) -> None:
    path = written(tmp_path, READ[case][0])
    theirs = duckdb.sql(f"FROM read_csv('{path}')")
    assert tuple(theirs.columns) == inspect(path).header
    assert theirs.fetchall() == rows(read(path))


NO_HEADER = [
    "1,2,3\n4,5,6\n",
    "5,6,7\n",
    "FR,1.5,2.5\nDE,2.5,3.5\nIT,1,2\n",
    "Paris,2019,12\nRome,2020,15\n",
    "1,2021-01-01 00:30:10,2021-01-01 00:36:12,N,5.5\n2,2021-01-01 00:30:10,2021-01-01 00:36:12,N,6\n",
    '1;"EWR";"Newark"\n2;"Queens";"Jamaica Bay"\n',
    "1\n2\n3\n",
    "x,,1\ny,2,2\nz,3,3\n",
    "2019-01-01,a\n2019-01-02,b\n",
    "true,x\nfalse,y\n",
    "a,b\n1,2,3\n4,5,6\n".partition("\n")[2],
    "# a comment\n1,2\n3,4\n",
]


@pytest.mark.parametrize("content", NO_HEADER)
def test_what_looks_like_no_header_is_refused_unless_told(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match="no header") as refused:
        inspect(path)
    assert "--no-header" in refused.value.hint
    lines = [line for line in content.splitlines() if line[0] != "#"]
    without = inspect(path, header=False)
    assert without.header == tuple(f"column_{n}" for n in range(1, len(without.header) + 1))
    assert len(rows(read(path, header=False))) == len(lines)
    assert len(rows(read(path, header=True))) == len(lines) - 1


@pytest.mark.parametrize("spelled", ["tab", "\\t", "\t", "TAB"])
def test_a_delimiter_can_be_told(tmp_path: Path, spelled: str) -> None:
    path = written(tmp_path, "a,b\tc\n1,2\t3\n")
    assert inspect(path, delimiter=spelled).header == ("a,b", "c")
    assert inspect(path, delimiter=",").header == ("a", "b\tc")


@pytest.mark.parametrize("delimiter", [":", "^", "space", "~"])
def test_an_unusual_delimiter_can_be_told(tmp_path: Path, delimiter: str) -> None:
    sign = " " if delimiter == "space" else delimiter
    path = written(tmp_path, f"a{sign}b\n1{sign}x\n")
    assert rows(read(path, delimiter=delimiter)) == [(1, "x")]


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n", "ü", "\0"])
def test_what_is_no_delimiter_is_refused(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(UsageError, match="no delimiter"):
        inspect(written(tmp_path, "a,b\n1,2\n"), delimiter=delimiter)


def test_parquet_has_neither_delimiter_nor_header(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UsageError, match="Parquet"):
        inspect(path, delimiter=";")
    with pytest.raises(UsageError, match="Parquet"):
        inspect(path, header=False)


TLC_FILE = SHARED_DATA / "csv" / "yellow_tripdata_2020-07.csv"
with_tlc_files = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason=f"no real TLC files: {SHARED_DATA} is absent"
)


@with_tlc_files
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b",", b";"),
        lambda text: text.replace(b",", b"\t"),
        lambda text: text.replace(b",", b"|"),
        lambda text: b"\xef\xbb\xbfsep=,\r\n" + text,
        lambda text: b"Trips of July\r\n\r\n" + text,
        lambda text: text.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    ],
)
def test_a_tlc_file_is_recognised_however_it_is_written(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    original = open_stream(TLC_FILE, TLC_FILE.name, 1000)
    assert original.plan.warnings == ()
    path = written(tmp_path, change(TLC_FILE.read_bytes()))
    stream = open_stream(path, TLC_FILE.name, 1000)
    assert (stream.plan.dataset, stream.plan.month) == ("yellow", "2020-07")
    convert, convert_original = stream.converter(), original.converter()
    assert [convert(piece).rows for piece in stream.pieces()] == [
        convert_original(piece).rows for piece in original.pieces()
    ]


@with_tlc_files
def test_a_tlc_file_without_its_header_is_refused_unless_told(tmp_path: Path) -> None:
    path = written(tmp_path, TLC_FILE.read_bytes().partition(b"\n")[2])
    with pytest.raises(DataError, match="no header"):
        open_stream(path, TLC_FILE.name, 1000)
    stream = open_stream(path, TLC_FILE.name, 1000, header=False)
    assert stream.plan.dataset is None
    assert stream.plan.columns[0].name == "column_1"


@with_tlc_files
def test_no_file_of_tlcs_gets_a_note_about_how_it_is_written() -> None:
    files = [*(SHARED_DATA / "csv_heads").iterdir(), *(SHARED_DATA / "variants").glob("*.csv")]
    assert [(path.name, inspect(path).notes) for path in files if inspect(path).notes] == []


def test_the_command_line_tells_and_takes_how_a_file_is_written(
    cli: Cli, embedded_database_url: str, tmp_path: Path
) -> None:
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    path = written(tmp_path, "Ann;1,5\nBob;2,5\nCid;7\n")
    command = ("ingest", "--url", path, "--table", "people", "--json")
    refused = cli(*command, env=env)
    assert refused.returncode == 4
    assert "--no-header" in json.loads(refused.stdout)["hint"]
    assert cli(*command, "--delimiter", ";;", env=env).returncode == 2
    loaded = cli(*command, "--no-header", "--delimiter", ";", env=env)
    assert loaded.returncode == 0, loaded.stderr
    assert query(embedded_database_url, "SELECT column_1, column_2 FROM people ORDER BY 1") == [
        ("Ann", "1,5"),
        ("Bob", "2,5"),
        ("Cid", "7"),
    ]
    found = cli("ingest", "--url", written(tmp_path, "a;b\n1;2\n"), "--table", "found", "--json", env=env)
    assert json.loads(found.stdout)["notes"] == ["Its fields are separated by semicolons."]


def test_a_folder_of_parquet_parts_is_refused_with_the_command_that_loads_them(tmp_path: Path) -> None:
    folder = tmp_path / "my trips"
    folder.mkdir()
    for part in range(5):
        (folder / f"part-{part}.parquet").touch()
    with pytest.raises(SourceError, match=r"5 Parquet files .*part-0.*…") as refused:
        look_at(folder, "file:///x", "x")
    assert refused.value.hint == f"Load each: taxi-ingest ingest '{folder}' --table TABLE"


def test_a_ragged_row_spoils_neither_types_nor_other_rows(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n1,2.5\n3\n4,5.5,6\n7,8.5\n")
    batches = read(path)
    assert [str(field.type) for field in inspect(path).schema] == ["int64", "double"]
    assert rows(batches) == [(1, 2.5), (7, 8.5)]
    assert rejects(batches) == [
        Reject(3, None, "1 fields instead of 2", "3"),
        Reject(4, None, "3 fields instead of 2", "4,5.5,6"),
    ]


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_ragged_row_among_quotes_blank_lines_and_other_damage_is_found_exactly(tmp_path: Path) -> None:
    content = b'a,b\n1,"x\ny"\n\n\xff\n2\n"3",z,\n4,"w,5\n6,v\n'
    batches = read(written(tmp_path, content))
    assert [(reject.number, reject.raw) for reject in rejects(batches)] == [
        (5, "\\xff"),
        (6, "2"),
        (8, '4,"w,5'),
    ]
    assert [(str(a), b) for a, b in rows(batches)] == [("1", "x\ny"), ("3", "z"), ("6", "v")]


@pytest.mark.parametrize(
    ("content", "quoted_newlines", "read", "rejected"),
    [
        # Arrow would read as many rows as there are lines, but other ones.
        (b'"x\ny",1\n3,4\r5,6\n', True, [("x\ny", "1")], ["3,4\r5,6"]),
        (b'1,"x\n2,y"z\n3,4\r5,6\n', True, [("2", 'y"z')], ['1,"x', "3,4\r5,6"]),
        (b'"1\n2",3\n4,5\r6,7\n', False, [('2"', "3")], ['"1', "4,5\r6,7"]),
        (b'1,2\n1\n"5\n6",7\n', False, [("1", "2"), ('6"', "7")], ["1", '"5']),
    ],
)
def test_rows_that_arrow_sees_otherwise_are_taken_apart(
    tmp_path: Path,
    content: bytes,
    quoted_newlines: bool,
    read: list[tuple[str, str]],
    rejected: list[str],
) -> None:
    path = written(tmp_path, b"a,b\n" + content)
    types = {"a": pa.string(), "b": pa.string()}
    reader = open_reader(path, inspect(path), types, quoted_newlines)
    batches = [reader.parse(piece) for piece in reader.pieces(100)]
    assert rows(batches) == read
    assert [reject.raw for reject in rejects(batches)] == rejected


def test_the_number_of_a_row_behind_a_ragged_one_is_right(tmp_path: Path) -> None:
    (batch,) = read(written(tmp_path, "a,b\n1,2\n3\n\n4,5\n6,7\n"))
    assert [batch.locate(index) for index in range(3)] == [(2, "1,2"), (5, "4,5"), (6, "6,7")]


def test_a_damaged_row_says_nothing_about_types(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\n1,"x\n2,3\n4,5\n\xff,"6"\n')
    assert [str(field.type) for field in inspect(path).schema] == ["string", "int64"]


STRAY = [
    # the row that has one; what is rejected
    ('9,"x,1\n', '9,"x,1'),
    ('9,"x"y\n', None),
    ('9,"x"y\n8,"\n', '8,"'),
    ('"\n', '"'),
    ('9,"""\n', '9,"""'),
    ('9,"a""\n', '9,"a""'),
    ('9,8,"x\n', '9,8,"x'),
]


@pytest.mark.parametrize(("row", "rejected"), STRAY)
@pytest.mark.parametrize("other", ["1,x\n", '1,"x"\n', '1,"x\ny"\n'])
def test_a_stray_quote_costs_its_own_row_alone(
    tmp_path: Path, row: str, rejected: str | None, other: str
) -> None:
    path = written(tmp_path, "n,t\n" + other * 50 + row + other * 50)
    batches = read(path, chunk_size=7)
    assert [reject.raw for reject in rejects(batches)] == ([rejected] if rejected else [])
    assert sum(1 for number, _ in rows(batches) if str(number) == "1") == 100


def test_a_quote_reaches_so_far_and_no_further(tmp_path: Path) -> None:
    reach = row_rules.QUOTE_REACH_BYTES
    for length, is_read in ((reach - 1, True), (reach, False)):
        value = ("y" * 1023 + "\n") * (reach // 1024)
        value = value[:length]
        batches = read(written(tmp_path, f'n,t\n1,"{value}"\n2,z\n'))
        first, last = rows(batches)[0], rows(batches)[-1]
        assert str(last[0]) == "2"
        assert (str(first[0]), first[1]) == ("1", value) if is_read else ("2", "z")
        assert bool(rejects(batches)) == (not is_read)


def reference(content: bytes, reach: int) -> list[tuple[int, int, bool]]:
    """Start, end and whether it is damaged of each row, byte by byte as rows.py's docstring says."""
    found, position, start, at_start = [], 0, 0, True
    while position < len(content):
        byte = content[position : position + 1]
        if byte == b'"' and at_start:
            close = position + 1
            while (close := content.find(b'"', close)) != -1 and content[close + 1 : close + 2] == b'"':
                close += 2
            line = content.find(b"\n", position) % (len(content) + 1)
            closed = close != -1 and close - position <= reach
            if closed and (close < line or content[close + 1 : close + 2] in (b"", b",", b"\r", b"\n")):
                position, at_start = close + 1, False
                continue
            found.append((start, line, True))
            position = start = line + 1
            at_start = True
            continue
        if byte == b"\n":
            found.append((start, position, False))
            start = position + 1
        at_start = byte in (b",", b"\r", b"\n")
        position += 1
    return [*found, (start, len(content), False)] if start < len(content) else found


@settings(max_examples=100, deadline=None)
@given(
    content=st.text('a",\n\r', max_size=60).map(str.encode),
    reach=st.sampled_from([3, 10, 1000]),
    chunk_size=st.integers(1, 4),
    block_bytes=st.integers(1, 20),
)
@example(b'"a""', 3, 1, 1)
def test_rows_are_cut_alike_whatever_the_size_of_pieces_and_blocks(
    content: bytes, reach: int, chunk_size: int, block_bytes: int
) -> None:
    rules = RowRules()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_rules, "QUOTE_REACH_BYTES", reach)
        expected = reference(content, reach)
        found = row_ends(content, rules)
        assert found.ends.tolist() == [end for _, end, _ in expected if end < len(content)]
        assert sorted(found.damaged) == [end for _, end, damaged in expected if damaged]
        cuts = list(cut(io.BytesIO(content), chunk_size, rules, block_bytes))
    assert [rows.lines for rows in cuts] == [rows.content.count(b"\n") for rows in cuts]
    pieces = [rows.content for rows in cuts]
    whole = b"".join(pieces)
    assert content.startswith(whole)
    assert not content[len(whole) :].strip(b"\r\n")
    starts = [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    assert set(starts) - {len(whole)} <= {start for start, _, _ in expected}
    for first, last in pairwise(starts):
        assert sum(first <= start < last for start, _, _ in expected) <= chunk_size


@given(
    content=st.lists(st.sampled_from([b'"', b"a", b"\n", b"\r", b","]), max_size=60).map(b"".join),
    chunk_size=st.integers(1, 5),
    block_bytes=st.integers(1, 20),
)
def test_without_quoted_line_ends_each_piece_has_the_lines_that_were_asked_for(
    content: bytes, chunk_size: int, block_bytes: int
) -> None:
    cuts = list(cut(io.BytesIO(content), chunk_size, RowRules(quoted_newlines=False), block_bytes))
    whole = b"".join(rows.content for rows in cuts)
    assert content.startswith(whole)
    assert not content[len(whole) :].strip(b"\r\n")
    assert [rows.lines for rows in cuts] == [rows.content.count(b"\n") for rows in cuts]
    assert all(rows.lines == chunk_size and rows.content.endswith(b"\n") for rows in cuts[:-1])
    assert all(rows.lines <= chunk_size for rows in cuts)


_FIELD = st.text(st.sampled_from('ab,;"\n é'), max_size=6)


@settings(max_examples=100, deadline=None)
@given(
    table=st.lists(st.tuples(_FIELD, _FIELD), min_size=1, max_size=20),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    chunk_size=st.integers(1, 8),
)
def test_well_formed_files_are_read_as_pythons_csv_reads_them(
    tmp_path_factory: pytest.TempPathFactory, table: list[tuple[str, str]], delimiter: str, chunk_size: int
) -> None:
    lines = [("number", "x", "y"), *((str(number), *row) for number, row in enumerate(table))]
    text = "\n".join(delimiter.join('"' + field.replace('"', '""') + '"' for field in line) for line in lines)
    path = written(tmp_path_factory.mktemp("any"), text + "\n")
    layout = inspect(path, delimiter, True)
    types = {"number": pa.int64(), "x": pa.string(), "y": pa.string()}
    reader = open_reader(path, layout, types, quoted_newlines=True)
    batches = [reader.parse(piece) for piece in reader.pieces(chunk_size)]
    assert rows(batches) == [(n, x or None, y or None) for n, (x, y) in enumerate(table)]
    assert all(batch.rows_read <= chunk_size for batch in batches)


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def gzipped(content: bytes) -> bytes:
    # Not made now but in 1970: the bytes are part of tests' names.
    return gzip.compress(content, mtime=0)


def zipped(content: bytes, *others: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        # Of 1980.
        for name, text in {"data/file.csv": content, **dict.fromkeys(others, b"a,b\n")}.items():
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
    return target.getvalue()


PACKERS: dict[Format, Callable[[bytes], bytes]] = {
    Format.CSV_GZ: gzipped,
    Format.CSV_ZST: zstd,
    Format.CSV_XZ: lzma.compress,
    Format.CSV_BZ2: bz2.compress,
    Format.CSV_ZIP: zipped,
}
ZSTD_WITH_CHECKSUM = base64.b64decode("KLUv/QRYyQAAaWQsdgoxLDcKMiw3CjMsNwo0LDcKNSw3Cgoig+k=")
"""What the program zstd makes of `id,v` and five rows; Arrow writes no checksum."""
IN_STREAMS = [format for format in PACKERS if format is not Format.CSV_ZIP]
BODY = b"a,b\n" + b"".join(b"%d,%d\n" % (n, random.Random(n).randrange(10**9)) for n in range(20_000))


@pytest.mark.parametrize("format", PACKERS)
def test_a_packed_file_is_read_as_what_is_in_it(tmp_path: Path, format: Format) -> None:
    path = written(tmp_path, PACKERS[format](BODY), "whatever.csv")
    assert inspect(path).format is format
    batches = read(path, chunk_size=5000)
    assert rows(batches) == rows(read(written(tmp_path, BODY, "plain.csv")))
    reader = open_reader(path, inspect(path), {}, quoted_newlines=True)
    positions = [piece.position for piece in reader.pieces(5000)]
    assert positions == sorted(positions)
    assert 0 < positions[-1] <= path.stat().st_size


@pytest.mark.parametrize("format", IN_STREAMS)
def test_packed_streams_one_after_the_other_are_one_file(tmp_path: Path, format: Format) -> None:
    pack = PACKERS[format]
    path = written(tmp_path, pack(b"a,b\n1,2\n3,") + pack(b"4\n5,6"))
    assert rows(read(path)) == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize("format", PACKERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-3],
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[: len(packed) // 2] + b"\x55" * 8 + packed[len(packed) // 2 + 8 :],
        lambda packed: packed[:7],
    ],
    ids=["end", "half", "middle", "start"],
)
def test_a_packed_file_that_is_damaged_is_refused(
    tmp_path: Path, format: Format, damage: Callable[[bytes], bytes]
) -> None:
    packed = ZSTD_WITH_CHECKSUM if format is Format.CSV_ZST else PACKERS[format](BODY)
    path = written(tmp_path, damage(packed))
    with pytest.raises(SourceError, match=r"cut short or damaged|packed in a way"):
        read(path)


@pytest.mark.parametrize("format", IN_STREAMS)
def test_what_follows_a_packed_file_is_not_dropped_silently(tmp_path: Path, format: Format) -> None:
    path = written(tmp_path, PACKERS[format](BODY) + b"garbage, or a stream whose beginning is damaged")
    with pytest.raises(SourceError, match="cut short or damaged"):
        read(path)


def test_xz_may_be_padded(tmp_path: Path) -> None:
    path = written(tmp_path, lzma.compress(b"a,b\n1,2\n") + bytes(8) + lzma.compress(b"3,4\n") + bytes(4))
    assert rows(read(path)) == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(b"a,b\n", "other.csv"), r"2 files: 'data/file.csv', 'other.csv'"),
        (zipped(b"a,b\n", *"123456"), r"7 files: .*, …"),
        (zipped(b"a,b\n", "[Content_Types].xml"), "Excel workbook"),
        (b"PK\x05\x06" + bytes(18), "0 files"),
        (zipped(b"PAR1...."), "itself Parquet or packed"),
        (gzipped(gzipped(b"a,b\n")), "itself Parquet or packed"),
        (gzipped(b"<html></html>"), "HTML"),
        (gzipped(b""), "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\xef\xbb\xbf\r\n\n", "is empty"),
        (b"\r\r", "is empty"),
    ],
)
def test_what_holds_no_csv_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        inspect(written(tmp_path, content))


def test_what_macos_adds_to_a_zip_does_not_count(tmp_path: Path) -> None:
    path = written(tmp_path, zipped(b"a,b\n1,2\n", "__MACOSX/data/._file.csv", "data/"))
    assert rows(read(path)) == [(1, 2)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_of_unicode_are_named(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(TaxiIngestError, match="is UTF-16 text"):
        inspect(written(tmp_path, "name,number\nx,1\n".encode(encoding)))


@pytest.mark.parametrize("format", sorted(set(Format) - {Format.SHAPEFILE, Format.GEOJSON}))
def test_known_rows_of_a_csv_hold_for_a_packed_one(format: Format) -> None:
    kind = "parquet" if format is Format.PARQUET else "csv"
    assert tlc.known_rows("yellow", "2021-01", format) == tlc.known_rows("yellow", "2021-01", kind)
    assert tlc.known_rows("yellow", "2021-01", format)


def test_what_compresses_well_is_loaded(tmp_path: Path) -> None:
    table = pa.table({"a": [0] * 500_000, "text": ["0" * 200] * 500_000})
    pq.write_table(table, tmp_path / "zeros.parquet", compression="zstd")
    pq.write_table(table, tmp_path / "plain.parquet", compression="zstd", use_dictionary=False)
    for name in ("zeros.parquet", "plain.parquet"):
        path = tmp_path / name
        assert table.nbytes > 1000 * path.stat().st_size
        assert sum(batch.rows_read for batch in read(path)) == 500_000
    zeros = written(tmp_path, gzipped(b"a,b\n" + (b"0" * 200 + b",0\n") * 500_000))
    assert sum(batch.rows_read for batch in read(zeros)) == 500_000


@pytest.mark.parametrize("format", [Format.CSV_GZ, Format.CSV_BZ2, Format.CSV_ZIP])
def test_one_endless_line_is_refused(tmp_path: Path, format: Format) -> None:
    path = written(tmp_path, PACKERS[format](b"a,b\n1," + b"0" * (70 << 20)))
    with pytest.raises(DataError, match="longer than 64 MB"):
        read(path)


def test_an_endless_line_behind_rows_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n" + b"1,2\n" * 1_000 + b"0" * (66 << 20))
    for quoted_newlines in (False, True):
        reader = open_reader(path, inspect(path), {"a": pa.int64()}, quoted_newlines)
        with pytest.raises(DataError, match="longer than 64 MB"):
            sum(1 for _ in reader.pieces(100_000))


@pytest.mark.parametrize("quoted_newlines", [False, True])
def test_pieces_of_long_rows_are_small(tmp_path: Path, quoted_newlines: bool) -> None:
    path = written(tmp_path, b"a,b\n" + (b"1," + b"x" * 500_000 + b"\n") * 260)
    reader = open_reader(path, inspect(path), {"a": pa.int64()}, quoted_newlines)
    sizes = [len(piece.content) for piece in reader.pieces(100_000)]
    assert len(sizes) > 1
    assert sum(sizes) == path.stat().st_size - 4
    assert max(sizes) < 70 << 20


def test_a_parquet_file_of_large_values_is_read_in_small_parts(tmp_path: Path) -> None:
    path = tmp_path / "large.parquet"
    pq.write_table(pa.table({"a": ["0" * 500_000] * 280}), path, compression="zstd", use_dictionary=False)
    assert 1 < len(read(path)) < 280


def frame(index: pd.Index, folder: Path) -> Path:
    path = folder / "frame.parquet"
    pd.DataFrame({"a": range(len(index))}, index=index).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("index", "values"),
    [
        (pd.to_datetime(["2021-01-01", "2021-01-03", "2021-01-02"]), datetime(2021, 1, 1)),
        (pd.Index(["x", "y", "z"]), "x"),
        (pd.Index([7, 8, 9]), 7),
        (pd.Index([0, 2, 1]), 0),
        (pd.Index([1.5, 2.5, 3.5]), 1.5),
        (pd.Index([0, 1, None], dtype="Int64"), 0),
        (pd.Index([*range(100_000)] * 2), 0),  # it is looked at in parts of so many rows
    ],
)
def test_an_index_that_carries_data_is_a_column(tmp_path: Path, index: pd.Index, values: object) -> None:
    path = frame(index, tmp_path)
    assert inspect(path).header == ("a", "__index_level_0__")
    assert rows(read(path))[0] == (0, values)


def test_an_index_with_a_name_is_a_column_of_that_name(tmp_path: Path) -> None:
    assert inspect(frame(pd.Index(["x", "y", "z"], name="code"), tmp_path)).header == ("a", "code")


def test_each_level_of_an_index_is_a_column(tmp_path: Path) -> None:
    index = pd.MultiIndex.from_arrays([[0, 1, 2], ["x", "y", "z"]])
    assert inspect(frame(index, tmp_path)).header == ("a", "__index_level_0__", "__index_level_1__")


@pytest.mark.parametrize(
    "index", [pd.RangeIndex(3), pd.Index([0, 1, 2]), pd.Index(range(100_001)).rename(None)]
)
def test_an_index_that_only_numbers_the_rows_is_no_column(tmp_path: Path, index: pd.Index) -> None:
    assert inspect(frame(index, tmp_path)).header == ("a",)


MANY = ",".join(f"c{n}" for n in range(10_000)) + "\n" + ",".join("1" for _ in range(10_000)) + "\n"
TRUNCATED = [
    bytes(content[:length])
    for content in (
        zstd(BODY),
        gzipped(BODY),
        lzma.compress(BODY),
        bz2.compress(BODY),
        zipped(BODY),
    )
    for length in (1, 2, 4, 5, 6, 10, 30, 100, 1000)
]


@pytest.mark.parametrize(
    "content",
    [
        MANY.encode(),
        ("a,b,,,\n" * 3).encode(),
        b"a" * 500_000 + b",b\n1,2\n",
        b'"' * 100_000,
        b'a,"b\n' * 1000,
        b"\0" * 1000,
        b"a\0,b\n1,2\n",
        b'"a\n\0",b\n1,2\n',
        b"\xff" * 100,
        b"a,b\n" + b"\xff" * 100,
        b"PAR1" + bytes(100) + b"PAR1",
        b"PAR1PAR1PAR1",
        b"PAR1" + b"\xff" * 100 + (100).to_bytes(4, "little") + b"PAR1",
        b"sep=;\n",
        b"sep=;",
        b"#\n#\n",
        b",,,\n,,,\n",
        b"\r\n".join([b"a"] * 100),
        *TRUNCATED,
    ],
    ids=lambda content: content[:12],
)
@pytest.mark.parametrize("header", [None, True, False])
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes, header: bool | None) -> None:
    read_or_refused(written(tmp_path, content), header)


def read_or_refused(path: Path, header: bool | None = None) -> None:
    with suppress(SourceError, DataError, UsageError):
        read(path, None, header, chunk_size=100)


@settings(max_examples=100, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.text('ab1";,|\t\n\r#=\0 é', max_size=80).map(str.encode),
        st.builds(
            lambda prefix, rest: prefix + rest,
            st.sampled_from(
                [b"PAR1", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\3\4"]
            ),
            st.binary(max_size=60),
        ),
    ),
    header=st.sampled_from([None, True, False]),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: bool | None
) -> None:
    read_or_refused(written(tmp_path_factory.mktemp("any"), content), header)


def test_a_parquet_file_with_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"name": [1]}), target, store_schema=False)
    with pytest.raises(SourceError, match="damaged"):
        read(written(tmp_path, target.getvalue().replace(b"name", b"na\xff\xff"), "x.parquet"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_parquet_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    target = io.BytesIO()
    pq.write_table(pa.table({"a": list(range(50)), "b": ["x", None] * 25}), target)
    content = bytearray(target.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(4, len(content) - 9))] = data.draw(st.integers(0, 255))
    read_or_refused(written(tmp_path_factory.mktemp("any"), bytes(content), "x.parquet"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'"a\n\0",b\nx,y\n', "a NUL byte"),
        (b"a" * 2_000_000 + b",b\n1,2\n", "header longer than 1 MB"),
        ("name,number\nx,1\n".encode("utf-16-le"), "UTF-16"),
    ],
    ids=["NUL", "long", "UTF-16"],
)
def test_a_header_that_cannot_be_one_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        inspect(written(tmp_path, content))


@pytest.mark.parametrize("columns", [1_600, 1_700, 10_000])
def test_more_columns_than_a_table_holds_are_refused(tmp_path: Path, columns: int) -> None:
    header = ";".join(f"c{n}" for n in range(columns))
    path = written(tmp_path, header + "\n" + ";".join(["1"] * columns))
    with pytest.raises(DataError, match=f"{columns:,} columns"):
        for_postgres(open_stream(path, path.name, 10))


_LOADED = """
import sys
from pathlib import Path
from taxi_ingest.sources import local_file
from taxi_ingest.settings.job import Job
from taxi_ingest.load import database_at, load_file, parse_target
from taxi_ingest.transform import open_stream
stream = open_stream(Path(sys.argv[1]), sys.argv[1], 10)
job = Job(sys.argv[1], "t")
result = load_file(stream, local_file(sys.argv[1]), parse_target("t"), database_at(sys.argv[2]), job)
record = result.record
print(record.rows_loaded, record.rows_rejected, [name for name in sys.modules if name == "pandas"])
"""

KINDS = {
    "whole": "1",
    "fraction": "0.1234567890123456",
    "exact": "12345678901234567890.5",
    "truth": "yes",
    "day": "2019-03-01",
    "time": "10:20:30",
    "moment": "03/01/2019 12:02:21 PM",
    "zoned": "2019-03-01T12:02:21+01:00",
    "text": "a-b-e-f",
}


def test_a_csv_of_any_kind_of_value_is_loaded_without_pandas(
    tmp_path: Path, embedded_database_url: str
) -> None:
    row = ",".join(KINDS.values())
    rows = [row] * 200 + [row.replace("1,", "NA,", 1), row + ",surplus", row.replace("1,", "2.5,", 1)]
    path = written(tmp_path, "\n".join([",".join(KINDS), *rows, ""]))
    command = [sys.executable, "-c", _LOADED, path, embedded_database_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "202 1 []\n"


_PEAK = """
import resource, sys
from pathlib import Path
from taxi_ingest.read import inspect, open_reader
layout = inspect(Path(sys.argv[1]))
types = {field.name: field.type for field in layout.schema}
reader = open_reader(Path(sys.argv[1]), layout, types, quoted_newlines=True)
rows = sum(reader.parse(piece).rows_read for piece in reader.pieces(20_000))
# On Linux ru_maxrss also counts the process that started this one.
status = Path("/proc/self/status")
if status.exists():
    peak = status.read_text().partition("VmHWM:")[2].split()[0]
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(rows, peak)
"""


def peak(path: Path) -> tuple[int, int]:
    """Rows, and the most memory that a process held which read them, in MB."""
    count, unit = map(int, run_python(_PEAK, path).stdout.split())
    return count, unit // (1 << 20 if sys.platform == "darwin" else 1 << 10)


def quoted(count: int, stray: bool) -> bytes:
    lines = b"".join(b'%d,"some, text",%d.5\n' % (n, n) for n in range(20_000))
    return b"n,t,v\n" + (b'0,"x,1\n' if stray else b"") + lines * (count // 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quoted", "stray quote", "lone quote", "gz", "parquet"])
def test_memory_stays_flat(tmp_path: Path, kind: str) -> None:
    peaks = []
    for rows_written in (400_000, 1_600_000):
        content = quoted(rows_written, stray="stray" in kind)
        if kind == "lone quote":
            content = content.replace(b'"some, text"', b"some text").replace(b"0,", b'0,"', 1)
        path = tmp_path / "file"
        if kind == "parquet":
            table = pa.table({"n": range(rows_written), "t": [str(n) for n in range(rows_written)]})
            pq.write_table(table, path, compression="zstd")
        else:
            path.write_bytes(gzip.compress(content, 1) if kind == "gz" else content)
        count, megabytes = peak(path)
        assert count >= rows_written
        peaks.append(megabytes)
    assert peaks[1] < peaks[0] + 60, peaks
