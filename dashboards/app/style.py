"""How the app looks: the report's colours and tables, on white and on dark pages."""

from typing import Any

import streamlit as st

from dashboards.frame import FONT
from dashboards.page import HOUSE_CSS
from dashboards.palette import INK, MUTED, ROLES
from dashboards.shades import DARK_PAGE, on_dark

_ACCENT = ROLES["held_in"]
_LIGHT = {
    "ink": INK,
    "muted": MUTED,
    "line": "#dde3ea",
    "soft": "#f5f7fa",
    "accent": _ACCENT,
    "page": "#ffffff",
    "notice": "#fdf4e3",
}
_DARK = {
    "ink": on_dark(INK),
    "muted": on_dark(MUTED),
    "line": "#2b3442",
    "soft": "#1a202a",
    "accent": on_dark(_ACCENT),
    "page": DARK_PAGE,
    "notice": "#332a17",
}

SIDEBAR = 230  # pixels

# Streamlit is told as well, which comes too late for it when a machine is busy.
_SIDEBAR_CSS = f"""
@media (min-width: 769px) {{
  [data-testid="stSidebar"]:not([data-collapsed="true"]) {{
    width: {SIDEBAR}px !important; }}
}}
"""
_APP_CSS = """
[data-testid="stMainBlockContainer"] { max-width: 1140px; padding: 3.4rem 32px 5rem; }
.stMain h1 { font-size: 30px; line-height: 1.2; padding: 0 0 2px; }
.stMain h2 { font-size: 20px; line-height: 1.3; padding: 20px 0 0; }
.stMain h3 { font-size: 15px; padding: 0; }
.house p, .house figcaption { margin: 0; max-width: 78ch; }
.house figcaption, .house .muted { color: var(--muted); font-size: 14px;
  line-height: 1.45; margin-top: -10px; }
.house .description { font-size: 18px; color: var(--muted); }
.house a { color: var(--accent); }
.house dl.facts { margin: 4px 0 0; padding: 0; }
.house dl.facts dd { margin: 0; }
.house .scroll { margin: 0; }
.house .scroll table { font-size: 14px; }
.house .scroll table.leaderboard { font-size: 13px; }
.house .scroll .leaderboard th, .house .scroll .leaderboard td { padding-left: 5px;
  padding-right: 5px; }
.house .scroll .leaderboard th { font-size: 12px; }
.st-key-hidden-scope { display: none; }
[class*="st-key-wide"] { overflow-x: auto; }
[class*="st-key-wide"] > div { min-width: 720px; }
[data-testid="stSidebar"] code { padding: 0; background: none; color: inherit;
  font-size: 13px; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding-left: 16px; padding-right: 16px; }
}
"""


def theme() -> dict[str, Any]:
    """Say how Streamlit itself is to look.

    Returns:
        Its options by name.
    """
    options: dict[str, Any] = {"theme.font": FONT, "theme.baseRadius": "6px"}
    for name, colors in (("light", _LIGHT), ("dark", _DARK)):
        options |= {
            f"theme.{name}.backgroundColor": colors["page"],
            f"theme.{name}.secondaryBackgroundColor": colors["soft"],
            f"theme.{name}.textColor": colors["ink"],
            f"theme.{name}.primaryColor": colors["accent"],
            f"theme.{name}.linkColor": colors["accent"],
            f"theme.{name}.borderColor": colors["line"],
        }
    return options


def is_dark() -> bool:
    """Say whether the visitor's page is dark.

    Returns:
        Whether it is.
    """
    return st.context.theme.type == "dark"


def dress() -> None:
    """Put the styles on the page."""
    colors = _DARK if is_dark() else _LIGHT
    variables = " ".join(f"--{name}: {value};" for name, value in colors.items())
    css = f"{HOUSE_CSS}{_APP_CSS}{_SIDEBAR_CSS}"
    st.html(f"<style>:root {{ {variables} }}\n{css}</style>")
