"""The examination: look at everything once, and say what it means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from attrs import evolve

from rollout_sdk.concurrency.clocks import time
from rollout_sdk.doctor import advice_journal, advice_rollouts, advice_settings
from rollout_sdk.doctor.diagnosis import Control, Diagnosis, most_severe_first
from rollout_sdk.doctor.environment import control_file, folder_at, key_of, variables
from rollout_sdk.doctor.installed import plugins, versions
from rollout_sdk.doctor.survey import survey

__all__ = ["examine"]


def examine(
    folder: str | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    now: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Look at what is installed and set, and at a journal. Imports no plugin, and never raises for what it finds.

    Args:
        folder: The journal's folder; that of ROLLOUT_JOURNAL by default.
        environment: The environment variables.
        now: The time, in seconds since 1970; the clock's by default.
        progress: Called now and then with the bytes of the journal read so far, and its size.
    """
    moment = time() if now is None else now
    path = folder or environment.get("ROLLOUT_JOURNAL") or None
    outside = None if path is None else folder_at(path)
    is_readable = outside is not None and outside.is_folder is True and outside.readable
    control = environment.get("ROLLOUT_CONTROL") or None
    installed, unreadable = plugins(environment)
    seen = Diagnosis(
        now=moment,
        versions=versions(),
        plugins=installed,
        unreadable=unreadable,
        variables=variables(environment),
        key=key_of(environment),
        control=None if control is None else Control(control, *control_file(control)),
        folder=outside,
        journal=survey(path, now=moment, progress=progress) if path is not None and is_readable else None,
    )
    found = [
        *advice_settings.about(seen, environment),
        *advice_journal.about(seen),
        *advice_rollouts.about(seen),
    ]
    return evolve(seen, findings=most_severe_first(found))
