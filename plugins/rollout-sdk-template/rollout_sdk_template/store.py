"""A store: everything in one JSON file, for the processes of one machine. It is the example of docs/stores.md."""

import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rollout_sdk import StoreError
from rollout_sdk.control.stores import (
    Gathered,
    Stored,
    checked_document,
    checked_name,
    checked_number,
    checked_text,
    parsed,
    plain,
)


class JSONFileStore:
    """Keeps everything in one JSON file on a disk of this machine."""

    def __init__(self, path: str, *, timeout_s: float = 1.0) -> None:
        self.path, self.timeout_s = Path(path), timeout_s
        self._closed = False

    def load(self, key: str) -> Stored | None:
        with self._turn(checked_name("key", key)) as rollout:
            return None if rollout["document"] is None else Stored(rollout["revision"], parsed(rollout["document"]))

    def swap(self, key: str, expected: int | None, document: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
        revision, epoch, text = checked_document(expected, document)
        line = plain("record", record)
        with self._turn(checked_name("key", key), writes=True) as rollout:
            if expected != rollout["revision"]:
                return False
            checked_number("epoch", epoch, above=rollout["epoch"] - 1)
            if epoch != rollout["epoch"]:
                rollout["parts"], rollout["claims"] = {}, {}
            rollout.update(revision=revision, epoch=epoch, document=text)
            rollout["history"].append(line)
            return True

    def publish(self, key: str, epoch: int, writer: str, parts: Mapping[str, str]) -> bool:
        checked_number("epoch", epoch)
        checked_name("writer", writer)
        texts = {checked_name("part", name): checked_text("part", text) for name, text in parts.items()}
        with self._turn(checked_name("key", key), writes=True) as rollout:
            if rollout["document"] is None or rollout["epoch"] != epoch:
                return False
            mine = rollout["parts"].setdefault(writer, {})
            changed = {name: text for name, text in texts.items() if name not in mine or mine[name][1] != text}
            rollout["cursor"] += bool(changed)
            mine.update({name: [rollout["cursor"], text] for name, text in changed.items()})
            return True

    def gather(self, key: str, epoch: int, after: int = 0) -> Gathered:
        checked_number("epoch", epoch)
        checked_number("cursor", after)
        with self._turn(checked_name("key", key)) as rollout:
            # A cursor from the future belongs to another file: parts may be returned twice, but must not be missed.
            after = after if after <= rollout["cursor"] else 0
            writers = rollout["parts"] if rollout["epoch"] == epoch else {}
            found = {(writer, name): part for writer, parts in writers.items() for name, part in parts.items()}
            return Gathered(rollout["cursor"], {name: text for name, (cursor, text) in found.items() if cursor > after})

    def claim(self, key: str, epoch: int, claimant: str, names: Sequence[str]) -> frozenset[str]:
        checked_number("epoch", epoch)
        checked_name("claimant", claimant)
        wanted = [checked_name("claim", name) for name in names]
        with self._turn(checked_name("key", key), writes=True) as rollout:
            if rollout["document"] is None or rollout["epoch"] != epoch:
                return frozenset()
            claims = rollout["claims"]
            own = frozenset(name for name in wanted if claims.setdefault(name, claimant) == claimant)
            for name in list(claims)[:-100_000]:
                del claims[name]
            return own

    def note(self, key: str, name: str, text: str) -> None:
        checked_name("note", name)
        checked_text("note", text)
        with self._turn(checked_name("key", key), writes=True) as rollout:
            rollout["notes"][name] = text

    def noted(self, key: str, name: str) -> str | None:
        checked_name("note", name)
        with self._turn(checked_name("key", key)) as rollout:
            text: str | None = rollout["notes"].get(name)
            return text

    def history(self, key: str) -> list[Mapping[str, Any]]:
        with self._turn(checked_name("key", key)) as rollout:
            return [parsed(text) for text in rollout["history"]]

    def keys(self) -> list[str]:
        with self._file(writes=False) as rollouts:
            return sorted(key for key, rollout in rollouts.items() if rollout["document"] is not None)

    def close(self) -> None:
        self._closed = True

    @contextmanager
    def _turn(self, key: str, *, writes: bool = False) -> Iterator[dict[str, Any]]:
        nothing: dict[str, Any] = {"revision": None, "epoch": 0, "document": None, "cursor": 0}
        nothing |= {"history": [], "parts": {}, "claims": {}, "notes": {}}
        with self._file(writes=writes) as rollouts:
            yield rollouts.setdefault(key, nothing)

    @contextmanager
    def _file(self, *, writes: bool) -> Iterator[dict[str, Any]]:
        """All rollouts, while no other thread or process has them; written back as a whole, or not at all."""
        if self._closed:
            raise StoreError(f"The store {str(self.path)!r} was used after it was closed. Open another.")
        try:
            with self.path.with_suffix(".lock").open("a") as lock:
                self._wait_for(lock)
                try:
                    rollouts = json.loads(self.path.read_text()) if self.path.exists() else {}
                    yield rollouts
                    if writes:
                        aside = self.path.with_suffix(".new")
                        aside.write_text(json.dumps(rollouts))
                        aside.replace(self.path)
                finally:
                    # Closing is not enough: a child that was forked meanwhile has the file open as well.
                    fcntl.flock(lock, fcntl.LOCK_UN)
        except StoreError:
            raise
        except (OSError, ValueError) as error:
            raise StoreError(f"The store {str(self.path)!r} failed: {error}. Look at the file and its folder.") from error

    def _wait_for(self, lock: Any) -> None:
        until = time.monotonic() + self.timeout_s
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreError(f"The store {str(self.path)!r} was locked for {self.timeout_s} s. Try again.") from None
                time.sleep(0.001)
