"""Prefect's log lines, for someone who watches."""

import logging
import time

from prefect.logging.configuration import setup_logging
from rich.console import Console
from rich.text import Text

from taxi_ingest.errors import printable, printable_lines, without_login

_SHOWN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs", "taxi_ingest")


class PrefectLogHandler(logging.Handler):
    """Prefect's log lines on our console, above the live bar instead of through it.

    A failed run's traceback stays in Prefect's own log: the command line says the error once.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or not record.name.startswith(_SHOWN_LOGGERS):
            return
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        run = getattr(record, "task_name", None) or getattr(record, "flow_name", None) or "prefect"
        message = printable_lines(without_login(record.getMessage()))
        line = Text.assemble((f"{moment} ", "dim"), (f"{printable(run):<14} ", "cyan"), message)
        self._console.print(line, soft_wrap=True)


def show_prefect_logs(console: Console, quiet: bool) -> None:
    """Send Prefect's log lines to `console`, or nowhere."""
    setup_logging()
    # Else Prefect complains on stderr, past all handlers, of log lines that it could not send.
    logging.raiseExceptions = False
    handler = logging.NullHandler() if quiet else PrefectLogHandler(console)
    logging.getLogger().handlers[:] = [handler]
