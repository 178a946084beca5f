"""Every finding about what is installed and what is set."""

import re
import runpy
import sys
import types
from pathlib import Path

import pytest

import rollout_sdk
from rollout_sdk.doctor import as_text, examine, installed
from rollout_sdk.doctor.environment import KNOWN
from rollout_sdk.resilience import kill_switch
from tests.doctor.lines import SECRET


def of(diagnosis, code):
    return [finding for finding in diagnosis.findings if finding.code == code]


def only(diagnosis, code):
    (found,) = of(diagnosis, code)
    return found


def plugin(diagnosis, name):
    (found,) = (each for each in diagnosis.plugins if each.name == name)
    return found


def test_the_plugins_of_this_package_are_found_with_their_files(look):
    seen = look(None)
    found = plugin(seen, "canary")
    assert ("rollout-sdk", True, False) == (found.distribution, found.found, found.blocked)
    assert found.file.endswith("rollout_sdk/strategies/canary.py")
    assert "ok" == only(seen, "plugins.ok").severity


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("inside:Thing", "inside.py"),
        ("inside", "inside.py"),
        ("inside:Thing.more [extra]", "inside.py"),
        ("package", "package/__init__.py"),
        ("package.inner:Thing", "package/inner.py"),
        ("package.deep.inner", "package/deep/inner.py"),
        ("space.below.inner", "space/below/inner.py"),
    ],
)
def test_the_file_of_a_plugin_is_found_without_importing_even_its_parents(install, look, value, file):
    parents = ["package/__init__.py"] if file.startswith("package/") else []
    deep = ["package/deep/__init__.py"] if "package/deep" in file else []
    place = install("third-party", f"third = {value}", files={file, *parents, *deep})
    found = plugin(look(None), "third")
    assert ("third-party", "1.2", True, str(place / file)) == (found.distribution, found.version, found.found, found.file)


@pytest.mark.parametrize(
    "value", ["nowhere", "nowhere.inner", "package.nowhere", "package.inner.nowhere", "no module", ":x", "a..b"]
)
def test_a_plugin_without_a_module_is_an_error(install, look, value):
    install("third-party", f"third = {value}", files=["package/__init__.py", "package/inner.py"])
    found = only(look(None), "plugins.no_module")
    assert ("error", True) == (found.severity, "third-party 1.2" in found.what)


def test_a_module_that_cannot_be_looked_for_is_not_said_to_be_missing(install, look, monkeypatch):
    # It is loaded, and says nothing of itself: as `__main__` of a script.
    monkeypatch.setitem(sys.modules, "spoken_for", types.ModuleType("spoken_for"))
    install("third-party", "third = spoken_for.inner")
    seen = look(None)
    assert (None, []) == (plugin(seen, "third").found, of(seen, "plugins.no_module"))


def test_two_plugins_of_one_name_are_an_error(install, look):
    install("one", "third = one", files=["one.py"])
    install("two", "third = two", files=["two.py"])
    found = only(look(None), "plugins.same_name")
    assert ("error", True) == (found.severity, "of one 1.2 and two 1.2" in found.what)


def test_a_plugin_that_is_found_twice_is_one(install, look):
    for name in ("one", "two"):
        install(name, "third = one", files=["one.py"])
    assert [] == of(look(None), "plugins.same_name")


def test_a_blocked_plugin_is_a_note(look):
    seen = look(None, ROLLOUT_DISABLED_PLUGINS=" canary , ")
    assert ("note", True) == (only(seen, "plugins.blocked").severity, plugin(seen, "canary").blocked)


@pytest.mark.parametrize(
    ("name", "severity", "cure"), [("canery", "warning", "Did you mean 'canary'?"), ("zzz", "note", "Remove it from the list")]
)
def test_a_blocked_name_of_no_plugin_is_told(look, name, severity, cure):
    found = only(look(None, ROLLOUT_DISABLED_PLUGINS=name), "plugins.blocks_nothing")
    assert (severity, True) == (found.severity, found.cure.startswith(cure))


def test_metadata_that_cannot_be_read_is_a_warning(install, look):
    install("broken", b"[rollout_sdk]\nx = \xff\xfe\n")
    found = only(look(None), "plugins.unreadable_metadata")
    assert ("warning", True) == (found.severity, "broken-1.2.dist-info" in found.what)


def test_no_opentelemetry_sdk_is_a_note(look, monkeypatch):
    def version(name):
        raise installed.PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", version)
    seen = look(None)
    assert ("note", None) == (only(seen, "versions.no_otel_sdk").severity, seen.versions["pluggy"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ROLLOUT_JURNAL", "ROLLOUT_JOURNAL"), ("ROLOUT_KEY", "ROLLOUT_KEY"), ("rollout_disabled", "ROLLOUT_DISABLED")],
)
def test_a_misspelt_variable_is_a_warning_and_its_value_is_not_shown(look, name, meant):
    seen = look(None, **{name: SECRET})
    found = only(seen, "settings.misspelt")
    assert ("warning", f"Did you mean {meant}?") == (found.severity, found.cure)
    assert SECRET not in f"{seen.as_dict()}{as_text(seen)}"


def test_a_variable_of_nobody_is_a_note(look):
    assert "note" == only(look(None, ROLLOUT_SOMETHING_ELSE="x"), "settings.unknown").severity


def test_a_variable_of_an_installed_plugin_is_a_note(look, install):
    install("third-party", "journals = inside", files=["inside.py"])
    seen = look(None, ROLLOUT_JOURNALS="x")
    assert ("See the plugin that it is named after.", []) == (
        only(seen, "settings.unknown").cure,
        of(seen, "settings.misspelt"),
    )


def test_other_peoples_variables_are_not_looked_at(look):
    assert ["ROLLOUT_KEY"] == [variable.name for variable in look(None, HOME="/", ROLL="x", KEY="x", LOUT_KEY="x").variables]


@pytest.mark.parametrize(
    ("address", "code", "severity"),
    [
        ("sqlite:///{here}/rollouts.db", None, None),
        ("{here}/rollouts.db", None, None),
        ("memory:", None, None),
        ("canary://somewhere", None, None),
        ("sqlite:///rollouts.db", "settings.relative_store", "note"),
        ("sqlite:///{here}/typo.db", "settings.no_store", "note"),
        ("sqlite:///{here}/nowhere/rollouts.db", "settings.no_store_folder", "error"),
        ("sqllite:///{here}/rollouts.db", "settings.store_refused", "error"),
        ("sqlite:rollouts.db", "settings.store_refused", "error"),
    ],
)
def test_the_address_of_a_store_is_looked_at_and_nothing_is_made(look, tmp_path, address, code, severity):
    (tmp_path / "rollouts.db").touch()
    before = sorted(tmp_path.iterdir())
    found = [each for each in look(None, ROLLOUT_STORE=address.format(here=tmp_path)).findings if "store" in each.code]
    if code is None:
        assert [] == found
    else:
        assert (code, severity) in {(each.code, each.severity) for each in found}
    assert before == sorted(tmp_path.iterdir())


def test_a_store_that_this_user_may_not_use_is_an_error(look, tmp_path, monkeypatch):
    (tmp_path / "rollouts.db").touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    found = only(look(None, ROLLOUT_STORE=f"sqlite:///{tmp_path}/rollouts.db"), "settings.store_unreadable")
    assert "error" == found.severity


def test_the_login_of_a_store_is_not_shown(look):
    seen = look(None, ROLLOUT_STORE=f"redis://ann:{SECRET}@cache:6379/0")
    assert SECRET not in f"{seen}{seen.as_dict()}{as_text(seen)}"
    assert "redis://cache:6379/0" in as_text(seen)


def test_a_relative_journal_is_a_note(look):
    assert "note" == only(look(None, ROLLOUT_JOURNAL="some/where"), "settings.relative_journal").severity


def test_the_journal_of_the_environment_is_looked_at(look, folder, write):
    write(b"x")
    seen = look(None, ROLLOUT_JOURNAL=str(folder))
    assert (1, True) == (seen.journal.report.lines, bool(of(seen, "journal.damaged")))


def test_no_key_is_a_note(look):
    seen = look(None, ROLLOUT_KEY="")
    assert ("note", False, None) == (only(seen, "settings.no_key").severity, seen.key.is_set, seen.key.length)


@pytest.mark.parametrize(
    ("key", "code", "severity", "length"),
    [
        ("x" * 15, "settings.short_key", "warning", "shorter than 16 bytes"),
        ("x" * 65, "settings.long_key", "error", "longer than 64 bytes"),
        ("x" * 20 + "\n", "settings.key_white_space", "warning", "16 to 64 bytes"),
        ("x" * 20 + "\udcff", "settings.key_no_text", "error", "16 to 64 bytes"),
    ],
)
def test_a_key_that_is_not_well_chosen_is_told_and_never_shown(look, key, code, severity, length):
    seen = look(None, ROLLOUT_KEY=key)
    assert (severity, length) == (only(seen, code).severity, seen.key.length)
    assert "xxxx" not in f"{seen}{seen.as_dict()}{as_text(seen)}"


def test_a_good_key_is_no_finding(look):
    seen = look(None, ROLLOUT_KEY="\u00e9" * 8)
    assert [] == [finding for finding in seen.findings if "key" in finding.code]
    assert "16 to 64 bytes" == seen.key.length


@pytest.mark.parametrize("value", ["1", "TRUE", " yes ", "on"])
def test_the_switch_that_is_on_is_a_warning(look, value):
    assert "warning" == only(look(None, ROLLOUT_DISABLED=value), "settings.disabled").severity


@pytest.mark.parametrize("value", ["", "0", "false", "No", "off"])
def test_the_switch_that_is_off_is_no_finding(look, value):
    assert [] == [finding for finding in look(None, ROLLOUT_DISABLED=value).findings if "disabled" in finding.code]


def test_a_switch_that_is_not_understood_is_a_warning(look):
    assert "warning" == only(look(None, ROLLOUT_DISABLED="ture"), "settings.disabled_unclear").severity


@pytest.fixture
def steer(tmp_path, look):
    """Examines with a control file."""

    def steer(text):
        path = tmp_path / "control.toml"
        if text is not None:
            path.write_text(text)
            path.chmod(0o600)
        return look(None, ROLLOUT_CONTROL=str(path))

    return steer


def test_a_control_file_that_is_refused_is_an_error_that_says_why(steer):
    found = only(steer("version = 'one'"), "settings.control_refused")
    assert ("error", True) == (found.severity, "needs a version that is a whole number" in found.what)


def test_a_control_file_that_is_not_there_is_a_note(steer):
    assert "note" == only(steer(None), "settings.no_control_file").severity


def test_a_control_file_that_disables_is_a_warning(steer):
    assert "warning" == only(steer("version = 1\ndisabled = true"), "settings.control_disabled").severity


def test_a_control_file_in_order_is_told(steer):
    seen = steer('version = 7\n[rollouts.r]\nstatus = "paused"')
    expected = {"refused": None, "version": 7, "disabled": False, "rollouts": {"r": "paused"}}
    assert expected == {name: value for name, value in seen.as_dict()["settings"]["control"].items() if name != "path"}
    assert ("ok", True) == (
        only(seen, "settings.ok").severity,
        "control file: version 7, disabled false; r paused" in as_text(seen),
    )


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("ROLLOUT_DISABLED", "1")
    assert "warning" == only(examine(), "settings.disabled").severity


def test_the_known_variables_are_those_that_the_sdk_reads():
    root = Path(rollout_sdk.__file__).parent
    sources = [path.read_text() for path in root.rglob("*.py") if path.parent.name != "doctor"]
    read = {name for source in sources for name in re.findall(r'environ(?:ment)?\.get\(\s*"(ROLLOUT_\w+)"', source)}
    assert set(KNOWN) == read


@pytest.mark.parametrize("value", ["1", "true", " Yes", "ON", "0", "", "false", "2", "ja"])
def test_the_switch_is_on_for_the_doctor_when_it_is_on_for_the_sdk(look, monkeypatch, value):
    monkeypatch.setenv("ROLLOUT_DISABLED", value)
    assert runpy.run_path(kill_switch.__file__)["off"] == bool(of(look(None, ROLLOUT_DISABLED=value), "settings.disabled"))
