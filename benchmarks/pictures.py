"""Take pictures of a report's figures, for the documentation.

    python -m benchmarks.pictures REPORT.html OUT_DIR SECTION ...

Writes OUT_DIR/<experiment>-<section>.png for each section of the report, as headless
Chromium draws its figures, 900 pixels wide.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def take(report: Path, directory: Path, sections: list[str]) -> list[Path]:
    """Take the pictures.

    Args:
        report: a report, as `python -m flows report` writes it.
        directory: where to.
        sections: addresses of its sections.

    Returns:
        The pictures' files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS]
        )
        page = browser.new_page(viewport={"width": 900, "height": 900})
        page.goto(report.absolute().as_uri())
        page.wait_for_function(
            "() => [...document.querySelectorAll('.js-plotly-plot')]"
            ".every(plot => plot.querySelector('.main-svg'))"
        )
        for section in sections:
            file = directory / f"{report.stem}-{section}.png"
            figures = page.locator(f"section#{section} .figures").first
            figures.screenshot(path=file)
            taken.append(file)
        browser.close()
    return taken


def main() -> None:
    """Read the arguments, take the pictures and name them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("sections", nargs="+", metavar="SECTION")
    chosen = parser.parse_args()
    for file in take(chosen.report, chosen.directory, chosen.sections):
        print(file)  # noqa: T201 - for whoever calls it


if __name__ == "__main__":
    main()
