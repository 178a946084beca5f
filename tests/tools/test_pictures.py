"""The pictures in the documentation are what the code draws."""

from pathlib import Path

from tools.pictures import DRAWN, drawn

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_pictures_of_the_page_are_those_a_report_draws():
    """If a picture has changed on purpose: python -m tools.pictures docs."""
    assert {name: (DOCS / name).read_text("utf-8") for name in DRAWN} == drawn()
