"""The server: OpenAI's own client, raw sockets, refusals, load, and its end."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from api_server import (
    NAME,
    Running,
    check_idle,
    load,
    post,
    raw,
    running,
    served,
    split,
)
from chats import chat_tokenizer
from hardway import chat, generate
from hardway.cli import main
from hardway.decoding import JsonSchema
from hardway.generation import decode_stream, stop_at
from hardway.serving.api import APIError, Served, read_call
from hardway.serving.security import Guard
from hardway.serving.text import TextStream

pytestmark = pytest.mark.xdist_group("server")
PROMPT = "Once upon a time"
CHAT = [{"role": "user", "content": "Hello"}]
CASES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {"prompt": PROMPT}),
    ("/v1/chat/completions", {"messages": CHAT}),
]  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Iterator[Running]:
    with running() as found:
        yield found


@pytest.fixture
def client(run: Running) -> Iterator[openai.OpenAI]:
    with client_of(run) as found:
        yield found


def client_of(run: Running, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{run.url}/v1", api_key=key, max_retries=0)


def alone(what: Served, ids: list[int], n: int, **options: Any) -> list[int]:
    stops = {what.tokenizer.eot_id, *options.pop("stop_ids", ())}
    return generate(what.engine.model, ids, n, stop_ids=stops, **options)


def ask(run: Running, path: str, body: dict[str, Any] | bytes) -> tuple[int, Any]:
    status, _, found = split(raw(run.port, post(body, path)))
    return status, json.loads(found)


def events(found: bytes) -> list[Any]:
    """The events of a stream, which must end as it should."""
    *parts, done, rest = found.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(part.removeprefix(b"data: ")) for part in parts]


def stream(run: Running, path: str, **fields: Any) -> list[Any]:
    body = {"model": NAME, "stream": True, "temperature": 0, **fields}
    status, headers, found = split(raw(run.port, post(body, path)))
    assert status == 200
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    return events(found)


# --- with OpenAI's client ---


def test_models(client: openai.OpenAI) -> None:
    [model] = client.models.list().data
    assert model.id == NAME
    assert client.models.retrieve(NAME) == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_completion_is_the_text_of_the_prompt_alone(
    run: Running, client: openai.OpenAI
) -> None:
    what = run.server.served
    ids = what.tokenizer.encode(PROMPT)
    for options in ({"temperature": 0}, {"temperature": 0.9, "seed": 5, "top_p": 0.9}):
        found = client.completions.create(
            model=NAME, prompt=PROMPT, max_tokens=20, **options
        )
        expected = alone(what, ids, 20, **options)
        [choice] = found.choices
        assert choice.text == what.tokenizer.decode(expected)
        assert choice.finish_reason == "length"
        assert choice.logprobs is None
        assert found.usage is not None
        assert found.usage.prompt_tokens == len(ids)
        assert found.usage.completion_tokens == 20
        assert found.model == NAME
    # By ids, and several at once: choices in the order of the prompts.
    other = what.tokenizer.encode("The king")
    both = client.completions.create(
        model=NAME, prompt=[ids, other], max_tokens=9, temperature=0
    )
    assert [choice.index for choice in both.choices] == [0, 1]
    texts = [what.tokenizer.decode(alone(what, x, 9)) for x in (ids, other)]
    assert [choice.text for choice in both.choices] == texts
    assert both.usage is not None
    assert both.usage.total_tokens == len(ids) + len(other) + 18
    default = client.completions.create(model=NAME, prompt=PROMPT, temperature=0)
    assert default.usage is not None
    assert default.usage.completion_tokens == 16


def test_streams_join_to_the_whole(run: Running, client: openai.OpenAI) -> None:
    whole = client.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=40, temperature=0
    )
    parts = client.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=40, temperature=0, stream=True
    )
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    options: Any = {
        "model": NAME, "messages": CHAT, "max_completion_tokens": 30,
        "temperature": 1.2, "seed": 4,
    }  # fmt: skip
    reply = client.chat.completions.create(**options)
    with client.chat.completions.stream(**options) as streamed:
        final = streamed.get_final_completion()
    assert final.choices[0].message.content == reply.choices[0].message.content
    assert final.choices[0].finish_reason == reply.choices[0].finish_reason


def test_chat_is_the_reply_of_the_model_alone(
    run: Running, client: openai.OpenAI
) -> None:
    what = run.server.served
    ids = chat.encode(what.tokenizer, CHAT)
    stops = {what.tokenizer.special_ids[chat.END]}
    for content in ("Hello", [{"type": "text", "text": "Hel"},
                              {"type": "text", "text": "lo"}]):  # fmt: skip
        found = client.chat.completions.create(
            model=NAME, messages=[{"role": "user", "content": content}],  # type: ignore[list-item,misc]
            max_tokens=25, temperature=0,
        )  # fmt: skip
        [choice] = found.choices
        expected = alone(what, ids, 25, stop_ids=stops)
        assert choice.message.content == what.tokenizer.decode(expected)
        assert choice.message.role == "assistant"
    developer: Any = [{"role": "developer", "content": "Be brief."}, *CHAT]
    system = [{"role": "system", "content": "Be brief."}, *CHAT]
    replies = [
        client.chat.completions.create(
            model=NAME, messages=messages, max_tokens=9, temperature=0
        )
        for messages in (developer, system)
    ]
    assert replies[0].choices[0].message == replies[1].choices[0].message


def test_chat_without_a_limit_fills_the_context(run: Running) -> None:
    what = run.server.served
    n = what.engine.model.config.n_ctx
    ids = chat.encode(what.tokenizer, CHAT)
    body = {"model": NAME, "messages": CHAT, "seed": 1, "stop": None}
    status, found = ask(run, "/v1/chat/completions", body)
    assert status == 200
    n_new = found["usage"]["completion_tokens"]
    reason = found["choices"][0]["finish_reason"]
    assert (n_new, reason) == (n - len(ids), "length") or reason == "stop"


def test_stop_strings(run: Running, client: openai.OpenAI) -> None:
    """Never a part of one, whether streamed or not; tokens count up to it."""
    what = run.server.served
    text = what.tokenizer.decode(alone(what, what.tokenizer.encode(PROMPT), 60))
    for start, length in ((5, 1), (11, 3), (20, 7)):
        stop = text[start : start + length]
        expected = text[: text.index(stop)]
        options: Any = {
            "model": NAME, "prompt": PROMPT, "max_tokens": 60, "temperature": 0,
            "stop": [stop, "never comes"],
        }  # fmt: skip
        whole = client.completions.create(**options)
        assert whole.choices[0].text == expected
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert whole.usage.completion_tokens < 60
        parts = [*client.completions.create(**options, stream=True)]
        assert "".join(part.choices[0].text for part in parts) == expected
        assert parts[-1].choices[0].finish_reason == "stop"
        # No empty chunks while text is held back; only the last has no text.
        assert all(part.choices[0].text for part in parts[:-1])


def test_logprobs(run: Running, client: openai.OpenAI) -> None:
    what = run.server.served
    ids = what.tokenizer.encode(PROMPT)
    new = alone(what, ids, 12)
    rows = what.engine.model(torch.tensor(ids + new)).log_softmax(dim=-1)
    rows = rows[len(ids) - 1 : -1]
    chosen = [float(row[id]) for row, id in zip(rows, new, strict=True)]
    found = client.completions.create(
        model=NAME, prompt=PROMPT, max_tokens=12, temperature=0, logprobs=3
    )
    logprobs = found.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.token_logprobs == pytest.approx(chosen, abs=1e-4)
    assert logprobs.tokens is not None
    assert len(logprobs.tokens) == 12
    assert logprobs.text_offset is not None
    assert logprobs.text_offset[:2] == [0, len(logprobs.tokens[0])]
    assert logprobs.top_logprobs is not None
    for top, row in zip(logprobs.top_logprobs, rows, strict=True):
        assert max(top.values()) == pytest.approx(float(row.max()), abs=1e-4)
        assert 1 <= len(top) <= 3
    reply = client.chat.completions.create(
        model=NAME, messages=CHAT, max_tokens=8, temperature=0, logprobs=True,  # type: ignore[arg-type]
        top_logprobs=2,
    )  # fmt: skip
    content = reply.choices[0].logprobs
    assert content is not None
    assert content.content is not None
    expected = alone(what, chat.encode(what.tokenizer, CHAT), 8)
    assert [bytes(token.bytes or []) for token in content.content] == [
        what.tokenizer.decode_bytes([id]) for id in expected
    ]
    assert all(len(token.top_logprobs) == 2 for token in content.content)
    # In a stream, the same, however many characters were held back meanwhile.
    chunks = stream(run, "/v1/completions", prompt=PROMPT, max_tokens=12, logprobs=3)
    joined: dict[str, list[Any]] = {}
    for chunk in chunks:
        for name, values in (chunk["choices"][0]["logprobs"] or {}).items():
            joined.setdefault(name, []).extend(values)
    assert joined["tokens"] == logprobs.tokens
    assert joined["text_offset"] == logprobs.text_offset
    assert joined["token_logprobs"] == logprobs.token_logprobs


def test_json_schema(run: Running, client: openai.OpenAI) -> None:
    """Valid at temperature 2 and with random weights, as the library's own."""
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
        "required": ["ok", "n"],
        "additionalProperties": False,
    }
    shape: Any = {
        "type": "json_schema", "json_schema": {"name": "answer", "schema": schema},
    }  # fmt: skip
    for seed in range(3):
        reply = client.chat.completions.create(
            model=NAME, messages=CHAT, temperature=2, seed=seed,  # type: ignore[arg-type]
            max_tokens=60, response_format=shape,
        )  # fmt: skip
        found = json.loads(reply.choices[0].message.content or "")
        assert found.keys() == {"ok", "n"}
        assert reply.choices[0].finish_reason == "stop"
        what = run.server.served
        expected = alone(
            what, chat.encode(what.tokenizer, CHAT), 60, temperature=2, seed=seed,
            constraint=JsonSchema(schema, what.tokenizer),
        )  # fmt: skip
        assert reply.choices[0].message.content == what.tokenizer.decode(expected)


def test_errors_reach_the_client_as_exceptions(client: openai.OpenAI) -> None:
    def call(**fields: Any) -> Any:
        return client.completions.create(**{"model": NAME, "prompt": "a"} | fields)

    with pytest.raises(openai.NotFoundError) as missing:
        call(model="gpt-4")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as long:
        call(prompt="a" * 600)
    assert (long.value.code, long.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as several:
        call(n=2)
    assert several.value.param == "n"


# --- shapes ---


@pytest.mark.parametrize(("path", "fields"), CASES)
def test_shape_of_a_stream(run: Running, path: str, fields: Any) -> None:
    first, *middle, last, total = stream(
        run, path, max_tokens=6, stream_options={"include_usage": True}, **fields
    )
    chunks = [first, *middle, last]
    for name in ("id", "created", "model", "object"):
        assert len({chunk[name] for chunk in [*chunks, total]}) == 1
    assert all(chunk["usage"] is None for chunk in chunks)
    for chunk in chunks:  # both keys are there, null while it runs
        assert chunk["choices"][0]["logprobs"] is None
    assert all(c["choices"][0]["finish_reason"] is None for c in [first, *middle])
    assert last["choices"][0]["finish_reason"] == "length"
    assert total["choices"] == []
    assert total["usage"]["completion_tokens"] == 6
    if "chat" in path:
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert all([*c["choices"][0]["delta"]] == ["content"] for c in middle)
        assert last["choices"][0]["delta"] == {}
    else:
        assert last["choices"][0]["text"] == ""


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_usage_only_where_it_is_asked_for(run: Running, options: Any) -> None:
    chunks = stream(
        run, "/v1/completions", prompt="a", max_tokens=2, stream_options=options
    )
    assert not any("usage" in chunk for chunk in chunks)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_several_prompts_in_one_stream(run: Running) -> None:
    what, texts = run.server.served, ["", "", ""]
    prompts = ["one", "two", "three"]
    for chunk in stream(run, "/v1/completions", prompt=prompts, max_tokens=9):
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    for prompt, text in zip(prompts, texts, strict=True):
        ids = alone(what, what.tokenizer.encode(prompt), 9)
        assert text == what.tokenizer.decode(ids)


def test_health_and_metrics(run: Running) -> None:
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert split(raw(run.port, get.format("/health").encode()))[0] == 200
    ask(run, "/v1/completions", {"model": NAME, "prompt": "ab", "max_tokens": 3})
    status, _, body = split(raw(run.port, get.format("/metrics").encode()))
    assert status == 200
    found = dict(
        line.rsplit(" ", 1)
        for line in body.decode().splitlines()
        if not line.startswith("#")
    )
    stats = run.engine.stats
    assert float(found["hardway_pages_total"]) == stats.pages_total
    assert float(found["hardway_computed_tokens_total"]) == stats.computed_tokens
    assert float(found["hardway_pages_used"]) == 0
    for name in ("requests_waiting", "prefix_hit_tokens_total",
                 "time_to_first_token_seconds_count",
                 "time_per_output_token_seconds_count"):  # fmt: skip
        assert f"hardway_{name}" in found
    assert float(found['hardway_requests_total{reason="length"}']) >= 1


# --- what is refused ---

LONG = "a" * 3000
BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    *(({name: value}, name) for name, value in [
        ("n", 2), ("n", True), ("best_of", 3), ("echo", True), ("suffix", "x"),
        ("tools", [{}]), ("functions", [{}]), ("tool_choice", "required"),
        ("stream", 1), ("stream", "true"), ("temperature", 2.1), ("temperature", "1"),
        ("temperature", -1), ("top_p", 0), ("top_p", 1.5), ("top_k", 0), ("min_p", 2),
        ("seed", 1.5), ("seed", 2**63), ("frequency_penalty", 3), ("stop", ""),
        ("stop", 5), ("stop", ["a"] * 5), ("stop", [""]), ("max_tokens", -1),
        ("max_tokens", 1.5), ("logit_bias", []), ("logit_bias", {"a": 1}),
        ("logit_bias", {"5": 101}), ("logit_bias", {"999999": 1}),
        ("repetition_penalty", 0), ("response_format", {"type": "json_object"}),
        ("response_format", "text"), ("response_format", {"type": "json_schema"}),
        ("stream_options", {}), ("model", 5), ("model", None),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "fields"), CASES)
@pytest.mark.parametrize(("bad", "param"), BAD_FIELDS, ids=str)
def test_case_51_a_bad_field_is_named(
    run: Running, path: str, fields: Any, bad: dict[str, Any], param: str
) -> None:
    status, found = ask(run, path, {"model": NAME} | fields | bad)
    assert status == 400
    assert found["error"].keys() == {"message", "type", "param", "code"}
    assert found["error"]["type"] == "invalid_request_error"
    assert found["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/completions", {}, "prompt"),
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/v1/completions", {"prompt": []}, None),
        ("/v1/completions", {"prompt": ["a", 5]}, None),
        ("/v1/completions", {"prompt": [[1], [10**6]]}, None),
        ("/v1/completions", {"prompt": ["a"] * 33}, "prompt"),
        ("/v1/completions", {"prompt": "a", "logprobs": 6}, "logprobs"),
        ("/v1/completions", {"prompt": "a", "logprobs": True}, "logprobs"),
        ("/v1/completions", {"prompt": "a", "max_tokens": 512}, "prompt"),
        ("/v1/chat/completions", {}, "messages"),
        ("/v1/chat/completions", {"messages": []}, "messages"),
        ("/v1/chat/completions", {"messages": {"role": "user"}}, "messages"),
        ("/v1/chat/completions", {"messages": ["hi"]}, "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "tool", "content": "x"}]},
         "messages"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ("/v1/chat/completions", {"messages": CHAT, "top_logprobs": 2}, "top_logprobs"),
        ("/v1/chat/completions", {"messages": CHAT, "logprobs": 3}, "logprobs"),
        ("/v1/chat/completions", {"messages": CHAT, "logprobs": True,
                                  "top_logprobs": 21}, "top_logprobs"),
        ("/v1/chat/completions", {"messages": CHAT, "max_completion_tokens": 9999},
         "messages"),
    ],
)  # fmt: skip
def test_case_51_a_bad_prompt_is_named(
    run: Running, path: str, fields: dict[str, Any], param: str | None
) -> None:
    status, found = ask(run, path, {"model": NAME, "stream": True} | fields)
    assert status == 400
    assert found["error"]["param"] in (
        param,
        "prompt" if param is None else param,
        None,
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b"null", b'"a"', b"\xff", b'{"a": NaN}', b'{"a": Infinity}',
     b"[" * 100_000, b'{"temperature": ' + b"9" * 5000 + b"}"],
    ids=range(10),
)  # fmt: skip
def test_case_52_a_body_that_is_no_json_object(run: Running, body: bytes) -> None:
    status, found = ask(run, "/v1/completions", body)
    assert status == 400
    assert found["error"]["message"].startswith("the body must be")


def test_null_is_absent_and_unknown_fields_are_ignored(run: Running) -> None:
    nulls = dict.fromkeys([
        "n", "stop", "seed", "top_p", "logit_bias", "logprobs", "stream", "tools",
        "response_format", "max_tokens", "stream_options", "temperature", "user",
    ])  # fmt: skip
    harmless = {"n": 1, "tools": [], "echo": False, "user": "me", "store": False}
    for fields in (nulls, harmless, {"seed": -5}, {"logit_bias": {"5": -100.0}}):
        body = {"model": NAME, "prompt": "a"} | fields
        assert ask(run, "/v1/completions", body)[0] == 200


def test_chat_needs_a_template() -> None:
    for template in (None, "{{ messages }}"):
        what = served(template)
        body = json.dumps({"model": NAME, "messages": CHAT}).encode()
        with pytest.raises(APIError, match="chat template") as refusal:
            read_call(what, "chat", body)
        assert refusal.value.status == 400


def test_unknown_path_and_method(run: Running) -> None:
    body = {"model": NAME, "prompt": "a"}
    assert ask(run, "/v1/embeddings", body)[0] == 404
    get = b"GET /v1/completions HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n"
    status, _, found = split(raw(run.port, get))
    assert status == 405
    assert json.loads(found)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, {"Host": "evil.example"}), (403, {"Host": "127.0.0.1.evil.example"}),
        (403, {"Host": "localhost.evil.example:80"}), (403, {"Host": "a@b:c:d"}),
        (403, {"Origin": "https://evil.example"}), (403, {"Origin": "null"}),
        (403, {"Origin": "http://localhost"}),
        (415, {"Content_Type": "text/plain"}), (415, {"Content_Type": ""}),
        (415, {"Content_Type": "application/x-www-form-urlencoded"}),
        (200, {"Host": "localhost:99"}), (200, {"Host": "[::1]:99"}),
        (200, {"Host": "192.168.1.5"}), (200, {"Origin": "http://127.0.0.1"}),
        (200, {"Content_Type": "Application/JSON; charset=utf-8"}),
    ],
)  # fmt: skip
def test_case_53_requests_that_a_web_page_could_send(
    run: Running, status: int, headers: dict[str, str]
) -> None:
    body = {"model": NAME, "prompt": "a", "max_tokens": 1}
    found, given, text = split(raw(run.port, post(body, **headers)))
    assert found == status
    assert not [name for name in given if name.startswith("access-control")]
    if status != 200:
        assert json.loads(text)["error"]["message"]


def test_case_53_two_hosts_are_none(run: Running) -> None:
    request = post({"model": NAME}).replace(
        b"Host: 127.0.0.1", b"Host: localhost\r\nHost: evil.example"
    )
    assert raw(run.port, request).split()[1] in (b"400", b"403")


def test_case_54_the_key() -> None:
    with running(api_key="sécret") as run:
        body = {"model": NAME, "prompt": "a", "max_tokens": 1}
        for header in ("", "Bearer", "Bearer wrong", "Basic sécret", "sécret"):
            status, _, found = split(raw(run.port, post(body, Authorization=header)))
            assert status == 401
            assert json.loads(found)["error"]["code"] == "invalid_api_key"
        get = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for path, status in (
            ("/", 200), ("/health", 200), ("/metrics", 401), ("/v1/models", 401),
            ("//v1/models", 401), ("/health/../v1/models", 401), ("/nothing", 401),
        ):  # fmt: skip
            assert split(raw(run.port, get.format(path).encode()))[0] == status
    with running(api_key="secret") as run, client_of(run, "secret") as client:
        assert [model.id for model in client.models.list()] == [NAME]


def test_case_54_the_key_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return False

    monkeypatch.setattr("hmac.compare_digest", compare)
    guard = Guard(None, "localhost", "key")  # type: ignore[arg-type]
    scope: Any = {
        "type": "http", "path": "/v1/models", "method": "GET",
        "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer key")],
    }  # fmt: skip
    with pytest.raises(APIError):
        guard.check(scope)
    assert compared == [(b"key", b"key")]


def test_case_55_a_body_over_the_limit() -> None:
    with running(body=1000) as run:
        body = {"model": NAME, "prompt": "a" * 2000}
        assert split(raw(run.port, post(body)))[0] == 413  # declared
        head = post(b"", Content_Length="", Transfer_Encoding="chunked")
        chunked = head + b"".join(b"64\r\n" + b" " * 100 + b"\r\n" for _ in range(30))
        assert split(raw(run.port, chunked))[0] == 413  # not declared
        assert ask(run, "/v1/completions", {"model": NAME, "prompt": "a"})[0] == 200


def test_case_56_a_body_that_does_not_come() -> None:
    with running(read=0.2) as run:
        request = post(b"", Content_Length="500") + b'{"model": '
        assert split(raw(run.port, request))[0] == 408


# --- clients that leave, or are slow, or many ---


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_case_57_a_client_that_leaves_frees_its_pages(
    run: Running, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = run.engine
    take, before = engine.step, engine.stats.steps

    def slowly() -> Any:
        time.sleep(0.01)
        return take()

    monkeypatch.setattr(engine, "step", slowly)
    body = {"model": NAME, "prompt": PROMPT, "max_tokens": 400, "stream": streamed,
            "logit_bias": {"0": -100}}  # fmt: skip
    for n in range(20):  # it leaves at another moment each time
        with socket.create_connection(("127.0.0.1", run.port)) as client:
            client.sendall(post(body))
            wait_for(lambda: engine.stats.running == 1)
            if streamed:
                client.recv(100)
            time.sleep(n / 1000)
        wait_for(lambda: engine.stats.running == 0)
        stats = engine.stats
        assert stats.pages_free == stats.pages_total
        assert stats.steps - before < 100
        before = stats.steps
    # And nothing is computed for them any more.
    time.sleep(0.05)
    assert engine.stats.steps == before


@pytest.mark.slow
def test_case_58_a_reader_that_takes_nothing_is_dropped() -> None:
    """The others go on meanwhile."""
    with running(write=0.3) as run:
        body = {"model": NAME, "prompt": ["a"] * 32, "max_tokens": 500, "stream": True,
                "logprobs": 5, "logit_bias": {"0": -100}}  # fmt: skip
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.connect(("127.0.0.1", run.port))
            slow.sendall(post(body))
            wait_for(lambda: run.engine.stats.running > 0)
            other = {"model": NAME, "prompt": "b", "max_tokens": 5}
            assert ask(run, "/v1/completions", other)[0] == 200
            wait_for(lambda: not run.server.worker.jobs, 30)
            # It was cut off, not answered.
            slow.settimeout(10)
            found = b""
            with pytest.MonkeyPatch.context():
                try:
                    while part := slow.recv(65536):
                        found += part
                except OSError:
                    pass
            assert b"[DONE]" not in found
        check_idle(run.engine)


def test_case_59_a_full_queue() -> None:
    what = served(max_batch=1)
    with running(what, queue=1) as run:
        take = what.engine.step

        def slowly() -> Any:
            time.sleep(0.02)
            return take()

        what.engine.step = slowly  # type: ignore[method-assign]
        body = {"model": NAME, "prompt": PROMPT, "max_tokens": 100, "stream": True,
                "logit_bias": {"0": -100}}  # fmt: skip
        with (
            socket.create_connection(("127.0.0.1", run.port)) as first,
            socket.create_connection(("127.0.0.1", run.port)) as second,
        ):
            first.sendall(post(body))
            second.sendall(post(body))
            wait_for(lambda: what.engine.stats.waiting == 1)
            status, headers, found = split(raw(run.port, post(body)))
            assert status == 429
            assert headers["retry-after"] == "1"
            assert json.loads(found)["error"]["code"] == "queue_full"
        check_idle(what.engine)
        with client_of(run) as client:
            patient = client.with_options(max_retries=5)
            done = patient.completions.create(model=NAME, prompt="a", max_tokens=1)
            assert done.choices[0].finish_reason


@pytest.mark.slow
def test_signs_of_life_while_nothing_comes() -> None:
    what = served()
    with running(what, ping=0.05) as run:
        take = what.engine.step

        def slowly() -> Any:
            time.sleep(0.2)
            return take()

        what.engine.step = slowly  # type: ignore[method-assign]
        body = {"model": NAME, "prompt": "a", "max_tokens": 2, "stream": True}
        _, _, found = split(raw(run.port, post(body)))
        assert b"\n\n: ping\n\n" in b"\n\n" + found
        assert found.endswith(b"data: [DONE]\n\n")


def test_case_60_a_step_that_fails_ends_its_requests_only() -> None:
    what = served()
    with running(what) as run:
        take, faults = what.engine.step, [RuntimeError("\x1b[31m"), None]

        def broken() -> Any:
            if what.engine.scheduler.waiting and (fault := faults.pop(0)):
                raise fault
            return take()

        for streamed in (False, True):
            faults[:] = [RuntimeError("\x1b[31mclient's"), None]
            what.engine.step = broken  # type: ignore[method-assign]
            body = {"model": NAME, "prompt": "a", "stream": streamed}
            status, _, found = split(raw(run.port, post(body)))
            assert status == (200 if streamed else 500)
            error = json.loads(found.removeprefix(b"data: "))["error"]
            assert error["type"] == "server_error"
            assert "client's" not in error["message"]
            what.engine.step = take  # type: ignore[method-assign]
            assert ask(run, "/v1/completions", {"model": NAME, "prompt": "a"})[0] == 200
        check_idle(what.engine)


def test_case_61_nothing_a_client_sends_is_logged(
    run: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "hardway.serving")
    caplog.set_level("INFO", "uvicorn")
    canary = "c4nary"
    for body in (
        {"model": canary}, {"model": NAME, "prompt": canary, canary: canary},
        {"model": NAME, "prompt": canary, "stop": [canary] * 9},
    ):  # fmt: skip
        raw(run.port, post(body, f"/v1/completions?{canary}", User_Agent=canary))
        raw(run.port, post(body, f"/{canary}"))
    assert "completions: 200 after" in caplog.text
    assert canary not in caplog.text


@pytest.mark.slow
def test_case_62_many_clients_at_once() -> None:
    """Five seconds of `make soak`: no answer is lost, none is another's."""
    with running(served(max_batch=16), queue=60) as run:
        outcomes = asyncio.run(load(run, 100, 5))
        check_idle(run.engine)
        assert run.engine.stats.prefix_hit_tokens > 0
    assert outcomes["answered"] > 50
    assert outcomes["given up"] > 5
    assert run.server.worker.n_unfinished == 0


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_case_63_a_signal_drains(sign: signal.Signals) -> None:
    """What runs is finished, what comes is refused, and the process ends."""
    command = [sys.executable, "-m", "hardway", "serve", "--model", "pocket"]
    with subprocess.Popen(
        [*command, "--port", "0"], stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.fullmatch(
                r"Serving pocket at http://127\.0\.0\.1:(\d+) \(Ctrl-C stops\)\n", line
            )
            assert found, line
            body = {"model": "pocket", "prompt": PROMPT, "max_tokens": 200,
                    "stream": True, "logit_bias": {"50256": -100}}  # fmt: skip
            with socket.create_connection(("127.0.0.1", int(found[1]))) as client:
                client.settimeout(60)
                client.sendall(post(body))
                answer = client.recv(1000)
                process.send_signal(sign)
                while part := client.recv(65536):
                    answer += part
            assert answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
            assert b'"finish_reason":"length"' in answer
            assert process.wait(30) in (130, -sign)
        finally:
            process.kill()


def test_serve_without_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "hardway.serving.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit) as end:
        main(["serve", "--model", "pocket"])
    assert end.value.code == 2
    assert 'pip install "hardway[serve]"' in capsys.readouterr().err


def test_serve_where_the_port_is_taken(
    run: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", "--model", "pocket", "--port", str(run.port)])
    assert end.value.code == 2
    assert "in use" in capsys.readouterr().err


def test_while_draining(run: Running) -> None:
    run.server.draining = True
    try:
        status, found = ask(run, "/v1/completions", {"model": NAME, "prompt": "a"})
        assert (status, found["error"]["type"]) == (503, "server_error")
        get = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert split(raw(run.port, get))[0] == 503
    finally:
        run.server.draining = False


def test_case_64_the_page_runs_nothing_but_its_own(run: Running) -> None:
    get = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, headers, page = split(raw(run.port, get))
    assert status == 200
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "unsafe" not in policy
    text = page.decode()
    assert not re.search(r"https?:|innerHTML|outerHTML|insertAdjacent|document\.write",
                         text)  # fmt: skip
    assert not re.search(r"<[^>]*\s(on\w+|style|src|href)=", text)


# --- text ---


@given(
    st.lists(st.integers(3, 261), max_size=30),
    st.lists(st.text("abst \n", min_size=1, max_size=4), max_size=3),
)
def test_text_stream_is_stream_text_turned_inside_out(
    ids: list[int], stop: list[str]
) -> None:
    tokenizer = chat_tokenizer()
    text = TextStream(tokenizer, stop)
    found = []
    for id in ids:
        found.append(text.push(id, None))
        if text.stopped:
            break
    found.append(text.end())
    expected = [*stop_at(decode_stream(tokenizer, ids), stop)]
    assert [piece for piece in found if piece] == expected
