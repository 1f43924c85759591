"""Find input files and read them as batches of kept columns and texts.

Formats: Parquet, Arrow IPC (file and stream, so Feather V2 too), JSON Lines, CSV and TSV; the last three also with gzip
or zstd. Reading streams: memory depends on the batch, not on the file.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from affectcore.errors import InputError, UsageError, suggest
from affectcore.io.formats.base import Problem, Reader, Source, text_bytes
from affectcore.io.formats.bytestream import compression_of
from affectcore.io.formats.conversations import TurnTable, TurnTableReader
from affectcore.io.formats.pipe import STDIN, Pipe, is_pipe
from affectcore.io.formats.texts import TEXT_COLUMNS

__all__ = ["FORMATS", "TEXT_COLUMNS", "Problem", "Reader", "Source", "discover", "open_reader", "text_bytes"]

FORMATS = ("auto", "parquet", "ipc", "jsonl", "csv", "tsv")

_EXTENSIONS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".feather": "ipc",
    ".arrows": "ipc",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
}
_ALIASES = {"arrow": "ipc", "feather": "ipc", "ndjson": "jsonl", "json": "jsonl"}
_ERROR_LIST = ".errors.jsonl"  # what could not be scored, beside an output file
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}


def discover(inputs: str | Path | Sequence[str | Path], format: str = "auto") -> list[Source]:
    """Find the files that inputs stand for.

    Parameters
    ----------
    inputs
        Files, folders (searched through, sorted; hidden files, files that begin with an underscore and files of other
        formats are left out) and patterns such as ``dumps/**/*.jsonl``. JSON Lines, CSV, TSV and Arrow IPC streams can
        come through a pipe that is named directly: a FIFO, ``<(command)``, ``/dev/stdin`` or ``-``, which is the same.
    format
        One of `FORMATS`. "auto" goes by the extension and, for a file named directly, by its first bytes; any other
        format takes every visible file of a folder as that. A pipe without an extension needs it.

    Returns
    -------
    list of Source
        In the order of the inputs, sorted within each; a file named twice is there once.

    Raises
    ------
    UsageError
        Unknown format.
    InputError
        An input does not exist, is of no known format, or holds no file that can be read.
    """
    format = _ALIASES.get(format, format)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}{suggest(format, FORMATS)}; formats are: {', '.join(FORMATS)}")
    given = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if not given:
        raise UsageError("no input given")
    sources: dict[str, Source] = {}
    for item in given:
        if not str(item):  # as a path it would be the current folder
            raise UsageError("the name of an input is empty")
        try:
            found = list(_expand(STDIN if str(item) == "-" else str(item), format))
        except OSError as exc:
            raise InputError(item, f"cannot look there: {exc.strerror}", "check the path and its permissions") from exc
        if not found:
            raise InputError(
                item,
                "no file here that can be read",
                "files ending in " + ", ".join(_EXTENSIONS) + " are found by themselves; for others name --format",
            )
        for source in found:
            sources.setdefault(os.path.realpath(source.path), source)
    return list(sources.values())


def open_reader(
    source: Source,
    *,
    text: str | None = None,
    keep: Sequence[str] | None = None,
    batch_bytes: int = 8 << 20,
    view: str = "text",
    conversation: str | None = None,
) -> Reader:
    """Open a source for reading.

    Parameters
    ----------
    source
        One of `discover`'s results.
    text
        Column of the text, or a dotted path into structs; None for the first of `TEXT_COLUMNS` that holds text.
    keep
        Columns to hand on, in this order; None for every column that is not nested and not the text.
    batch_bytes
        Bytes of text in a batch, at most (a longer text is a batch of its own).
    view
        What is delivered of chat messages (structs with ``role`` and ``content``): ``text``, the content of the last
        assistant message; ``messages``, `affectcore.io.formats.conversations.Turns`, all messages of a row, and
        texts with the reasoning in a column beside them. ``turns`` and ``conversations`` deliver those for columns of
        texts, too, whose rows are turns: see `TurnTable`; the latter refuses rows that no column joins to
        conversations.
    conversation
        Column with the id of a row's conversation, where rows are turns; None to guess it.

    Returns
    -------
    Reader
        Iterate over it once for ``(kept, texts)`` batches.

    Raises
    ------
    UsageError
        No such column; names the columns there are.
    InputError
        The file is missing, empty, truncated, damaged or of another format; names the row reached and the remedy.
    """
    if batch_bytes < 1:
        raise UsageError(f"batch_bytes must be at least 1, not {batch_bytes}")
    if conversation is not None and view in ("text", "messages"):
        raise UsageError("--conversation joins rows to conversations: it needs --unit turn or conversation")
    if not _is_utf8(source.path):
        raise InputError(source.path, "its name is not UTF-8, and Arrow opens no other files", "rename it")
    try:
        source.path.stat()
    except OSError as exc:
        raise InputError(source.path, f"cannot open it: {exc.strerror}", "check the path and its permissions") from exc
    reader = _open(source, text, keep, batch_bytes, view != "text")
    if view == "text":
        return reader
    if reader.chat:
        if conversation is not None:
            name = reader.text_column
            reader.close()
            raise UsageError(f"{source.path}: column {name!r} holds whole conversations: leave --conversation out")
        return reader
    if keep is not None:  # the columns that say whose turn it is are needed, kept or not
        reader.close()
        reader = _open(source, reader.text_column, None, batch_bytes, True)
    try:
        needed, documents = view == "conversations", view == "messages"
        table = TurnTable(reader.schema, conversation, source.path, needed=needed, documents=documents)
        if keep is not None:
            reader.close()
            reader = _open(source, reader.text_column, [*keep, *table.uses], batch_bytes, True)
            table.keep(reader.schema, list(dict.fromkeys(keep)))
    except BaseException:
        reader.close()
        raise
    if documents and not table.uses:
        return reader
    return TurnTableReader(reader, table)  # type: ignore[return-value]


def _is_utf8(path: Path) -> bool:
    return not any("\udc80" <= c <= "\udcff" for c in str(path))  # how Python writes bytes that are not


def _open(source: Source, text: str | None, keep: Sequence[str] | None, batch_bytes: int, chats: bool) -> Reader:
    if source.format == "parquet":
        from affectcore.io.formats.parquet import ParquetReader

        return ParquetReader(source, text, keep, batch_bytes, chats)
    if source.format == "ipc":
        from affectcore.io.formats.ipc import IpcReader

        return IpcReader(source, text, keep, batch_bytes, chats)
    if source.format == "jsonl":
        from affectcore.io.formats.jsonl import JsonlReader

        return JsonlReader(source, text, keep, batch_bytes, chats)
    from affectcore.io.formats.delimited import DelimitedReader

    return DelimitedReader(source, text, keep, batch_bytes, chats)


def _expand(item: str, format: str) -> Iterator[Source]:
    path = Path(item)
    if path.is_dir():
        yield from _walk(path, path, format)
    elif path.exists():
        source = _source(path, path.name, format, sniff=True)
        if source is None:
            raise InputError(path, "cannot tell the format", "name it with --format: " + ", ".join(FORMATS[1:]))
        yield source
    elif glob.has_magic(item):
        root = _fixed_part(item)
        matches = sorted(Path(m) for m in glob.glob(item, recursive=True))  # noqa: PTH207
        for match in matches:
            inside = match.relative_to(root)
            if any(_hidden(part) for part in inside.parts) or match.name.endswith(_ERROR_LIST):
                continue
            if match.is_dir():
                # With ** the files inside are matches themselves.
                if "**" not in item:
                    yield from _walk(match, root, format)
            else:
                source = _source(match, inside.as_posix(), format, sniff=True)
                if source is not None:
                    yield source
    else:
        raise InputError(path, "no such file or folder", "check the path")


def _walk(folder: Path, root: Path, format: str) -> Iterator[Source]:
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not _hidden(f))
        for file in sorted(files):
            if _hidden(file) or file.endswith(_ERROR_LIST):
                continue
            path = Path(base, file)
            source = _source(path, path.relative_to(root).as_posix(), format, sniff=False)
            if source is not None:
                yield source


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _fixed_part(pattern: str) -> Path:
    """Return the folder of a pattern that precedes its first wildcard."""
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _source(path: Path, name: str, format: str, sniff: bool) -> Source | None:
    """Return the source of a file, or None where its format is not known."""
    suffixes = [s.lower() for s in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1], "none") if suffixes else "none"
    inner = suffixes[:-1] if compression != "none" else suffixes
    known = _EXTENSIONS.get(inner[-1]) if inner else None
    if format == "auto" and known is None and not sniff:
        return None
    if not path.is_file():
        return _pipe(path, name, known if format == "auto" else format, compression) if sniff else None
    try:
        with path.open("rb") as handle:
            head = handle.read(64)
    except OSError as exc:
        raise InputError(path, f"cannot open it: {exc.strerror}", "check its permissions") from exc
    if compression == "none" and (known in (None, "jsonl", "csv", "tsv")):
        # Named .jsonl, but compressed all the same.
        compression = compression_of(head)
    chosen = format if format != "auto" else known or _sniff(head, compression, inner)
    if chosen is None:
        return None
    if chosen in ("parquet", "ipc") and compression != "none":
        raise InputError(path, f"a {compression} archive of a {chosen} file", "unpack it first")
    return Source(path, chosen, name, compression)


def _pipe(path: Path, name: str, format: str | None, compression: str) -> Source | None:
    if not is_pipe(path):
        return None
    if format is None:
        known = ", ".join(FORMATS[2:])
        raise InputError(path, "cannot tell the format of what comes through a pipe", f"name it with --format: {known}")
    if format == "parquet":
        reason = "a Parquet file cannot be read from a pipe, since its index stands at its end"
        raise InputError(path, reason, "write it to a file and name that")
    return Source(path, format, name, compression, Pipe(path))


def _sniff(head: bytes, compression: str, suffixes: list[str]) -> str | None:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "ipc"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return "jsonl"
    # A .json file, or .json.gz: read as JSON Lines, which says so where it is one document.
    return "jsonl" if suffixes and suffixes[-1] == ".json" else None
