"""One file, one address, however it is spelled; and no spelling gives a login away."""

import json
import os
import pickle
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TRIPS
from helpers import Cli, query
from http_server import Server, serve
from taxi_ingest import month_address
from taxi_ingest.errors import SourceError, UsageError, without_login
from taxi_ingest.settings.environment import Settings
from taxi_ingest.sources import Cache, local_file, logins_of, parse_source, with_login_in
from taxi_ingest.sources.address import Login, Logins
from taxi_ingest.sources.http import Http


def canonical_url(text: str) -> str:
    """The address of a source; the one that Prefect stores names the same source."""
    source = parse_source(text)
    assert parse_source(source.named_url) == source
    return source.url


def login_at(url: str, logins: Logins = Logins()) -> Login | None:  # noqa: B008
    source = parse_source(url, logins)
    return source.login if isinstance(source, Http) else None


SPELLINGS = {
    "http://host.example/a/b.csv?y=1": [
        "HTTP://Host.EXAMPLE/a/b.csv?y=1",
        "http://host.example:80/a/b.csv?y=1",
        "http://host.example:/a/b.csv?y=1",
        "http://host.example:080/a/b.csv?y=1",
        "http://host.example./a/b.csv?y=1",
        "http://host.example/./a/x/../b.csv?y=1",
        "http://host.example/../a/b.csv?y=1",
        "http://host.example/a/%62.csv?y=1",
        "http://host.example/a/x/%2E%2e/b.csv?%79=1",
        "http://host.example/a/b.csv?y=1#part",
        "http://me:secret@host.example/a/b.csv?y=1",
        "http://me:s@cret@host.example/a/b.csv?y=1",
        " http://host.example/a/b.csv?y=1\n",
        "http://h%6Fst.example/a/b.csv?y=1",
    ],
    "https://xn--bcher-kva.example/": [
        "https://Bücher.example",
        "https://bu\u0308cher.example:443/",
        "https://b%C3%BCcher.example/.",
    ],
    "http://[2001:db8::1]:8080/x": [
        "http://[2001:DB8:0:0::1]:8080/x",
        "http://u:p@[2001:db8:0:0:0:0:0:1]:8080/x",
    ],
    "http://h/%C3%BC%20%2F": ["http://h/ü %2f", "http://h/%c3%bc%20%2F"],
    "http://h/100%25": ["http://h/100%", "http://h/10%30%25"],
}


@pytest.mark.parametrize(
    ("spelling", "canonical"), [(one, canonical) for canonical, all in SPELLINGS.items() for one in all]
)
def test_spellings_of_one_url_are_one_address(spelling: str, canonical: str) -> None:
    assert canonical_url(spelling) == canonical == canonical_url(canonical)


def test_other_urls_stay_other_addresses() -> None:
    urls = [
        *("http://h/a", "https://h/a", "http://h:81/a", "http://h/A", "http://h/a/", "http://h//a"),
        *("http://h/a?", "http://h/a?x", "http://h/a?x=1&y=2", "http://h/a?y=2&x=1", "http://h/a%2Fb"),
        *(
            "http://h/a/b",
            "http://h/a?x=%26",
            "http://h/a?x=&",
            "http://h/a+b",
            "http://h/a%20b",
            "http://H2/a",
        ),
        *("http://h/a%3Fx", "http://h/...", "http://[::1]/a", "http://[::2]/a"),
    ]
    assert len(set(map(canonical_url, urls))) == len(urls)


segments = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=6).filter(
    lambda text: text not in (".", "..")
)


def respelled(text: str, seed: int) -> str:
    """A percent-encoded text with some of its characters encoded that need not be, in any case."""
    shown = []
    for number, part in enumerate(re.findall(r"%..|.", text)):
        odd = (seed >> (number % 60)) & 1
        if len(part) == 3:
            shown.append(part.lower() if odd else part)
        else:
            shown.append(f"%{ord(part):02x}" if odd and (part.isalnum() or part in "-._~") else part)
    return "".join(shown)


@given(st.lists(segments, max_size=4), st.one_of(st.none(), segments), st.integers(0, 2**60))
def test_any_spelling_of_any_url_is_its_address(path: list[str], query: str | None, seed: int) -> None:
    encoded = "/".join(quote(part, safe="") for part in path)
    tail = "" if query is None else f"?{quote(query, safe='')}"
    plain = canonical_url(f"http://host.example/{encoded}{tail}")
    assert canonical_url(plain) == plain
    odd = canonical_url(f"HTTP://u:p@HOST.example:80/./{respelled(encoded, seed)}{respelled(tail, seed)}#x")
    assert odd == plain
    assert plain.isascii()
    assert plain.isprintable()


@given(st.lists(segments, min_size=1, max_size=3), st.lists(segments, min_size=1, max_size=3))
def test_two_paths_of_urls_are_two_addresses(one: list[str], other: list[str]) -> None:
    first, second = (f"http://h/{'/'.join(quote(part, safe='') for part in path)}" for path in (one, other))
    assert (canonical_url(first) == canonical_url(second)) == (one == other)


@given(st.text())
def test_any_text_is_an_address_or_an_error_and_its_address_stays(text: str) -> None:
    try:
        address = canonical_url(text)
    except (UsageError, SourceError):
        return
    assert canonical_url(address) == address


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_file_name_has_an_address_that_leads_to_it(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    if name in (".", "..") or len(name.encode()) > 200:
        return
    path = tmp_path_factory.getbasetemp() / "names" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("a\n1\n")
    for spelling in (str(path), canonical_url(str(path)), f"file:{quote(str(path))}"):
        assert local_file(spelling).path == path
        assert canonical_url(spelling) == canonical_url(str(path))
    path.unlink()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file, and links to both; the current one."""
    place = tmp_path / "a b"
    place.mkdir()
    (place / "trips.csv").write_text(TRIPS)
    (place / "latest.csv").symlink_to("trips.csv")
    (tmp_path / "link").symlink_to(place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(tmp_path))
    return place


LOCAL_SPELLINGS = [
    "trips.csv",
    "./trips.csv",
    "../a b/trips.csv",
    "{place}/trips.csv",
    "/{place}/trips.csv",
    "{place}//./trips.csv",
    "~/a b/trips.csv",
    "latest.csv",
    "../link/trips.csv",
    "{place}/../link/../a b/latest.csv",
    "file://{place}/trips.csv",
    "file:{quoted}/trips.csv",
    "FILE://localhost{quoted}/%74rips.csv",
    "file://LOCALHOST{quoted}/./trips.csv#part",
    " file://{quoted}/latest.csv",
]


@pytest.mark.parametrize("spelling", LOCAL_SPELLINGS)
def test_spellings_of_one_path_are_one_address(place: Path, spelling: str) -> None:
    spelled = spelling.format(place=place, quoted=quote(str(place)))
    assert canonical_url(spelled) == f"file://{quote(str(place))}/trips.csv"
    assert local_file(spelled).path == place / "trips.csv"


@pytest.mark.parametrize(
    "name", ["a:b.csv", "http.csv", "~nobody123.csv", "s3:x.csv", "%41.csv", "x?y#z.csv", "-x", " "]
)
def test_an_existing_file_of_any_name_is_found(place: Path, name: str) -> None:
    (place / name).write_text("x")
    assert local_file(name).path == place / name


def test_a_name_that_is_not_unicode_has_an_address(place: Path) -> None:
    name = os.fsdecode(b"b\xff.csv")
    (place / name).write_text("x")
    assert canonical_url(name).endswith("/b%FF.csv")
    assert local_file(canonical_url(name)).path == place / name


def test_of_a_links_name_and_the_files_the_one_with_a_month_is_the_hint(place: Path) -> None:
    month = "green_tripdata_2024-01.csv"
    (place / month).symlink_to("trips.csv")
    assert local_file(month).name == month
    (place / month).unlink()
    (place / "trips.csv").rename(place / month)
    (place / "new.csv").symlink_to(month)
    assert local_file("new.csv").name == month


BAD = [
    *(
        "http://",
        "http:///x.csv",
        "http:x.csv",
        "http://h:99999/x",
        "http://h:abc/x",
        "http://[::1/x",
        "http://[x]/",
    ),
    *(
        "http://a..b/x",
        f"http://{'x' * 64}.de/",
        "http://a b/x",
        "http://h/a\x1bb",
        "http://h/a\0b",
        "",
        "  ",
    ),
    *("s3://b/x.csv", "ftp://h/x.csv", "data:text/csv,a", "C:\\x\\y.csv", "d:/x/y.csv", "file:///a%00b"),
    *("http://-\u2028/x", "http://\ud800/x", "http://ⅷ％/x"),
]


@pytest.mark.parametrize("source", BAD)
def test_what_is_no_address_is_a_usage_error(source: str) -> None:
    with pytest.raises(UsageError) as failure:
        canonical_url(source)
    assert failure.value.hint


SECRET = "gehe1m"
CUT_LOGINS = [
    *(f"http://u:{SECRET}{mark}b@host.example/x" for mark in "/?#[]\\ "),
    *(f"http://u:{mark}{SECRET}@host.example/x" for mark in "/?#["),
    *(f"https://u:1234/{SECRET}@host.example/x", f"http://u:{SECRET}@host.example:{SECRET}/x"),
    *(
        f"http://u:{SECRET}@",
        f"http://u:{SECRET}@[::1/x",
        f"ftp://u:{SECRET}@host/x",
        f"http://u:{SECRET}\x07@h/x",
    ),
    f"file://u:{SECRET}@host/x",
]


@pytest.mark.parametrize("source", CUT_LOGINS)
def test_a_login_that_cannot_be_told_apart_is_never_repeated(source: str) -> None:
    try:
        shown = canonical_url(source)
    except (UsageError, SourceError) as error:
        shown = f"{error} {error.hint}"
    assert SECRET not in shown


def test_a_login_is_taken_out_of_any_text() -> None:
    text = "tried http://u:a/b@host/x and postgresql://me:p@ss@db/y, not (https://h/a@b)"
    assert without_login(text) == "tried http://host/x and postgresql://db/y, not (https://h/a@b)"


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example:8080/@scope/x.csv",
        "http://localhost:9000/a@b",
        "http://h/a:b@c",
        "http://h/x?to=a@b",
    ],
)
def test_an_at_sign_of_the_path_is_no_login(url: str) -> None:
    assert canonical_url(url) == url
    assert login_at(url) is None


@pytest.mark.slow
def test_a_revised_file_under_another_spelling_replaces(
    cli: Cli, tmp_path: Path, server: Server, embedded_database_url: str
) -> None:
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    path = tmp_path / "any.csv"
    (tmp_path / "link.csv").symlink_to(path)
    port = f":{server.port}"
    spellings = {
        "path": [path, f"file://localhost{tmp_path}/./x/../any.csv", tmp_path / "link.csv"],
        "url": [
            server.url("any.csv"),
            f"HTTP://me:pw@127.0.0.1{port}/x/../%61ny.csv#x",
        ],
    }
    for table, sources in spellings.items():
        seen = []
        for number, source in enumerate(sources):
            path.write_text("n\n" + f"{number}\n" * (number + 1))
            os.utime(path, (number + 1, number + 1))
            done = cli("ingest", "--url", source, "--table", table, "--json", env=env)
            result = json.loads(done.stdout)
            seen.append((result["status"], result["url"]))
        assert [status for status, _ in seen] == ["loaded"] + ["replaced"] * (len(sources) - 1)
        assert len({url for _, url in seen}) == 1
        assert query(embedded_database_url, f"SELECT count(*) FROM {table}") == [(len(sources),)]


@pytest.mark.slow
def test_a_failure_spells_the_address_as_a_success_does(
    cli: Cli, trips: Path, embedded_database_url: str
) -> None:
    env = {"TAXI_INGEST_DATABASE_URL": embedded_database_url}
    spelled = ("ingest", "--url", trips.parent / "." / "x" / ".." / trips.name, "--json", "--table")
    good, bad = (json.loads(cli(*spelled, table, env=env).stdout) for table in ("t", "nowhere.t"))
    assert (good["status"], bad["status"]) == ("loaded", "failed")
    assert good["url"] == bad["url"] == trips.as_uri()


LOGINS = "https://a:b@one.example http://me:s%40crét@two.example:8080"


@pytest.mark.parametrize(
    ("setting", "url", "login"),
    [
        (LOGINS, "https://one.example/x", Login("a", "b")),
        (LOGINS, "HTTPS://ONE.example:443/x", Login("a", "b")),
        (LOGINS, "http://one.example/x", None),
        (LOGINS, "https://one.example:444/x", None),
        (LOGINS, "https://sub.one.example/x", None),
        (LOGINS, "http://two.example:8080/x?y", Login("me", "s@crét")),
        (LOGINS, "/a/path.csv", None),
        ("me:p@ss:word", "http://any.example/x", Login("me", "p@ss:word")),
        ("me:secret", "https://d37ci6vzurychx.cloudfront.net/trip-data/x.parquet", None),
        (None, "http://any.example/x", None),
    ],
)
def test_a_login_is_for_the_host_that_it_names(setting: str | None, url: str, login: Login | None) -> None:
    assert login_at(url, logins_of(Settings(source_login=setting))) == login  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["http://me:s%40c%3A@two.example:8080/x", "http://me:s@c:@TWO.example:8080/x#y"]
)
def test_a_login_in_a_url_goes_with_the_settings_and_not_with_the_address(url: str) -> None:
    settings = with_login_in(url, Settings(source_login=LOGINS))  # type: ignore[arg-type]
    source = parse_source(url)
    assert login_at(url) == login_at(source.named_url, logins_of(settings)) == Login("me", "s@c:")
    assert login_at("http://two.example/x", logins_of(settings)) is None
    assert login_at(source.named_url) is None


def test_a_login_in_the_mirrors_address_is_for_the_mirror() -> None:
    settings = Settings(tlc_url="http://me:pw@mirror.example/{dataset}", source_login=LOGINS)  # type: ignore[arg-type]
    assert login_at("http://mirror.example/x.csv", logins_of(settings)) == Login("me", "pw")
    assert login_at("https://one.example/x", logins_of(settings)) == Login("a", "b")


@pytest.mark.parametrize("base", ["{folder}", "{server}", "{login}"])
def test_a_month_lies_in_the_format_that_the_mirror_has_and_its_address_has_no_login(
    tmp_path: Path, base: str
) -> None:
    (tmp_path / "green").mkdir()
    (tmp_path / "green" / "green_tripdata_2024-01.csv.gz").write_bytes(b"x")
    with serve(tmp_path, login="me:pw" if base == "{login}" else None) as server:
        url = server.url("").rstrip("/")
        place = {"folder": tmp_path, "server": url, "login": url.replace("http://", "http://me:pw@")}
        settings = Settings(tlc_url=f"{base.format(**place)}/{{dataset}}/")
        address = month_address("green", "2024-01", settings)
    root = tmp_path.as_uri() if base == "{folder}" else url
    assert address == f"{root}/green/green_tripdata_2024-01.csv.gz"


def test_a_login_is_shown_nowhere_and_is_not_pickled() -> None:
    logins = logins_of(Settings(source_login=f"https://{SECRET}:{SECRET}@one.example"))  # type: ignore[arg-type]
    source = parse_source("https://one.example/x.csv", logins)
    assert SECRET not in f"{source!r} {source} {logins!r} {source.url} {source.named_url} {source.name}"
    for secret in (source, logins):
        with pytest.raises(TypeError, match="login"):
            pickle.dumps(secret)


def test_a_setting_whose_host_is_none_is_an_error_that_repeats_no_login() -> None:
    settings = Settings(source_login=f"https://me:{SECRET}@[x]/")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="TAXI_INGEST_SOURCE_LOGIN is wrong") as failure:
        logins_of(settings)
    assert SECRET not in str(failure.value)


def test_a_file_of_a_link_loop_or_of_a_long_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("loop", "x" * 300):
        with pytest.raises(SourceError):
            parse_source(str(tmp_path / name)).fetch(tmp_path, Cache(tmp_path, 0))


def test_a_pipe_that_a_shell_has_opened_is_one_source_though_its_link_leads_nowhere(tmp_path: Path) -> None:
    """As `<(…)` of bash names it."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("a,b\n1,2\n")
    source = parse_source(f"/dev/fd/{reading}")
    again = parse_source(source.named_url)
    assert again == source
    file = again.fetch(tmp_path, Cache(tmp_path / "cache", 0))
    os.close(reading)
    assert file
    assert file.path.read_text() == "a,b\n1,2\n"


def test_several_urls_each_bring_their_own_login() -> None:
    settings = Settings()
    for url in ("http://ann:one@first/x.csv", "http://bob:two%40@second/y.csv"):
        settings = with_login_in(url, settings)
    logins = logins_of(settings)
    assert [logins.login_for(f"http://{host}/z.csv") for host in ("first", "second", "third")] == [
        Login("ann", "one"),
        Login("bob", "two@"),
        None,
    ]
