"""Sandboxed Jinja2 over data: prompts and expressions see fields of values, never Python attributes or methods.

A text is parsed once, its names are read from the tree so that a workflow can be checked before anything is paid for,
and the tree is compiled into a function that is kept for later templates with the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from types import TracebackType
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from .data import MissingField, plain, read_field, read_item, text_of
from .errors import AgentmeshError
from .references import ELEMENT, FunctionUse, Names, Reference, TemplateProblem, names_in

__all__ = [
    "ELEMENT", "FUNCTIONS", "Expression", "FunctionUse", "Names", "Reference", "Template", "TemplateProblem",
    "value_template",
]  # fmt: skip

MAX_REPEATED = 100_000
"""The most elements or characters that `x * n` may make: as many as the sandbox allows `range`."""
MAX_EXPONENT = 1_000


class _NoField(UndefinedError):
    """A field that is not there was used."""

    def __init__(self, message: str, field: str) -> None:
        self.field = field
        super().__init__(message)


class _DataEnvironment(SandboxedEnvironment):
    """A sandbox in which a dot and brackets read data, and nothing but the listed functions can be called."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext | Namespace):
            return super().getattr(obj, attribute)
        try:
            return read_field(obj, attribute)
        except MissingField as missing:
            return self._missing(obj, attribute, str(missing))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Undefined):
            return obj[argument]
        try:
            return read_item(obj, argument)
        except MissingField as missing:
            return self._missing(obj, str(argument), str(missing))

    def _missing(self, obj: Any, field: str, message: str) -> Any:
        if isinstance(obj, Undefined):
            return getattr(obj, field)  # raises for what was missing first
        return self.undefined(message, obj, field, cast("Any", lambda text: _NoField(text, field)))

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, Macro | LoopContext) or isinstance(getattr(obj, "__self__", None), LoopContext):
            return True
        return any(obj is function for function in _GLOBALS.values())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise SecurityError("% is for numbers; join texts with ~")
        if operator == "**" and (abs(right) > MAX_EXPONENT or abs(left) > 10**15):
            raise SecurityError(f"{left:g} ** {right:g} is too large")
        if operator == "*":
            for parts, times in ((left, right), (right, left)):
                if isinstance(parts, str | list | tuple) and len(parts) * times > MAX_REPEATED:
                    raise SecurityError(f"a repetition may have at most {MAX_REPEATED:,} parts")
        return super().call_binop(context, operator, left, right)


def _top(rows: Iterable[Any], n: int) -> list[Any]:
    """The first n of a tournament's standings, fewer if there are fewer."""
    return list(islice(rows, max(0, n)))


def _flat(items: Iterable[Any], field: str) -> list[Any]:
    """The lists that stand in a field of each item, one after the other; nothing where the field is None."""
    return list(chain.from_iterable(read_field(item, field) or () for item in items))


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    """All values as text, with a separator between them."""
    return separator.join(text_of(read_field(value, attribute) if attribute else value) for value in values)


def _tojson(value: Any, indent: int | None = None) -> str:
    """A value as JSON, for people and models: nothing is escaped for HTML."""
    return json.dumps(plain(value), ensure_ascii=False, indent=indent)


_FILTERS = (
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "indent", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse",
    "round", "select", "selectattr", "slice", "sort", "sum", "title", "trim", "truncate", "unique", "upper",
    "urlencode", "wordcount", "wordwrap",
)  # fmt: skip
_ENV = _DataEnvironment(autoescape=False, undefined=StrictUndefined, finalize=text_of, keep_trailing_newline=False)
_ENV.filters = {name: _ENV.filters[name] for name in _FILTERS}
_ENV.filters |= {"join": _join, "tojson": _tojson, "string": text_of}
_GLOBALS: dict[str, Any] = {
    "top": _top, "flat": _flat, "len": len, "range": _ENV.globals["range"], "namespace": Namespace,
}  # fmt: skip
_ENV.globals = {}
FUNCTIONS = frozenset({*_GLOBALS, "so_far"})


class _Rewriter(NodeTransformer):
    """Turns `so_far(tasks.x)` into a look-up in what the scope has as `so_far`, and `~` into our way to make text."""

    def visit_Call(self, node: nodes.Call) -> nodes.Node:  # noqa: N802  # the visitor's own naming
        self.generic_visit(node)
        if not (isinstance(node.node, nodes.Name) and node.node.name == "so_far"):
            return node
        match node.args:
            case [nodes.Getattr(node=nodes.Name(name="tasks"), attr=str(task))] if not node.kwargs:
                found = nodes.Getitem(nodes.Name("so_far", "load"), nodes.Const(task), "load")
                return found.set_lineno(node.lineno)
        raise TemplateProblem("so_far takes a task: so_far(tasks.name)", line=node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None).set_lineno(node.lineno)


@dataclass(frozen=True, slots=True)
class _Compiled:
    names: Names
    template: JinjaTemplate
    result: str | None


@lru_cache(maxsize=2048)  # a Python program makes the same template once per item
def _compile(text: str, expression: bool) -> _Compiled:
    """Parse, read the names and compile. Raises TemplateProblem."""
    try:
        if expression:
            found = _parse_expression(text)
            names = _names(found)
            body = nodes.Assign(nodes.Name("result", "store", lineno=1), _rewrite(found), lineno=1)
            tree = nodes.Template([body], lineno=1)
        else:
            tree = _ENV.parse(_without_empty_lines(text))
            names = _names(tree)
            tree = _rewrite(tree)
        tree.set_environment(_ENV)
        code = _ENV.compile(tree, None, _FILE)
    except TemplateSyntaxError as error:
        raise TemplateProblem(_in_words(error), line=error.lineno) from None
    except RecursionError:
        raise TemplateProblem("this is nested too deep", line=1) from None
    return _Compiled(names, JinjaTemplate.from_code(_ENV, code, {}), "result" if expression else None)


def _parse_expression(text: str) -> nodes.Expr:
    if text.lstrip().startswith("{{"):
        raise TemplateProblem("an expression stands here, without braces", line=1, hint=text.strip(" {}\n"))
    parser = Parser(_ENV, text, state="variable")
    found = parser.parse_expression()
    if not parser.stream.eos:
        token = parser.stream.current
        raise TemplateSyntaxError(f"unexpected '{token.value}' after the expression", token.lineno)
    return found


def _names(tree: nodes.Node) -> Names:
    return names_in(tree, functions=FUNCTIONS, filters=_ENV.filters, tests=_ENV.tests)


def _rewrite(tree: Any) -> Any:
    return _Rewriter().visit(tree)


_TAG_ONLY = re.compile(r"\{#.*?#\}|^[ \t]*((?:\{%(?!-)[^\n]*?(?<!-)%\}[ \t]*)+)\n", re.MULTILINE | re.DOTALL)
_RAW = re.compile(r"\{%[-+]?\s*raw\b")


def _without_empty_lines(text: str) -> str:
    """Lines that hold nothing but `{% %}` leave no empty line. The break moves into a comment, so lines still count."""
    if "{%" not in text or _RAW.search(text):
        return text
    return _TAG_ONLY.sub(lambda found: found[1].rstrip() + "{#\n#}" if found[1] else found[0], text)


def _in_words(error: TemplateSyntaxError) -> str:
    message = str(error.message)
    if found := re.search(r"innermost block that needs to be closed is '(\w+)'", message):
        return f"{{% {found[1]} %}} is not closed"
    return message[:1].lower() + message[1:].rstrip(".")


_FILE = "<template>"
_USUAL = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)


class _Text:
    """What templates and expressions share."""

    __slots__ = ("_compiled", "name", "text")

    def __init__(self, text: str, *, name: str | None = None) -> None:
        self.text = text
        self.name = name
        try:
            self._compiled = _compile(text, isinstance(self, Expression))
        except TemplateProblem as problem:
            if name is None:
                raise
            raise TemplateProblem(problem.message, line=problem.line, name=name, hint=problem.hint) from None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.text!r}>"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def names(self) -> tuple[Reference, ...]:
        """The names from outside that this uses, each with its path and line."""
        return self._compiled.names.references

    def uses(self) -> tuple[FunctionUse, ...]:
        """The functions that this calls."""
        return self._compiled.names.uses

    def _run(self, scope: Mapping[str, Any]) -> tuple[Context, Iterator[str]]:
        context = Context(_ENV, {**_GLOBALS, **scope}, None, {})
        return context, self._compiled.template.root_render_func(context)

    def _problem(self, error: Exception, scope: Mapping[str, Any]) -> TemplateProblem:
        line = _line_of(error.__traceback__, self._compiled.template)
        message = str(error)
        if isinstance(error, _NoField):
            steps = {error.field, f'["{error.field}"]'}
            written = [ref for ref in self.names() if steps & {*ref.path} and ref.line == (line or ref.line)]
            message = f"{written[0]}: {message}" if written else message
        elif isinstance(error, UndefinedError) and (found := re.fullmatch(r"'(\w+)' is undefined", message)):
            message = f"{found[1]}: there is no such name here; there are {', '.join(sorted(scope)) or 'none'}"
        return TemplateProblem(message, line=line, name=self.name)


def _line_of(trace: TracebackType | None, template: JinjaTemplate) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


class Template(_Text):
    """A text with `{{ }}` and `{% %}` in it. Raises TemplateProblem for syntax, with its line."""

    __slots__ = ()

    def render(self, scope: Mapping[str, Any]) -> str:
        """The text, filled in. `scope` has the values of the names; `so_far` in it those of the tasks that run.

        Raises TemplateProblem for a name or field that is not there, and for values that do not fit an operation.
        """
        try:
            return "".join(self._run(scope)[1])
        except AgentmeshError:
            raise
        except _USUAL as error:
            raise self._problem(error, scope) from error

    evaluate = render


class Expression(_Text):
    """What stands between double braces, alone: its value keeps its type."""

    __slots__ = ()

    @property
    def whole(self) -> Reference | None:
        """What the expression as a whole stands for, if that can be said without its values."""
        return self._compiled.names.whole

    @property
    def form(self) -> str:
        """`reference` for nothing but a reference, the function that is applied to all the rest, or `other`."""
        return self._compiled.names.form

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value. Raises TemplateProblem as `Template.render` does."""
        try:
            context, parts = self._run(scope)
            for _ in parts:
                pass
            value = context.vars["result"]
            if isinstance(value, Undefined):
                return None if not isinstance(value, StrictUndefined) else str(value)  # which raises
            return list(value) if isinstance(value, Iterator) else value
        except AgentmeshError:
            raise
        except _USUAL as error:
            raise self._problem(error, scope) from error


def value_template(text: str, *, name: str | None = None) -> Template | Expression:
    """A template whose value keeps its type if the text is one bare `{{ expression }}`, and is text otherwise."""
    found = _BARE.fullmatch(text)
    if found is not None:
        try:
            return Expression(found[1], name=name)
        except TemplateProblem:
            pass  # `{{ a }} and {{ b }}` looks bare from outside; if it is wrong, the template says so
    return Template(text, name=name)


_BARE = re.compile(r"\s*\{\{[-+]?(.*?)[-+]?\}\}\s*", re.DOTALL)
