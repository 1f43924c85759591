"""Damaged model directories: each is an error that names file, key and what may stand there, or scores as before."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import affectcore as ac
from affectcore.cli.models import describe
from affectcore.errors import AffectcoreError, InputError
from affectcore.models import base, safetensors, schema

sys.path.append(str(Path(__file__).parents[2] / "bench"))
import fuzz_models

ALL = object()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return fuzz_models.make(tmp_path_factory.mktemp("models"))


def test_damage_of_any_kind(tmp_path: Path) -> None:
    """A few of what `bench/fuzz_models.py` does."""
    counts, bad = fuzz_models.fuzz(60, 11, tmp_path)
    assert not bad, "\n".join(bad)
    assert counts["error"] > 25 and counts["same"] > 5


def edited(source: Path, to: Path, file: str, keys: tuple[Any, ...], value: Any) -> Path:
    """Copy a model with one value of a JSON file replaced, or left out (...)."""
    shutil.copytree(source, to)
    record = json.loads((to / file).read_text())
    if not keys:
        record = value
    else:
        part = record
        for key in keys[:-1]:
            part = part[key]
        if value is ...:
            del part[keys[-1]]
        else:
            part[keys[-1]] = value
    (to / file).write_text(json.dumps(record))
    return to


HEAD = ("heads", 2)  # refusal: one label, level strongest
AFFECT = [
    (
        (*HEAD, "level"),
        "strongst",
        r"heads[2].level is 'strongst': one of passage, document, strongest (did you mean 's",
    ),
    ((*HEAD, "kind"), "multilabel", "heads[2].kind is 'multilabel': one of multi_label, single_label, regression (did"),
    ((*HEAD, "kind"), None, "heads[2].kind is null: one of"),
    ((*HEAD, "level"), ..., "heads[2].level is missing: one of passage"),
    ((*HEAD, "levl"), "passage", "heads[2].levl is no key that is known here"),
    ((*HEAD, "labels"), [], "heads[2].labels is an empty list: a list that is not empty"),
    ((*HEAD, "labels"), ["a", "b"], "heads[2].columns has 1 names, and there are 2 labels"),
    ((*HEAD, "labels"), ["a\ud800"], "heads[2].labels[0] is 'a\\ud800': it holds half a character"),
    ((*HEAD, "columns"), "refusal", "heads[2].columns is 'refusal': a list that is not empty"),
    ((*HEAD, "columns"), ["valence"], "heads[1] and heads[2] both have the column 'valence'"),
    ((*HEAD, "columns"), ["_refusal"], "heads[2].columns[0] is '_refusal': only a hidden head's columns begin"),
    ((*HEAD, "name"), "politeness", "heads[3].name is 'politeness', as that of heads[2] is"),
    ((*HEAD, "name"), "refusals", "array heads.refusal.bias belongs to no head"),
    ((*HEAD, "low"), 2, "heads[2].low is 2, above high, which is 1.0"),
    ((*HEAD, "high"), True, "heads[2].high is true: a finite number, at most 1e38, or null"),
    ((*HEAD, "high"), 1e300, "heads[2].high is 1e+300: a finite number"),
    ((*HEAD, "high"), float("nan"), "no JSON: it holds NaN"),
    ((*HEAD, "info"), 7, "heads[2].info is 7: an object"),
    (("heads",), {}, "heads is an empty object: a list that is not empty"),
    (("heads", 0), None, "heads[0] is null: an object"),
    (("heads",), ..., "heads is missing"),
    (("format",), 2, "format 2, not 1"),
    (("format",), True, "format true, not 1"),
    (("network",), ..., "it has neither network nor base"),
    (("base",), {"name": "static", "content_hash": ""}, "it has both network and base"),
    (("network", "type"), "statc", "network.type is 'statc': one of static, bert (did you mean 'static'?)"),
    (("network", "n_unigrams"), 10**9, "network.n_unigrams is 1,000,000,000, and tokenizer.json has"),
    (("network", "n_unigrams"), 10**30, "network.n_unigrams is 1000000000000000000000000000000: a whole number from 1"),
    (("network", "n_unigrams"), -1, "network.n_unigrams is -1: a whole number from 1"),
    (("network", "n_unigrams"), "300", "network.n_unigrams is '300': a whole number"),
    (("network", "n_unigrams"), 8.0, "network.n_unigrams is 8.0: a whole number"),
    (("distress", "bias"), "0", "distress.bias is '0': a finite number"),
    (
        ("distress", "weights", "emotion_sadnes"),
        1,
        "emotion_sadnes is of no column of its heads, and no word list (did",
    ),
    (("more",), 1, "more is no key that is known here"),
    ((), [], "it holds no JSON object"),
]


@pytest.mark.parametrize(("keys", "value", "message"), AFFECT)
def test_affect_json(models: dict[str, Path], tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    path = edited(models["static"], tmp_path / "m", "affect.json", keys, value)
    for use in (base.load, describe, ac.Scorer):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            use(path)  # type: ignore[operator]
        assert caught.value.remedy and Path(caught.value.path).parent == path.resolve()


TOKENIZER = [
    (("model", "vocab", "good"), "7", "model.vocab.good is '7': a whole number from 0"),
    (("model", "vocab", "good"), -1, "model.vocab.good is -1: a whole number from 0"),
    (("model", "vocab", "good"), 0, "model.vocab.good is 0, as that of '[PAD]' is"),
    (("model", "vocab", "good"), 10**6, "model.vocab lacks the token of id"),
    (("model", "vocab"), ["a"], "model.vocab is a list of 1: an object of token to id"),
    (("model",), "WordPiece", "model is 'WordPiece': an object"),
    (("model", "type"), "BPE", "model.type is 'BPE': it must be 'WordPiece'"),
    (("model", "unk_token"), "[UNKNOWN]", "the vocabulary lacks the tokenizer's unk_token '[UNKNOWN]'"),
    (("model", "max_input_chars_per_word"), 10**9, "max_input_chars_per_word must be from 1 to 65,535"),
    (("model", "max_input_chars_per_word"), "100", "model.max_input_chars_per_word is '100': a whole number"),
    (("normalizer", "lowercase"), 1, "normalizer.lowercase is 1: true or false"),
    (("normalizer", "lowercase"), ..., "normalizer.lowercase is missing: true or false"),
    (("normalizer",), [1], "normalizer is a list of 1: an object, or null"),
    (("normalizer",), None, "normalizer None is not supported"),
    (("added_tokens", 0, "content"), 5, "added_tokens[0].content is 5: a text"),
    (("added_tokens",), "x", "added_tokens is 'x': a list, or null"),
    (("post_processor", "single", 0), 3, "post_processor.single[0] is 3: an object"),
    (
        ("post_processor", "single", 0, "SpecialToken", "id"),
        "[CLZ]",
        "'[CLZ]': special_tokens has none of that name (did",
    ),
    (("post_processor", "special_tokens", "[CLS]", "ids"), [3], 'special_tokens["[CLS]"].ids[0] is 3: the id of'),
]


@pytest.mark.parametrize(("keys", "value", "message"), TOKENIZER)
@pytest.mark.parametrize("name", ["static", "mini"])
def test_tokenizer_json(
    models: dict[str, Path], tmp_path: Path, name: str, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    message = message.replace('["[CLS]"]', "['[CLS]']")
    keys = tuple("thing" if name == "mini" and key == "good" else key for key in keys)
    message = message.replace("vocab.good", "vocab.thing") if name == "mini" else message
    path = edited(models[name], tmp_path / "m", "tokenizer.json", keys, value)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        ac.Scorer(str(path)).score(["I love it"])
    assert caught.value.remedy and caught.value.path == str(path.resolve() / "tokenizer.json")


OTHERS = [
    ("roberta", "config.json", ("layer_norm_eps",), -1, "layer_norm_eps is -1: a number from 0 to 0.01"),
    ("roberta", "config.json", ("layer_norm_eps",), "1e-5", "layer_norm_eps is '1e-5': a number"),
    ("roberta", "config.json", ("pad_token_id",), -1, "pad_token_id is -1: a whole number from 0"),
    ("roberta", "config.json", ("pad_token_id",), 10**6, "pad_token_id is 1000000: a whole number from 0 to 379"),
    ("roberta", "config.json", ("id2label",), [1], "id2label is a list of 1: an object that is not empty, or null"),
    ("roberta", "config.json", ("id2label", "0"), {}, "id2label['0'] is an empty object: a text, or a whole number"),
    ("roberta", "config.json", ("problem_type",), "regresion", "there is no such problem (did you mean 'regression'?)"),
    ("roberta", "config.json", ("hidden_act",), "gellu", "the kernels run gelu"),
    ("deberta-v3", "config.json", ("pos_att_type",), [["c2p"]], "pos_att_type[0] is a list of 1: a text"),
    ("deberta-v3", "config.json", ("max_position_embeddings",), 2**31, "max_position_embeddings is 2147483648"),
    ("modernbert", "config.json", ("layer_types",), [[]] * 4, "layer_types[0] is an empty list: a text"),
    ("modernbert", "config.json", ("rope_parameters",), [1], "rope_parameters is a list of 1: an object"),
    ("modernbert", "config.json", ("local_attention",), "24", "local_attention is '24': a whole number"),
    ("bert", "tokenizer_config.json", ("model_max_length",), "512", "model_max_length is '512': a number"),
    ("bert", "tokenizer_config.json", ("model_max_length",), -1, "model_max_length is -1: a number from 1"),
    ("bert", "tokenizer_config.json", ("model_max_length",), 2, "it leaves no room for a text's tokens"),
    ("bert", "tokenizer_config.json", ("pad_token",), "<pad>", "it lacks the pad_token '<pad>'"),
    ("old bert", "tokenizer_config.json", ("do_lower_case",), "yes", "do_lower_case is 'yes': true or false"),
    ("old bert", "tokenizer_config.json", ("cls_token",), 5, "cls_token is 5: a text, or an object, or null"),
    ("old roberta", "vocab.json", ("love",), -1, "love is -1: a whole number from 0"),
    ("parts", "model.safetensors.index.json", ("weight_map",), [], "weight_map is an empty list: an object"),
    (
        "parts",
        "model.safetensors.index.json",
        ("weight_map", "classifier.dense.bias"),
        "../x",
        "which is no file beside",
    ),
    ("parts", "model.safetensors.index.json", ("weight_map", "classifier.dense.bias"), "x" * 999, "which is no file"),
]


@pytest.mark.parametrize(("name", "file", "keys", "value", "message"), OTHERS)
def test_files_of_hugging_face(
    models: dict[str, Path], tmp_path: Path, name: str, file: str, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    path = edited(models[name], tmp_path / "m", file, keys, value)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        ac.Scorer(str(path)).score(["I love it"])
    assert caught.value.remedy and Path(caught.value.path).parent == path.resolve()


@pytest.mark.parametrize(("name", "file"), [("old bert", "vocab.txt"), ("old roberta", "merges.txt")])
def test_vocabularies_that_were_cut(models: dict[str, Path], tmp_path: Path, name: str, file: str) -> None:
    shutil.copytree(models[name], tmp_path / "m")
    lines = (tmp_path / "m" / file).read_text().splitlines(keepends=True)
    (tmp_path / "m" / file).write_text("".join(lines[: len(lines) * 3 // 4]))
    with pytest.raises(InputError, match=rf"{file}: .*(tokens, and the network|made by none).*it is cut"):
        base.load(tmp_path / "m")


def test_a_tokenizer_that_drops_merges_at_random(models: dict[str, Path], tmp_path: Path) -> None:
    path = edited(models["roberta"], tmp_path / "m", "tokenizer.json", ("model", "dropout"), 0.5)
    with pytest.raises(InputError, match=r"model\.dropout is 0\.5: a number from 0 to 0"):
        base.load(path)


@pytest.mark.parametrize(
    "twice", ['"format": 1, "format": 1', '"format" : 1, "format": 1', '"format"\n:1,"format":\n1']
)
def test_a_key_that_stands_twice(models: dict[str, Path], tmp_path: Path, twice: str) -> None:
    shutil.copytree(models["static"], tmp_path / "m")
    path = tmp_path / "m" / "affect.json"
    path.write_text(path.read_text().replace('"format": 1', twice))
    with pytest.raises(InputError, match="no JSON: the key 'format' stands twice in one object"):
        base.load(tmp_path / "m")


@pytest.mark.parametrize("content", ["7", "true", "null", '"a"', "[1]", "", "{", "NaN", "\xff"])
def test_what_is_no_object(content: str) -> None:
    with pytest.raises(InputError, match=r"f.json: (no JSON|it holds no JSON object)"):
        schema.parse(Path("f.json"), content.encode("latin-1"))


@given(
    st.recursive(
        st.text('a":\\ {', max_size=3), lambda s: st.dictionaries(st.text('a":\\ {', max_size=3), s), max_leaves=9
    )
)
def test_keys_that_look_like_others_stand_once(value: Any) -> None:
    for separators in ((",", ":"), (", ", ": "), (" , ", " : ")):
        text = json.dumps({"all": value}, separators=separators)
        assert schema.parse(Path("f.json"), text.encode()) == {"all": value}
        again = text[:-1] + separators[0] + text[1:]
        with pytest.raises(InputError, match="the key 'all' stands twice"):
            schema.parse(Path("f.json"), again.encode())


def rewritten(source: Path, to: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    shutil.copytree(source, to)
    arrays = {name: np.array(array) for name, array in safetensors.read(to / "model.safetensors")[0].items()}
    change(arrays)
    safetensors.write(to / "model.safetensors", arrays)
    return to


ARRAYS: list[tuple[str, str, Callable[[np.ndarray], np.ndarray], str]] = [
    ("static", "rows", lambda a: a[:-1], "array rows has 294 rows: there must be 231 of tokens"),
    ("static", "rows", lambda a: a[:100], "array rows has 100 rows"),
    ("static", "rows", lambda a: a[:, :-1], "array rows has 31 columns: it must be a multiple of 16"),
    ("static", "rows", lambda a: a.view(np.uint8), "array rows is of type uint8: it must be int8"),
    ("static", "rows", lambda a: a[0], r"array rows has the shape \(32,\)"),
    ("static", "gains", lambda a: a[:-1], "array gains has the shape"),
    ("static", "gains", lambda a: a.astype(np.int32), "array gains is of type int32: it must be floats"),
    ("static", "hidden", lambda a: a[:-1], r"array hidden has the shape \(31, 16\): it must be \(32, any\)"),
    ("static", "hidden_bias", lambda a: a[:-1], "array hidden_bias has the shape"),
    ("static", "heads.vad.weight", lambda a: a[:-1], "array heads.vad.weight has 15 rows, and heads.emotion.weight 16"),
    ("static", "heads.vad.bias", lambda a: a[:-1], r"array heads.vad.bias has the shape \(2,\): it must be \(3\)"),
    ("static", "heads.vad.scale", lambda a: a * np.nan, "heads.vad.scale has values that are not finite"),
    ("static", "heads.vad.shift", lambda a: a + np.inf, "heads.vad.shift has values that are not finite"),
    ("static", "more", lambda a: np.zeros(3, np.float32), "array more belongs to no static model"),
    ("heads", "heads.mood.weight", lambda a: a[:-1], "has 15 rows: static gives 16 features"),
    ("heads", "more", lambda a: np.zeros(3, np.float32), "array more belongs to no head of affect.json"),
    ("mini", "encoder.embeddings.word_embeddings.weight.scale", lambda a: a.astype(np.int32), "quantized like that"),
]


@pytest.mark.parametrize(("name", "array", "change", "message"), ARRAYS)
def test_arrays_that_do_not_fit(
    models: dict[str, Path],
    tmp_path: Path,
    name: str,
    array: str,
    change: Callable[[np.ndarray], np.ndarray],
    message: str,
) -> None:
    path = rewritten(models[name], tmp_path / "m", lambda a: a.update({array: change(a.get(array, np.zeros(1)))}))
    with pytest.raises(InputError, match=message) as caught:
        base.load(path)
    assert caught.value.remedy and caught.value.path == str(path.resolve() / "model.safetensors")


@pytest.mark.parametrize("of", [np.nan, np.inf])
def test_weights_that_are_not_finite_give_null(models: dict[str, Path], tmp_path: Path, of: float) -> None:
    path = rewritten(models["static"], tmp_path / "m", lambda a: a["heads.refusal.weight"].__setitem__(0, of))
    scores = ac.Scorer(str(path), metrics="refusal,politeness").score(["I love it so much"])
    assert scores["refusal"].null_count == 1 and scores["politeness"].null_count == 0


def test_a_ring_of_bases(models: dict[str, Path], tmp_path: Path) -> None:
    record = json.loads((models["heads"] / "affect.json").read_text())
    for name, below in (("own", "own"), ("a", "b"), ("b", "c"), ("c", "a")):
        shutil.copytree(models["heads"], tmp_path / name)
        record["base"]["name"] = str(tmp_path / below)
        (tmp_path / name / "affect.json").write_text(json.dumps(record))
    for name, ring in (("own", "own -> own"), ("a", "a -> b -> c -> a"), ("b", "b -> c -> a -> b")):
        for use in (base.load, describe):
            with pytest.raises(InputError, match=rf"base.name is .*its own base: {ring}"):
                use(tmp_path / name)  # type: ignore[operator]


@pytest.mark.parametrize(
    "name", ["~nobody-of-that-name", "x" * 5000, "a\0b", "\ud800", "../gone", "", 5, None, ["static"]]
)
def test_bases_that_are_not_there(models: dict[str, Path], tmp_path: Path, name: Any) -> None:
    path = edited(models["heads"], tmp_path / "m", "affect.json", ("base", "name"), name)
    with pytest.raises(InputError, match=r"affect.json: (base.name is|its heads are on the features)"):
        base.load(path)


def test_bases_without_end(models: dict[str, Path], tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).mkdir()
        shutil.copy(models["heads"] / "model.safetensors", tmp_path / str(number))
        record = json.loads((models["heads"] / "affect.json").read_text())
        record["base"]["name"] = str(tmp_path / str(number + 1))
        (tmp_path / str(number) / "affect.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="over 20 models, each the base of the one before"):
        base.load(tmp_path / "0")


def test_our_own_encoders_have_a_token_before_and_behind(models: dict[str, Path], tmp_path: Path) -> None:
    path = edited(models["mini"], tmp_path / "m", "tokenizer.json", ("post_processor", "single", 0), ...)
    with pytest.raises(InputError, match="post_processor puts other than one token before"):
        base.load(path)


def entry(dtype: Any, shape: Any, *offsets: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


HEADERS: list[tuple[Any, str]] = [
    ({"a": entry("F32", [1], "0", "4")}, r"a.data_offsets\[0\] is '0': a whole number"),
    ({"a": entry("F32", [1], -4, 0)}, r"a.data_offsets\[0\] is -4"),
    ({"a": entry("F32", [1], True, 4)}, r"a.data_offsets\[0\] is true"),
    ({"a": entry("F32", [1], 0.0, 4.0)}, r"a.data_offsets\[0\] is 0.0"),
    ({"a": entry("F32", [1], 4, 0)}, "array a has -4 bytes"),
    ({"a": entry("F32", [1], 0)}, "a.data_offsets is a list of 1: a list of 2"),
    ({"a": entry("F32", [1.0], 0, 4)}, r"a.shape\[0\] is 1.0"),
    ({"a": entry("F32", [True], 0, 4)}, r"a.shape\[0\] is true"),
    ({"a": entry("F32", [-1], 0, 4)}, r"a.shape\[0\] is -1"),
    ({"a": entry("F32", [10**30], 0, 4)}, r"a.shape\[0\] is 1000"),
    ({"a": entry("F32", [2**40, 2**40], 0, 8)}, "array a has 8 bytes, which is not"),
    ({"a": entry("F32", [0, 2**40, 2**40], 0, 0)}, "a shape that NumPy does not allow"),
    ({"a": entry("F32", [1] * 99, 0, 4)}, "a shape that NumPy does not allow"),
    ({"a": entry(5, [1], 0, 4)}, "a.dtype is 5: a text"),
    ({"a": entry("F32", [2], 0, 8), "b": entry("I8", [2], 6, 8)}, "array b overlaps"),
    ({"a": entry("I8", [2], 0, 2), "b": entry("I8", [2], 6, 8)}, "array b leaves a gap"),
    ({"a": entry("I8", [2], 0, 2)}, "6 bytes behind its arrays belong to none"),
    ({"a": {"dtype": "I8", "shape": [8]}}, "a.data_offsets is missing"),
    ({"a": [1]}, "a is a list of 1: an object"),
    ({"__metadata__": {"format": 1}, "a": entry("I8", [8], 0, 8)}, "__metadata__.format is 1"),
    ('{"a": {}, "a": {}}', "its header: no JSON: the key 'a' stands twice"),
    ("[" * 100_000, "its header: no JSON"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS)
def test_headers_of_safetensors(tmp_path: Path, header: Any, message: str) -> None:
    raw = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(8))
    with pytest.raises(InputError, match=message) as caught:
        safetensors.read(path)
    assert caught.value.remedy


def test_arrays_stand_in_the_file_in_any_order(tmp_path: Path) -> None:
    header = json.dumps(
        {name: {"dtype": "I8", "shape": [4], "data_offsets": [at, at + 4]} for name, at in (("b", 4), ("a", 0))}
    ).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(8)))
    found = safetensors.read(path)[0]
    assert list(found) == ["b", "a"] and found["a"].tolist() == [0, 1, 2, 3] and found["b"].tolist() == [4, 5, 6, 7]


def test_a_model_that_is_written_over_goes_on(models: dict[str, Path], tmp_path: Path) -> None:
    """A loaded model is a view of its file, which would be a bus error where that gets shorter."""
    path = Path(shutil.copytree(models["bert"], tmp_path / "bert"))
    scorer = ac.Scorer(str(path), metrics="bert")
    safetensors.write(path / "model.safetensors", {"a": np.zeros(1, np.float32)})
    assert scorer.score(["I love it"]).equals(ac.Scorer(str(models["bert"]), metrics="bert").score(["I love it"]))
    assert not list(path.glob(".*"))


def test_what_is_in_the_way_or_may_not_be_read(models: dict[str, Path], tmp_path: Path) -> None:
    for number, file in enumerate(("affect.json", "tokenizer.json", "model.safetensors")):
        path = Path(shutil.copytree(models["static"], tmp_path / str(number)))
        (path / file).unlink()
        (path / file).mkdir()
        for use in (base.load, describe):
            with pytest.raises(InputError, match=rf"{file}: not found"):
                use(path)  # type: ignore[operator]
    path = Path(shutil.copytree(models["static"], tmp_path / "card"))
    (path / "README.md").write_bytes(b"# caf\xe9\n")
    assert describe(path)["card"] == "# caf\ufffd\n"


def test_the_embedded_models_break_no_rule() -> None:
    for name in base.embedded():
        assert base.load(name).heads and describe(name)["heads"]


def test_messages_are_short_and_name_the_place() -> None:
    rule = schema.Record({"a": schema.Each(schema.Map(schema.Whole(0, 9)))})

    def message(value: Any) -> str:
        with pytest.raises(AffectcoreError) as caught:
            schema.check(Path("f.json"), value, rule, "top")
        return str(caught.value)

    assert message({"a": [{"b c": 10}]}).startswith("f.json: top.a[0]['b c'] is 10: a whole number from 0 to 9 (")
    assert message({"a": [{"b": "x" * 10_000}]}).startswith("f.json: top.a[0].b is 'xxxxxxx")
    assert len(message({"a": [{"b" * 10_000: "x" * 10_000}]})) < 300
    assert len(message({"a": [{"b": 10**5000}]})) < 300
    assert "\x1b" not in message({"a": [{"\x1b[31m": "\x1b[31m"}]})
