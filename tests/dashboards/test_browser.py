"""The app in a browser: every page, light and dark, wide and narrow, and in use."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from dashboards.app.menu import MENU
from dashboards.palette import color
from dashboards.shades import DARK_PAGE, on_dark

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REPOSITORY = Path(__file__).parent.parent.parent
INTERRUPTED = 130
MOST_LOOKS = 40

expect.set_options(timeout=30_000)  # on a machine with much else to do

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
WIDTHS = {"wide": (1280, 900), "narrow": (390, 844)}
GROUNDS = {"light": "#ffffff", "dark": DARK_PAGE}

# What a page shows that is too wide: itself, or text that sticks out of its figure.
TOO_WIDE = """
() => {
  const main = document.querySelector('[data-testid="stMain"]');
  const found = main.scrollWidth > main.clientWidth ? ["the page"] : [];
  for (const plot of document.querySelectorAll(".js-plotly-plot")) {
    const edge = plot.getBoundingClientRect();
    for (const text of plot.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.width && (box.left < edge.left - 2 || box.right > edge.right + 2))
        found.push(text.textContent);
    }
  }
  return found;
}
"""


DRAWN = """
() => [...document.querySelectorAll('[data-testid="stPlotlyChart"]')]
  .every(chart => chart.querySelector(".main-svg .xy"))
"""


@pytest.fixture(scope="module")
def address(whole):
    """Serve the small experiment; the server ends without a word when interrupted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows", "dashboard", "--root", str(whole)]
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert f"http://127.0.0.1:{port} " in server.stdout.readline()
        yield f"http://127.0.0.1:{port}/"
        server.send_signal(signal.SIGINT)
        said = server.communicate(timeout=30)[0]
        assert not said.strip()
        assert server.returncode == INTERRUPTED
    finally:
        server.kill()
        server.communicate()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def complaints():
    """What the browser logged, or asked of others than the server."""
    return []


@pytest.fixture
def opened(chromium, address, complaints):
    """Open a page; it belongs to a visitor of its own."""
    contexts = []

    def open_page(width="wide", scheme="light"):
        context = chromium.new_context(
            color_scheme=scheme,
            viewport=dict(zip(("width", "height"), WIDTHS[width], strict=True)),
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        inside = (address, address.replace("http:", "ws:"), "data:", "blob:")
        page.on(
            "request",
            lambda request: (
                request.url.startswith(inside) or complaints.append(request.url)
            ),
        )
        return page

    yield open_page
    for context in contexts:
        context.close()


def go(page, address, name, query=""):
    """Go to a page by its address."""
    page.goto(f"{address}{name if name != MENU[0].name else ''}{query}")
    return complete(page)


def complete(page):
    """Wait until a page is drawn."""
    expect(page.get_by_test_id("stHeading").first).to_be_visible()
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.locator('[data-stale="true"]')).to_have_count(0)
    expect(page.get_by_test_id("stApp")).to_have_attribute(
        "data-test-script-state", "notRunning"
    )
    page.wait_for_function(DRAWN)
    return page


def settled(page):
    """Say what is too wide, once figures have had time to take their new width."""
    before = None
    for _ in range(MOST_LOOKS):
        page.wait_for_timeout(150)
        found = page.evaluate(TOO_WIDE)
        if found == before == []:
            break
        before = found
    return found


@pytest.mark.parametrize("scheme", GROUNDS)
def test_every_page_looks_right_and_asks_nobody_else(
    opened, address, complaints, scheme
):
    page = go(opened("wide", scheme), address, MENU[0].name)
    for entry in MENU:
        if entry.is_listed:
            page.get_by_role("link", name=entry.title, exact=True).click()
            expect(page).to_have_title(f"{entry.title} - mergegrid")
            complete(page)
        else:
            go(page, address, entry.name, "?cell=average-0-%7B%7D")
        for across, down in (WIDTHS["narrow"], WIDTHS["wide"]):
            page.set_viewport_size({"width": across, "height": down})
            assert settled(page) == [], (entry.name, across)
        assert page.get_by_test_id("stException").count() == 0, entry.name
        ground = page.evaluate(
            "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
        )
        parts = [int(GROUNDS[scheme][at : at + 2], 16) for at in (1, 3, 5)]
        assert ground == "rgb({}, {}, {})".format(*parts), entry.name
        assert complaints == [], entry.name


def test_a_visitor_finds_a_cell_and_takes_data_home(opened, address, complaints, small):
    page = go(opened(), address, "leaderboard")
    page.get_by_role("combobox", name="Experts merged").click()
    page.get_by_role("option", name="2", exact=True).click()
    expect(page.get_by_text("Leaderboard: 2 experts in one model")).to_be_visible()
    complete(page)

    page.get_by_text("SQL and data").first.click()
    button = page.get_by_test_id("stDownloadButton").first.get_by_role("button")
    expect(button).to_be_visible()
    with page.expect_download() as download:
        button.click()
    text = download.value.path().read_text()
    assert text.count("\n") == 1 + len(
        small.query("SELECT * FROM leaderboard WHERE size = 2")[1]
    )

    page.locator(".leaderboard").get_by_role("link", name="RegMean").click()
    expect(page.get_by_text("RegMean of 2 experts")).to_be_visible()
    expect(page.get_by_text("flows export regmean-1-")).to_be_visible()

    page.get_by_role("link", name="SQL", exact=True).click()
    page.get_by_role("textbox", name="Question").fill("SELECT 6 * 7 AS answer")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.get_by_text("1 row", exact=True)).to_be_visible()

    page.get_by_role("link", name="Trade-off").click()
    expect(page.get_by_text("Held-in against generalization")).to_be_visible()
    expect(page.get_by_role("combobox", name="Experts merged")).to_have_value("2")
    assert complaints == []


def test_figures_follow_the_colours_that_a_visitor_chooses(opened, address, complaints):
    page = go(opened(), address, "leaderboard")
    page.get_by_test_id("stMainMenu").get_by_role("button").click()
    page.get_by_test_id("stMainMenuItem-theme-Dark").click()
    dark = on_dark(color("average"))
    parts = [int(dark[at : at + 2], 16) for at in (1, 3, 5)]
    shown = page.locator(
        f'.points path[style*="rgb({parts[0]}, {parts[1]}, {parts[2]})"]'
    )
    expect(shown.first).to_be_visible()
    assert complaints == []
