"""Metrics: what each score column means, in one place."""

from __future__ import annotations

from affectcore.metrics.registry import METRICS, Metric, select

__all__ = ["METRICS", "Metric", "select"]
