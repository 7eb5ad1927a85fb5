"""A real HTTP server for tests: ranges, validators, and faults on demand."""

import base64
import hashlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote, unquote, urlsplit


@dataclass
class Fault:
    """How a path misbehaves; `times` requests long, then no more."""

    status: int | None = None
    cut_after_bytes: int | None = None
    stall_seconds: float = 0
    redirect_to: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>fault</html>"
    """What a `status` comes with."""
    then: Callable[[], None] = lambda: None
    """What happens next."""
    times: int = 1_000_000


@dataclass(frozen=True)
class Request:
    """A request as it came in, and what was answered."""

    path: str
    headers: dict[str, str]
    status: int


class Server:
    """Serves a folder; `fault` makes a path misbehave, `requests` tells what was asked."""

    def __init__(self, folder: Path, address: str, port: int, login: str | None) -> None:
        self.folder = folder
        self.address = address
        self.port = port
        self.login = login
        self.without_validators = False
        self.without_if_range = False
        """Whether parts are sent whatever If-Range says."""
        self.requests: list[Request] = []
        self.faults: dict[str, list[Fault]] = defaultdict(list)

    def url(self, path: str) -> str:
        return f"http://{self.address}:{self.port}/{quote(path)}"

    def fault(self, path: str, **what: Any) -> None:
        self.faults[f"/{path}"].append(Fault(**what))

    def next_fault(self, path: str) -> Fault:
        for fault in self.faults[path]:
            if fault.times > 0:
                fault.times -= 1
                return fault
        return Fault()


@contextmanager
def serve(folder: Path, login: str | None = None, address: str = "127.0.0.1") -> Iterator[Server]:
    """Serve `folder` at an address of ours; with `login` (`user:password`) only to those who know it."""
    http = _QuietServer((address, 0), _Handler)
    server = Server(folder, address, http.server_port, login)
    http.server = server  # type: ignore[attr-defined]
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _QuietServer(ThreadingHTTPServer):
    """A client that has gone is no error of the server's."""

    def handle_error(self, *about: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*about)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server: Server = self.server.server  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        fault = server.next_fault(path)
        status, headers, body = self._answer(server, path, fault)
        server.requests.append(Request(path, dict(self.headers), status))
        usual = {"Date": self.date_time_string(), "Content-Length": str(len(body))}
        headers = {**usual, **headers, **fault.headers}
        self.send_response_only(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        time.sleep(fault.stall_seconds)
        self.wfile.write(body[: fault.cut_after_bytes])
        fault.then()
        if fault.cut_after_bytes is not None:
            self.close_connection = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.do_GET()

    def _answer(self, server: Server, path: str, fault: Fault) -> tuple[int, dict[str, str], bytes]:
        if fault.redirect_to:
            return HTTPStatus.FOUND, {"Location": fault.redirect_to}, b""
        if fault.status:
            return fault.status, {}, fault.body
        if server.login and self.headers["Authorization"] != _basic(server.login):
            return HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Basic realm="test"'}, b""
        file = server.folder / path.lstrip("/")
        if not file.is_file():
            return HTTPStatus.NOT_FOUND, {}, b"<html>no such file</html>"
        if server.without_validators:
            return HTTPStatus.OK, {}, file.read_bytes()
        return self._content(file.read_bytes(), file.stat().st_mtime)

    def _content(self, content: bytes, modified: float) -> tuple[int, dict[str, str], bytes]:
        etag, date = f'"{hashlib.md5(content).hexdigest()}"', formatdate(modified, usegmt=True)
        headers = {"ETag": etag, "Last-Modified": date, "Accept-Ranges": "bytes"}
        if etag == self.headers["If-None-Match"] or date == self.headers["If-Modified-Since"]:
            return HTTPStatus.NOT_MODIFIED, headers, b""
        if self.headers["If-Match"] not in (None, etag):
            return HTTPStatus.PRECONDITION_FAILED, {}, b""
        wanted = self.headers["Range"]
        heeded = not self.server.server.without_if_range  # type: ignore[attr-defined]
        if wanted and (not heeded or self.headers["If-Range"] in (None, etag)):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return HTTPStatus.PARTIAL_CONTENT, headers, content[start:]
        return HTTPStatus.OK, headers, content


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"
