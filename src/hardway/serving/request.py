"""A request: what is asked for, what has come of it, and which pages it holds."""

from collections.abc import Collection
from dataclasses import dataclass, field

from hardway.sampling import Sampler


@dataclass(eq=False)
class Request:
    """A prompt, the tokens generated from it, and how many of all are computed."""

    prompt_ids: list[int]
    max_new_tokens: int
    sampler: Sampler
    stop_ids: Collection[int] = ()
    n_logprobs: int | None = None
    logprobs: list[dict[int, float]] = field(default_factory=list)
    finish_reason: str | None = None  # "stop", "length" or "cancelled"
    n_computed: int = 0  # tokens whose keys and values are in the pages
    pages: list[int] = field(default_factory=list)  # the page table
    keys: list[bytes] = field(default_factory=list)  # of its full pages

    def __post_init__(self) -> None:
        """Start the text with the prompt."""
        self.ids = [*self.prompt_ids]

    @property
    def n_tokens(self) -> int:
        """How many tokens the text has so far, computed or not."""
        return len(self.ids)

    @property
    def output_ids(self) -> list[int]:
        """The tokens generated so far."""
        return self.ids[len(self.prompt_ids) :]

    @property
    def finished(self) -> bool:
        """Whether no token will be added."""
        return self.finish_reason is not None
