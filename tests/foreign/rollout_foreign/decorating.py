"""Puts `rollout` around functions of other libraries: those of their modules, and those that tests hand to them."""

from __future__ import annotations

import functools
import importlib.machinery
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from types import FunctionType, ModuleType
from typing import Any

from rollout_foreign.settings import SETTINGS
from rollout_foreign.suites import Suite
from rollout_sdk import ConfigurationError, Runtime, rollout


class Decorating:
    """Decorates what a suite names, as soon as its modules are there, and remembers every rollout."""

    def __init__(self, suite: Suite, setting: str, runtime: Runtime, tests: Sequence[str]) -> None:
        self.suite, self.runtime, self.tests = suite, runtime, tuple(tests)
        self._setting, self._options = setting, SETTINGS[setting]
        self._keys: Counter[str] = Counter()
        # By the function, so that what is handed over twice is one rollout, as it would be with the decorator in place.
        self._decorated: dict[FunctionType, Any] = {}
        self.rollouts: list[str] = []
        self.refused: dict[str, str] = {}

    def install(self) -> None:
        """Decorate what is there, and whatever is imported from now on."""
        modules = {pattern.partition(":")[0] for pattern in (*self.suite.functions, *self.suite.once, *self.suite.given)}
        for name in modules & sys.modules.keys():
            self.decorate_module(sys.modules[name])
        sys.meta_path.insert(0, _Finder(modules, self.decorate_module))

    def decorate_module(self, module: ModuleType) -> None:
        """Replace the functions of a module, and of its classes, that the suite names."""
        for holder, path in self._holders(module):
            for name, value in list(vars(holder).items()):
                place = f"{path}{name}"
                once = self._named(place, self.suite.once)
                if not once and not self._named(place, self.suite.functions):
                    continue
                kind = type(value) if isinstance(value, staticmethod | classmethod) else None
                function = value.__func__ if kind else value
                # What was only imported belongs to another module.
                if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                    wrapper = self.decorate(function, place, once=once)
                    setattr(holder, name, kind(wrapper) if kind else wrapper)
        for place in self.suite.given:
            name, _, parameter = place.partition(" ")
            if name.partition(":")[0] == module.__name__:
                self._decorate_arguments(module, name.partition(":")[2], parameter)

    def decorate(self, function: FunctionType, place: str, *, once: bool) -> Any:
        """The function under a rollout of its own, with itself as the candidate; as it was where the setting leaves it bare."""
        options = self._options(once)
        if options is None:
            return function
        if function not in self._decorated:
            self._keys[place] += 1
            key = f"{place}#{self._keys[place]}".replace(":", ".")
            try:
                self._decorated[function] = rollout(candidate=function, key=key, runtime=self.runtime, **options)(function)
                self.rollouts.append(key)
            except ConfigurationError as error:
                self._decorated[function] = function
                self.refused[place] = str(error)
        return self._decorated[function]

    def _holders(self, module: ModuleType) -> Iterator[tuple[Any, str]]:
        yield module, f"{module.__name__}:"
        # A class can have two names.
        for value in {id(value): value for value in vars(module).values() if inspect.isclass(value)}.values():
            if value.__module__ == module.__name__:
                yield value, f"{module.__name__}:{value.__qualname__}."

    def _named(self, place: str, patterns: Sequence[str]) -> bool:
        if any(fnmatchcase(place, pattern) for pattern in self.suite.bare):
            return False
        return any(_names(pattern, place) for pattern in patterns)

    def _decorate_arguments(self, module: ModuleType, path: str, parameter: str) -> None:
        """Have a function of the library, or the constructor of a class, decorate the functions of tests that it is given."""
        *parents, name = path.split(".")
        holder: Any = functools.reduce(getattr, parents, module)
        taking = getattr(holder, name)
        signature = inspect.signature(taking)

        @functools.wraps(taking)
        def decorating(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments.get(parameter)
            if isinstance(given, FunctionType) and given.__code__.co_filename.startswith(self.tests):
                place = f"{given.__module__}:{given.__qualname__}".replace(".<locals>", "")
                if not any(fnmatchcase(place, pattern) for pattern in self.suite.bare):
                    with_effects = self.suite.effects if self._setting == "shadow" else ()
                    once = any(fnmatchcase(place, pattern) for pattern in (*self.suite.once, *with_effects))
                    bound.arguments[parameter] = self.decorate(given, place, once=once)
            return taking(*bound.args, **bound.kwargs)

        setattr(holder, name, decorating)


def _names(pattern: str, place: str) -> bool:
    """Whether a pattern means a function of a module: a star is for public names, of functions or of a class' methods."""
    path, wanted = place.rpartition(":")[2].split("."), pattern.rpartition(":")[2].split(".")
    public = (not name.startswith("_") or name == each for name, each in zip(path, wanted, strict=False))
    return fnmatchcase(place, pattern) and len(path) == len(wanted) and all(public)


class _Finder:
    """Calls back with each of some modules when it has been executed, before anybody imports from it."""

    def __init__(self, names: set[str], then: Callable[[ModuleType], None]) -> None:
        self._names, self._then = names, then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._then(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
