r"""Text is data: what a text or a name must go through on its way out, one function per way.

Texts, cards and the names of models, columns, labels and files come from others. Nothing in them may steer a terminal,
run in a spreadsheet, become markup of a page or a document, or leave a folder. The ways out are `terminal` and `line`
(with `rich` for tables, `shell` for commands to copy), `csv`, `markdown` and `code`, `html`, `json` and `file_name`.
Parquet and Arrow files hold texts as they are, and so does JSON, whose own escapes are read back.

What would steer a display is shown in one way everywhere: a control character as its picture (``␛`` for ESC), marks of
direction, separators and invisible characters as their code (``[U+202E]``), lone surrogates as U+FFFD. Everything else
stays, among it every letter, and what joins emoji and letters, where it joins them.

Every command imports this, so it imports little by itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "CSV_MARK",
    "HIDDEN",
    "code",
    "csv",
    "file_name",
    "from_csv",
    "html",
    "json",
    "line",
    "markdown",
    "rich",
    "shell",
    "terminal",
]

# C1 controls too: terminals take U+009B for ESC [. Then marks of direction, separators, fillers that look like nothing,
# and what is no character. Tabs and line feeds are looked at by `line`.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000\U000e0002-\U000e001f\U000e0080-\U000e00ff\U000e01f0-\U000e0fff"
) + "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0x10000, 0x110000, 0x10000))
# Joiners, variation selectors and tags: they shape emoji and letters, and hide messages everywhere else.
_SHAPING = "\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f\U000e0001\U000e0020-\U000e007f\U000e0100-\U000e01ef"
_STEERING = re.compile(f"([{_HIDDEN}])|[{_SHAPING}]+")
_SHAPES = re.compile("([^\u200c\u200d\U000e0001-\U000e007f]?)([\u200c\u200d]?)")  # a selector, and a joiner
_JOINED = {"Lo", "Lm", "Mn", "Mc", "So", "Sk"}  # letters without case, their marks, emoji
HIDDEN = "[" + _HIDDEN.replace("\x00", r"\x00").replace("\ud800-\udfff", "") + "]"
"""Pattern of what is never kept, in the syntax of re and RE2; joiners, selectors and tags depend on their place."""
_FLAG = re.compile("[\U000e0030-\U000e007a]{1,6}\U000e007f")  # behind a black flag: England, Scotland, Wales, Texas

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# What begins a formula, in all widths, at the start of a cell or where another locale's separator starts one.
_FORMULA = "[=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b]"
_BEFORE = "['\" \u00a0\u3000]*"
_CELL = re.compile(f"(^|;)({_BEFORE}{_FORMULA})")
CSV_MARK = f"(^|;)'({_BEFORE}{_FORMULA})"
r"""Pattern of a mark that `csv` set, in the syntax of re and RE2; ``\1\2`` in its place takes the mark away."""

_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)  # on Windows
_LONGEST = 180  # bytes of a file's name: most file systems take 255, and an ending is still to come


def terminal(text: str) -> str:
    r"""Return a text for a terminal, on as many lines as it has.

    Tabs and line feeds stay, and CR LF becomes a line feed. The same text on a page: `html`.
    """
    return _STEERING.sub(_shown, text.replace("\r\n", "\n"))


def line(text: str) -> str:
    """Return a text for a terminal or a figure on one line: line feeds and tabs become pictures, too."""
    return _STEERING.sub(_shown, text).replace("\n", "\u240a").replace("\t", "\u2409")


def rich(text: str, style: str = "") -> Text:
    """Return a text on one line for rich, without its markup. A `Text` made elsewhere drops some controls silently."""
    from rich.text import Text

    return Text(line(text), style)


def shell(text: str) -> str:
    """Return a word for a POSIX shell, for commands to copy: quoted, and what would steer a terminal as bytes."""
    import shlex

    if line(text) == text:
        return shlex.quote(text)
    known = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)  # the others are bytes of a file's name
    data = known.encode("utf-8", "surrogateescape")
    return "$'" + "".join(chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in data) + "'"


def csv(value: Any) -> Any:
    """Return a value for a cell of a CSV file that a spreadsheet shows and does not run.

    Numbers (what is not str) stay numbers. A str is on one line, and one that a spreadsheet would take for a formula
    gets an apostrophe in front, as spreadsheets themselves mark text; a str that is a number, such as ``-0.5``, does
    not. `from_csv` takes the mark away: that is how names come back where the engine reads CSV files.
    """
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    return _CELL.sub(r"\1'\2", line(value))


def from_csv(text: str) -> str:
    """Return the text of a cell without the mark that `csv` set."""
    return re.sub(CSV_MARK, r"\1\2", text)


def markdown(text: str, *, cell: bool = False) -> str:
    """Return a text for a line of Markdown, where it shows as it is; `cell` for one that no line begins with.

    Only what would be markup gets a backslash, so that ordinary names stay as they are in the source, too.
    """
    text = re.sub(r"[\\`*|~$]", r"\\\g<0>", line(text).strip(" "))
    text = re.sub(r"(?<![^\W_])(?<!_)_+|_+(?![^\W_]|_)", lambda found: "\\_" * len(found[0]), text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    text = re.sub(r"\](?=[(\[:{])", r"\\]", text)  # links, images, and what they refer to
    if cell:
        return text
    text = re.sub(r"\A(#{1,6}(?=\s|\Z)|>|[-+](?=\s|\Z)|[-=](?=[-= ]*\Z))", r"\\\1", text)
    return re.sub(r"\A([0-9]{1,9})(?=[.)](?:\s|\Z))", r"\1\\", text)


def code(text: str) -> str:
    """Return a text as code in Markdown, also within a table."""
    text = line(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    gap = " " if not text.strip(" ") or text[:1] in "` " or text[-1:] in "` " else ""
    return f"{fence}{gap}{text}{gap}{fence}"


def html(text: str) -> str:
    """Return a text for HTML, as content or in quotes as an attribute's value; never as a URL, script or style."""
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(char, entity)
    return terminal(text)


def json(value: Any, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Return plain values as one JSON text without a final line feed.

    Readers get back the same strings, but for lone surrogates, which become U+FFFD. What is not finite becomes null,
    and `default` gives a plain value for what JSON has no form of.
    """
    from json import dumps

    try:
        text = dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=default)
    except ValueError:
        text = dumps(_finite(value), ensure_ascii=False, allow_nan=False, indent=indent, default=default)
    return _STEERING.sub(lambda found: found[0] if _shown(found) == found[0] else _json_escaped(found[0]), text)


def file_name(text: str) -> str:
    """Return a text as the name of a file, without its ending: letters, digits, ``_``, ``.`` and ``-``.

    The name stays in its folder, is not hidden, is none that Windows keeps for devices, and has at most 180 bytes.
    Different texts can get the same name.
    """
    name = re.sub(r"[^\w.-]", "_", text).encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
    name = re.sub(r"\A\.|\.\Z", "_", name)
    return f"_{name}" if not name or _RESERVED.fullmatch(name) else name


def _shown(found: re.Match[str]) -> str:
    """Show a hidden character, or those of a run of joiners, selectors and tags that join and select nothing."""
    run, number = found[0], ord(found[0][0])
    if found[1]:
        if number < 0x20 or number == 0x7F:
            return "\u2421" if number == 0x7F else chr(0x2400 + number)
        return "\ufffd" if 0xD800 <= number < 0xE000 else _code(run)
    before = found.string[found.start() - 1 : found.start()]
    if before == "\U0001f3f4" and _FLAG.fullmatch(run):
        return run
    shapes = _SHAPES.match(run)
    assert shapes is not None
    seen = before and not _STEERING.match(before)
    selects = seen and (before in "0123456789#*" or (before > "\x7f" and not before.isspace()))
    joins = seen and unicodedata.category(before) in _JOINED
    kept = 0 if shapes[1] and not selects else shapes.end(2 if joins else 1)
    return run[:kept] + "".join(map(_code, run[kept:]))


def _code(char: str) -> str:
    return f"[U+{ord(char):04X}]"


def _json_escaped(text: str) -> str:
    units = re.sub("[\ud800-\udfff]", "\ufffd", text).encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _finite(value: Any) -> Any:
    """Return plain values with None in place of NaN and infinity."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
