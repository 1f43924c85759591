"""Constants of the `resample` ops: those of Philox4x32-10, as Salmon et al. 2011 publish them, and limits."""

from __future__ import annotations

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what the two words of the key grow by from round to round

MOST_CLUSTERS = 2**31 - 1  # weights and places are int32
REPLICATES = 2**32  # a replicate's number is one word of the counter
