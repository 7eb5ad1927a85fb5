"""What a file is called for people, and a run that loads it in Prefect. Nothing here imports Prefect."""

from taxi_ingest.tlc import parse_file_name


def file_label(dataset: str | None, month: str | None, url: str) -> str:
    """`yellow 2024-01`; the file's name where that is no month of TLC's."""
    return f"{dataset} {month}" if month else url.rstrip("/").rpartition("/")[2]


def run_name(url: str, table: str) -> str:
    """`yellow 2024-01 -> yellow_tripdata`; the file's name where that is none of TLC's."""
    known = parse_file_name(url)
    return f"{file_label(known.dataset, known.month, url)} -> {table}"


def tags_of_load(url: str, table: str) -> set[str]:
    """Dataset, month and table, by which a run is found again."""
    known = parse_file_name(url)
    return {part for part in (known.dataset, known.month, table) if part}
