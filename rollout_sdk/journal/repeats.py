"""What a journal holds twice counts once: a file that was copied, compressed beside its original, or put into an archive.

Ids show it: each process numbers its calls, so one bit for each call is enough to know it again, and so for a call's shadows.
The few lines without an id are identified by their process and the line itself. Outcomes are identified by their content
(`RecordedEvent.identity`), also if an application records one twice: the analysis handles them.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error

__all__ = ["Repeats"]

_ID = re.compile(
    rb"1s?(?:\x1f[^\x1f]+){3}\x1f[0-9a-f]{1,15}\x1f([0-9a-f]{1,15})"
    rb"\x1f([0-9a-f]{10})([0-9a-f]{1,15})(?:~\d{1,2})?-?\x1f"
)
_PAGE = 10
"""Calls are remembered in pages of 1,024 bits: those of a process follow each other."""
_HOUR = 22
"""Of a time in milliseconds: 70 minutes. With it, the origins of a million processes need not all differ."""
_MOST_LINES = 100_000
_RARE = frozenset({"lost", "transition", "breaker"})


class Repeats:
    """What was read in one pass over a journal. Several files may be read by turns."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._pages: dict[tuple[bytes, int, int, str], int] = {}
        self._lines: set[tuple[str, int]] = set()

    def is_call(self, decision_id: str, shadow: str = "") -> bool:
        """Whether a call, or its shadow of this variant, was read before; False for an id that is not the SDK's."""
        try:
            found = _ID.match(urlsafe_b64decode(decision_id + "=" * (-len(decision_id) % 4)))
        except (Base64Error, ValueError):
            return False
        if found is None:
            return False
        time_ms, origin, nonce = found.group(1, 2, 3)
        number = int(nonce, 16)
        page = origin, int(time_ms, 16) >> _HOUR, number >> _PAGE, shadow
        bit, known = 1 << (number & (1 << _PAGE) - 1), self._pages.get(page, 0)
        self._pages[page] = known | bit
        return bool(known & bit)

    def is_line(self, event: str, process: str | None, line: bytes) -> bool:
        """Whether a line without an id was read before; False where it is not known which process wrote it."""
        if process is None or event not in _RARE:
            return False
        known = process, hash(line.strip())
        if known in self._lines:
            return True
        # As many as a fleet writes in a year; what comes after them may count twice.
        if len(self._lines) < _MOST_LINES:
            self._lines.add(known)
        return False
