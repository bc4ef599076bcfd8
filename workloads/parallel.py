"""How a model is split over devices: tensor, pipeline, data and expert parallelism."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.model_spec import Layer, ModelSpec, Softmax


@dataclass(frozen=True, slots=True)
class Parallel:
    """Degrees of parallelism. ``tp`` cuts each layer, ``pp`` the depth, ``dp`` the batch (replicas).

    Routed experts are spread over ``ep`` devices and each is cut ``etp`` ways (0: whatever remains). With
    ``ep * etp == tp`` the ranks of one replica share their tokens; a larger ``ep`` reaches over ``dp`` replicas
    and exchanges tokens all-to-all.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 0

    @property
    def n_devices(self) -> int:
        return self.tp * self.pp * self.dp

    @property
    def expert_cut(self) -> int:
        """Ways the width of one expert is cut."""
        return self.etp or max(self.tp // self.ep, 1)

    @property
    def expert_replicas(self) -> int:
        """Replicas whose tokens meet in one expert group (1: no all-to-all)."""
        return max(self.ep * self.expert_cut // self.tp, 1)

    def label(self) -> str:
        parts = [f"{k}{getattr(self, k)}" for k in ("tp", "pp", "dp", "ep", "etp") if getattr(self, k) > 1]
        return "·".join(parts) or "tp1"

    def check(self, spec: ModelSpec) -> None:
        """Raise ``ValueError`` with the degrees that would work when the model cannot be split like this."""
        for key in ("tp", "pp", "dp", "ep"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}: must be at least 1, got {getattr(self, key)}")
        if self.etp < 0:
            raise ValueError(f"etp: must be 0 (automatic) or more, got {self.etp}")
        if self.pp > spec.n_layers:
            raise ValueError(f"pp: {self.pp} stages but {spec.name} has only {spec.n_layers} layers")
        if (self.ep > 1 or self.etp > 1) and not any(x.ffn and x.ffn.experts for x in spec.layers):
            raise ValueError(f"{'ep' if self.ep > 1 else 'etp'}: {spec.name} has no routed experts to spread; leave it out")
        for layer in spec.layers:
            self._check_layer(spec, layer)

    def _check_layer(self, spec: ModelSpec, layer: Layer) -> None:
        core = layer.mixer.core if layer.mixer else None
        if isinstance(core, Softmax) and core.n_heads % self.tp:
            fits = [d for d in (1, 2, 4, 8, 16, 32, 64) if core.n_heads % d == 0]
            raise ValueError(f"tp: {self.tp} does not divide the {core.n_heads} attention heads of {spec.name}; "
                             f"possible: {', '.join(map(str, fits))}")
        experts = layer.ffn.experts if layer.ffn else None
        if experts is None:
            return
        if experts.n_experts % self.ep:
            raise ValueError(f"ep: {self.ep} does not divide the {experts.n_experts} experts of {spec.name}")
        cells = self.ep * self.expert_cut
        if cells % self.tp or cells > self.tp * self.dp:
            raise ValueError(f"ep: ep x etp = {self.ep} x {self.expert_cut} must be a multiple of tp = {self.tp} "
                             f"and at most tp x dp = {self.tp * self.dp}")
