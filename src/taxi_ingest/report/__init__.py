"""What a table holds, as pictures: one page, one PNG, or text."""

from taxi_ingest.report.page import check_can_draw, page, save_png
from taxi_ingest.report.reading import Report, find_table, make_report

__all__ = ["Report", "check_can_draw", "find_table", "make_report", "page", "save_png"]
