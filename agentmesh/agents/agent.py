"""An agent, and calls: what is to be done, with data that may still be on its way."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, overload

from ..client.budget import Budget
from ..client.caller import Retry, check_weight
from ..errors import HandleMisuse, UserError
from ..messages import Settings
from .loop import MAX_TURNS, REPAIRS
from .output import OutputType
from .tools import Tool, as_tool

__all__ = ["Agent", "Call", "Handle", "call", "handles_in", "replace_handles"]

T = TypeVar("T")
if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    T_co = _TypeVar("T_co", covariant=True, default=str)  # an agent without an output type answers with text
else:
    T_co = TypeVar("T_co", covariant=True)


class Agent(Generic[T_co]):
    """A name, a model, instructions, tools and an output type; it answers prompts in a loop of turns.

    `model` is `provider/model`, or several of them, asked in turn when one cannot serve. `output` is a type (a
    pydantic model, a dataclass, `list[int]`, ...) that replies are checked against; without it a reply is its text.
    `max_turns` bounds rounds of tool calls, `repairs` how often a reply that does not fit is sent back. `timeout` is
    seconds per attempt, from admission. With a `weight` its calls have a share of their own wherever they wait for a
    limit, beside the run's other agents and other runs: its weight times the run's, which is 1 unless said. Without it
    they are part of the run's share, in which priority, path and age decide. What else is not said is taken from where
    the agent is used. Raises UserError for what makes no sense.
    """

    def __init__(
        self, name: str, *, model: str | Sequence[str], instructions: str = "",
        output: type[T_co] | OutputType | None = None,
        tools: Sequence[Callable[..., Any] | Tool] = (), settings: Settings | Mapping[str, Any] | None = None,
        max_turns: int = MAX_TURNS, repairs: int = REPAIRS, retry: Retry | None = None, timeout: float | None = None,
        budget: Budget | None = None, priority: str | float | None = None, weight: float | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.models = (model,) if isinstance(model, str) else tuple(model)
        self.instructions = instructions
        self.output = output if isinstance(output, OutputType) or output is None else OutputType.of_type(output)
        made = [as_tool(one) for one in tools]
        self.tools = {one.name: one for one in made}
        self.settings = settings if isinstance(settings, Settings) else Settings.of(settings or {})
        self.max_turns = max_turns
        self.repairs = repairs
        self.retry = retry
        self.timeout = timeout
        self.budget = budget
        self.priority = priority
        self.weight = None if weight is None else check_weight(weight, of=f"the agent {name}")
        if not self.models:
            raise UserError(f"the agent {name} has no model")
        if len(self.tools) < len(made):
            raise UserError(f"the agent {name} has two tools of one name: {', '.join(one.name for one in made)}")
        if max_turns < 0 or repairs < 0:
            raise UserError(f"the agent {name}: max_turns and repairs are numbers from 0 on")

    def __repr__(self) -> str:
        return f"<Agent {self.name} on {', '.join(self.models)}>"

    def on(self, prompt: str, /, **data: Any) -> Call[T_co]:
        """A call of this agent. `prompt` is a template over `data`, which may hold handles of tasks."""
        return Call(name=self.name, agent=cast("Agent[Any]", self), prompt=prompt, data=data)


@dataclass(frozen=True, slots=True, eq=False)
class Call(Generic[T_co]):
    """Something to be done: an agent's answer to a prompt, or a function's result. Nothing happens until it is started.

    `name` is what a task of it is called unless it is given a name.
    """

    name: str
    agent: Agent[Any] | None = None
    prompt: str = ""
    function: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@overload
def call(function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> Call[T]: ...
@overload
def call(function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Call[T]: ...


def call(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Call[Any]:
    """A call of a function, async or not; arguments may be handles of tasks, also inside lists and dicts.

    A sync function is performed in a thread. A parameter that is annotated with `Context` is filled in.
    """
    if isinstance(function, Tool):
        return Call(name=function.name, function=function.function, args=args, data=kwargs)
    name = getattr(function, "__name__", type(function).__name__).strip("_<>") or "call"
    return Call(name=name, function=function, args=args, data=kwargs)


class Handle:
    """The promise of a task's value. It refuses to be used as the value, so that no repr is sent to a paid model."""

    __slots__ = ()

    def _misused(self, how: str) -> NoReturn:
        raise HandleMisuse(f"{self!r} was {how}: it is a task's handle, not its value; give it to a call, or await it")

    def __str__(self) -> str:
        self._misused("turned into text")

    def __format__(self, spec: str) -> str:
        self._misused("formatted")

    def __bool__(self) -> bool:
        self._misused("tested")

    def __iter__(self) -> Iterator[Any]:
        self._misused("iterated")


def handles_in(value: Any) -> list[Handle]:
    """The handles in a value, also inside lists, tuples, sets and dicts, in their order."""
    if isinstance(value, str | int | float):  # most data is text, and the questions below take longer
        return []
    if isinstance(value, Handle):
        return [value]
    if isinstance(value, Mapping):
        return [handle for one in value.values() for handle in handles_in(one)]
    if isinstance(value, list | tuple | set | frozenset):
        return [handle for one in value for handle in handles_in(one)]
    return []


def replace_handles(value: Any, *, of: Callable[[Handle], Any], keep: Callable[[Handle], bool]) -> Any:
    """The same value with each handle replaced by what `of` gives for it; in a list or dict only those to `keep`."""
    if isinstance(value, Handle):
        return of(value)
    if not handles_in(value):
        return value
    if isinstance(value, Mapping):
        return {name: replace_handles(one, of=of, keep=keep) for name, one in value.items() if _stays(one, keep)}
    if hasattr(value, "_fields"):  # a named tuple: each place has a meaning, so that none may fall away
        return type(value)(*(replace_handles(one, of=of, keep=keep) for one in value))
    return type(value)(replace_handles(one, of=of, keep=keep) for one in value if _stays(one, keep))


def _stays(value: Any, keep: Callable[[Handle], bool]) -> bool:
    return not isinstance(value, Handle) or keep(value)
