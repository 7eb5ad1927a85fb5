"""A server that answers as BigQuery's REST interface does, as far as we ask it, and keeps what was asked.

No emulator that can be had keeps partitions (docs/bigquery.md), so this stands for Google: it does what is
said of jobs, tables and partitions by time of ingestion, and refuses all else
(https://cloud.google.com/bigquery/docs/reference/rest).
"""

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from email.parser import BytesParser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

_MONTH = re.compile(r"\d{4}(0[1-9]|1[0-2])")
_NOT_PARTITIONED = ""
TOKEN = "token-4711"


class Refused(Exception):
    """An answer that is an error, as Google words them."""

    def __init__(self, status: HTTPStatus, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "code": int(status),
                "message": message,
                "errors": [{"reason": reason, "message": message, "domain": "global"}],
            }
        }


@dataclass
class Table:
    """A table: its resource, and the rows of each partition."""

    resource: dict[str, Any]
    partitions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        return {column["name"]: column for column in self.resource["schema"]["fields"]}

    @property
    def is_monthly(self) -> bool:
        return self.resource.get("timePartitioning") == {"type": "MONTH"}

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.partitions.values() for row in rows]


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    body: Any


class BigQueryServer:
    """A project with one dataset."""

    def __init__(self, project: str, dataset: str) -> None:
        self.project = project
        self.dataset = dataset
        self.url = ""
        self.tables: dict[str, Table] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.requests: list[Request] = []
        self.lock = RLock()
        self.faults: list[tuple[str, str, Callable[[], None]]] = []
        self.job_error: dict[str, str] | None = None
        """Why the next job fails."""
        self.lost_answers: list[tuple[str, str]] = []
        """Of the next requests of such a method and path what is asked is done, and not answered."""
        self.wants_token = False
        """Whether only those are answered whose credentials are valid."""
        self.holds_jobs = False
        """Whether jobs are said to run still."""
        self.lost_rows = 0
        """By how many rows the next job says that it has loaded too few."""

    @property
    def address(self) -> str:
        return f"bigquery://{self.project}/{self.dataset}"

    def fault(self, method: str, path: str, then: Callable[[], None]) -> None:
        """The next request whose path has this in it does something else first, and may be refused so."""
        self.faults.append((method, path, then))

    def loses_answer(self, request: Request) -> bool:
        for lost in self.lost_answers:
            if lost[0] == request.method and lost[1] in request.path:
                self.lost_answers.remove(lost)
                return True
        return False

    def job_requests(self) -> list[dict[str, Any]]:
        """The jobs that were asked for, oldest first, as they were asked for."""
        return [r.body for r in self.requests if r.method == "POST" and r.path.endswith("/jobs") and r.body]

    def partition(self, table: str, month: str) -> list[dict[str, Any]]:
        return self.tables[table].partitions.get(month, [])

    # What is asked

    def answer(self, request: Request, content: bytes, headers: Any) -> tuple[int, dict[str, str], Any]:
        with self.lock:
            for fault in self.faults:
                if fault[0] == request.method and fault[1] in request.path:
                    self.faults.remove(fault)
                    fault[2]()
                    break
            if request.path == "/token/refused":
                about = {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
                return HTTPStatus.BAD_REQUEST, {}, about
            if request.path == "/token":
                return HTTPStatus.OK, {}, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            if self.wants_token and headers["Authorization"] != f"Bearer {TOKEN}":
                raise Refused(HTTPStatus.UNAUTHORIZED, "authError", "Login Required.")
            if request.path.startswith("/upload/"):
                return self._upload(request, content, headers)
            return HTTPStatus.OK, {}, self._looked(request)

    def _looked(self, request: Request) -> Any:
        project, _, rest = request.path.removeprefix("/bigquery/v2/projects/").partition("/")
        if project != self.project:
            raise Refused(HTTPStatus.FORBIDDEN, "accessDenied", f"Access Denied: Project {project}")
        parts = rest.split("/")
        if parts[0] == "jobs":
            return self._job(parts[1])
        if parts == ["datasets"]:
            return {"datasets": []}
        if parts[1] != self.dataset:
            raise Refused(HTTPStatus.NOT_FOUND, "notFound", f"Not found: Dataset {project}:{parts[1]}")
        match request.method, parts[2:]:
            case "GET", []:
                reference = {"projectId": project, "datasetId": self.dataset}
                return {"datasetReference": reference, "location": "EU"}
            case "POST", ["tables"]:
                return self._made(request.body)
            case "GET", ["tables", name]:
                return self._described(name)
            case "GET", ["tables", name, "data"]:
                return self._rows(name, request.query)
            case "DELETE", ["tables", name]:
                return self._deleted(name)
        raise Refused(HTTPStatus.NOT_IMPLEMENTED, "notImplemented", f"{request.method} {request.path}")

    def _job(self, job_id: str) -> Any:
        if job_id not in self.jobs:
            raise Refused(HTTPStatus.NOT_FOUND, "notFound", f"Not found: Job {self.project}:{job_id}")
        return self._now(self.jobs[job_id])

    def _now(self, job: dict[str, Any]) -> Any:
        return {**job, "status": {"state": "RUNNING"}} if self.holds_jobs else job

    def _made(self, resource: dict[str, Any]) -> Any:
        name = resource["tableReference"]["tableId"]
        if name in self.tables:
            raise Refused(HTTPStatus.CONFLICT, "duplicate", f"Already Exists: Table {name}")
        if not re.fullmatch(r"[\w-]+", name):
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid", f"Invalid table ID {name}")
        self.tables[name] = Table(resource)
        return self._described(name)

    def _table(self, name: str) -> Table:
        table, _, _ = name.partition("$")
        if table not in self.tables:
            what = f"{self.project}:{self.dataset}.{table}"
            raise Refused(HTTPStatus.NOT_FOUND, "notFound", f"Not found: Table {what}")
        return self.tables[table]

    def _described(self, name: str) -> Any:
        table = self._table(name)
        if name.endswith("$__PARTITIONS_SUMMARY__"):
            columns = [{"name": "partition_id", "type": "STRING"}]
            reference = {**table.resource["tableReference"], "tableId": name}
            return {"tableReference": reference, "schema": {"fields": columns}}
        return {**table.resource, "numRows": str(len(table.rows)), "type": "TABLE"}

    def _rows(self, name: str, query: dict[str, str]) -> Any:
        table, part = self._table(name), name.partition("$")[2]
        if part == "__PARTITIONS_SUMMARY__":
            return {"rows": [{"f": [{"v": id}]} for id, rows in table.partitions.items() if rows]}
        wanted = query["selectedFields"].split(",")
        if unknown := set(wanted) - table.columns.keys():
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid", f"Field not found: {unknown}")
        # They come in the order of the table.
        names = [name for name in table.columns if name in wanted]
        rows = table.partitions.get(part, []) if part else table.rows
        rows = rows[: int(query.get("maxResults", len(rows)))]
        found = [{"f": [{"v": _told(row.get(n), table.columns[n])} for n in names]} for row in rows]
        return {"rows": found, "totalRows": str(len(rows))}

    def _deleted(self, name: str) -> Any:
        table, part = self._table(name), name.partition("$")[2]
        if not part:
            del self.tables[name]
        elif part not in table.partitions:
            raise Refused(HTTPStatus.NOT_FOUND, "notFound", f"Not found: Partition {name}")
        else:
            del table.partitions[part]
        return {}

    # Load jobs

    def _upload(self, request: Request, content: bytes, headers: Any) -> tuple[int, dict[str, str], Any]:
        if "upload_id" in request.query:
            upload = self.uploads[request.query["upload_id"]]
            return HTTPStatus.OK, {}, self._loaded(upload, content)
        if request.query["uploadType"] == "multipart":
            head = b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n"
            about, rows = BytesParser().parsebytes(head + content).get_payload()
            request.body = json.loads(about.get_payload())
            return HTTPStatus.OK, {}, self._loaded(request.body, rows.get_payload(decode=True))
        self._check_new(request.body)
        number = str(len(self.uploads))
        self.uploads[number] = request.body
        location = f"{self.url}{request.path}?uploadType=resumable&upload_id={number}"
        return HTTPStatus.OK, {"Location": location}, {}

    def _check_new(self, resource: dict[str, Any]) -> None:
        job_id = resource["jobReference"]["jobId"]
        if not re.fullmatch(r"[\w-]{1,1024}", job_id, re.ASCII):
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid", f"Invalid job ID {job_id}")
        if job_id in self.jobs:
            raise Refused(HTTPStatus.CONFLICT, "duplicate", f"Already Exists: Job {self.project}:EU.{job_id}")

    def _loaded(self, resource: dict[str, Any], content: bytes) -> Any:
        self._check_new(resource)
        now = str(round(time.time() * 1000))
        statistics = {"creationTime": now, "startTime": now, "endTime": now}
        job = {**resource, "status": {"state": "DONE"}, "statistics": statistics}
        try:
            rows = self._put(resource["configuration"]["load"], content)
            job["statistics"]["load"] = {"outputRows": str(rows - self.lost_rows), "inputFiles": "1"}
            self.lost_rows = 0
        except Refused as error:
            job["status"]["errorResult"] = error.body["error"]["errors"][0]
        self.jobs[resource["jobReference"]["jobId"]] = job
        return self._now(job)

    def _put(self, load: dict[str, Any], content: bytes) -> int:
        if error := self.job_error:
            self.job_error = None
            raise Refused(HTTPStatus.OK, error["reason"], error["message"])
        name, _, part = load["destinationTable"]["tableId"].partition("$")
        if name not in self.tables:
            if load.get("createDisposition", "CREATE_IF_NEEDED") == "CREATE_NEVER":
                raise Refused(HTTPStatus.OK, "notFound", f"Not found: Table {name}")
            reference = {**load["destinationTable"], "tableId": name}
            self.tables[name] = Table({"tableReference": reference, "schema": load["schema"]})
        table = self.tables[name]
        if part and not (table.is_monthly and _MONTH.fullmatch(part)):
            raise Refused(HTTPStatus.OK, "invalid", f"Invalid partition {part}")
        self._fit_schema(table, load)
        rows = _read(load, content)
        kept = [] if load["writeDisposition"] == "WRITE_TRUNCATE" else table.partitions.get(part, [])
        table.partitions[part or _NOT_PARTITIONED] = [*kept, *rows]
        return len(rows)

    def _fit_schema(self, table: Table, load: dict[str, Any]) -> None:
        wanted = {column["name"]: column for column in load["schema"]["fields"]}
        for name, column in table.columns.items():
            if name not in wanted or wanted[name]["type"] != column["type"]:
                raise Refused(HTTPStatus.OK, "invalid", f"Provided Schema does not match Table: {name}")
        if new := [column for name, column in wanted.items() if name not in table.columns]:
            if "ALLOW_FIELD_ADDITION" not in load.get("schemaUpdateOptions", []):
                raise Refused(
                    HTTPStatus.OK, "invalid", f"Provided Schema does not match Table. Cannot add {new}"
                )
            table.resource["schema"]["fields"].extend(new)


_PARQUET = {
    "BOOLEAN": {pa.bool_()},
    "INTEGER": {pa.int16(), pa.int32(), pa.int64()},
    "FLOAT": {pa.float32(), pa.float64()},
    "STRING": {pa.string()},
    "DATE": {pa.date32()},
    "DATETIME": {pa.timestamp("us")},
    "TIMESTAMP": {pa.timestamp("us", "UTC")},
}


def _read(load: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
    if load["sourceFormat"] == "NEWLINE_DELIMITED_JSON":
        return [json.loads(line) for line in content.splitlines()]
    assert load["sourceFormat"] == "PARQUET"
    try:
        rows = pq.read_table(io.BytesIO(content))
    except pa.ArrowInvalid as error:
        raise Refused(HTTPStatus.OK, "invalid", f"Error while reading data: {error}") from None
    types = {column["name"]: column["type"] for column in load["schema"]["fields"]}
    for column in rows.schema:
        if column.type not in _PARQUET[types[column.name]]:
            raise Refused(HTTPStatus.OK, "invalid", f"Parquet column '{column.name}' has type {column.type}")
    return rows.to_pylist()


def _told(value: Any, column: dict[str, Any]) -> Any:
    """A value as `tabledata.list` tells it."""
    if value is None or value == []:
        return [] if column.get("mode") == "REPEATED" else None
    if column.get("mode") == "REPEATED":
        return [{"v": each} for each in value]
    if column["type"] == "TIMESTAMP":
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        return str(round(moment.timestamp() * 1_000_000))
    if column["type"] == "JSON":
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


@contextmanager
def bigquery_server(project: str = "my-project", dataset: str = "trips_data_all") -> Iterator[BigQueryServer]:
    """A project with one empty dataset, at an address of ours."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server = BigQueryServer(project, dataset)
    server.url = f"http://127.0.0.1:{http.server_port}"
    http.server = server  # type: ignore[attr-defined]
    Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer in one packet: the second of two would wait for the first to be acknowledged.
    wbufsize = 1 << 16

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server: BigQueryServer = self.server.server  # type: ignore[attr-defined]
        content = self._body()
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        is_json = self.headers["Content-Type"] in ("application/json", "application/json; charset=UTF-8")
        body = json.loads(content) if is_json and content else None
        request = Request(self.command, unquote(url.path), query, body)
        server.requests.append(request)
        try:
            status, headers, answer = server.answer(request, content, self.headers)
            if server.loses_answer(request):
                raise ConnectionAbortedError
        except Refused as error:
            status, headers, answer = error.status, {}, error.body
        except ConnectionError:
            self.close_connection = True
            return
        text = json.dumps(answer).encode()
        self.send_response_only(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)
