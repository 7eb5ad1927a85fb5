"""A text file fit for a bug report: what was found, and the ends of the servers' logs, without secrets."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from taxi_ingest.doctor.finding import Finding
from taxi_ingest.errors import printable_lines, without_login
from taxi_ingest.settings.environment import Settings
from taxi_ingest.stack import prefect_key
from taxi_ingest.stack.residents import tail
from taxi_ingest.stack.tcp import password as database_password

_LOG_LINES = 200
_LOGS = ("postgres/log", "prefect/server.log")
_SHORTEST_SECRET = 4
"""A shorter one would take pieces out of the words of the text."""


def as_text(findings: Sequence[Finding], settings: Settings) -> str:
    """All findings and the logs' ends; every secret that we know is left out."""
    parts = [f"taxi-ingest doctor, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "", *map(_told, findings)]
    for name in _LOGS:
        parts += ["", f"--- the end of {name}", tail(settings.home / name, _LOG_LINES) or "(there is none)"]
    text = without_login(printable_lines("\n".join(parts)))
    for secret in _secrets(settings):
        text = text.replace(secret, "***")
    return text + "\n"


def _told(finding: Finding) -> str:
    hint = f"\n    {finding.hint}" if finding.hint else ""
    return f"{finding.state:<7} {finding.subject}: {finding.found}{hint}"


def _secrets(settings: Settings) -> Iterable[str]:
    given = [each.get_secret_value() for each in (settings.database_url, settings.source_login) if each]
    passwords = [_password(part) for text in given for part in text.split()]
    ours = (prefect_key(settings) or "", database_password(settings) or "")
    known = {*given, *passwords, *map(unquote, passwords), *ours}
    return sorted((each for each in known if len(each) >= _SHORTEST_SECRET), key=len, reverse=True)


def _password(url: str) -> str:
    if "://" not in url:
        return url.rpartition(":")[2]
    try:
        return urlsplit(url).password or ""
    except ValueError:
        return url
