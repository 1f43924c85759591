"""The texts that are measured: long answers of language models, as strings, as Arrow arrays and as Parquet files."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DATA = Path(os.environ.get("AFFECTCORE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))

# Text of the bundled demo dump is repeated to about as much as Arena-Hard's answers have.
_DEMO_BYTES = 6 << 20
_GROUP_ROWS = 10_000


@dataclass(frozen=True)
class Corpus:
    """Texts with the models that wrote them and the prompts they answer; `source` says what they are."""

    source: str
    models: list[str]
    prompt_ids: list[str]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def array(self) -> pa.Array:
        """The texts as a large_string array."""
        return pa.array(self.texts, pa.large_string())

    @cached_property
    def n_bytes(self) -> int:
        """UTF-8 bytes of all texts."""
        return sum(len(text.encode()) for text in self.texts)

    def sample(self, n_bytes: int) -> Corpus:
        """Return every k-th text, about `n_bytes` in all."""
        step = max(1, round(self.n_bytes / n_bytes))
        return Corpus(self.source, self.models[::step], self.prompt_ids[::step], self.texts[::step])

    def replicated(self, n_bytes: int) -> pa.Array:
        """Return the texts, again and again, as one array of at least `n_bytes`."""
        return pa.concat_arrays([self.array] * -(-n_bytes // self.n_bytes))

    def write_parquet(self, path: Path, n_rows: int) -> int:
        """Write a dump of `n_rows` answers, group by group, and return its bytes of text.

        A repeated answer gets a prompt of its own: what a model answers to one prompt is there once.
        """
        models, texts = pa.array(self.models), self.array
        schema = pa.schema([("model", pa.string()), ("prompt_id", pa.string()), ("response", pa.large_string())])
        n_bytes = 0
        with pq.ParquetWriter(path, schema) as writer:
            for first in range(0, n_rows, _GROUP_ROWS):
                rows = range(first, min(first + _GROUP_ROWS, n_rows))
                index = pa.array(np.arange(rows.start, rows.stop) % len(self))
                prompts = [f"{self.prompt_ids[row % len(self)]}-{row // len(self)}" for row in rows]
                batch = [models.take(index), pa.array(prompts), texts.take(index)]
                n_bytes += pc.sum(pc.binary_length(batch[2])).as_py()
                writer.write_table(pa.Table.from_arrays(batch, schema=schema), row_group_size=len(rows))
        return n_bytes


@lru_cache(maxsize=1)
def load() -> Corpus:
    """Return Arena-Hard's answers where AFFECTCORE_DATA has them, else the bundled demo dump, repeated."""
    files = sorted(DATA.glob("arena-hard-auto/data/*/model_answer/*.jsonl"))
    if not files:
        return _demo()
    models, prompts, texts = [], [], []
    for path in files:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                row = json.loads(line)
                content = row["messages"][-1]["content"]
                models.append(row["model"])
                prompts.append(row["uid"])
                texts.append(content if isinstance(content, str) else content["answer"])
    return Corpus("Arena-Hard's answers", models, prompts, texts)


def _demo() -> Corpus:
    from importlib.resources import files

    dump = files("affectcore").joinpath("data", "demo.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in dump.split("\n") if line]
    repeats = -(-_DEMO_BYTES // sum(len(row["response"].encode()) for row in rows))
    return Corpus(
        "the demo dump, repeated (no Arena-Hard under AFFECTCORE_DATA)",
        [row["model"] for _ in range(repeats) for row in rows],
        [f"{row['prompt_id']}-{k}" for k in range(repeats) for row in rows],
        [row["response"] for _ in range(repeats) for row in rows],
    )
