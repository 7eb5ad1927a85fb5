"""GcsBucket, S3Bucket, GcpCredentials and BigQueryWarehouse blocks: what Prefect knows of clouds by name.

They are read as documents of Prefect's API: the packages of their classes, prefect-gcp and prefect-aws, take
seconds to import, which only who makes a block waits for.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from taxi_ingest.errors import DatabaseError, SourceError, TaxiIngestError, UsageError
from taxi_ingest.flows.blocks import (
    ANY,
    BlockInfo,
    Use,
    check_name,
    database_of,
    documents,
    existing_document,
    find_document,
    list_blocks,
    type_of,
)
from taxi_ingest.flows.caller import calling, settings_in_use
from taxi_ingest.flows.cloud_keys import SCOPE, google_credentials, read_amazon_key, read_google_key
from taxi_ingest.load import Database
from taxi_ingest.places import Place, place_at
from taxi_ingest.places.bigquery import BigQuery
from taxi_ingest.places.bigquery.failures import LOGIN, told_as_ours
from taxi_ingest.settings.environment import BucketLogin, Settings
from taxi_ingest.settings.job import BlockType
from taxi_ingest.sources.bucket_logins import UnusableCredentials, amazon_session_login
from taxi_ingest.sources.buckets import check_installed, keys_below, parse_bucket_url

Data = dict[str, Any]

_SECONDS = 10


@dataclass(frozen=True)
class CloudBlock:
    """A block of a cloud's, as it may be shown."""

    name: str
    type: str
    """Prefect's name of its kind, `gcs-bucket`."""
    data: Data = field(repr=False)
    """What stands in it, secrets too."""

    @property
    def address(self) -> str:
        """What it opens: `gs://bucket/folder/`, `bigquery://project`, or who it is."""
        return _TYPES[self.type].address(self.data)

    @property
    def login(self) -> BucketLogin | None:
        """What it opens buckets with; None for the usual credentials of where it is used.

        Raises UnusableCredentials for a key that is none, and for a file or a profile that is not here.
        """
        return _TYPES[self.type].login(self.data)

    def check(self) -> str:
        """Try it, and say what was found.

        Raises DatabaseError where it doesn't work, UsageError where the extra isn't installed.
        """
        check_installed()
        with _telling(self, DatabaseError):
            return _TYPES[self.type].check(self)


@contextmanager
def _telling(block: CloudBlock, kind: type[TaxiIngestError]) -> Iterator[None]:
    """Raise UnusableCredentials, of what stands in a block, as an error of this kind."""
    try:
        yield
    except UnusableCredentials as error:
        raise kind(f"The block {block.name} can't be used: {error}.", _OVERWRITE) from None


_OVERWRITE = "`taxi-ingest blocks create --overwrite` makes it anew."


# What stands in a block


def _google(data: Data) -> Data:
    """The credentials of a block, or of one that has a block of them."""
    found: Data = data.get("gcp_credentials", data)
    return found


def _google_key(data: Data) -> Data | None:
    """The key of a service account that is in a block, or in the file that it names."""
    credentials = _google(data)
    if path := credentials.get("service_account_file"):
        return read_google_key(path)
    key: Data | None = credentials.get("service_account_info")
    return key


def _google_credentials(data: Data) -> Any:
    """What Google's own libraries take of a block; None for the usual credentials."""
    key = _google_key(data)
    return key and google_credentials(key, "its key")


def _google_login(data: Data) -> BucketLogin | None:
    key = _google_key(data)
    if not key:
        return None
    google_credentials(key, "its key")
    return BucketLogin("gs", {"service_account_key": json.dumps(key)})


def _google_name(data: Data) -> str:
    """Who a key is, or which file has it."""
    credentials = _google(data)
    key = credentials.get("service_account_info") or {}
    return str(key.get("client_email") or credentials.get("service_account_file") or "the usual credentials")


def _project(data: Data) -> str:
    credentials = _google(data)
    key = credentials.get("service_account_info") or {}
    return str(credentials.get("project") or key.get("project_id") or "")


_AMAZON_NAMES = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "token",
    "minio_root_user": "access_key_id",
    "minio_root_password": "secret_access_key",
    "region_name": "region",
}
"""A field of AwsCredentials or MinIOCredentials -> what obstore calls it."""


def _amazon_login(data: Data) -> BucketLogin | None:
    credentials = data.get("credentials") or {}
    if credentials.get("assume_role_arn"):
        raise UsageError(
            "A block that assumes a role can't be used.", "Put the role into a profile: AWS_PROFILE."
        )
    options = {ours: credentials[name] for name, ours in _AMAZON_NAMES.items() if credentials.get(name)}
    if endpoint := (credentials.get("aws_client_parameters") or {}).get("endpoint_url"):
        options["endpoint"] = endpoint
    if ("access_key_id" in options) != ("secret_access_key" in options):
        raise UnusableCredentials("its access key is not whole")
    if profile := credentials.get("profile_name"):
        options |= amazon_session_login(profile_name=profile)
    return BucketLogin("s3", options) if options else None


# Trying it


def _list_one(block: CloudBlock) -> str:
    found = next(keys_below(parse_bucket_url(block.address), block.login, DatabaseError), None)
    return "answers" if found else "answers, and is empty"


def _get_token(block: CloudBlock) -> str:
    import google.auth
    from google.auth.transport.requests import Request

    key = _google_credentials(block.data)
    with told_as_ours("a token", "", _NEW_KEY if key else LOGIN):
        (key or google.auth.default([SCOPE])[0]).refresh(Request())
    return "gets a token"


def _list_datasets(block: CloudBlock) -> str:
    key, project = _google_credentials(block.data), _project(block.data)
    if not project:
        raise UsageError("Which project?", "Give --project, or a --key-file, which tells it.")
    missing = "Look at the project's name: gcloud projects list"
    with told_as_ours(f"the project {project}", missing, _NEW_KEY if key else LOGIN):
        from google.cloud import bigquery

        client: Any = bigquery.Client(project, key)
        list(client.list_datasets(max_results=1, retry=None, timeout=_SECONDS))
    return "answers"


_NEW_KEY = "Have Google's console make a new key, then the block: `taxi-ingest blocks create --overwrite`."


# The kinds


@dataclass(frozen=True)
class _Type:
    """A kind of block."""

    title: str
    """Its class."""
    address: Callable[[Data], str]
    login: Callable[[Data], BucketLogin | None]
    check: Callable[[CloudBlock], str]


_TYPES: Mapping[str, _Type] = {
    "gcs-bucket": _Type(
        "GcsBucket",
        lambda data: f"gs://{data['bucket']}/{data.get('bucket_folder') or ''}",
        _google_login,
        _list_one,
    ),
    "s3-bucket": _Type(
        "S3Bucket",
        lambda data: f"s3://{data['bucket_name']}/{data.get('bucket_folder') or ''}",
        _amazon_login,
        _list_one,
    ),
    "gcp-credentials": _Type(
        "GcpCredentials",
        _google_name,
        _google_login,
        _get_token,
    ),
    "bigquery-warehouse": _Type(
        "BigQueryWarehouse",
        lambda data: f"bigquery://{_project(data)}",
        _google_login,
        _list_datasets,
    ),
}


# Those that there are


def all_blocks() -> list[BlockInfo | CloudBlock]:
    """All that Prefect has of databases, buckets and clouds, by name."""
    clouds = [_block(document) for document in documents(list(_TYPES), secrets=True)]
    return sorted([*list_blocks(), *clouds], key=lambda block: (block.name, block.type))


def try_block(name: str) -> str:
    """Try what a block names, and say what was found.

    Raises UsageError where there is no such block, DatabaseError where it doesn't work.
    """
    document = existing_document(name, ANY)
    if type_of(document) in _TYPES:
        block = _block(document)
        return f"{block.address} {block.check()}"
    database = database_of(document)
    return f"{database.address} answers, {database.server_version()}"


def _block(document: Data) -> CloudBlock:
    return CloudBlock(document["name"], type_of(document), document["data"])


# Loading into what one opens


_BUCKETS = tuple(type for type in _TYPES if type.endswith("-bucket"))
_PLACE = Use(
    ("sqlalchemy-connector", *_BUCKETS),
    "does not say where to load into",
    "Give --to bigquery://project/dataset, too, or name a block of a database or bucket.",
)
_BIGQUERY = Use(
    ("bigquery-warehouse", "gcp-credentials"),
    "does not open BigQuery",
    "Name one of type bigquery-warehouse or gcp-credentials: `taxi-ingest blocks ls` lists all.",
)


def open_block(name: str, to: str | None = None) -> Place | Database:
    """The database that a block names, or the lake in its bucket; BigQuery, at `to`, opened with what it has.

    Raises UsageError where there is no such block, and for one that says who it is where it should say where,
    and the other way round; DatabaseError for one that can't be used.
    """
    if to is not None:
        return _with_credentials(to, name)
    document = existing_document(name, _PLACE)
    if type_of(document) not in _TYPES:
        return database_of(document)
    block = _block(document)
    from taxi_ingest.places.lake import lake_in

    check_installed()
    with _telling(block, DatabaseError):
        return lake_in(block.address, block.login)


def _with_credentials(to: str, name: str) -> Place:
    """BigQuery, opened with what a block has."""
    place = place_at(to)
    if not isinstance(place, BigQuery):
        raise UsageError("Where to? Both --to and --block say it.", "Leave one of them out.")
    block = _find(name, _BIGQUERY)
    check_installed()
    with _telling(block, DatabaseError):
        return replace(place, credentials=_google_credentials(block.data))


def _find(name: str, use: Use) -> CloudBlock:
    return _block(existing_document(name, use))


# Reading sources with one


_SOURCE = Use(
    tuple(_TYPES),
    "opens no bucket",
    "Name one of type gcs-bucket, s3-bucket or gcp-credentials: `taxi-ingest blocks ls` lists all.",
)


def check_source_block(name: str | None) -> None:
    """Raise UsageError for a block that is named, and opens no bucket or is not there."""
    if name:
        _find(name, _SOURCE)


def with_source_block(settings: Settings, name: str) -> Settings:
    """The same settings, with what a block opens buckets with. Raises UsageError where there is none."""
    block = _find(name, _SOURCE)
    check_installed()
    with _telling(block, SourceError):
        login = block.login
    return settings.with_bucket_login(login) if login else settings


@contextmanager
def source_opened(block: str | None) -> Iterator[None]:
    """Inside, buckets are read with what a block opens them with, unless the caller has brought that."""
    settings = settings_in_use()
    if block is None or settings.bucket_login:
        yield
        return
    with calling(settings=with_source_block(settings, block)):
        yield


# Making one


def create_cloud_block(
    type: BlockType,
    name: str,
    bucket: str,
    folder: str,
    key_file: str | None,
    project: str | None,
    overwrite: bool,
) -> CloudBlock:
    """Try what a block is to open, then save it; its key is encrypted by Prefect.

    Without a key file (`-` is standard input) the block uses the usual credentials of where it is used.
    Raises UsageError for a name that is taken or a key that is none, and what trying it raises; then nothing
    is saved.
    """
    check_installed()
    check_name(name)
    if not overwrite and find_document(f"{type}/{name}", ANY):
        raise UsageError(f"There is a block {name} already.", "Choose another --name, or --overwrite it.")
    data = _data(type, bucket, folder, _key_in(type, key_file) if key_file else None, project)
    block = _block({"name": name, "block_type": {"slug": type}, "data": data})
    block.check()
    _made(type, data).save(name, overwrite=overwrite)
    return block


def _key_in(type: BlockType, path: str) -> Data:
    """The key in a file, for a block of this type. Raises UsageError."""
    read, hint = _KEYS["amazon" if type == "s3-bucket" else "google"]
    try:
        return read(path)
    except UnusableCredentials as error:
        said = str(error)
        raise UsageError(f"{said[:1].upper()}{said[1:]}.", hint) from None


_KEYS: Mapping[str, tuple[Callable[[str], Data], str]] = {
    "amazon": (
        read_amazon_key,
        "Take the CSV that Amazon's console makes, or a file like ~/.aws/credentials.",
    ),
    "google": (
        read_google_key,
        "Take the JSON file that Google's console makes for a service account, all of it.",
    ),
}
"""What reads a cloud's key, and which it should be."""


def _data(type: BlockType, bucket: str, folder: str, key: Data | None, project: str | None) -> Data:
    """What the block is made of, as its document has it."""
    folder = folder.strip("/") and f"{folder.strip('/')}/"
    if type == "s3-bucket":
        return {"bucket_name": bucket, "bucket_folder": folder, "credentials": key or {}}
    google = {"service_account_info": key, "project": project}
    if type == "gcs-bucket":
        return {"bucket": bucket, "bucket_folder": folder, "gcp_credentials": google}
    return {"gcp_credentials": google} if type == "bigquery-warehouse" else google


def _made(type: BlockType, data: Data) -> Any:
    if type == "s3-bucket":
        from prefect_aws import AwsCredentials, S3Bucket

        return S3Bucket(**data | {"credentials": AwsCredentials(**data["credentials"])})
    import prefect_gcp
    from google.auth.exceptions import GoogleAuthError

    try:
        with warnings.catch_warnings():
            # BigQueryWarehouse's, of a package that makes large answers faster.
            warnings.simplefilter("ignore")
            google = prefect_gcp.GcpCredentials(**_google(data))
            if type == "gcp-credentials":
                return google
            return getattr(prefect_gcp, _TYPES[type].title)(**data | {"gcp_credentials": google})
    except (GoogleAuthError, ValueError):
        # It may repeat the key.
        raise DatabaseError(
            f"Google's library makes no {_TYPES[type].title} of these credentials.",
            "Give a --key-file, or `gcloud auth application-default login` first.",
        ) from None
