"""What happens when something fails: one task alone, what depends on it, and what a run says about it at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import agentmesh as am


def parse(text: str) -> int:
    """Fails for most texts."""
    return int(text)


def double(number: int) -> int:
    """Is skipped where there is no number."""
    return 2 * number


async def main() -> None:
    async with am.open_mesh(journal=None, provider_files=[Path(__file__).with_name("lab.yaml")]) as mesh:
        try:
            async with mesh.open_run("strict") as run:
                numbers = [run.start(am.call(parse, text), key=text) for text in ("1", "two", "3")]
                doubled = [run.start(am.call(double, number)) for number in numbers]
                for task in doubled:  # the outcome of a task never raises
                    outcome = await task.outcome()
                    print(outcome.address, outcome.state, outcome.value if outcome.ok else outcome.error)
        except am.RunFailed as failed:  # raised once, when everything else is finished
            print(failed)
        print()

        async with mesh.open_run("tolerant", failures="report") as run:
            known = run.start(am.call(parse, "four"), key="four", on_failure={"default": 4})
            tried = run.start(am.call(parse, "five"), key="five", retry=am.Retry(attempts=2), on_failure="skip")
            total = run.start(am.call(sum, [known, tried]), name="total")  # of a list, those that have a value
            print("total:", await total)

            brief = am.Settings(max_tokens=12)
            fragile = am.Agent("fragile", model="lab/broken", settings=brief, retry=am.Retry(attempts=1))
            print(await run.start(fragile.on("Hello?"), on_failure={"fallback": {"model": "sim/small"}}))
            try:
                await run.start(fragile.on("Hello?"))
            except am.TaskFailed as failed:
                print(failed)
                print("  its story:", *failed.story)
        print(run.status, [f"{outcome.address} {outcome.state}" for outcome in run.failures])


if __name__ == "__main__":
    asyncio.run(main())
