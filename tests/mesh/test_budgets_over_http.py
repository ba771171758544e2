"""A budget in dollars against a strict server in a process of its own: what that charged is never more, to the cent."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agentmesh as am
from agentmesh.events import CallEnded, CallIntent, Event

pytestmark = pytest.mark.anyio

PROVIDER = """
provider: shop
dialect: openai-chat
base_url: {url}
models:
  flaky:
    max_output: 4000
    prices: {{input: 1.0, output: 1.0}}
    limits: {{in_flight: 500}}
    supports: {{stream: true}}
    simulate: {{failures: {{drop: 0.05, reset: 0.05, truncate: 0.1, "503": 0.05}}}}
  down: {{prices: {{input: 1.0, output: 1.0}}, simulate: {{failures: {{"500": 1.0}}}}}}
simulate: {{latency: {{first_token: 0.2, per_token: 0.0, jitter: 0.5}}, length: 40}}
"""


class Shop:
    """The server: its address, and what it has charged by its own count."""

    def __init__(self, url: str, file: Path) -> None:
        self.url, self.file = url, file

    @property
    def statistics(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/stats") as answer:
            statistics: dict[str, Any] = json.load(answer)
        return statistics

    @property
    def charged(self) -> float:
        """A dollar for a million tokens of everything it has admitted, whether an answer got through or not."""
        return float(self.statistics["tokens"]) * 1e-6


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    served, asked = tmp_path / "served.yaml", tmp_path / "shop.yaml"
    served.write_text(PROVIDER.format(url="https://shop.invalid/v1"))
    command = [sys.executable, "-m", "agentmesh", "serve", "sim", "--provider-file", str(served)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = json.loads(process.stdout.readline())["base_url"]
            asked.write_text(PROVIDER.format(url=url))
            yield Shop(url.removesuffix("/v1"), asked)
        finally:
            process.kill()


async def test_five_hundred_calls_at_a_time_with_faults_retries_tools_and_fallbacks(shop: Shop) -> None:
    bound, flying, peak = 0.04, 0, 0

    def watch(event: Event) -> None:
        nonlocal flying, peak
        flying += isinstance(event, CallIntent) - isinstance(event, CallEnded)
        peak = max(peak, flying)

    async def tool(word: str, ctx: am.Context) -> str:
        return await ctx.ask("shop/flaky", f"What is {word}?")

    settings = {"max_tokens": 60}
    agent = am.Agent("reader", model="shop/flaky", settings=settings, retry=am.Retry(3))
    broken = am.Agent("broken", model="shop/down", settings=settings, retry=am.Retry(1))
    budget = am.Budget(usd=bound)
    async with am.open_mesh(journal=None, provider_files=[shop.file], settings=settings, watchers=[watch]) as mesh:
        async with mesh.open_run("r", budget=budget, failures="report") as run:
            for number in range(1200):
                run.start(agent.on(f"Question {number}: why is that?"))
            for number in range(150):
                run.start(am.call(tool, f"word{number}"))
                run.start(broken.on(f"{number}"), on_failure={"fallback": {"model": "shop/flaky"}})
        assert run.status == "stopped"
    statistics = budget.statistics()
    assert statistics.spent_usd <= bound
    assert statistics.reserved_usd == pytest.approx(0.0, abs=1e-12)
    assert peak > 300, "many calls were in flight at once"
    assert run.record.usage.uncertain > 10
    assert shop.statistics["accepted"] > 600
    failed_free = (
        run.record.usage.calls - run.record.usage.uncertain
    )  # a 500 costs nothing; the server counts its input
    assert failed_free > 0
    assert shop.charged <= bound
    assert statistics.spent_usd > 0.9 * bound, "and it is used"
