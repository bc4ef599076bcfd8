"""Benchmarks of the main path: ``python -m benchmarks [name ...]`` prints figures beside their targets."""
