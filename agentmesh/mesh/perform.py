"""How a task is performed: an agent's turns or a function, with the values it was given, to an outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import anyio
import tenacity

from ..agents.agent import Agent, Call, Handle, replace_handles
from ..agents.context import Context
from ..agents.loop import Turns, refuse_unusable, run_turns
from ..agents.tools import call_function, is_context, parameter_types
from ..client.budget import Budget, Budgets
from ..client.caller import Caller, Halted, Retry, Stopwatch, Tally
from ..clock import monotonic, wall
from ..errors import (
    AgentmeshError,
    BudgetExceeded,
    CallFailed,
    ErrorInfo,
    ErrorKind,
    HandleMisuse,
    TaskFailed,
    UserError,
)
from ..events import TaskStarted
from ..flow.graph import Node
from ..messages import Message, Request
from ..outcome import Outcome, State
from ..template import Template, TemplateProblem
from .calls import is_template
from .task import Task
from .work import FAIL, Job, OnFailure, SkipTask, Work

if TYPE_CHECKING:
    from .run import Run

__all__ = ["answer", "call_python", "on_failure_of", "perform", "work_of"]


async def perform(run: Run, node: Node) -> Outcome | None:
    """Perform a node's work. None if the run stops before it could end; a failure is an outcome, never an exception."""
    work: Work = node.payload
    if work.joins is not None and (known := run.recalled(node)) is not None:  # now it can be said
        node.recalled = True
        return known
    began = monotonic()
    run.record.emit(TaskStarted(at=wall(), address=str(node.address)))
    job = _job(run, node, work)
    tally = job.caller.tally
    try:
        end = await _end(job, work)
    finally:
        run.record.waiting.difference_update(tally.calls)  # what was never sent will not be
    if end is None:
        return None
    if tally.usage.calls:
        await _keep_replies(run, node)
    address = node.address
    return Outcome(
        address.task, address.key, address.sample, state=end.state, item=work.item, value=end.value, error=end.error,
        finish=tally.finish, model=tally.model, attempts=tally.attempts, seconds=monotonic() - began,
        usage=tally.usage, usd=tally.usd,
    )  # fmt: skip


async def _keep_replies(run: Run, node: Node) -> None:
    """Wait until a task's replies are on disk: before a dependent starts, and before anybody is told of its end.

    So whoever awaits the task, `map`, a batch that writes down its answer and the screen show nothing that a killed
    process would have to ask for again. Where other tasks depend on it, that is now. Else, while other calls wait for
    their turn, there is no hurry: the intent of the next one brings a commit, which takes these replies along. It is at
    most 0.1 s after the last one, and spares every second commit.
    """
    needed = node.dependents or any(collection.dependents for collection in node.collections)
    await run.record.durable(patient=not needed and bool(run.record.waiting))


class _End(NamedTuple):
    """What a task came to, before what it cost is added."""

    state: State = "done"
    value: Any = None
    error: ErrorInfo | None = None


async def _end(job: Job, work: Work) -> _End | None:
    run = job.run
    try:
        await run.carrying.carry(work.budgets)
        return _End(value=await work.perform(job))
    except Exception as raised:  # noqa: BLE001 - whatever a task raises is that task's failure, and reported as such
        cause = _cause(raised)
    match cause:
        case SkipTask():
            return _End("skipped", error=cause.error)
        case BudgetExceeded() if cause.budget is not None and cause.budget in (run.budget, run.mesh.budget):
            run.stop("stopped", str(cause), exceeded=cause)
            return None
        case TaskFailed() if run.runner.stopping and cause.outcome.state == "cancelled":
            return None  # it needed what a stop left undone
        case Halted():
            unwanted = job.node in run.runner.unwanted
            return _End("cancelled", error=ErrorInfo("cancelled", "nobody waits for it any more")) if unwanted else None
    if run.record.broken is not None:
        return None
    error = _error_of(cause, work)
    match work.on_failure.mode:
        case "skip":
            return _End("skipped", error=error)
        case "default":
            return _End(value=work.on_failure.value, error=error)
        case "fallback" if work.on_failure.work is not None:
            return await _fall_back(job, work.on_failure.work, error=error)
        case _:
            return _End("failed", error=error)


async def _fall_back(job: Job, work: Work, *, error: ErrorInfo) -> _End | None:
    """What came of other work, on its own terms, in the place of what failed.

    If it was not even tried (its `if` is false, or what it needs has failed), the first `error` stays the reason.
    """
    end = await _end(_job(job.run, job.node, work, tally=job.caller.tally), work)
    if end is None or end.state == "done" or not (end.error is None or end.error.kind == "dependency"):
        return end
    return _End("failed", error=error)


def _cause(raised: Exception) -> Exception:
    """What ended a task: of a group, what concerns the run, else the one error that is in it."""
    found = [raised]
    while groups := [one for one in found if isinstance(one, ExceptionGroup)]:
        found = [one for one in found if one not in groups] + [one for group in groups for one in group.exceptions]
    concerns_run = (one for one in found if isinstance(one, Halted | BudgetExceeded))
    return next(concerns_run, found[0] if len(found) == 1 else raised)


def _error_of(cause: Exception, work: Work) -> ErrorInfo:
    match cause:
        case CallFailed():
            return cause.error
        case BudgetExceeded():
            return ErrorInfo("budget", str(cause))
        case TemplateProblem():
            return ErrorInfo("bad_request", str(cause))
        case UserError() | HandleMisuse() if work.is_call:
            return ErrorInfo("bad_request", str(cause))
        case AgentmeshError():
            return ErrorInfo("internal" if work.is_call else "tool", str(cause))
    return ErrorInfo("internal" if work.is_call else _python_kind(cause), f"{type(cause).__name__}: {cause}")


def _python_kind(error: BaseException) -> ErrorKind:
    """What a function's exception counts as where kinds of errors are listed."""
    match error:
        case CallFailed():
            return error.error.kind
        case TimeoutError():
            return "timeout"
        case _:
            return "tool"


def _job(run: Run, node: Node, work: Work, *, tally: Tally | None = None) -> Job:
    """A task as it is performed by this work. With `tally`, it goes on counting there."""
    address = str(node.address)
    record = run.record
    counted = tally or Tally()

    def next_call() -> int:
        counted.calls.append(number := record.next_call())
        return number

    caller = Caller(
        address, node.address.task, node.order, record.emit, record.durable, next_call, run.rng,
        budgets=Budgets((*work.budgets, run.budget, run.mesh.budget)), retry=work.retry or Retry(), agent=work.agent,
        timeout=work.attempt_timeout, stopwatch=None if work.timeout is None else Stopwatch(work.timeout),
        tally=counted, halted=lambda: run.halted() or node in run.runner.unwanted,
        pause=run.pause, share=run.share_of(work), known=run.known, is_kept=run.is_kept, sample=node.address.sample,
        known_tools=run.recall, grew=lambda: node.grew,
    )  # fmt: skip

    async def ask(model: str, prompt: str) -> str:
        request = Request("", (Message("user", prompt),), settings=run.settings)
        await run.mesh.read_models([model])
        reply = await run.mesh.route([model]).call(request, caller)
        refuse_unusable(reply, structured=False)
        return reply.text

    context = Context(run=run.id, address=address, agent=work.agent, seed=run.seed, ask=ask)
    return Job(run, node, caller, context)


def work_of(
    call: Call[Any], *, retry: Retry | None, timeout: float | None, budgets: Sequence[Budget] = (),
    on_failure: OnFailure = FAIL, item: Any = None, asked: str | None = None,
    revive: Callable[[Any], Any] | None = None,
) -> Work:  # fmt: skip
    """The work that a call means. `asked` and `revive` are as in `Work`."""
    if call.agent is None:
        function = call.function
        assert function is not None

        async def perform_function(job: Job) -> Any:
            args, kwargs = _values(call.args), _values(call.data)
            return await call_python(job, function, args=args, kwargs=kwargs, retry=retry, timeout=timeout)

        return Work(perform_function, is_call=False, item=item, retry=retry, timeout=timeout, budgets=budgets,
                    on_failure=on_failure, asked=asked, revive=revive)  # fmt: skip
    agent = call.agent

    async def perform_agent(job: Job) -> Any:
        return await answer(job, agent, _rendered(call, job))

    own = () if agent.budget is None else (agent.budget,)
    return Work(
        perform_agent, item=item, agent=agent.name, weight=agent.weight, retry=retry or agent.retry, timeout=timeout,
        attempt_timeout=agent.timeout, budgets=(*own, *budgets), on_failure=on_failure, asked=asked,
        revive=revive,
    )  # fmt: skip


def on_failure_of(given: str | Mapping[str, Any], call: Call[Any], work: Work, *, run: Run) -> OnFailure:
    """An `on_failure` option in the forms that users write it. Raises UserError for other forms."""
    match given:
        case "fail" | "skip":
            return OnFailure(given)
        case {"default": value}:
            return OnFailure("default", value)
        case {"fallback": {"model": str(model)}} if call.agent is not None:
            agent = call.agent
            run.check_prices([model], work.budgets)
            run.mesh.route([model])  # a name nobody serves is told now

            async def with_other_model(job: Job) -> Any:
                return await answer(job, agent, _rendered(call, job), models=[model])

            return OnFailure("fallback", work=replace(work, perform=with_other_model))
    raise UserError(f"on_failure is fail, skip, {{'default': VALUE}} or {{'fallback': {{'model': NAME}}}}, not {given}")


def _rendered(call: Call[Any], job: Job) -> str:
    if not is_template(call.prompt):
        return call.prompt
    return Template(call.prompt, name=str(job.node.address)).render(_values(call.data))


async def answer(
    job: Job, agent: Agent[Any], prompt: str, *, models: Sequence[str] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> Any:  # fmt: skip
    """An agent's answer to a prompt, in the name of a task."""
    turns = Turns(
        prompt, agent.instructions, agent.output, agent.tools, settings=agent.settings.over(job.run.settings),
        max_turns=agent.max_turns, repairs=agent.repairs,
    )  # fmt: skip
    route = job.run.mesh.route(models or agent.models)
    return await run_turns(turns, route, caller=job.caller, context=job.context, on_text=on_text)


async def call_python(
    job: Job, function: Callable[..., Any], *, args: Sequence[Any] = (), kwargs: Mapping[str, Any],
    retry: Retry | None, timeout: float | None,
) -> Any:  # fmt: skip
    """A function's result. Retried by `retry` only, since nobody knows whether it may be repeated.

    What it raises is of kind `tool`, unless it is a CallFailed. `timeout` is in seconds, over all attempts.
    """
    kwargs = {**_context_argument(function, job.context), **kwargs}
    allowed = retry or Retry(1)

    async def once() -> Any:
        job.caller.tally.attempts += 1
        return await call_function(function, *args, **kwargs)

    def again(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        if not isinstance(error, Exception) or isinstance(error, BudgetExceeded | Halted | SkipTask):
            return False
        return allowed.allows(state.attempt_number, _python_kind(error))

    with anyio.move_on_after(timeout):  # a TimeoutError of the function's own is an error like any other
        if allowed.attempts == 1:
            return await once()
        wait = tenacity.wait_random_exponential(multiplier=0.5, max=10)
        return await tenacity.AsyncRetrying(retry=again, wait=wait, sleep=anyio.sleep, reraise=True)(once)
    raise CallFailed(ErrorInfo("timeout", f"no result within {timeout:g} s", retryable=True))


def _context_argument(function: Callable[..., Any], context: Context) -> dict[str, Context]:
    """The function's parameter that is annotated with Context, if it has one."""
    try:
        return {name: context for name, hint in parameter_types(function).items() if is_context(hint)}
    except NameError:  # a type that cannot be looked up is none of ours
        return {}


def _values(data: Any) -> Any:
    """The data with each handle replaced by its task's value; in a list or dict only those that have one."""
    if isinstance(data, Mapping):
        return {name: _value(one) for name, one in data.items()}
    return tuple(_value(one) for one in data)


def _value(data: Any) -> Any:
    return replace_handles(data, of=_done_value, keep=_succeeded)


def _settled(handle: Handle) -> Outcome | None:
    return cast("Task[Any]", handle).settled


def _succeeded(handle: Handle) -> bool:
    outcome = _settled(handle)
    return outcome is not None and outcome.ok


def _done_value(handle: Handle) -> Any:
    outcome = _settled(handle)
    return None if outcome is None else outcome.value
