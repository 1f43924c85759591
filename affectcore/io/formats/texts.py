"""Which column holds the text, and how to get the text out of it without a Python loop over the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from affectcore.errors import UsageError, suggest
from affectcore.io.formats.base import can_keep, from_views, plain_type

TEXT_COLUMNS = (
    "text",
    "response",
    "output",
    "completion",
    "answer",
    "generated_text",
    "generation",
    "content",
    "messages",
)
"""Names tried in this order where none is given."""

CHAT_COLUMNS = ("messages", "conversation", "conversations", "transcript", "chat", "dialogue", "conversation_history")
"""Names tried before them where whole conversations are wanted, if they hold chat messages."""

CONVERSATION_COLUMNS = ("conversation_id", "conv_id", "dialogue_id", "chat_id", "session_id")
"""Columns that are taken for the conversation of a row where there is a column `role`, too."""

ASSISTANT = "assistant"

_ROLES = {
    **{name: name for name in ("system", "developer", "user", ASSISTANT, "tool", "function")},
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bot", "chatbot", "model", "ai"), ASSISTANT),
}
"""What well-known formats call a role (ShareGPT, Gemini, LangChain, OpenAssistant, Cohere), in lower case."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields of a message that hold its reasoning, and types of parts of its content."""


@dataclass(frozen=True)
class TextColumn:
    """The text column: a top-level column and the struct fields that lead from it to the text."""

    column: str
    fields: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The dotted path."""
        return ".".join((self.column, *self.fields))


def pick_text(schema: pa.Schema, text: str | None, path: str | Path, chats: bool = False) -> TextColumn:
    """Find the text column of a schema.

    Parameters
    ----------
    schema
        Schema of the file.
    text
        Name or dotted path, or None for the first of `TEXT_COLUMNS` that is there and holds text.
    path
        The file, for messages.
    chats
        Whether columns of chat messages go before texts.

    Raises
    ------
    UsageError
        There is no such column, or it does not hold text; names the columns there are.
    """
    names = schema.names
    listing = f"the columns are: {', '.join(names) or '(none)'}"
    if text is None:
        for name in CHAT_COLUMNS if chats else ():
            if names.count(name) == 1 and is_chat(schema.field(name).type):
                return TextColumn(name)
        for name in TEXT_COLUMNS:
            if names.count(name) == 1 and is_text(schema.field(name).type):
                return TextColumn(name)
        for name in TEXT_COLUMNS:
            if names.count(name) > 1:
                raise UsageError(f"{path}: column {name!r} is there twice; rename one of them")
        unfit = ", ".join(f"{f.name!r} is {str(f.type).partition('<')[0]}" for f in schema if f.name in TEXT_COLUMNS)
        raise UsageError(
            f"{path}: no text column found{f' ({unfit})' if unfit else ''}; {listing}. Name the one that holds the"
            " text with --text (a dotted path such as response.text reaches into structs)"
        )
    found = split_path(text, names)
    if found is None:
        raise UsageError(f"{path}: no column {text!r}{suggest(text, names)}; {listing}")
    if names.count(found.column) > 1:
        raise UsageError(f"{path}: column {found.column!r} is there twice; rename one of them")
    dtype = schema.field(found.column).type
    for depth, field in enumerate(found.fields):
        parent = ".".join((found.column, *found.fields[:depth]))
        if not pa.types.is_struct(dtype):
            raise UsageError(f"{path}: {parent!r} is {dtype}, not a struct, so there is no {text!r}; {listing}")
        inner = [dtype.field(i).name for i in range(dtype.num_fields)]
        if field not in inner:
            raise UsageError(
                f"{path}: {parent!r} has no field {field!r}{suggest(field, inner)}; its fields are: {', '.join(inner)}"
            )
        dtype = dtype.field(field).type
    if not is_text(dtype):
        hint = ""
        if pa.types.is_struct(dtype):
            inner = [dtype.field(i).name for i in range(dtype.num_fields)]
            hint = f"; reach into it with a dotted path such as {text}.{inner[0]}" if inner else ""
        raise UsageError(f"{path}: column {text!r} is {dtype}, which holds no text{hint}; {listing}")
    return found


def type_of(schema: pa.Schema, found: TextColumn) -> pa.DataType:
    """Return the type of what a `TextColumn` leads to."""
    dtype = schema.field(found.column).type
    for field in found.fields:
        dtype = dtype.field(field).type
    return dtype.storage_type if isinstance(dtype, pa.BaseExtensionType) else dtype


def split_path(text: str, names: list[str]) -> TextColumn | None:
    """Split a dotted path at the longest prefix that is a column: names may hold dots themselves."""
    pieces = text.split(".")
    for k in range(len(pieces), 0, -1):
        column = ".".join(pieces[:k])
        if column in names:
            return TextColumn(column, tuple(pieces[k:]))
    return None


def is_text(dtype: pa.DataType) -> bool:
    """Say whether a column of this type holds texts or chat messages."""
    return is_string(dtype) or is_chat(dtype)


def is_chat(dtype: pa.DataType) -> bool:
    """Say whether a type is a list of messages, structs with ``role`` and ``content`` or ``from`` and ``value``."""
    if not (_is_list(dtype) and pa.types.is_struct(dtype.value_type)):
        return False
    item = dtype.value_type
    names = {item.field(i).name for i in range(item.num_fields)}
    role, content = message_fields(names)
    return role in names and content in names and _is_content(item.field(content).type)


def message_fields(names: Collection[str]) -> tuple[str, str]:
    """Return the names of the fields with the role and the content of messages that have fields `names`."""
    return ("from", "value") if "role" not in names and "from" in names else ("role", "content")


def known_role(role: str) -> str:
    """Return the role that a well-known name stands for, in whatever case; other names stay as they are."""
    return _ROLES.get(role.strip().lower(), role)


def known_roles(roles: pa.Array) -> pa.Array:
    """Return an array of roles, of any type of text, with the names that `known_role` gives them."""
    wide = pa.types.is_large_string(roles.type) or pa.types.is_large_binary(roles.type)
    raw = roles.cast(pa.large_binary() if wide else pa.binary())  # a string may hold bytes that are no UTF-8
    names = pc.unique(raw).drop_null()
    before = [name.decode("utf-8", "surrogateescape") for name in names.to_pylist()]
    after = [known_role(name) for name in before]
    if after == before:
        return roles
    called = pa.array([name.encode("utf-8", "surrogateescape") for name in after], raw.type)
    return called.take(pc.index_in(raw, names)).view(roles.type)


def extract(column: pa.Array, fields: tuple[str, ...] = ()) -> pa.Array:
    """Return the texts of a column, one per row.

    Parameters
    ----------
    column
        Array of a type that `is_text` accepts, or a struct when `fields` are given.
    fields
        Struct fields that lead to the text.

    Returns
    -------
    pyarrow.Array
        string, large_string, binary or large_binary; null where the row, a struct on the way, or the last assistant
        message is null or missing.
    """
    column = reach(column, fields)
    return last_assistant(column) if is_chat(column.type) else strings(column)


def reach(column: pa.Array, fields: tuple[str, ...] = ()) -> pa.Array:
    """Follow struct fields into a column."""
    for field in fields:
        column = pc.struct_field(storage(column), [field])
    return storage(column)


def last_assistant(chats: pa.Array) -> pa.Array:
    """Return the content of the last assistant message of each conversation; null where there is none.

    Parameters
    ----------
    chats
        list (also large or fixed-size) array of structs with the fields `message_fields`; content as in `content_of`.
    """
    if not (pa.types.is_list(chats.type) or pa.types.is_large_list(chats.type)):  # fixed-size lists, list views
        chats = chats.cast(pa.large_list(chats.type.value_type))
    n = len(chats)
    messages = chats.values
    role_field, content_field = message_fields({field.name for field in messages.type})
    role = known_roles(strings(pc.struct_field(messages, [role_field])))
    is_answer = pc.fill_null(pc.equal(role.cast(pa.large_binary()), pa.scalar(b"assistant", pa.large_binary())), False)
    mask = is_answer.to_numpy(zero_copy_only=False)
    # latest[j]: the last assistant message among messages 0..j-1; -1 for none.
    latest = np.full(len(mask) + 1, -1, dtype=np.int64)
    if len(mask):
        np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1), out=latest[1:])
    offsets = chats.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    last = latest[offsets[1:]] if n else np.zeros(0, np.int64)
    missing = last < offsets[:-1]
    if chats.null_count:
        missing |= pc.is_null(chats).to_numpy(zero_copy_only=False)
    at = pa.array(np.where(missing, 0, last), mask=missing)
    return or_refusal(content_of(pc.struct_field(messages, [content_field]).take(at))[0], messages, at)


def or_refusal(content: pa.Array, messages: pa.Array, at: pa.Array | None = None) -> pa.Array:
    """Return contents, and where a message has none, what it refuses with: OpenAI's format has a field for that.

    Parameters
    ----------
    content
        Texts of messages.
    messages
        The messages as structs, with or without the field ``refusal``.
    at
        Which of them the contents are of, int64; None for all, in order.
    """
    names = {messages.type.field(i).name for i in range(messages.type.num_fields)}
    if "refusal" not in names or not is_string(messages.type.field("refusal").type):
        return content
    refusal = strings(pc.struct_field(messages, ["refusal"]))
    if at is not None:
        refusal = refusal.take(at)
    blank = pc.fill_null(pc.equal(pc.binary_length(content), 0), True)
    said = pc.fill_null(pc.greater(pc.binary_length(refusal), 0), False)
    chosen = pc.and_(blank, said)
    if not pc.any(chosen).as_py():
        return content
    wide, text = pa.large_binary(), pa.large_string()
    made = pc.if_else(chosen, refusal.cast(wide), content.cast(wide))
    both = pa.types.is_string(content.type) or pa.types.is_large_string(content.type)
    return made.view(text) if both and not pa.types.is_binary(refusal.type) else made


def content_of(content: pa.Array) -> tuple[pa.Array, pa.Array | None]:
    """Return the texts of the contents of messages, and the reasoning among them, if there is any.

    Parameters
    ----------
    content
        Array of strings, of structs with ``answer`` or ``text``, or of lists of parts: the ``text`` of parts is joined
        with line ends, and apart from it that of parts whose ``type`` is `REASONING`; other parts (images, audio) have
        no text. A list of nothing but such parts is null.
    """
    content = storage(content)
    dtype = content.type
    if pa.types.is_struct(dtype):
        return strings(pc.struct_field(content, [_answer_field(dtype)])), None
    if not _is_list(dtype):
        return strings(content), None
    if not pa.types.is_list(dtype):
        content = content.cast(pa.list_(dtype.value_type))
    parts = content.flatten()
    names = [parts.type.field(i).name for i in range(parts.type.num_fields)]
    text = strings(pc.struct_field(parts, ["text"]))
    thought = np.zeros(len(parts), bool)
    if "type" in names and is_string(parts.type.field("type").type):
        kinds = strings(pc.struct_field(parts, ["type"])).cast(pa.binary())
        known = pa.array([name.encode() for name in REASONING], pa.binary())
        thought = pc.is_in(kinds, value_set=known).to_numpy(zero_copy_only=False)
    bounds = np.concatenate(
        [[0], np.cumsum(pc.fill_null(pc.list_value_length(content), 0).to_numpy(zero_copy_only=False), dtype=np.int64)]
    )
    there = text.is_valid().to_numpy(zero_copy_only=False)
    said = _joined(text, there & ~thought, bounds, (np.diff(bounds) == 0) & content.is_valid().to_numpy(False))
    if not thought.any():
        return said, None
    told = pa.nulls(len(parts), text.type)
    for name in (*REASONING, "text"):
        if name in names and is_string(parts.type.field(name).type):
            told = pc.coalesce(told, strings(pc.struct_field(parts, [name])).cast(text.type))
    there = told.is_valid().to_numpy(zero_copy_only=False)
    return said, _joined(told, there & thought, bounds, np.zeros(len(content), bool))


def _joined(texts: pa.Array, chosen: np.ndarray, bounds: np.ndarray, empty: np.ndarray) -> pa.Array:
    """Join the chosen of each run of texts with line ends; null where there is none, or an empty text where `empty`."""
    count = np.concatenate([[0], np.cumsum(chosen)])[bounds]
    lists = pa.ListArray.from_arrays(pa.array(count.astype(np.int32)), texts.filter(pa.array(chosen)))
    joined = pc.binary_join(lists, pa.scalar("\n", pa.string()).cast(texts.type))
    return pc.if_else(pa.array((np.diff(count) == 0) & ~empty), pa.nulls(len(joined), texts.type), joined)


def strings(column: pa.Array) -> pa.Array:
    """Return a column of any type that holds text as string, large_string, binary or large_binary."""
    column = storage(column)
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        return strings(column.dictionary_decode())
    if pa.types.is_null(dtype):
        return pa.nulls(len(column), pa.string())
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        return from_views(column)
    if pa.types.is_fixed_size_binary(dtype):
        return column.cast(pa.binary())
    return column


def storage(column: pa.Array) -> pa.Array:
    """Return an array without its extension type."""
    return storage(column.storage) if isinstance(column, pa.ExtensionArray) else column


def is_string(dtype: pa.DataType) -> bool:
    """Say whether a type holds texts, in whatever way."""
    if isinstance(dtype, pa.BaseExtensionType):
        return is_string(dtype.storage_type)
    if pa.types.is_dictionary(dtype):
        return is_string(dtype.value_type)
    return bool(
        pa.types.is_string(dtype)
        or pa.types.is_large_string(dtype)
        or pa.types.is_binary(dtype)
        or pa.types.is_large_binary(dtype)
        or pa.types.is_string_view(dtype)
        or pa.types.is_binary_view(dtype)
        or pa.types.is_null(dtype)
    )


def _is_list(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(dtype)
        or pa.types.is_large_list(dtype)
        or pa.types.is_fixed_size_list(dtype)
        or pa.types.is_list_view(dtype)
        or pa.types.is_large_list_view(dtype)
    )


def _is_content(dtype: pa.DataType) -> bool:
    if is_string(dtype):
        return True
    if pa.types.is_struct(dtype):
        return _answer_field(dtype) is not None
    if _is_list(dtype) and pa.types.is_struct(dtype.value_type):
        item = dtype.value_type
        names = [item.field(i).name for i in range(item.num_fields)]
        return "text" in names and is_string(item.field("text").type)
    return False


def _answer_field(dtype: pa.DataType) -> str | None:
    names = [dtype.field(i).name for i in range(dtype.num_fields)]
    for name in ("answer", "text"):
        if name in names and is_string(dtype.field(name).type):
            return name
    return None


def kept_names(schema: pa.Schema, text_column: str, keep: list[str] | None, path: str | Path) -> list[str]:
    """Return the names of the columns to keep.

    Parameters
    ----------
    schema
        Schema of the file.
    text_column
        Top-level column of the text; left out unless `keep` names it.
    keep
        Exactly these columns, in this order; None for every column that is not nested.
    path
        The file, for messages.

    Raises
    ------
    UsageError
        A named column is missing (the message names the columns there are) or of a type that PyArrow cannot take
        apart, or a name is there twice.
    """
    names = schema.names
    count = Counter(names)
    if keep is None:
        chosen = [f.name for f in schema if f.name != text_column and not pa.types.is_nested(plain_type(f.type))]
    else:
        chosen = list(dict.fromkeys(keep))
        for name in chosen:
            if name not in count:
                raise UsageError(
                    f"{path}: no column {name!r}{suggest(name, names)} to keep; the columns are: {', '.join(names)}"
                )
    for name in chosen:
        if count[name] > 1:
            raise UsageError(f"{path}: column {name!r} is there twice; rename one, or name the columns to --keep")
        if not can_keep(dtype := schema.field(name).type):
            others = ",".join(n for n in chosen if n != name)
            raise UsageError(
                f"{path}: column {name!r} is {dtype}, of which PyArrow cannot take rows; leave it out"
                + (f" with --keep {others}" if others else "")
            )
    return chosen
