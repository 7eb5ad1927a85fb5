"""What Google's libraries raise, as errors of ours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taxi_ingest.errors import DatabaseError, TransientDatabaseError, UsageError

INSTALL = "pip install 'taxi-ingest[gcp]'"

LOGIN = (
    "Log in: gcloud auth application-default login; or name a key file: "
    "GOOGLE_APPLICATION_CREDENTIALS=key.json."
)
_RIGHTS = (
    "If a right is missing: it takes the roles roles/bigquery.jobUser in the project and "
    "roles/bigquery.dataEditor for the dataset."
)


@contextmanager
def told_as_ours(what: str, missing: str, login: str = LOGIN) -> Iterator[None]:
    """Raise what Google's libraries raise as DatabaseError, or as UsageError where they are not installed.

    `what` is asked for, `missing` the hint where it is not there, `login` the one where nobody is let in.
    """
    try:
        yield
    except ImportError as error:
        if not (error.name or "").startswith("google"):
            raise
        raise UsageError("BigQuery takes Google's library, which is not installed.", INSTALL) from None
    except Exception as error:
        if ours := _as_ours(error, what, missing, login):
            raise ours from error
        raise


def _as_ours(error: BaseException, what: str, missing: str, login: str) -> DatabaseError | None:
    # What was tried again until its time was over tells the last failure.
    error = getattr(error, "cause", None) or error
    for kinds, ours, message, hint in _table():
        if isinstance(error, kinds):
            words = {"what": what, "reason": _reason_of(error), "missing": missing, "login": login}
            return ours(message.format(**words), hint.format(**words))
    return None


def _reason_of(error: BaseException) -> str:
    """What Google says, in one sentence: without the request, whose address says nothing to the user."""
    errors: Sequence[dict[str, Any]] = getattr(error, "errors", None) or [{}]
    first = errors[0].get("message") if isinstance(errors[0], dict) else None
    text = str(first or getattr(error, "message", None) or (error.args[0] if error.args else error))
    return " ".join(text.split()).rstrip(".")


def _table() -> Sequence[tuple[Any, type[DatabaseError], str, str]]:
    """Which of Google's exceptions, the first that fits -> class, sentence and hint."""
    from google.api_core import exceptions as api
    from google.auth import exceptions as auth
    from requests.exceptions import RequestException

    return (
        (
            auth.DefaultCredentialsError,
            DatabaseError,
            "There are no credentials for Google: {reason}.",
            "{login}",
        ),
        (
            (auth.RefreshError, api.Unauthorized),
            DatabaseError,
            "Google does not take the credentials, which have expired or were revoked: {reason}.",
            "{login}",
        ),
        (
            (auth.TransportError, RequestException),
            TransientDatabaseError,
            "Google can't be reached.",
            "Look at the network, and at HTTPS_PROXY if there has to be a proxy; then try again.",
        ),
        (
            (api.TooManyRequests, api.ServerError),
            TransientDatabaseError,
            "BigQuery can't do it now: {reason}.",
            "Try again in a while.",
        ),
        (
            api.Forbidden,
            DatabaseError,
            "BigQuery denies access to {what}: {reason}.",
            _RIGHTS,
        ),
        (
            api.NotFound,
            DatabaseError,
            "BigQuery can't find {what}, or what was looked for there: {reason}.",
            "{missing}",
        ),
        (
            (api.GoogleAPIError, auth.GoogleAuthError),
            DatabaseError,
            "BigQuery refuses: {reason}.",
            "Look at the job in the project's console: BigQuery, project history.",
        ),
    )
