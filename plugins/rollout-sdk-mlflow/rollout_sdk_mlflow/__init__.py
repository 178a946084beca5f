"""Models of an MLflow registry in rollouts: the alias "challenger" is the candidate, the alias "champion" the control.

@aliased("ranker", strategy=Canary(["5%", "50%"]), unit="user")
def rank(model, user, features):
    return model.predict(features)
"""

from rollout_sdk_mlflow.aliased import AliasedRollout, aliased
from rollout_sdk_mlflow.registry import LoadedModel

__all__ = ["AliasedRollout", "LoadedModel", "aliased"]
