"""The dashboard's server: a web app on this machine, which sends nothing anywhere.

Streamlit serves it, with everything that leaves the machine switched off; the browser
is told to load nothing from elsewhere either.
"""

import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit
import uvicorn.config
from rich.console import Console
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from dashboards.app.menu import MENU
from dashboards.app.style import theme
from mergegrid.errors import InputError, ResultsError
from storage.results import Results
from storage.root import Root

REPOSITORY = Path(__file__).parent.parent
SCRIPT = REPOSITORY / "dashboards" / "app" / "main.py"

FIRST_PORT = 8501
"""Tried first where none is given."""

CONTENT_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load: what this server sends, and nothing else."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def serve(
    root: Root, results: Results, host: str, port: int | None, console: Console
) -> None:
    """Serve the dashboard until it is interrupted.

    Args:
        root: what the results are under.
        results: their database.
        host: the address to listen at.
        port: the port; None for the first free one from `FIRST_PORT` on.
        console: where the dashboard's own address is said.

    Raises:
        InputError: if the address cannot be listened at.
        ResultsError: if there are no results that can be read.
        KeyboardInterrupt: at the end.
    """
    chosen = _free_port(host, port)
    try:
        results.refresh()
    except ResultsError as error:
        if not results.path.exists():
            raise
        console.print(f"These results are not up to date. {error}")
    os.environ["MERGEGRID_ROOT"] = root.url
    # Streamlit puts the folder of the script that calls it first on the path.
    sys.argv = [str(REPOSITORY / "dashboard")]
    uvicorn.config.LOGGING_CONFIG["loggers"]["uvicorn"]["level"] = "WARNING"

    @asynccontextmanager
    async def announced(_app: streamlit.App) -> AsyncGenerator[None]:
        named = f"[{host}]" if ":" in host else host
        console.print(f"Dashboard: http://{named}:{chosen}  (Ctrl-C ends it)")
        if host not in _LOOPBACK:
            console.print("Whoever reaches this address can read all results.")
        yield

    routes = [Route(path, _page) for path in ("/", *(f"/{e.name}" for e in MENU))]
    app = streamlit.App(SCRIPT, lifespan=announced, routes=routes)
    app.run(
        config={
            "server.address": host,
            "server.port": chosen,
            "server.headless": True,
            "server.fileWatcherType": "none",
            "server.allowedHosts": [*_LOOPBACK, host] if host in _LOOPBACK else [],
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "minimal",
            "client.showErrorLinks": False,
            "logger.hideWelcomeMessage": True,
            "runner.magicEnabled": False,
            **theme(),
        }
    )


async def _page(_request: Request) -> HTMLResponse:
    # The script asks each folder of a page's address for the server, unless told.
    told = "<script>window.__streamlit={BACKEND_BASE_URL:location.origin}</script>"
    index = Path(streamlit.__file__).parent / "static" / "index.html"
    html = index.read_text(encoding="utf-8")
    html = html.replace("<head>", f"<head>{told}", 1)
    html = html.replace("<title>Streamlit</title>", "<title>mergegrid</title>", 1)
    headers = {"Content-Security-Policy": CONTENT_POLICY, "Cache-Control": "no-cache"}
    return HTMLResponse(html, headers=headers)


def _free_port(host: str, port: int | None) -> int:
    tried = [port] if port is not None else [*range(FIRST_PORT, FIRST_PORT + 100)]
    reasons: list[str] = []
    for candidate in tried:
        try:
            return _bound(host, candidate)
        except OSError as error:
            reasons.append(error.strerror or str(error))
    raise InputError(
        f"Cannot listen at {host}, port {tried[0]}: {reasons[0]}. "
        "Choose another --host or --port."
    )


def _bound(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return probe.getsockname()[1]
