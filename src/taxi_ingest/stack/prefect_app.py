"""What the local Prefect server serves: Prefect's own application behind a guard, and a page that logs in.

The key itself is checked by Prefect (`PREFECT_SERVER_API_AUTH_STRING`). The guard turns away who comes
under another name or from another site's page, and keeps the dashboard from calling anywhere else.
"""

import base64
import hmac
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from taxi_ingest.stack.logs import keep_short

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

LOGIN_PATH = "/taxi-ingest/login"
LOOK = "/v2"
"""Where the one of Prefect's two looks is that asks who follows a link to a run for the key; the other says
that there is no such page."""

_LONGEST_LOGIN_BYTES = 4096

_PAGE = """\
<!DOCTYPE html><meta charset="utf-8"><title>taxi-ingest</title>
<script>localStorage.setItem("prefect-password", "{token}"); location.replace("{look}/")</script>
"""
"""Both of Prefect's looks, Vue at / and React at /v2, take the key from this entry, in base64."""

_PAGE_POLICY = "default-src 'none'; script-src 'unsafe-inline'"


def create_app() -> Application:
    """The application for uvicorn, from the environment that `prefect_server.py` gives its process."""
    # It reaches into Prefect; where that has changed, the server does without, and its tests fail.
    with suppress(ImportError, AttributeError, TypeError):
        from taxi_ingest.stack.prefect_database import write_one_by_one

        write_one_by_one(os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"])
    home = Path(os.environ["PREFECT_HOME"])
    # Of the two servers this one has a place for it.
    keep_short([home / "server.log", home.with_name("postgres") / "log"])
    from prefect.server.api.server import create_app as prefects

    port = urlsplit(os.environ["PREFECT_API_URL"]).port
    assert port is not None
    return Guard(prefects(), port, os.environ["PREFECT_SERVER_API_AUTH_STRING"])


class Guard:
    """An ASGI application (https://asgi.readthedocs.io/en/latest/specs/www.html) in front of another."""

    def __init__(self, guarded: Application, port: int, key: str) -> None:
        self._guarded = guarded
        self._key = key
        names = (f"127.0.0.1:{port}", f"localhost:{port}")
        # A web page under a name of its own that leads here (DNS rebinding) sends that name as Host.
        self._hosts = frozenset(name.encode() for name in names)
        self._origins = frozenset(b"http://" + host for host in self._hosts)
        places = " ".join(f"http://{name} ws://{name}" for name in names)
        # The dashboard as it is built asks Amplitude, among others, for what to report to it.
        self._policy = (
            "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
            f"connect-src 'self' {places}; form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let a request through to Prefect, or refuse it: one without the key, of another host or site."""
        if scope["type"] == "lifespan":
            await self._guarded(scope, receive, send)
        elif refusal := self._refusal(scope):
            await _refuse(scope, receive, send, refusal)
        elif scope["type"] == "http" and scope["path"] == LOGIN_PATH:
            await self._log_in(scope, receive, send)
        else:
            await self._guarded(scope, receive, self._with_policy(send))

    def _refusal(self, scope: Message) -> str:
        """Why a request is turned away; empty if it is not."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        origins = [value for name, value in scope["headers"] if name == b"origin"]
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return "This server answers as 127.0.0.1 and localhost only."
        # The page that logs in comes from a file, whose origin browsers call null.
        allowed = self._origins | ({b"null"} if scope["path"] == LOGIN_PATH else set())
        if not allowed.issuperset(origins):
            return "Pages of other sites may not use this server."
        return ""

    async def _log_in(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the form that `taxi-ingest ui` has the browser send: its key must be right."""
        body = await _body(receive) if scope["method"] == "POST" else b""
        given = parse_qs(body.decode("ascii", "replace")).get("key", [""])[0]
        if hmac.compare_digest(given.encode(), self._key.encode()):
            token = base64.b64encode(self._key.encode()).decode()
            await _answer(send, 200, _PAGE.format(token=token, look=LOOK), "text/html; charset=utf-8")
        else:
            await _answer(send, 403, "Run `taxi-ingest ui` again: this key is not the server's.")

    def _with_policy(self, send: Send) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", self._policy.encode())
                message["headers"] = [*message.get("headers", ()), policy]
            await send(message)

        return sent


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more and len(body) <= _LONGEST_LOGIN_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _refuse(scope: Message, receive: Receive, send: Send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
    else:
        await _answer(send, 403, reason)


async def _answer(send: Send, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
    headers = {
        "content-type": kind,
        "content-security-policy": _PAGE_POLICY,
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})
