"""Rollouts as HTML: pages of one file, for a browser, a phone or a printer, and the same blocks for notebooks."""

from __future__ import annotations

from rollout_sdk.page.document import STYLE_SHEET, document
from rollout_sdk.page.report import as_html
from rollout_sdk.page.rollout import AFTER_EFFECTS, rollout_page

__all__ = ["AFTER_EFFECTS", "STYLE_SHEET", "as_html", "document", "rollout_page"]
