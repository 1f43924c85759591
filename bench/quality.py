"""How well the emotion heads and their peers do on the test splits: `python bench/quality.py`.

Peers train on GoEmotions' training split in the same run; everybody's thresholds are the best on the dev split, and the
test split is scored once. Needs ``pip install 'affectcore[bench]'`` and the data sets (docs/data.md).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import peers
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from affectcore.models import base
from affectcore.training import data

Scores = tuple[np.ndarray, np.ndarray]  # of the dev and the test split


def static(dev: data.Labelled, test: data.Labelled) -> Scores:
    """Score with the embedded model."""
    model = base.load("static")
    return tuple(model.predict(pa.array(s.texts))["emotion"] for s in (dev, test))  # type: ignore[return-value]


def fasttext(train: data.Labelled, dev: data.Labelled, test: data.Labelled) -> Scores:
    """Train and score with fastText."""
    labels = [[train.labels[k] for k in row.nonzero()[0]] for row in train.y]
    with tempfile.TemporaryDirectory() as folder:
        peers.train_fasttext(train.texts, labels, Path(folder) / "model.bin")
        predict = peers.fasttext(Path(folder) / "model.bin")
        out = []
        for part in (dev, test):
            names, values = predict([" ".join(text.split()) for text in part.texts])
            scores = np.zeros(part.y.shape, np.float32)
            for i, (row, value) in enumerate(zip(names, values)):
                scores[i, [train.labels.index(name.removeprefix("__label__")) for name in row]] = value
            out.append(scores)
    return out[0], out[1]


def tf_idf(train: data.Labelled, dev: data.Labelled, test: data.Labelled) -> Scores:
    """Train and score with scikit-learn: TF-IDF of words and bigrams, a logistic regression per label."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    x = vectors.fit_transform(train.texts)
    model = OneVsRestClassifier(LogisticRegression(C=10, max_iter=300)).fit(x, train.y)
    return tuple(model.predict_proba(vectors.transform(part.texts)) for part in (dev, test))  # type: ignore[return-value]


def macro_f1(scores: Scores, dev: data.Labelled, test: data.Labelled) -> float:
    """Return macro-F1 on test with each label's best threshold on dev."""
    f1 = []
    for k in range(dev.y.shape[1]):
        order = np.argsort(-scores[0][:, k], kind="stable")
        hits = np.cumsum(dev.y[order, k])
        best = int((2 * hits / (np.arange(1, len(hits) + 1) + dev.y[:, k].sum())).argmax())
        found, true = scores[1][:, k] >= scores[0][order[best], k], test.y[:, k] > 0
        f1.append(2 * (found & true).sum() / max(1, found.sum() + true.sum()))
    return float(np.mean(f1))


def main() -> None:
    """Train the peers, score, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    folder = data.root(options.data)
    train, dev, test = (data.goemotions(folder, split) for split in ("train", "dev", "test"))
    contenders = {
        "affectcore static": static(dev, test),
        "fastText (dimension 64, bigrams)": fasttext(train, dev, test),
        "scikit-learn TF-IDF + logistic regression": tf_idf(train, dev, test),
    }
    figures = {name: macro_f1(scores, dev, test) for name, scores in contenders.items()}
    table = Table("GoEmotions test, 28 labels, each label's best threshold on dev", "macro-F1")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
