"""Where Prefect's log lines go: to the console of whoever watches."""

import logging

from prefect.logging.configuration import setup_logging

from taxi_ingest.errors import without_login
from taxi_ingest.flows.caller import caller
from taxi_ingest.flows.log_line import LogLine, Teller

_SHOWN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "taxi_ingest")
_DEBUGGED_LOGGERS = ("prefect", "prefect.flow_runs", "prefect.task_runs", "taxi_ingest", "httpx")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""From which level on lines are shown, by how often `-v` was given."""

FOR_ALL = {"for_all": True}
"""Of a log line's `extra`: it is shown to whoever watches, where others of its level are only with `-v`."""

_KNOWN_BY_PREFECT = ("flow_run_name", "flow_run_id", "task_run_name")
"""What Prefect tells of a log line that has a run."""


class PrefectLogHandler(logging.Handler):
    """Prefect's log lines on our console, above the live bar instead of through it: from a level on.

    A failed run's traceback stays in Prefect's own log, as the command line says the error once; but for who
    looks for a bug, with all other lines of Prefect's and of the requests that are sent.
    """

    def __init__(self, teller: Teller, verbose: int = 0) -> None:
        super().__init__(logging.DEBUG)
        self._teller = teller
        self._least = _LEVELS[min(verbose, len(_LEVELS) - 1)]

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, if it is one of those that are shown."""
        if self._is_shown(record):
            self._teller.tell(self._line(record))

    def _is_shown(self, record: logging.LogRecord) -> bool:
        if self._least == logging.DEBUG:
            return True
        if record.levelno >= logging.ERROR or not record.name.startswith(_SHOWN_LOGGERS):
            return False
        return record.levelno >= self._least or hasattr(record, "for_all")

    def _line(self, record: logging.LogRecord) -> LogLine:
        task, flow = getattr(record, "task_name", None), getattr(record, "flow_name", None)
        message = record.getMessage()
        if record.exc_info and self._least == logging.DEBUG:
            message += f"\n{logging.Formatter().formatException(record.exc_info)}"
        known = {name: getattr(record, name, None) for name in _KNOWN_BY_PREFECT}
        return LogLine(
            without_login(message),
            record.levelno,
            caller().load or task or flow or "prefect",
            {"logger": record.name, **known, **caller().about},
            record.created,
        )


def show_prefect_logs(teller: Teller, quiet: bool, verbose: int = 0) -> None:
    """Send Prefect's log lines to whoever watches, or nowhere."""
    setup_logging()
    # Else Prefect complains on stderr, past all handlers, of log lines that it could not send.
    logging.raiseExceptions = False
    handler = logging.NullHandler() if quiet else PrefectLogHandler(teller, verbose)
    logging.getLogger().handlers[:] = [handler]
    # Its own threads' complaints of a server that is gone; whoever needs the server says so once.
    logging.getLogger("prefect._internal").handlers[:] = [logging.NullHandler()]
    for name in _DEBUGGED_LOGGERS if verbose > 1 else ():
        logging.getLogger(name).setLevel(logging.DEBUG)
