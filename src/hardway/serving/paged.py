"""A KV cache in pages, and attention for the tokens of many requests at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hardway import inputs
from hardway.fast.ragged import Ragged
from hardway.serving.request import Request
from hardway.serving.scheduler import Plan


@dataclass
class Group:
    """R requests with as many new tokens each, T, and tables of about one length.

    rows: [R · T], where their tokens stand in the batch; tables: [R · P], page numbers;
    mask: bool [R, 1, T, S], which of the S = P · page_size slots each token sees.
    """

    rows: Tensor
    tables: Tensor
    mask: Tensor


@dataclass
class Batch:
    """The N tokens of a step, of all its requests, in one row and without padding.

    tokens, positions: int64 [N]; slots: [N], where their keys and values go; last:
    which of the N end their text, so that their logits are needed.
    """

    tokens: Tensor
    positions: Tensor
    slots: Tensor
    last: Tensor
    groups: list[Group]


class PagedCache:
    """The memory that page numbers stand for: keys and values, layer by layer.

    A page table maps a request's position p to the slot ``pages[p // page_size] ·
    page_size + p % page_size``.
    """

    def __init__(self, model: Ragged, n_pages: int, page_size: int) -> None:
        """Allocate on the model's device, in the dtype it computes in.

        Raises `ValueError` for more than ``hardway.inputs.MAX_BYTES``.
        """
        config, dtype = model.config, model.compute_dtype
        slot = 2, config.n_kv_head, config.d_head  # a key and a value
        size = n_pages * page_size * page_bytes(model, 1)
        inputs.check_size("the paged KV cache", size)
        shape = config.n_layer, n_pages, page_size, *slot
        self.pages = torch.zeros(shape, dtype=dtype, device=model.device)

    def batch(self, plan: Plan) -> Batch:
        """Lay the planned tokens out in one row, and find the slots they go to."""
        page_size, device = self.pages.shape[2], self.pages.device
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        last: list[int] = []
        groups: dict[tuple[int, int], list[tuple[int, Request]]] = {}
        for request, n in plan:
            # Tables are padded within a group, to less than twice their length.
            alike = n, len(request.pages).bit_length()
            groups.setdefault(alike, []).append((len(tokens), request))
            new = range(request.n_computed, request.n_computed + n)
            tokens += request.ids[new.start : new.stop]
            positions += new
            slots += [request.pages[p // page_size] * page_size + p % page_size
                      for p in new]  # fmt: skip
            if new.stop == request.n_tokens:
                last.append(len(tokens) - 1)
        joined = [self.group(n, members) for (n, _), members in groups.items()]
        tensor = partial(torch.tensor, dtype=torch.int64, device=device)
        return Batch(
            tensor(tokens), tensor(positions), tensor(slots), tensor(last), joined
        )

    def group(self, n: int, members: Iterable[tuple[int, Request]]) -> Group:
        """Join requests with ``n`` new tokens each, which start at the given rows."""
        page_size, device = self.pages.shape[2], self.pages.device
        starts, requests = zip(*members, strict=True)
        width = max(len(request.pages) for request in requests)
        tables = [
            request.pages + [0] * (width - len(request.pages)) for request in requests
        ]
        past = torch.tensor([request.n_computed for request in requests], device=device)
        new = torch.arange(n, device=device)
        seen_to = (past[:, None] + new)[:, None, :, None]
        return Group(
            rows=(torch.tensor(starts, device=device)[:, None] + new).flatten(),
            tables=torch.tensor(tables, device=device).flatten(),
            mask=torch.arange(width * page_size, device=device) <= seen_to,
        )

    def attend(
        self, batch: Batch, layer: int, q: Tensor, k: Tensor, v: Tensor
    ) -> Tensor:
        """Store the new keys and values, then attend through each request's table.

        q: [N, n_head, d_head]; k, v: [N, n_kv_head, d_head]. Returns the shape of q.
        """
        pages = self.pages[layer]
        pages.flatten(0, 1).index_copy_(0, batch.slots, torch.stack((k, v), dim=1))
        mixed = torch.empty_like(q)
        for group in batch.groups:
            found = pages.index_select(0, group.tables)  # a copy, page by page
            rows = attend_in_group(q[group.rows], found.flatten(0, 1), group.mask)
            mixed[group.rows] = rows
        return mixed


def attend_in_group(q: Tensor, slots: Tensor, mask: Tensor) -> Tensor:
    """Attend within R requests of T queries and S slots each.

    q: [R · T, n_head, d_head]; slots: [R · S, 2, n_kv_head, d_head]; mask: bool
    [R, 1, T, S]. Queries are stacked by the key head they share: no key is copied.
    """
    n_requests, _, n, _ = mask.shape
    n_kv_head, d_head = slots.shape[2:]
    k, v = slots.view(n_requests, -1, *slots.shape[1:]).permute(2, 0, 3, 1, 4)
    stacked = q.view(n_requests, n, n_kv_head, -1, d_head).permute(0, 2, 3, 1, 4)
    size = stacked.shape[2]  # query heads for each key head
    mixed = F.scaled_dot_product_attention(
        stacked.flatten(2, 3), k, v, mask.repeat(1, 1, size, 1)
    )
    mixed = mixed.view(n_requests, n_kv_head, size, n, d_head)
    return mixed.permute(0, 3, 1, 2, 4).reshape(q.shape)


def page_bytes(model: Ragged, page_size: int) -> int:
    """Return how many bytes the keys and values of a page take, in all layers."""
    config = model.config
    numbers = 2 * config.n_layer * config.n_kv_head * config.d_head
    return numbers * page_size * model.compute_dtype.itemsize
