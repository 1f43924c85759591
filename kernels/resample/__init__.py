"""Op family `resample`: bootstrap replicates of sums over clusters.

A replicate draws as many clusters as there are, n, with replacement, and adds up their rows of values: sums and counts,
side by side, of whatever means are wanted. All columns of a replicate see the same draws.

Draw d of replicate r is cluster floor(x n / 2^64), where x are 64 random bits: words 0 (the upper half) and 1 of
Philox4x32-10 for an even d, words 2 and 3 for an odd one, with counter (d // 2, 0, r, 0) and the seed as key, its lower
half first (Salmon, Moraes, Dror & Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", SC11). So a cluster's
probability is 1 / n to a relative n / 2^64: 5e-14 for a million clusters. From 32 bits, in three quarters of the time
that drawing takes, it would be 2e-4.

counts
    w_rc, how often replicate r draws cluster c. A row is a draw from the multinomial distribution of n trials and n
    equal probabilities: it adds up to n.
    Writes 4 n bytes a replicate.

resample
    sum over c of w_rc values_cj, float64.
    Numba first counts in one byte a weight, for 64 replicates a turn, and then multiplies: draws meet n bytes, which a
    core's cache holds for up to a million clusters, instead of n rows. That takes 64 n bytes; of more clusters than a
    million, 64 MiB or n bytes, and fewer replicates a turn. Reads 8 n k bytes a turn. Triton gathers rows: reads 8 n k
    bytes a replicate.
    2 n k flops a replicate; for two draws 20 products of 32 bits, and about 60 operations more.

Tolerance: `counts` agrees exactly on all backends, and so do sums of whole numbers up to 2^53; other sums to 1e-12 of
the sum of the absolute values drawn. A replicate depends on the values, the seed and its number alone: it is the same,
byte for byte, whichever replicates are computed with it. Numba's bytes do not depend on the processor or the number of
threads either; those of a product by BLAS, which takes as long, would.
"""

from __future__ import annotations

from typing import Any

from affectcore.kernels.dispatch import implementation

from .tables import MOST_CLUSTERS, REPLICATES

__all__ = ["MOST_CLUSTERS", "REPLICATES", "counts", "resample"]


def resample(values: Any, n_replicates: int, seed: int = 0, first: int = 0, *, backend: str = "auto") -> Any:
    """Return bootstrap replicates of the column sums (see the module).

    Parameters
    ----------
    values
        float64 (n_clusters, k), finite: a weight of 0 does not hide a NaN or an infinity, it spoils its whole column.
    n_replicates
        Number of replicates.
    seed
        Key of the random numbers, 0 to 2^64 - 1.
    first
        Number of the first replicate, to go on from where an earlier call ended.
    backend
        `auto`, `reference`, `numba` or `triton`.

    Returns
    -------
    array
        float64 (n_replicates, k): sums of replicates first, first + 1, ...

    Raises
    ------
    ValueError
        If values are not float64 of two dimensions, or a number is out of range.
    """
    if values.ndim != 2 or not str(values.dtype).endswith("float64"):
        raise ValueError(f"values are float64 (n_clusters, k), not {values.dtype} {tuple(values.shape)}")
    _check(len(values), n_replicates, seed, first)
    return implementation("resample", backend, values).resample(values, n_replicates, seed, first)


def counts(n_clusters: int, n_replicates: int, seed: int = 0, first: int = 0, *, backend: str = "auto") -> Any:
    """Return how often each replicate draws each cluster (see the module).

    Parameters
    ----------
    n_clusters
        Number of clusters, n.
    n_replicates, seed, first
        As for `resample`, with the same draws.
    backend
        `auto` (numba), `reference`, `numba` or `triton`.

    Returns
    -------
    array
        int32 (n_replicates, n_clusters); for `triton` a tensor on the GPU, if there is one.

    Raises
    ------
    ValueError
        If a number is out of range.
    """
    _check(n_clusters, n_replicates, seed, first)
    return implementation("resample", backend).counts(n_clusters, n_replicates, seed, first)


def _check(n_clusters: int, n_replicates: int, seed: int, first: int) -> None:
    if not 0 <= n_clusters <= MOST_CLUSTERS:
        raise ValueError(f"there are 0 to {MOST_CLUSTERS:,} clusters, not {n_clusters:,}")
    if n_replicates < 0 or first < 0 or first + n_replicates > REPLICATES:
        raise ValueError(f"replicates are numbered from 0 to 2^32 - 1, not {first:,} to {first + n_replicates - 1:,}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"a seed is a number from 0 to 2^64 - 1, not {seed}")
