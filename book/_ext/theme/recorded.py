"""Answer the questions that the figures ask at first, by the library itself.

A figure shows these until its reader changes something, so that nothing else has to be
loaded for it. The same questions, asked in the browser, have to give the same answers:
the tests of the site compare them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor

from hardway import GPT2, Tokenizer
from hardway.attention import linear, softmax, split_heads
from hardway.block import layer_norm
from hardway.miniature import decode, prefill, random_weights
from hardway.sampling import Sampler, sample
from hardway.serving.pool import PagePool
from hardway.serving.request import Request
from hardway.serving.scheduler import Plan, Scheduler
from hardway.tokenizer import display, merge_steps, split_words

Question = tuple[str, Any, Any]  # the method, its argument, the answer
Rival = tuple[int, str, float]


@cache
def tokenizer() -> Tokenizer:
    """Return the tokenizer."""
    return Tokenizer.from_pretrained("pocket")


def answers(
    model: GPT2, defaults: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Question]]:
    """Return each figure's first questions and their answers."""
    asked = {
        "generate": generate(model, **defaults["generate"]),
        "sampling": sampling(model, **defaults["sampling"]),
        "attention": attention(model, **defaults["attention"]),
        "tokenizer": merges(**defaults["tokenizer"]),
        "kv-cache": iter([encode(**defaults["kv-cache"])]),
        "logit-lens": lens(model, **defaults["logit-lens"]),
        "miniature": small(**defaults["miniature"]),
        "scheduler": iter([schedule(**defaults["scheduler"])]),
    }
    return {figure: [*questions] for figure, questions in asked.items()}


def pieces(ids: Sequence[int]) -> list[str]:
    """Return tokens as they are shown."""
    return [display(tokenizer().pieces[id]) for id in ids]


def rivals(logits: Tensor, k: int) -> list[Rival]:
    """Return the ``k`` most probable tokens, by logits [n_vocab]."""
    probabilities = softmax(logits)
    best = logits.topk(k).indices.tolist()
    found = [rounded(probabilities[id].item()) for id in best]
    return list(zip(best, pieces(best), found, strict=True))


def rounded(number: float) -> float:
    """Round to more digits than a figure shows."""
    return float(f"{number:.6g}")


def encode(text: str, limit: int | None = None) -> Question:
    """Answer ``encode``."""
    ids = tokenizer().encode(text)
    kept = ids[:limit]
    asked = {"text": text} | ({} if limit is None else {"limit": limit})
    said = {"ids": kept, "pieces": pieces(kept), "dropped": len(ids) - len(kept)}
    return "encode", asked, said


def generate(model: GPT2, text: str, tokens: int) -> Iterator[Question]:
    """Answer ``encode``, and ``next`` for a greedy text."""
    encoded = encode(text)
    yield encoded
    ids = list(encoded[2]["ids"])
    for _ in range(tokens):
        found = rivals(model(torch.tensor(ids), last_only=True)[-1], 10)
        yield "next", {"ids": [*ids]}, found
        ids.append(found[0][0])


def attention(model: GPT2, text: str, limit: int, **view: int) -> Iterator[Question]:
    """Answer ``attention``: q · k of every head, and the rivals for the next token.

    view: which of them the figure shows at first.
    """
    _, asked, said = encode(text, limit)
    trace = model.trace(torch.tensor(said["ids"]))
    n_head, epsilon = model.config.n_head, model.config.layer_norm_epsilon
    scores = []
    for x, block in zip(trace.residual[:-1], model.blocks, strict=True):
        qkv = linear(
            layer_norm(x, **block["ln_1"], epsilon=epsilon), **block["attn"]["c_attn"]
        )
        q, k, _ = (split_heads(part, n_head) for part in qkv.chunk(3, dim=-1))
        heads = (q @ k.transpose(-2, -1)).flatten(1)  # [n_head, T · T]
        scores.append([[round(score, 2) for score in head] for head in heads.tolist()])
    changes = {"unmasked": False, "unscaled": False, "silenced": list[str]()}
    found = {k: said[k] for k in ("pieces", "dropped")}
    found |= {"d_head": model.config.d_head, "scores": scores}
    yield "attention", asked | changes, found | {"rivals": rivals(trace.logits[-1], 5)}


def lens(model: GPT2, text: str, limit: int) -> Iterator[Question]:
    """Answer ``lens``: five tokens of each layer and position, ranks, surprisal."""
    _, asked, said = encode(text, limit)
    ids = torch.tensor(said["ids"])
    logits = model.logits(model.trace(ids).residual)  # [n_layer + 1, T, n_vocab]
    final = logits[-1].argmax(dim=-1)  # [T]
    finals = logits.gather(-1, final.expand(len(logits), -1)[..., None])
    probabilities = softmax(logits[-1, :-1]).gather(-1, ids[1:, None])[:, 0]
    yield (
        "lens",
        asked,
        {
            "pieces": said["pieces"],
            "dropped": said["dropped"],
            "cells": [[rivals(each, 5) for each in layer] for layer in logits],
            "ranks": (1 + (logits > finals).sum(dim=-1)).tolist(),
            "surprisal": [rounded(bits) for bits in (-probabilities.log2()).tolist()],
        },
    )


def sampling(model: GPT2, text: str, **options: Any) -> Iterator[Question]:
    """Answer ``bench``: the distribution before and after the filters, and draws."""
    ids = tokenizer().encode(text)
    logits = model(torch.tensor(ids), last_only=True)[-1]
    before = softmax(logits)
    sampler = Sampler(
        temperature=options["temperature"],
        top_k=options["topK"],
        top_p=options["topP"],
        min_p=options["minP"],
        seed=options["seed"],
    )
    after = sampler.probabilities(logits)
    ends = after.double().cumsum(dim=-1)
    rows = [
        {
            "id": id,
            "piece": piece,
            "before": before[id].item(),
            "after": after[id].item(),
            "start": (ends[id] - after[id]).item(),
        }
        for id, piece, _ in rivals(logits, 12)
    ]
    drawn = []
    for _ in range(options["draws"]):
        u = torch.rand((), generator=sampler.generator, dtype=torch.float64).item()
        id = sample(after, u)
        drawn.append({"u": u, "id": id, "piece": pieces([id])[0]})
    kept = int((after > 0).sum())
    yield (
        "bench",
        {"text": text} | options,
        {"rows": rows, "kept": kept, "drawn": drawn},
    )


def merges(text: str) -> Iterator[Question]:
    """Answer ``merges``: every step of merging each word."""
    known = tokenizer()
    words = [
        [
            [
                {"id": known.ids[piece], "piece": display(piece), "bytes": [*piece]}
                for piece in step
            ]
            for _, step in merge_steps(word.encode(), known.ranks)
        ]
        for word in split_words(text)
    ]
    yield "merges", {"text": text}, words


def schedule(
    events: str, kinds: Mapping[str, Sequence[int]], n_pages: int, **sizes: int
) -> Question:
    """Answer ``schedule``: what requests and steps do to the pages.

    A letter of ``events`` is a request of that kind, a dot is a step. A kind is how
    many tokens of the common beginning a prompt has, how many of its own, and how many
    new ones it asks for.
    """
    size = sizes["page_size"]
    scheduler = Scheduler(PagePool(n_pages), **sizes)
    requests, plan = list[Request](), Plan()
    steps, total, other = 0, 0, count(1000)
    for event in events:
        if event in kinds:
            common, own, most = kinds[event]
            ids = [*range(common), *(next(other) for _ in range(own))]
            requests.append(Request(ids, most, Sampler()))
            scheduler.waiting.append(requests[-1])
            continue
        plan = scheduler.schedule()
        steps += bool(plan)
        for request, n in plan:
            scheduler.computed(request, n)
            total += n
        for request, _ in plan:
            if request.n_computed == request.n_tokens:
                request.ids.append(next(other))
                if len(request.output_ids) == request.max_new_tokens:
                    scheduler.retire(request)
    names = {request: chr(65 + i) for i, request in enumerate(requests)}
    said = {
        "pages": [
            page_of(scheduler.pool, page, names, size) for page in range(n_pages)
        ],
        "requests": [
            {
                "name": name,
                "status": status(scheduler, request),
                "tokens": request.n_tokens,
                "computed": request.n_computed,
                "new": len(request.output_ids),
                "most": request.max_new_tokens,
                "pages": [*request.pages],
            }
            for request, name in names.items()
        ],
        "plan": [[names[request], n] for request, n in plan],
        "steps": steps,
        "computed": total,
        "hits": scheduler.n_hits,
        "preemptions": scheduler.n_preempted,
        "free": len(scheduler.pool.free),
    }
    asked = {"events": events, "kinds": kinds, "n_pages": n_pages} | sizes
    return "schedule", asked, said


def page_of(
    pool: PagePool, page: int, names: Mapping[Request, str], size: int
) -> dict[str, Any]:
    """Tell who owns a page, whether it can be found again, and how full it is."""
    owners = [request for request in names if page in request.pages]
    held = [each.n_computed - each.pages.index(page) * size for each in owners]
    kept = page in pool.key_of
    filled = size if kept else min(size, max(0, *held, 0))
    return {"owners": [names[each] for each in owners], "kept": kept, "held": filled}


def status(scheduler: Scheduler, request: Request) -> str:
    """Tell where a request is."""
    if request in scheduler.running:
        return "running"
    return "waiting" if request in scheduler.waiting else "finished"


def small(text: str) -> Iterator[Question]:
    """Answer ``encode`` and ``miniature``: all numbers of chapter 0's machine."""
    encoded = encode(text)
    yield encoded
    ids = encoded[2]["ids"]
    weights = random_weights(tokenizer().n_vocab)
    read = prefill(weights, ids)
    step = decode(weights, ids[-1], read.k, read.v)
    found = rivals(step.logits, 5)
    numbers = {
        "embeddings": read.embeddings,
        "q": step.q,
        "k": read.k,
        "v": read.v,
        "scores": step.scores,
        "weights": step.attn_weights,
        "output": step.output,
        "hidden": torch.relu(step.output @ weights.w_up),
    }
    said = {name: short(tensor.tolist()) for name, tensor in numbers.items()}
    logits = [rounded(step.logits[id].item()) for id, *_ in found]
    said |= {"rivals": found, "logits": logits}
    yield "miniature", {"ids": ids, "changes": {}}, said


def short(numbers: Any) -> Any:
    """Round the numbers of nested lists."""
    return [*map(short, numbers)] if isinstance(numbers, list) else rounded(numbers)
