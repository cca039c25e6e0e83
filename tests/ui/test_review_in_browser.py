"""The review page in a real browser, from login to a stored override."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from conftest import HIPPOCAMPUS_MM, SENTENCE

from ui.accounts import Accounts
from ui.app import create_app

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs the `chromium` browser")
# Drawing in software, and no call home by the browser itself.
ARGS = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]  # fmt: skip
PASSWORD = "a long enough password"
PATIENCE_MS = 60_000


@pytest.fixture
def address(site, assistant) -> Iterator[str]:
    """The page served on a free port of this machine."""
    accounts = Accounts()
    accounts.add("dr.lee", PASSWORD)
    accounts.add("dr.wang", PASSWORD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app(site, assistant, accounts)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def browser() -> Iterator[object]:
    """Headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the playwright package")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield opened
        opened.close()


def new_page(browser, requests: list[str] | None = None):
    """A fresh browser session that notes its requests."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("request", lambda request: requests is not None and requests.append(request.url))
    return page


def log_in(page, address: str, user: str, password: str = PASSWORD) -> None:
    """Fill in the login form."""
    page.goto(f"{address}/login")
    page.fill("input[name=user]", user)
    page.fill("input[name=password]", password)
    page.click("main button")


def open_case(page, case_id: str) -> None:
    """Choose a case from the worklist."""
    page.click(f"[data-pick={case_id}]")
    page.wait_for_selector(f".banner code:has-text('{case_id}')")


def test_a_physician_reviews_a_case_from_login_to_override(address, browser, site):
    """The whole of a review, the sources of its evidence, and nothing asked of another machine."""
    requests: list[str] = []
    page = new_page(browser, requests)
    log_in(page, address, "dr.lee", "a wrong password")
    assert "do not belong together" in page.inner_text(".refused")
    log_in(page, address, "dr.lee")
    open_case(page, "abc123")
    viewer = page.frame_locator("#viewer")
    viewer.locator("body[data-ready=regions]").wait_for()

    page.click(".piece[data-region='1']")  # the left hippocampus
    viewer.locator("body[data-region='Left hippocampus']").wait_for()
    crosshair = viewer.locator("body").evaluate("body => body.dataset.mm")
    assert np.allclose([float(x) for x in crosshair.split()], HIPPOCAMPUS_MM, atol=4.0)
    page.wait_for_selector("#source-view:has-text('Centile for age, sex and head size: 2')")

    page.click(f".piece:has-text('{SENTENCE}')")
    page.wait_for_selector("#marked")
    assert page.inner_text("#marked") == SENTENCE

    page.click(".piece:has(.tag.labs)")
    page.wait_for_selector("svg.trend")
    assert page.locator("svg.trend circle").count() == 3

    page.check("#verdict label:has-text('Override') input")
    page.check("#syndrome label:has-text('Mild') input")
    page.click("#store")
    page.wait_for_selector("#said:has-text('needs a reason')")
    assert site.reviews("abc123") == []
    page.fill("#reason textarea", "Independent in daily life <b>by history</b>")
    page.click("#store")
    page.wait_for_selector("#said .stored")

    (review,) = site.reviews("abc123")
    assert (review.user, review.agrees, review.labels) == ("dr.lee", False, ["MCI", "AD"])
    assert review.reason == "Independent in daily life <b>by history</b>"
    assert [r for r in requests if not r.startswith((address, "data:", "blob:"))] == []
    assert page.evaluate("window.harmed") is None  # the note's script never ran


def test_a_second_physician_sees_the_first_ones_review_and_her_own_name(address, browser, site):
    """Reviews are the hospital's; who signs is whoever logged in."""
    site.add_review("def456", user="dr.lee", agrees=True, labels=("DE", "AD"), reason="")
    page = new_page(browser)
    log_in(page, address, "dr.wang")
    open_case(page, "def456")
    assert "Missing: MRI, Notes" in page.inner_text(".presence")
    assert "dr.lee agreed" in page.inner_text("#reviews")
    page.check("#verdict label:has-text('Agree') input")
    page.click("#store")
    page.wait_for_selector("#said .stored")
    assert [review.user for review in site.reviews("def456")] == ["dr.lee", "dr.wang"]


def test_the_page_speaks_chinese(address, browser):
    """The other language is one click away and keeps the case."""
    page = new_page(browser)
    log_in(page, address, "dr.lee")
    open_case(page, "abc123")
    page.click("#language")
    page.wait_for_selector(".banner code:has-text('abc123')")
    page.wait_for_selector("#assessment:has-text('阿尔茨海默病')")
    assert "左侧海马" in page.inner_text("#evidence")
