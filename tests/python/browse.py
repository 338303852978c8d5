"""Opens a page in a headless Chromium, works with it as a person would, and prints what it showed as one JSON object.

Usage: browse.py URL light|dark [SCREENSHOT]
"""

import json
import sys
import time

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys


def open_browser(theme: str) -> webdriver.Chrome:
    options = Options()
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1600"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return driver


def wait(what: str, condition) -> None:
    end = time.monotonic() + 40
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited too long: {what}")
        time.sleep(0.05)


def requests(driver: webdriver.Chrome, url: str) -> list[str]:
    """What the page asked the network for beside itself."""
    asked = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            address = message["params"]["request"]["url"]
            if not address.startswith((url.split("#")[0], "blob:")):
                asked.append(address)
    return asked


def main(url: str, theme: str, screenshot: str | None) -> None:
    driver = open_browser(theme)
    try:
        driver.get(url)
        wait("the page", lambda: driver.execute_script("return document.documentElement.dataset.ready === 'yes'"))

        def text(selector: str) -> str:
            return driver.find_element(By.CSS_SELECTOR, selector).text

        def shown() -> int:
            words = text("#shown").split(" of ")[0]
            return int("".join(one for one in words if one.isdigit()))

        result = {
            "title": driver.title,
            "heading": text("h1"),
            "badges": [one.text for one in driver.find_elements(By.CSS_SELECTOR, ".badges li")],
            "sections": [one.get_attribute("id") for one in driver.find_elements(By.CSS_SELECTOR, "section")],
            "facts": text("#facts"),
            "deaths": text("#deaths"),
            "crash": text("#crashes details[open]") if driver.find_elements(By.CSS_SELECTOR, "#crashes details[open]") else "",
            "tree": text("#tree"),
            "recording": text("#recording"),
            "detail": text("#detail"),
            "events": shown(),
            "background": driver.execute_script("return getComputedStyle(document.body).backgroundColor"),
            "injected": driver.execute_script("return document.querySelectorAll('b[onclick], img, iframe, object, link').length"),
            "hostile": driver.execute_script("return /[\\u0000-\\u0008\\u001b\\u202e]/.test(document.body.innerText)"),
        }

        search = driver.find_element(By.ID, "search")
        search.send_keys("signal.fatal")
        wait("the search", lambda: shown() < result["events"])
        result["found"] = shown()
        result["address"] = driver.execute_script("return location.hash")
        search.send_keys(Keys.CONTROL, "a")
        search.send_keys(Keys.DELETE)
        wait("all events", lambda: shown() == result["events"])

        canvas = driver.find_element(By.ID, "canvas")
        canvas.send_keys("+", "+", "+", "+", "+", "+")
        wait("the zoom", lambda: shown() < result["events"])
        result["zoomed"] = shown()
        canvas.send_keys("0")
        wait("the whole window", lambda: shown() == result["events"])

        # A deep link to the first event.
        driver.execute_script("location.hash = '#event=1'")
        wait("the deep link", lambda: text("#detail").startswith("#1 "))
        driver.execute_script("document.getElementById('list').focus()")
        driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
        wait("the next event by keyboard", lambda: not text("#detail").startswith("#1 "))
        result["second"] = text("#detail").splitlines()[0]

        driver.find_element(By.CSS_SELECTOR, "#filter summary").click()
        driver.find_element(By.CSS_SELECTOR, "#types input").click()
        wait("the filter", lambda: shown() < result["events"])
        result["unhidden"] = shown()

        result["unnamed"] = driver.execute_script(
            "return [...document.querySelectorAll('button, input, canvas, [role=grid], [role=treegrid]')]"
            ".filter((one) => !one.getAttribute('aria-label') && !one.closest('label')).length"
        )
        result["requests"] = requests(driver, url)
        result["log"] = [entry["message"] for entry in driver.get_log("browser")]
        if screenshot:
            driver.save_screenshot(screenshot)
        json.dump(result, sys.stdout)
    finally:
        driver.quit()


main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
