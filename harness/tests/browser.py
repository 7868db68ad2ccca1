"""Debian's Chromium without a window, as the tests of the report drive it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as EC
from selenium.webdriver.support.ui import WebDriverWait

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    BROWSER is None or DRIVER is None,
    reason="no Chromium with its driver on this host (apt-get install chromium chromium-driver)",
)

DESKTOP, PHONE = 1280, 390
"""Widths in pixels."""


class Browser:
    """One window: what a reader does, and what the page said and asked for meanwhile."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.requested: list[str] = []

    def open(self, page: Path, width: int = DESKTOP) -> None:
        """The page from disk, in a window or on a phone of that width."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get(page.as_uri())

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector, in view."""
        element = self.driver.find_element(By.CSS_SELECTOR, selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def rows(self, table: str) -> list[list[str]]:
        """The texts of the rows of a table that are to be seen."""
        script = """return [...document.querySelectorAll(arguments[0] + " tbody tr")].filter((row) => row.offsetParent)
            .map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"""
        rows: list[list[str]] = self.driver.execute_script(script, f"#{table}")
        return rows

    def unfold(self) -> str:
        """Open every part of the page that opens; the text of them all, once it has come from the folder."""
        if self.driver.find_elements(By.CSS_SELECTOR, "script[src='folded.js']"):
            come = EC.presence_of_element_located((By.CSS_SELECTOR, "[data-unfolded]"))
            WebDriverWait(self.driver, 30).until(come)
        script = """const parts = [...document.querySelectorAll("details")];
            for (const one of parts) one.open = true;
            return parts.map((one) => one.innerText).join("\\n")"""
        text: str = self.driver.execute_script(script)
        return text

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        script = "return document.documentElement.scrollWidth > innerWidth"
        return bool(self.driver.execute_script(script))

    def asked_for(self) -> list[str]:
        """The addresses of everything that was loaded so far."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
        return self.requested

    def complaints(self) -> list[str]:
        """The messages of the console."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(300)
    driver.get("about:blank")
    driver.get_log("performance")  # what the browser's own first tab has loaded
    try:
        yield Browser(driver)
    finally:
        driver.quit()
