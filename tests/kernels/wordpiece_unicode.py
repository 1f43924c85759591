"""Generates kernels/wordpiece/unicode_data.py: what Hugging Face `tokenizers` takes each code point for.

BERT-type tokenizers ask five questions of every character, and the crates that answer them follow several versions of
Unicode, none of them Python's. So the answers are probed, code point by code point, and written down. Run as
`python tests/kernels/wordpiece_unicode.py` after a new release of `tokenizers`; a test says when that is due.
"""

from __future__ import annotations

import base64
import unicodedata
import zlib
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[2] / "kernels" / "wordpiece" / "unicode_data.py"
_HANGUL = range(0xAC00, 0xD7A4)
_END = 0x110000


def probe() -> dict[str, np.ndarray]:
    """Return the arrays that `unicode_data` holds, by name; `kernels/wordpiece/tables.py` says what they mean."""
    from tokenizers import normalizers, pre_tokenizers

    def bert(**on: bool) -> normalizers.BertNormalizer:
        options = dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), False)
        return normalizers.BertNormalizer(**{**options, **on})

    points = [c for c in range(_END) if not 0xD800 <= c < 0xE000]
    nfd, lower, split = normalizers.NFD(), normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    clean, cjk, strip = bert(clean_text=True), bert(handle_chinese_chars=True), bert(strip_accents=True)

    decomposed = {c: s for c in points if (s := nfd.normalize_str(chr(c))) != chr(c)}
    if any(unicodedata.normalize("NFD", chr(c)) != decomposed.pop(c) for c in _HANGUL):
        raise SystemExit("Hangul syllables do not decompose by arithmetic")
    lowered = {c: s for c in points if (s := lower.normalize_str(chr(c))) != chr(c)}
    pieces = {c: [s for s, _ in split.pre_tokenize_str(f"a{chr(c)}b")] for c in points}
    cleaned = {c: clean.normalize_str(chr(c)) for c in points}
    white = [c for c in points if pieces[c] == ["a", "b"]]
    if any(cleaned[c] not in (("", " ") if c in set(white) else ("", chr(c))) for c in points):
        raise SystemExit("clean_text does more than dropping and blanking")
    classes = {
        "control": [c for c in points if cleaned[c] == ""],
        "white": white,
        "punctuation": [c for c in points if pieces[c] == ["a", chr(c), "b"]],
        "ideograph": [c for c in points if cjk.normalize_str(chr(c)) == f" {chr(c)} "],
        "nonspacing": [c for c in points if c not in decomposed and strip.normalize_str(chr(c)) == ""],
    }
    out = {name: _ranges(members) for name, members in classes.items()}
    out["nfd"] = np.array([v for c, s in decomposed.items() for v in (c, len(s), *map(ord, s))], np.int32)
    out["lower"] = np.array([v for c, s in lowered.items() for v in (c, len(s), *map(ord, s))], np.int32)

    # Canonical combining classes, from what NFD puts before what: one mark of each class to compare with, so old
    # (Unicode 3.2) that every crate knows it. U+1DCE is the one mark of class 214.
    old = unicodedata.ucd_3_2_0.combining
    marks = {214: 0x1DCE, **{old(chr(c)): c for c in reversed(points) if old(chr(c))}}
    last = chr(marks[max(marks)])
    first = chr(marks[min(marks)])

    def before(a: str, b: str) -> bool:
        return nfd.normalize_str(f"a{b}{a}") == f"a{a}{b}"

    combining = [c for c in points if c not in decomposed and c not in _HANGUL]
    combining = [c for c in combining if before(chr(c), last) or (chr(c) != first and before(first, chr(c)))]
    above = [[k for k, m in sorted(marks.items()) if m == c or not before(chr(c), chr(m))] for c in combining]
    out["combining"] = np.array([v for c, k in zip(combining, above) for v in (c, max(k))], np.int32)
    if (
        set(combining) & set(classes["punctuation"])
        or {0x345: 240, 0x301: 230}.items() - dict(out["combining"].reshape(-1, 2).tolist()).items()
    ):
        raise SystemExit("combining classes make no sense")
    return out


def _ranges(members: list[int]) -> np.ndarray:
    """Return first and last + 1 of each run of code points, end to end."""
    points = np.array(members, np.int32)
    cut = np.flatnonzero(np.diff(points) > 1)
    return np.column_stack([points[np.r_[0, cut + 1]], points[np.r_[cut, -1]] + 1]).ravel().astype(np.int32)


def render(arrays: dict[str, np.ndarray]) -> str:
    """Return the module's source."""
    lines = [
        '"""Properties of code points as Hugging Face `tokenizers` has them; `tables.py` says what they mean.',
        "",
        "Made by tests/kernels/wordpiece_unicode.py: base 85 of zlib-compressed little-endian int32 differences.",
        '"""',
        "",
        "DATA = {",
    ]
    for name, values in arrays.items():
        raw = np.diff(values, prepend=0).astype("<i4").reshape(-1, 1).view(np.uint8).T.tobytes()
        text = base64.b85encode(zlib.compress(raw, 9)).decode()
        pieces = [f'"{text[k : k + 108]}"' for k in range(0, len(text), 108)]
        if len(pieces) == 1:
            lines += [f'    "{name}": ({pieces[0]}),']
        else:
            lines += [f'    "{name}": (', *(f"        {piece}" for piece in pieces), "    ),"]
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    TARGET.write_text(render(probe()), encoding="utf-8")
