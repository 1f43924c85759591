"""Every op that takes texts on every backend, on the same inputs: the reference says what is right.

The same for the other families: test_bag.py, test_activations.py, test_dynamics.py, test_resample.py and
test_encoder_conformance.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_tokenizers import ODD, made
from texts import documents

from affectcore import lexicons
from affectcore.kernels import dispatch, segments, tone, wordpiece, words
from affectcore.kernels.wordpiece import build_wordpiece

BACKENDS = ["numba", "triton"]


def ragged(docs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(d) for d in docs], dtype=np.int64)
    return np.frombuffer(b"".join(docs), np.uint8), offsets


def run_words(docs: list[bytes], backend: str, corrected: bool) -> dict[str, Any]:
    """Run the `words` ops and return all that they return."""
    tables = lexicons.load()
    alphabet, vocabulary = dispatch.place((tables.alphabet, tables.vocabulary), backend)
    values, offsets = dispatch.place(ragged(docs), backend)
    text = words.normalize(values, offsets, alphabet, corrected, backend=backend)
    stream = words.words(text.values, text.offsets, alphabet, vocabulary, backend=backend)
    return {**dispatch.fetch(text)._asdict(), **{f"word_{k}": v for k, v in dispatch.fetch(stream)._asdict().items()}}


def run_tone(docs: list[bytes], backend: str, corrected: bool) -> dict[str, Any]:
    """Run the `tone` ops, each on the reference's word stream, and return all that they return."""
    tables = lexicons.load()
    text = words.normalize(*ragged(docs), tables.alphabet, corrected, backend="reference")
    stream = words.words(text.values, text.offsets, tables.alphabet, tables.vocabulary, backend="reference")
    marks = tone.punctuation(*text[:2], backend="reference")
    rules, categories = dispatch.place((tables.rules, tables.categories), backend)
    ids, flags, offsets, *marks = dispatch.place((stream.ids, stream.flags, stream.offsets, *marks), backend)
    values, bounds = dispatch.place(tuple(text[:2]), backend)
    scores = tone.vader(ids, flags, offsets, *marks, rules, corrected, backend=backend)
    out = {
        **dict(zip(("exclaims", "questions"), tone.punctuation(values, bounds, backend=backend))),
        **scores._asdict(),
        "counts": tone.count(ids, offsets, categories, backend=backend),
        "shouted": tone.count_flag(flags, offsets, words.SHOUTED, backend=backend),
    }
    return {name: dispatch.fetch(array) for name, array in out.items()}


def run_wordpiece(docs: list[bytes], backend: str, corrected: bool) -> dict[str, Any]:
    """Run the `wordpiece` op: whole with special tokens, and cut; an odd tokenizer or one that lower-cases."""
    table = dispatch.place(build_wordpiece(made("cased" if corrected else "uncased")), backend)
    values, offsets = dispatch.place(ragged(docs), backend)
    whole = wordpiece.wordpiece(values, offsets, table, backend=backend)
    cut = wordpiece.wordpiece(values, offsets, table, 7, not corrected, backend=backend)
    return {
        f"{name}_{k}": v for name, s in (("whole", whole), ("cut", cut)) for k, v in dispatch.fetch(s)._asdict().items()
    }


def run_segments(docs: list[bytes], backend: str, corrected: bool) -> dict[str, Any]:
    """Run the `segments` ops, the second on the reference's segments; `corrected` joins longer passages."""
    values, offsets = ragged(docs)
    wanted = segments.segments(values, offsets, backend="reference")
    found = segments.segments(*dispatch.place((values, offsets), backend), backend=backend)
    joined = segments.passages(*dispatch.place(tuple(wanted), backend), 256 if corrected else 24, backend=backend)
    parts = {"segment": dispatch.fetch(found), "passage": dispatch.fetch(joined)}
    return {f"{name}_{k}": v for name, part in parts.items() for k, v in part._asdict().items()}


OPS: dict[str, Callable[[list[bytes], str, bool], dict[str, Any]]] = {
    "words": run_words,
    "tone": run_tone,
    "wordpiece": run_wordpiece,
    "segments": run_segments,
}

SHAPES = {
    "no documents": [],
    "one empty document": [b""],
    "empty documents between others": [b"", b"good", b"", b"", b"bad!", b""],
    "white space only": ["  \t\n\u3000\u2028".encode()],
    "one long word": [b"x" * 300 + b"n't" + b"Y" * 300],
    "words over one block": [b"ab " * 400 + "日本 ".encode() * 300 + b"very good but not GREAT " * 60],
    "sequence cut at every document's end": ["é".encode()[:1], "日".encode()[:2], "😀".encode()[:3], b"\xf4\x90ok"],
    "characters across block borders": [b"a" * k + "😀 good\u2003né".encode() for k in range(250, 260)],
    "emoji in a row": ["😀😂❤️👍🏽 🔛!? Ⓜ".encode(), "x😀y".encode()],
    "equal sentiments around but": [b"good good great but good bad good great but fine 3.0 horrible okay sad " * 3],
    "punctuation at the edges": [
        b"a....... ab!!!!!!! abc..... (((((a ........ !!!!!!!! x'' (abcdefgh) abcdefgh. a-------z! x",
        b"abcdefghijklmno? abcdefghijklmnop? 12345678! 1234567890123456. a\x01b. z abcdefg\x7f. \x7f\x7f\x7f. z",
        b'**bold** "quoted," (a). (ab) (abc)! ...word... don\'t. CAN\'T!! I\'M, x.y.z. (I think) *me* "my," ',
    ],
    "odd words for a tokenizer": [word.encode() for word in ODD] + [" ".join(ODD).encode(), "".join(ODD).encode()],
    "added tokens across block borders": [b"a" * k + b"[MASK]sing[CLS][SEP" for k in range(248, 258, 2)],
    "marks to be put in order": ["a\u1b44\U0001d165\u1baa b".encode(), b"plain", "\U0001d15e\u1b44".encode()],
    "code, tables and quotes": [
        b"A. B\n````\n```\nx\n```\n````\n| a |\n> I am sad. Really!\n> ```\nGood.\n~~~\n> c\n~~~~\n>>> d\n```e``` f",
        b">",
        b"\n\t> a\n>\n\n> b",
    ],
    "every tone rule": [
        b"never so good, never this bad, this good without doubt good, at least good, the least good, very least good",
        b"it was the kiss of death for a bus stop; yeah right, bad ass, to die for, the shit the bomb: kind of nice",
        b"NOT GOOD at all!!!! no good, no or good, no kind of good; just enough x nice, sort of y nice ?? ??",
        b"I am not sad. Great but no fun? I DON'T love it but it isn't terrible, but fine!",
    ],
}


def check(op: str, docs: list[bytes], backend: str, corrected: bool) -> None:
    wanted, found = OPS[op](docs, "reference", corrected), OPS[op](docs, backend, corrected)
    assert wanted.keys() == found.keys()
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=f"{op}.{name}", strict=True)


@pytest.mark.parametrize("corrected", [False, True], ids=["exact", "corrected"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_shapes(backend: str, op: str, shape: str, corrected: bool) -> None:
    check(op, SHAPES[shape], backend, corrected)


@pytest.mark.parametrize("op", OPS)
@given(docs=st.lists(documents(), min_size=10, max_size=30), corrected=st.booleans())
@settings(max_examples=60)
def test_numba_on_made_texts(op: str, docs: list[bytes], corrected: bool) -> None:
    check(op, docs, "numba", corrected)


@pytest.mark.parametrize("op", OPS)
@given(docs=st.lists(documents(), min_size=1, max_size=4), corrected=st.booleans())
@settings(max_examples=12)
def test_triton_on_made_texts(op: str, docs: list[bytes], corrected: bool) -> None:
    check(op, docs, "triton", corrected)


def test_long_documents_with_but_take_the_host_path(monkeypatch: pytest.MonkeyPatch) -> None:
    from affectcore.kernels.tone import gpu

    monkeypatch.setattr(gpu, "LONG_DOCUMENT", 8)
    check("tone", [b"good good 3.0 great but good bad good great fine horrible", b"good but bad"], "triton", False)


def test_offsets_need_not_start_at_zero(tables: lexicons.Lexicons) -> None:
    values, offsets = ragged([b"skipped ", "good 😀".encode(), b"bad"])
    text = words.normalize(values, offsets[1:], tables.alphabet)
    assert text.values.tobytes() == b"good grinning facebad"
    stream = words.words(values, offsets[2:], tables.alphabet, tables.vocabulary)
    assert stream.start.tolist() == [offsets[2]]
    assert stream.ids[0] > 0


def test_unchanged_text_is_not_copied(tables: lexicons.Lexicons) -> None:
    values, offsets = ragged([b"plain", "caf\u00e9 \u2014 fine".encode()])
    text = words.normalize(values, offsets, tables.alphabet)
    assert text.values is values
    assert text.offsets is offsets
    assert text.n_words.tolist() == [-1, -1]


def test_mixed_arrays_are_an_error(tables: lexicons.Lexicons) -> None:
    import torch

    values, offsets = ragged([b"x"])
    with pytest.raises(dispatch.BackendError, match="mixed"):
        words.normalize(torch.from_numpy(values.copy()), offsets, tables.alphabet)


def test_unknown_backend_proposes_the_nearest(tables: lexicons.Lexicons) -> None:
    with pytest.raises(dispatch.BackendError, match="did you mean 'triton'"):
        words.normalize(*ragged([b"x"]), tables.alphabet, backend="tritn")


def test_vocabulary_is_a_perfect_hash() -> None:
    keys = [f"key{k}".encode() for k in range(5000)] + [b"a", b"b" * 24]
    vocabulary = words.build_vocabulary(keys)
    alphabet = words.build_alphabet({})
    for backend in ("reference", "numba"):
        stream = words.words(*ragged([b" ".join(keys)]), alphabet, vocabulary, backend=backend)
        assert stream.ids.tolist() == list(range(1, len(keys) + 1))
        stream = words.words(*ragged([b" ".join(k + b"q" for k in keys)]), alphabet, vocabulary, backend=backend)
        assert not stream.ids.any()


@pytest.mark.parametrize("keys", [[b""], [b"a", b"a"], [b"x" * 25]])
def test_vocabulary_rejects_bad_keys(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match=r"distinct|24"):
        words.build_vocabulary(keys)


def test_character_classes_are_python_s() -> None:
    alphabet = words.build_alphabet({})
    for code in range(0x110000):
        entry = int(alphabet.data[alphabet.page[code >> 8] + (code & 255)])
        char = chr(code)
        lower = char.islower() or (char.istitle() and not char.isupper())
        wanted = (1 if char.isspace() else 0) | (4 if char.isupper() else 0) | (8 if lower else 0)
        assert entry & ~2 == wanted, hex(code)
