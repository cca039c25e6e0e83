"""One check for every request, whether Gradio's or ours: session, origin, headers."""

import re
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.accounts import Accounts

COOKIE = "consilium_session"
PUBLIC = ("/login", "/static/", "/favicon.ico")
# Parts of Gradio that read or write files on this machine; the page uses none of them.
CLOSED = re.compile(r"^/\w+/(gradio_api/)?(file|upload|proxy|stream|deep_link|custom_component)")

CONTENT_SECURITY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio needs both
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",  # nothing leaves, whatever script may run
        "worker-src 'self' blob:",
        "frame-src 'self'",
        "frame-ancestors 'self'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
CROSS_ORIGIN = ("access-control-allow-origin", "access-control-allow-credentials")


def user_finder(accounts: Accounts) -> Callable[[HTTPConnection], str | None]:
    """The one way to know who asks: Gradio's `auth_dependency` and our routes use it."""

    def find(connection: HTTPConnection) -> str | None:
        return accounts.user(connection.cookies.get(COOKIE))

    return find


class Guard:
    """ASGI middleware that lets only logged-in users of this very page through."""

    def __init__(self, app: ASGIApp, accounts: Accounts) -> None:
        self.app = app
        self.find_user = user_finder(accounts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the request on; both with the security headers."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                _harden(MutableHeaders(scope=message), scope["path"])
            await send(message)

        answer = self._refusal(Request(scope)) or self.app
        await answer(scope, receive, send_hardened)

    def _refusal(self, request: Request) -> Response | None:
        """Why a request goes no further."""
        origin = request.headers.get("origin")
        if origin is not None and origin != f"{request.url.scheme}://{request.headers.get('host')}":
            return PlainTextResponse("another site may not ask", 403)
        path = request.url.path
        if CLOSED.match(path):
            return PlainTextResponse("not found", 404)
        if path.startswith(PUBLIC) or self.find_user(request) is not None:
            return None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/login", 303)
        return PlainTextResponse("log in first", 401)


def _harden(headers: MutableHeaders, path: str) -> None:
    """Set what protects, remove what would open."""
    for name in CROSS_ORIGIN:
        del headers[name]
    for name, value in HEADERS.items():
        headers[name] = value
    if not path.startswith("/static/") and "/assets/" not in path:
        headers["Cache-Control"] = "no-store"
