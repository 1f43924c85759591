"""How far the encoder's precisions agree with transformers and with each other: `python bench/agreement.py`.

First with the weights of all-MiniLM-L6-v2 and a random head of 28 labels, on the text segments of Arena-Hard's answers,
against transformers' eager model in float32. Then `mini` on labelled dev splits, and its default precision on the test
splits. Needs ``pip install 'affectcore[bench]'`` and the data sets (docs/data.md).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import corpus
import encoders
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from affectcore.arrow import ragged
from affectcore.kernels import encoder, segments
from affectcore.models import base
from affectcore.training import data

BATCH = 32


def text_segments(texts: pa.Array, most: int) -> list[str]:
    """Return the different segments of kind text, `most` of them spread over all."""
    values, offsets = ragged(texts)
    found = segments.segments(values, offsets)
    ends = zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), found.kind.tolist())
    every = dict.fromkeys(bytes(values[a:b]).decode("utf-8", "replace") for a, b, kind in ends if kind == segments.TEXT)
    every = dict.fromkeys(text for text in every if text.strip())
    return list(every)[:: max(1, len(every) // most)][:most]


def transformers_logits(folder: Path, texts: list[str]) -> np.ndarray:
    """Return the logits of transformers' eager model in float32."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    out = np.zeros((len(texts), model.config.num_labels), np.float32)
    order = np.argsort([len(text) for text in texts])
    with torch.inference_mode():
        for begin in range(0, len(texts), BATCH):
            rows = order[begin : begin + BATCH]
            batch = tokenizer([texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt")
            out[rows] = model(**batch).logits.numpy()
    return out


def logits(model: Any, texts: list[str]) -> np.ndarray:
    """Return a model's logits of whole texts, cut at its limit."""
    values, offsets = ragged(pa.array(texts, pa.large_string()))
    found: np.ndarray = model.score(values, offsets, "passage").logits
    return found


def against_transformers(most: int) -> dict[str, Any]:
    """Compare the precisions with transformers on segments."""
    texts = text_segments(corpus.load().array, most)
    folder = encoders.mini()
    wanted = transformers_logits(folder, texts)
    rows: dict[str, Any] = {"segments": len(texts), "standard deviation of logits": float(wanted.std())}
    for precision in encoder.precisions("numba"):
        found = logits(base.load(folder).configured(precision, "truncate"), texts)  # type: ignore[attr-defined]
        same = (found >= 0) == (wanted >= 0)  # a probability of 0.5 is a logit of 0
        rows[precision] = {
            "largest difference of a logit": float(np.abs(found - wanted).max()),
            "segments with all labels the same at 0.5": float(same.all(1).mean()),
            "labels the same": float(same.mean()),
        }
    return rows


def quality(model: Any, emotions: data.Labelled, vad: data.Labelled) -> dict[str, float]:
    """Return macro-F1 of the emotions at the model's thresholds, and Pearson's r of valence and arousal."""
    found = model.predict(pa.array(emotions.texts))["emotion"] >= model.heads[0].thresholds
    true = emotions.y > 0
    f1 = 2 * (found & true).sum(0) / np.maximum(1, found.sum(0) + true.sum(0))
    scores = model.predict(pa.array(vad.texts))["vad"]
    r = [float(np.corrcoef(scores[:, k], vad.y[:, k])[0, 1]) for k in range(2)]
    return {"macro-F1": float(f1.mean()), "valence r": r[0], "arousal r": r[1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--segments", type=int, default=20_000, help="segments to compare")
    parser.add_argument("--test", action="store_true", help="also score the test splits, in the default precision")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    folder = data.root(options.data)
    console = Console()
    figures: dict[str, Any] = {"transformers": against_transformers(options.segments)}
    rows = figures["transformers"]
    spread = rows["standard deviation of logits"]
    title = f"MiniLM, random head (logits of SD {spread:.2f}), {rows['segments']:,} segments"
    table = Table(title, "largest difference of a logit", "all 28 labels the same at 0.5", "labels the same")
    for precision in encoder.precisions("numba"):
        a, b, c = rows[precision].values()
        table.add_row(precision, f"{a:.2g}", f"{b:.2%}", f"{c:.3%}")
    console.print(table)
    mini: Any = base.load("mini")
    splits = {split: (data.goemotions(folder, split), data.emobank(folder, split)) for split in ("dev", "test")}
    table = Table("mini", "macro-F1, GoEmotions", "valence r, EmoBank", "arousal r")
    runs = [("dev", precision) for precision in encoder.precisions("numba")] + [("test", "auto")] * options.test
    for split, precision in runs:
        found = quality(mini.configured(precision, "truncate"), *splits[split])
        figures[f"mini, {split}, {precision}"] = found
        table.add_row(f"{split}, {precision}", *(f"{value:.4f}" for value in found.values()))
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
