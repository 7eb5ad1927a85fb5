"""What is said while a run lasts, to be shown as text or as an object. Nothing here imports Prefect."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True)
class LogLine:
    """A line of a log."""

    message: str
    level: int = logging.INFO
    run: str = ""
    """Whose it is, as a text shows it before the message."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the run, its table and its month, for programs."""
    seconds: float = field(default_factory=time.time)

    def as_json(self) -> dict[str, Any]:
        """The object that `--log-format json` prints."""
        moment = datetime.fromtimestamp(self.seconds).astimezone()
        return {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": logging.getLevelName(self.level).lower(),
            "message": self.message,
            **{name: value for name, value in self.about.items() if value not in (None, "")},
        }


class Teller(Protocol):
    """Shows lines to whoever watches."""

    def tell(self, line: LogLine) -> None:
        """Show one; from any thread."""
