"""Findings about what is installed and what is set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from rollout_sdk.doctor import advice_store
from rollout_sdk.doctor.diagnosis import Control, Diagnosis, Finding, worst
from rollout_sdk.doctor.environment import Variable
from rollout_sdk.doctor.installed import Plugin
from rollout_sdk.formatting import plain, quoted
from rollout_sdk.plugins.discovery import blocked_names

__all__ = ["about"]

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})


def about(seen: Diagnosis, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the findings, or one that says that nothing is wrong."""
    if seen.versions.get("opentelemetry-sdk") is None:
        yield Finding(
            "note",
            "versions.no_otel_sdk",
            "No OpenTelemetry SDK is installed here: spans and metrics go nowhere.",
            "If they are wanted, run: pip install 'rollout-sdk[otel]', and set up an exporter in the application.",
        )
    installed = [*_plugins(seen), *_blocked(seen, environment)]
    yield from installed
    if worst(installed) in ("ok", "note"):
        what = f"Every installed plugin has a unique name and a module ({len(seen.plugins)} found)."
        yield Finding("ok", "plugins.ok", what, "Nothing to do.")
    settings = [
        *_variables(seen, environment),
        *advice_store.about(seen, environment),
        *_key(seen),
        *_switch(environment),
        *_control(seen.control),
    ]
    yield from settings
    if worst(settings) in ("ok", "note"):
        yield Finding("ok", "settings.ok", "The ROLLOUT_* variables can be used as they are.", "Nothing to do.")


def _plugins(seen: Diagnosis) -> Iterator[Finding]:
    for folder in seen.unreadable:
        yield Finding(
            "warning",
            "plugins.unreadable_metadata",
            f"The metadata of an installed distribution cannot be read: {plain(folder)}.",
            "Install that distribution again, or remove it: plugins may not be found because of it.",
        )
    by_name: dict[str, list[Plugin]] = defaultdict(list)
    for plugin in seen.plugins:
        by_name[plugin.name].append(plugin)
        if plugin.found is False:
            yield Finding(
                "error",
                "plugins.no_module",
                f"Plugin {quoted(plugin.name)} of {_whose(plugin)} names {quoted(plugin.value)}, and there is no such module.",
                "Install the distribution again, or remove it.",
            )
        if plugin.blocked:
            yield Finding(
                "note",
                "plugins.blocked",
                f"Plugin {quoted(plugin.name)} is blocked by ROLLOUT_DISABLED_PLUGINS: a rollout that names it is an error.",
                "Remove it from that list to use it.",
            )
    for name, several in by_name.items():
        if len(several) > 1:
            yield Finding(
                "error",
                "plugins.same_name",
                f"{len(several)} plugins are named {quoted(name)}: of {' and '.join(map(_whose, several))}.",
                "Remove all but one of these distributions: a rollout that names it cannot be decorated.",
            )


def _whose(plugin: Plugin) -> str:
    return f"{plain(plugin.distribution or 'an unnamed distribution', 60)} {plain(plugin.version or '', 20)}".strip()


def _blocked(seen: Diagnosis, environment: Mapping[str, str]) -> Iterator[Finding]:
    names = {plugin.name for plugin in seen.plugins}
    for name in sorted(blocked_names(environment) - names):
        close = get_close_matches(name[:100], names, n=1)
        yield Finding(
            "warning" if close else "note",
            "plugins.blocks_nothing",
            f"ROLLOUT_DISABLED_PLUGINS names {quoted(name)}, and no plugin of that name is installed.",
            f"Did you mean {quoted(close[0])}?"
            if close
            else "Remove it from the list, unless an application passes such a plugin.",
        )


def _variables(seen: Diagnosis, environment: Mapping[str, str]) -> Iterator[Finding]:
    names = {plugin.name.upper().replace("-", "_") for plugin in seen.plugins}
    for variable in seen.variables:
        if not variable.known:
            yield _unknown(variable, of_plugin=variable.name.removeprefix("ROLLOUT_") in names)
    path = environment.get("ROLLOUT_JOURNAL")
    if path and not Path(path).is_absolute():
        yield Finding(
            "note",
            "settings.relative_journal",
            "ROLLOUT_JOURNAL is a relative path: processes that start in different folders write different journals.",
            "Set it to an absolute path.",
        )


def _unknown(variable: Variable, *, of_plugin: bool) -> Finding:
    if variable.meant is not None and not of_plugin:
        return Finding(
            "warning",
            "settings.misspelt",
            f"The variable {quoted(variable.name)} is not a variable of rollout_sdk, and is not read.",
            f"Did you mean {variable.meant}?",
        )
    return Finding(
        "note",
        "settings.unknown",
        f"The variable {quoted(variable.name)} is not a variable of rollout_sdk.",
        "See the plugin that it is named after." if of_plugin else "Leave it if a plugin reads it; otherwise remove it.",
    )


def _key(seen: Diagnosis) -> Iterator[Finding]:
    key = seen.key
    make = "make one with: python -c 'import secrets; print(secrets.token_hex(16))'"
    if not key.is_set:
        yield Finding(
            "note",
            "settings.no_key",
            "ROLLOUT_KEY is not set: without a key, users who can choose their own id can choose their variant.",
            f"If that matters, and the code does not pass key= either, {make}; every process needs the same one.",
        )
    elif key.length == "longer than 64 bytes":
        yield Finding(
            "error",
            "settings.long_key",
            "ROLLOUT_KEY is longer than 64 bytes, and is refused when the first function is decorated.",
            f"Use a shorter one: {make}.",
        )
    elif key.length == "shorter than 16 bytes":
        yield Finding(
            "warning",
            "settings.short_key",
            "ROLLOUT_KEY is shorter than 16 bytes, and may be guessed.",
            f"Before the next rollout begins, {make}; a new key assigns every unit anew.",
        )
    if key.fault == "not UTF-8":
        yield Finding(
            "error",
            "settings.key_no_text",
            "ROLLOUT_KEY is not UTF-8, and cannot be used.",
            f"Use one of letters and digits: {make}.",
        )
    elif key.fault is not None:
        yield Finding(
            "warning",
            "settings.key_white_space",
            "ROLLOUT_KEY begins or ends with white space, which is part of it: a process without it assigns other variants.",
            "Remove it in every process at once, before the next rollout begins.",
        )


def _switch(environment: Mapping[str, str]) -> Iterator[Finding]:
    value = environment.get("ROLLOUT_DISABLED", "").strip().lower()
    if value in _ON:
        yield Finding(
            "warning",
            "settings.disabled",
            "ROLLOUT_DISABLED is on: every call is answered by its control, and nothing is recorded.",
            "Unset it and restart the processes once candidates may run.",
        )
    elif value not in _OFF:
        yield Finding(
            "warning",
            "settings.disabled_unclear",
            f"ROLLOUT_DISABLED is {quoted(value)}, which is not understood: candidates run.",
            "Set it to 1 to run controls only, or unset it.",
        )


def _control(control: Control | None) -> Iterator[Finding]:
    if control is None:
        return
    if control.refused is not None:
        yield Finding("error", "settings.control_refused", plain(control.refused.partition(". ")[0], 400) + ".", _FIX_CONTROL)
    elif control.wanted is None:
        yield Finding(
            "note",
            "settings.no_control_file",
            f"The control file {quoted(control.path)} does not exist yet, and changes nothing.",
            "Check the path in ROLLOUT_CONTROL if there should be one.",
        )
    elif control.wanted.disabled:
        yield Finding(
            "warning",
            "settings.control_disabled",
            "The control file says disabled = true: no candidate runs.",
            "Write disabled = false with a higher version once candidates may run.",
        )


_FIX_CONTROL = (
    "Fix it and rename it into place: until then, running processes keep its last version, and new ones run no candidate."
)
