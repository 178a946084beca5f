"""The pictures of docs/observability.md are what Phoenix shows; with ROLLOUT_SCREENSHOTS=FOLDER they are written there.

As vectors: Chromium prints the page as a PDF, and poppler makes an SVG of the part that tells the story.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

# What Phoenix shows around the tree and the span: buttons, boxes for people's notes, and costs of language models.
ASIDE = """
* { box-shadow: none !important; transition: none !important; animation: none !important; }
.span-header__actions, .tab-list-row, .card[data-collapsed=true], .card > header > .flex, .card header button,
[data-testid=trace-tree] button, [data-testid=span-controls], .id-badge__copy-icon { display: none !important; }
"""
ALONE = """() => {
    let kept = document.querySelector("div[data-testid=trace-tree]").parentElement;
    for (; kept !== document.body; kept = kept.parentElement)
        for (const other of [...kept.parentElement.children])
            if (other !== kept && other.tagName !== "STYLE") other.remove();
}"""
WIDTH, HEIGHT = 1400, 900
LARGEST = 300_000


@pytest.fixture(scope="module")
def page(phoenix):
    """A page of a browser without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; make test-backends installs it")
    chromium, poppler = shutil.which("chromium"), shutil.which("pdftocairo")
    if chromium is None or poppler is None:
        pytest.skip("chromium or pdftocairo is not installed here; apt-get install chromium poppler-utils")
    with api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.emulate_media(media="screen")
        page.add_init_script("localStorage.setItem('arize-phoenix-theme', 'light')")
        yield page
        browser.close()


@pytest.fixture
def picture(page, phoenix, tmp_path):
    """Opens a span's page by its id, and makes the picture of a name."""

    def make(name, span):
        page.goto(f"{phoenix.server.address}redirects/spans/{span['context']['span_id']}")
        page.get_by_text("rollout.decision.id").first.wait_for(timeout=60_000)
        page.get_by_test_id("trace-tree").get_by_text(span["name"]).first.wait_for()
        page.evaluate(ALONE)
        page.add_style_tag(content=ASIDE)
        tree, details = page.locator("ul[data-testid=trace-tree]"), page.get_by_test_id("span-details")
        text = f"{tree.inner_text()}\n{details.inner_text()}"
        left, top = tree.bounding_box()["x"], details.bounding_box()["y"]
        last = page.get_by_test_id("cell-with-controls-wrap").last.bounding_box()
        page.pdf(path=tmp_path / "page.pdf", width=f"{WIDTH}px", height=f"{HEIGHT}px", print_background=True, page_ranges="1")
        subprocess.run(["pdftocairo", "-svg", tmp_path / "page.pdf", tmp_path / "page.svg"], check=True)
        # A pixel is three quarters of a point.
        wide, high = WIDTH - left, last["y"] + last["height"] + 18 - top
        view = " ".join(f"{pixels * 0.75:.0f}" for pixels in (left, top, wide, high))
        drawing = (tmp_path / "page.svg").read_text()
        drawing = re.sub(
            r'width="[^"]*" height="[^"]*" viewBox="[^"]*"',
            f'width="{wide:.0f}" height="{high:.0f}" viewBox="{view}"',
            drawing,
            count=1,
        )
        folder = Path(os.environ.get("ROLLOUT_SCREENSHOTS") or tmp_path)
        target = folder / f"observability-{name}.svg"
        # A hundredth of a point is seen by nobody; but a scale needs all its digits.
        target.write_text(re.sub(r' (d|x|y)="[^"]*"', lambda place: re.sub(r"(\.\d\d)\d+", r"\1", place[0]), drawing))
        return text, target

    return make


def spans(phoenix, query):
    return json.loads(phoenix.server.text(f"v1/projects/shop/spans?limit=1000&{query}"))["data"]


def drawn(target):
    """How many glyphs a picture has; it must be valid, small, and free of bitmaps."""
    root = ElementTree.parse(target).getroot()
    kinds = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert ("image" in kinds, target.stat().st_size < LARGEST) == (False, True)
    return kinds.count("use")


def letters(text):
    return len(re.sub(r"\s", "", text))


def test_a_fallback_is_seen_at_a_glance(phoenix, picture, within):
    assert within(60, lambda: len(spans(phoenix, "status_code=ERROR")) > 0, True)
    drawn_by_lot = spans(phoenix, "name=route%20shop.rank&attribute=feature_flag.result.reason:split")
    route = next(span for span in drawn_by_lot if "rollout.fallback.variant" in span["attributes"])
    text, target = picture("fallback", route)
    in_order = [
        "GET /shop.rank",
        "route shop.rank",
        "invoke shop.rank/v2",
        "invoke shop.rank/control",
        "rollout.fallback.variant",
    ]
    assert in_order == sorted(in_order, key=text.index)
    assert drawn(target) > letters(text) / 2


def test_a_linked_shadow_is_seen_at_a_glance(phoenix, picture, within):
    assert within(60, lambda: len(spans(phoenix, "attribute=rollout.comparison.match:false")) > 0, True)
    shadow = spans(phoenix, "attribute=rollout.comparison.match:false")[0]
    text, target = picture("shadow", shadow)
    for said in ("shadow shop.spam/v2", "rollout.comparison.match", shadow["attributes"]["rollout.shadow.origin.trace_id"]):
        assert said in text
    assert drawn(target) > letters(text) / 2
