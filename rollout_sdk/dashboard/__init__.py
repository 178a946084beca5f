"""The page to keep open during a ramp: rollouts live in a browser, and commands for holders of a token. Needs [dashboard]."""

from __future__ import annotations
