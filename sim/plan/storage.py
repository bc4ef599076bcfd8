"""How long a storage memory takes to deliver what a move asks for."""

from __future__ import annotations

import numpy as np

from accel_models.bind_storage import storage
from accel_models.cost.storage import read
from sim.plan.block import Move
from sim.plan.board import Tier

#: Range taken as the 80 % interval of a read's time over the modelled one: residuals of the NVMe size x depth grid
#: (``accel_models/fitted/storage.toml``), the only drive with enough rows; assumed alike for all.
READ_LOW, READ_HIGH = 0.91, 1.29


def read_seconds(tier: Tier, move: Move) -> float:
    """Time of one move out of a storage memory: its requests through the model of its drive, or at the bandwidth stated
    where nothing is known of what lies behind it. [s]"""
    if tier.spec.nand is None:
        latency = tier.spec.latency.value if tier.spec.latency else 0.0
        return latency + move.nbytes / tier.bandwidth
    block = tier.spec.block.value if tier.spec.block else 2.0**19
    chunk = min(move.chunk or block, move.nbytes)
    found = read(move.nbytes / chunk, chunk, queue_depth=move.depth, sequential=0.0 if move.scattered else 1.0,
                 span=move.span, n_cores=move.cores, **storage(tier.device, tier.key))
    return float(np.asarray(found.total))
