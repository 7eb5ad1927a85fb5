"""What a run that loads a file is called in Prefect, and its tags. Nothing here imports Prefect."""

from taxi_ingest.tlc import parse_file_name


def run_name(url: str, table: str) -> str:
    """`yellow 2024-01 -> yellow_tripdata`; the file's name where that is none of TLC's."""
    known = parse_file_name(url)
    file = f"{known.dataset} {known.month}" if known.dataset else url.rstrip("/").rpartition("/")[2]
    return f"{file} -> {table}"


def tags_of_load(url: str, table: str) -> set[str]:
    """Dataset, month and table, by which a run is found again."""
    known = parse_file_name(url)
    return {part for part in (known.dataset, known.month, table) if part}
