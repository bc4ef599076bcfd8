"""Arithmetic on named columns: ``hardware.memory.hbm.bandwidth * 0.5 <= 4e12``, evaluated for all points at once.

A small part of Python's syntax (numbers, texts, names with dots, + - * / // % **, comparisons, and/or/not, in, and the
functions below) and nothing else: no calls of other functions, no attributes of objects, no code.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda a, b: np.isin(a, b), ast.NotIn: lambda a, b: ~np.isin(a, b),
}
FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {        # name -> (arguments, at least 2 where 0), function
    "abs": (1, np.abs), "sqrt": (1, np.sqrt), "log": (1, np.log), "log2": (1, np.log2), "exp": (1, np.exp),
    "ceil": (1, np.ceil), "floor": (1, np.floor), "round": (1, np.round), "where": (3, np.where),
    "min": (0, lambda *a: reduce(np.minimum, a)), "max": (0, lambda *a: reduce(np.maximum, a)),
}
#: Limits that no honest expression meets.
LONGEST = 2000


@dataclass(frozen=True)
class Expression:
    """A parsed expression: its text and the names that it needs."""

    text: str
    names: frozenset[str]
    _tree: ast.expr

    def __call__(self, columns: Mapping[str, Any]) -> Column:
        """Value for every point; ``columns`` must hold all of ``names``. Division by zero gives inf or NaN.

        Raises ``ValueError`` where texts are reckoned with.
        """
        try:
            with np.errstate(all="ignore"):
                return np.asarray(_value(self._tree, columns))
        except TypeError:
            raise ValueError(f"{self.text!r}: a text where a number is needed") from None


def parse(text: str, where: str) -> Expression:
    """Raises ``ValueError`` that names ``where`` and the part of the text that is not understood."""
    if len(text) > LONGEST:
        raise ValueError(f"{where}: an expression of {len(text)} characters; at most {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        names: set[str] = set()
        _check(tree, names)
    except SyntaxError:
        raise ValueError(f"{where}: {text!r} is not an expression, e.g. 'deployment.tp * workload.batch <= 512'") from None
    except (_RefusedError, RecursionError) as error:
        raise ValueError(f"{where}: {text!r}: {error or 'too deep'}") from None
    return Expression(text, frozenset(names), tree)


class _RefusedError(Exception):
    pass


def _dotted(node: ast.expr) -> str:
    """``a.b.c`` of a chain of attributes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise _RefusedError(f"{ast.unparse(node)!r} is not a name")


def _check(node: ast.expr, names: set[str]) -> None:
    """Refuse everything that is not arithmetic, and collect names."""
    parts: list[ast.expr] = []
    match node:
        case ast.Constant(value=bool() | int() | float() | str()):
            return
        case ast.Name() | ast.Attribute():
            names.add(_dotted(node))
            return
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            parts = [left, right]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            parts = [operand]
        case ast.BoolOp(values=values):
            parts = values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(o) in _COMPARE for o in ops):
            for how, other in zip(ops, others, strict=True):
                if isinstance(how, ast.In | ast.NotIn) and not isinstance(other, ast.List | ast.Tuple):
                    raise _RefusedError("'in' needs a list, e.g. deployment.tp in [1, 2]")
            parts = [left, *others]
        case ast.List(elts=elts) | ast.Tuple(elts=elts) if all(isinstance(e, ast.Constant) for e in elts):
            return
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise _RefusedError(f"no function {name!r}; known: {', '.join(FUNCTIONS)}")
            wanted = FUNCTIONS[name][0]
            if len(args) != wanted if wanted else len(args) < 2:
                raise _RefusedError(f"{name} takes {wanted or 'two or more'} argument(s)")
            parts = args
        case _:
            raise _RefusedError(f"{ast.unparse(node)!r} is not arithmetic")
    for part in parts:
        _check(part, names)


def _value(node: ast.expr, columns: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            # NumPy's floats overflow to inf and divide by zero; Python's raise, and its integers grow without end.
            return np.float64(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            return [_value(e, columns) for e in elts]
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, columns), _value(right, columns))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~np.asarray(_value(operand, columns), dtype=bool)
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, columns)
            return -value if isinstance(op, ast.USub) else value
        case ast.BoolOp(op=op, values=values):
            both = np.logical_and if isinstance(op, ast.And) else np.logical_or
            return reduce(both, (_value(v, columns) for v in values))
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_value(x, columns) for x in (left, *others)]
            pairs = zip(sides, ops, sides[1:], strict=False)
            return reduce(np.logical_and, (_COMPARE[type(op)](a, b) for a, op, b in pairs))
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name][1](*(_value(a, columns) for a in args))
        case _:
            return columns[_dotted(node)]
