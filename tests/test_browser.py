"""What people see in a real browser: Prefect's dashboard after real runs, and the report.

A picture of each page is left in build/screenshots. No test here runs a flow itself: Playwright's event loop,
which lasts as long as the module, would disturb it.
"""

import json
import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response, expect, sync_playwright

from builders import ZONES, csv_of, row, trips, two_squares
from helpers import PASSWORD, ROOT, execute, loaded, run_cli, start_cli, url_with
from http_server import serve
from taxi_ingest.load import database_at, parse_target
from taxi_ingest.report import make_report
from taxi_ingest.report import page as make_page
from taxi_ingest.settings.environment import Settings
from taxi_ingest.tlc.sample import write_sample

pytestmark = pytest.mark.browser
dashboard = pytest.mark.slow
"""Of tests that look at runs, which take a while to be made."""

SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = 1280, 390
BROKEN = "2022-06"
_PATIENCE_MS = 30_000
expect.set_options(timeout=_PATIENCE_MS)
SLOW = """
import time


def slowly(rows):
    time.sleep(1)
    return rows
"""


# The browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed on this machine")
    with sync_playwright() as driver:
        # Its sandbox refuses to work for root.
        browser = driver.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=False)
        yield browser
        browser.close()


@dataclass
class Seen:
    """A page, and what went on behind it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """What its console says."""
    asked: list[str] = field(default_factory=list)
    """All addresses that it asked for."""

    def __post_init__(self) -> None:
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    @property
    def hosts(self) -> set[str | None]:
        """Whom it asked."""
        return {urlsplit(url).hostname for url in self.asked if url.startswith(("http", "ws"))}


def picture(request: pytest.FixtureRequest, page: Page) -> None:
    """Leave a picture of what a test has seen last."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_")).strip("-")
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


# The dashboard


@dataclass(frozen=True)
class World:
    """What was run: what each said with `--json`, and the local server that shows it."""

    settings: Settings
    backfill: dict[str, Any]
    loaded: dict[str, Any]
    skipped: dict[str, Any]
    failed: dict[str, Any]
    slow: dict[str, Any]

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.settings.prefect_port}"

    @property
    def key(self) -> str:
        """What its dashboard asks for."""
        return (self.settings.home / "prefect" / "key").read_text().strip()

    def asked(self, path: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """What its API answers."""
        headers = {"Authorization": f"Basic {b64encode(self.key.encode()).decode()}"}
        return list(httpx.post(f"{self.server}/api/{path}", json=wanted, headers=headers).json())


@pytest.fixture(scope="module")
def world(
    prefect_server: str,
    embedded_url: str,
    system_url: str,
    settings: Settings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A backfill of two datasets of which a month fails, a few files, a block and a schedule."""
    del prefect_server
    folder = tmp_path_factory.mktemp("seen")
    (folder / "slow.py").write_text(SLOW)
    for dataset in ("yellow", "green"):
        for month in range(1, 9):
            name = f"{dataset}_tripdata_2022-{month:02}.parquet"
            write_sample(dataset, f"2022-{month:02}", folder / name, 20)
    (folder / f"yellow_tripdata_{BROKEN}.parquet").write_bytes(b"PAR1 and no more")
    odd = trips(folder, [row(1), row(2, "many"), row(3, "<b>few</b>"), *[row(4)] * 97])
    numbers = csv_of(folder, "n", *map(str, range(12)), name="numbers.csv")
    execute(embedded_url, "CREATE DATABASE seen")
    with serve(folder) as mirror:
        env = {
            "TAXI_INGEST_DATABASE_URL": url_with(embedded_url, dbname="seen"),
            "TAXI_INGEST_TLC_URL": mirror.url(""),
        }

        def ran(*arguments: object) -> dict[str, Any]:
            return dict(json.loads(run_cli(*arguments, "--json", env=env, cwd=folder).stdout))

        slow = start_cli(
            *("ingest", "--url", numbers, "--table", "numbers", "--transform", "slow:slowly"),
            *("--chunk-size", "1", "--json"),
            env=env,
            cwd=folder,
        )
        file = ("ingest", "--url", mirror.url(odd.name), "--table", "yellow_tripdata")
        block = ("blocks", "create", "--name", "seen", "--database-url", system_url)
        assert run_cli(*block, env=env).returncode == 0
        ran("schedule", "yellow", "--cron", "0 6 5 * *")
        yield World(
            settings,
            backfill=ran("backfill", "yellow", "green", "2022-01..2022-08", "--jobs", "2"),
            failed=ran(*file),
            loaded=ran(*file, "--max-rejects", "2"),
            skipped=ran(*file),
            slow=json.loads(slow.communicate(timeout=100)[0]),
        )
    execute(embedded_url, "DROP DATABASE seen WITH (FORCE)")


@pytest.fixture(scope="module")
def logged_in(world: World, chromium: Browser) -> Iterator[BrowserContext]:
    """The browser as `taxi-ingest ui` leaves it."""
    run_cli("ui", "--no-browser")
    context = chromium.new_context(viewport={"width": DESKTOP, "height": 900})
    page = context.new_page()
    page.goto((world.settings.home / "prefect" / "login.html").as_uri(), timeout=_PATIENCE_MS)
    # A page that is left while it tries the key forgets that.
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("Flow Runs")).to_be_visible()
    page.close()
    yield context
    context.close()


@pytest.fixture
def seen(logged_in: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Seen]:
    """A new page of the dashboard; it may have asked nobody but the local server, and Prefect's for logos."""
    seen = Seen(logged_in.new_page())
    yield seen
    picture(request, seen.page)
    seen.page.close()
    assert seen.hosts - {"cdn.sanity.io"} == {"127.0.0.1"}


def tab(page: Page, name: str) -> Locator:
    """Turn to a part of a run's page."""
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel", name=name)


def artifact(seen: Seen, world: World, run: dict[str, Any], key: str) -> Page:
    """Go from a run's page to the series that one of its artifacts belongs to, and on to that itself."""
    seen.page.goto(run["flow_run_url"])
    tab(seen.page, "Artifacts").get_by_role("heading", name=key, exact=True).click()
    seen.page.wait_for_url(f"**/artifacts/key/{key}*")
    expect(seen.page.get_by_role("link", name=run_name(world, run)).first).to_be_visible()
    wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [run_id(run)]}}
    [found] = world.asked("artifacts/filter", {"artifacts": wanted})
    seen.page.locator(f"a[href*='{found['id']}']").click()
    expect(seen.page.get_by_role("tab", name="Raw")).to_be_visible()
    return seen.page


def run_id(run: dict[str, Any]) -> str:
    return str(run["flow_run_url"]).rpartition("/")[2]


def run_name(world: World, run: dict[str, Any]) -> str:
    [found] = world.asked("flow_runs/filter", {"flow_runs": {"id": {"any_": [run_id(run)]}}})
    return str(found["name"])


@dashboard
def test_ui_and_the_links_of_runs_open_the_same_of_prefects_two_looks(seen: Seen, world: World) -> None:
    seen.page.goto((world.settings.home / "prefect" / "login.html").as_uri())
    seen.page.wait_for_url("**/dashboard?*")
    for address in (seen.page.url, *(run["flow_run_url"] for run in (world.loaded, world.skipped))):
        assert address.startswith(f"{world.server}/v2/")
    expect(seen.page.get_by_text("Switch to V1 UI")).to_be_visible()


@dashboard
def test_a_run_is_found_among_many_by_its_month_and_its_dataset(seen: Seen, world: World) -> None:
    page = seen.page
    page.goto(f"{world.server}/v2/runs")
    page.get_by_placeholder("Search by flow run name").fill("2022-03")
    expect(page.get_by_text("2 Flow runs", exact=True)).to_be_visible()
    for name in ("yellow 2022-03", "green 2022-03"):
        expect(page.get_by_role("link", name=name)).to_be_visible()
    page.goto(f"{world.server}/v2/runs?tags=2022-03&flow-run-search=yellow")
    expect(page.get_by_text("1 Flow run", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="yellow 2022-03")).to_be_visible()


@dashboard
def test_a_run_shows_its_sub_flow_and_its_tasks_by_names_for_people(seen: Seen, world: World) -> None:
    seen.page.goto(world.loaded["flow_run_url"])
    expect(seen.page.get_by_text("yellow 2024-01 -> yellow_tripdata").first).to_be_visible()
    below = tab(seen.page, "Subflow Runs")
    expect(below.get_by_role("link", name="yellow_tripdata", exact=True)).to_be_visible()
    tasks = tab(seen.page, "Task Runs")
    for name in ("extract", "transform"):
        expect(tasks.get_by_role("link", name=f"{name} yellow_tripdata_2024-01.csv")).to_be_visible()
    expect(tasks.get_by_role("link", name="load into yellow_tripdata")).to_be_visible()


@dashboard
def test_the_page_of_a_load_is_read_as_it_is_meant(seen: Seen, world: World) -> None:
    page = artifact(seen, world, world.loaded, "yellow-tripdata")
    expect(page.get_by_role("heading", name="loaded: 98 rows of yellow 2024-01")).to_be_visible()
    expect(page.get_by_role("cell", name="98 loaded, 2 rejected")).to_be_visible()
    source = page.get_by_role("link", name="yellow_tripdata_2024-01.csv")
    expect(source).to_have_attribute("href", world.loaded["url"])
    page.get_by_role("link", name="yellow 2024-01 -> yellow_tripdata").click()
    page.wait_for_url(f"{world.loaded['flow_run_url']}*")


@dashboard
def test_rejects_are_a_table_of_what_the_file_says(seen: Seen, world: World) -> None:
    page = artifact(seen, world, world.loaded, "yellow-tripdata-rejects")
    cells = page.get_by_role("cell").all_inner_texts()
    assert cells[:3] == ["3", "passenger_count", "'many' is no smallint"]
    assert "<b>few</b>" in cells[7].replace("\u200b", "")
    assert page.locator("td b").count() == 0


@dashboard
def test_a_long_load_shows_how_far_it_is(seen: Seen, world: World) -> None:
    page = artifact(seen, world, world.slow, "numbers-progress")
    expect(page.get_by_text("numbers.csv: how much of it is read")).to_be_visible()
    expect(page.get_by_text("Progress: ")).to_be_visible()


@dashboard
def test_a_backfill_shows_what_became_of_each_month_and_leads_to_its_run(seen: Seen, world: World) -> None:
    page = artifact(seen, world, world.backfill, "backfill-yellow-green")
    expect(page.get_by_role("heading", name="15 loaded, 1 failed")).to_be_visible()
    rows = [page.get_by_role("table").nth(number).get_by_role("row").last for number in (0, 1)]
    signs = [row.inner_text().split() for row in rows]
    assert signs == [["2022", *"✓✓✓✓✓✗✓✓"], ["2022", *"✓✓✓✓✓✓✓✓"]]
    page.get_by_role("link", name="green 2022-03").click()
    page.wait_for_url("**/runs/flow-run/*")
    expect(page.get_by_text("green 2022-03").first).to_be_visible()


@dashboard
def test_a_failed_run_and_its_task_say_the_sentence_and_the_hint_and_show_no_traceback(
    seen: Seen, world: World
) -> None:
    page = seen.page
    wanted = {"state": {"name": {"any_": ["Failed"]}}, "tags": {"all_": ["2024-01"]}}
    runs = world.asked("flow_runs/filter", {"flow_runs": wanted})
    # Other tests may have left theirs on this server.
    [failed] = [run for run in runs if run["state"]["message"].startswith(world.failed["error"])]
    page.goto(f"{world.server}/v2/runs/flow-run/{failed['id']}")
    _says_why(page, world)
    for part in (world.failed["error"], world.failed["hint"]):
        expect(tab(page, "Details").get_by_text(part)).to_be_visible()
    tab(page, "Task Runs").get_by_role("link", name="load into yellow_tripdata").click()
    page.wait_for_url("**/runs/task-run/*")
    _says_why(page, world)


def _says_why(page: Page, world: World) -> None:
    """Whether the log that is shown has the sentence and the hint, and no more."""
    log = page.get_by_role("log")
    expect(log).to_contain_text(world.failed["error"].partition(":")[0])
    expect(log).to_contain_text(world.failed["hint"])
    assert "Traceback" not in log.inner_text()


@dashboard
def test_a_skip_reads_skipped(seen: Seen, world: World) -> None:
    seen.page.goto(world.skipped["flow_run_url"])
    expect(seen.page.get_by_text("Skipped", exact=True)).to_be_visible()


@dashboard
def test_a_blocks_password_is_masked_and_reaches_no_page(seen: Seen, world: World) -> None:
    answers: list[Response] = []
    seen.page.on("response", lambda answer: answers.append(answer))
    seen.page.goto(f"{world.server}/v2/blocks")
    seen.page.get_by_role("link", name="seen", exact=True).click()
    expect(seen.page.get_by_text("********")).to_be_visible()
    told = [answer.text() for answer in answers if "/api/block" in answer.url and answer.ok]
    assert any("********" in text for text in told)
    assert PASSWORD not in "".join((*told, seen.page.content()))


@dashboard
def test_the_form_of_a_schedule_offers_the_choices_and_checks_the_month(seen: Seen, world: World) -> None:
    page = seen.page
    page.goto(f"{world.server}/v2/deployments")
    page.get_by_role("link", name="yellow", exact=True).click()
    page.goto(f"{page.url.partition('?')[0]}/run")
    page.get_by_role("button", name="Select dataset").click()
    expect(page.get_by_role("option")).to_have_text(["yellow", "green", "fhv", "fhvhv"])
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="str").first.click()
    page.get_by_role("tabpanel", name="str").get_by_role("textbox").fill("2024-13")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("'2024-13' does not match")).to_be_visible()


@dashboard
def test_who_follows_a_link_without_being_logged_in_is_asked_for_the_key_and_gets_there(
    world: World, chromium: Browser, request: pytest.FixtureRequest
) -> None:
    page = Seen(chromium.new_page()).page
    page.goto(world.loaded["flow_run_url"])
    for key, met in (("wrong", "Invalid credentials"), (world.key, "yellow 2024-01 -> yellow_tripdata")):
        page.get_by_placeholder("admin:pass").fill(key)
        picture(request, page)
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_text(met).first).to_be_visible()
    page.close()


# The report


@pytest.fixture(scope="module")
def report(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page of some trips, with a map of two zones."""
    folder = tmp_path_factory.mktemp("report")
    write_sample("yellow", "2021-03", folder / "yellow_tripdata_2021-03.parquet", 500)
    files = (
        (folder / "yellow_tripdata_2021-03.parquet", "yellow_tripdata"),
        (csv_of(folder, ZONES, '1,B,"One",S', '2,B,"Two",S'), "taxi_zones"),
        (two_squares(folder, "zones"), "taxi_zones_shapes"),
    )
    execute(embedded_url, "CREATE DATABASE reported")
    database = database_at(url_with(embedded_url, dbname="reported"))
    for file, table in files:
        loaded(file, database, table, chunk_size=1000)
    page = folder / "report.html"
    page.write_text(make_page(make_report(database, parse_target("yellow_tripdata"), date(2026, 1, 1))))
    yield page
    execute(embedded_url, "DROP DATABASE reported WITH (FORCE)")


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_fits_asks_nobody_and_has_nothing_to_complain_of(
    width: int,
    scheme: Literal["light", "dark"],
    report: Path,
    chromium: Browser,
    request: pytest.FixtureRequest,
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    seen = Seen(context.new_page())
    seen.page.goto(report.as_uri())
    expect(seen.page.locator("section").first).to_be_visible()
    picture(request, seen.page)
    assert (seen.complaints, seen.asked) == ([], [report.as_uri()])
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    paper = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(map(int, re.findall(r"\d+", paper)[:3])) / 3
    assert (shade < 128) == (scheme == "dark")
    context.close()
