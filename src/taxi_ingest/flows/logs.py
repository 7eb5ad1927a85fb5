"""Where Prefect's log lines go: to the console of whoever watches."""

import logging
import time

from prefect.logging.configuration import setup_logging
from rich.console import Console
from rich.text import Text

from taxi_ingest.errors import printable, printable_lines, without_login
from taxi_ingest.flows.caller import caller

_SHOWN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "taxi_ingest")


FOR_ALL = {"for_all": True}
"""Of a log line's `extra`: it is shown to whoever watches, where others of its level are only with `-v`."""


class PrefectLogHandler(logging.Handler):
    """Prefect's log lines on our console, above the live bar instead of through it: warnings, or all.

    A failed run's traceback stays in Prefect's own log: the command line says the error once.
    """

    def __init__(self, console: Console, verbose: bool = False) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._least = logging.INFO if verbose else logging.WARNING

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, if it is one of those that are shown; errors are told elsewhere."""
        if record.levelno >= logging.ERROR or not record.name.startswith(_SHOWN_LOGGERS):
            return
        if record.levelno < self._least and not hasattr(record, "for_all"):
            return
        form = "%H:%M:%S" if self._console.is_terminal else "%Y-%m-%d %H:%M:%S"
        moment = time.strftime(form, time.localtime(record.created))
        task, flow = getattr(record, "task_name", None), getattr(record, "flow_name", None)
        run = caller().load or task or flow or "prefect"
        message = printable_lines(without_login(record.getMessage()))
        line = Text.assemble((f"{moment} ", "dim"), (f"{printable(run):<14} ", "cyan"), message)
        self._console.print(line, soft_wrap=True)


def show_prefect_logs(console: Console, quiet: bool, verbose: bool = False) -> None:
    """Send Prefect's log lines to `console`, warnings or all, or nowhere."""
    setup_logging()
    # Else Prefect complains on stderr, past all handlers, of log lines that it could not send.
    logging.raiseExceptions = False
    handler = logging.NullHandler() if quiet else PrefectLogHandler(console, verbose)
    logging.getLogger().handlers[:] = [handler]
    # Its own threads' complaints of a server that is gone; whoever needs the server says so once.
    logging.getLogger("prefect._internal").handlers[:] = [logging.NullHandler()]
