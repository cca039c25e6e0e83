"""The review page as a web application: login, the scans' bytes, and Gradio behind one guard."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

# No library may call out or keep what it is shown; set before Gradio is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from fusion.store import Site, SiteError
from imaging.scan import ScanError
from ui.accounts import SESSION_SECONDS, Accounts
from ui.guard import COOKIE, Guard, user_finder
from ui.page import Diagnoses, build_page
from ui.reading import overlay_picture, read_scan
from ui.texts import LANGUAGES, load_texts, viewer_words
from ui.views import login_page

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
STATIC = {path.name: path for path in (HERE / "page.css", HERE / "page.js")}
STATIC |= {
    path.name: path for path in (HERE / "viewer").iterdir() if path.suffix in (".js", ".css")
}
LOCAL = ("127.0.0.1", "localhost")
ONE_TIME_USER = "physician"
HEAD = '<link rel="stylesheet" href="/static/page.css"><script src="/static/page.js"></script>'


def create_app(
    site: Site,
    assistant: Diagnoses,
    accounts: Accounts,
    *,
    hosts: tuple[str, ...] = LOCAL,
) -> FastAPI:
    """Build the application.

    Args:
        site: The hospital whose cases are reviewed.
        assistant: Who diagnoses them.
        accounts: Who may log in.
        hosts: Names under which a browser may call it.
    """
    _private_cache()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    _add_login(app, accounts)
    _add_files(app, site)
    for language in LANGUAGES:
        _mount_page(app, site, assistant, accounts, language)
    app.add_middleware(Guard, accounts=accounts)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    return app


def _private_cache() -> None:
    """Give Gradio a folder for its files that nobody else on the machine can read."""
    if "GRADIO_TEMP_DIR" not in os.environ:
        os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="consilium-")  # mode 0700


def _mount_page(
    app: FastAPI, site: Site, assistant: Diagnoses, accounts: Accounts, language: str
) -> None:
    """Put the page of one language under its own path."""
    fonts = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        build_page(site, assistant, language),
        path=f"/{language}",
        root_path=f"/{language}",
        auth_dependency=user_finder(accounts),
        theme=gr.themes.Base(
            primary_hue="teal", neutral_hue="slate", font=fonts, font_mono=["ui-monospace"]
        ),
        head=HEAD,
        footer_links=[],
        run_history=False,
        show_error=False,
        allowed_paths=[],
        max_file_size="1kb",
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )


def _add_login(app: FastAPI, accounts: Accounts) -> None:
    """Routes that open and close a session."""
    find_user = user_finder(accounts)

    @app.get("/")
    def home(request: Request) -> Response:
        return RedirectResponse(f"/{_language(request)}/", 303)

    @app.get("/login")
    def ask(request: Request) -> Response:
        if find_user(request) is not None:
            return RedirectResponse(f"/{_language(request)}/", 303)
        return HTMLResponse(login_page(load_texts(_language(request))))

    @app.post("/login")
    def enter(
        request: Request, user: str = Form(max_length=64), password: str = Form(max_length=256)
    ) -> Response:
        texts = load_texts(_language(request))
        if accounts.must_wait(user):
            return HTMLResponse(login_page(texts, "login_wait"), 429)
        token = accounts.log_in(user, password)
        if token is None:
            log.warning("a login failed")
            return HTMLResponse(login_page(texts, "login_wrong"), 401)
        answer = RedirectResponse(f"/{texts.language}/", 303)
        answer.set_cookie(
            COOKIE, token, max_age=SESSION_SECONDS, httponly=True, samesite="strict",
            secure=request.url.scheme == "https",
        )  # fmt: skip
        return answer

    @app.post("/logout")
    def leave(request: Request) -> Response:
        accounts.log_out(request.cookies.get(COOKIE))
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer


def _language(request: Request) -> str:
    """The language a browser prefers, or the one asked for by ``?lang=``."""
    asked = request.query_params.get("lang") or request.headers.get("accept-language", "")
    return "zh" if asked.lower().startswith("zh") else "en"


def _add_files(app: FastAPI, site: Site) -> None:
    """Routes for the page's own files and for the bytes of scans; the guard protects them."""

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise HTTPException(404)
        return FileResponse(STATIC[name], headers={"Cache-Control": "public, max-age=600"})

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/viewer/{language}.json")
    def words(language: str) -> Response:
        return JSONResponse(viewer_words(_texts(language).language))

    @app.get("/viewer/{language}/{case_id}")  # its script reads both from the address
    def viewer() -> Response:
        return FileResponse(HERE / "viewer" / "viewer.html")

    @app.get("/scan/{case_id}/overlay.png")
    def overlay(case_id: str) -> Response:
        picture = _overlay(site, case_id)
        if picture is None:
            raise HTTPException(404)
        return Response(picture, media_type="image/png")

    @app.api_route("/scan/{case_id}/{name}", methods=["GET", "HEAD"])
    def scan(case_id: str, name: str) -> Response:
        path = _scan_file(site, case_id, name)
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, media_type="application/octet-stream")


def _texts(language: str):  # type: ignore[no-untyped-def]
    """Words of a language that a browser asked for."""
    if language not in LANGUAGES:
        raise HTTPException(404)
    return load_texts(language)


def _scan_file(site: Site, case_id: str, name: str) -> Path | None:
    """The file of a case's scan or region map, None where there is none."""
    find: dict[str, Callable[[str], Path | None]] = {
        "T1w.nii.gz": site.scan_path,
        "regions.nii.gz": site.region_map_path,
    }
    try:
        site.row(case_id)
    except SiteError:
        return None
    return find[name](case_id) if name in find else None


def _overlay(site: Site, case_id: str) -> bytes | None:
    """The picture of a case's scan with its regions, None where there is none."""
    reading = read_scan(site, case_id) if case_id.isalnum() else None
    scan, regions = (_scan_file(site, case_id, name) for name in ("T1w.nii.gz", "regions.nii.gz"))
    if reading is None or scan is None or regions is None:
        return None
    try:
        return overlay_picture(case_id, reading, scan, regions)
    except ScanError as error:
        log.warning("case %s has no picture: %s", case_id, error)
        return None


def serve(
    site: Site,
    assistant: Diagnoses,
    *,
    port: int = 7860,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the page on this machine alone, until interrupted.

    Args:
        site: The hospital whose cases are reviewed.
        assistant: Who diagnoses them.
        port: On the loopback interface.
        announce: Told the address and a one-time login.

    Raises:
        ValueError: The port cannot be used.
    """
    check_port(port)
    accounts = Accounts(site.folder / "accounts.json")
    app = create_app(site, assistant, accounts)
    announce(f"Review page: http://127.0.0.1:{port}")
    announce(f"One-time login: user {ONE_TIME_USER}, password {accounts.one_time(ONE_TIME_USER)}")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", server_header=False)


def check_port(port: int) -> None:
    """Refuse a port that another program holds, or that is none.

    Raises:
        ValueError: The port cannot be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            raise ValueError(
                f"port {port} is taken or cannot be used; choose another one with --port"
            ) from None
