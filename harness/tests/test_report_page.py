"""The report in a browser: opened from disk, clicked through, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from experiment_files import ROOT, PutRecord

pytest.importorskip("selenium", reason="selenium is not installed: pip install './harness[test]'")

from browser import PHONE, Browser, browsing, needs_chromium
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from mpcvit_harness.claims import CLAIMS, load
from mpcvit_harness.report import build

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages."""
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the committed records."""
    return build(ROOT / "results", tmp_path_factory.mktemp("report"), ROOT / CLAIMS)


@pytest.fixture(autouse=True)
def _quiet_and_alone(browser: Browser) -> Iterator[None]:
    """No test leaves a complaint in the console, or asks for anything that is not on disk."""
    yield
    assert browser.complaints() == []
    addresses = browser.asked_for()
    assert addresses and all(address.startswith("file://") for address in addresses)


def test_claims_are_filtered(browser: Browser, committed: Path) -> None:
    """By verdict, group and text, by themselves and together; what is shown is counted."""
    browser.open(committed)
    claims = load(ROOT / CLAIMS)
    total = sum(not claims.is_target(claim) for claim in claims.claims)
    assert len(browser.rows("claims")) == total
    assert len(browser.rows("targets")) == len(claims.claims) - total
    assert browser.rows("verdicts")[0][1:4] == ["24", "42", "42"]
    verdict, group = (Select(select) for select in browser.find("#claims").find_elements(By.TAG_NAME, "select"))
    verdict.select_by_visible_text("reproduced")
    reproduced = browser.rows("claims")
    assert reproduced and all(row[1] == "reproduced" for row in reproduced)
    group.select_by_visible_text("Seconds on CIFAR-10")
    both = browser.rows("claims")
    assert 0 < len(both) < len(reproduced)
    assert browser.find("#claims output").text == f"{len(both)} of {total}"
    verdict.select_by_visible_text("all")
    group.select_by_visible_text("all")
    browser.find("#claims input").send_keys("Fewer_Heads_2")
    found = browser.rows("claims")
    assert len(found) > 1 and all("fewer_heads_2" in row[-1] for row in found)
    browser.find("#claims input").clear()
    browser.find(".tally button[data-choice='not run']").click()
    assert all(row[1] == "not run" for row in browser.rows("claims"))


def test_claims_are_sorted(browser: Browser, repository: Path, put: PutRecord) -> None:
    """By number with what was not measured below, upwards and downwards, by the keyboard too."""
    put("paper_cifar10", "main-scale", 9.0)
    put("paper_cifar10", "main-relu_softmax", 72.0)
    browser.open(build(repository / "results", repository / "report", repository / CLAIMS))
    heads = browser.find("#claims").find_elements(By.CSS_SELECTOR, "th button")
    (measured,) = (head for head in heads if head.text == "measured")
    Select(browser.find("#claims select[data-column='8']")).select_by_visible_text("Seconds on CIFAR-10")
    measured.click()
    order = ["cifar10-scale_vit-0.0-seconds", "cifar10-relu_softmax_vit-1.0-seconds", "cifar10-softmax_vit-seconds"]
    assert [row[-1] for row in browser.rows("claims")[:3]] == order
    measured.send_keys(" ")
    assert [row[-1] for row in browser.rows("claims")[:3]] == order[::-1]
    assert browser.find("#claims th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_a_point_tells_its_source(browser: Browser, committed: Path) -> None:
    """Pointed at and focused: the paper's says so, ours says whose accuracy it is and leads to its record."""
    browser.open(committed)
    tip = browser.driver.find_element(By.ID, "tip")
    ours = browser.find("a.point:has(.ours)")
    ActionChains(browser.driver).move_to_element(ours).perform()
    assert "(the paper's)" in tip.text and "s measured, n = " in tip.text
    published = browser.find("g.point:has(.published)")
    browser.driver.execute_script("arguments[0].focus()", published)
    assert tip.text.count("(the paper's)") == 2 and "mpcvit" in tip.text
    ActionChains(browser.driver).move_to_element(browser.find("#pareto")).perform()
    browser.driver.execute_script("document.activeElement.blur()")
    assert not tip.is_displayed()
    # by the keyboard, since points may lie over one another
    browser.driver.execute_script("arguments[0].focus()", browser.find("a.point:has(.ours)"))
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert "/cells/" in browser.driver.current_url


def test_a_cell_and_its_machine_are_opened(browser: Browser, committed: Path) -> None:
    """From the table to the cell, with its operations, link and commit; from there to the machine, and back."""
    browser.open(committed)
    link = browser.find("#records a[href*='/links/'][href*='wan-netns']")
    name = link.text
    link.click()
    assert browser.find("h1").text == name
    text = browser.find("main").text
    assert "rsqrt" in text and "before" in text and "as committed" in text
    opened = browser.unfold()
    assert "Each inference" in opened and "bytes sent by the interface" in opened  # what a part of the page has
    assert "executor" in opened and "timeout_s" in opened  # what the page has of the record as it is
    browser.find(".up a[href*='machines/']").click()
    assert name in browser.find("main").text
    browser.find(".up a").click()
    assert browser.driver.current_url == committed.as_uri()


def test_a_phone_shows_every_kind_of_page(browser: Browser, committed: Path) -> None:
    """No page is wider than the phone: only content in a separate frame scrolls sideways."""
    for kind in ("index.html", "cells/*/links/*.html", "cells/*/first_inference/*.html", "machines/*.html"):
        for page in sorted(committed.parent.glob(kind))[:2]:
            browser.open(page, PHONE)
            browser.unfold()
            assert not browser.overflows(), page
