"""Verification and synthesis of hardware units: what a unit's ``contract.py`` and ``bench.py`` plug into."""
