"""The report's page in a browser: claims are filtered and sorted, without an error and without the network."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from experiment_files import PutRecord

from mpcvit_harness.claims import CLAIMS, load
from mpcvit_harness.report import build

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

PROBE = """<script>
const set = (id, value) => {
  const field = document.getElementById(id);
  field.value = value;
  field.dispatchEvent(new Event("input"));
};
const shown = () => [...document.querySelectorAll("#claims tbody tr")].filter((row) => !row.hidden);
const names = () => shown().map((row) => row.cells[0].id);
const head = (text) => [...document.querySelectorAll("#claims th")].find((cell) => cell.textContent === text);
const seen = { all: shown().length };
set("verdict", "reproduced"); seen.reproduced = names();
set("verdict", ""); set("text", "Fewer_Heads_2"); seen.text = names();
seen.counted = document.getElementById("shown").textContent;
set("text", ""); set("group", "Seconds on CIFAR-10"); seen.group = shown().length;
head("measured").click(); seen.up = names().slice(0, 3);
head("measured").click(); seen.down = names().slice(0, 3);
document.title = JSON.stringify(seen);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this host (apt-get install chromium)")
def test_claims_are_filtered_and_sorted(repository: Path, put: PutRecord) -> None:
    """By verdict, group and text; by number with what was not measured below, upwards and downwards."""
    put("paper_cifar10", "main-scale", 9.0)
    put("paper_cifar10", "main-relu_softmax", 72.0)
    page = build(repository / "results", repository / "report", repository / CLAIMS)
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text() + PROBE)
    seen, said = browse(probed, repository)
    claims = load(repository / CLAIMS).claims
    assert "CONSOLE" not in said
    assert seen["all"] == len(claims)
    assert {"cifar10-softmax_vit-seconds", "cifar10-relu_softmax_vit-1.0-seconds"} <= set(seen["reproduced"])
    assert len(seen["text"]) > 1 and all("fewer_heads_2" in name for name in seen["text"])
    assert seen["counted"] == f"{len(seen['text'])} of {len(claims)}"
    assert seen["group"] == sum(claim.group == "cifar10" for claim in claims)
    order = ["cifar10-scale_vit-0.0-seconds", "cifar10-relu_softmax_vit-1.0-seconds", "cifar10-softmax_vit-seconds"]
    assert seen["up"] == order and seen["down"] == order[::-1]


def browse(page: Path, profile: Path) -> tuple[dict[str, Any], str]:
    """What the page's probe put into its title, and what the browser said."""
    assert BROWSER is not None
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *("--proxy-server=127.0.0.1:9", f"--user-data-dir={profile / 'browser'}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title is not None, done.stderr
    return json.loads(unescape(title[1])), done.stderr
