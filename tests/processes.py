"""Several processes of one store, within one test."""

from rollout_sdk import Runtime
from rollout_sdk.control.state_document import from_document
from rollout_sdk.control.stores import MemoryStore


class Shared:
    """A store as one of several processes sees it: a `MemoryStore` itself counts as the store of one process alone."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)


class Processes:
    """Makes runtimes of one store, each of which stands for a process; tests poll the store and judge by hand.

    Args:
        seen: Makes what a process sees of the store.
        options: Options of every runtime; `shared=False` makes runtimes without the store.
    """

    def __init__(self, seen=Shared, **options):
        self.store = MemoryStore()
        self._seen, self._options, self._made = seen, options, []

    def __call__(self, **options):
        options = {"shared": True, **self._options, **options}
        if options.pop("shared"):
            options.setdefault("store", self._seen(self.store))
        runtime = Runtime(**options)
        runtime.reconciler.start = lambda: None
        self._made.append(runtime)
        return runtime

    def stored(self, key):
        """The state of a rollout in the store."""
        return from_document(self.store.load(key).document)

    def close(self):
        for runtime in self._made:
            runtime.close(0.5)
