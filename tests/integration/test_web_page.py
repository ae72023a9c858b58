"""llama-server's web page in a real browser: it asks for the token, and then the model answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest
import requests

from claude_local.paths import Paths
from claude_local.verify.server_rows import FOREIGN_ORIGIN
from tests.integration.browser import Browser
from tests.integration.machine import HOME, SHARE, need

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("deployed")]

PATHS = Paths(home=str(HOME), model_dir=str(SHARE / "models"), bin_dir=str(HOME / "bin"))
ANSWERS = (
    "[...document.querySelectorAll('[aria-label=\"Assistant message with actions\"]')].map(each => each.innerText)"
)


def opened() -> dict[str, str]:
    done = subprocess.run([PATHS.llama_local, "open", "--json"], capture_output=True, text=True, check=True, timeout=60)
    told: dict[str, str] = json.loads(done.stdout)
    return told


def ask(browser: Browser, question: str) -> None:
    """Send a question. The page shows the field for it some time before it reads it, so this may take a second try."""
    until = time.monotonic() + 60
    while not browser.value("!!document.querySelector('[aria-label=\"User message with actions\"]')"):
        assert time.monotonic() < until, browser.value("document.body.innerText")
        browser.wait("!!document.querySelector('textarea') && (document.querySelector('textarea').select(), true)")
        browser.type("textarea", question)
        time.sleep(2)


def test_the_page_asks_for_the_token_and_then_the_model_answers() -> None:
    need("chromium-headless-shell")
    told = opened()
    program = shutil.which("chromium-headless-shell")
    assert program
    with Browser(program) as browser, open(told["token_file"]) as token:
        browser.open(told["url"])
        browser.click("Enter API Key")
        browser.type("#api-key-input", "wrong")
        browser.wait("document.body.innerText.includes('Invalid API key')")
        browser.value("document.querySelector('#api-key-input').select()")
        browser.type("#api-key-input", token.read().strip())
        browser.wait("!!document.querySelector('textarea')")
        browser.open(told["url"])  # the browser keeps the token
        ask(browser, "What is the capital of France? One word.")
        browser.wait(f"{ANSWERS}.some(text => text.includes('Paris'))", seconds=180)
        assert browser.asked == {told["url"].split("/")[2]}, "the page loads nothing from anywhere else"


def test_with_the_page_on_other_sites_and_host_names_still_get_nothing() -> None:
    url = opened()["url"]
    for header in ({"Origin": FOREIGN_ORIGIN}, {"Host": "evil.example"}):
        assert requests.get(f"{url}props", headers=header, timeout=20).status_code == 401
        page = requests.get(url, headers=header, timeout=20)
        assert FOREIGN_ORIGIN not in page.headers.get("Access-Control-Allow-Origin", "")
        assert "*" not in page.headers.get("Access-Control-Allow-Origin", "")
