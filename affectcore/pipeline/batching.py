"""Packs sequences for an encoder: equal ones once, neighbours of like length, so many tokens at a time, no padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Bundle", "assemble", "bundles", "ranges", "stream", "unique"]


class Bundle(NamedTuple):
    """Packed sequences, ready for `affectcore.kernels.encoder.forward`."""

    ids: np.ndarray  # int32 (n_tokens,), special tokens included
    positions: np.ndarray  # int32 (n_tokens,)
    offsets: np.ndarray  # int64 (n + 1,)


def unique(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find equal sequences.

    Parameters
    ----------
    ids
        int32 (n_tokens,).
    starts, ends
        int64 (n,): sequence s is ids[starts[s]:ends[s]].

    Returns
    -------
    first, inverse
        int64: the numbers of the first of each kind, in their order, and for each sequence the place of its kind there.
    """
    seen: dict[bytes, int] = {}
    inverse = np.empty(len(starts), np.int64)
    first: list[int] = []
    for s, (a, b) in enumerate(zip(starts.tolist(), ends.tolist())):
        place = seen.setdefault(ids[a:b].tobytes(), len(first))
        inverse[s] = place
        if place == len(first):
            first.append(s)
    return np.array(first, np.int64), inverse


def bundles(lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """Deal sequences into bundles of about one length and at most `budget` tokens; a longer one is alone.

    Parameters
    ----------
    lengths
        int64 (n,): tokens of each sequence, special ones included.
    budget
        Tokens in a bundle, at most.

    Returns
    -------
    list of int64 arrays
        Numbers of sequences, the longest first: what is left for the end of a run is short.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    out, begin, before = [], 0, 0
    while begin < len(order):
        end = max(int(np.searchsorted(ends, before + budget, side="right")), begin + 1)
        out.append(order[begin:end])
        begin, before = end, int(ends[end - 1])
    return out


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1, ... (lengths[0] numbers), starts[1], ..., int64."""
    ends = np.cumsum(lengths)
    place: np.ndarray = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
    return place


def assemble(
    ids: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    prefix: Sequence[int],
    suffix: Sequence[int],
    positions: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Bundle:
    """Pack sequences with their special tokens.

    Parameters
    ----------
    ids
        int32 (n_tokens,).
    starts, ends
        int64 (n,): sequence s is ids[starts[s]:ends[s]].
    prefix, suffix
        Special tokens before and behind each.
    positions
        Makes the positions from packed ids and offsets.
    """
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths + len(prefix) + len(suffix))])
    packed = np.empty(offsets[-1], np.int32)
    for k, token in enumerate(prefix):
        packed[offsets[:-1] + k] = token
    for k, token in enumerate(suffix):
        packed[offsets[1:] - len(suffix) + k] = token
    packed[ranges(offsets[:-1] + len(prefix), lengths)] = ids[ranges(starts, lengths)]
    return Bundle(packed, positions(packed, offsets), offsets)


def stream(bundles: Iterable[Bundle], forward: Callable[[Any, Any, Any], Any]) -> Iterator[np.ndarray]:
    """Run bundles through a network of torch tensors, and yield float32 (n, k) logits in their order.

    On a GPU two bundles are under way: while one is computed, the next one is copied from pinned memory on a stream of
    its own, and the results of the one before are copied back. Without a GPU the same steps run one after the other.

    Parameters
    ----------
    bundles
        The packed sequences.
    forward
        From ids, positions and offsets, tensors on the device, to logits.
    """
    import torch

    gpu = torch.cuda.is_available()
    copies = torch.cuda.Stream() if gpu else None

    def send(bundle: Bundle) -> tuple[list[Any], Any]:
        tensors = [torch.from_numpy(part) for part in bundle]
        if copies is None:
            return tensors, None
        with torch.cuda.stream(copies):
            tensors = [t.pin_memory().to("cuda", non_blocking=True) for t in tensors]
            return tensors, copies.record_event()

    def compute(sent: tuple[list[Any], Any]) -> tuple[Any, Any]:
        tensors, ready = sent
        if copies is None:
            return forward(*tensors), None
        current = torch.cuda.current_stream()
        current.wait_event(ready)
        for t in tensors:
            t.record_stream(current)
        logits = forward(*tensors)
        out = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        out.copy_(logits, non_blocking=True)
        return out, current.record_event()

    def receive(result: tuple[Any, Any]) -> np.ndarray:
        logits, done = result
        if done is not None:
            done.synchronize()
        array: np.ndarray = logits.float().cpu().numpy()
        return array

    sent: tuple[list[Any], Any] | None = None
    running: tuple[Any, Any] | None = None
    for bundle in bundles:
        following = send(bundle)
        if sent is not None:
            started = compute(sent)
            if running is not None:
                yield receive(running)
            running = started
        sent = following
    if sent is not None:
        started = compute(sent)
        if running is not None:
            yield receive(running)
        yield receive(started)
