"""Statistics that compare models: cluster bootstrap, intervals, ranks."""

from __future__ import annotations

from affectcore.stats.bootstrap import Bootstrap, cluster_bootstrap, interval, rank_interval, ranks

__all__ = ["Bootstrap", "cluster_bootstrap", "interval", "rank_interval", "ranks"]
