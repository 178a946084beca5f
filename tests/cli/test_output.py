"""What commands print besides their results."""

import io
import sys

import pytest

from rollout_sdk.cli import output


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def now_s(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(output, "monotonic", lambda: now_s[0])
    return now_s


def test_progress_is_shown_after_two_seconds_of_waiting_and_no_sooner(monkeypatch, now_s):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with output.progress("Reading the journal") as show:
        show(1, 10)
        now_s[0] += 1.9
        show(4, 10)
        assert sys.stderr.getvalue() == ""
        now_s[0] += 0.2
        show(5, 10)
        assert "Reading the journal" in sys.stderr.getvalue()
        assert "50%" in sys.stderr.getvalue()
        now_s[0] += 1
        show(10, 10)
        assert "100%" in sys.stderr.getvalue()


def test_nothing_to_read_is_no_division_by_zero(monkeypatch, now_s):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with output.progress("Reading the journal") as show:
        now_s[0] += 3
        show(0, 0)
    assert "Reading the journal" in sys.stderr.getvalue()


def test_without_a_terminal_there_is_no_progress(monkeypatch, now_s):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with output.progress("Reading the journal") as show:
        now_s[0] += 3
        assert show is None
    assert sys.stderr.getvalue() == ""
