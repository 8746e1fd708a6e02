"""OpenAI's HTTP API: read a request's body, and spell answers, chunks and errors.

What a client sends is untrusted. Every field is checked before any work; what cannot be
honored is refused by name, and what isn't known is ignored, as explicit nulls are.
Source: OpenAI's published API description.
"""

import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from hardway import chat, checks, conversation, inputs
from hardway.decoding import JsonSchema
from hardway.serving.engine import Engine
from hardway.serving.request import Request
from hardway.serving.text import Logprob, Piece
from hardway.tokenizer import Tokenizer

MAX_PROMPTS, MAX_STOPS = 32, 4
FINGERPRINT = f"hardway-{version('hardway')}"
# Fields that change the answer, and the values of each that change nothing.
REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "suffix": ("",), "tools": ([],),
    "tool_choice": ("none", "auto"), "functions": ([],), "function_call": ("none",),
    "modalities": (["text"],), "audio": (), "prediction": (), "web_search_options": (),
}  # fmt: skip


class APIError(Exception):
    """What a client did wrong, or the server could not do, as an HTTP answer."""

    def __init__(
        self, status: int, message: str, param: str | None = None,
        code: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's shape: four keys, some of them null."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {
            "message": str(self),
            "type": kind,
            "param": self.param,
            "code": self.code,
        }
        return {"error": error}


@dataclass
class Served:
    """What is served: a model's name, its engine, and its tokenizer."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        """See whether the model can chat, and where its replies end."""
        inputs.check_vocabularies(
            self.engine.model.config.n_vocab, self.tokenizer.n_vocab
        )
        self.no_chat = ""
        try:
            conversation.check_template(self.tokenizer.chat_template)
        except ValueError as error:
            self.no_chat = str(error)
        special = self.tokenizer.special_ids
        self.chat_stops = {special.get(chat.END, self.tokenizer.eot_id)}
        # Schemas take time to compile, and clients send the same ones again.
        self.schema = lru_cache(16)(self._schema)

    def _schema(self, text: str) -> JsonSchema:
        return JsonSchema(json.loads(text), self.tokenizer)

    def model_object(self) -> dict[str, Any]:
        """Return the entry of the list of models."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "hardway",
            "max_model_len": self.engine.model.config.n_ctx,
        }


@dataclass
class Asked:
    """A checked call: its requests, one for each prompt, and how to answer it."""

    kind: str  # "chat" or "completions"
    model: str
    requests: list[Request]
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    id: str
    created: int = field(default_factory=lambda: int(time.time()))


def read_json(body: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises `APIError` for anything else, NaN included."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        found = json.loads(body, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise APIError(400, "the body must be valid JSON, in UTF-8") from None
    if not isinstance(found, dict):
        raise APIError(400, "the body must be a JSON object")
    return {name: value for name, value in found.items() if value is not None}


def read_call(served: Served, kind: str, body: bytes) -> Asked:
    """Check a call to an endpoint, ``chat`` or ``completions``, and tokenize it.

    Raises `APIError` naming the field that is at fault.
    """
    fields = read_json(body)
    name = fields.get("model")
    if not isinstance(name, str):
        raise APIError(400, "model must be a string", "model")
    if name != served.name:
        message = f"the model {checks.safe_repr(name)} does not exist"
        raise APIError(404, message, "model", "model_not_found")
    refuse_fields(fields)
    stream = read_flag(fields, "stream")
    include_usage = read_stream_options(fields, stream)
    try:
        stop = inputs.check_stop(fields.get("stop", ()))
        if len(stop) > MAX_STOPS:
            raise ValueError(f"stop must hold at most {MAX_STOPS} strings")
        prompts, param = read_prompts(served, kind, fields)
        options = read_options(served, kind, fields)
        requests = [
            new_request(served, kind, fields, ids, param, options) for ids in prompts
        ]
    except ValueError as error:
        raise as_api_error(error, fields) from None
    prefix = "chatcmpl-" if kind == "chat" else "cmpl-"
    id = prefix + uuid.uuid4().hex
    return Asked(kind, served.name, requests, stop, stream, include_usage, id)


def as_api_error(error: ValueError, fields: Mapping[str, Any]) -> APIError:
    """Turn a refusal of the library into an answer, which names the field it is about.

    Its messages begin with the argument's name, or with "each … of" it.
    """
    found = re.match(r"(?:each [\w ]*of )?(\w+)", str(error))
    param = found[1] if found and found[1] in fields else None
    return APIError(400, str(error), param)


def refuse_fields(fields: Mapping[str, Any]) -> None:
    """Refuse what would be answered wrongly if it were ignored."""
    for name, harmless in REFUSED.items():
        # 1 == True, so types have to agree, too.
        value = fields.get(name)
        if name in fields and not any(
            value == other and type(value) is type(other) for other in harmless
        ):
            raise APIError(400, f"{name} is not supported by this server", name)


def read_flag(fields: Mapping[str, Any], name: str) -> bool:
    """Return a field that is true or false, and false where it is absent."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise APIError(400, f"{name} must be true or false", name)
    return value


def read_stream_options(fields: Mapping[str, Any], stream: bool) -> bool:
    """Return whether the last chunk of a stream shall tell the usage."""
    options = fields.get("stream_options")
    if options is None:
        return False
    if not stream or not isinstance(options, dict):
        message = "stream_options must be an object, and only where stream is true"
        raise APIError(400, message, "stream_options")
    present = {name: value for name, value in options.items() if value is not None}
    return read_flag(present, "include_usage")


def read_prompts(
    served: Served, kind: str, fields: Mapping[str, Any]
) -> tuple[list[list[int]], str]:
    """Return the prompts as ids, and the name of the field that holds them."""
    tokenizer = served.tokenizer
    if kind == "chat":
        if served.no_chat:
            raise APIError(400, served.no_chat, "model")
        if "messages" not in fields:
            raise APIError(400, "messages must be given", "messages")
        return [chat.encode(tokenizer, read_messages(fields["messages"]))], "messages"
    prompt = fields.get("prompt")
    if prompt is None:
        raise APIError(400, "prompt must be given", "prompt")
    several = isinstance(prompt, list) and all(
        isinstance(part, str | list) for part in prompt
    )
    prompts = prompt if several else [prompt]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise APIError(400, f"prompt must hold 1 to {MAX_PROMPTS} prompts", "prompt")
    n_vocab = tokenizer.n_vocab
    return [
        tokenizer.encode(checks.not_empty("prompt", part))
        if isinstance(part, str)
        else checks.token_ids("prompt", part, n_vocab)
        for part in prompts
    ], "prompt"


def read_messages(messages: Any) -> list[Any]:
    """Return messages whose contents are plain strings, and whose roles we know.

    A content may be a list of text parts; ``developer`` is the newer name of system.
    """
    if not isinstance(messages, list):
        raise ValueError("messages must be a list")
    return [_read_message(i, message) for i, message in enumerate(messages)]


def _read_message(i: int, message: Any) -> Any:
    if not isinstance(message, dict):
        raise ValueError(f"messages[{i}] must be an object")
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        parts = [
            part.get("text")
            for part in content
            if isinstance(part, dict) and part.get("type") == "text"
        ]
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(content):
            raise ValueError(f"messages[{i}]['content'] must hold text parts only")
        content = "".join(texts)
    return {"role": "system" if role == "developer" else role, "content": content}


def read_options(
    served: Served, kind: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options of ``Engine.submit``, with OpenAI's defaults and ranges."""
    number = checks.number
    options: dict[str, Any] = {
        "temperature": number("temperature", fields.get("temperature", 1), 0, 2)
    }
    for name in (
        "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty",
        "presence_penalty",
    ):  # fmt: skip
        if name in fields:
            options[name] = fields[name]
    if "seed" in fields:
        seed = checks.integer("seed", fields["seed"], -(2**63), 2**63 - 1)
        options["seed"] = seed % 2**63
    if "logit_bias" in fields:
        options["logit_bias"] = read_bias(fields["logit_bias"])
    if (schema := read_schema(fields.get("response_format"))) is not None:
        options["constraint"] = served.schema(schema)
    options["logprobs"] = read_logprobs(kind, fields)
    eot_id = served.tokenizer.eot_id
    options["stop_ids"] = {eot_id} | (served.chat_stops if kind == "chat" else set())
    return options


def read_bias(bias: Any) -> dict[int, Any]:
    """Return a bias by ids: JSON's keys are strings."""
    if not isinstance(bias, dict):
        raise ValueError("logit_bias must be an object")
    for key in bias:
        if not re.fullmatch(r"[0-9]{1,9}", key):
            found = checks.safe_repr(key)
            raise ValueError(f"logit_bias must have token ids as keys, got {found}")
    return {int(key): value for key, value in bias.items()}


def read_schema(response_format: Any) -> str | None:
    """Return the schema that an answer shall follow, as JSON text, or None."""
    shape = response_format if isinstance(response_format, dict) else {}
    kind = shape.get("type")
    if response_format is None or kind == "text":
        return None
    described = shape.get("json_schema")
    if kind != "json_schema" or not isinstance(described, dict):
        raise ValueError(
            "response_format must be of type text or json_schema, "
            f"got {checks.safe_repr(kind)}"
        )
    return json.dumps(described.get("schema"))


def read_logprobs(kind: str, fields: Mapping[str, Any]) -> int | None:
    """Return how many log-probabilities each token shall have, or None.

    Completions ask for a number, chats for true and a number.
    """
    if kind == "completions":
        found = fields.get("logprobs")
        return None if found is None else checks.integer("logprobs", found, 0, 5)
    wanted = read_flag(fields, "logprobs")
    if "top_logprobs" not in fields:
        return 0 if wanted else None
    if not wanted:
        raise ValueError("top_logprobs must come with logprobs true")
    return checks.integer("top_logprobs", fields["top_logprobs"], 0, 20)


def new_request(
    served: Served,
    kind: str,
    fields: Mapping[str, Any],
    ids: Sequence[int],
    param: str,
    options: Mapping[str, Any],
) -> Request:
    """Make the engine's request; without a limit, a chat may fill its context."""
    engine = served.engine
    pool = len(engine.pool.owners) * engine.page_size
    room = min(engine.model.config.n_ctx, pool) - len(ids)
    name = "max_tokens"
    if kind == "chat" and "max_completion_tokens" in fields:
        name = "max_completion_tokens"  # the newer name takes precedence
    default = max(room, 1) if kind == "chat" else 16
    max_new_tokens = checks.integer(name, fields.get(name, default))
    if max_new_tokens > room:
        message = (
            f"the context holds {room + len(ids)} tokens, got {len(ids)} in {param} "
            f"and {max_new_tokens} to generate"
        )
        raise APIError(400, message, param, "context_length_exceeded")
    return engine.new_request(ids, max_new_tokens, **options)


# --- answers ---


def answer(asked: Asked, outputs: Sequence[Sequence[Piece]]) -> dict[str, Any]:
    """Return the whole answer: for each prompt, its pieces joined."""
    choices = []
    for i, pieces in enumerate(outputs):
        text = "".join(piece.text for piece in pieces)
        logprobs = [logprob for piece in pieces for logprob in piece.logprobs]
        reason = pieces[-1].finish_reason
        choice: dict[str, Any] = {"index": i, "finish_reason": reason}
        spelled = spell_logprobs(asked, i, logprobs)
        if asked.kind == "chat":
            message = {"role": "assistant", "content": text, "refusal": None}
            choice |= {"message": message, "logprobs": spelled}
        else:
            choice |= {"text": text, "logprobs": spelled}
        choices.append(choice)
    shape = "chat.completion" if asked.kind == "chat" else "text_completion"
    return envelope(asked, shape, choices) | {"usage": usage(asked)}


def opening(asked: Asked, i: int) -> dict[str, Any] | None:
    """Return the first chunk of a choice: in a chat, the role."""
    if asked.kind != "chat":
        return None
    return chunk(asked, i, {"delta": {"role": "assistant", "content": ""}})


def chunks(asked: Asked, i: int, piece: Piece, offset: int = 0) -> list[dict[str, Any]]:
    """Return a piece as chunks: its text, if any, and the reason why it is the last.

    offset: the `width` of the pieces before it.
    """
    found = []
    if piece.text or piece.logprobs:
        part: dict[str, Any] = {"delta": {"content": piece.text}}
        if asked.kind != "chat":
            part = {"text": piece.text}
        spelled = spell_logprobs(asked, i, piece.logprobs, offset)
        found.append(chunk(asked, i, part | {"logprobs": spelled}))
    if piece.finish_reason is not None:
        last: dict[str, Any] = {"delta": {}} if asked.kind == "chat" else {"text": ""}
        found.append(chunk(asked, i, last, piece.finish_reason))
    return found


def width(piece: Piece) -> int:
    """Return how many characters the tokens of a piece have, each decoded alone."""
    return sum(len(_text(found.token)) for found in piece.logprobs)


def chunk(
    asked: Asked, i: int, part: Mapping[str, Any], finish_reason: str | None = None
) -> dict[str, Any]:
    """Return one event of a stream, for one choice."""
    choice = {"index": i, "logprobs": None, **part, "finish_reason": finish_reason}
    shape = "chat.completion.chunk" if asked.kind == "chat" else "text_completion"
    nothing_yet = {"usage": None} if asked.include_usage else {}
    return envelope(asked, shape, [choice]) | nothing_yet


def closing(asked: Asked) -> dict[str, Any]:
    """Return the chunk without choices that tells the usage."""
    shape = "chat.completion.chunk" if asked.kind == "chat" else "text_completion"
    return envelope(asked, shape, []) | {"usage": usage(asked)}


def envelope(asked: Asked, shape: str, choices: list[Any]) -> dict[str, Any]:
    """Return what every answer and chunk of a call has alike."""
    return {
        "id": asked.id,
        "object": shape,
        "created": asked.created,
        "model": asked.model,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }


def usage(asked: Asked) -> dict[str, int]:
    """Count the tokens, those of a stop string included."""
    n_prompt = sum(len(request.prompt_ids) for request in asked.requests)
    n_new = sum(len(request.output_ids) for request in asked.requests)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_new,
        "total_tokens": n_prompt + n_new,
    }


def spell_logprobs(
    asked: Asked, i: int, logprobs: Sequence[Logprob], offset: int = 0
) -> dict[str, Any] | None:
    """Return log-probabilities as the endpoint spells them, or None if none are asked.

    offset: where in the generated text the first of the tokens begins.
    """
    n = asked.requests[i].n_logprobs
    if n is None:
        return None
    if asked.kind == "chat":
        return {"content": [_token(found, n) for found in logprobs], "refusal": None}
    tokens = [_text(found.token) for found in logprobs]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [found.logprob for found in logprobs],
        "top_logprobs": [
            {_text(token): value for token, value in found.top} | {token: found.logprob}
            for token, found in zip(tokens, logprobs, strict=True)
        ],
        "text_offset": offsets,
    }


def _token(found: Logprob, n: int) -> dict[str, Any]:
    top = [_spelled(token, value) for token, value in found.top[:n]]
    return _spelled(found.token, found.logprob) | {"top_logprobs": top}


def _spelled(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": logprob, "bytes": [*token]}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")
