"""Prints docs/telemetry.md."""

from rollout_sdk.telemetry.contract import as_markdown

print(as_markdown(), end="")  # noqa: T201 - what it is for
