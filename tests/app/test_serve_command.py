"""`agentmesh serve` in a process of its own, over loopback, with plain httpx."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentmesh.app.cli import main

ROW = {"model": "gpt", "messages": [{"role": "user", "content": "How long?"}], "reply": "Nine days."}
_PROGRAM = "import sys; from agentmesh.app.cli import main; sys.exit(main(['serve', *sys.argv[1:]]))"


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.communicate(timeout=10)[1]
            yield process, json.loads(line)
        finally:
            process.kill()


def stop(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str, str]:
    process.send_signal(how)
    out, err = process.communicate(timeout=15)
    return process.returncode, out, err


def test_sim_answers_streams_refuses_and_ends_cleanly() -> None:
    arguments = ("--rate", "requests_per_hour=2", "--latency", "0", "--seed", "3")
    with serving("sim", *arguments) as (process, told), httpx.Client(timeout=10) as http:
        assert told["base_url"].startswith("http://127.0.0.1:")
        assert told["base_url"].endswith("/v1")
        body = {"model": "large", "messages": [{"role": "user", "content": "Hello"}]}
        url = told["base_url"] + "/chat/completions"
        whole = http.post(url, json=body)
        assert "simulated" in whole.json()["choices"][0]["message"]["content"]
        with http.stream("POST", url, json={**body, "stream": True}) as streamed:
            assert list(streamed.iter_lines())[-2] == "data: [DONE]"
        refused = http.post(url, json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        stats = http.get(told["base_url"].removesuffix("/v1") + "/stats").json()
        assert (stats["received"], stats["accepted"], stats["refused"], stats["completed"]) == (3, 2, 1, 2)
        port = httpx.URL(told["base_url"]).port
        taken = subprocess.run(
            [sys.executable, "-c", _PROGRAM, "sim", "--port", str(port)], capture_output=True, text=True, timeout=30
        )
        assert (taken.returncode, taken.stdout) == (2, "")
        assert taken.stderr.count("\n") == 1
        assert f"port {port}" in taken.stderr
        assert stop(process, signal.SIGTERM) == (0, "", "")


def test_replay_answers_what_was_recorded_and_drops_connections_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(json.dumps(ROW) + "\n" + json.dumps({**ROW, "reply": "Ten days."}) + "\n")
    with (
        serving("replay", str(file), "--model", "gpt", "--fail", "0.6") as (process, told),
        httpx.Client(timeout=10) as http,
    ):
        url, seen = told["base_url"] + "/chat/completions", set()
        for _ in range(40):
            try:
                answer = http.post(url, json={"model": "gpt", "messages": ROW["messages"]})
                seen.add(
                    answer.json()["choices"][0]["message"]["content"]
                    if answer.status_code == 200
                    else answer.status_code
                )
            except httpx.RemoteProtocolError:
                seen.add("drop")
        assert seen == {"Ten days.", 500, 503, "drop"}
        assert http.post(url, json={"model": "gpt", "messages": [{"role": "user", "content": "?"}]}).status_code == 404
        assert http.post(url, json={"model": "other", "messages": ROW["messages"]}).status_code == 404
        code, out, err = stop(process, signal.SIGINT)
        assert (code, out) == (0, "")
        assert "the last reply counts" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sim", "--rate", "requests_per_minut=3"], "did you mean 'requests_per_minute'"),
        (["sim", "--rate", "requests_per_minute=-3"], "a number above 0"),
        (["sim", "--rate", "in_flight=0.5"], "a whole number of calls"),
        (["sim", "--rate", "requests_per_day=0.5"], "requests_per_day must be at least 1"),
        (["sim", "--rate", "requests_per_minute"], "a number above 0"),
        (["sim", "--latency", "fast"], "write seconds"),
        (["sim", "--latency", "2:1"], "write seconds"),
        (["sim", "--latency", "nan"], "write seconds"),
        (["sim", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["sim", "--provider-file", "nowhere.yaml"], "nowhere.yaml"),
        (["replay", "nowhere.jsonl"], "nowhere.jsonl"),
        (["replay"], "FILE"),
        (["sim", "--fail", "2"], "--fail"),
    ],
)
def test_wrong_input_is_one_message_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err


def test_a_broken_recording_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.jsonl").write_text(json.dumps(ROW) + "\n{broken\n")
    assert main(["serve", "replay", str(tmp_path / "r.jsonl")]) == 2
    assert "r.jsonl:2: this line is no JSON" in capsys.readouterr().err


def test_sim_resets_connections_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "acme.yaml"
    file.write_text(
        "{provider: acme, dialect: openai-chat, base_url: 'http://x.example/v1', models: {m: {}},"
        " simulate: {failures: {reset: 1.0}}}"
    )
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    with (
        serving("sim", "--provider-file", str(file)) as (_, told),
        httpx.Client(timeout=10) as http,
        pytest.raises(httpx.ReadError, match="reset"),
    ):
        http.post(told["base_url"] + "/chat/completions", json=body)
