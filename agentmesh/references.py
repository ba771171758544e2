"""Which names a template uses, found in its tree: `tasks.draft`, `item.claim`, `so_far(tasks.ideas)`.

Names that the template itself sets are followed to what they stand for: in `{% for h in tasks.draft %}{{ h.claim }}`
the second reference is the field `claim` of an element of `tasks.draft`. Nodes are told apart by the names of their
classes, so this module needs no template engine.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from .errors import UserError

__all__ = ["ELEMENT", "FunctionUse", "Names", "Reference", "TemplateProblem", "names_in"]

ELEMENT = "[]"
"""The step of a path that stands for one element of a list or map, whichever."""


class TemplateProblem(UserError):
    """A template or expression is wrong, or met a value that it cannot use. `line` counts from 1 in its text."""

    def __init__(
        self, message: str, *, line: int | None = None, name: str | None = None, hint: str | None = None
    ) -> None:
        self.message, self.line, self.name, self.hint = message, line, name, hint
        place = ", ".join(part for part in (name, f"line {line}" if line and name else None) if part)
        super().__init__((f"{place}: " if place else "") + message + (f" ({hint})" if hint else ""))


@dataclass(frozen=True, slots=True)
class Reference:
    """A name from outside and the path below it. `text` is how it is written; `so_far` that it need not be finished.

    A step of the path is a field's name, `["key"]` for what stands between brackets as a text, or ELEMENT.
    """

    root: str
    path: tuple[str, ...] = ()
    line: int = 1
    so_far: bool = False
    text: str = ""

    def __str__(self) -> str:
        return self.text or ".".join((self.root, *self.path)).replace(".[", "[")

    def below(self, step: str, *, line: int, text: str) -> Reference:
        """What stands one step below, written as `text` after this one."""
        return replace(self, path=(*self.path, step), line=line, text=f"{self}{text}")


@dataclass(frozen=True, slots=True)
class FunctionUse:
    """A call of one of the functions: what it is applied to, if that is a plain reference, and a constant after it."""

    name: str
    argument: Reference | None
    constant: Any
    line: int


@dataclass(frozen=True, slots=True)
class Names:
    """What a template uses.

    `whole` is what an expression as a whole stands for, if that can be said; `form` is how it is written: `reference`
    for nothing but a reference, the name of a function that is applied to the rest, `other`.
    """

    references: tuple[Reference, ...]
    uses: tuple[FunctionUse, ...]
    whole: Reference | None = None
    form: str = "other"


def names_in(tree: Any, *, functions: Collection[str], filters: Collection[str], tests: Collection[str]) -> Names:
    """What is used in a parsed template or expression.

    Raises TemplateProblem for methods, for functions, filters and tests that do not exist, and for other files.
    """
    reader = _Reader(functions=functions, filters=filters, tests=tests)
    whole, form = reader.use(tree), "other"
    match type(tree).__name__:
        case "Name" | "Getattr" | "Getitem" if whole is not None:
            form = "reference"
        case "Call":
            form = getattr(tree.node, "name", form)
    return Names(tuple(reader.references), tuple(reader.uses), whole, form)


_SAME_ELEMENTS = frozenset(
    {"sort", "reverse", "unique", "list", "select", "selectattr", "reject", "rejectattr", "d", "default"}
)
_ONE_ELEMENT = frozenset({"first", "last", "min", "max"})
_TAKES_FIELD = frozenset({"selectattr", "rejectattr", "groupby"})


class _Reader:
    """Walks one tree. A visit returns what an expression stands for, if that can be said."""

    def __init__(self, *, functions: Collection[str], filters: Collection[str], tests: Collection[str]) -> None:
        self.references: dict[Reference, None] = {}
        self.uses: list[FunctionUse] = []
        self._functions, self._filters, self._tests = functions, filters, tests
        self._scopes: list[dict[str, Reference | None]] = [{}]

    def use(self, node: Any) -> Reference | None:
        """Visit, and count what it stands for as used."""
        found = self._visit(node)
        if found is not None:
            self.references.setdefault(found)
        return found

    def _visit(self, node: Any) -> Reference | None:
        handler: Callable[[Any], Reference | None] | None = getattr(self, f"_on_{type(node).__name__.lower()}", None)
        if handler is not None:
            return handler(node)
        self._use_all(node.iter_child_nodes())
        return None

    def _use_all(self, children: Any) -> None:
        for child in children:
            self.use(child)

    # --- expressions
    def _on_name(self, node: Any) -> Reference | None:
        for scope in reversed(self._scopes):
            if node.name in scope:
                known = scope[node.name]
                return None if known is None else replace(known, line=node.lineno, text=node.name)
        if node.name in self._functions:
            raise TemplateProblem(f"{node.name} is a function: write {node.name}(...)", line=node.lineno)
        return Reference(node.name, (), node.lineno, text=node.name)

    def _on_getattr(self, node: Any) -> Reference | None:
        base = self._visit(node.node)
        return base and base.below(node.attr, line=node.lineno, text=f".{node.attr}")

    def _on_getitem(self, node: Any) -> Reference | None:
        base = self._visit(node.node)
        constant = getattr(node.arg, "value", None)
        if isinstance(constant, str):
            return base and base.below(f'["{constant}"]', line=node.lineno, text=f'["{constant}"]')
        self.use(node.arg)
        if type(node.arg).__name__ == "Slice":
            return base
        shown = f"[{constant}]" if isinstance(constant, int) else "[...]"
        return base and base.below(ELEMENT, line=node.lineno, text=shown)

    def _on_call(self, node: Any) -> Reference | None:
        name = self._callee(node)
        arguments = [*node.args, *(pair.value for pair in node.kwargs), node.dyn_args, node.dyn_kwargs]
        rest = [argument for argument in arguments[1:] if argument is not None]
        if name not in self._functions or not node.args:
            self._use_all([argument for argument in arguments if argument is not None])
            return None
        base = self._visit(node.args[0])
        self._use_all(rest)
        constant = getattr(rest[0], "value", None) if rest else None
        if base is not None and name == "so_far":
            base = replace(base, so_far=True, text=f"so_far({base})")
        if base is not None and name == "flat" and isinstance(constant, str):
            base = base.below(ELEMENT, line=node.lineno, text="[]").below(
                constant, line=node.lineno, text=f".{constant}"
            )
        if base is not None:
            self.references.setdefault(base)
        self.uses.append(FunctionUse(str(name), base, constant, node.lineno))
        return base if name in ("top", "so_far", "flat") else None

    def _callee(self, node: Any) -> str | None:
        """The function that a call names; None for what the template itself defines. Methods do not exist."""
        called, kind = node.node, type(node.node).__name__
        if kind == "Getattr" and getattr(called.node, "name", None) == "loop":
            return None
        if kind != "Name":
            word = getattr(called, "attr", "this")
            hint = f"write the filter: x | {word}" if word in self._filters else "a dot looks up fields of data"
            raise TemplateProblem(f"there are no methods: {word}(...)", line=node.lineno, hint=hint)
        if any(called.name in scope for scope in self._scopes):
            return None
        if called.name not in self._functions:
            raise _unknown("function", called.name, self._functions, node.lineno)
        return str(called.name)

    def _on_filter(self, node: Any) -> Reference | None:
        if node.name not in self._filters:
            raise _unknown("filter", node.name, self._filters, node.lineno)
        base = self.use(node.node) if node.node is not None else None
        self._use_all([*node.args, *(pair.value for pair in node.kwargs)])
        fields = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        fields += node.args[:1] if node.name in _TAKES_FIELD else []
        for field in fields:
            name = getattr(field, "value", None)
            if base is not None and isinstance(name, str) and name.isidentifier():
                element = base.below(ELEMENT, line=node.lineno, text="[]")
                self.references.setdefault(element.below(name, line=node.lineno, text=f".{name}"))
        if base is not None and node.name in _ONE_ELEMENT:
            return base.below(ELEMENT, line=node.lineno, text=f" | {node.name}")
        return base if node.name in _SAME_ELEMENTS else None

    def _on_test(self, node: Any) -> None:
        if node.name not in self._tests:
            raise _unknown("test", node.name, self._tests, node.lineno)
        self._use_all(node.iter_child_nodes())

    # --- statements
    def _on_for(self, node: Any) -> None:
        listed = self.use(node.iter)
        with self._scope(node.target, listed and listed.below(ELEMENT, line=node.lineno, text="[]")):
            self._scopes[-1]["loop"] = None
            self._use_all([*node.body, *([node.test] if node.test else [])])
        self._use_all(node.else_)

    def _on_assign(self, node: Any) -> None:
        self._define(node.target, self.use(node.node))

    def _on_assignblock(self, node: Any) -> None:
        self._use_all([*([node.filter] if node.filter else []), *node.body])
        self._define(node.target, None)

    def _on_with(self, node: Any) -> None:
        values = [self.use(value) for value in node.values]
        with self._scope():
            for target, value in zip(node.targets, values, strict=True):
                self._define(target, value)
            self._use_all(node.body)

    def _on_macro(self, node: Any) -> None:
        self._scopes[-1][node.name] = None
        self._callable(node)

    def _on_callblock(self, node: Any) -> None:
        self.use(node.call)
        self._callable(node)

    def _callable(self, node: Any) -> None:
        self._use_all(node.defaults)
        with self._scope():
            self._scopes[-1].update(dict.fromkeys(("caller", "varargs", "kwargs")))
            for argument in node.args:
                self._define(argument, None)
            self._use_all(node.body)

    def _on_include(self, node: Any) -> None:
        raise TemplateProblem("a template here reads no other templates", line=node.lineno)

    _on_import = _on_fromimport = _on_extends = _on_block = _on_include

    @contextmanager
    def _scope(self, target: Any = None, value: Reference | None = None) -> Iterator[None]:
        self._scopes.append({})
        if target is not None:
            self._define(target, value)
        yield
        self._scopes.pop()

    def _define(self, target: Any, value: Reference | None) -> None:
        """A name of the template's own. Set twice to different things, it stands for neither."""
        if type(target).__name__ == "Tuple":
            for item in target.items:
                self._define(item, None)
        elif type(target).__name__ == "Name":
            if target.name in self._functions:
                raise TemplateProblem(f"{target.name} is the name of a function", line=target.lineno)
            scope = self._scopes[-1]
            known = scope.get(target.name, value)
            same = known and value and (known.root, known.path) == (value.root, value.path)
            scope[target.name] = value if same else None


def _unknown(what: str, word: str, known: Collection[str], line: int) -> TemplateProblem:
    from .marked_yaml import did_you_mean  # only here: it is heavy, and a mistake may take its time

    hint = did_you_mean(word, known) or (f"there are {', '.join(sorted(known))}" if len(known) <= 12 else None)
    return TemplateProblem(f"there is no {what} '{word}'", line=line, hint=hint)
