"""Nobody sees a patient without having logged in, and no other site can ask for them."""

import re
import socket
import stat

import pytest
from fastapi.testclient import TestClient

from ui.accounts import GUESS_SECONDS, GUESSES, SESSION_SECONDS, AccountError, Accounts
from ui.app import check_port, create_app
from ui.guard import COOKIE

PASSWORD = "a long enough password"
ADDRESS = "http://127.0.0.1:7860"
SCAN = "/scan/abc123/T1w.nii.gz"


@pytest.fixture
def accounts() -> Accounts:
    """One physician."""
    made = Accounts()
    made.add("dr.lee", PASSWORD)
    return made


@pytest.fixture
def visitor(site, assistant, accounts) -> TestClient:
    """A browser that has not logged in."""
    app = create_app(site, assistant, accounts)
    return TestClient(app, base_url=ADDRESS, follow_redirects=False)


def log_in(visitor: TestClient, password: str = PASSWORD):
    """Send the login form."""
    form = {"user": "dr.lee", "password": password}
    return visitor.post("/login", data=form, headers={"origin": ADDRESS})


@pytest.mark.parametrize(
    "path",
    [
        SCAN,
        "/scan/abc123/regions.nii.gz",
        "/viewer/en/abc123",
        "/en/",
        "/zh/config",
        "/en/queue/data",
    ],
)
def test_without_login_every_address_refuses(visitor, path):
    """Our routes and Gradio's stand behind the same guard."""
    assert visitor.get(path).status_code == 401
    asked_by_browser = visitor.get(path, headers={"accept": "text/html"})
    assert asked_by_browser.headers["location"] == "/login"


def test_login_opens_the_scan_and_logout_closes_it(visitor, site):
    """The very bytes, and no cache may keep them."""
    assert log_in(visitor).status_code == 303
    answer = visitor.get(SCAN)
    assert answer.content == site.scan_path("abc123").read_bytes()
    assert answer.headers["cache-control"] == "no-store"
    visitor.post("/logout", headers={"origin": ADDRESS})
    assert visitor.get(SCAN).status_code == 401


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor):
    """HttpOnly, SameSite=Strict."""
    cookie = log_in(visitor).headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert re.search("HttpOnly.*SameSite=strict", cookie)


@pytest.mark.parametrize("name", ["../site.db", "record.json", "tokens.safetensors"])
def test_only_scan_and_regions_can_be_fetched(visitor, name):
    """The rest of a case's folder has no address."""
    log_in(visitor)
    assert visitor.get(f"/scan/abc123/{name}").status_code == 404


def test_another_origin_is_refused_even_with_the_cookie(visitor):
    """No other page, not even one on this machine, may ask."""
    log_in(visitor)
    answer = visitor.get(SCAN, headers={"origin": "http://127.0.0.1:8888"})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_another_host_name_is_refused(visitor):
    """A name that was rebound to this machine does not open it."""
    assert visitor.get("/login", headers={"host": "attacker.example"}).status_code == 400


def test_gradio_can_neither_give_nor_take_files(visitor):
    """Uploads and its file route are closed to users as well."""
    log_in(visitor)
    assert visitor.get("/en/gradio_api/file=/etc/hostname").status_code == 404
    assert visitor.post("/en/gradio_api/upload").status_code == 404


def test_nothing_may_connect_elsewhere(visitor):
    """The policy stops a script that should not be there from sending anything out."""
    policy = visitor.get("/login").headers["content-security-policy"]
    assert "connect-src 'self'" in policy
    assert "http" not in policy


def test_guessing_is_stopped_for_a_while():
    """After five failures even the right password must wait."""
    time = [0.0]
    accounts = Accounts(clock=lambda: time[0])
    accounts.add("dr.lee", PASSWORD)
    for _ in range(GUESSES):
        assert accounts.log_in("dr.lee", "wrong") is None
    assert accounts.log_in("dr.lee", PASSWORD) is None
    time[0] += GUESS_SECONDS + 1
    assert accounts.log_in("dr.lee", PASSWORD) is not None


def test_a_one_time_password_opens_once():
    """It is printed on a terminal and may lie there."""
    accounts = Accounts()
    password = accounts.one_time("physician")
    assert accounts.user(accounts.log_in("physician", password)) == "physician"
    assert accounts.log_in("physician", password) is None


def test_a_session_ends_after_a_working_day():
    """Nobody stays logged in overnight."""
    time = [0.0]
    accounts = Accounts(clock=lambda: time[0])
    token = accounts.log_in("physician", accounts.one_time("physician"))
    time[0] += SESSION_SECONDS
    assert accounts.user(token) is None


def test_passwords_are_kept_as_hashes_that_only_the_owner_reads(tmp_path):
    """Argon2id, mode 0600, and they work after a restart."""
    path = tmp_path / "accounts.json"
    Accounts(path).add("dr.lee", PASSWORD)
    assert PASSWORD not in path.read_text()
    assert "$argon2id$" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Accounts(path).log_in("dr.lee", PASSWORD) is not None


def test_a_short_password_is_refused():
    """The message says how long it must be."""
    with pytest.raises(AccountError, match="10 characters"):
        Accounts().add("dr.lee", "short")


def test_a_port_in_use_or_out_of_range_is_refused_in_words() -> None:
    """Before a login is printed that leads nowhere."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], 99_999):
            with pytest.raises(ValueError, match=f"port {port}.*--port"):
                check_port(port)
