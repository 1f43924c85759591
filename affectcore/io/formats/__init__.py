"""One reader per file format; `affectcore.io.readers` picks the right one."""

from __future__ import annotations
