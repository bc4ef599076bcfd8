"""Checked access to the fields of a ``config.json``: every refusal names file, field, what was found, what is right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_SIZE = 2**31 - 1            # larger sizes are typing errors: no network has a dimension past 32-bit
_REQUIRED = -1


class Fields:
    """A JSON object with typed getters. The first of the given keys that is present and not null is read.

    ``defaults`` are the values of the public Transformers class; they count only where a nested ``text_config``
    leaves a key out, which is how that library writes values equal to its own defaults.
    """

    def __init__(self, data: Mapping[str, Any], where: str, defaults: Mapping[str, Any] | None = None) -> None:
        self.data = data
        self.where = where
        self.defaults = defaults or {}
        self.defaulted: list[str] = []

    def error(self, key: str, found: object, right: str) -> ValueError:
        shown = repr(found)
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        return ValueError(f"{self.where}: {key}: found {shown}, expected {right}")

    def raw(self, *keys: str) -> tuple[str, Any]:
        """Key and value of the first key that is present and not null, else (first key, None)."""
        for key in keys:
            value = self.data.get(key)
            if value is not None:
                return key, value
        for key in keys:
            if key in self.defaults:
                self.defaulted.append(f"{key}={self.defaults[key]}")
                return key, self.defaults[key]
        return keys[0], None

    def has(self, key: str) -> bool:
        return self.data.get(key) is not None

    def _whole(self, key: str, value: object, least: int) -> int:
        right = f"a whole number >= {least}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, value, right)
        if isinstance(value, float) and (not math.isfinite(value) or value != int(value)):
            raise self.error(key, value, right)
        if not least <= value <= MAX_SIZE:
            raise self.error(key, value, f"{right} and < 2^31")
        return int(value)

    def size(self, *keys: str, default: int = _REQUIRED) -> int:
        """A whole number >= 1."""
        return self._number(keys, 1, default)

    def count(self, *keys: str, default: int = _REQUIRED) -> int:
        """A whole number >= 0."""
        return self._number(keys, 0, default)

    def _number(self, keys: tuple[str, ...], least: int, default: int) -> int:
        key, value = self.raw(*keys)
        if value is None:
            if default != _REQUIRED:
                return default
            alias = f" (or {', '.join(keys[1:])})" if len(keys) > 1 else ""
            raise ValueError(f"{self.where}: {keys[0]}: missing{alias}, expected a whole number >= {least}")
        return self._whole(key, value, least)

    def number(self, key: str, default: float) -> float:
        """A finite number > 0."""
        _, value = self.raw(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise self.error(key, value, "a finite number > 0")
        return float(value)

    def flag(self, *keys: str, default: bool = False) -> bool:
        key, value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def text(self, *keys: str, default: str = "") -> str:
        key, value = self.raw(*keys)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.error(key, value, "a text")
        return value

    def sub(self, key: str) -> Fields | None:
        """A nested object, or None if absent."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, value, "an object {...}")
        return Fields(value, f"{self.where}: {key}")

    def whole_list(self, key: str, length: int | None = None) -> list[int] | None:
        """A list of whole numbers >= 0 (at least ``length``, cut to it), or None if absent."""
        values = self._list(key, length)
        return None if values is None else [self._whole(f"{key}[{i}]", v, 0) for i, v in enumerate(values)]

    def text_list(self, key: str, length: int | None = None) -> list[str] | None:
        values = self._list(key, length)
        if values is None:
            return None
        for i, v in enumerate(values):
            if not isinstance(v, str):
                raise self.error(f"{key}[{i}]", v, "a text")
        return [str(v) for v in values]

    def _list(self, key: str, length: int | None) -> list[Any] | None:
        _, values = self.raw(key)
        if values is None:
            return None
        if not isinstance(values, list):
            raise self.error(key, values, "a list")
        if length is None:
            return values
        if len(values) < length:
            raise ValueError(f"{self.where}: {key}: found {len(values)} entries, expected {length}, one a layer")
        return values[:length]
