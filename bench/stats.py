"""Do 95% intervals cover, and do the paired tests keep their level? `python bench/stats.py` simulates leaderboards.

Every leaderboard has models that answer the same prompts several times: a score is the model's level plus a part of the
prompt (hard for all), a part of model and prompt, and a part of the sample. Numbers of samples differ, some prompts are
missing for some models. Scores are normal, or squeezed into 0 to 1 with most of them near 0, as distress has it. Needs
``pip install 'affectcore[stats]'``. Prints shares in percent:

- covered: 95% intervals that hold the true mean of a model, and the true difference to the first model. Rows: as if
  all rows were independent, mean +- 1.96 standard errors. Percentile: of the cluster bootstrap. Expanded: the same,
  widened for few clusters (`affectcore.stats.bootstrap.expanded_interval`).
- false alarms: tests at 5% that find a difference between models which have none; and leaderboards on which one test or
  more does, after Holm's correction.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from affectcore.stats.bootstrap import cluster_bootstrap, expanded_interval, interval
from affectcore.stats.paired import compare_paired, holm

MODELS = 5
LEVELS = np.linspace(0.0, 0.6, MODELS)
SPREADS = (1.0, 0.5, 0.8)  # of prompts, of model and prompt, of samples
KINDS = ("normal", "skewed")


def score(kind: str, latent: np.ndarray) -> np.ndarray:
    """Turn what is normal into a score."""
    return latent if kind == "normal" else 1 / (1 + np.exp(2.5 - latent))


def truth(kind: str) -> np.ndarray:
    """Return the expected score of every model, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(100)
    return score(kind, LEVELS[:, None] + np.linalg.norm(SPREADS) * nodes) @ (weights / weights.sum())


def leaderboard(
    kind: str, levels: np.ndarray, n_prompts: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sums, sums of squares and numbers of scores, shape (prompts, models)."""
    shape = (n_prompts, MODELS)
    counts = 1 + rng.poisson(1.5, shape)
    counts[rng.random(shape) < 0.05] = 0
    counts[0, counts.sum(axis=0) < 2] = 2
    prompt, pair, sample = SPREADS
    centre = levels + prompt * rng.normal(size=(n_prompts, 1)) + pair * rng.normal(size=shape)
    cell = np.repeat(np.arange(centre.size), counts.ravel())
    scores = score(kind, centre.ravel()[cell] + sample * rng.normal(size=len(cell)))
    sums, squares = (np.bincount(cell, weights=v, minlength=centre.size).reshape(shape) for v in (scores, scores**2))
    return sums, squares, counts


def with_differences(of_models: np.ndarray) -> np.ndarray:
    """Append the differences to the first model along the last axis."""
    return np.concatenate([of_models, of_models[..., 1:] - of_models[..., :1]], axis=-1)


def coverage(kind: str, n_prompts: int, n_leaderboards: int, n_resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Return, per kind of interval, the shares that cover means and differences."""
    true = with_differences(truth(kind))
    covered: dict[str, list[np.ndarray]] = {"rows": [], "percentile": [], "expanded": []}
    for number in range(n_leaderboards):
        rng = np.random.default_rng([seed, number])
        sums, squares, counts = leaderboard(kind, LEVELS, n_prompts, rng)
        n = counts.sum(axis=0)
        mean = sums.sum(axis=0) / n
        error = np.sqrt((squares.sum(axis=0) / n - mean**2) / (n - 1))
        error = np.concatenate([error, np.hypot(error[1:], error[0])])
        prompt, model = np.nonzero(counts)
        boot = cluster_bootstrap(
            sums[prompt, model],
            counts[prompt, model],
            prompt,
            model,
            n_models=MODELS,
            n_resamples=n_resamples,
            seed=number,
            threads=1,
        )
        replicates = with_differences(boot.replicates[:, :, 0])
        clusters = boot.n_clusters[:, 0]
        clusters = np.concatenate([clusters, np.minimum(clusters[1:], clusters[0])])
        for name, (low, high) in {
            "rows": (with_differences(mean) - 1.96 * error, with_differences(mean) + 1.96 * error),
            "percentile": interval(replicates),
            "expanded": expanded_interval(replicates, clusters),
        }.items():
            covered[name].append((low <= true) & (true <= high))
    shares = {name: np.mean(found, axis=0) for name, found in covered.items()}
    return {name: np.array([share[:MODELS].mean(), share[MODELS:].mean()]) for name, share in shares.items()}


def false_alarms(kind: str, n_prompts: int, n_leaderboards: int, n_permutations: int, seed: int) -> dict[str, float]:
    """Return how often the tests find a difference where there is none."""
    found = np.zeros((4, n_leaderboards))
    for number in range(n_leaderboards):
        rng = np.random.default_rng([seed, 1, number])
        sums, _, counts = leaderboard(kind, np.zeros(MODELS), n_prompts, rng)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        pairs = compare_paired(means[:, 1:], means[:, :1], n_resamples=n_permutations, seed=number)
        for i, p in enumerate((pairs.p_permutation, pairs.p_wilcoxon)):
            found[i, number], found[2 + i, number] = np.mean(p <= 0.05), np.any(holm(p) <= 0.05)
    names = ("sign flip", "Wilcoxon", "sign flip, Holm", "Wilcoxon, Holm")
    return dict(zip(names, found.mean(axis=1).tolist()))


def main() -> None:
    """Simulate and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaderboards", type=int, default=1000, help="simulated leaderboards per row (default 1000)")
    parser.add_argument("--prompts", type=int, nargs="+", default=[20, 50, 200], help="prompts per leaderboard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="40 leaderboards per row: shows that it runs, no more")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    n = 40 if options.quick else options.leaderboards
    start = time.perf_counter()
    rows = []
    for kind in KINDS:
        for prompts in options.prompts:
            covered = coverage(kind, prompts, n, 2000, options.seed)
            alarms = false_alarms(kind, prompts, n, 999, options.seed)
            rows.append(
                {"scores": kind, "prompts": prompts, "false_alarms": alarms}
                | {"covered": {name: dict(zip(("mean", "difference"), share)) for name, share in covered.items()}}
            )
    console = Console()
    table = Table("scores", "prompts", title="95% intervals that cover, %: means / differences", title_justify="left")
    names = list(rows[0]["covered"])
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        cells = [f"{100 * row['covered'][m]['mean']:.1f} / {100 * row['covered'][m]['difference']:.1f}" for m in names]
        table.add_row(row["scores"], str(row["prompts"]), *cells)
    console.print(table)
    table = Table("scores", "prompts", title="False alarms at 5%, %", title_justify="left")
    names = list(rows[0]["false_alarms"])
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(row["scores"], str(row["prompts"]), *(f"{100 * row['false_alarms'][m]:.1f}" for m in names))
    console.print(table)
    error = 100 * np.sqrt(0.05 * 0.95 / n)
    console.print(
        f"{n:,} leaderboards of {MODELS} models per row, seed {options.seed}, 2,000 bootstrap replicates, 999 flips; "
        f"standard error of a share: {error:.1f} points at most; {time.perf_counter() - start:.0f} s",
    )
    if options.json:
        settings = {"seed": options.seed, "leaderboards": n, "models": MODELS}
        options.json.write_text(json.dumps({**settings, "rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
