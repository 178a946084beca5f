"""A registered model: the versions that its aliases name, and loading them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import mlflow
from attrs import frozen
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

__all__ = ["LoadedModel", "Registry", "is_missing"]

_NOT_THERE: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})
_LONGEST_TAG: Final = 500


@frozen
class LoadedModel:
    """A version of a registered model, loaded.

    Attributes:
        version: Its number in the registry.
        model: The model, as returned by `load=`.
    """

    version: int
    model: Any


def is_missing(error: MlflowException) -> bool:
    """Whether the registry has answered that there is no such version or alias."""
    return error.error_code in _NOT_THERE


class Registry:
    """A registered model and its aliases."""

    def __init__(self, name: str, client: MlflowClient | None, load: Callable[[str], Any] | None) -> None:
        """Create a registry; see `aliased`."""
        self.name = name
        self._client = MlflowClient() if client is None else client
        self._load = load

    def version_of(self, alias: str) -> int | None:
        """Return the version that an alias names; None if there is no such alias.

        Raises:
            MlflowException: The registry does not answer.
        """
        try:
            return int(self._client.get_model_version_by_alias(self.name, alias).version)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise

    def load_version(self, version: int) -> LoadedModel:
        """Load the model of a version."""
        load = mlflow.pyfunc.load_model if self._load is None else self._load
        return LoadedModel(version, load(f"models:/{self.name}/{version}"))

    def move(self, alias: str, version: int) -> None:
        """Move an alias to a version."""
        self._client.set_registered_model_alias(self.name, alias, str(version))

    def tag(self, version: int, **tags: str) -> None:
        """Set tags of a version; their names get the prefix `rollout.`."""
        for name, value in tags.items():
            self._client.set_model_version_tag(self.name, str(version), f"rollout.{name}", value[:_LONGEST_TAG])
