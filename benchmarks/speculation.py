"""Guesses looked up in the prompt: a summary by SmolLM2, with them and without."""

from collections.abc import Callable
from functools import partial

import hardway
from hardway import chat
from hardway.decoding import speculative_generate
from hardway.generation import LanguageModel
from measure import clock

TEXT = """\
The old lighthouse at the mouth of the river was built of brick in 1827, after three \
ships had been lost on the sandbank in a single winter. Its lamp burned whale oil, and \
a keeper climbed the 119 steps every four hours to trim the wick. In 1872 the oil lamp \
was replaced by a lens of cut glass, which threw its light eighteen miles out to sea. \
The lighthouse was wired for electricity in 1931, and the last keeper left in 1968. \
When the river moved its mouth to the south, a new steel tower took over the work. \
Today the old lighthouse is a museum, and visitors can climb the 119 steps to see the \
lens, the keeper's log, and the sandbank where the ships were lost."""
NEW, GUESSES = 96, 6


def summarize(model: LanguageModel) -> dict[str, Callable[[], float]]:
    """Measure tokens per second; raise `AssertionError` if the texts differ."""
    tokenizer = hardway.load_tokenizer("smollm2")
    request = f"Summarize the following text:\n\n{TEXT}"
    prompt = chat.encode(tokenizer, [{"role": "user", "content": request}])
    stop = [tokenizer.eot_id]
    alone = partial(hardway.generate, model, prompt, NEW, stop_ids=stop)
    guessed = partial(
        speculative_generate, model, None, prompt, NEW, GUESSES, stop_ids=stop
    )
    text = alone()
    assert guessed() == text
    return {
        "alone": lambda: len(text) / clock(alone),
        "look-up": lambda: len(text) / clock(guessed),
    }
