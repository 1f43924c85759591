"""The EmoNet profile: its lists, its columns, and counts against plain Python."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from texts import data, documents

import affectcore
from affectcore import lexicons
from affectcore.kernels.words.tables import MAX_KEY
from affectcore.metrics import emonet
from affectcore.metrics.registry import Metric

FOLDER = Path(affectcore.__file__).parent / "lexicons" / "emonet"
ENTRIES = sorted({entry for entries in emonet.WORDS.values() for entry in entries})

SHORT = {s: w for entry in ENTRIES for w in entry.split() if len(w) <= 2 for s in lexicons.with_punctuation(w)}
"""Short words keep their punctuation: what they stand for."""


def ragged(docs: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0] + [len(d) for d in docs], dtype=np.int64)
    return np.frombuffer(b"".join(docs), np.uint8), offsets


def rates(text: str | bytes, backend: str = "numba") -> dict[str, float]:
    """Return the columns of one document that are not zero."""
    raw = text.encode() if isinstance(text, str) else text
    columns = emonet.score(*ragged([raw]), emonet.NAMES, backend)
    return {name.removeprefix("emonet_"): float(column[0]) for name, column in columns.items() if column[0]}


def plain(raw: bytes) -> dict[str, float]:
    """Count as the definition says, word by word."""
    words = raw.decode("utf-8", "replace").replace("\N{KELVIN SIGN}", "K").split()
    tokens = [w.strip(string.punctuation) if len(w.strip(string.punctuation)) > 2 else w for w in words]
    lower = [re.sub("[A-Z]", lambda m: m[0].lower(), token) for token in tokens]
    lower = [SHORT.get(token, token) for token in lower]
    out = {}
    for name, entries in zip(emonet.NAMES, emonet.WORDS.values()):
        phrases = sorted((entry.split() for entry in entries), key=len, reverse=True)
        n = i = 0
        while i < len(lower):
            found = next((p for p in phrases if lower[i : i + len(p)] == p), None)
            n += found is not None
            i += len(found or " ")
        out[name] = np.float32(n * (100 / len(words))) if words else np.float32(0)
    return out


def test_lists_are_the_published_ones() -> None:
    assert len(emonet.WORDS) == len(set(emonet.NAMES)) == 40
    assert sum(map(len, emonet.WORDS.values())) == 248
    published = json.loads(data("emonet-taxonomy", "guide.json").read_text(encoding="utf-8"))["options"]["labels"]
    assert list(emonet.WORDS) == list(published)
    for category, words in published.items():
        assert emonet.WORDS[category] == tuple(dict.fromkeys(word.lower() for word in words))


def test_lists_fit_the_kernels() -> None:
    for entries in emonet.WORDS.values():
        assert len(set(entries)) == len(entries)
        for entry in entries:
            assert entry == " ".join(entry.split()) == entry.lower()
            assert all(0 < len(word.encode()) <= MAX_KEY for word in entry.split())


def test_licence_and_source_travel_with_the_lists() -> None:
    assert "Copyright (c) 2025 LAION AI" in (FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT" in (FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
    assert "LAION-AI/emonet-face" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_names_are_column_names() -> None:
    assert emonet.NAMES[:3] == ("emonet_amusement", "emonet_elation", "emonet_pleasure")
    assert emonet.NAMES[-1] == "emonet_jealousy_envy"
    assert all(re.fullmatch(r"emonet(_[a-z]+)+", name) for name in emonet.NAMES)


def test_entries() -> None:
    entries = emonet.entries()
    assert tuple(entry.name for entry in entries) == emonet.NAMES
    for entry, words in zip(entries, emonet.WORDS.values()):
        assert isinstance(entry, Metric)
        assert (entry.group, entry.dtype, entry.unit, entry.version) == ("emonet", "float32", "per 100 words", 1)
        assert ", ".join(words) in entry.definition
        assert "profile of vocabulary" in entry.limits


@pytest.mark.parametrize("backend", ["reference", "numba", "triton"])
def test_every_entry_counts_for_its_categories(backend: str) -> None:
    docs = [f"so ({entry.title()}), ok".encode() for entry in ENTRIES]
    columns = emonet.score(*ragged(docs), emonet.NAMES, backend)
    assert tuple(columns) == emonet.NAMES
    for k, entry in enumerate(ENTRIES):
        for name, entries in zip(emonet.NAMES, emonet.WORDS.values()):
            if entry in entries:
                assert columns[name][k] == np.float32(100 / (2 + len(entry.split()))), (name, entry)
            elif not {word for e in entries for word in e.split()} & set(entry.split()):
                assert columns[name][k] == 0, (name, entry)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (" \n ", {}),
        ("nothing of the kind here", {}),
        ("happy joyful enjoy joys", {}),
        ("Such JOY, such joy!", {"elation": 50.0}),
        ("bliss and more words", {"pleasure": 25.0, "contentment": 25.0}),
        ("benign envy hurts a", {"longing": 25.0, "jealousy_envy": 25.0}),
        ("butterflies in the stomach", {"infatuation": 25.0}),
        ("butterflies in the garden", {}),
        ("sexual lust and lust", {"sexual_lust": 50.0}),
        ("now feeling Turned on.", {"sexual_lust": 25.0}),
        ("deep\n\n**focus** now yes", {"concentration": 25.0}),
        ("\N{FACE WITH TEARS OF JOY} \N{FEARFUL FACE}", {}),
        (b"joy \xff\xfe rage x", {"elation": 25.0, "anger": 25.0}),
    ],
)
def test_rates(text: str | bytes, found: dict[str, float]) -> None:
    for backend in ("reference", "numba"):
        assert rates(text, backend) == found


SPOKEN = st.lists(
    st.builds(
        lambda entry, shape, tail: shape(entry) + tail,
        st.sampled_from(ENTRIES),
        st.sampled_from([str, str.upper, str.title, str.swapcase]),
        st.sampled_from([" ", " ", "\n", ", ", "! ", "-", "", "\u3000", " the "]),
    ),
    max_size=12,
).map(lambda parts: "".join(parts).encode())


@given(docs=st.lists(st.one_of(SPOKEN, documents()), max_size=20))
@settings(max_examples=60)
def test_counts_are_those_of_plain_python(docs: list[bytes]) -> None:
    columns = emonet.score(*ragged(docs), emonet.NAMES)
    for k, doc in enumerate(docs):
        assert {name: column[k] for name, column in columns.items()} == plain(doc)


def test_only_what_is_asked_for() -> None:
    values, offsets = ragged([b"joy and envy", b"fear"])
    some = emonet.score(values, offsets, ["emonet_fear", "n_words"])
    assert {name: column.tolist() for name, column in some.items()} == {"emonet_fear": [0.0, 100.0]}
    assert some["emonet_fear"].dtype == np.float32
    assert emonet.score(values, offsets, ["emonet_jealousy_envy"])["emonet_jealousy_envy"].tolist()[1] == 0
    assert emonet.score(values, offsets[:1], emonet.NAMES)["emonet_awe"].shape == (0,)


def test_offsets_need_not_start_at_zero() -> None:
    values, offsets = ragged([b"joy ", b"fear", b"no fear"])
    column = emonet.score(values, offsets[1:], ["emonet_fear"])["emonet_fear"]
    assert column.tolist() == [100.0, 50.0]
