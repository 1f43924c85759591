"""The word lists, VADER's data files and the demo dump: format, limits and agreement with their sources."""

from __future__ import annotations

import json
import string
from collections import Counter
from pathlib import Path

import pytest

import affectcore

PACKAGE = Path(affectcore.__file__).parent
FOLDER = PACKAGE / "lexicons"
VADER = FOLDER / "vader"
DEMO = PACKAGE / "data" / "demo.jsonl"
# Sizes as reviewed: a list that shrinks or grows by accident shows here.
SIZES = {
    "first_person": 39,
    "absolutist": 28,
    "hedges": 146,
    "boosters": 80,
    "apologies": 28,
    "self_blame": 137,
    "hopelessness": 154,
    "giving_up": 129,
    "flattery": 175,
    "gratitude": 40,
}
MAX_WORD_BYTES = 24
MAX_PHRASE_WORDS = 5


def rows(name: str) -> list[tuple[str, str]]:
    """Entries and reasons of a list, read without the loader so that the file itself is tested."""
    lines = (FOLDER / f"{name}.txt").read_bytes().decode("ascii").split("\n")
    entries = [line.split("\t") for line in lines if line and not line.startswith("#")]
    assert all(len(fields) == 2 for fields in entries), [fields for fields in entries if len(fields) != 2]
    return [(entry, reason) for entry, reason in entries if not entry.startswith("-")]


def exceptions(name: str) -> list[str]:
    """Phrases that cancel a match where they start, written with a minus."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="ascii").splitlines()
    return [line.partition("\t")[0][1:] for line in lines if line.startswith("-")]


def as_token(word: str) -> str:
    """The token that a word becomes: edge punctuation stripped when more than two characters remain."""
    stripped = word.strip(string.punctuation)
    return stripped if len(stripped) > 2 else word


def test_the_folder_holds_these_lists_and_no_others() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_file_is_ascii_with_lf_and_a_header(name: str) -> None:
    content = (FOLDER / f"{name}.txt").read_bytes()
    assert content.isascii()
    assert b"\r" not in content
    assert content.endswith(b"\n")
    assert not content.endswith(b"\n\n")
    lines = content.decode().splitlines()
    comments = [line.startswith("#") for line in lines]
    assert comments == sorted(comments, reverse=True), "comments stand at the top only"
    header = "\n".join(lines[: sum(comments)])
    assert header.startswith(f"# {name}: ")
    for part in ("# Unit: matches per 100 words.", "# Counts: ", "# Limit: "):
        assert part in header


@pytest.mark.parametrize("name", SIZES)
def test_every_entry_has_a_reason(name: str) -> None:
    without = [entry for entry, reason in rows(name) if len(reason.strip()) < 3 or reason != reason.strip()]
    assert without == []


@pytest.mark.parametrize("name", SIZES)
def test_entries_are_lower_case_words_within_limits(name: str) -> None:
    for entry, _ in rows(name):
        words = entry.split(" ")
        assert entry == entry.lower(), entry
        assert all(words), f"{entry!r}: one space between words, none at the edges"
        assert len(words) <= MAX_PHRASE_WORDS, entry
        assert all(len(word) <= MAX_WORD_BYTES for word in words), entry
        assert all(word.isprintable() for word in words), entry


@pytest.mark.parametrize("name", SIZES)
def test_every_word_is_a_token_that_can_occur(name: str) -> None:
    """An entry such as "well," could never match, because tokens lose edge punctuation; "me," can."""
    never = [entry for entry, _ in rows(name) if any(as_token(word) != word for word in entry.split(" "))]
    assert never == []


@pytest.mark.parametrize("name", SIZES)
def test_no_entry_stands_twice_and_the_size_is_the_reviewed_one(name: str) -> None:
    entries = Counter(entry for entry, _ in rows(name))
    assert [entry for entry, n in entries.items() if n > 1] == []
    assert len(entries) == SIZES[name]


@pytest.mark.parametrize("name", SIZES)
def test_no_entry_contains_another(name: str) -> None:
    """Otherwise one phrase would count twice, or the longer entry would change nothing."""
    entries = {entry for entry, _ in rows(name)}
    nested = []
    for entry in entries:
        words = entry.split(" ")
        for size in range(1, len(words)):
            parts = {" ".join(words[i : i + size]) for i in range(len(words) - size + 1)}
            nested += [(entry, part) for part in parts & entries]
    assert nested == []


@pytest.mark.parametrize("name", SIZES)
def test_every_exception_cancels_an_entry(name: str) -> None:
    entries = {entry for entry, _ in rows(name)}
    for phrase in exceptions(name):
        words = phrase.split(" ")
        assert any(" ".join(words[:n]) in entries for n in range(1, len(words))), phrase
        assert len(words) <= MAX_PHRASE_WORDS
        assert all(as_token(word) == word for word in words)


def test_sympathy_is_no_apology() -> None:
    table = affectcore.Scorer(metrics="apologies").score(
        [
            "I\u2019m so sorry.",
            "Sorry, that was wrong.",
            "I am sorry to hear that.",
            "I'm sorry you\u2019re going through it",
        ]
    )
    assert [value > 0 for value in table["apologies"].to_pylist()] == [True, True, False, False]


def test_self_blame_has_full_and_contracted_forms() -> None:
    entries = {entry for entry, _ in rows("self_blame")}
    full = {entry.removeprefix("i am ") for entry in entries if entry.startswith("i am ")}
    contracted = {entry.removeprefix("i'm ") for entry in entries if entry.startswith("i'm ")}
    assert len(full) > 20
    assert full <= contracted


def test_the_loader_reads_what_the_files_hold() -> None:
    from affectcore import lexicons

    assert set(lexicons.LISTS) == set(SIZES)
    for name in SIZES:
        assert lexicons.read_list(name) == ([entry for entry, _ in rows(name)], exceptions(name))


def vader_rows(name: str, columns: int) -> list[list[str]]:
    content = (VADER / name).read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"\n")
    table = [line.split("\t") for line in content.decode("utf-8").removesuffix("\n").split("\n")]
    assert all(len(fields) == columns and all(fields) for fields in table)
    return table


def test_vader_files_have_one_line_per_key() -> None:
    for name, columns, lines in (("lexicon.tsv", 2, 7506), ("emoji.tsv", 2, 3570), ("rules.tsv", 3, 152)):
        table = vader_rows(name, columns)
        assert len(table) == lines
        assert len({tuple(fields[: columns - 1]) for fields in table}) == lines
    rules = vader_rows("rules.tsv", 3)
    assert rules == sorted(rules)
    assert Counter(kind for kind, _, _ in rules) == {"booster": 84, "idiom": 9, "negation": 59}


def test_vader_notice_is_shipped() -> None:
    notice = (VADER / "LICENSE.txt").read_text(encoding="utf-8")
    assert "The MIT License (MIT)" in notice
    assert "C.J. Hutto" in notice
    assert "3.3.2" in (VADER / "README.md").read_text(encoding="utf-8")


def test_vader_files_equal_the_published_package() -> None:
    peer = pytest.importorskip("vaderSentiment.vaderSentiment", reason="vaderSentiment is not installed")
    analyzer = peer.SentimentIntensityAnalyzer()
    lexicon = vader_rows("lexicon.tsv", 2)
    assert [(key, float(value)) for key, value in lexicon] == list(analyzer.lexicon.items())
    emoji = vader_rows("emoji.tsv", 2)
    assert [(key, value) for key, value in emoji] == list(analyzer.emojis.items())
    rules = {(kind, phrase): float(value) for kind, phrase, value in vader_rows("rules.tsv", 3)}
    expected = {("booster", phrase): value for phrase, value in peer.BOOSTER_DICT.items()}
    expected |= {("idiom", phrase): value for phrase, value in peer.SPECIAL_CASES.items()}
    expected |= {("negation", phrase): peer.N_SCALAR for phrase in peer.NEGATE}
    assert rules == expected


def test_vader_means_keep_the_published_digits() -> None:
    peer = pytest.importorskip("vaderSentiment.vaderSentiment", reason="vaderSentiment is not installed")
    published: dict[str, str] = {}
    source = Path(peer.__file__).with_name("vader_lexicon.txt").read_text(encoding="utf-8")
    for line in source.rstrip("\n").split("\n"):
        if line:
            key, mean, *_ = line.strip().split("\t")
            published[key] = mean
    assert dict(vader_rows("lexicon.tsv", 2)) == published


@pytest.fixture(scope="module")
def demo() -> list[dict[str, object]]:
    content = DEMO.read_bytes()
    assert b"\r" not in content
    assert content.endswith(b"\n")
    return [json.loads(line) for line in content.decode("utf-8").removesuffix("\n").split("\n")]


def test_demo_columns_and_types(demo: list[dict[str, object]]) -> None:
    types = dict.fromkeys(("model", "prompt_id", "conversation_id", "role", "prompt", "response"), str) | {"turn": int}
    for row in demo:
        assert list(row) == ["model", "prompt_id", "conversation_id", "turn", "role", "prompt", "response"]
        assert {name: type(value) for name, value in row.items()} == types
        assert row["role"] == "assistant"
        assert all(str(value).strip() for value in row.values())


def test_demo_is_a_full_grid_of_models_prompts_and_turns(demo: list[dict[str, object]]) -> None:
    assert len(demo) == 96
    grid: dict[object, list[tuple[object, object, object]]] = {}
    for row in demo:
        grid.setdefault(row["model"], []).append((row["prompt_id"], row["turn"], row["prompt"]))
    assert list(grid) == ["demo/sunny-1", "demo/steady-2", "demo/gloomy-3", "demo/flatter-4"]
    first, *others = grid.values()
    assert all(other == first for other in others), "every model answers the same user messages in the same order"
    turns = Counter(prompt_id for prompt_id, _, _ in first)
    assert sorted(turns.values()) == [1] * 8 + [4] * 4
    for prompt_id, n in turns.items():
        assert [turn for p, turn, _ in first if p == prompt_id] == list(range(n))


def test_demo_conversations_and_responses_are_distinct(demo: list[dict[str, object]]) -> None:
    assert len({row["conversation_id"] for row in demo}) == 48
    assert len({(row["model"], row["prompt_id"], row["conversation_id"]) for row in demo}) == 48
    responses = [str(row["response"]) for row in demo]
    assert len(set(responses)) == 96
    assert min(len(text.split()) for text in responses) >= 15
    assert max(len(text.split()) for text in responses) <= 150


def test_demo_models_differ_in_what_they_caricature(demo: list[dict[str, object]]) -> None:
    texts: dict[str, str] = {}
    for row in demo:
        name = str(row["model"])
        texts[name] = f"{texts.get(name, '')} {row['response']}"

    def rate(model: str, name: str) -> float:
        tokens = [as_token(word).lower() for word in texts[model].split()]
        text = f" {' '.join(tokens)} "
        return 100 * sum(text.count(f" {entry} ") for entry, _ in rows(name)) / len(tokens)

    def highest(name: str) -> str:
        return max(texts, key=lambda model: rate(model, name))

    assert highest("flattery") == "demo/flatter-4"
    assert highest("self_blame") == highest("apologies") == "demo/gloomy-3"
    assert highest("hedges") == "demo/steady-2"
    assert max(texts, key=lambda model: texts[model].count("!")) == "demo/sunny-1"
    assert rate("demo/steady-2", "self_blame") == rate("demo/sunny-1", "self_blame") == 0


def test_demo_is_labelled_as_made_up() -> None:
    readme = (DEMO.parent / "README.md").read_text(encoding="utf-8")
    assert "made up" in readme
    for model in ("sunny-1", "steady-2", "gloomy-3", "flatter-4"):
        assert model in readme
