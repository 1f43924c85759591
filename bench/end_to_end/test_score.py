from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import limits
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus import Corpus
from measure import Contender, alternate
from peers import PEERS, vader_sentiment

from affectcore.scorer import Scorer

# Enough blocks that two threads share them evenly.
SCORED_BYTES = 64_000_000
PEER_BYTES = 400_000
ROUNDS = 10

EMOJI = "\N{GRINNING FACE}"
EMOJI_COUNTS = (8_000, 4_000, 2_000)
PEER_EMOJI_COUNTS = (4_000, 2_000)

DUMP_ROWS = 100_000
DUMP_ROUNDS = 5


def test_long_answers(benchmark: Any, answers: Corpus) -> None:
    texts = answers.replicated(SCORED_BYTES)
    n_bytes = answers.n_bytes * (len(texts) // len(answers))
    sample = answers.sample(PEER_BYTES)
    ours = Scorer(metrics="vader_compound").score_array(sample.array)["vader_compound"].to_numpy()

    def scorer(name: str, threads: int, **settings: Any) -> Contender:
        call = partial(Scorer(threads=threads, **settings).score, texts)
        plural = "s" if threads > 1 else ""
        versus = [f"{name}, 1 thread"] if threads > 1 else []
        title = f"{name}, {threads} thread{plural}"
        return Contender(title, call, n_bytes, len(texts), peer="vaderSentiment", versus=versus)

    contenders = [
        scorer("affectcore, VADER", 1, metrics="vader"),
        scorer("affectcore, VADER", 2, metrics="vader"),
        scorer("affectcore, no model", 1, model="none"),
        scorer("affectcore, no model", 2, model="none"),
        scorer("affectcore, all metrics", 1),
        scorer("affectcore, all metrics", 2),
    ]
    for name, peer in PEERS.items():
        differ = int((np.array(peer(sample.texts), np.float32) != ours).sum())
        note = f"scores {differ} of {len(sample)} documents differently from affectcore"
        call = partial(peer, sample.texts)
        contenders.append(Contender(name, call, sample.n_bytes, len(sample), peer="vaderSentiment", note=note))
        if name == "vaderSentiment":
            assert differ == 0
    alternate(benchmark, "Long answers", contenders, ROUNDS)


def test_emoji(benchmark: Any) -> None:
    scorer = Scorer(metrics="vader", threads=1)

    def contender(who: str, n: int, **settings: Any) -> Contender:
        text = EMOJI * n
        array = pa.array([text], pa.large_string())
        call = partial(scorer.score_array, array) if who == "affectcore" else partial(vader_sentiment, [text])
        peer = f"vaderSentiment, {n:,} emoji" if n in PEER_EMOJI_COUNTS else ""
        return Contender(f"{who}, {n:,} emoji", call, len(text.encode()), 1, peer=peer, **settings)

    contenders = [contender("affectcore", n) for n in EMOJI_COUNTS]
    contenders += [contender("vaderSentiment", n, once=True, note="timed once") for n in PEER_EMOJI_COUNTS]
    alternate(benchmark, "Emoji", contenders, rounds=50)


@pytest.fixture(scope="module")
def dump(answers: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    path = tmp_path_factory.mktemp("dump") / "dump.parquet"
    return path, answers.write_parquet(path, DUMP_ROWS)


def test_files(benchmark: Any, dump: tuple[Path, int], tmp_path: Path) -> None:
    source, n_bytes = dump
    scored, ready, floor = (tmp_path / name for name in ("scored.parquet", "ready.arrow", "floor.parquet"))

    def score(*options: str) -> None:
        command = ["-m", "affectcore", "score", source, "-o", scored, "--overwrite", "--quiet", *options]
        subprocess.run([sys.executable, *map(str, command)], check=True)

    def pyarrow_alone() -> None:
        command = [limits.__file__, source, ready, floor]
        subprocess.run([sys.executable, *map(str, command)], check=True)

    lexical = partial(score, "--model", "none")
    lexical()
    columns = pq.read_table(scored, columns=Scorer(model="none").schema.names)
    with pa.OSFile(str(ready), "wb") as sink, pa.ipc.new_file(sink, columns.schema) as writer:
        writer.write_table(columns)
    limit = "pyarrow alone"
    contenders = [
        Contender(
            "affectcore score --model none", lexical, n_bytes, DUMP_ROWS, versus=[limit], note="keeps 2 columns more"
        ),
        Contender(
            "affectcore score --model none --threads 1",
            partial(lexical, "--threads", "1"),
            n_bytes,
            DUMP_ROWS,
            versus=[limit],
        ),
        Contender("affectcore score", score, n_bytes, DUMP_ROWS, note="emotions, valence, arousal, dominance too"),
        Contender(
            limit, pyarrow_alone, n_bytes, DUMP_ROWS, note=f"reads the text, writes {len(columns.schema)} columns"
        ),
    ]
    alternate(benchmark, "Files", contenders, DUMP_ROUNDS)
    assert pq.read_table(floor).equals(columns)
