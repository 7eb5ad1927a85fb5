"""Where a CSV's header is found and read, and how the file is written: its delimiter, its lines.

Whoever knows better says so (`--delimiter`, `--header`, `--no-header`); what was found is told in notes,
and a first row that looks like data rather than a header is refused unless told.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from taxi_ingest.errors import DataError, UsageError
from taxi_ingest.read.csv_rows import RowRules, row_ends

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""Those that are looked for, the likeliest first."""
_SPELLED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_LOOK_ROWS = 100
_KIND_ROWS = 30
_LOOK_BYTES = 1 << 17
_BOM = b"\xef\xbb\xbf"

# A first line that tells Excel the delimiter.
_SEP_LINE = re.compile(rb'"?sep=([\t !#-~])"?[;,]*(\r\n|\n|\r)', re.IGNORECASE)

_NUMBER = re.compile(r"[+-]?[$€£]?[+-]?(\d[\d.,'_]*|[.,]\d+)([eE][+-]?\d+)?%?")
_TIME = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d.*)?|\d{1,2}:\d{2}.*")
_TRUTH = re.compile(r"true|false", re.IGNORECASE)
_KINDS = (_TRUTH, _TIME, _NUMBER)
_YEAR = re.compile(r"(19|20)\d\d")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
_NO_VALUE = frozenset({"", "null", "nan", "na", "n/a", "none", "\\n", "-"})


@dataclass(frozen=True)
class _Dialect:
    """How a CSV is written."""

    rules: RowRules
    has_header: bool
    starts_at_byte: int
    """Where the header begins, or the first row in a file without one."""
    fields: int
    """How many most rows have."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Header:
    """What the beginning of a CSV says of all of it."""

    names: tuple[str, ...]
    """Unique and never empty; `column_1`, `column_2`, … in a file without a header."""
    rules: RowRules
    data_starts_at_byte: int
    blank_lines: int
    """Behind the header."""
    trailing_fields: int
    """Empty fields at the end of each row for which the header has no name."""
    notes: tuple[str, ...]


def parse_delimiter(text: str | None) -> str | None:
    """A delimiter as it is written on a command line: one ASCII character, or `tab`, `\\t`, ….

    Raises UsageError for all else.
    """
    if text is None:
        return None
    delimiter = _SPELLED.get(text.lower(), text)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
        raise UsageError(
            f"{text!r} is no delimiter.", "Give one character, such as --delimiter ';' or --delimiter tab."
        )
    return delimiter


def read_header(
    sample: bytes, whole: bool, name: str, delimiter: str | None = None, has_header: bool | None = None
) -> Header:
    """The header of a CSV that begins with `sample` (all of it, if `whole`).

    What the caller knows is not looked for. Raises DataError where there is none that can be read, and where
    the first row looks like data and nobody said whether it is.
    """
    dialect = _find_dialect(sample, whole, name, delimiter, has_header)
    rules = dialect.rules
    start = end = dialect.starts_at_byte
    names = [f"column_{position}" for position in range(1, dialect.fields + 1)]
    blank_lines = 0
    if dialect.has_header:
        end += _first_row(sample[start:], rules, whole, name)
        names = _names(sample[start:end], rules, name)
        start, end = end, end + _blank_prefix(sample[end:])
        blank_lines = sample.count(rules.line_end, start, end)
    rows = whole_rows(sample[end:], whole, rules)
    return Header(
        tuple(names), rules, end, blank_lines, _trailing_fields(rows, len(names), rules), dialect.notes
    )


def whole_rows(data: bytes, whole: bool, rules: RowRules) -> bytes:
    """The data, which are all there are if `whole`, up to their last line end."""
    return data if whole else data[: data.rfind(rules.line_end) + 1]


def _first_row(sample: bytes, rules: RowRules, whole: bool, name: str) -> int:
    """Bytes of the first row with its line end, which is not inside quotes."""
    ends = row_ends(sample, rules, final=whole).ends
    if not len(ends) and not whole:
        raise DataError(f"{name} has a header longer than 1 MB.", "Is this really a CSV file?")
    return int(ends[0]) + 1 if len(ends) else len(sample)


def _names(line: bytes, rules: RowRules, file_name: str) -> list[str]:
    """The names of a header line, unique and never empty."""
    try:
        text = line.decode().rstrip("\r\n")
        fields = next(csv.reader([text], delimiter=rules.delimiter, strict=True))
        if "\0" in text:
            raise csv.Error("a NUL byte")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file_name} has no readable header: {error}.", "Load a CSV in UTF-8 whose header is one row."
        ) from error
    names: list[str] = []
    taken: set[str] = set()
    for position, field in enumerate(fields, start=1):
        name = field.strip() or f"column_{position}"
        while name.lower() in taken:
            name = f"{name}_{position}"
        taken.add(name.lower())
        names.append(name)
    return names


def _blank_prefix(data: bytes) -> int:
    """Bytes of the blank lines that TLC put behind the header from 2009 to 2018."""
    return len(data) - len(data.lstrip(b"\r\n"))


def _trailing_fields(data: bytes, columns: int, rules: RowRules) -> int:
    """Fields that the first row has beyond the header's names; 2 in TLC's files of 2013 to 2016."""
    surplus = _fields(data[: data.find(rules.line_end) + 1 or len(data)], rules.delimiter)[columns:]
    return 0 if any(surplus) else len(surplus)


def _find_dialect(
    sample: bytes, whole: bool, name: str, delimiter: str | None, header: bool | None
) -> _Dialect:
    line_end = b"\r" if b"\r" in sample and b"\n" not in sample else b"\n"
    start = len(_BOM) if sample.startswith(_BOM) else 0
    notes: list[str] = []
    if named := _SEP_LINE.match(sample, start):
        start = named.end()
        notes.append("The first line, which names the delimiter, was left out.")
        delimiter = delimiter or named[1].decode("ascii", "replace")
    text = _first_rows(sample[start:], whole, line_end)
    view = _best([_View(text, RowRules(sign, line_end)) for sign in _candidates(text, delimiter)])
    if delimiter is None and view.rules.delimiter != ",":
        notes.append(f"Its fields are separated by {_DELIMITERS[view.rules.delimiter]}.")
    if delimiter is None and view.width == 1 and len(view.rows) > 1:
        notes.append("It has one column; if that is wrong, give its --delimiter.")
    first = view.first_row()
    if first:
        lines = ", ".join(repr(_short(view.line(row))) for row in range(first))
        notes.append(f"Left out before the {'rows' if header is False else 'header'}: {lines}.")
    if header is None and view.looks_like_data(first):
        raise DataError(
            f"{name} seems to have no header: it begins with {_short(view.line(first))!r}.",
            "If that is a row, say --no-header (the columns are then column_1, column_2, …, and no TLC file "
            "is recognised); if it is the header, say --header.",
        )
    notes.extend(view.decimal_commas(first))
    return _Dialect(
        rules=view.rules,
        has_header=header is not False,
        starts_at_byte=start + (view.starts[first] if view.rows else 0),
        fields=view.width,
        notes=tuple(notes),
    )


def _candidates(text: bytes, delimiter: str | None) -> list[str]:
    if delimiter:
        return [delimiter]
    return [sign for sign in _DELIMITERS if sign == "," or sign.encode() in text]


def _best(views: "list[_View]") -> "_View":
    """The view in which most rows have the same number of fields, more than one of them."""
    most = max(view.share if view.width > 1 else 0 for view in views)
    best = [view for view in views if view.share == most and view.width > 1]
    return max(best, key=_View.typed_share) if len(best) > 1 else (best or views)[0]


def _first_rows(text: bytes, whole: bool, line_end: bytes) -> bytes:
    """The first rows, as far as they are needed."""
    if whole and len(text) <= _LOOK_BYTES:
        return text
    end = text.rfind(line_end, 0, _LOOK_BYTES) + 1 or text.find(line_end) + 1
    return text[: end or len(text)]


class _View:
    """A file's first rows as one delimiter would have them; blank lines are none."""

    def __init__(self, text: bytes, rules: RowRules) -> None:
        self.rules = rules
        self.starts: list[int] = []
        self.rows: list[list[str]] = []
        self._text = text
        start = 0
        for end in [*row_ends(text, rules).ends[: 2 * _LOOK_ROWS].tolist(), len(text)]:
            if text[start:end].strip() and len(self.rows) < _LOOK_ROWS:
                self.starts.append(start)
                self.rows.append(_fields(text[start:end], rules.delimiter))
            start = end + 1
        counts = Counter(len(row) for row in self.rows if not _is_comment(row))
        self.width, most = max(counts.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
        self.share = most / max(1, counts.total())
        """How many rows have that many fields, of 1."""

    def typed_share(self) -> float:
        """How many fields are numbers or the like, of 1: tells `1,a|b` from `1|a,2|b`."""
        fields = [field for row in self.rows for field in row]
        return sum(_kind(field) is not None for field in fields) / max(1, len(fields))

    def line(self, row: int) -> str:
        """A row's text."""
        end = self.starts[row + 1] if row + 1 < len(self.starts) else len(self._text)
        return self._text[self.starts[row] : end].decode("utf-8", "replace").strip()

    def first_row(self) -> int:
        """The index of the header, or of the first row: behind comments, titles and other narrow lines.

        A line that is only somewhat narrower than the rows is a title only where what follows is
        surely a header; else it may be a damaged header itself.
        """
        filled = sorted(map(_filled, self._body(0)))
        wanted = filled[(len(filled) - 1) // 2] if filled else 1
        comments = next((i for i, row in enumerate(self.rows) if not _is_comment(row)), 0)
        for index, row in enumerate(self.rows):
            if _is_comment(row) or len(row) < wanted or (wanted > 2 and _filled(row) < 2):
                continue
            before = [_filled(row) for row in self.rows[comments:index]]
            if all(2 * count <= wanted for count in before) or self._names_columns(index):
                return index
            break
        return comments

    def looks_like_data(self, row: int) -> bool:
        """Whether a row has values like those below it rather than names."""
        if row >= len(self.rows):
            return False
        named, alike = self._compared(row)
        if len(alike) <= named:
            return False
        labels = [self.rows[row][column] for column in alike]
        return not (_kind(self.rows[row][0]) is None and self._are_years(row, alike, labels))

    def decimal_commas(self, header: int) -> list[str]:
        """A note on the columns whose numbers have one."""
        if self.rules.delimiter == ",":
            return []
        for values in map(list, zip(*self._body(header + 1), strict=True)):
            numbers = list(filter(None, values))
            if numbers and all(map(_DECIMAL_COMMA.fullmatch, numbers)):
                return [
                    f"Numbers with a decimal comma, such as {numbers[0]!r}, are loaded as text, unchanged."
                ]
        return []

    def _body(self, start: int) -> list[list[str]]:
        """The rows of the usual width from `start` on."""
        return [row for row in self.rows[start:] if len(row) == self.width and not _is_comment(row)]

    def _names_columns(self, row: int) -> bool:
        named, alike = self._compared(row)
        return named > len(alike)

    def _compared(self, row: int) -> tuple[int, list[int]]:
        """How many fields of a row name a column of numbers or the like; which are such values themselves."""
        body = self._body(row + 1)
        named, alike = 0, []
        for column, field in enumerate(self.rows[row][: self.width]):
            kind = _usual_kind([row[column] for row in body[:_KIND_ROWS]]) if body else _kind(field)
            if body and kind is None:
                continue
            if kind is not None and _kind(field) is kind:
                alike.append(column)
            elif field.strip().lower() not in _NO_VALUE:
                named += 1
        return named, alike

    def _are_years(self, row: int, columns: Sequence[int], labels: Sequence[str]) -> bool:
        """`country,2019,2020` over values that are no years themselves."""
        values = [row[column] for row in self._body(row + 1) for column in columns]
        return (
            all(map(_YEAR.fullmatch, labels))
            and len(set(labels)) == len(labels)
            and not all(map(_YEAR.fullmatch, values))
        )


def _fields(raw: bytes, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([raw.decode("utf-8", "replace").rstrip("\r\n")], delimiter=delimiter), [""])
    except csv.Error:
        # A damaged row, such as one with a lone carriage return.
        return [""]


def _filled(row: Sequence[str]) -> int:
    """A row's fields without the empty ones at its end."""
    return max((index for index, field in enumerate(row, start=1) if field.strip()), default=0)


def _is_comment(row: Sequence[str]) -> bool:
    return row[0].startswith("#") and (_filled(row) < 2 or (row[0].startswith("# ") and _filled(row) < 3))


def _kind(field: str) -> re.Pattern[str] | None:
    text = field.strip()
    return next((kind for kind in _KINDS if kind.fullmatch(text)), None)


def _usual_kind(values: Sequence[str]) -> re.Pattern[str] | None:
    """What nine of ten values of a column are, if not text."""
    kinds = Counter(_kind(value) for value in values if value.strip().lower() not in _NO_VALUE)
    kind, count = max(kinds.items(), key=lambda item: item[1], default=(None, 0))
    return kind if count >= 0.9 * kinds.total() else None


def _short(line: str) -> str:
    return line if len(line) <= 60 else line[:59] + "…"
