"""Damages small model directories and uses them: no signal, no hang, no raw Python error, no silent change of scores.

    python bench/fuzz_models.py --n 1000 --seed 0

Directories of every format are made and damaged one at a time: values of JSON files get other types and extreme
numbers, keys are deleted, doubled, misspelt and added, arrays are renamed, bytes are flipped, files are cut, emptied,
removed and swapped between models. Each is loaded and scores three texts in another process, and `affectcore models`,
`explain`, `eval` and `train` are run on it. The outcome must be an error of affectcore's, or the scores that the model
has undamaged. Others are allowed only where something was changed that a model is free to say (`free`): the bytes of a
weight, labels, a calibration, or a setting of Hugging Face's files that another valid value replaces.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
for _folder in ("tests", "tests/models", "tests/kernels"):
    sys.path.append(str(ROOT / _folder))

TEXTS = ["I love this so much, thank you for being here!", "hello world, what a BAD idea...", "say it; naïve 日本 2024"]
TIME = 120.0
"""Seconds after which a model hangs."""
_SHARE = 8  # of models that `train` and `eval` are run on, too: one in so many
_SWAP = 0.04


class Damage(NamedTuple):
    """What was done to a model."""

    model: str
    file: str
    what: str
    free: bool  # whether scores may differ


# Models ---------------------------------------------------------------------------------------------------------------


def make(folder: Path) -> dict[str, Path]:
    """Make an undamaged model of each kind."""
    from made_checkpoints import made

    out = {"static": _static(folder / "static"), "mini": _mini(folder / "mini", made("bert"))}
    out["heads"] = _heads(folder / "heads", out["static"])
    for name in ("bert", "distilbert", "roberta", "deberta-v3", "modernbert"):
        out[name] = Path(shutil.copytree(made(name), folder / name))
    out["old bert"] = _older(folder / "old-bert", made("bert"))
    out["old roberta"] = _older(folder / "old-roberta", made("roberta"))
    out["parts"] = _parts(folder / "parts", made("electra"))
    return out


def _head(rng: np.random.Generator, d: int, name: str, level: Any, columns: tuple[str, ...], kind: Any = "") -> Any:
    from affectcore.models.base import Head

    k = len(columns)
    return Head(
        name=name,
        kind=kind or "multi_label",
        labels=tuple(column.removeprefix("emotion_") for column in columns),
        columns=columns,
        weight=rng.normal(size=(d, k)).astype(np.float32),
        bias=rng.normal(size=k).astype(np.float32),
        scale=np.full(k, 0.75, np.float32),
        shift=np.full(k, -0.25, np.float32),
        thresholds=np.full(k, np.nan if kind == "regression" else 0.5, np.float32),
        low=-1.0 if kind == "regression" else 0.0,
        level=level,
        info={"trained_on": "nothing", "validation": []},
    )


def _all_heads(d: int) -> list[Any]:
    from affectcore.metrics.taxonomy import GOEMOTIONS

    rng = np.random.default_rng(d)
    return [
        _head(rng, d, "emotion", "passage", tuple(f"emotion_{label}" for label in GOEMOTIONS)),
        _head(rng, d, "vad", "passage", ("valence", "arousal", "dominance"), "regression"),
        _head(rng, d, "refusal", "strongest", ("refusal",)),
        _head(rng, d, "politeness", "document", ("politeness",)),
        _head(rng, d, "_distress_voice", "strongest", ("_distress_voice",)),
    ]


_DISTRESS = {
    "version": 1,
    "bias": -0.5,
    "weights": {"emotion_sadness": 1.5, "_distress_voice": 0.5, "apologies": 0.25},
    "info": {"trained_on": "nothing"},
}


def _static(path: Path) -> Path:
    from made_tokenizers import made

    from affectcore.models import base

    tokenizer, rng = made("uncased"), np.random.default_rng(0)
    n, d, m = len(tokenizer["model"]["vocab"]), 32, 16
    arrays = {
        "rows": rng.integers(-128, 128, (n + 64, d)).astype(np.int8),
        "gains": rng.uniform(0.005, 0.02, (n + 64, 2)).astype(np.float32),
        "hidden": rng.normal(size=(d, m)).astype(np.float32),
        "hidden_bias": rng.normal(size=m).astype(np.float32),
    }
    record = {"network": {"type": "static", "n_unigrams": n}, "licence": "MIT", "distress": _DISTRESS}
    path.mkdir()
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    base.save(path, record, arrays, _all_heads(m), "# static\n")
    return path


def _mini(path: Path, source: Path) -> Path:
    from affectcore.models import base, safetensors

    arrays, packed = safetensors.read(source / "model.safetensors")[0], {}
    for name, array in arrays.items():
        if name.startswith("bert.") and ".pooler." not in name:
            name = f"encoder.{name.removeprefix('bert.')}"
            packed[name] = array.astype(np.float16)
            if array.ndim == 2 and "token_type" not in name:
                scale = np.abs(array).max(axis=1, keepdims=True) / 127
                packed[name] = np.rint(array / scale).astype(np.int8)
                packed[f"{name}.scale"] = scale[:, 0].astype(np.float32)
    path.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, path)
    heads = _all_heads(64)
    base.save(path, {"network": {"type": "bert"}, "licence": "MIT", "distress": _DISTRESS}, packed, heads, "# mini\n")
    return path


def _heads(path: Path, of: Path) -> Path:
    from affectcore.models import base

    rng = np.random.default_rng(1)
    heads = [_head(rng, 16, "mood", "document", ("mood_up", "mood_down"), "single_label")]
    base.save_heads(path, base.load(of), heads, "# heads\n")
    return path


def _older(path: Path, source: Path) -> Path:
    """Write a checkpoint with the files of a tokenizer that came before `tokenizer.json`."""
    shutil.copytree(source, path)
    record = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").unlink()
    vocab = record["model"]["vocab"]
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 512}
    if "merges" in record["model"]:
        (path / "vocab.json").write_text(json.dumps(vocab))
        merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in record["model"]["merges"]]
        (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512, "cls_token": "<s>"}
    else:
        (path / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.__getitem__)) + "\n")
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def _parts(path: Path, source: Path) -> Path:
    """Write a checkpoint whose arrays are in two files."""
    from affectcore.models import safetensors

    shutil.copytree(source, path)
    arrays = safetensors.read(path / "model.safetensors")[0]
    names, where = sorted(arrays), {}
    for number in range(2):
        mine, file = names[number::2], f"model-0000{number + 1}-of-00002.safetensors"
        safetensors.write(path / file, {name: np.array(arrays[name]) for name in mine})
        where.update(dict.fromkeys(mine, file))
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return path


# Damage ---------------------------------------------------------------------------------------------------------------

_TYPES: tuple[Any, ...] = (None, True, False, 7, -3, 2.5, "text", "", [], {}, [1, "a"], {"a": 1}, [[]], [None])
_NUMBERS = (-1, 0, 1e9, 10**9, -(10**9), 2**31, 2**63, 10**30, 1e300, -0.5, 0.5, float("nan"), float("inf"), 2, 65_536)
_ODD = ("../../etc/passwd", "\x1b[31m\0", "\ud800", "x" * 70_000, "~nobody", "é" * 300)


def _places(value: Any, keys: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the keys that lead to each value within a value; of large objects, to a few."""
    out = [keys]
    parts = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in parts if len(parts) <= 40 else [*parts[:6], *parts[-6:]]:
        out += _places(part, (*keys, key))
    return out


def _misspelt(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice("xs_#") + text[at:] if rng.random() < 0.5 or not text else text[:at] + text[at + 1 :]


def _damage_value(value: Any, rng: random.Random) -> tuple[Any, str]:
    """Return another value in the place of one."""
    kinds: list[tuple[str, Callable[[], Any]]] = [
        ("another type", lambda: rng.choice([v for v in _TYPES if type(v) is not type(value)]))
    ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        kinds += [("a number", lambda: rng.choice(_NUMBERS))] * 3
    if isinstance(value, str):
        kinds += [("a misspelling", lambda: _misspelt(value, rng)), ("an odd text", lambda: rng.choice(_ODD))]
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        kinds += [
            ("a list without a value", lambda: value[:at] + value[at + 1 :]),
            ("a list with a value twice", lambda: value[: at + 1] + value[at:]),
            ("a list in another order", lambda: value[at:] + value[:at]),
        ]
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        kinds += [
            ("without a key", lambda: {k: v for k, v in value.items() if k != key}),
            ("with a key misspelt", lambda: {_misspelt(k, rng) if k == key else k: v for k, v in value.items()}),
            (
                "with a key more",
                lambda: {**value, rng.choice(["new", "level", "dtype", "", "é\0"]): rng.choice(_TYPES)},
            ),
        ] * 2
    what, change = rng.choice(kinds)
    return change(), what


def _changed(value: Any, keys: tuple[Any, ...], new: Any) -> Any:
    if not keys:
        return new
    if isinstance(value, dict):
        return {k: _changed(v, keys[1:], new) if k == keys[0] else v for k, v in value.items()}
    return [_changed(v, keys[1:], new) if k == keys[0] else v for k, v in enumerate(value)]


def _at(value: Any, keys: tuple[Any, ...]) -> Any:
    for key in keys:
        value = value[key]
    return value


def _damage_json(text: str, rng: random.Random) -> tuple[str, str]:
    record = json.loads(text)
    keys = rng.choice(_places(record))
    value = _at(record, keys)
    where = ".".join(map(str, keys))[:80] or "all"
    if isinstance(value, dict) and value and rng.random() < 0.1:  # a key that stands twice
        key = rng.choice(list(value))
        mark = json.dumps({key: value[key]})[1:-1]
        marked = json.dumps(_changed(record, keys, {**value, "\0mark": 0}))
        return marked.replace(json.dumps("\0mark") + ": 0", mark), f"{where}: {key} twice"
    new, what = _damage_value(value, rng)
    return json.dumps(_changed(record, keys, new)), f"{where}: {what} ({str(new)[:40]!r})"


def _damage_bytes(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    raw, way = bytearray(data), rng.choice(("flip", "flip", "flip", "cut", "cut", "empty", "more", "zeros"))
    if way == "flip" and raw:
        for _ in range(rng.choice((1, 1, 3))):
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    elif way == "cut":
        raw = raw[: rng.randrange(len(raw) + 1)]
    elif way == "empty":
        raw = bytearray()
    elif way == "more":
        raw += rng.randbytes(rng.choice((1, 8, 1000)))
    elif raw:
        at = rng.randrange(len(raw))
        raw[at : at + 64] = bytes(len(raw[at : at + 64]))
    return bytes(raw), way


def _header(data: bytes) -> str:
    return data[8 : 8 + int.from_bytes(data[:8], "little")].decode()


def _damage_safetensors(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    header = _header(data)
    if rng.random() < 0.1:
        return rng.choice((2**64 - 1, 0, 7, len(data), len(header) - 1)).to_bytes(8, "little") + data[8:], "length"
    if rng.random() < 0.25:  # in the header more often than its share of the bytes
        head, what = _damage_bytes(header.encode(), rng)
        return len(head).to_bytes(8, "little") + head + data[8 + len(header) :], f"header: {what}"
    changed, what = _damage_json(header, rng)
    try:
        head = changed.encode()
    except UnicodeEncodeError:
        head = b"{}"
    return len(head).to_bytes(8, "little") + head + data[8 + len(header) :], f"header: {what}"


def _damage_array(path: Path, rng: random.Random) -> tuple[str, bool]:
    """Write a whole file again with one of its arrays changed; return how, and whether a model may say that."""
    from affectcore.models import safetensors

    arrays = {name: np.array(array) for name, array in safetensors.read(path)[0].items()}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    ways: dict[str, Callable[[], np.ndarray]] = {
        "without its last row": lambda: array[:-1],
        "with a row more": lambda: np.concatenate([array, array[:1]]),
        "transposed": lambda: np.ascontiguousarray(array.T),
        "with an axis more": lambda: array[None],
        "flat": lambda: array.ravel(),
        "without values": lambda: array[:0],
        **{f"as {kind}": lambda kind=kind: array.astype(kind) for kind in ("i1", "u1", "i4", "i8", "?", "f2", "f8")},
        "with NaN": lambda: _with(array, np.nan),
        "with infinity": lambda: _with(array, -np.inf),
        "under another name": lambda: array,
        "twice": lambda: array,
    }
    how = rng.choice(list(ways))
    with np.errstate(all="ignore"):
        new = ways[how]()
    if how == "under another name":
        del arrays[name]
    if how in ("under another name", "twice"):
        name = _misspelt(name, rng)
    arrays[name] = new
    safetensors.write(path, arrays)
    alike = new.shape == array.shape and new.dtype.kind == array.dtype.kind
    return f"{name} {how}", alike and how.startswith(("as", "with", "transposed"))


def _with(array: np.ndarray, value: float) -> np.ndarray:
    if array.dtype.kind == "f" and array.size:
        array = array.copy()
        array.flat[0] = value
    return array


def damage(models: dict[str, Path], folder: Path, rng: random.Random) -> tuple[Path, Damage]:
    """Copy one of the models into a folder and damage it there."""
    name = rng.choice(list(models))
    source = models[name]
    target = Path(shutil.copytree(source, folder / source.name))  # of its name, since columns are called after it
    files = sorted(path.name for path in target.iterdir() if path.name != "README.md")
    file = rng.choice(files)
    path = target / file
    data = path.read_bytes()
    if rng.random() < _SWAP:
        way = rng.choice(("gone", "a folder", "swapped"))
        path.unlink()
        others = [m for m in models.values() if m != source and (m / file).is_file()]
        if way == "a folder":
            path.mkdir()
        elif way == "swapped" and others:
            shutil.copy(rng.choice(others) / file, path)
        new = path.read_bytes() if path.is_file() else None
        # Nothing in a checkpoint tells that its tokenizer is another model's, if there are rows for all ids.
        fits = way == "swapped" and file == "tokenizer.json" and not (source / "affect.json").is_file()
        return target, Damage(name, file, way, new is None or fits or free(name, file, data, new))
    if file.endswith(".safetensors") and rng.random() < 0.3:
        what, may = _damage_array(path, rng)
        return target, Damage(name, file, what, may)
    if file.endswith(".safetensors"):
        new, what = (_damage_safetensors if rng.random() < 0.8 else _damage_bytes)(data, rng)
    elif file.endswith(".json") and rng.random() < 0.85:
        text, what = _damage_json(data.decode(), rng)
        new = text.encode("utf-8", "surrogatepass")
    else:
        new, what = _damage_bytes(data, rng)
    path.write_bytes(new)
    return target, Damage(name, file, what, free(name, file, data, new))


# What a model is free to say -----------------------------------------------------------------------------------------

_GONE = object()


def _differences(old: Any, new: Any, keys: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        out = []
        for key in {**old, **new}:
            out += _differences(old.get(key, _GONE), new.get(key, _GONE), (*keys, key))
        return out
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for k, (a, b) in enumerate(zip(old, new)) for d in _differences(a, b, (*keys, k))]
    return [] if type(old) is type(new) and old == new else [(keys, old, new)]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _free_affect(keys: tuple[Any, ...], old: Any, new: Any) -> bool:
    top, *rest = (*keys, "", "")
    if top == "licence" or "info" in keys:
        return True
    if top == "distress":  # published weights, and the whole of it may be absent
        return new is _GONE or rest[0] == "weights" or (rest[0] in ("version", "bias") and _number(new))
    if top == "heads" and len(keys) > 2:
        if keys[2] in ("low", "high"):
            return _number(new) or new is None
        return keys[2] in ("labels", "columns") and len(keys) == 4 and isinstance(new, str)
    return False


def _free_hugging_face(file: str, keys: tuple[Any, ...], old: Any, new: Any) -> bool:
    """What another valid value may stand for in Hugging Face's files; what has another type may not."""
    if new is _GONE or old is _GONE or new is None or old is None:  # what is left out is as by default
        return True
    same = type(old) is type(new) or (_number(old) and _number(new))
    if keys[:1] == ("id2label",):
        return len(keys) == 2 and (isinstance(new, str) or _number(new))
    if file in ("tokenizer.json", "vocab.json"):
        if keys[:1] == ("truncation",) or keys[:1] == ("padding",):
            return True
        parts = ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "model")
        return same and (file == "vocab.json" or keys[0] in parts) and not isinstance(new, bool)
    return same and not (_number(new) and not -1 <= new < 2**31)


def free(model: str, file: str, old: bytes, new: bytes) -> bool:
    """Tell whether the scores of a model may differ after a change of a file, which a reader need not notice."""
    if file.endswith(".safetensors"):
        try:
            before, after = json.loads(_header(old)), json.loads(_header(new))
        except (ValueError, IndexError):
            return False
        start = (8 + len(_header(old).encode()), 8 + len(_header(new).encode()))
        changes = _differences(before, after)
        if not changes:
            return len(old) - start[0] == len(new) - start[1]  # bytes of weights
        # Floats of one size are taken for others.
        return all(
            k[-1] == "dtype" and {a, b} <= {"F16", "BF16"} for k, a, b in changes if k and isinstance(b, str)
        ) and all(k and k[-1] == "dtype" for k, _, _ in changes)
    if not file.endswith(".json"):  # a token spelt otherwise; lines may not go
        return old.count(b"\n") == new.count(b"\n") and len(old) == len(new)
    try:
        changes = _differences(json.loads(old), json.loads(new))
    except ValueError:
        return False
    own = model in ("static", "mini", "heads")
    if file == "affect.json":
        return all(_free_affect(*change) for change in changes)
    if own and file == "tokenizer.json":  # tokens may be spelt otherwise, and options have other values
        return all(_free_own(*change) for change in changes)
    return all(_free_hugging_face(file, *change) for change in changes)


def _free_own(keys: tuple[Any, ...], old: Any, new: Any) -> bool:
    if keys[:2] == ("model", "vocab"):
        return len(keys) == 3  # a token less and a token more of the same id
    if keys[:1] == ("added_tokens",):
        return keys[-1] == "content" and isinstance(new, str)
    spelt = ("continuing_subword_prefix", "unk_token")
    if keys[:1] == ("normalizer",) and keys[-1] == "strip_accents":
        return new is None or new is _GONE or isinstance(new, bool)
    return keys[:1] == ("model",) and keys[-1] in spelt and isinstance(new, str)


# Use ------------------------------------------------------------------------------------------------------------------


def use(path: Path, number: int, labelled: Path) -> tuple[str, Any]:
    """Load a model, score with it and run the commands: (`scores`, columns), (`error`, message) or (`raw`, what)."""
    import affectcore as ac
    from affectcore.cli.main import main
    from affectcore.errors import AffectcoreError

    try:
        table = ac.Scorer(str(path), threads=1, logits=True).score(TEXTS)
        found: tuple[str, Any] = ("scores", {name: table[name].to_pylist() for name in table.column_names})
    except AffectcoreError as error:
        found = ("error", f"{type(error).__name__}: {error}")
    except BaseException:
        return "raw", traceback.format_exc()
    commands = [["models", str(path)], ["explain", TEXTS[0], "--model", str(path)]]
    if number % _SHARE == 0:
        data = ["--data", str(labelled), "--text", "text", "--label", "y", "--resamples", "0"]
        out = ["-o", str(path.with_name(f"{path.name}-trained"))]
        commands += [
            ["train", *data, "--head", "own", "--model", str(path), *out],
            ["eval", *data, "--model", str(path)],
        ]
    for command in commands:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(command)
        if "fault in affectcore" in said.getvalue() or code not in (0, 1, 2, 3):
            return "raw", f"{command[0]}: exit {code}: {said.getvalue()[-1500:]}"
        if found[0] == "error" and code == 0 and command[0] == "explain":
            return "raw", f"explain succeeds where scoring does not: {found[1]}"
    return found


def _work(connection: Any, labelled: Path) -> None:
    os.environ.update(HF_HUB_OFFLINE="1", COLUMNS="100")
    os.environ.pop("AFFECTCORE_DEBUG", None)
    with contextlib.suppress(
        ImportError, OSError, ValueError
    ):  # a table beyond reason is an error, not a machine at its end
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + (6 << 30),) * 2)
    while (task := connection.recv()) is not None:
        connection.send(use(*task, labelled))


class Worker:
    """A process that uses models, started anew after it died or hung."""

    def __init__(self, labelled: Path) -> None:
        self._labelled = labelled
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there, self._labelled), daemon=True)
        self._process.start()
        there.close()

    def run(self, path: Path, number: int) -> tuple[str, Any]:
        """Use a model; also (`hang`, "") and (`signal`, its number)."""
        self._here.send((path, number))
        try:
            if self._here.poll(TIME):
                answer: tuple[str, Any] = self._here.recv()
                return answer
            found: tuple[str, Any] = ("hang", "")
        except EOFError:
            self._process.join()
            found = ("signal", self._process.exitcode)
        self.close()
        self._start()
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()


def other(found: dict[str, list[Any]], wanted: dict[str, list[Any]]) -> list[str]:
    """Name the columns whose scores are others, but for the last digits."""

    def same(a: list[Any], b: list[Any]) -> bool:
        return all(
            (x is None) == (y is None) and (x is None or abs(x - y) <= 1e-5 * max(1.0, abs(y))) for x, y in zip(a, b)
        )

    both = found.keys() & wanted.keys()
    return sorted(found.keys() ^ wanted.keys()) + sorted(name for name in both if not same(found[name], wanted[name]))


def fuzz(
    n: int, seed: int, folder: Path, say: Callable[[str], None] = lambda line: None
) -> tuple[Counter[str], list[str]]:
    """Damage models, use them, and return how often each outcome came and what must not be."""
    models = make(folder)
    labelled = folder / "labelled.tsv"
    words = "good bad happy sad hello world".split()
    rows = [f"{words[k % 6]} day number {k}\t{'up' if k % 2 else 'down'}" for k in range(80)]
    labelled.write_text("text\ty\n" + "\n".join(rows) + "\n")
    wanted = {}
    for name, path in models.items():
        kind, wanted[name] = use(path, 1, labelled)
        if kind != "scores":
            raise SystemExit(f"the undamaged model {name} cannot be used: {wanted[name]}")
    worker = Worker(labelled)
    counts: Counter[str] = Counter()
    bad = []
    try:
        for number in range(n):
            rng = random.Random(seed * 1_000_003 + number)
            target, done = damage(models, folder / "damaged" / str(number), rng)
            kind, content = worker.run(target, number)
            if kind == "scores":
                content = other(content, wanted[done.model])
                kind = "same" if not content else "free" if done.free else "silent"
            counts[kind] += 1
            if kind not in ("same", "free", "error"):
                bad.append(f"{kind}: #{number} {done.model}/{done.file}: {done.what}\n    {str(content)[-1500:]}")
                say(bad[-1])
            shutil.rmtree(target.parent, ignore_errors=True)
            if number % 100 == 99:
                say(f"{number + 1} of {n}: {dict(counts)}")
    finally:
        worker.close()
    return counts, bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="models to damage")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="affectcore-fuzz-") as folder:
        counts, bad = fuzz(options.n, options.seed, Path(folder), lambda line: print(line, flush=True))
    print(f"{options.n} damaged models, seed {options.seed}, {time.perf_counter() - began:.0f} s: {dict(counts)}")
    print("no signal, hang, raw error or silent change" if not bad else f"{len(bad)} that must not be")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
