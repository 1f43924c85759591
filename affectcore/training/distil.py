"""Distil the teacher into the static model: a bag of word-piece and hashed-bigram vectors.

``python -m affectcore.training.distil --teacher build/teacher --out build/static``. Needs
``pip install 'affectcore[train]'``.

The student learns from the labels of GoEmotions and EmoBank, and from the teacher's scores of these texts, of spans cut
from them, of subtitle lines, rated sentences and passages of real model answers. Calibration and thresholds come from
the dev splits; `affectcore.training.report` measures the result on the test splits.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from affectcore.arrow import ragged
from affectcore.kernels import segments
from affectcore.kernels.bag.tables import bucket
from affectcore.models.base import PASSAGE_BYTES
from affectcore.stats.calibration import choose_thresholds
from affectcore.training import data
from affectcore.training.finetune import Teacher, encode, predict
from affectcore.training.finetune_tone import chosen, cut
from affectcore.training.tone_data import HEADS, trains

DISTIL = {
    "seed": 0,
    "dimension": 64,
    "buckets": 131072,
    "epochs": 7,
    "batch": 256,
    "learning_rate": 1.2e-2,
    "prior": 15.0,  # weight of no evidence, against a token's 1 at the start: short texts say less
    "token_dropout": 0.15,
    "dropout": 0.1,
    "labels": 0.5,  # weight of the labels against the teacher's scores, where a text has labels
    "vad": 4.0,  # weight of the regressions against the emotions
    "tone": 3.0,  # weight of the tone heads, where a passage has their scores
    "passages": 40000,
    "spans": 40000,
    "negated": 20000,
    "frames": 15,  # how often an epoch sees each frame of a negation
    "denied": 0.08,  # what a negation leaves of an emotion, at most
}


def passages(texts: list[str]) -> list[str]:
    """Cut texts into the passages that the static model scores."""
    values, offsets = ragged(pa.array(texts, pa.large_string()))
    found = segments.passages(*segments.segments(values, offsets), PASSAGE_BYTES)
    cut = pa.Array.from_buffers(
        pa.large_binary(), len(found.kind), [None, pa.py_buffer(found.offsets), pa.py_buffer(values)]
    )
    chosen = cut.filter(pa.array(found.kind == segments.TEXT))
    return [t.decode() for t in chosen.to_pylist() if t.strip()]


def spans(texts: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """Cut random runs of two to eight words from random texts."""
    out = []
    for i in rng.integers(len(texts), size=n):
        words = texts[i].split()
        length = int(rng.integers(2, 9))
        if len(words) > length:
            begin = int(rng.integers(len(words) - length + 1))
            out.append(" ".join(words[begin : begin + length]))
    return out


FEELINGS = (
    "happy glad cheerful joyful delighted pleased content fun enjoyable lovely sad unhappy lonely depressed miserable "
    "heartbroken heartbreaking hopeless upset down hurt angry mad furious annoyed annoying irritated irritating bitter "
    "afraid scared frightened terrified terrifying scary worried anxious nervous stressed loved beautiful great good "
    "amazing awesome impressive impressed brilliant wonderful excellent perfect nice cool fantastic grateful thankful "
    "disappointed disappointing bad terrible awful horrible excited exciting thrilled eager surprised surprising "
    "shocked shocking embarrassed embarrassing ashamed awkward proud disgusted disgusting gross funny hilarious amused "
    "amusing hopeful optimistic confident confused confusing puzzled curious interested sorry guilty relieved calm "
    "kind caring jealous bored boring tired wrong right true fair easy hard helpful useful safe lucky weird strange "
    "crazy"
).split()
VERBS = (
    "love like enjoy hate regret fear trust admire appreciate care worry hope want wish miss laugh cry doubt".split()
)
NEGATIONS = (
    "not {}",
    "I am not {}.",
    "I'm not {} at all.",
    "I'm not {} about it.",
    "It is not {}.",
    "It's not that {}.",
    "It isn't {}.",
    "This isn't very {}.",
    "She was not {}.",
    "He wasn't {}.",
    "We were never {}.",
    "They aren't {}.",
    "That doesn't make me {}.",
    "I don't feel {}.",
    "I do not feel very {}.",
    "It didn't seem {}.",
    "Not a {} thing.",
    "no longer {}",
)
AFFIRMATIONS = ("{}", "I am {}.", "I feel very {}.", "It was so {}!", "They are {}.")
VERB_NEGATIONS = (
    "I don't {} it.",
    "I do not {} this.",
    "I did not {} the film.",
    "We didn't {} them.",
    "She doesn't {} him.",
    "They never {} anything.",
    "I would not {} that.",
    "not {}",
)
VERB_AFFIRMATIONS = ("{}", "I {} it.", "We {} the food.")
"""Frames for `FEELINGS` and `VERBS`: what a negation does to a word is rare in the other texts."""


def frames() -> dict[str, str]:
    """Return the framed texts: negated ones with what they negate, affirmed ones with an empty text."""
    out: dict[str, str] = {}
    for words, negations, affirmations in (
        (FEELINGS, NEGATIONS, AFFIRMATIONS),
        (VERBS, VERB_NEGATIONS, VERB_AFFIRMATIONS),
    ):
        for word in words:
            out |= {frame.format(word): affirmations[1].format(word) for frame in negations}
            out |= {frame.format(word): "" for frame in affirmations}
    return out


EXPRESSED = 0.2  # a teacher's probability that counts as expression


def deny(scores: dict[str, np.ndarray], texts: list[str], keep: float) -> None:
    """Cap the emotions that an affirmed text expresses, where it is negated, at a share of that; in place.

    The teacher itself often finds anger in "I am not angry"; a student that only copied it would, too.
    """
    row = {text: k for k, text in enumerate(texts)}
    logits = scores["goemotions"]
    for negated_text, affirmed in frames().items():
        if affirmed and negated_text in row and affirmed in row:
            expressed = 1 / (1 + np.exp(-logits[row[affirmed]]))
            (denied,) = np.nonzero(expressed[:-1] >= EXPRESSED)  # not neutral, the last one
            most = keep * expressed[denied]
            at = row[negated_text]
            logits[at, denied] = np.minimum(logits[at, denied], np.log(most / (1 - most)))


def negated(texts: list[str], n: int, rng: np.random.Generator) -> list[str]:
    """Put a negation before the first feeling that a text names, in up to n texts."""
    feeling = re.compile(rf"\b({'|'.join(FEELINGS)})\b", re.IGNORECASE)
    words = ("not", "not", "not", "not very", "not that", "never", "no longer", "hardly", "isn't", "wasn't", "aren't")
    found = [text for text in texts if feeling.search(text)]
    chosen = rng.choice(len(found), min(n, len(found)), replace=False)
    return [feeling.sub(lambda m: f"{rng.choice(words)} {m[1]}", found[i], count=1) for i in sorted(chosen)]


def corpus(
    folder: Path, settings: dict[str, Any]
) -> tuple[list[str], dict[str, tuple[int, np.ndarray]], dict[str, int]]:
    """Return all training texts, the labels (first row, array) by head, and how many texts came from where."""
    rng = np.random.default_rng(settings["seed"])
    held_out = {
        data.fold(text)
        for split in ("dev", "test")
        for read in (data.goemotions, data.emobank)
        for text in read(folder, split).texts
    }
    emotion, vad = data.goemotions(folder, "train"), data.emobank(folder, "train")
    answers = passages(data.answers(folder))
    chosen = rng.choice(len(answers), min(settings["passages"], len(answers)), replace=False)
    others = {
        "xed": data.xed(folder).texts,
        "vader": data.vader_gold(folder).texts,
        "semeval2025": data.semeval(folder),
        "model answers, passages": [answers[i] for i in sorted(chosen)],
        "spans": spans(emotion.texts + vad.texts, settings["spans"], rng),
        "negated": negated(emotion.texts + vad.texts, settings["negated"], rng),
        "negations": list(frames()),
    }
    others = {name: [t for t in dict.fromkeys(texts) if data.fold(t) not in held_out] for name, texts in others.items()}
    texts = [*emotion.texts, *vad.texts, *(t for part in others.values() for t in part)]
    counts = {"goemotions": len(emotion.texts), "emobank": len(vad.texts), **{n: len(t) for n, t in others.items()}}
    return texts, {"emotion": (0, emotion.y), "vad": (len(emotion.texts), vad.y)}, counts


def load_teacher(directory: Path) -> Teacher:
    """Load what `affectcore.training.finetune` wrote."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    weights = load_file(directory / "model.safetensors")
    heads = {k.split(".")[1]: v.shape[0] for k, v in weights.items() if k.startswith("heads") and k.endswith("weight")}
    config = AutoConfig.from_pretrained(directory, attn_implementation="sdpa")
    model = Teacher(AutoModel.from_config(config, add_pooling_layer=False), heads)
    model.load_state_dict(weights)
    return model


def teach(directory: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Return the teacher's logits and regressions of texts, float32 (n, k) by head."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    found = predict(load_teacher(directory), encode(tokenizer, texts, 128))
    return {name: found[name] for name in ("goemotions", "vad")}


def taught(directory: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """As `teach`, but texts that an earlier run asked about are read from a file beside the teacher."""
    path = directory / "scores.npz"
    known: dict[str, int] = {}
    scores = {"goemotions": np.zeros((0, 28), np.float32), "vad": np.zeros((0, 3), np.float32)}
    if path.exists():
        with np.load(path) as file:
            known = {text: k for k, text in enumerate(json.loads(file["texts"].tobytes()))}
            scores = {name: file[name] for name in scores}
    new = [text for text in dict.fromkeys(texts) if text not in known]
    if new:
        asked = teach(directory, new)
        scores = {name: np.concatenate([scores[name], asked[name]]) for name in scores}
        known |= {text: len(known) + k for k, text in enumerate(new)}
        np.savez(path, texts=np.frombuffer(json.dumps(list(known)).encode(), np.uint8), **scores)  # type: ignore[arg-type]
    rows = [known[text] for text in texts]
    return {name: part[rows] for name, part in scores.items()}


def tone_passages(directory: Path, folder: Path) -> tuple[list[str], dict[str, np.ndarray], list[bool], np.ndarray]:
    """Return passages of the tone sets, a tone teacher's scores of them, which of them it learnt from, and bounds.

    The bounds, int64 (n_documents + 1,), say which passages belong to which document of `finetune_tone.chosen`.
    """
    documents = chosen(folder)
    texts, first = cut([d.text for d in documents])
    fold = json.loads((directory / "training.json").read_text())["fold"]
    learnt = [trains(d, fold) for d in documents]
    with np.load(directory / "scores.npz") as file:
        scores = {name: file[name].astype(np.float32) for name in ("goemotions", "vad", "tone")}
    return texts, scores, list(np.repeat(learnt, np.diff(first))), first


def principal(vectors: np.ndarray, d: int) -> np.ndarray:
    """Project vectors on their d principal components, scaled to a standard deviation of 1."""
    centred = vectors - vectors.mean(0)
    _, basis = np.linalg.eigh(centred.T @ centred)
    out = centred @ basis[:, ::-1][:, :d]
    return np.asarray(out / out.std(), np.float32)


class Student(nn.Module):
    """The bag: row i adds `exp(a_i) * v_i` to the sum and `exp(a_i)` to the weight; linear outputs on the mean."""

    def __init__(self, vectors: np.ndarray, buckets: int, outputs: int, dropout: float, prior: float) -> None:
        super().__init__()
        n, d = vectors.shape
        rows = torch.zeros(n + buckets, d + 1)  # the last column is a
        rows[:n, :d] = torch.from_numpy(vectors) * 0.3
        rows[n:, d] = -2.0
        self.rows = nn.Embedding.from_pretrained(rows, freeze=False, sparse=True)
        self.prior = prior
        self.out = nn.Linear(d, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor, offsets: torch.Tensor, token_dropout: float = 0.0) -> torch.Tensor:
        """Return the outputs of ragged row numbers: int64 (n_rows,), int64 (n + 1,) -> float32 (n, k)."""
        x = self.rows(rows)
        weight = x[:, -1:].clamp(-6, 6).exp()
        if token_dropout:
            weight = weight * (torch.rand_like(weight) > token_dropout)
        n = len(offsets) - 1
        unit = torch.repeat_interleave(torch.arange(n), offsets.diff())
        total = torch.zeros(n, 1).index_add(0, unit, weight)
        h = torch.zeros(n, x.shape[1] - 1).index_add(0, unit, x[:, :-1] * weight) / (total + self.prior)
        out: torch.Tensor = self.out(self.dropout(h))
        return out


def to_rows(ids: list[int], n_unigrams: int, buckets: int) -> np.ndarray:
    """Return the rows of a bag that token ids stand for: unigrams, then bigrams."""
    unigrams = np.array(ids, np.int64)
    if len(ids) < 2 or not buckets:
        return unigrams
    return np.concatenate([unigrams, n_unigrams + bucket(unigrams[:-1], unigrams[1:], buckets).astype(np.int64)])


def collate(rows: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay rows end to end."""
    offsets = np.cumsum([0] + [len(r) for r in rows])
    return torch.from_numpy(np.concatenate(rows)), torch.from_numpy(offsets)


@torch.inference_mode()
def outputs(student: Student, rows: list[np.ndarray]) -> np.ndarray:
    """Return the student's outputs, float32 (n, k)."""
    student.eval()
    return np.concatenate([student(*collate(rows[b : b + 4096])).numpy() for b in range(0, len(rows), 4096)])


def quantize(student: Student) -> dict[str, np.ndarray]:
    """Return the arrays of `affectcore.models.static`: int8 rows with a scale each, weights, no hidden layer."""
    table = student.rows.weight.detach().numpy()
    weight = np.exp(table[:, -1].clip(-6, 6)) / student.prior  # the kernel's prior is 1
    vectors = table[:, :-1] * weight[:, None]
    scale = np.abs(vectors).max(1) / 127
    rows = np.rint(vectors / np.maximum(scale, 1e-12)[:, None]).astype(np.int8)
    d = rows.shape[1]
    return {
        "rows": rows,
        "gains": np.stack([scale, weight], 1).astype(np.float32),
        "hidden": np.zeros((d, 0), np.float32),
        "hidden_bias": np.zeros(0, np.float32),
    }


def train(
    rows: list[np.ndarray],
    teacher: dict[str, np.ndarray],
    labels: dict[str, tuple[int, np.ndarray]],
    vectors: np.ndarray,
    settings: dict[str, Any],
    framed: np.ndarray,
    follow: Any = None,
) -> Student:
    """Train a student; rows `framed` are seen several times an epoch, `follow(student, epoch)` is called after each.

    `teacher` holds logits: `goemotions` and `tone`, which is NaN for texts without tone scores, and regressions `vad`.
    """
    torch.manual_seed(settings["seed"])
    rng = np.random.default_rng(settings["seed"])
    n, k = len(rows), 28
    target = 1 / (1 + np.exp(-teacher["goemotions"]))
    first, y = labels["emotion"]
    part = slice(first, first + len(y))
    target[part] = settings["labels"] * y + (1 - settings["labels"]) * target[part]
    regression = teacher["vad"].copy()
    first, y = labels["vad"]
    part = slice(first, first + len(y))
    regression[part] = settings["labels"] * y + (1 - settings["labels"]) * regression[part]
    mean, std = regression.mean(0), regression.std(0)
    emotion, vad = torch.from_numpy(target), torch.from_numpy((regression - mean) / std)

    known = torch.from_numpy(np.isfinite(teacher["tone"]).astype(np.float32))
    style = 1 / (1 + np.exp(-np.nan_to_num(teacher["tone"])))
    tone = torch.from_numpy(style)

    student = Student(vectors, settings["buckets"], k + 3 + style.shape[1], settings["dropout"], settings["prior"])
    rate = labels["emotion"][1].mean(0)
    student.out.bias.data[:k] = torch.from_numpy(np.log(rate / (1 - rate)))
    rate = ((style * known.numpy()).sum(0) / known.numpy().sum(0)).clip(0.01, 0.99)
    student.out.bias.data[k + 3 :] = torch.from_numpy(np.log(rate / (1 - rate)))
    sparse = torch.optim.SparseAdam([student.rows.weight], lr=1.0, betas=(0.9, 0.99))
    dense = torch.optim.Adam(student.out.parameters(), lr=1.0, betas=(0.9, 0.99))
    batch = settings["batch"]
    total, step = settings["epochs"] * -(-(n + (settings["frames"] - 1) * len(framed)) // batch), 0
    for epoch in range(settings["epochs"]):
        student.train()
        order = rng.permutation(np.concatenate([np.arange(n), *[framed] * (settings["frames"] - 1)]))
        for begin in range(0, len(order), batch):
            lr = settings["learning_rate"] * max(0.02, 1 - step / total)
            sparse.param_groups[0]["lr"], dense.param_groups[0]["lr"] = lr, lr / 4
            chosen = order[begin : begin + batch]
            out = student(*collate([rows[i] for i in chosen]), settings["token_dropout"])
            loss = nn.functional.binary_cross_entropy_with_logits(out[:, :k], emotion[chosen]) * k
            loss = loss + settings["vad"] * nn.functional.mse_loss(out[:, k : k + 3], vad[chosen])
            each = nn.functional.binary_cross_entropy_with_logits(out[:, k + 3 :], tone[chosen], reduction="none")
            loss = loss + settings["tone"] * (each * known[chosen]).sum() / len(chosen)
            sparse.zero_grad()
            dense.zero_grad()
            loss.backward()
            sparse.step()
            dense.step()
            step += 1
        if follow:
            follow(student, epoch)
    part = slice(k, k + 3)
    student.out.weight.data[part] *= torch.from_numpy(std)[:, None]
    student.out.bias.data[part] = student.out.bias.data[part] * torch.from_numpy(std) + torch.from_numpy(mean)
    return student


def main() -> None:
    """Distil, quantize and write the arrays; calibration and the card are `affectcore.training.report`'s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--tone-teacher", type=Path, required=True, help="what finetune_tone wrote")
    parser.add_argument("--out", type=Path, required=True)
    for key, value in DISTIL.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    settings = {key: options[key] for key in DISTIL}
    folder, out = data.root(options["data"]), options["out"]
    out.mkdir(parents=True, exist_ok=True)

    from safetensors.numpy import load_file, save_file
    from tokenizers import Tokenizer

    started = time.perf_counter()
    texts, labels, counts = corpus(folder, settings)
    teacher = taught(options["teacher"], texts)
    deny(teacher, texts, settings["denied"])
    toned, scores, documents, first = tone_passages(options["tone_teacher"], folder)
    teacher["tone"] = np.full((len(texts), len(HEADS)), np.nan, np.float32)
    seen = [k for k, own in enumerate(documents) if own]
    for name in scores:
        teacher[name] = np.concatenate([teacher[name], scores[name][seen]])
    at = len(texts)
    texts = texts + [toned[k] for k in seen]
    counts["tone, passages"] = len(seen)
    tokenizer = Tokenizer.from_file(str(options["teacher"] / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    n_unigrams = tokenizer.get_vocab_size()

    def encoded(part: list[str]) -> list[np.ndarray]:
        found = tokenizer.encode_batch_fast(part, add_special_tokens=False)
        return [to_rows(e.ids, n_unigrams, settings["buckets"]) for e in found]

    weights = load_file(options["teacher"] / "model.safetensors")
    vectors = principal(weights["encoder.embeddings.word_embeddings.weight"], settings["dimension"])
    dev = {"goemotions": data.goemotions(folder, "dev"), "vad": data.emobank(folder, "dev")}
    dev_rows = {name: encoded(s.texts) for name, s in dev.items()}
    log = []

    def follow(student: Student, epoch: int) -> None:
        from affectcore.training.finetune import best_f1

        found, vad = outputs(student, dev_rows["goemotions"])[:, :28], outputs(student, dev_rows["vad"])[:, 28:31]
        entry = {
            "epoch": epoch + 1,
            "seconds": round(time.perf_counter() - started),
            "best_f1": best_f1(found, dev["goemotions"].y),
            "cross_f1": max(choose_thresholds(1 / (1 + np.exp(-found)), dev["goemotions"].y).f1.values()),
            "pearson": [float(np.corrcoef(vad[:, k], dev["vad"].y[:, k])[0, 1]) for k in range(3)],
        }
        log.append(entry)
        print(json.dumps(entry), flush=True)

    framed = np.arange(at - counts["negations"], at)
    student = train(encoded(texts), teacher, labels, vectors, settings, framed, follow)
    arrays = quantize(student)
    whole = outputs(student, dev_rows["goemotions"])[:, :28]
    with torch.no_grad():
        table = arrays["rows"] * arrays["gains"][:, :1] / arrays["gains"][:, 1:]
        student.rows.weight[:, :-1] = torch.from_numpy(table)
    rounded = outputs(student, dev_rows["goemotions"])[:, :28]
    limits = choose_thresholds(1 / (1 + np.exp(-whole)), dev["goemotions"].y).values
    limits = np.log(limits / (1 - limits))
    same = (whole >= limits) == (rounded >= limits)
    quantization = {
        "largest_difference": float(np.abs(whole - rounded).max()),
        "same_decisions": float(same.mean()),
        "texts_with_all_the_same": float(same.all(axis=1).mean()),
    }
    print(json.dumps(quantization), flush=True)
    rows = encoded(toned)
    lengths = torch.tensor([(len(r) + 1) // 2 for r in rows]).clamp_min(1).float()
    found = outputs(student, rows)
    parts = {"goemotions": found[:, :28], "vad": found[:, 28:31], "tone": found[:, 31:]}
    parts_of = {name: part.astype(np.float16) for name, part in parts.items()}
    np.savez(out / "scores.npz", first=first, lengths=lengths.numpy(), **parts_of)  # type: ignore[arg-type]
    arrays["weight"] = student.out.weight.detach().numpy().T.copy()
    arrays["bias"] = student.out.bias.detach().numpy()
    save_file(arrays, out / "model.safetensors")
    (out / "training.json").write_text(
        json.dumps({"settings": settings, "texts": counts, "log": log, "quantization": quantization}, indent=1)
    )
    (out / "tokenizer.json").write_bytes((options["teacher"] / "tokenizer.json").read_bytes())


if __name__ == "__main__":
    main()
