"""Teach the teacher tone: fine-tune its upper layers on all tone sets at once, and measure by cross-validation.

``python -m affectcore.training.finetune_tone --teacher build/teacher --out build/tone/0 --fold 0`` trains for one fold,
0 to 4; without ``--fold`` it trains the model that is released, on everything. Needs
``pip install 'affectcore[train]'``.

The embedding and the lower layers stay as they are, so their output is computed once and kept in a file (``--cache``).
A document is a bag of passages, as in scoring: heads of level `document` average their passages' logits, heads of level
`strongest` weight them by their exponentials. GoEmotions and EmoBank are rehearsed, with the earlier model's scores as
half of the target, so that emotions stay what they were. Nothing here looks at a test split, and folds start from a
teacher that has seen no tone label.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from affectcore.arrow import ragged
from affectcore.kernels import segments
from affectcore.models.base import PASSAGE_BYTES
from affectcore.training import data, tone_data
from affectcore.training.finetune import best_f1, descend, encode, pad
from affectcore.training.tone_data import EVENTS, HEADS, Document

TRAIN = {
    "seed": 0,
    "epochs": 3,
    "frozen": 3,  # lower layers that stay as they are
    "max_tokens": 96,
    "budget": 2400,  # tokens in a batch
    "learning_rate": 1e-4,
    "head_learning_rate": 2e-3,
    "layer_decay": 0.9,
    "weight_decay": 0.01,
    "warmup": 0.06,
    "average": 0.97,  # per five steps
    "rehearsed": 8000,  # comments of GoEmotions per epoch
    "rehearsed_vad": 2500,
    "kept": 4.0,  # weight of the earlier model's emotions on all passages
    "style": 2.0,  # weight of heads that average
}
MOST = {"tweets": 1500, "refusal-direction": 300, "answers": 250, "politeness": 6000}
"""Documents of a set that an epoch sees, at most."""
PASSAGES = {"refusal-direction": 3, "answers": 3, "spiral-bench": 8}
MOST_PASSAGES = 4
"""Passages of a document that an epoch sees, at most: its first one and others drawn anew."""
TWEETS = 10000  # that are read at all


class Cache(NamedTuple):
    """Hidden states of passages behind the frozen layers, and what they belong to."""

    hidden: np.ndarray  # float16 (n_tokens, width)
    offsets: np.ndarray  # int64 (n_passages + 1,)
    first: np.ndarray  # int64 (n_texts + 1,): passages of each text


class Upper(nn.Module):
    """The layers above the frozen ones, over padded hidden states, and mean pooling. Names are the checkpoint's."""

    def __init__(self, weights: dict[str, torch.Tensor], frozen: int, layers: int, heads: int, dropout: float = 0.1):
        super().__init__()
        self.numbers = range(frozen, layers)
        self.n_heads = heads
        self.dropout = dropout
        self.parts = nn.ParameterDict(
            {
                name.replace(".", "/"): nn.Parameter(value.clone())
                for name, value in weights.items()
                if any(name.startswith(f"encoder.encoder.layer.{k}.") for k in self.numbers)
            }
        )

    def named(self, layer: int, name: str) -> torch.Tensor:
        """Return a parameter of a layer."""
        value: torch.Tensor = self.parts[f"encoder.encoder.layer.{layer}.{name}".replace(".", "/")]
        return value

    def forward(self, h: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return pooled features: (batch, seqlen, width), bool (batch, seqlen) -> float32 (batch, width)."""
        n, length, width = h.shape
        for k in self.numbers:

            def linear(x: torch.Tensor, name: str, k: int = k) -> torch.Tensor:
                return nn.functional.linear(x, self.named(k, f"{name}.weight"), self.named(k, f"{name}.bias"))

            def norm(x: torch.Tensor, name: str, k: int = k) -> torch.Tensor:
                return nn.functional.layer_norm(
                    x, (width,), self.named(k, f"{name}.weight"), self.named(k, f"{name}.bias"), 1e-12
                )

            q, key, v = (
                linear(h, f"attention.self.{name}").view(n, length, self.n_heads, -1).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            p = self.dropout if self.training else 0.0
            # Written out: for so short rows, that is several times faster than the fused attention's backward pass.
            weights = (q @ key.transpose(2, 3) * q.shape[-1] ** -0.5).masked_fill(~mask[:, None, None, :], -1e4)
            mixed = torch.softmax(weights, -1).to(v.dtype) @ v
            mixed = linear(mixed.transpose(1, 2).reshape(n, length, width), "attention.output.dense")
            h = norm(h + nn.functional.dropout(mixed, p), "attention.output.LayerNorm")
            inner = nn.functional.gelu(linear(h, "intermediate.dense"))
            h = norm(h + nn.functional.dropout(linear(inner, "output.dense"), p), "output.LayerNorm")
        weight = mask.unsqueeze(-1).float()
        pooled: torch.Tensor = (h.float() * weight).sum(1) / weight.sum(1)
        return pooled


class Model(nn.Module):
    """Upper layers and linear heads by name."""

    def __init__(self, upper: Upper, width: int, heads: dict[str, int], dropout: float = 0.1) -> None:
        super().__init__()
        self.upper = upper
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(width, k) for name, k in heads.items()})

    def forward(self, rows: list[np.ndarray]) -> torch.Tensor:
        """Return the features of passages, given as hidden states float16 (n, width) each, in their order."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        out: list[torch.Tensor] = []
        size = max(1, -(-len(order) // 4))
        for begin in range(0, len(order), size):
            part = [rows[i] for i in order[begin : begin + size]]
            longest = max(map(len, part))
            h = np.zeros((len(part), longest, part[0].shape[1]), np.float32)
            mask = np.zeros((len(part), longest), bool)
            for i, row in enumerate(part):
                h[i, : len(row)] = row
                mask[i, : len(row)] = True
            with torch.autocast("cpu", dtype=torch.bfloat16):
                out.append(self.upper(torch.from_numpy(h), torch.from_numpy(mask)))
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(out)[back]


def pool(logits: torch.Tensor, unit: torch.Tensor, weight: torch.Tensor, n: int) -> torch.Tensor:
    """Pool passages' logits (n_passages, heads) to documents (n, heads): `EVENTS` by strength, others evenly."""
    k = len(EVENTS)
    w = weight[:, None] * torch.cat([torch.exp(logits[:, :k].clamp(-20, 20)), torch.ones_like(logits[:, k:])], 1)
    total = torch.zeros(n, logits.shape[1]).index_add(0, unit, w)
    out: torch.Tensor = torch.zeros(n, logits.shape[1]).index_add(0, unit, w * logits) / total.clamp_min(1e-30)
    return out


def cut(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Cut texts into scored passages; a text without any counts as one passage."""
    values, offsets = ragged(pa.array(texts, pa.large_string()))
    found = segments.passages(*segments.segments(values, offsets), PASSAGE_BYTES)
    pieces = pa.Array.from_buffers(
        pa.large_binary(), len(found.kind), [None, pa.py_buffer(found.offsets), pa.py_buffer(values)]
    ).to_pylist()
    out: list[str] = []
    first = [0]
    for i, text in enumerate(texts):
        own = [k for k in range(found.first[i], found.first[i + 1]) if found.kind[k] == segments.TEXT]
        kept = [pieces[k].decode() for k in own if pieces[k].strip()] or [text[:PASSAGE_BYTES]]
        out += kept
        first.append(first[-1] + len(kept))
    return out, np.array(first)


@torch.inference_mode()
def build(teacher: Path, texts: list[str], first: np.ndarray, path: Path, settings: dict[str, Any]) -> None:
    """Run the frozen layers over passages and write the cache."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(teacher)
    model = AutoModel.from_config(config, attn_implementation="sdpa", add_pooling_layer=False)
    weights = {k[8:]: v for k, v in load_file(teacher / "model.safetensors").items() if k.startswith("encoder.")}
    model.load_state_dict(weights, strict=False)
    model.encoder.layer = model.encoder.layer[: settings["frozen"]]
    model.eval()
    rows = encode(Tokenizer.from_file(str(teacher / "tokenizer.json")), texts, settings["max_tokens"])
    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    path.mkdir(parents=True, exist_ok=True)
    hidden = np.lib.format.open_memmap(path / "hidden.npy", "w+", np.float16, (int(offsets[-1]), config.hidden_size))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for begin in range(0, len(order), 64):
        part = order[begin : begin + 64]
        ids, mask = pad([rows[i] for i in part])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = model(input_ids=ids, attention_mask=mask).last_hidden_state.float().numpy()
        for i, row in zip(part, h):
            hidden[offsets[i] : offsets[i + 1]] = row[: len(rows[i])]
    hidden.flush()
    np.savez(path / "bounds.npz", offsets=offsets, first=first)


def main() -> None:
    """Train one fold's model or the released one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path("build/tone-cache"))
    parser.add_argument("--fold", type=int, default=-1)
    parser.add_argument("--only-cache", action="store_true", help="stop when the cache is there")
    parser.add_argument("--only-tested", action="store_true", help="score the fold's documents alone, at the end")
    for key, value in TRAIN.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    settings: dict[str, Any] = {key: options[key] for key in TRAIN}
    folder, out, fold = data.root(options["data"]), options["out"], options["fold"]

    from safetensors.torch import load_file, save_file

    documents = chosen(folder)
    goemotions, vad = data.goemotions(folder, "train"), data.emobank(folder, "train")
    dev = {"goemotions": data.goemotions(folder, "dev"), "vad": data.emobank(folder, "dev")}
    groups = [[d.text for d in documents], goemotions.texts, vad.texts, dev["goemotions"].texts, dev["vad"].texts]
    bounds = np.cumsum([0] + [len(g) for g in groups])
    if not (options["cache"] / "bounds.npz").exists():
        started = time.perf_counter()
        texts, first = cut([t for g in groups[:1] for t in g])
        # Comments and sentences are scored whole, as they were learnt.
        rest = [t for g in groups[1:] for t in g]
        first = np.concatenate([first, first[-1] + 1 + np.arange(len(rest))])
        build(options["teacher"], texts + rest, first, options["cache"], settings)
        print(f"cache: {len(texts) + len(rest)} passages, {time.perf_counter() - started:.0f} s", flush=True)
    if options["only_cache"]:
        return
    with np.load(options["cache"] / "bounds.npz") as file:
        cache = Cache(np.load(options["cache"] / "hidden.npy", mmap_mode="r"), file["offsets"], file["first"])

    random.seed(settings["seed"])
    torch.manual_seed(settings["seed"])
    rng = random.Random(settings["seed"])
    weights = load_file(options["teacher"] / "model.safetensors")
    config = json.loads((options["teacher"] / "config.json").read_text())
    model = Model(
        Upper(weights, settings["frozen"], config["num_hidden_layers"], config["num_attention_heads"]),
        config["hidden_size"],
        {"goemotions": 28, "vad": 3, "tone": len(HEADS)},
    )
    mean, std = vad.y.mean(0), vad.y.std(0)

    for name in ("goemotions", "vad"):
        model.heads[name].weight.data = weights[f"heads.{name}.weight"].clone()
        model.heads[name].bias.data = weights[f"heads.{name}.bias"].clone()
    y = tone_data.targets(documents)
    # Essays teach hidden heads alone: the metrics add those up (`affectcore.training.validate`).
    y[[i for i, d in enumerate(documents) if d.source == "essays"], HEADS.index("warmth")] = np.nan
    train = [i for i, d in enumerate(documents) if tone_data.trains(d, fold)]
    rate = np.nanmean(y[train], axis=0).clip(0.02, 0.98)
    model.heads["tone"].weight.data.zero_()
    model.heads["tone"].bias.data = torch.from_numpy(np.log(rate / (1 - rate)))

    def hidden(passages: list[int]) -> list[np.ndarray]:
        return [np.asarray(cache.hidden[cache.offsets[p] : cache.offsets[p + 1]]) for p in passages]

    @torch.inference_mode()
    def logits(candidate: Model, passages: np.ndarray) -> dict[str, np.ndarray]:
        candidate.eval()
        found: dict[str, list[np.ndarray]] = {name: [] for name in candidate.heads}
        lengths = np.diff(cache.offsets)[passages]
        order = np.argsort(lengths, kind="stable")
        for begin in range(0, len(order), 128):
            h = candidate(hidden(list(passages[order[begin : begin + 128]])))
            for name, head in candidate.heads.items():
                found[name].append(head(h).numpy())
        back = np.argsort(order)
        return {name: np.concatenate(parts)[back] for name, parts in found.items()}

    def texts_of(group: int, rows: np.ndarray | None = None) -> np.ndarray:
        numbers = np.arange(bounds[group], bounds[group + 1])
        return cache.first[numbers if rows is None else numbers[rows]]

    # Earlier scores: half of the target of what is rehearsed.
    before = out.parent / "before.npz"
    if not before.exists():
        earlier = {
            "goemotions": logits(model, texts_of(1))["goemotions"],
            "vad": logits(model, texts_of(2))["vad"],
            **{f"own_{k}": v for k, v in logits(model, np.arange(cache.first[bounds[1]])).items() if k != "tone"},
        }
        before.parent.mkdir(parents=True, exist_ok=True)
        np.savez(before, **earlier)  # type: ignore[arg-type]
    with np.load(before) as file:
        old = {name: file[name] for name in file}
    emotion = torch.from_numpy((0.5 * goemotions.y + 0.5 / (1 + np.exp(-old["goemotions"]))).astype(np.float32))
    own_emotion = torch.from_numpy((1 / (1 + np.exp(-old["own_goemotions"]))).astype(np.float32))
    own_vad = torch.from_numpy(((old["own_vad"] - mean) / std).astype(np.float32))
    regression = torch.from_numpy(((0.5 * vad.y + 0.5 * old["vad"] - mean) / std).astype(np.float32))

    weight = torch.tensor([d.weight for d in documents])
    wanted, known = torch.from_numpy(np.nan_to_num(y)), torch.from_numpy(np.isfinite(y).astype(np.float32))
    importance = torch.tensor([1.0] * len(EVENTS) + [settings["style"]] * (len(HEADS) - len(EVENTS)))
    rare = torch.from_numpy(((1 / rate - 1) ** 0.25).clip(1, 2).astype(np.float32))

    def epoch() -> list[list[tuple[str, int, list[int]]]]:
        """Deal the epoch's texts into batches: (set, number, passages)."""
        items: list[tuple[str, int, list[int]]] = []
        by_source: dict[str, list[int]] = {}
        for i in train:
            by_source.setdefault(documents[i].source, []).append(i)
        for source, numbers in by_source.items():
            for i in rng.sample(numbers, min(len(numbers), MOST.get(source, len(numbers)))):
                own = list(range(cache.first[i], cache.first[i + 1]))
                n = PASSAGES.get(source, MOST_PASSAGES)
                if len(own) > n:
                    own = [own[0], *sorted(rng.sample(own[1:], n - 1))]
                items.append(("tone", i, own))
        for name, group, n in (("goemotions", 1, settings["rehearsed"]), ("vad", 2, settings["rehearsed_vad"])):
            size = int(bounds[group + 1] - bounds[group])
            items += [(name, i, [int(texts_of(group)[i])]) for i in rng.sample(range(size), min(n, size))]
        rng.shuffle(items)
        batches: list[list[tuple[str, int, list[int]]]] = [[]]
        load = 0
        for item in items:
            size = int(sum(cache.offsets[p + 1] - cache.offsets[p] for p in item[2]))
            if load + size > settings["budget"] and batches[-1]:
                batches.append([])
                load = 0
            batches[-1].append(item)
            load += size
        return batches

    layers = config["num_hidden_layers"]
    parts: list[dict[str, Any]] = []
    for name, parameter in model.named_parameters():
        depth = int(name.split("layer/")[1].split("/")[0]) + 1 if "layer/" in name else layers
        lr = settings["learning_rate"] * settings["layer_decay"] ** (layers - depth)
        if name.startswith("heads"):
            lr = settings["head_learning_rate"] if "tone" in name else settings["learning_rate"]
        decay = settings["weight_decay"] if parameter.ndim > 1 else 0.0
        parts.append({"params": [parameter], "lr": lr, "weight_decay": decay})
    optimizer = torch.optim.AdamW(parts, betas=(0.9, 0.98), fused=True)
    plan = [epoch() for _ in range(settings["epochs"])]
    total = sum(map(len, plan))
    warmup = int(settings["warmup"] * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warmup, 0.02 + 0.98 * (1 + math.cos(math.pi * t / total)) / 2)
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings["average"])
    )
    started, step, losses = time.perf_counter(), 0, []
    std_, mean_ = torch.from_numpy(std), torch.from_numpy(mean)
    lengths = torch.from_numpy(np.diff(cache.offsets) - 2).clamp_min(1).float()
    for batches in plan:
        for batch in batches:
            model.train()
            flat = [p for item in batch for p in item[2]]
            features = model.dropout(model(hidden(flat)))
            owner = np.repeat(np.arange(len(batch)), [len(item[2]) for item in batch])
            loss = torch.zeros(())
            for name in ("tone", "goemotions", "vad"):
                rows = [k for k, item in enumerate(batch) if item[0] == name]
                if not rows:
                    continue
                at = np.flatnonzero(np.isin(owner, rows))
                numbers = torch.tensor([batch[k][1] for k in rows])
                z = model.heads[name](features[torch.from_numpy(at)])
                if name == "tone":
                    unit = torch.from_numpy(np.searchsorted(rows, owner[at]))
                    z = pool(z, unit, lengths[torch.tensor(flat)[torch.from_numpy(at)]], len(rows))
                    each = nn.functional.binary_cross_entropy_with_logits(
                        z, wanted[numbers], reduction="none", pos_weight=rare
                    )
                    loss = loss + (each * known[numbers] * importance * weight[numbers, None]).sum() / len(batch)
                    # Emotions of these texts shall stay what they were, too.
                    own = torch.tensor(flat)[torch.from_numpy(at)]
                    z = model.heads["goemotions"](features[torch.from_numpy(at)])
                    part = nn.functional.binary_cross_entropy_with_logits(z, own_emotion[own])
                    z = (model.heads["vad"](features[torch.from_numpy(at)]) - mean_) / std_
                    part = part + 0.1 * nn.functional.mse_loss(z, own_vad[own])
                    loss = loss + settings["kept"] * part * len(rows) / len(batch)
                elif name == "goemotions":
                    part = nn.functional.binary_cross_entropy_with_logits(z, emotion[numbers], reduction="none")
                    loss = loss + part.mean(1).sum() * 6 / len(batch)
                else:
                    part = (((z - mean_) / std_ - regression[numbers]) ** 2).mean(1)
                    loss = loss + part.sum() * 0.7 / len(batch)
            step += 1
            descend(loss, model, optimizer, schedule, average if step % 5 == 0 else None)
            losses.append(loss.item())
            if step % 50 == 0:
                print(
                    f"step {step}/{total} {time.perf_counter() - started:.0f} s {np.mean(losses[-50:]):.4f}", flush=True
                )

    final: Any = average.module
    out.mkdir(parents=True, exist_ok=True)
    passages = np.arange(cache.first[bounds[1]])
    owner = np.repeat(np.arange(len(documents)), np.diff(cache.first[: len(documents) + 1]))
    if options["only_tested"]:
        passages = passages[[tone_data.fold_of(documents[i]) == fold for i in owner]]
    found = {name: np.full((len(owner), head.out_features), np.nan, np.float32) for name, head in final.heads.items()}
    for name, values in logits(final, passages).items():
        found[name][passages] = values
    f1 = best_f1(logits(final, texts_of(3))["goemotions"], dev["goemotions"].y)
    found_vad = logits(final, texts_of(4))["vad"]
    pearson = [float(np.corrcoef(found_vad[:, k], dev["vad"].y[:, k])[0, 1]) for k in range(3)]
    log = {"seconds": round(time.perf_counter() - started), "steps": total, "best_f1": f1, "pearson": pearson}
    print(json.dumps(log), flush=True)
    parts_of = {name: part.astype(np.float16) for name, part in found.items()}
    first = cache.first[: len(documents) + 1]
    np.savez(out / "scores.npz", first=first, lengths=lengths[: len(owner)].numpy(), **parts_of)  # type: ignore[arg-type]
    kept = {k: v for k, v in weights.items() if k.startswith("encoder.")}
    kept |= {k.replace("/", "."): v.detach().clone() for k, v in final.upper.parts.items()}
    kept |= {f"heads.{n}.{p}": v.detach().clone() for n, h in final.heads.items() for p, v in h.named_parameters()}
    save_file({k: v.contiguous() for k, v in kept.items()}, str(out / "model.safetensors"))
    for name in ("config.json", "tokenizer.json"):
        (out / name).write_bytes((options["teacher"] / name).read_bytes())
    first_stage = json.loads((options["teacher"] / "training.json").read_text())
    record = {"earlier": first_stage, "settings": settings, "fold": fold, "rows": len(train), "log": log}
    (out / "training.json").write_text(json.dumps(record, indent=1))


def chosen(folder: Path) -> list[Document]:
    """Return the documents that training reads: all but most of the tweets."""
    everything = tone_data.documents(folder)
    tweets = [i for i, d in enumerate(everything) if d.source == "tweets"]
    kept = set(random.Random(0).sample(tweets, min(TWEETS, len(tweets))))
    return [d for i, d in enumerate(everything) if d.source != "tweets" or i in kept]


if __name__ == "__main__":
    main()
