"""The report in a real browser: at a phone's and a desk's width, in the light and in the dark."""

from __future__ import annotations

import base64
import io
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from pipeline import report
from pipeline.data.masks import CONDITIONS
from tests import report_tree

CHROMIUM = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), ""
)
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars "
    "--remote-debugging-pipe"
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium or Chrome on the PATH (apt-get install chromium)"
)


class Browser:
    """A headless Chromium, spoken to by its DevTools protocol over two pipes: JSON ended by a zero byte."""

    def __init__(self, profile: Path) -> None:
        reads, self._out = os.pipe()
        self._in, writes = os.pipe()
        command = (
            f"exec {shlex.quote(CHROMIUM)} {OPTIONS} --user-data-dir={shlex.quote(str(profile))} about:blank"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", f"{command} 3<&{reads} 4>&{writes}"],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._number, self._buffer, self._session = 0, b"", ""
        self.requests: list[str] = []
        self.problems: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result; note what the page does meanwhile."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + 60
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            part = os.read(self._in, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(line)
        event, said = found.get("method"), found.get("params", {})
        if event == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event == "Log.entryAdded":
            self.problems.append(said["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(str(said["exceptionDetails"]))
        return found

    def open(self, page: Path, width: int, dark: bool = False) -> None:
        """Open a file as a device of this width shows it."""
        self.requests.clear()
        self.problems.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=page.resolve().as_uri())
        end = time.monotonic() + 60
        while self.evaluate("document.readyState + location.protocol") != "completefile:":
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self) -> bytes:
        """Return the page's upper part as PNG."""
        width, height = self.evaluate("[innerWidth, Math.min(document.documentElement.scrollHeight, 2400)]")
        part = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, format="png", clip=part)
        return base64.b64decode(shot["data"])

    def close(self) -> None:
        """End the browser."""
        self._session = ""
        try:
            self.call("Browser.close")
        except (AssertionError, OSError):
            self._process.kill()
        self._process.wait(30)
        os.close(self._in)
        os.close(self._out)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page over a whole tree with known numbers."""
    data = tmp_path_factory.mktemp("tree") / "data"
    report_tree.write_tree(data)
    for name in report_tree.GAIN:
        report_tree.write_predictions(data, name)
    params = report_tree.params()
    report.write(params, *report.gather(params, data), data / "report")
    return data / "report" / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


# Boxes that scroll inside themselves may hold what is wider; nothing else may reach over the right edge.
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(node => {
  const box = node.parentElement.closest('.scroll, pre, details:not([open])');
  return !box && !node.closest('.sr') && node.getBoundingClientRect().right > innerWidth + 0.5;
}).map(node => node.tagName + '.' + node.className).join(' ')
"""


@pytest.mark.parametrize(
    ("width", "dark"), [(320, True), (360, False), (768, True), (1280, False), (1280, True)]
)
def test_the_page_fits_and_is_drawn(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(OVERFLOWING) == ""
    shown = browser.picture()
    pixels = matplotlib.image.imread(io.BytesIO(shown), format="png")[:, :, :3]
    assert pixels.shape[1] == width
    brightness = pixels.mean(axis=2)
    assert brightness.mean() < 0.35 if dark else brightness.mean() > 0.75
    rows = brightness.std(axis=1)
    assert (rows > 0.01).mean() > 0.5  # most lines of the picture show something
    colours = len(np.unique((pixels[::3, ::3] * 15).astype(int).reshape(-1, 3), axis=0))
    assert colours > 20


def test_it_fetches_nothing_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.problems == []


def test_the_figure_suits_the_width(browser: Browser, page: Path) -> None:
    shown = "['.wide', '.narrow'].map(name => document.querySelector(name).getBoundingClientRect().width > 0)"
    browser.open(page, 360)
    assert browser.evaluate(shown) == [False, True]
    smallest = (
        "Math.min(...[...document.querySelectorAll('svg text')].filter(t => t.getBoundingClientRect().width)"
        ".map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a))"
    )
    assert browser.evaluate(smallest) > 9  # pixels, as drawn
    browser.open(page, 1280)
    assert browser.evaluate(shown) == [True, False]
    assert browser.evaluate(smallest) > 9


# The contrast of WCAG 2: relative luminance of text against the first opaque background behind it.
CONTRASTS = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = c => c.slice(0, 3).map(v => v / 255).map(
    v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  ).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = rgba(getComputedStyle(node).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgba('white');
  };
  const found = {};
  let count = 0;
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest('.sr')) continue;
    const style = getComputedStyle(node);
    const ink = light(rgba(node.closest('svg') ? style.fill : style.color)), paper = light(behind(node));
    count += 1;
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) found[node.tagName + '.' + (node.className.baseVal ?? node.className)] = contrast;
  }
  return [count, found];
})()
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(browser: Browser, page: Path, dark: bool) -> None:
    browser.open(page, 1280, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(node => node.open = true)")
    count, weak = browser.evaluate(CONTRASTS)
    assert count > 400
    assert weak == {}


def test_tables_are_reached_by_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, 360)
    wide = (
        "[...document.querySelectorAll('.scroll, pre')].filter(n => n.scrollWidth > n.clientWidth)"
        ".every(n => n.tabIndex === 0)"
    )
    assert browser.evaluate("document.querySelectorAll('.scroll').length") > 5
    assert browser.evaluate(wide)


# --- what the script does ---


def test_a_click_on_a_head_sorts_by_numbers_and_by_words(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    names = "[...document.querySelectorAll('#demo-ua tbody th')].map(n => n.textContent.trim())"
    click = "document.querySelectorAll('#demo-ua thead .sort')[{}].click()"
    assert browser.evaluate(names) == ["full-modality", "augmented", "mmin"]
    browser.evaluate(click.format(1))  # under audio alone mmin is best
    assert browser.evaluate(names) == ["mmin", "augmented", "full-modality"]
    sorted_by = "document.querySelector('#demo-ua thead [aria-sort]').getAttribute('aria-sort')"
    assert browser.evaluate(sorted_by) == "descending"
    browser.evaluate(click.format(1))
    assert browser.evaluate(names) == ["full-modality", "augmented", "mmin"]
    browser.evaluate(click.format(0))
    assert browser.evaluate(names) == ["augmented", "full-modality", "mmin"]
    assert browser.evaluate("document.querySelectorAll('#demo-ua [aria-sort]').length") == 1


def test_a_head_is_sorted_by_the_keyboard(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.evaluate("document.querySelector('#demo-ua thead .sort').focus()")
    for kind in ("keyDown", "keyUp"):
        browser.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            windowsVirtualKeyCode=13,
            text="\r",
        )
    first = "document.querySelector('#demo-ua tbody th').textContent.trim()"
    assert browser.evaluate(first) == "augmented"
    reached = browser.evaluate(
        "(() => { const n = document.querySelector('#demo-results > summary'); n.focus(); "
        "return document.activeElement === n; })()"
    )
    assert reached  # a collapsed part is opened by the keyboard as well


def test_a_minus_sign_sorts_below_zero(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    found = browser.evaluate(
        "['−0.5', '+0.012', '–', '12\\u202f345', 'p\\u00a0<\\u00a00.001', '<0.0001'].map(numberOf)"
    )
    assert found == [-0.5, 0.012, None, 12345, 0.001, 0.0001]


def test_columns_are_hidden_and_shown(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    heads = "[...document.querySelectorAll('#demo-ua thead th')].filter(n => !n.hidden).map(n => n.textContent.trim())"
    before = browser.evaluate(heads)
    assert "pooled" not in before and "average" in before  # one of the two averages is open
    chooser = "document.querySelector('#demo-ua').closest('.scroll').previousElementSibling"
    boxes = f"[...{chooser}.querySelectorAll('input')]"
    browser.evaluate(f"{boxes}.find(n => n.parentElement.textContent.trim() === 'pooled').click()")
    assert set(browser.evaluate(heads)) - set(before) == {"pooled"}
    shown = "[...document.querySelector('#demo-ua tbody tr').cells].filter(n => !n.hidden).length"
    assert browser.evaluate(shown) == len(before) + 1
    browser.evaluate(f"{boxes}[0].click()")
    assert len(browser.evaluate(heads)) == len(before)


def test_a_deep_link_opens_what_it_leads_to(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    assert not browser.evaluate("document.getElementById('demo-classes').open")
    browser.evaluate("location.hash = '#table-demo-classes'")
    end = time.monotonic() + 10
    while not browser.evaluate("document.getElementById('demo-classes').open"):
        assert time.monotonic() < end
    browser.evaluate("location.hash = '#%E0%A4%A'")  # no address that can be decoded
    assert browser.problems == []


def open_predictions(browser: Browser) -> None:
    browser.evaluate("document.getElementById('demo-predictions').open = true")
    end = time.monotonic() + 10
    while not browser.evaluate("document.querySelectorAll('.samples li').length"):
        assert time.monotonic() < end


SUMMARIES = "[...document.querySelectorAll('.samples li summary')].map(n => n.textContent)"
CHOOSE = (
    "(() => {{ const n = document.querySelectorAll('.choices select')[{}]; n.value = '{}'; "
    "n.dispatchEvent(new Event('change')); }})()"
)


def test_the_browser_of_predictions_sorts_and_finds(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    open_predictions(browser)
    said = browser.evaluate(SUMMARIES)
    assert len(said) == 20  # of 40; more by a button
    losses = [float(words.split("loss ")[1].split(" ")[0]) for words in said]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]
    browser.evaluate(CHOOSE.format(0, "disagreement"))
    spread = [float(words.split("disagreement ")[1].split(" ")[0]) for words in browser.evaluate(SUMMARIES)]
    assert spread == sorted(spread, reverse=True)
    browser.evaluate(CHOOSE.format(0, "id"))
    assert browser.evaluate(SUMMARIES)[0].endswith("demo_000")
    browser.evaluate(CHOOSE.format(1, "2"))
    browser.evaluate(CHOOSE.format(2, "6"))  # mmin, nothing missing: one prediction a sample
    assert all("disagreement 0.00" in words for words in browser.evaluate(SUMMARIES))
    browser.evaluate(
        "(() => { const n = document.querySelector('.choices input'); n.value = 'SENTENCE 17'; "
        "n.dispatchEvent(new Event('input')); })()"
    )
    (found,) = browser.evaluate(SUMMARIES)
    assert "sentence 17" in found and "demo_017" in found


def test_the_browser_shows_what_predictions_csv_says(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    open_predictions(browser)
    browser.evaluate(CHOOSE.format(0, "id"))
    browser.evaluate("document.querySelector('.samples details').open = true")
    end = time.monotonic() + 10
    while not browser.evaluate("document.querySelectorAll('.samples tbody tr').length"):
        assert time.monotonic() < end
    shown = browser.evaluate(
        "[...document.querySelectorAll('.samples tbody tr')].map(n => [...n.cells].map(c => c.textContent))"
    )
    for row in shown:
        for condition, cell in zip(CONDITIONS, row[1:], strict=True):
            lines = (page.parents[1] / f"results/{row[0]}/predictions.csv").read_text().splitlines()
            (fields,) = [
                f for f in map(str.split, lines, [","] * len(lines)) if f[3:5] == [condition, "demo_000"]
            ]
            assert (
                cell == f"{fields[6]} {float(fields[7]):.2f}"
                or abs(float(cell[-4:]) - float(fields[7])) < 0.0056
            )
            assert cell.split(" ")[0] == fields[6]  # happy is the true class of the first sample
    assert [row[0] for row in shown] == list(report_tree.GAIN)
    link = browser.evaluate("document.querySelector('.clip a').getAttribute('href')")
    assert link == "../raw/demo/clips/000.mp4"


def test_a_clip_that_is_not_there_is_said_so_and_nothing_else_is_asked_for(
    browser: Browser, page: Path
) -> None:
    browser.open(page, 390)
    open_predictions(browser)
    browser.evaluate("document.querySelector('.samples details').open = true")
    end = time.monotonic() + 10
    while not browser.evaluate("Boolean(document.querySelector('.clip button'))"):
        assert time.monotonic() < end
    assert browser.requests == [page.resolve().as_uri()]  # until here nothing but the page
    browser.evaluate("document.querySelector('.clip button').click()")
    while not browser.evaluate("Boolean(document.querySelector('.samples [role=alert]'))"):
        assert time.monotonic() < end
    assert "The media have moved" in browser.evaluate(
        "document.querySelector('.samples [role=alert]').textContent"
    )
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.evaluate(OVERFLOWING) == ""


def test_a_page_of_many_experiments_fits_a_phone(browser: Browser, tmp_path: Path) -> None:
    params = report_tree.large_params(12, tables=1)
    report_tree.write_large(tmp_path, params)
    report.write(params, *report.gather(params, tmp_path), tmp_path / "report")
    for dark in (False, True):
        browser.open(tmp_path / "report/index.html", 390, dark)
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        assert browser.evaluate(OVERFLOWING) == ""
        assert browser.problems == []
    assert (
        browser.evaluate("document.querySelectorAll('.verdicts').length") == 2
    )  # five, and the rest after a click
    lines = "document.querySelector('.legend').children.length"
    assert browser.evaluate(lines) == 8  # as many as there are colours


def test_curves_over_rates_are_drawn_beside_their_numbers(browser: Browser, tmp_path: Path) -> None:
    report_tree.write_tree(tmp_path)
    own = {"conditions": {"protocol": "conditions"}}
    params = report_tree.params(masks=own | {"dropped": {"protocol": "frames", "rates": [0, 0.5, 1]}})
    names = params.masks["dropped"].members("dropped")
    report_tree.write_masks_of(tmp_path, {"conditions": params.masks["conditions"], **names})
    assert len(names) == 3
    for experiment in report_tree.GAIN:
        with (tmp_path / "results" / experiment / "folds.csv").open("a") as file:
            for fold in range(1, report_tree.FOLDS + 1):
                for place, name in enumerate(names):
                    ua = round(0.7 - 0.2 * place + report_tree.NOISE[fold - 1], 6)
                    file.write(",".join(map(str, [experiment, fold, 1, name, 8, ua, ua, ua, ua])) + "\n")
    report.write(params, *report.gather(params, tmp_path), tmp_path / "report")
    for width, kind in ((1280, ".wide"), (390, ".narrow")):
        browser.open(tmp_path / "report/index.html", width)
        block = "document.getElementById('demo-rates-dropped')"
        assert browser.evaluate(f"{block}.open")
        lines = f"[...{block}.querySelectorAll('{kind} svg path')].filter(p => p.getBoundingClientRect().width > 50)"
        assert browser.evaluate(f"{lines}.length") >= len(report_tree.GAIN)
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate(OVERFLOWING) == ""
        assert browser.problems == []
    told = browser.evaluate(f"{block}.querySelector('table').textContent")
    # The mean height by trapezoids of 0.7, 0.5, 0.3 over 0, 0.5, 1.
    level = sum(report_tree.NOISE[: report_tree.FOLDS]) / report_tree.FOLDS
    assert f"{0.5 + level:.3f}" in told
    figure = browser.evaluate("document.querySelector('#demo-by-condition .wide svg').textContent")
    assert "dropped" not in figure  # not a second time among the conditions


def test_on_paper_every_table_is_open(browser: Browser, page: Path) -> None:
    browser.open(page, 1280)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    closed = "[...document.querySelectorAll('.block:not([open])')].map(n => n.id)"
    assert browser.evaluate(closed) == ["demo-predictions"]
