"""A gallery built once, and a browser to open it in."""

import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from tests.viz import samples
from viz import write_gallery, write_page

AXE = Path(find_spec("axe_playwright_python").submodule_search_locations[0]) / "axe.min.js"
NOT_OURS = "[['[data-library=circuitsvis]'], ['[data-library=plotly]']]"

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) if (!one.hadRecentInput) shifted += one.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="session")
def drawings():
    return samples.drawings()


@pytest.fixture(scope="session")
def saved(tmp_path_factory, drawings):
    """Every figure, saved with warnings as errors."""
    folder = tmp_path_factory.mktemp("figures")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for title, drawing in drawings.items():
            drawing.save(folder / title, title)
    return folder


@pytest.fixture(scope="session")
def runs(tmp_path_factory, drawings, saved) -> Path:
    """Runs with every figure, of today and of before, and one run in each other status."""
    runs = tmp_path_factory.mktemp("runs")
    shown = [token for token in samples.HOSTILE if token != "\ud83d"]  # no Parquet holds it
    odd = pd.DataFrame({"token": shown, "l2_norm": [None, *range(1, len(shown))]})
    figures = {title: saved / title for title in drawings}
    tables = {"heads": samples.heads(30, 9), "odd <b>table": odd}
    write_page(*samples.write_run(runs, "full", figures, tables))
    title = "Errors by cell"
    other = {
        "experiment": "addition_accuracy",
        "question": "Which additions does the model get right?",
        "started": "2026-03-02T10:00:00+00:00",
        "seconds": 8.3,
        "claims": [samples.claim(verdict="fails", sentence="It looks six columns ahead.")],
        "model": samples.manifest()["model"] | {"name": "adder_6d_1l"},
    }
    cells = {"cells": samples.cells()}
    write_page(*samples.write_run(runs, "cells", {title: saved / title}, cells, **other))
    for hour, status in enumerate(("failed", "running", "interrupted")):
        late = {"started": f"2026-03-03T1{hour}:00:00+00:00", "status": status, "claims": []}
        samples.write_run(runs, status, {}, {}, error="RuntimeError: <b>x</b>", **late)
    new = samples.redrawn() | {"experiment": "digit_places", "started": "2026-03-04T10:00:00+00:00"}
    write_page(*samples.write_run(runs, "redrawn", {title: saved / title}, cells, **new))
    write_gallery(runs)
    return runs


@dataclass
class Tab:
    """A browser's tab, and everything in it that a page must not do."""

    page: object
    noise: list[str] = field(default_factory=list)

    def listen(self) -> None:
        page = self.page
        page.add_init_script(WATCH)
        page.on("console", lambda m: self.noise.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("dialog", lambda dialog: (self.noise.append("dialog"), dialog.dismiss()))
        page.on("requestfailed", lambda request: self.noise.append(f"failed {request.url}"))
        page.on("request", self._asked)

    def _asked(self, request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.noise.append(f"network {request.url}")

    def open(self, path: Path, after: str = "") -> "Tab":
        self.page.goto(path.as_uri() + after)
        return self

    def scroll(self) -> "Tab":
        """All is unfolded, and every widget comes into view once."""
        for fold in self.page.locator("#more:not([open]) > summary").all():
            fold.click()
        for box in self.page.locator(".widget").all():
            figure = box.locator("xpath=..")
            figure.scroll_into_view_if_needed()
            box.wait_for(state="visible", timeout=20_000)
        self.page.wait_for_timeout(300)
        return self

    def wheel(self) -> "Tab":
        """Down to the end as a reader's wheel goes."""
        self.page.mouse.move(600, 400)
        for _ in range(200):
            self.page.mouse.wheel(0, 500)
            self.page.wait_for_timeout(40)
            if self.page.evaluate("scrollY + innerHeight >= document.body.scrollHeight - 2"):
                break
        self.page.wait_for_timeout(300)
        return self

    def shifted(self) -> float:
        """How far what is seen was moved by itself: cumulative layout shift."""
        return self.page.evaluate("shifted")

    def serious(self) -> list[str]:
        """What axe-core finds serious or critical, but in widgets of other people's libraries."""
        self.page.evaluate(AXE.read_text("utf-8"))
        told = self.page.evaluate(f"axe.run({{ exclude: {NOT_OURS} }})")
        bad = [v for v in told["violations"] if v["impact"] in ("serious", "critical")]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in bad]

    def complaints(self) -> list[str]:
        return self.noise + self.page.evaluate("violations")


@pytest.fixture(scope="session")
def chromium():
    """The system's Chromium; without one these tests are skipped, and fail where CI is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    found = found or shutil.which("google-chrome")
    if found is None:
        where = "no chromium on PATH: pages are not looked at in a browser"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(where)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium) -> Iterator:
    """Opens tabs: `tab(width=390, color_scheme="dark")`."""
    contexts = []

    def make(width: int = 1280, **options) -> Tab:
        context = chromium.new_context(viewport={"width": width, "height": 844}, **options)
        contexts.append(context)
        made = Tab(context.new_page())
        made.listen()
        return made

    yield make
    for context in contexts:
        context.close()
