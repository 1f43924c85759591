"""`Scorer`: texts in, score columns out."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from affectcore._version import __version__
from affectcore.arrow import BLOCK_BYTES, blocks, check_table, check_text, ragged
from affectcore.errors import TextError, UsageError, suggest
from affectcore.kernels import dispatch
from affectcore.metrics import context, distress, lexical, registry
from affectcore.metrics.taxonomy import TAXONOMIES
from affectcore.settings import usable_cores

if TYPE_CHECKING:
    from affectcore.io.memory import Texts

UNITS = ("document", "segment", "turn", "conversation")
PARTS = ("answer", "reasoning", "both", "whole")
ROLES = ("assistant", "user", "all")
EXCLUDED = ("code", "quote", "table", "url")
"""Kinds of segments that a model's tone can leave out."""
VADER_MODES = ("exact", "corrected")

_KINDS = ("text", "code", "table", "url", "quote")
_KEYS = {
    "document": (),
    "segment": (
        pa.field("segment", pa.int32()),
        pa.field("segment_start", pa.int32()),
        pa.field("segment_kind", pa.string()),
    ),
    "turn": (pa.field("turn", pa.int32()), pa.field("role", pa.string())),
    "conversation": (pa.field("n_turns", pa.int32()),),
}


class Rows(NamedTuple):
    """What `Scorer.score_rows` returns."""

    batch: pa.RecordBatch  # score columns of `Scorer.schema`
    parents: np.ndarray | None  # int64: the input row of each; None where each input row is one
    unscored: list[int]  # input rows without the model's scores because its logits are not finite
    n_reasoning: int  # texts that had reasoning


class Scorer:
    """Scores texts. Cheap to construct; tables and kernels load when the first text comes.

    It can be copied and pickled: its settings travel, some hundred bytes, and the content hash of the model, which is
    loaded again on the other side. A model directory must be at the same path there, with the same files.

    Parameters
    ----------
    model
        `static` (the default): the embedded model with heads for emotions and valence, arousal, dominance. `none`:
        lexical metrics only. `mini`: the embedded encoder, slower and better. Or a model directory, for example one
        that `affectcore train` made, or a checkpoint in Hugging Face's layout: its directory, or its name on the hub if
        its files are in the hub's cache.
    metrics
        `default` (all that the model allows, but for those that must be asked for), names of metrics or groups,
        comma-separated or as a sequence; see `affectcore metrics`.
    unit
        `document`: one row per text; of a chat, its last assistant message. `segment`: one row per sentence-like span,
        with `segment` (its number within the text), `segment_start` (its first byte) and `segment_kind` (`text`,
        `code`, `table`, `url` or `quote`) before the scores; a null or empty text has no rows, and spans of excluded
        kinds have no scores of a model. `turn`: one row per turn of a conversation, with `turn` (its number among the
        messages, from 0) and `role`; what has no text (a call of a tool) has no row. `conversation`: one row per
        conversation: the means of its turns' scores, the sums of their counts, `n_turns`, and metrics of the whole.
    backend
        `auto` (the CPU kernels), `numba`, `triton` (a GPU) or `reference` (plain Python: slow, for checking).
    logits
        Also write the logits of the model's heads: `logit_<label>` of emotions, `logit_<column>` of other heads.
    vader
        `exact`: equal to vaderSentiment 3.3.2. `corrected`: its rules mended where they misfire
        (`affectcore.kernels.tone` lists how).
    threads
        Threads that `score` uses; default: the cores this process may use.
    taxonomy
        Also write emotions in coarser taxonomies: `ekman`, `plutchik`, `sentiment`, or several.
    precision
        What an encoder computes in: `fp32` (the numbers of transformers), `bf16`, `int8`, or `auto`: int8 for `mini`,
        whose weights are that, where the CPU has instructions for it; else fp32.
    long
        What an encoder makes of documents: `segment` scores every document passage by passage, as the static model
        does; `window` in windows as long as the model allows; `truncate` keeps the beginning of longer ones and says so
        in the column `truncated`; `error` refuses them. It does not matter where `unit` is `segment`.
    parts
        What is scored of an assistant's texts that have reasoning (in `<think>` tags, or a message's field of its own):
        the `answer`, the `reasoning`, `both` (a row for each, with the column `part`), or the `whole` text as it is.
    roles
        Whose turns are scored, with unit `turn` or `conversation`: `assistant`, `user` or, for turns, `all`: system
        prompts and tools, too.
    exclude
        What has no tone: any of `code`, `quote`, `table` and `url`, comma-separated or as a sequence, or `none`. A
        model's scores leave it out; VADER, rates and counts read everything.

    Raises
    ------
    UsageError
        If an argument has no such value; the message names those there are.

    Examples
    --------
    >>> import affectcore as ac
    >>> ac.Scorer(metrics="vader_compound").score(["I love this!", "I hate this."])["vader_compound"].to_pylist()
    [0.6696000099182129, -0.5718999803066254]
    """

    def __init__(
        self,
        model: str = "static",
        metrics: str | Sequence[str] = "default",
        unit: str = "document",
        backend: str = "auto",
        logits: bool = False,
        *,
        vader: str = "exact",
        threads: int | None = None,
        taxonomy: str | Sequence[str] = (),
        precision: str = "auto",
        long: str = "segment",
        parts: str = "answer",
        roles: str = "assistant",
        exclude: str | Sequence[str] = EXCLUDED,
    ) -> None:
        given = dict(locals())  # nothing but the arguments yet
        self._settings = {
            name: tuple(v) if isinstance(v, Collection) and not isinstance(v, str) else v
            for name, v in given.items()
            if name != "self"
        }
        self.unit = _choose("unit", unit, UNITS)
        self.parts = _choose("part", parts, PARTS)
        self.roles = _choose("role", roles, ROLES)
        self.exclude = _kinds(exclude)
        if roles != "assistant" and unit in ("document", "segment"):
            raise UsageError(f"roles are of turns: with {roles!r} the unit is turn or conversation, not {unit}")
        if unit == "conversation" and (parts == "both" or roles == "all"):
            raise UsageError(
                "a conversation is one row: parts are answer, reasoning or whole, and roles assistant or user"
            )
        self.vader = _choose("vader mode", vader, VADER_MODES)
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        self.threads = threads or usable_cores()
        self.model = str(model)
        self._model = _load_model(self.model, precision, long)
        if self._model and self.exclude != EXCLUDED:
            self._model = self._model.excluding(self.exclude)
        heads = self._model.heads if self._model else ()
        counts = self._model.counts if self._model else ()
        if logits and not heads:
            raise UsageError("logits need a model with heads, and model none has none: leave logits out or model in")
        derived = self._model.derived if self._model else ()
        everything = {m.name for m in registry.select("default", heads, (), counts, derived)}
        self.metrics, self._context = self._select(metrics, (heads, taxonomy, counts, derived), everything)
        try:
            self.backend = dispatch.check(backend)
        except dispatch.BackendError as error:
            raise UsageError(str(error)) from None
        shown = [head for head in heads if not head.hidden]
        self._logits = tuple(name for head in shown for name in head.logit_columns) if logits else ()
        of_heads = {column for head in shown for column in head.columns} | set(derived)
        hidden = sorted(context.inputs(self._context, everything) - {m.name for m in self.metrics})
        self._names = {m.name for m in self.metrics} | set(hidden)
        self._rates = self._model.distress.rates if self._model and distress.asked(self._names) else ()
        self._names |= set(self._rates)
        # Columns whose NaN means that there is no value, and of them those that a text lacks only if its logits are not
        # finite.
        self._nullable = {*self._logits, *(m.name for m in self.metrics if m.needs_model), *self._context}
        self._owed = {m.name for m in self.metrics if m.name in of_heads or m.group in TAXONOMIES} | set(hidden)
        own = self._model.batch_bytes if self._model else 8 << 20
        self.batch_bytes = BLOCK_BYTES["triton"] if self.backend == "triton" else own
        self._needs_model = bool(self._logits or hidden) or any(m.needs_model for m in self.metrics)
        scores = [
            *(pa.field(m.name, pa.float32() if m.dtype == "float32" else pa.int32()) for m in self.metrics),
            *(pa.field(name, pa.float32()) for name in self._logits),
        ]
        self._computed = {
            **{field.name: np.float32 if pa.types.is_floating(field.type) else np.int32 for field in scores},
            **dict.fromkeys(hidden, np.float32),
        }
        keys = list(_KEYS[self.unit])
        if self.parts == "both":
            keys.insert(len(keys) if self.unit == "turn" else 0, pa.field("part", pa.string()))
        self.schema = pa.schema(
            [*keys, *scores, *(pa.field(name, pa.float32()) for name in self._context)],
            metadata={"affectcore": json.dumps(self.provenance(), sort_keys=True)},
        )

        self._order = tuple(self.schema.names)
        self._floats = [field.name for field in self.schema if pa.types.is_float32(field.type)]
        self._others = [name for name in self._order if name not in self._floats]
        self._may_lack = np.array([name in self._nullable for name in self._floats], bool)[:, None]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the settings: kernels, tables and the model are loaded again where they are needed."""
        source, content_hash = self._model.loaded_from if self._model else ("none", "")
        return _again, (type(self), {**self._settings, "model": source}, content_hash)

    def __repr__(self) -> str:
        """Return the call that makes it, without what is as by default."""
        usual = inspect.signature(Scorer).parameters
        changed = (f"{name}={v!r}" for name, v in self._settings.items() if v != usual[name].default)
        return f"{type(self).__name__}({', '.join(changed)})"

    def _select(
        self, metrics: Any, model: tuple[Any, ...], everything: Set[str]
    ) -> tuple[list[registry.Metric], list[str]]:
        """Choose metrics of texts, and of whole conversations: those named or that the others allow.

        `model` is what `registry.select` must know of it.
        """
        given = [metrics] if isinstance(metrics, str) else metrics
        named = [name.strip() for item in given for name in item.split(",")]
        if self.unit != "conversation":
            for name in named:
                if name in context.ONLY_CONVERSATIONS:
                    raise UsageError(f"metric {name!r} is one of whole conversations: it needs unit conversation")
                if self.unit == "segment" and (name == "dynamics" or name in registry.GROUPS["dynamics"]):
                    raise UsageError(f"metric {name!r} is about several segments: it needs another unit than segment")
            chosen = registry.select(metrics, *model)
            left_out = {*context.ONLY_CONVERSATIONS, *(registry.GROUPS["dynamics"] if self.unit == "segment" else ())}
            return [m for m in chosen if m.name not in left_out], []
        own = {*context.COLUMNS, "n_turns"}
        for name in [n for n in named if own.issuperset(registry.GROUPS.get(n, ("",)))]:  # groups of such metrics
            can = {*context.available(everything), "n_turns"}
            named = [n for n in named if n != name] + [n for n in registry.GROUPS[name] if n in can]
        whole = [name for name in named if name in own]
        rest = [name for name in named if name not in own]
        chosen = registry.select(rest, *model) if rest or not whole or model[1] else []
        chosen = [m for m in chosen if m.name not in own]
        if self.roles != "assistant":
            asked = [name for name in whole if name != "n_turns"]
            if asked:
                raise UsageError(f"metric {asked[0]!r} is about the assistant's turns: it needs roles assistant")
            return chosen, []
        for name in whole:
            if name != "n_turns" and name not in context.available(everything):
                raise UsageError(f"metric {name!r} needs a model with {context.needed(name)}")
        also = context.available({m.name for m in chosen})
        return chosen, [name for name in context.COLUMNS if name in also or name in whole]

    @property
    def view(self) -> str:
        """What `affectcore.io.readers.open_reader` has to deliver."""
        if self.unit in ("turn", "conversation"):
            return f"{self.unit}s"
        return "messages" if self.parts in ("reasoning", "both") else "text"

    def provenance(self) -> dict[str, Any]:
        """Return what the scores depend on: versions, model, metrics, backend and settings, ready for JSON."""
        return {
            "engine": "affectcore",
            "engine_version": __version__,
            "model": self._model.name if self._model else "none",
            **({"model_hash": self._model.content_hash} if self._model else {}),
            "unit": self.unit,
            "vader": self.vader,
            "backend": self.backend,
            "logits": bool(self._logits),
            "parts": self.parts,
            **({"roles": self.roles} if self.unit in ("turn", "conversation") else {}),
            **({"exclude": list(self.exclude)} if self._model else {}),
            **(self._model.settings(self.backend) if self._model else {}),
            "metrics": {
                **{m.name: m.version for m in self.metrics},
                **{name: registry.METRICS[name].version for name in self._context if name in registry.METRICS},
            },
        }

    def score_array(self, texts: pa.Array) -> pa.RecordBatch:
        """Score one Arrow array.

        Parameters
        ----------
        texts
            string, large_string, binary or large_binary array, sliced or not. A null text gives null scores, an empty
            one the metrics' neutral values.

        Returns
        -------
        pyarrow.RecordBatch
            Score columns of `schema`, one row per unit.

        Raises
        ------
        UsageError
            If the array is of another type, or a text has 2 GiB or more.
        InputError
            If its offsets, lengths or indices lead out of its buffers.
        """
        return self.score_units(texts)[0]

    def score_units(self, texts: Any, pool: ThreadPoolExecutor | None = None) -> tuple[pa.RecordBatch, Any]:
        """Score one Arrow array, and say which text each row belongs to.

        Parameters
        ----------
        texts
            As in `score_array`; or conversations, `affectcore.io.formats.conversations.Turns`.
        pool
            Threads to use; default: the calling one.

        Returns
        -------
        batch
            Score columns of `schema`, one row per unit.
        parents
            int64, one number of a text or conversation per row; None where each of them is one row.
        """
        return self.score_rows(texts, pool)[:2]

    def score_rows(self, texts: Any, pool: ThreadPoolExecutor | None = None) -> Rows:
        """Score one Arrow array, or conversations; see `score_units`."""
        if self.unit in ("turn", "conversation"):
            return self._score_turns(texts, pool)
        said, told = self._divide(texts)
        owner = is_answer = None
        if self.parts == "reasoning":
            said = pa.nulls(len(said), said.type) if told is None else told
        elif self.parts == "both":
            there = np.zeros(len(said), bool) if told is None else told.is_valid().to_numpy(zero_copy_only=False)
            owner = np.repeat(np.arange(len(said)), 1 + there)
            is_answer = np.ones(len(owner), bool)
            is_answer[np.cumsum(1 + there)[there] - 2] = False
            said = _interleave(said, told, owner, is_answer)
        if self.unit == "segment" and said.null_count:
            said = said.fill_null("")  # under a null there can be bytes, and they are no text
        columns, parents = self._measure(*ragged(said), pool, owner)
        mask = said.is_null().to_numpy(zero_copy_only=False) if said.null_count else None
        bad = self._bad(columns, len(said) if parents is None else len(parents))
        if parents is not None:
            bad &= ~np.isin(columns["segment_kind"], [_KINDS.index(kind) for kind in self.exclude])
            kinds = columns["segment_kind"].astype(np.int8)
            columns["segment_kind"] = pa.DictionaryArray.from_arrays(kinds, list(_KINDS)).cast(pa.string())
        elif mask is not None:
            bad &= ~mask
        rows = parents
        if owner is not None and is_answer is not None:
            columns["part"] = _parts(is_answer if parents is None else is_answer[parents])
            rows = owner if parents is None else owner[parents]
        batch = self._batch(columns, mask)
        unscored = np.unique(np.flatnonzero(bad) if rows is None else rows[bad]).tolist() if bad.any() else []
        return Rows(batch, rows, unscored, 0 if told is None else len(told) - told.null_count)

    def _divide(self, texts: Any) -> tuple[pa.Array, pa.Array | None]:
        """Return the answers of texts, or of the last assistant messages, and their reasoning; or texts as they are."""
        from affectcore.io.formats import conversations
        from affectcore.io.formats.texts import extract, is_chat

        told = None
        if isinstance(texts, pa.Array):
            check_text(texts)
            if self.parts not in ("reasoning", "both") or not is_chat(texts.type):
                texts = extract(texts)
            else:
                texts = conversations.turns(texts)
        if not isinstance(texts, pa.Array):
            last = texts.last
            texts, told = last.content, last.reasoning
        return (texts, None) if self.parts == "whole" else _split(texts, told)

    def _score_turns(self, texts: Any, pool: ThreadPoolExecutor | None) -> Rows:
        """Score turns as documents, and put the scores of conversations together where they are wanted."""
        from affectcore.io.formats import conversations
        from affectcore.io.formats.texts import is_chat

        if isinstance(texts, pa.Array):
            check_text(texts)
            if self.unit == "conversation" and not is_chat(texts.type):
                raise UsageError("unit conversation needs chat messages, or a table whose rows are turns")
            texts = conversations.turns(texts)
        if self.roles == "user" and texts.role is None:
            raise UsageError("nothing says which texts are the user's: there are no chat messages and no column 'role'")
        assistant = texts.has_role("assistant")
        chosen = np.ones(len(assistant), bool) if self.roles == "all" else texts.has_role(self.roles)
        said, told = texts.content, None
        if self.parts != "whole":
            said, told = _split(said, texts.reasoning, None if assistant.all() else assistant)
        n_reasoning = int(np.count_nonzero(_valid(told) & chosen)) if told is not None else 0
        none = np.zeros(len(chosen), bool)
        reasons = _valid(told) & chosen if told is not None and self.parts in ("reasoning", "both") else none
        answers = _valid(said) & chosen if self.parts != "reasoning" else none
        # Turns of the user's, for metrics of conversations that are about both.
        others = none
        if any(context.COLUMNS[name].user for name in self._context):
            others = _valid(said) & texts.has_role("user") & ~chosen
        count = reasons.astype(np.int64) + (answers | others)
        turn = np.repeat(np.arange(len(count)), count)
        is_answer = np.ones(len(turn), bool)
        is_answer[(np.cumsum(count) - count)[reasons]] = False
        if reasons.any():
            flat = _interleave(said, told, turn, is_answer)
        else:
            flat = said if len(turn) == len(said) else said.filter(pa.array(answers | others))
        conversation = np.searchsorted(texts.offsets, turn, side="right") - 1
        columns, _ = self._measure(*ragged(flat), pool, conversation)
        unscored = np.unique(conversation[self._bad(columns, len(turn))]).tolist()
        if self.unit == "conversation":
            role = np.where(assistant, context.ASSISTANT, np.where(texts.has_role("user"), context.USER, context.OTHER))
            bounds = np.searchsorted(turn, texts.offsets)
            batch = self._whole(columns, chosen[turn], role[turn].astype(np.uint8), bounds, texts.missing)
            return Rows(batch, None, unscored, n_reasoning)
        columns["turn"] = texts.number[turn]
        columns["role"] = pa.repeat("assistant", len(turn)) if texts.role is None else texts.role.take(pa.array(turn))
        columns["part"] = _parts(is_answer)
        parents = turn if texts.own_rows else conversation
        return Rows(self._batch(columns), parents, unscored, n_reasoning)

    def _whole(
        self, columns: dict[str, Any], chosen: np.ndarray, role: np.ndarray, offsets: np.ndarray, missing: Any
    ) -> pa.RecordBatch:
        """Put the scores of turns together to conversations: means, sums of counts, and metrics of the whole."""
        own = np.flatnonzero(chosen)
        bounds = np.searchsorted(own, offsets)
        owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        out: dict[str, Any] = {"n_turns": np.diff(bounds).astype(np.int32)}
        for name, dtype in self._computed.items():
            values = columns[name][own]
            there = ~np.isnan(values) if dtype == np.float32 else np.ones(len(values), bool)
            total = np.bincount(owner[there], values[there].astype(np.float64), minlength=len(bounds) - 1)
            if dtype == np.float32:
                n = np.bincount(owner[there], minlength=len(bounds) - 1)
                out[name] = np.where(n > 0, total / np.maximum(n, 1), np.nan).astype(np.float32)
            else:
                out[name] = np.minimum(total, np.iinfo(np.int32).max).astype(np.int32)
        if self._context:
            out |= context.conversation_columns(columns, role, offsets, self._context, self.backend)
        return self._batch(out, missing, True)

    def _batch(self, columns: dict[str, Any], mask: np.ndarray | None = None, nullable: Any = None) -> pa.RecordBatch:
        """Return columns as a batch of `schema`: null where `mask` is, and where one that is nullable has NaN.

        `nullable` is a bool for each column of floats, or True for all; by default as the metrics are. Columns that are
        Arrow arrays already stay as they are.
        """
        # All at once: for a short text, calls for each of some 70 columns would cost as much as its scores.
        arrays: dict[str, pa.Array] = {}
        if self._floats:
            values = np.concatenate([columns[name] for name in self._floats])
            table = values.reshape(len(self._floats), -1)
            n = table.shape[1]
            missing = np.isnan(table) & (self._may_lack if nullable is None else nullable)
            if mask is not None:
                missing |= mask
            whole = pa.array(values)
            for k, (name, gaps) in enumerate(zip(self._floats, missing.any(axis=1).tolist())):
                arrays[name] = pa.array(table[k], mask=missing[k]) if gaps else whole.slice(k * n, n)
        for name in self._others:
            column = columns[name]
            arrays[name] = column if isinstance(column, pa.Array) else pa.array(column, mask=mask)
        return pa.RecordBatch.from_arrays([arrays[name] for name in self._order], schema=self.schema)

    def _bad(self, columns: dict[str, Any], n: int) -> np.ndarray:
        """Return a bool for each unit: whether scores that every text has are missing."""
        if not self._owed:
            return np.zeros(n, bool)
        missing = np.isnan(np.concatenate([columns[name] for name in self._owed]))
        return np.asarray(missing.reshape(len(self._owed), -1).any(axis=0)) if missing.any() else np.zeros(n, bool)

    def _measure(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        pool: ThreadPoolExecutor | None = None,
        owner: np.ndarray | None = None,
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """Compute all columns of ragged texts, and for segments the number of each one's text.

        `owner` numbers the text of the caller's that each text belongs to, for messages.
        """
        cuts = list(blocks(offsets, self.backend))
        run = pool.map if pool and len(cuts) > 1 else map
        parts = list(run(lambda cut: self._score_block(values, offsets[cut[0] : cut[1] + 1]), cuts))
        whole: dict[str, Any] = {}
        if self._needs_model and self._model.deals and len(offsets) > 1:
            rates = {name: np.concatenate([part[name] for part in parts]) for name in self._rates}
            try:
                whole = self._score_model(values, offsets, pool, rates)
            except TextError as error:
                if owner is None:
                    raise
                raise TextError(int(owner[error.number]), error.reason, error.remedy) from None
        dtypes = dict(self._computed)
        if self.unit == "segment":
            dtypes |= {"segment": np.int32, "segment_start": np.int32, "segment_kind": np.uint8}
        if len(parts) == 1:
            columns = {**parts[0], **whole}
        else:
            columns = {
                name: whole[name]
                if name in whole
                else np.concatenate([part[name] for part in parts])
                if parts
                else np.empty(0, dtype)
                for name, dtype in dtypes.items()
            }
        if self.unit != "segment":
            return columns, None
        parents = [np.repeat(np.arange(begin, end), part["n"]) for (begin, end), part in zip(cuts, parts)]
        return columns, np.concatenate(parents or [np.empty(0, np.int64)])

    def score(self, texts: Any, *, text: str | None = None, conversation: str | None = None) -> pa.Table:
        """Score texts from any source, with `threads` threads.

        Parameters
        ----------
        texts
            A text, or a list of str, bytes and None; conversations, as lists of messages; rows as dicts, or a dict of
            columns; an array of text; or a table, frame or stream of batches: anything with the Arrow PyCapsule
            interface (PyArrow, Polars, pandas, DuckDB), a Polars LazyFrame, a `datasets.Dataset`. See
            `affectcore.io.memory.open_texts`.
        text
            Column that holds the text, for tables; default: the first of the usual names (`text`, `response`, ...).
        conversation
            Column with the id of a row's conversation, for tables with a row per turn and unit `turn` or
            `conversation`; default: the first of `conversation_id`, `conv_id`, `dialogue_id`, `chat_id` and
            `session_id`, if there is a column `role`. The turns of a conversation stand together, in their order.

        Returns
        -------
        pyarrow.Table
            One row per unit: the columns of the table without the text, then the score columns.

        Raises
        ------
        UsageError
            If the source is not understood, or has no such column.
        InputError
            If there are turns, but none of a role that is scored, or if the data's offsets, lengths or indices lead out
            of its buffers.
        """
        source = self._open(texts, text, conversation)
        if source.pieces is not None:
            with self._threads(source.n_bytes) as pool:
                pieces = self._voiced(((None, piece) for piece in source.pieces), "array")
                batches = [self.score_units(said, pool)[0] for _, said in pieces]
            return pa.Table.from_batches(batches, self.schema)
        schema, rows = self._rows(source.table, text, conversation)
        with self._threads(source.n_bytes) as pool:
            rows = self._voiced(rows, "table")
            batches = [self._join(kept, schema, *self.score_units(said, pool)) for kept, said in rows]
        return pa.Table.from_batches(batches, schema)

    def score_one(self, text: str | bytes | None) -> dict[str, Any]:
        """Score one text, without what `score` costs beyond that: no threads, no Arrow.

        Parameters
        ----------
        text
            The text; or anything that `score` takes as an item of a list, which is not as quick.

        Returns
        -------
        dict
            Column to value, in the order of `schema`: float, int, or None for null. The values are those of
            ``score([text])``.

        Raises
        ------
        UsageError
            If the unit is not `document`, or `parts` is `both`: a text may have several rows then.
        """
        if self.unit != "document" or self.parts == "both":
            raise UsageError(
                f"score_one returns one row per text, and unit {self.unit} with parts {self.parts} can have several: "
                "use score"
            )
        if not isinstance(text, (str, bytes)):
            row: dict[str, Any] = self.score([text]).to_pylist()[0]
            return row
        from affectcore.io.formats.parts import split_one

        whole = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        data = whole if self.parts == "whole" else split_one(whole)[self.parts == "reasoning"]
        if data is None:
            return dict.fromkeys(self._order)
        columns, _ = self._measure(np.frombuffer(data, np.uint8), np.array([0, len(data)]))
        values = np.concatenate([columns[name] for name in self._order]).tolist()  # float64, which holds an int32, too
        return {
            name: int(value)
            if self._computed[name] is np.int32
            else None
            if value != value and name in self._nullable
            else value
            for name, value in zip(self._order, values)
        }

    def stream(
        self, reader: Any, *, text: str | None = None, conversation: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Score a stream batch by batch, in bounded memory.

        Parameters
        ----------
        reader
            A `pyarrow.RecordBatchReader`, a table, or anything else with the Arrow PyCapsule stream interface.
        text
            Column that holds the text; default as in `score`.
        conversation
            As in `score`.

        Yields
        ------
        pyarrow.RecordBatch
            The columns of each batch without the text, then the score columns.

        Raises
        ------
        UsageError, InputError
            As `score` does; that no turn is of a role that is scored, at the end.
        """
        source = self._open(reader, text, conversation)
        if source.pieces is not None:
            for _, said in self._voiced(((None, piece) for piece in source.pieces), "array"):
                yield self.score_units(said)[0]
            return
        schema, rows = self._rows(source.table, text, conversation)
        for kept, said in self._voiced(rows, "table"):
            yield self._join(kept, schema, *self.score_units(said))

    def _open(self, texts: Any, text: str | None, conversation: str | None) -> Texts:
        from affectcore.io.memory import open_texts

        source = open_texts(texts)
        for name, column in (("text", text), ("conversation", conversation)):
            if column is not None and source.pieces is not None:
                raise UsageError(f"{name}={column!r} names a column, and no table was given: leave it out")
        return source

    def _threads(self, n_bytes: int) -> AbstractContextManager[ThreadPoolExecutor | None]:
        """Return threads for so much text; none where one block holds it, which threads could not share."""
        shared = n_bytes > BLOCK_BYTES["numba"] or (self._model is not None and self._model.deals)
        return ThreadPoolExecutor(self.threads) if shared else nullcontext()

    def _voiced(self, rows: Iterator[tuple[Any, Any]], what: str) -> Iterator[tuple[Any, Any]]:
        """Pass rows on; raise at their end where there were turns, but none of a role that is scored."""
        if self.unit not in ("turn", "conversation") or self.roles == "all":
            yield from rows
            return
        from affectcore.io.formats import conversations
        from affectcore.io.formats.texts import is_chat

        others: Counter[str | None] = Counter()  # turns of other roles, up to the first that is scored
        voiced = False
        for kept, said in rows:
            if isinstance(said, pa.Array) and is_chat(said.type):
                check_text(said)
                said = conversations.turns(said)
            if not voiced:
                role = None if isinstance(said, pa.Array) else said.role
                voiced = role is None or bool(said.has_role(self.roles).any())
                others.update({} if voiced or role is None else conversations.spoken(role))
            yield kept, said
        if others and not voiced:
            raise conversations.unvoiced(what, self.roles, others)

    def _rows(
        self, source: Any, text: str | None, conversation: str | None
    ) -> tuple[pa.Schema, Iterator[tuple[pa.RecordBatch, Any]]]:
        """Return the schema of the output, and the columns kept and the texts or conversations of each batch."""
        from affectcore.io.formats.base import can_keep, plain, plain_type
        from affectcore.io.formats.texts import is_chat, pick_text, reach, strings, type_of

        names = source.schema.names
        twice = sorted(name for name, n in Counter(names).items() if n > 1)
        if twice:
            raise UsageError(f"the table has two columns of one name ({', '.join(twice)}); rename one of each")
        turns = self.unit in ("turn", "conversation")
        column = pick_text(source.schema, text, "table", turns)
        if conversation is not None and not turns:
            raise UsageError("conversation joins rows to conversations: it needs unit turn or conversation")
        if conversation is not None and is_chat(type_of(source.schema, column)):
            raise UsageError(f"column {column.name!r} holds whole conversations: leave conversation out")
        kept = pa.schema([field for field in source.schema if field.name != column.column])
        beside = kept.names
        sound = map(check_table, source)
        rows = ((batch.select(beside), reach(batch.column(column.column), column.fields)) for batch in sound)
        if self.unit != "document" or self.view != "text":  # Arrow cannot take rows of views
            for field in kept:
                if not can_keep(field.type):
                    raise UsageError(
                        f"column {field.name!r} is {field.type}, of which PyArrow cannot take rows: drop it"
                    )
            flat = pa.schema([field.with_type(plain_type(field.type)) for field in kept])
            raw, kept = rows, flat
            rows = (
                (pa.RecordBatch.from_arrays([plain(c) for c in batch.columns], schema=flat), said)
                for batch, said in raw
            )
        if self.view != "text" and not is_chat(type_of(source.schema, column)):
            from affectcore.io.formats.conversations import TurnTable

            table = TurnTable(kept, conversation, "table", needed=self.unit == "conversation", documents=not turns)
            kept = table.schema
            made = table.read((batch, strings(said)) for batch, said in rows)
            rows = ((batch, said) for batch, said, _ in made)
        taken = set(self.schema.names) & set(kept.names)
        if taken:
            raise UsageError(f"the table has score columns already ({', '.join(sorted(taken))}); drop or rename them")
        return pa.schema([*kept, *self.schema], metadata=self.schema.metadata), rows

    def _join(self, kept: pa.RecordBatch, schema: pa.Schema, scores: pa.RecordBatch, parents: Any) -> pa.RecordBatch:
        columns = kept.columns
        if parents is not None:
            columns = [column.take(pa.array(parents)) for column in columns]
        return pa.RecordBatch.from_arrays([*columns, *scores.columns], schema=schema)

    def _score_block(self, values: np.ndarray, offsets: np.ndarray) -> dict[str, np.ndarray]:
        """Score documents of one block: the schema's columns by name, and for segments `n`, those of each document."""
        values, offsets = values[offsets[0] : offsets[-1]], offsets - offsets[0]
        out: dict[str, np.ndarray] = {}
        bounds = offsets
        if self.unit == "segment":
            from affectcore.kernels import segments

            found = dispatch.fetch(
                segments.segments(*dispatch.place((values, offsets), self.backend), backend=self.backend)
            )
            bounds = found.offsets
            number = np.arange(len(found.kind)) - np.repeat(found.first[:-1], np.diff(found.first))
            start = bounds[:-1] - np.repeat(offsets[:-1], np.diff(found.first))
            out = {
                "n": np.diff(found.first),
                "segment": number.astype(np.int32),
                "segment_start": start.astype(np.int32),
                "segment_kind": found.kind,
            }
        if not self._names.isdisjoint(lexical.NAMES):
            corrected = self.vader == "corrected"
            out |= lexical.score(values, bounds, self._names, backend=self.backend, corrected=corrected)
        if self._needs_model and not self._model.deals:
            out |= self._score_model(values, offsets, rates={name: out[name] for name in self._rates})
        if not self._names.isdisjoint(registry.GROUPS["emonet"]):
            from affectcore.metrics import emonet

            out |= emonet.score(values, bounds, self._names, backend=self.backend)
        return out

    def _score_model(
        self,
        values: np.ndarray,
        offsets: np.ndarray,
        pool: ThreadPoolExecutor | None = None,
        rates: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        from affectcore.metrics import emotion

        return emotion.score(
            values,
            offsets,
            self._names,
            self._model,
            unit="segment" if self.unit == "segment" else "document",
            backend=self.backend,
            logits=bool(self._logits),
            pool=pool,
            rates=rates,
        )

    @property
    def work(self) -> Any:
        """What an encoder has done so far, an `affectcore.models.encoder.Report`; None for other models."""
        return getattr(self._model, "report", None)

    def unscored(self, texts: pa.Array, scores: pa.RecordBatch, parents: Any = None) -> list[int]:
        """Number the texts that the model's scores are missing of because its logits are not finite.

        Parameters
        ----------
        texts, scores, parents
            What `score_units` was given, and what it returned.
        """
        bad = np.zeros(scores.num_rows, bool)
        for name in self._owed.intersection(scores.schema.names):
            if scores.column(name).null_count:
                bad |= scores.column(name).is_null().to_numpy(zero_copy_only=False)
        if self.unit == "segment":
            bad &= ~np.isin(np.array(scores.column("segment_kind").to_pylist(), object), self.exclude)
        elif parents is None:
            bad &= texts.is_valid().to_numpy(zero_copy_only=False)
        return np.unique(np.flatnonzero(bad) if parents is None else parents[bad]).tolist()  # type: ignore[no-any-return]


def _kinds(exclude: str | Sequence[str]) -> tuple[str, ...]:
    """Return the kinds of segments to leave out, in the order of `EXCLUDED`."""
    named = exclude.split(",") if isinstance(exclude, str) else exclude
    chosen = {name.strip() for name in named if name.strip()}
    if "none" in chosen and len(chosen) > 1:
        raise UsageError("exclude none goes alone: it excludes nothing")
    for name in chosen - {"none"}:
        _choose("kind to exclude", name, (*EXCLUDED, "none"))
    return tuple(kind for kind in EXCLUDED if kind in chosen)


def _valid(texts: pa.Array) -> np.ndarray:
    return texts.is_valid().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _split(texts: pa.Array, told: pa.Array | None, where: np.ndarray | None = None) -> tuple[pa.Array, pa.Array | None]:
    """Return answers, and the reasoning before them or beside them; texts that are not `where` stay whole."""
    import pyarrow.compute as pc

    from affectcore.io.formats.conversations import like
    from affectcore.io.formats.parts import split

    answer, reasoning = split(texts)
    if told is not None and reasoning is not None:
        told = like(told, reasoning.type)
        reasoning = pc.coalesce(pc.binary_join_element_wise(told, reasoning, _line(told.type)), told, reasoning)
    elif reasoning is None:
        reasoning = told
    if where is not None:
        mask = pa.array(where)
        answer = answer if answer is texts else pc.if_else(mask, answer, texts)
        if reasoning is not None:
            reasoning = pc.if_else(mask, reasoning, pa.nulls(len(texts), texts.type))
    return answer, reasoning


def _line(dtype: pa.DataType) -> pa.Scalar:
    return pa.array([b"\n\n"], pa.binary()).cast(dtype)[0]


def _interleave(said: pa.Array, told: pa.Array | None, owner: np.ndarray, is_answer: np.ndarray) -> pa.Array:
    """Return the texts of `owner`: of `said` where `is_answer`, else of `told`."""
    if told is None:
        return said
    text = pa.types.is_string(said.type) or pa.types.is_large_string(said.type)
    wide = pa.large_string() if text else pa.large_binary()  # both together can have more than 2 GiB
    both = pa.chunked_array([said.cast(wide), told.cast(wide)]).combine_chunks()
    return both.take(pa.array(np.where(is_answer, owner, owner + len(said))))


def _parts(is_answer: np.ndarray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(is_answer.astype(np.int8), ["reasoning", "answer"]).cast(pa.string())


def _load_model(name: str, precision: str, long: str) -> Any:
    model = None
    if name != "none":
        from affectcore.models import base

        model = base.load(name)
        if hasattr(model, "configured"):
            return model.configured(precision, long)
    if (precision, long) != ("auto", "segment"):
        raise UsageError(f"precision and long are settings of encoders, and model {name} is none: leave them out")
    return model


def _again(kind: type[Scorer], settings: dict[str, Any], content_hash: str) -> Scorer:
    """Return a scorer that was pickled; its model must be the same as there."""
    scorer = kind(**settings)
    if scorer._model:
        from affectcore.models import base

        base.check_same(settings["model"], content_hash, scorer._model)
    return scorer


def score(texts: Any, **settings: Any) -> pa.Table:
    """Score texts once: `Scorer(**settings).score(texts)`."""
    text = settings.pop("text", None)
    return Scorer(**settings).score(texts, text=text)


def _choose(what: str, value: str, known: Sequence[str]) -> str:
    if value in known:
        return value
    raise UsageError(f"unknown {what} {value!r}{suggest(value, known)}: this version has {', '.join(known)}")
