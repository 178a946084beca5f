import json
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import frozen


@frozen
class Stored:
    revision: int
    document: Mapping[str, Any]


@frozen
class Gathered:
    cursor: int
    parts: Mapping[tuple[str, str], str]


class StateStore(Protocol): ...


class MemoryStore:
    def __init__(self):
        self._l = threading.RLock()
        self._d = {}
        self._p = {}
        self._h = {}
        self._n = {}
        self._c = 0

    def load(self, key):
        with self._l:
            t = self._d.get(key)
            return None if t is None else Stored(t[0], json.loads(t[1]))

    def swap(self, key, expected, document, record):
        with self._l:
            t = self._d.get(key)
            if (None if t is None else t[0]) != expected:
                return False
            if t is not None and json.loads(t[1])["epoch"] != document["epoch"]:
                self._p.pop(key, None)
            self._d[key] = (document["revision"], json.dumps(document))
            self._h.setdefault(key, []).append(json.loads(json.dumps(record)))
            return True

    def publish(self, key, epoch, writer, parts):
        with self._l:
            t = self._d.get(key)
            if t is None or json.loads(t[1])["epoch"] != epoch:
                return False
            for k, v in parts.items():
                self._c += 1
                self._p.setdefault(key, {})[writer, k] = (self._c, v)
            return True

    def gather(self, key, epoch, after=0):
        with self._l:
            return Gathered(self._c, {k: v for k, (c, v) in self._p.get(key, {}).items() if c > after})

    def note(self, key, name, text):
        self._n[key, name] = text

    def noted(self, key, name):
        return self._n.get((key, name))

    def history(self, key):
        return list(self._h.get(key, []))

    def keys(self):
        return list(self._d)

    def close(self):
        pass


def open_store(url):
    return MemoryStore()
