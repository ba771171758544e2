"""Many LLM agents as one asynchronous task graph, as fast as the endpoints' rate limits allow.

What stands here is the public interface. Each name is imported when it is first used, so that a start costs only what
is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Address", "Agent", "AgentmeshError", "Budget", "BudgetExceeded", "Call", "CallFailed", "Contest", "Context",
    "ErrorInfo", "Event", "HandleMisuse", "InputProblems", "Mesh", "Outcome", "OutputType", "Resume", "Retry", "Run",
    "RunFailed", "Settings", "Standing", "Stop", "Task", "TaskFailed", "Timeouts", "Tool", "Usage", "UserError",
    "__version__", "ask_sync", "call", "open_mesh", "tool",
]  # fmt: skip

_HOME = {
    "Agent": "agents.agent", "Call": "agents.agent", "call": "agents.agent", "Context": "agents.context",
    "OutputType": "agents.output", "Tool": "agents.tools", "tool": "agents.tools",
    "Budget": "client.budget", "Retry": "client.caller", "Timeouts": "client.transport",
    "AgentmeshError": "errors", "BudgetExceeded": "errors", "CallFailed": "errors", "ErrorInfo": "errors",
    "HandleMisuse": "errors", "InputProblems": "errors", "RunFailed": "errors", "TaskFailed": "errors",
    "UserError": "errors",
    "Event": "events", "Standing": "events", "Settings": "messages",
    "Address": "outcome", "Outcome": "outcome", "Usage": "outcome",
    "Stop": "ranking.tournament", "Contest": "mesh.contest", "Resume": "mesh.recall", "Run": "mesh.run",
    "Task": "mesh.task",
    "Mesh": "workflow.mesh", "open_mesh": "workflow.mesh", "ask_sync": "workflow.mesh",
}  # fmt: skip

if TYPE_CHECKING:
    from .agents.agent import Agent, Call, call
    from .agents.context import Context
    from .agents.output import OutputType
    from .agents.tools import Tool, tool
    from .client.budget import Budget
    from .client.caller import Retry
    from .client.transport import Timeouts
    from .errors import (
        AgentmeshError,
        BudgetExceeded,
        CallFailed,
        ErrorInfo,
        HandleMisuse,
        InputProblems,
        RunFailed,
        TaskFailed,
        UserError,
    )
    from .events import Event, Standing
    from .mesh.contest import Contest
    from .mesh.recall import Resume
    from .mesh.run import Run
    from .mesh.task import Task
    from .messages import Settings
    from .outcome import Address, Outcome, Usage
    from .ranking.tournament import Stop
    from .workflow.mesh import Mesh, ask_sync, open_mesh


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
