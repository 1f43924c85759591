"""Time and memory of a large leaderboard: ``python bench/leaderboard.py [--models 228 --prompts 805 --metrics 20]``.

Scores are drawn at random (seed 0), written to a Parquet file, and compared in a process of its own, as `affectcore
compare` does, with 2,000 replicates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RUN = """
import json, resource, sys, time
started = time.perf_counter()
from affectcore.comparison import compare
result = compare(sys.argv[1], metrics=sys.argv[2].split(","), n_resamples=2000)
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"seconds": seconds, "peak_MiB": peak, "rows": result.table.num_rows, "pairs": result.pairs.num_rows}))
"""


def main() -> None:
    """Measure one leaderboard."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=228)
    parser.add_argument("--prompts", type=int, default=805)
    parser.add_argument("--metrics", type=int, default=20)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    n = options.models * options.prompts
    columns = {
        "model": np.repeat([f"model-{k:03}" for k in range(options.models)], options.prompts),
        "prompt_id": np.tile(np.arange(options.prompts), options.models),
    }
    hard = np.tile(rng.normal(size=options.prompts), options.models)
    skill = np.repeat(rng.normal(size=options.models), options.prompts)
    names = [f"metric_{k}" for k in range(options.metrics)]
    for name in names:
        columns[name] = (hard + 0.1 * skill + rng.normal(size=n)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        pq.write_table(pa.table(columns), path)
        del columns
        run = [sys.executable, "-c", RUN, str(path), ",".join(names)]
        found = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    print(
        f"{options.models} models x {options.prompts} answers x {options.metrics} metrics, 2,000 replicates: "
        f"{found['seconds']:.1f} s, {found['peak_MiB']:,.0f} MiB; {found['rows']:,} rows, {found['pairs']:,} pairs"
    )


if __name__ == "__main__":
    main()
