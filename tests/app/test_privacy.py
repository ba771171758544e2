"""Planted keys and planted texts: every byte that failing and succeeding runs leave behind is searched for them."""

from __future__ import annotations

import base64
import http.server
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

import agentmesh as am
from agentmesh.app.cli import main
from agentmesh.journal import RunFile, list_runs

PACKAGE = str(Path(am.__file__).parent)
KEYS = {
    "bearer": "planted/bearer+0aA<1>zz", "file": "planted.file&0bB_2yy", "command": "planted-command-0cC-3xx",
    "header": "planted header 0dD 4ww", "query": "planted/query=0eE&5vv", "extra": "planted_extra_0fF_6uu",
    "user": "planted-user-0gG-7tt",
}  # fmt: skip
PROMPT, REPLY = "the planted question 91734", "the planted answer 48213"
AUTH = {
    "bearer": "api_key_env: PLANTED_BEARER",
    "file": "api_key_file: planted.key",
    "command": f"api_key_command: [{sys.executable}, -c, \"print('{KEYS['command']}')\"]",
    "header": "api_key_env: PLANTED_HEADER\nauth: {header: x-api-key}",
    "query": "api_key_env: PLANTED_QUERY\nauth: {query: key}",
    "extra": 'headers: {x-team: "team ${PLANTED_EXTRA}"}',
    "user": "base_url_env: PLANTED_URL",
}
FLOW = f"""
agentmesh: 1
name: flow
inputs: {{q: {{type: rows, default: [{{q: "{PROMPT}", id: a}}, {{q: "{PROMPT}", id: b}}]}}}}
budget: {{calls: 2}}
agents: {{a: {{model: p-bearer/ok, instructions: "{PROMPT}"}}}}
tasks:
  t: {{for_each: inputs.q, agent: a, prompt: "{PROMPT} {{{{ item.q }}}}"}}
  u: {{for_each: tasks.t, agent: a, prompt: "{{{{ item }}}}"}}
outputs: {{u: tasks.u, t: tasks.t}}
"""
MODELS = ("ok", "refused", "page", "spoken", "cut", "slow")


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with all that it was sent: as a refusal, a page, a reply, or a reply that breaks off."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        heard = f"{self.path} {dict(self.headers)} " + " ".join(self.headers.values())
        model = body["model"]
        text = {"ok": REPLY, "spoken": f"{REPLY}: {heard}"}.get(model, REPLY)
        if model == "slow":
            time.sleep(20)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        reply = {"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
        match model:
            case "refused":
                self._answer(401, json.dumps({"error": {"message": f"Incorrect API key provided: {heard}"}}).encode())
            case "page":
                page = f"<html><title>Bad {heard}</title><body>{heard}</body></html>"
                self._answer(200, page.encode(), kind="text/html")
            case "cut":
                self._answer(200, (json.dumps({"heard": heard}) + json.dumps(reply))[:-7].encode())
            case _:
                self._answer(200, json.dumps(reply).encode())

    def _answer(self, status: int, body: bytes, *, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-heard", " ".join(self.headers.values()).replace("\n", " "))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a provider for each way in which a key is given, and a server for them."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("agentmesh.client.endpoint._BACKOFF_S", 0.001)  # what breaks is tried eight times
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("bearer", "header", "query", "extra"):
        monkeypatch.setenv(f"PLANTED_{name.upper()}", KEYS[name])
    port = server.server_port
    monkeypatch.setenv("PLANTED_URL", f"http://somebody:{KEYS['user']}@127.0.0.1:{port}/v1")
    Path("planted.key").write_text(KEYS["file"])
    Path("files").mkdir()
    for name, auth in AUTH.items():
        url = f"base_url: http://127.0.0.1:{9 if name == 'user' else port}/v1\n"
        models = ", ".join(f"{model}: {{prices: free}}" for model in MODELS)
        text = f"provider: p-{name}\ndialect: openai-chat\n{url}{auth}\nlimits: {{requests_per_minute: 100000}}\n"
        Path(f"files/{name}.yaml").write_text(f"{text}models: {{{models}}}\n")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()[1]
    gone = f"provider: gone\ndialect: openai-chat\nbase_url: http://u:{KEYS['user']}@127.0.0.1:{nobody}/v1\n"
    Path("files/gone.yaml").write_text(f"{gone}{AUTH['query']}\nmodels: {{ok: {{prices: free}}}}\n")
    yield tmp_path
    server.shutdown()
    server.server_close()
    thread.join()


def write_lines(path: Path, *models: str) -> None:
    lines = [
        {"id": f"{name}-{model}", "prompt": PROMPT, "model": f"p-{name}/{model}"} for name in AUTH for model in models
    ]
    lines.append({"id": "gone", "prompt": PROMPT, "model": "gone/ok"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def left_behind(place: Path) -> Iterator[tuple[str, str]]:
    """Every file that a run has made, as it is; and every record of journals, which may be packed there."""
    for path in place.rglob("*"):
        ours = path.suffix == ".jsonl" and path.name.startswith("lines")
        if (
            path.is_file()
            and path.parent.name != "files"
            and path.name not in ("planted.key", "flow.yaml")
            and not ours
        ):
            yield str(path), path.read_bytes().decode("latin-1")
    for folder in place.glob("**/runs"):
        for run in folder.glob("*.db"):
            with RunFile.open(run) as file:
                for number, name, body in file.bodies():
                    yield f"{run.name}:{number}:{name}", body.decode()


def forms(text: str) -> set[str]:
    """A key, and the same as it may be quoted; a piece that is cut off would be one of its beginnings."""
    basic = base64.b64encode(f"somebody:{text}".encode()).decode()
    return {text, quote(text, safe=""), json.dumps(text)[1:-1], basic, text[:12]} - {"planted head", "planted/quer"}


def assert_no_keys(texts: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> None:
    found = [
        (where, name) for where, text in texts for name, key in KEYS.items() if any(one in text for one in forms(key))
    ]
    assert found == []


def test_no_key_is_left_behind_by_runs_that_fail_and_runs_that_succeed(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_lines(place / "lines.jsonl", "ok", "refused", "page", "spoken", "cut")
    agents = "agents: {a: {model: p-bearer/page, retry: {attempts: 1}}}"
    (place / "flow.yaml").write_text(f"agentmesh: 1\nname: flow\n{agents}\ntasks: {{t: {{agent: a, prompt: hm}}}}\n")
    told = []
    for display, first in (("plain", "99"), ("json", "5"), ("full", "5")):
        options = ["--provider-file", "files", "--display", display, "-o", f"out-{display}.jsonl", "--first", first]
        assert main(["batch", "lines.jsonl", *options, "--fresh"]) == 1
        told.append((display, "".join(capsys.readouterr())))
    rows = [json.loads(line) for line in (place / "out-plain.jsonl").read_text().splitlines()]
    assert {row["id"].split("-")[1] for row in rows if row["ok"]} == {"ok", "spoken"}
    assert sum("[key]" in json.dumps(row) for row in rows) >= 3 * len(AUTH), "there was something to take out"
    assert main(["run", "flow.yaml", "--provider-file", "files", "-o", "flow.json"]) == 1
    for command in (
        ["runs", "--json"],
        ["show", "last"],
        ["show", "last", "t"],
        ["models"],
        ["models", "p-user", "-v"],
    ):
        main([*command, *(["--provider-file", "files"] if command[0] == "models" else [])])
    told.append(("commands", "".join(capsys.readouterr())))
    assert_no_keys([*told, *left_behind(place)])
    made = [*place.glob(".agentmesh/**/*"), *place.glob("cache/**/*")]
    assert len(made) > 8
    for path in (one for one in made if one.name != ".gitignore"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nor_by_one_that_is_killed(place: Path) -> None:
    write_lines(place / "lines.jsonl", "ok", "spoken", "refused", "slow")
    command = [sys.executable, "-m", "agentmesh", "batch", "lines.jsonl", "--provider-file", "files", "-o", "out.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if (runs := list_runs(Path(".agentmesh"))) and runs[0].done + runs[0].failed >= 21:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        told = process.stdout.read().decode()
    made = [path for path in place.glob(".agentmesh/runs/*") if path.name != ".gitignore"]
    assert {".db", ".db-wal", ".lock"} <= {path.suffix for path in made}
    assert_no_keys([("told", told), *left_behind(place)])
    for path in (*made, place / "out.jsonl.partial"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_nor_by_what_hooks_raise_and_what_tracebacks_show(place: Path) -> None:
    texts: list[tuple[str, str]] = []

    async def quote_it(request: Any) -> None:
        raise RuntimeError(f"{request.url} {dict(request.headers)}")

    async def ask(hook: bool, model: str) -> None:
        hooks = {"request": [quote_it]} if hook else {}
        async with am.open_mesh(provider_files=["files"], event_hooks=hooks, remembers=False) as mesh:
            try:
                await mesh.ask(model, PROMPT)
            except am.TaskFailed as error:
                shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                frames = [frame for frame in shown.stack if frame.filename.startswith(PACKAGE)]
                assert frames
                texts.append((model, f"{error} {error!r} {error.outcome} {[frame.locals for frame in frames]}"))
                texts.append((model, "".join(traceback.format_exception(error))))
            texts.append((model, f"{mesh!r} {mesh.route([model])!r} {list(mesh.route([model]).endpoints)}"))
            texts.append((model, f"{[vars(mesh)]} {mesh.catalog!r} {mesh.catalog.resolve(model)!r}"))

    for name in AUTH:
        anyio.run(ask, True, f"p-{name}/ok")
        anyio.run(ask, False, f"p-{name}/refused")
    assert len(texts) == 4 * 2 * len(AUTH)
    assert sum("[key]" in text for _, text in texts) >= 2 * len(AUTH)
    assert_no_keys([*texts, *left_behind(place)])


def test_nor_by_a_fault_of_our_own(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("agentmesh.app.batch.run._summary", broken)
    write_lines(place / "lines.jsonl", "ok", "refused")
    assert main(["batch", "lines.jsonl", "--provider-file", "files", "-o", "out.jsonl"]) == 4
    (told,) = place.glob(".agentmesh/error-*.txt")
    assert "RuntimeError: broken" in told.read_text()
    assert stat.S_IMODE(told.stat().st_mode) == 0o600
    assert_no_keys([("told", "".join(capsys.readouterr())), *left_behind(place)])


def test_a_proxy_with_a_password_is_not_quoted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://somebody:{KEYS['user']}@127.0.0.1:9")
    write_lines(place / "lines.jsonl", "ok")
    assert main(["batch", "lines.jsonl", "--provider-file", "files", "-o", "out.jsonl", "--first", "1"]) == 1
    assert_no_keys(left_behind(place))


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_without_content_no_prompt_and_no_reply_is_in_the_journal(
    place: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "variable":
        monkeypatch.setenv("AGENTMESH_NO_CONTENT", "1")
    elif how == "file":
        Path("agentmesh.toml").write_text("no_content = true\n")
    flag = ["--no-content"] if how == "flag" else []
    (place / "flow.yaml").write_text(FLOW)
    run = ["run", "flow.yaml", "--provider-file", "files", "-o", "flow.json", "--display", "plain", *flag]
    assert main(run) == 3
    assert REPLY in (place / "flow.json").read_text()
    batch = ["batch", "lines.jsonl", "--provider-file", "files", "--system", PROMPT, "-o", "out.jsonl", *flag]
    write_lines(place / "lines.jsonl", "ok", "page")
    assert main(batch) == 1
    assert REPLY in (place / "out.jsonl").read_text()
    capsys.readouterr()
    assert main(["resume", "last", "--budget", "calls=9"]) == 2
    assert "keeps no content" in capsys.readouterr().err
    assert main([*run, "--budget", "calls=9"]) == 0
    told = capsys.readouterr().err
    assert "this run keeps no content: 2 tasks are done again, which took 2 calls before" in told
    (flow,) = [one for one in list_runs(Path(".agentmesh")) if one.name == "flow"]
    assert (flow.status, flow.calls) == ("done", 6)
    texts = [(where, text) for where, text in left_behind(place / ".agentmesh")]
    assert len(texts) > 40
    assert [where for where, text in texts if "planted" in text and ("question" in text or "answer" in text)] == []
