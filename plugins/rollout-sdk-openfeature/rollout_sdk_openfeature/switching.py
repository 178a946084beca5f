"""Candidates switched off and on again, for as long as flags say so: at once, in this process, and undone by nothing else."""

from __future__ import annotations

from rollout_sdk.extending import newest
from rollout_sdk_openfeature.flags import SwitchFlag

__all__ = ["switch_off", "switch_on"]


def switch_off(flag: SwitchFlag) -> None:
    """Let no candidate start any more; when it returns, none does. Again and again changes nothing."""
    newest(flag.rollout).disable(holder=f"flag {flag.flag}")


def switch_on(flag: SwitchFlag) -> None:
    """Let candidates run again, unless another flag or the control file holds them."""
    newest(flag.rollout).enable(holder=f"flag {flag.flag}")
