"""Techniques by name, one line each."""

from __future__ import annotations

from sim.techniques.build_graph import BuildGraph
from sim.techniques.cache_neurons import CacheNeurons
from sim.techniques.chunk_prefill import ChunkPrefill
from sim.techniques.group_products import GroupProducts
from sim.techniques.kv_select import KvSelect
from sim.techniques.offload import Offload
from sim.techniques.outliers import Outliers
from sim.techniques.page_in import PageIn
from sim.techniques.run_on import RunOn
from sim.techniques.sparse_ffn import SparseFfn
from sim.techniques.speculate import Speculate
from sim.techniques.split_experts import SplitExperts
from sim.techniques.split_neurons import SplitNeurons
from sim.techniques.split_ops import SplitOps
from sim.techniques.staging import Staging
from sim.techniques.technique import Technique

TECHNIQUES: dict[str, type[Technique]] = {
    BuildGraph.name: BuildGraph,
    CacheNeurons.name: CacheNeurons,
    ChunkPrefill.name: ChunkPrefill,
    GroupProducts.name: GroupProducts,
    KvSelect.name: KvSelect,
    Offload.name: Offload,
    Outliers.name: Outliers,
    PageIn.name: PageIn,
    RunOn.name: RunOn,
    SparseFfn.name: SparseFfn,
    Speculate.name: Speculate,
    SplitExperts.name: SplitExperts,
    SplitNeurons.name: SplitNeurons,
    SplitOps.name: SplitOps,
    Staging.name: Staging,
}
