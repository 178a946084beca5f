"""The page to keep open during a ramp: rollouts live in a browser, and operated by who has the token. Needs [dashboard]."""

from __future__ import annotations
