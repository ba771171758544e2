"""Typed functions that agents may call: what a model is told of them, and how a call of one is performed."""

from __future__ import annotations

import functools
import inspect
import math
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args, get_type_hints, overload

import anyio
import pydantic
import tenacity
from pydantic_core import to_json

from ..client.caller import Halted
from ..clock import in_thread
from ..errors import BudgetExceeded, UserError
from ..messages import Message, ToolCall, ToolSpec
from .context import Context

__all__ = ["Tool", "as_tool", "call_function", "is_context", "parameter_types", "perform_tool", "return_type", "tool"]

_ATTEMPTS = 3  # of a tool that says that it is idempotent


@dataclass(frozen=True)
class Tool:
    """A function with what a model needs to know to call it.

    Parameters come from the signature, the description from the docstring. A sync function runs in a thread. A
    parameter annotated with `Context` is filled in and not shown to the model. `idempotent` tools are tried again
    when they fail; `timeout` is in seconds.
    """

    name: str
    description: str
    function: Callable[..., Any]
    idempotent: bool = False
    timeout: float | None = None
    arguments: type[pydantic.BaseModel] = field(init=False, repr=False)
    context_parameter: str | None = field(init=False, repr=False)
    spec: ToolSpec = field(init=False, repr=False)

    def __post_init__(self) -> None:
        arguments, context = _arguments(self.function, self.name)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "context_parameter", context)
        schema = arguments.model_json_schema()
        schema.pop("title", None)
        object.__setattr__(self, "spec", ToolSpec(self.name, self.description, schema))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, for use outside of agents."""
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, name: str | None = None, background: bool = False, idempotent: bool = False, timeout: float | None = None
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    function: Callable[..., Any] | None = None, /, *, name: str | None = None, background: bool = False,
    idempotent: bool = False, timeout: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:  # fmt: skip
    """Make a function a tool. Raises UserError for parameters without a type."""
    if background:
        raise UserError("background=True is not supported yet: a tool is performed within its agent's turn")

    def make(function: Callable[..., Any]) -> Tool:
        return as_tool(function, name=name, idempotent=idempotent, timeout=timeout)

    return make if function is None else make(function)


def as_tool(
    function: Callable[..., Any] | Tool, *, name: str | None = None, idempotent: bool = False,
    timeout: float | None = None,
) -> Tool:  # fmt: skip
    """The tool that a function makes, or the tool itself."""
    if isinstance(function, Tool):
        return function
    called = name or str(getattr(function, "__name__", type(function).__name__))
    return Tool(called, inspect.getdoc(function) or called, function, idempotent, timeout)


def _arguments(function: Callable[..., Any], name: str) -> tuple[type[pydantic.BaseModel], str | None]:
    try:
        hints = parameter_types(function)
    except NameError as error:
        raise UserError(f"the tool {name} has a type that cannot be looked up where it is defined: {error}") from None
    fields: dict[str, Any] = {}
    context = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(f"the tool {name} takes *{parameter.name}: a model needs named parameters")
        if parameter.name not in hints:
            raise UserError(f"the parameter {parameter.name} of the tool {name} needs a type")
        if is_context(hints[parameter.name]):
            context = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return pydantic.create_model(name, __config__=config, **fields), context


def parameter_types(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters, by name; what it returns may be a type that nobody finds.

    Raises NameError for a parameter's type that cannot be looked up where the function is defined.
    """
    while isinstance(function, functools.partial):
        function = function.func
    typed: Any = inspect.unwrap(function if inspect.isroutine(function) else type(function).__call__)
    written = {name: hint for name, hint in getattr(typed, "__annotations__", {}).items() if name != "return"}
    holder: Any = types.SimpleNamespace(__annotations__=written)
    return get_type_hints(holder, globalns=getattr(typed, "__globals__", {}), include_extras=True)


def return_type(function: Callable[..., Any] | None) -> Any:
    """The type that a function says it returns; None where it says nothing, or nothing that can be looked up."""
    try:
        return get_type_hints(inspect.unwrap(function)).get("return") if function is not None else None
    except (NameError, TypeError, AttributeError):
        return None


def is_context(hint: Any) -> bool:
    """Whether a parameter with this annotation is to be filled in: `Context`, or `Context | None`."""
    return hint is Context or Context in get_args(hint)


async def perform_tool(tools: dict[str, Tool], call: ToolCall, context: Context) -> Message:
    """Perform one call. Whatever goes wrong becomes an answer to the model, which can then do better."""
    found = tools.get(call.name)
    if found is None:
        others = f"There are: {', '.join(tools)}." if tools else "There are none at all."
        return _answer(call, f"There is no tool {call.name}. {others}", error=True)
    try:
        given = found.arguments.model_validate_json(call.arguments or "{}")
    except pydantic.ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
        return _answer(call, f"These arguments do not fit: {wrong}. They were: {call.arguments}", error=True)
    arguments = {name: getattr(given, name) for name in type(given).model_fields}
    if found.context_parameter is not None:
        arguments[found.context_parameter] = context
    try:
        with anyio.move_on_after(found.timeout):  # a TimeoutError of the tool's own is an error like any other
            result = await _perform(found, arguments)
            return _answer(call, result if isinstance(result, str) else to_json(result).decode())
    except (BudgetExceeded, Halted):
        raise  # what a tool asked of a model counts against the task's budgets, and ends with the run
    except Exception as error:  # noqa: BLE001 - a tool is the user's code: the model hears what it raised
        return _answer(call, f"{call.name} failed: {type(error).__name__}: {error}", error=True)
    return _answer(call, f"{call.name} did not end within {found.timeout:g} s.", error=True)


async def _perform(found: Tool, arguments: dict[str, Any]) -> Any:
    if not found.idempotent:
        return await call_function(found.function, **arguments)
    retrying = tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_random_exponential(multiplier=0.5, max=5),
        retry=tenacity.retry_if_not_exception_type((BudgetExceeded, Halted)),
        sleep=anyio.sleep,
        reraise=True,
    )
    return await retrying(call_function, found.function, **arguments)


async def call_function(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function of the user's: awaited if it is async, in a thread if it is not.

    Raises RuntimeError where it ends as cancelled and nobody cancelled it: on asyncio that would end its whole group.
    """
    try:
        return await _call(function, functools.partial(function, *args, **kwargs))
    except anyio.get_cancelled_exc_class() as cancelled:
        if anyio.current_effective_deadline() == -math.inf:
            raise
        raise RuntimeError("it ended as cancelled, and nobody had cancelled it") from cancelled


async def _call(function: Callable[..., Any], called: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - objects with an async __call__ are functions too
    ):
        return await called()
    (result,) = await in_thread(lambda: (called(),))  # wrapped, since trio lets no thread return an awaitable
    return await result if inspect.isawaitable(result) else result


def _answer(call: ToolCall, text: str, *, error: bool = False) -> Message:
    return Message("tool", text, tool_call_id=call.id, is_error=error)
