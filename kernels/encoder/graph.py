"""The graph of a forward pass, the same on every backend.

`ops` is the backend's module, or an object with the same functions. It may also have ops that do
more in one go: `feed_forward` does both layers after attention, `after_attention` all of a post-norm layer after it
(or returns None), `attention_first` returns the first row of each sequence of what `attention` does.
"""

from __future__ import annotations

from typing import Any

from .tables import Network


def forward(ops: Any, network: Network, ids: Any, positions: Any, offsets: Any) -> Any:
    """Return the logits of packed sequences, from a prepared network; see `affectcore.kernels.encoder.forward`."""
    x = ops.embed(ids, positions, network.embedding)
    first = network.layers[0].norm_in
    h = ops.add_norm(x, None, first)[1] if first is not None else x
    for number, layer in enumerate(network.layers):
        last = number + 1 == len(network.layers)
        # Of the last layer, a head that takes the first vectors needs no others.
        only = last and network.head.pooling == "first"
        attention = getattr(ops, "attention_first", ops.attention) if only else ops.attention
        seen = attention(
            ops.linear(h, layer.qkv),
            offsets,
            network.n_heads,
            scale=network.scale,
            window=layer.window,
            rotary_base=layer.rotary_base,
            relative=layer.relative,
        )
        if only:
            starts = offsets[:-1]
            seen, x = seen if len(seen) == len(starts) else seen[starts], x[starts]
            offsets = (offsets * 0 + 1).cumsum(0) - 1
        if not network.pre_norm and hasattr(ops, "after_attention"):
            done = ops.after_attention(seen, x, layer, network.activation, network.gated)
            if done is not None:
                x = h = done
                continue
        x, h = ops.add_norm(ops.linear(seen, layer.out), x, layer.norm_mid)
        x = x if network.pre_norm else h
        if hasattr(ops, "feed_forward"):
            fed = ops.feed_forward(h, layer.up, layer.down, network.activation, network.gated)
        else:
            fed = ops.linear(ops.linear(h, layer.up, network.activation, network.gated), layer.down)
        norm = layer.norm_out
        if network.pre_norm:
            norm = network.final_norm if last else network.layers[number + 1].norm_in
        x, h = ops.add_norm(fed, x, norm)
        x = x if network.pre_norm else h
    return ops.head(h, offsets, network.head)
