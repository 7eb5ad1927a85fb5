"""Arrow batches -> COPY BINARY -> partition, rejects, ledger: one transaction, all or nothing."""

from taxi_ingest.load.assignment import Assignment, Outlines, assign_zones, loads_to_assign, outlines_in
from taxi_ingest.load.copy import LoadProgress
from taxi_ingest.load.coverage import Attempt, Coverage, Pace, coverage, free_bytes, holders, pace
from taxi_ingest.load.database import Database, database_at
from taxi_ingest.load.decision import already_loaded, look_back
from taxi_ingest.load.disagreement import Disagreement, disagreements
from taxi_ingest.load.history import (
    Filter,
    LoadRecord,
    LookBack,
    Status,
    TableRecord,
    Verdict,
    committed_runs,
    find_load,
    list_loads,
    table_hint,
)
from taxi_ingest.load.interrupt import cancel_all, listening_for_signals
from taxi_ingest.load.ledger import note_attempt, prepare_ledger
from taxi_ingest.load.preview import Preview, preview
from taxi_ingest.load.rejects import rejects_of, write_rejects
from taxi_ingest.load.survey import Answers, Surveyed, SurveyedColumn, TaxiZones, ask, survey, taxi_zones
from taxi_ingest.load.table import Target, parse_target
from taxi_ingest.load.transaction import LoadResult, Undone, load_file, undo
from taxi_ingest.load.waiting import loading_many

__all__ = [
    "Answers",
    "Assignment",
    "Attempt",
    "Coverage",
    "Database",
    "Disagreement",
    "Filter",
    "LoadProgress",
    "LoadRecord",
    "LoadResult",
    "LookBack",
    "Outlines",
    "Pace",
    "Preview",
    "Status",
    "Surveyed",
    "SurveyedColumn",
    "TableRecord",
    "Target",
    "TaxiZones",
    "Undone",
    "Verdict",
    "already_loaded",
    "ask",
    "assign_zones",
    "cancel_all",
    "committed_runs",
    "coverage",
    "database_at",
    "disagreements",
    "find_load",
    "free_bytes",
    "holders",
    "list_loads",
    "listening_for_signals",
    "load_file",
    "loading_many",
    "loads_to_assign",
    "look_back",
    "note_attempt",
    "outlines_in",
    "pace",
    "parse_target",
    "prepare_ledger",
    "preview",
    "rejects_of",
    "survey",
    "table_hint",
    "taxi_zones",
    "undo",
    "write_rejects",
]
