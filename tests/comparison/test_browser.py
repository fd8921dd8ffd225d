"""The report in a real browser: no console message, everything loads, a phone's width is enough, it prints."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.comparison.workplace import Workplace

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser in PATH: one of {', '.join(NAMES)}")

# A window cannot be made as narrow as a phone, a frame can; each frame lays the page out at its own width.
LOOK = """<!DOCTYPE html><meta charset="utf-8"><title>wait</title><body>%s<script>
addEventListener("load", () => { document.title = JSON.stringify([...document.querySelectorAll("iframe")].map(frame => {
  const page = frame.contentDocument, root = page.documentElement;
  return { width: frame.clientWidth, inner: frame.contentWindow.innerWidth,
    overflow: root.scrollWidth - frame.contentWindow.innerWidth,
    images: page.images.length + page.querySelectorAll("svg.plot").length,
    broken: [...page.images].filter(image => !image.complete || !image.naturalWidth).length,
    hidden: [...page.querySelectorAll("img, svg.plot")]
      .filter(image => image.getBoundingClientRect().width < 60).length,
    rows: Object.fromEntries([...page.querySelectorAll("table")].map(t => [t.id, t.tBodies[0].rows.length])),
    wide: [...page.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth)
      .map(box => box.querySelector("table").id),
    small: [...page.querySelectorAll("td, p, figcaption, li, dd")]
      .filter(element => parseFloat(frame.contentWindow.getComputedStyle(element).fontSize) < 11).length };
}))})</script>"""


# What a reader does: sorts by AP twice, lights a row up, hides an initialisation, lays two pictures over each other.
USE = """<!DOCTYPE html><meta charset="utf-8"><title>wait</title><body>%s<script>
addEventListener("load", () => {
  const [used, plain] = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument);
  const all = (selector, page = used) => [...page.querySelectorAll(selector)];
  const column = place => all("#results tbody tr").map(row => parseFloat(row.cells[place].textContent));
  const buttons = all("#results thead button"), steps = [];
  const shown = () => all(".scene img").filter(image => image.offsetWidth).length;
  for (let click = 0; click < 2; click++) { buttons[3].click(); steps.push(column(3)); }
  all("#results tbody tr")[5].click();
  const lit = all(".lit:not(svg *, td, #jobs *)").map(element => element.tagName).sort(), pictures = shown();
  const cells = [...new Set(all("td.lit").map(cell => `${cell.closest("table").id} ${cell.dataset.row}`))].sort();
  const jobs = all("#jobs tr.lit").length;
  const opacity = element => used.defaultView.getComputedStyle(element).opacity;
  const drawings = all("svg.plot").map(svg => [...svg.querySelectorAll("[data-row]")].map(mark =>
    [mark.dataset.row, mark.classList.contains("lit"), Number(opacity(mark))]));
  const mark = all("svg.plot [data-row='2']")[0];
  mark.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  const clicked = all("#results tr.lit").map(row => row.dataset.row);
  mark.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  const ended = all(".lit, svg.dimmed").length;
  all(".tools input[type=checkbox]")[1].click();
  const fewer = shown();
  const paired = all(".tools label input")[all(".tools label input").length - 1];
  paired.click();
  document.title = JSON.stringify([{ steps, lit, cells, jobs, drawings, clicked, ended, pictures,
    fewer, pairs: all(".pair img").length, under: shown(),
    cut: used.querySelector(".gallery").style.getPropertyValue("--cut"), sort: buttons[3].parentElement.ariaSort,
    plain: all(".tools, button, .pair, svg.plot", plain).length,
    plots: all("img.plot", plain).length, seen: all("table", plain).length,
    pictured: all(".scene img", plain).filter(image => image.offsetWidth).length }]);
})</script>"""


def look(
    page: str, folder: Path, widths: tuple[int, ...], script: str = LOOK, plain: bool = False
) -> tuple[list[dict], list[str]]:
    """What the page looks like at each width, and the lines that the browser wrote to its console.

    `plain`: the last frame runs no script.
    """
    frames = "".join(
        f'<iframe style="width:{w}px;height:800px;border:0" srcdoc="{html.escape(page)}"'
        f"{' sandbox=allow-same-origin' if plain and place == len(widths) - 1 else ''}></iframe>"
        for place, w in enumerate(widths)
    )
    wrapper = folder / "look.html"
    wrapper.write_text(script % frames)
    done = chromium(folder, "--virtual-time-budget=8000", "--dump-dom", wrapper.as_uri())
    title = re.search(r"<title>(\[.*?\])</title>", done.stdout)
    assert title, done.stdout[:300] + done.stderr[-1000:]
    return json.loads(html.unescape(title.group(1))), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)


def test_page_at_every_width(finished: Workplace, tmp_path: Path) -> None:
    page = (finished.output / "report" / "report.html").read_text().replace("<details>", "<details open>")
    seen, console = look(page, tmp_path, (1400, 768, 390))
    assert console == []
    assert [entry["inner"] for entry in seen] == [1400, 768, 390]
    assert seen[0]["wide"] == []
    stacked = {"results", "families", "further", "further2", "further3", "costs", "classes", "settings"}
    assert not stacked & set(seen[2]["wide"])  # a phone shows a block a row
    for entry in seen:
        assert entry["images"] >= 12
        assert entry["broken"] == 0
        assert entry["hidden"] == 0
        assert entry["overflow"] <= 0  # wide tables scroll inside their frames, the page does not
        assert entry["small"] == 0
        rows = entry["rows"]
        assert rows["results"] == rows["families"] == rows["further"] == rows["further3"] == rows["costs"] == 6
        assert rows["runs"] == 18
        assert rows["jobs"] == 18 + 2 * 15 + 6  # detections, pretrainings and conversions, inspections
        assert rows["settings"] >= 1


def test_the_page_answers_a_reader_and_needs_no_script(finished: Workplace, tmp_path: Path) -> None:
    page = (finished.output / "report" / "report.html").read_text()
    (used,), console = look(page, tmp_path, (1200, 1200), USE, plain=True)
    assert [line for line in console if "sandboxed" not in line] == []
    down, up = used["steps"]
    assert down == sorted(down, reverse=True)
    assert up == sorted(down) != down
    assert used["sort"] == "ascending"
    # In the gallery, the sentence, the tables of results, families, further figures (3) and costs, and the three runs.
    assert used["lit"] == ["FIGURE", "LI", *["TR"] * 9]
    # In most drawings; there the marks of the other rows fade.
    rows = [drawing for drawing in used["drawings"] if drawing]
    assert len(rows) >= 0.6 * len(used["drawings"]) > 4
    (row,) = {row for drawing in rows for row, lit, _ in drawing if lit and row.isdecimal()}
    for drawing in rows:
        assert {lit for of, lit, _ in drawing if row in of.split()} <= {True}
        assert not any(lit for of, lit, _ in drawing if row not in of.split())
        if any(lit for _, lit, _ in drawing):
            assert {opacity for _, lit, opacity in drawing if not lit} <= {0.15}
    assert used["cells"] == [f"settings {row}"]  # the column of the row
    assert used["jobs"] >= 3  # its fine-tunings
    assert used["clicked"] == ["2"]
    assert used["ended"] == 0
    assert used["plots"] == len(used["drawings"])  # without a script they are pictures
    assert used["pictures"] == 7  # the truth and six initialisations
    assert used["fewer"] == 6
    assert used["pairs"] == used["under"] == 2
    assert used["cut"] == "50%"
    assert used["plain"] == 0
    assert used["seen"] >= 7
    assert used["pictured"] == 7


def test_the_checks_can_fail(tmp_path: Path) -> None:
    page = '<p style="width:900px;font-size:8px">x</p><img src="data:image/png;base64,AAAA"><script>missing()</script>'
    (entry,), console = look(page, tmp_path, (375,))
    assert len(console) == 1
    assert "missing is not defined" in console[0]
    assert entry["overflow"] > 500
    assert entry["broken"] == 1
    assert entry["small"] == 1


def test_page_prints(finished: Workplace, tmp_path: Path) -> None:
    target = tmp_path / "report.pdf"
    chromium(tmp_path, f"--print-to-pdf={target}", (finished.output / "report" / "report.html").resolve().as_uri())
    content = target.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
