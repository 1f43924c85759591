"""Other implementations of VADER, as functions from texts to compound scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

Peer = Callable[[list[str]], list[float]]


def vader_sentiment(texts: list[str]) -> list[float]:
    """Score with vaderSentiment."""
    analyzer = _vader_sentiment()
    return [analyzer.polarity_scores(text)["compound"] for text in texts]


def nltk(texts: list[str]) -> list[float]:
    """Score with nltk's VADER."""
    analyzer = _nltk()
    return [analyzer.polarity_scores(text)["compound"] for text in texts]


PEERS: dict[str, Peer] = {"vaderSentiment": vader_sentiment, "nltk": nltk}


@lru_cache(maxsize=1)
def _vader_sentiment() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=1)
def _nltk() -> Any:
    import nltk.data
    import vaderSentiment.vaderSentiment
    from nltk.sentiment.vader import SentimentIntensityAnalyzer

    # nltk downloads its lexicon, which is vaderSentiment's: the installed one saves that. nltk reads only below the
    # folders of its data path, so the lexicon's folder joins them.
    lexicon = Path(vaderSentiment.vaderSentiment.__file__).with_name("vader_lexicon.txt")
    if str(lexicon.parent) not in nltk.data.path:
        nltk.data.path.append(str(lexicon.parent))
    return SentimentIntensityAnalyzer(lexicon.as_uri())
