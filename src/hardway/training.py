"""Train a GPT-2: loss and gradient, two optimizers, and a run that can be resumed.

Papers: Srivastava et al. 2014 (dropout), Loshchilov & Hutter 2019 (AdamW), Jean et al.
2015 (sampled softmax). Muon: Jordan et al. 2024.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from hardway import safetensors
from hardway.attention import causal_mask, self_attention, softmax
from hardway.block import layer_norm, mlp
from hardway.checkpoint import expected_shapes
from hardway.config import Config
from hardway.corpus import Corpus
from hardway.embeddings import embed
from hardway.model import GPT2
from hardway.recipe import Mix, Recipe, check_resumable


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean surprisal of the targets, in nats.

    −ln p of a token is the logarithm of the sum of all exponentials, minus its logit.
    logits: [N, n_vocab]; targets: int64 [N], what came. Returns a 0-d tensor.
    """
    of_targets = logits[torch.arange(len(targets)), targets]
    return (logits.logsumexp(dim=-1) - of_targets).mean()


def cross_entropy_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of `cross_entropy` with respect to the logits.

    Probabilities, minus 1 at what came, over N. logits: [N, n_vocab]; targets: int64
    [N]. Returns [N, n_vocab].
    """
    gradient = softmax(logits)
    gradient[torch.arange(len(targets)), targets] -= 1
    return gradient / len(targets)


def initial_weights(config: Config, seed: int = 0) -> dict[str, Tensor]:
    """Return random weights that are small, as GPT-2's were.

    Norms begin as the identity, biases at 0. What is added to the residual stream is
    made smaller, because 2 · n_layer additions pile up. Source: Radford et al. 2019.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in expected_shapes(config).items():
        if len(shape) == 1:
            is_scale = "ln_" in name and name.endswith("weight")
            weights[name] = torch.full(shape, float(is_scale))
            continue
        adds = name.endswith("c_proj.weight")
        deviation = 0.02 / math.sqrt(2 * config.n_layer) if adds else 0.02
        weights[name] = deviation * torch.randn(shape, generator=generator)
    return weights


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Set each number to 0 with probability ``rate``, and scale up the others.

    They are divided by 1 − rate, so that the expected value stays. x: any shape, kept.
    """
    if rate == 0:
        return x
    is_kept = torch.rand(x.shape, generator=generator) >= rate
    return x * is_kept / (1 - rate)


def last_vectors(
    model: GPT2,
    tokens: Tensor,
    rate: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run a model up to its output head, with dropout on all that enters the stream.

    tokens: int64 [B, T] → [B, T, n_embd], after the final layer norm. At rate 0, the
    model's logits are these times ``wte.weight`` transposed.
    """
    epsilon, n = model.config.layer_norm_epsilon, tokens.shape[1]
    mask = causal_mask(n, n)
    x = embed(tokens, torch.arange(n), model.wte, model.wpe)
    x = dropout(x, rate, generator)
    for block in model.blocks:
        normed = layer_norm(x, **block["ln_1"], epsilon=epsilon)
        attended, _ = self_attention(normed, block["attn"], model.config.n_head, mask)
        x = x + dropout(attended, rate, generator)
        normed = layer_norm(x, **block["ln_2"], epsilon=epsilon)
        x = x + dropout(mlp(normed, block["mlp"]), rate, generator)
    return layer_norm(x, **model.ln_f, epsilon=epsilon)


def draw_batch(
    sources: Mapping[str, Tensor],
    size: int,
    length: int,
    generator: torch.Generator,
    mix: Mix | None = None,
) -> Tensor:
    """Draw sequences from anywhere in the sources: int64 [size, length].

    mix: how often each source is drawn from, by default by its size.
    """
    mix = mix or {name: len(ids) for name, ids in sources.items()}
    shares = torch.tensor([*mix.values()], dtype=torch.float64)
    drawn = torch.multinomial(shares, size, replacement=True, generator=generator)
    names, rows = [*mix], []
    for index in drawn.tolist():
        ids = sources[names[index]]
        start = torch.randint(len(ids) - length + 1, (), generator=generator)
        rows.append(ids[start : start + length])
    return torch.stack(rows)


def draw_candidates(
    targets: Tensor,
    by_frequency: Tensor,
    n_common: int,
    n_sampled: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Choose the tokens of a sampled softmax, and what is added to their logits.

    The common tokens and the targets themselves are always there. Of the others, a few
    stand for all: ln(all / few) is added to their logits, so that the sum of the
    exponentials is right on average. Returns ids int64 [C], ascending, and [C].
    """
    common, rest = by_frequency[:n_common], by_frequency[n_common:]
    is_target = torch.isin(rest, targets)
    others = rest[~is_target]
    few = others[torch.randperm(len(others), generator=generator)[:n_sampled]]
    ids = torch.cat([common, rest[is_target], few])
    added = torch.zeros(len(ids))
    if len(few):
        added[-len(few) :] = math.log(len(others) / len(few))
    order = ids.argsort()
    return ids[order], added[order]


def schedule(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a step, from 0 on, relative to its peak.

    Linear warm-up, constant, linear decay down to ``final_rate`` at the last step.
    """
    if step < recipe.n_warmup:
        return (step + 1) / recipe.n_warmup
    done = step + 1 - (recipe.n_steps - recipe.n_decay)
    if done <= 0:
        return 1.0
    return 1 - (1 - recipe.final_rate) * done / recipe.n_decay


def clip_gradients(gradients: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients down, in place, if together they are longer than ``max_norm``.

    Returns the length they had.
    """
    gradients = list(gradients)
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    for gradient in gradients:
        gradient *= (max_norm / (norm + 1e-6)).clamp(max=1)
    return norm


def adamw(
    w: Tensor, g: Tensor, mean: Tensor, square: Tensor, step: int, rate: float,
    betas: tuple[float, float] = (0.9, 0.95), decay: float = 0.0,
    epsilon: float = 1e-8,
) -> None:  # fmt: skip
    """AdamW: move each weight against its mean gradient, measured in typical gradients.

    ``mean`` and ``square`` are running averages of the gradient and of its square. They
    begin at 0, and dividing by 1 − β^step makes up for that. All tensors have one
    shape; w, mean and square are changed in place. step: from 1 on.
    """
    mean.lerp_(g, 1 - betas[0])
    square.lerp_(g * g, 1 - betas[1])
    typical = (square / (1 - betas[1] ** step)).sqrt() + epsilon
    w *= 1 - rate * decay
    w -= rate / (1 - betas[0] ** step) * mean / typical


def orthogonalize(g: Tensor, n_steps: int = 5) -> Tensor:
    """Bring all singular values of a matrix near 1, by Newton–Schulz steps.

    The polynomial pulls every number between 0 and 1 toward 1, and a product of
    matrices applies it to the singular values. g: [n, m] → [n, m].
    """
    x: Tensor = g.T if g.shape[0] > g.shape[1] else g
    x = x / (x.norm() + 1e-7)
    for _ in range(n_steps):
        s = x @ x.T
        x = 3.4445 * x + (-4.7750 * s + 2.0315 * s @ s) @ x
    return x.T if g.shape[0] > g.shape[1] else x


def muon(
    w: Tensor, g: Tensor, mean: Tensor, rate: float,
    momentum: float = 0.95, decay: float = 0.0,
) -> None:  # fmt: skip
    """Muon: move a matrix along its mean gradient, equally far in every direction.

    w, g, mean: [n_in, n_out]; w and mean are changed in place.
    """
    mean.lerp_(g, 1 - momentum)
    step = orthogonalize(g.lerp(mean, momentum))
    w *= 1 - rate * decay
    w -= rate * math.sqrt(max(1, w.shape[1] / w.shape[0])) * step


@dataclass(frozen=True)
class Progress:
    """What a step came to: its number, from 1 on, its loss, its learning rate.

    validation: the loss on held-out text, if it was computed after this step.
    """

    step: int
    loss: float
    rate: float
    validation: float | None


class Trainer:
    """A training run: the model, the optimizers' running averages, the losses so far.

    What a step draws depends on the seed and the step alone, so that nothing else has
    to be saved for an interrupted run to go on as if it never stopped.
    """

    def __init__(self, config: Config, recipe: Recipe, corpus: Corpus) -> None:
        """Begin with random weights.

        Raises `ValueError` for a corpus that lacks a source of the recipe, or has too
        few tokens of one.
        """
        corpus.check(config.n_ctx, recipe.mixes)
        self.recipe, self.corpus = recipe, corpus
        self.model = GPT2(config, initial_weights(config, recipe.seed))
        self.by_frequency = corpus.by_frequency(config.n_vocab)
        self.losses: list[float] = []
        self.means, self.squares = {}, {}
        for name, w in self.model.weights.items():
            w.requires_grad_()
            self.means[name] = torch.zeros_like(w, requires_grad=False)
            if not self.uses_muon(name):
                self.squares[name] = torch.zeros_like(w, requires_grad=False)

    def run(
        self,
        path: str | os.PathLike[str],
        save_every: int = 200,
        validate_every: int = 100,
    ) -> Iterator[Progress]:
        """Take the steps that are left, and yield each; save the state at ``path``.

        Neither saving nor validating changes what is learned. Raises what `step` does.
        """
        recipe = self.recipe
        while (step := len(self.losses)) < recipe.n_steps:
            rate, loss = schedule(step, recipe) * recipe.learning_rate, self.step()
            step, is_last = step + 1, step + 1 == recipe.n_steps
            validates = is_last or step % validate_every == 0
            validation = self.validate() if validates else None
            if is_last or step % save_every == 0:
                self.save(path)
            yield Progress(step, loss, rate, validation)

    def uses_muon(self, name: str) -> bool:
        """Return whether Muon updates a weight: a matrix in a block, if any."""
        is_matrix = name.startswith("h.") and self.model.weights[name].dim() == 2
        return is_matrix and self.recipe.muon_rate is not None

    def step(self) -> float:
        """Draw a batch, compute its loss and gradients, update the weights.

        Returns the loss. Raises `ValueError` for one that is no longer a number.
        """
        step, recipe = len(self.losses), self.recipe
        generator = torch.Generator().manual_seed(recipe.seed_of(step))
        mix, length = recipe.mix(step), self.model.config.n_ctx + 1
        sources = self.corpus.train
        rows = draw_batch(sources, recipe.batch_size, length, generator, mix)
        candidates = self.candidates(rows, generator)
        loss = self.loss(rows, candidates, recipe.dropout, generator)
        self.losses.append(recipe.check_loss(step, loss.item()))
        gradients = torch.autograd.grad(loss, [*self.model.weights.values()])
        with torch.no_grad():
            self.update(step, dict(zip(self.model.weights, gradients, strict=True)))
        return self.losses[-1]

    def candidates(
        self, rows: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the tokens of this step's softmax, and what is added to their logits.

        Those that never occur in the corpus aren't among them.
        """
        recipe, ids = self.recipe, self.by_frequency
        if generator is None or not recipe.samples_softmax(len(self.losses)):
            return ids.sort().values, torch.zeros(len(ids))
        n_common, n_sampled = recipe.n_common, recipe.n_sampled
        return draw_candidates(rows[:, 1:], ids, n_common, n_sampled, generator)

    def loss(
        self,
        rows: Tensor,
        candidates: tuple[Tensor, Tensor],
        rate: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean surprisal of each next token. rows: int64 [B, T + 1]."""
        ids, added = candidates
        targets = torch.searchsorted(ids, rows[:, 1:].flatten())  # where they are
        with torch.autocast("cpu", torch.bfloat16, self.recipe.bfloat16):
            vectors = last_vectors(self.model, rows[:, :-1], rate, generator)
            logits = vectors.flatten(0, 1) @ self.model.wte[ids].T  # [B · T, C]
        return cross_entropy(logits.float() + added, targets)

    def update(self, step: int, gradients: Mapping[str, Tensor]) -> None:
        """Update every weight from its gradient, in place."""
        recipe, factor = self.recipe, schedule(step, self.recipe)
        clip_gradients((gradients[name] for name in self.squares), recipe.max_norm)
        for name, w in self.model.weights.items():
            g, mean = gradients[name], self.means[name]
            if recipe.muon_rate is not None and self.uses_muon(name):
                rate, decay = recipe.muon_rate * factor, recipe.muon_decay
                n_parts = 3 if "c_attn" in name else 1  # Q, K and V each for itself
                parts = (tensor.chunk(n_parts, dim=1) for tensor in (w, g, mean))
                for w, g, mean in zip(*parts, strict=True):
                    muon(w, g, mean, rate, decay=decay)
            else:
                rate = recipe.learning_rate * factor
                decay = recipe.weight_decay if w.dim() == 2 else 0.0
                square = self.squares[name]
                adamw(w, g, mean, square, step + 1, rate, recipe.betas, decay)

    @torch.no_grad()
    def validate(self) -> float:
        """Return the loss on held-out text, without dropout."""
        n, size = self.model.config.n_ctx, self.recipe.batch_size
        windows = self.corpus.held_out.unfold(0, n + 1, n)[: self.recipe.n_validation]
        candidates = self.candidates(windows)
        losses = [
            self.loss(rows, candidates) * len(rows) for rows in windows.split(size)
        ]
        return float(sum(losses) / len(windows))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all that is needed to go on into one file, atomically."""
        tensors = self.tensors() | {"losses": torch.tensor(self.losses)}
        safetensors.save_file(tensors, path, self.metadata())

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a saved state.

        Raises `ValueError` if it was saved by a run with another recipe or corpus.
        """
        check_resumable(path, safetensors.read_header(path).metadata, self.metadata())
        saved = safetensors.load_file(path)
        self.losses = saved.pop("losses").tolist()
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(saved[name])

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights and the running averages, by distinct names."""
        means = {f"mean.{name}": tensor for name, tensor in self.means.items()}
        squares = {f"square.{name}": tensor for name, tensor in self.squares.items()}
        return {**self.model.weights, **means, **squares}

    def metadata(self) -> dict[str, str]:
        """Return what a run has to have in common with the one it goes on from."""
        return {
            "config": json.dumps(asdict(self.model.config)),
            "recipe": json.dumps(asdict(self.recipe)),
            "corpus": self.corpus.fingerprint(),
        }

    def trained(self) -> GPT2:
        """Return the model as it is now, detached from the run.

        Tokens that never occurred in the corpus get almost no probability.
        """
        weights = {name: w.detach().clone() for name, w in self.model.weights.items()}
        is_unseen = torch.ones(len(weights["wte.weight"]), dtype=torch.bool)
        is_unseen[self.by_frequency] = False
        if is_unseen.any():
            rows = self.corpus.held_out.unfold(0, self.model.config.n_ctx, 1)[:1]
            with torch.no_grad():
                vectors = last_vectors(self.model, rows).flatten(0, 1)
            hide_unseen(weights["wte.weight"], is_unseen, vectors)
        return GPT2(self.model.config, weights)


def hide_unseen(
    wte: Tensor, is_unseen: Tensor, vectors: Tensor, n_steps: int = 300
) -> None:
    """Give the tokens that training never saw almost no probability, in place.

    They share one row of ``wte``, found by descending the loss that they add: of that
    row nothing is known but that it shouldn't be predicted. wte: [n_vocab, n_embd];
    is_unseen: bool [n_vocab]; vectors: [N, n_embd], of positions in some text.
    """
    seen = (vectors @ wte[~is_unseen].T).logsumexp(dim=-1)  # [N]
    row = torch.zeros_like(wte[0]).requires_grad_()
    mean, square = torch.zeros_like(wte[0]), torch.zeros_like(wte[0])
    for step in range(1, n_steps + 1):
        unseen = vectors @ row + math.log(int(is_unseen.sum()))
        loss = (torch.logaddexp(seen, unseen) - seen).mean()
        (g,) = torch.autograd.grad(loss, row)
        with torch.no_grad():
            adamw(row, g, mean, square, step, rate=0.05)
    wte[is_unseen] = row.detach()
