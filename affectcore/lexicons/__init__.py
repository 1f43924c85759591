"""Word lists and VADER's lexicon, compiled into the tables that the kernels take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from affectcore.kernels.tone.tables import NAMED, Categories, Rules, build_categories, build_rules
from affectcore.kernels.words.tables import MAX_KEY, Alphabet, Vocabulary, build_alphabet, build_vocabulary

FOLDER = Path(__file__).parent
LISTS = (
    "first_person",
    "absolutist",
    "hedges",
    "boosters",
    "apologies",
    "self_blame",
    "hopelessness",
    "giving_up",
    "flattery",
    "gratitude",
)

# Punctuation that stands around short words in prose and Markdown.
_BEFORE = ("(", '"', "'", "*", "**", "_", "[", "-", "...", "\u201c", "\u2018", "\u2014", "\u2026", '("', "(\u201c")
_AFTER: tuple[str, ...] = (
    ",",
    ".",
    "!",
    "?",
    ";",
    ":",
    ")",
    '"',
    "'",
    "*",
    "**",
    "_",
    "]",
    "-",
    "...",
    "!!",
    "!!!",
    "),",
    ").",
    ',"',
    '."',
)
_AFTER += ('?"', '!"', "\u201d", "\u2019", "\u2014", "\u2026", ",\u201d", ".\u201d", "?\u201d", "!\u201d")
_AROUND = [*((b, "") for b in _BEFORE), *(("", a) for a in _AFTER)]
_AROUND += [
    ("(", ")"),
    ('"', '"'),
    ("'", "'"),
    ("*", "*"),
    ("**", "**"),
    ("_", "_"),
    ("\u201c", "\u201d"),
    ("\u2018", "\u2019"),
]


@dataclass(frozen=True)
class Lexicons:
    """Everything the lexical metrics look up.

    Attributes
    ----------
    alphabet, vocabulary, rules, categories
        Tables of the `words` and `tone` kernels.
    lists
        Names of the word lists, in the order of the rows that the `count` op returns.
    """

    alphabet: Alphabet
    vocabulary: Vocabulary
    rules: Rules
    categories: Categories
    lists: tuple[str, ...]


def read_list(name: str) -> tuple[list[str], list[str]]:
    """Return the entries and the exceptions (written with a minus before them) of the word list `name`."""
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.partition("\t")[0] for line in lines if line and not line.startswith("#")]
    return [e for e in entries if e[0] != "-"], [e[1:] for e in entries if e[0] == "-"]


def _read_table(name: str) -> list[list[str]]:
    lines = (FOLDER / "vader" / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines]


def _with_curly_apostrophes(entry: str) -> list[str]:
    return [entry, entry.replace("'", "\u2019")] if "'" in entry else [entry]


def with_punctuation(word: str) -> list[str]:
    """Return how a word of one or two letters, whose punctuation the kernels keep, stands in prose and Markdown."""
    return [f"{before}{word}{after}" for before, after in _AROUND]


@lru_cache(maxsize=1)
def load() -> Lexicons:
    """Read the files and build the tables, once per process."""
    # vaderSentiment looks up word.lower(), so a key with capitals or spaces in it never matches.
    lexicon = {
        k: float(v) for k, v in _read_table("lexicon.tsv") if k == k.lower() and k.isascii() and k.split() == [k]
    }
    emoji: dict[str, str] = {char: text for char, text in _read_table("emoji.tsv")}  # noqa: C416 (rows are lists)
    rules: dict[str, dict[str, float]] = {"booster": {}, "idiom": {}, "negation": {}}
    for kind, phrase, value in _read_table("rules.tsv"):
        rules[kind][phrase] = float(value)
    lists, exceptions = (
        [[form for entry in entries for form in _with_curly_apostrophes(entry)] for entries in kind]
        for kind in zip(*(read_list(name) for name in LISTS))
    )

    words: dict[str, None] = dict.fromkeys([*lexicon, *NAMED])
    for entries in (*rules.values(), *lists, *exceptions):
        words.update(dict.fromkeys(word for entry in entries for word in entry.split()))
    keys = [word for word in words if len(word.encode()) <= MAX_KEY]
    ids = {word: k for k, word in enumerate(keys, 1)}
    # VADER keeps the punctuation around words of one or two letters: "(I" and "me." are no "I" and "me" to it. The
    # lists mean the word all the same: such spellings get its id, unless VADER has a rule for the word.
    spellings = dict(ids)
    vader = {word for phrase in (*lexicon, *NAMED, *rules["booster"], *rules["negation"]) for word in phrase.split()}
    for word in (w for w in keys if len(w) <= 2 and w.isalpha() and w not in vader):
        for spelling in with_punctuation(word):
            spellings.setdefault(spelling, ids[word])
    return Lexicons(
        alphabet=build_alphabet(emoji),
        vocabulary=build_vocabulary([word.encode() for word in spellings], list(spellings.values())),
        rules=build_rules(ids, lexicon, rules["booster"], list(rules["negation"]), rules["idiom"]),
        categories=build_categories(ids, lists, exceptions),
        lists=LISTS,
    )
