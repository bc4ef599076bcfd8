"""Rates of links as measured tables name them, some of which no device file holds."""

from __future__ import annotations

from collections.abc import Mapping

from accel_models.cost.collective import link_class

#: Rate of the bridge that joins two such boards, one direction [B/s]: NVLink 3 of an A100 PCIe 300 GB/s, of an A40
#: 56.25 GB/s (vendor data sheets). A way to join devices, which a board may do without: no part of its device file.
BRIDGES = {"a100_pcie_80gb": 300e9, "a100_pcie_40gb": 300e9, "a40": 56.25e9}


def link_rate(device: str, own: Mapping[str, float], link: str, devices_per_node: float) -> float:
    """Peak inside the node of a link as measured tables write it [B/s]; ``own`` are the device's links by kind.

    Raises ``ValueError`` where the device has no such link.
    """
    inside = link_class(link.removesuffix("+internode"), devices_per_node)
    found = BRIDGES.get(device) if inside == "nvlink-pair" else own.get("pcie" if inside == "pcie" else "nvlink")
    if found is None:
        raise ValueError(f"link {link!r}: {device} has no such link; known: {', '.join(own) or 'none'}")
    return found
