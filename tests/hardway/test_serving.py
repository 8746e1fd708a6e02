"""The engine: the pages' invariants under any schedule, and each request's tokens."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardway import generate
from hardway.config import Config, LlamaConfig
from hardway.fast import FastGPT2, FastLlama
from hardway.serving import Engine, Request
from hardway.serving import engine as engine_module
from hardway.serving.pool import PagePool, page_key
from hardway.serving.scheduler import Plan
from llamas import random_llama
from references import random_model
from refusals import BAD_OPTIONS, refuses

VOCAB, N_CTX = 13, 64
CONFIG = LlamaConfig(
    n_vocab=VOCAB, n_ctx=N_CTX, n_embd=12, n_head=4, n_kv_head=2, d_head=4, n_layer=2,
    n_inner=10, tied=False,
)  # fmt: skip


@cache
def small_llama(dtype: torch.dtype = torch.float32) -> FastLlama:
    """A model whose greedy texts don't repeat one token: its weights are large."""
    weights = random_llama(CONFIG).weights
    large = {name: 4 * tensor.to(dtype) for name, tensor in weights.items()}
    return FastLlama(CONFIG, large)


def check_invariants(engine: Engine) -> None:
    """What must be true between two steps, whatever has happened before."""
    pool, scheduler = engine.pool, engine.scheduler
    tables = [request.pages for request in scheduler.running]
    listed = [page for table in tables for page in table]
    # A page's owners are the page tables that list it, and no page is lost.
    for page, owners in enumerate(pool.owners):
        assert owners == listed.count(page)
        assert (page in pool.free) == (owners == 0)
    assert len(pool.free) + len({*listed}) == len(pool.owners)
    assert all(len({*table}) == len(table) for table in tables)
    # Who waits, or is finished, holds nothing; the counters and the tables agree.
    assert len(scheduler.running) <= engine.max_batch
    assert not any(request.pages for request in scheduler.waiting)
    for request in scheduler.running:
        assert not request.finished
        assert 0 <= request.n_computed < request.n_tokens
        assert len(request.pages) == -(-request.n_computed // engine.page_size)
        # A page with two owners is full, so nobody will write to it.
        for page in request.pages[request.n_computed // engine.page_size :]:
            assert pool.owners[page] == 1
            assert page not in pool.key_of
    # The index knows full pages only, each by one key.
    assert {key: page for page, key in pool.key_of.items()} == pool.page_of
    check_contents(engine)


def check_contents(engine: Engine) -> None:
    """The pages hold what the text alone would leave in a cache, shared ones too."""
    for request in engine.scheduler.running:
        n = request.n_computed
        if n == 0:
            continue
        alone = engine.model.new_cache(1, n)
        engine.model(torch.tensor(request.ids[:n]), alone)
        # [n_layer, pages, page_size, 2, n_kv_head, d_head]
        stored = engine.cache.pages[:, request.pages].flatten(1, 2)[:, :n]
        for i, tensor in enumerate((alone.keys, alone.values)):
            expected = tensor[:, 0].transpose(1, 2)
            torch.testing.assert_close(stored[:, :, i], expected, rtol=1e-3, atol=1e-3)
        key = b""
        for i in range(n // engine.page_size):
            ids = request.ids[i * engine.page_size : (i + 1) * engine.page_size]
            key = page_key(key, ids)
            # None where another page came first with the same contents.
            assert engine.pool.key_of.get(request.pages[i]) in (key, None)


def watch(engine: Engine) -> Callable[[], None]:
    """Return a function that steps, and checks what the step did and left behind."""
    schedule, size = engine.scheduler.schedule, engine.page_size
    reached: dict[Request, int] = {}  # the first position not yet computed

    def watched_schedule() -> Plan:
        before = [*engine.scheduler.running]
        plan = schedule()
        planned, waiting = [request for request, _ in plan], engine.scheduler.waiting
        assert plan or not (engine.scheduler.running or waiting)
        assert sum(n for _, n in plan) <= engine.scheduler.budget
        assert all(n > 0 for _, n in plan)
        for request in before:  # nobody starves
            assert (request in planned) != (request in waiting)
        for request in waiting:
            reached.pop(request, None)  # if it was preempted
        written = []
        for request, n in plan:
            start = reached.get(request)
            if start is None:  # it was admitted, perhaps with pages of others
                assert request.n_computed % size == 0
            else:  # nothing is computed twice
                assert request.n_computed == start
            reached[request] = request.n_computed + n
            for p in range(request.n_computed, reached[request]):
                written.append((request.pages[p // size], p % size))
        assert len({*written}) == len(written)
        for page, _ in written:  # no page with two owners is written
            assert engine.pool.owners[page] == 1
            assert page not in engine.pool.key_of
        return plan

    def step() -> None:
        engine.step()
        check_invariants(engine)

    engine.scheduler.schedule = watched_schedule  # type: ignore[method-assign]
    return step


PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=14)  # often alike
OPTIONS = st.sampled_from([
    {}, {"temperature": 1.0, "seed": 3}, {"temperature": 0.7, "top_k": 5, "seed": 8},
    {"stop_ids": (4, 5)}, {"temperature": 1.5, "seed": 1, "stop_ids": (7,)},
])  # fmt: skip
ARRIVAL = st.tuples(PROMPTS, st.integers(0, 9), OPTIONS, st.integers(0, 4))
EVENTS = st.lists(st.one_of(ARRIVAL, st.integers(0, 9)), min_size=1, max_size=10)


def play(engine: Engine, events: list[Any]) -> list[tuple[Request, dict[str, Any]]]:
    """Submit, step and cancel as told; then step until all is finished."""
    step, asked = watch(engine), []
    for event in events:
        if isinstance(event, int):  # cancel a request, whatever its state
            if asked:
                engine.cancel(asked[event % len(asked)][0])
                check_invariants(engine)
            continue
        prompt, n_new, options, n_steps = event
        asked.append((engine.submit(prompt, n_new, **options), options))
        for _ in range(n_steps):
            step()
    for _ in range(1000):
        if all(request.finished for request, _ in asked):
            break
        step()
    return asked


SCHEDULES = st.tuples(
    EVENTS, st.sampled_from([1, 2, 16]), st.integers(1, 4), st.integers(0, 12),
    st.sampled_from([0, 1, 3, 60]),
)  # fmt: skip


def check_schedule(
    model: FastLlama,
    events: list[Any],
    page_size: int,
    max_batch: int,
    spare: int,
    more_budget: int,
) -> None:
    """Tokens are those of the request alone, and in the end every page is free."""
    n_pages = -(-23 // page_size) + spare  # the longest text fits, others may not
    engine = Engine(model, max_batch, page_size, n_pages, max_batch + more_budget)
    for request, options in play(engine, events):
        n_new, prompt = request.max_new_tokens, request.prompt_ids
        expected = generate(model, prompt, n_new, **options)
        if request.finish_reason == "cancelled":
            assert request.output_ids == expected[: len(request.output_ids)]
        else:
            assert request.output_ids == expected
            stopped = len(expected) < n_new
            assert request.finish_reason == ("stop" if stopped else "length")
        assert not request.pages
    stats = engine.stats
    assert stats.pages_free == stats.pages_total == n_pages
    assert stats.running == stats.waiting == 0


@settings(max_examples=20, derandomize=True)
@given(SCHEDULES)
def test_any_schedule(schedule: Any) -> None:
    """In float32, always the same schedules: a near-tie would be no fault."""
    check_schedule(small_llama(), *schedule)


@pytest.mark.slow
@settings(max_examples=600)
@given(SCHEDULES)
def test_many_schedules(schedule: Any) -> None:
    check_schedule(small_llama(torch.float64), *schedule)


def run_all(engine: Engine, prompts: list[list[int]], n: int) -> list[list[int]]:
    requests = [engine.submit(prompt, n) for prompt in prompts]
    engine.run()
    return [request.output_ids for request in requests]


def random_prompts(lengths: list[int], n_vocab: int = VOCAB) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [
        torch.randint(n_vocab, (length,), generator=generator).tolist()
        for length in lengths
    ]


def test_greedy_texts_differ() -> None:
    """Otherwise the other tests would compare nothing."""
    prompts = random_prompts([3, 9, 1, 30, 5])
    texts = [generate(small_llama(), prompt, 12) for prompt in prompts]
    assert all(len({*text}) >= 3 for text in texts)
    assert len({*map(tuple, texts)}) == 5


def test_five_at_once_take_few_steps() -> None:
    prompts = random_prompts([3, 9, 1, 30, 5])
    together = Engine(small_llama())
    run_all(together, prompts, 12)
    alone = Engine(small_llama(), max_batch=1)
    run_all(alone, prompts, 12)
    assert together.stats.steps == 12
    assert alone.stats.steps == 60
    assert together.stats.computed_tokens == alone.stats.computed_tokens == 48 + 55


def test_gpt2_with_every_option() -> None:
    config = Config(n_vocab=97, n_ctx=64, n_embd=24, n_head=3, n_layer=2)
    taught = random_model(config)
    model = FastGPT2(config, taught.weights)
    prompts = random_prompts([3, 9, 1, 30], 97)
    options: Any = {"temperature": 0.9, "top_k": 40, "top_p": 0.9, "seed": 2}
    engine = Engine(model, max_batch=3, page_size=4, budget=7)
    requests = [engine.submit(prompt, 10, **options) for prompt in prompts]
    engine.run()
    for prompt, request in zip(prompts, requests, strict=True):
        assert request.output_ids == generate(taught, prompt, 10, **options)


def test_chunks_stay_within_the_budget() -> None:
    """A long prompt comes in chunks, and those who write get a token in each step."""
    engine = Engine(small_llama(), max_batch=2, budget=4)
    short, long = engine.submit([1], 20), engine.submit(random_prompts([30])[0], 5)
    engine.step()
    computed, written = [long.n_computed], [len(short.output_ids)]
    while len(long.output_ids) < 2:
        engine.step()
        computed.append(long.n_computed)
        written.append(len(short.output_ids))
    assert computed == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 31]
    assert written == [*range(1, 12)]


def test_prefix_is_computed_once() -> None:
    """The second request finds all full pages of the beginning that both share."""
    engine = Engine(small_llama(), page_size=4)
    shared = random_prompts([18])[0]
    first = run_all(engine, [[*shared, 1, 2, 3]], 3)
    computed = engine.stats.computed_tokens
    [second] = run_all(engine, [[*shared, 4]], 3)
    assert engine.stats.prefix_hit_tokens == 16
    assert engine.stats.computed_tokens == computed + 3 + 2
    assert second == generate(small_llama(), [*shared, 4], 3)
    # What was generated is found, too: the next turn of a conversation.
    run_all(engine, [[*shared, 1, 2, 3, *first[0]]], 1)
    assert engine.stats.prefix_hit_tokens == 16 + 20


@pytest.mark.parametrize("length", range(1, 10))
def test_a_hit_on_a_whole_prompt_leaves_a_token(length: int) -> None:
    """Without a token to compute there would be no logits (page_size 4)."""
    engine = Engine(small_llama(), page_size=4)
    prompt = random_prompts([length])[0]
    once, again = run_all(engine, [prompt], 5), run_all(engine, [prompt], 5)
    assert once == again == [generate(small_llama(), prompt, 5)]
    assert engine.stats.prefix_hit_tokens == (length - 1) // 4 * 4


def test_equal_prompts_at_the_same_time() -> None:
    """Nobody shares a page that is still being computed: both compute, then agree."""
    engine = Engine(small_llama(), page_size=2)
    prompt = random_prompts([9])[0]
    outputs = run_all(engine, [prompt, prompt], 4)
    assert outputs == [generate(small_llama(), prompt, 4)] * 2
    assert engine.stats.prefix_hit_tokens == 0
    engine = Engine(small_llama(), page_size=2)
    early = engine.submit(prompt, 6)
    engine.step()
    late = engine.submit(prompt, 6)
    engine.step()
    assert early.pages[:4] == late.pages[:4]
    assert all(engine.pool.owners[page] == 2 for page in early.pages[:4])
    assert not {*early.pages[4:]} & {*late.pages[4:]}


def test_a_reused_page_is_forgotten() -> None:
    """A text evicted by another one is not found by its old key."""
    engine = Engine(small_llama(), page_size=4, n_pages=6)
    one, other = random_prompts([17, 17])
    for prompt in (one, other, one):
        assert run_all(engine, [prompt], 4) == [generate(small_llama(), prompt, 4)]
    # The pages of the end were reused first, so its beginning was still there.
    assert 0 <= engine.stats.prefix_hit_tokens < 16


def test_preemption_takes_the_last_and_keeps_its_tokens() -> None:
    engine = Engine(small_llama(), max_batch=2, page_size=2, n_pages=10)
    prompts = random_prompts([5, 5, 1])
    counts = (14, 14, 2)
    first, second, third = map(engine.submit, prompts, counts)
    while not engine.stats.preemptions:
        engine.step()
    assert [*engine.scheduler.waiting] == [second, third]
    assert not second.pages
    n_written = len(second.output_ids)
    assert 0 < n_written < 14
    engine.run()
    assert engine.stats.preemptions == 1  # it waits until there is room for all of it
    for request, n in zip((first, second, third), counts, strict=True):
        assert request.output_ids == generate(small_llama(), request.prompt_ids, n)


def test_admission_waits_for_room_for_the_whole_text() -> None:
    """A chunk of it would fit, and would soon be thrown away."""
    engine = Engine(small_llama(), max_batch=2, page_size=2, n_pages=8, budget=4)
    long, later = (engine.submit(prompt, 2) for prompt in random_prompts([11, 9]))
    while not long.finished:
        assert not later.pages
        engine.step()
    engine.run()
    assert engine.stats.preemptions == 0
    assert later.output_ids == generate(small_llama(), later.prompt_ids, 2)


def test_tables_are_padded_to_less_than_twice_their_length() -> None:
    engine = Engine(small_llama(), page_size=1)
    lengths = [1, 2, 3, 4, 7, 8, 15, 30]
    requests = [engine.submit(prompt, 9) for prompt in random_prompts(lengths)]
    engine.step()
    plan = engine.scheduler.schedule()
    assert [n for _, n in plan] == [1] * 8
    groups = engine.cache.batch(plan).groups
    assert [len(group.rows) for group in groups] == [2, 2, 2, 2]
    for group in groups:
        pages = [requests[i].pages for i in group.rows.tolist()]
        width = group.mask.shape[-1]
        assert width == max(map(len, pages)) < 2 * min(map(len, pages))


def test_cancel_frees_pages_at_once() -> None:
    engine = Engine(small_llama(), max_batch=2, page_size=2)
    requests = [engine.submit(prompt, 20) for prompt in random_prompts([9, 7, 5])]
    for _ in range(3):
        engine.step()
    assert engine.stats.running == 2
    assert engine.stats.waiting == 1
    for request in (*requests, *requests):  # twice: the second time it is finished
        engine.cancel(request)
        check_invariants(engine)
        assert request.finished
    assert [len(request.output_ids) for request in requests] == [3, 3, 0]
    assert engine.stats.pages_free == engine.stats.pages_total
    assert engine.step() == []


def test_finish_reasons() -> None:
    engine, prompt = Engine(small_llama()), random_prompts([5])[0]
    ids = generate(small_llama(), prompt, 8)
    stop = next(id for id in ids[1:] if id != ids[0])
    stopped = engine.submit(prompt, 8, stop_ids=[stop])
    full, none = engine.submit(prompt, 8), engine.submit(prompt, 0)
    assert none.finished
    engine.run()
    assert stopped.output_ids == ids[: ids.index(stop)]
    reasons = [request.finish_reason for request in (stopped, full, none)]
    assert reasons == ["stop", "length", "length"]


def test_logprobs() -> None:
    """Those of the model, before temperature and top-k; the chosen token's first."""
    engine, prompt = Engine(small_llama()), random_prompts([5])[0]
    request = engine.submit(
        prompt, 6, logprobs=3, temperature=2.0, top_k=9, seed=5
    )  # fmt: skip
    engine.run()
    text = torch.tensor(prompt + request.output_ids)
    expected = small_llama()(text).log_softmax(dim=-1)[len(prompt) - 1 : -1]
    assert len(request.logprobs) == 6
    for id, found, row in zip(
        request.output_ids, request.logprobs, expected, strict=True
    ):
        best = row.topk(3).indices.tolist()
        assert next(iter(found)) == id
        assert found.keys() == {id, *best}
        torch.testing.assert_close(row[[*found]], torch.tensor([*found.values()]))


def test_stats_read_both_ways() -> None:
    stats = Engine(small_llama(), n_pages=5).stats
    assert stats["pages_free"] == stats.pages_free == stats.pages_total == 5


def test_default_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for max_batch full texts, or what fits in POOL_BYTES."""
    assert Engine(small_llama()).stats.pages_total == 8 * N_CTX // 16
    page = 2 * 2 * 16 * 2 * 4 * 4  # layers, k and v, tokens, heads, numbers, bytes
    monkeypatch.setattr(engine_module, "POOL_BYTES", 5 * page + 1)
    assert Engine(small_llama()).stats.pages_total == 5


@pytest.mark.parametrize(
    ("argument", "value"),
    [("max_batch", 0), ("max_batch", 1.5), ("page_size", 0), ("page_size", N_CTX + 1),
     ("n_pages", 0), ("budget", 7), ("budget", None)],
)  # fmt: skip
def test_refuses_sizes(argument: str, value: Any) -> None:
    with refuses(argument):
        Engine(small_llama(), **{argument: value})


def test_refuses_a_taught_model() -> None:
    with refuses("model"):
        Engine(random_llama())  # type: ignore[arg-type]


def test_refuses_too_much_memory() -> None:
    with refuses("the paged KV cache"):
        Engine(small_llama(), n_pages=10**9)


@pytest.mark.parametrize(
    ("argument", "prompt", "n", "options"),
    [("prompt_ids", [], 1, {}), ("each of prompt_ids", [VOCAB], 1, {}),
     ("prompt_ids", [1], N_CTX, {}), ("max_new_tokens", [1], -1, {}),
     ("prompt_ids and max_new_tokens", [1] * 8, 9, {}),
     ("each of stop_ids", [1], 1, {"stop_ids": [VOCAB]}),
     ("logprobs", [1], 1, {"logprobs": 21}),
     *((name, [1], 1, {name: value}) for name, value in BAD_OPTIONS)],
)  # fmt: skip
def test_refuses_requests(argument: str, prompt: Any, n: Any, options: Any) -> None:
    engine = Engine(small_llama(), page_size=4, n_pages=4)
    with refuses(argument):
        engine.submit(prompt, n, **options)
    assert engine.stats.waiting == 0


def test_refuses_nan() -> None:
    weights = random_llama(CONFIG).weights
    weights["norm.weight"] = torch.full_like(weights["norm.weight"], torch.nan)
    engine = Engine(FastLlama(CONFIG, weights))
    engine.submit([1], 1)
    with refuses("the logits for new token 1"):
        engine.step()


def test_pool_keys_depend_on_everything_before() -> None:
    assert page_key(b"", [1, 2]) == page_key(b"", [1, 2])
    keys = [page_key(b"", [1, 2]), page_key(page_key(b"", [0]), [1, 2]),
            page_key(b"", [2, 1]), page_key(b"", [12])]  # fmt: skip
    assert len({*keys}) == 4


def test_pool_reuses_what_cannot_be_found_first() -> None:
    pool = PagePool(4)
    pages = [pool.allocate() for _ in range(4)]
    pool.publish(pages[0], b"a")
    pool.publish(pages[2], b"c")
    for page in (0, 1, 2, 3):
        pool.release(page)
    assert [*pool.free] == [3, 1, 0, 2]
    assert pool.share(b"a") == 0  # it was free, and is again in use
    assert pool.share(b"b") is None
    assert [pool.allocate() for _ in range(3)] == [3, 1, 2]
    assert pool.share(b"c") is None
    assert not pool.free
