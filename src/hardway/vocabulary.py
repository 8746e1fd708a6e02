"""Read a tokenizer's vocabulary from untrusted files, and check it.

There are three sources: GPT-2's ``vocab.json`` and ``merges.txt``, with what was added
to them; Hugging Face's ``tokenizer.json``; and the metadata of a GGUF file. What a file
asks for beyond byte-level BPE is refused by name; if it were ignored, the ids would be
silently wrong.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import regex

from hardway import layout
from hardway.checks import safe_repr
from hardway.untrusted import prefix_errors, read_json_object

TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED_TOKENS = "added_tokens.json"
CHAT_TEMPLATE = "chat_template.jinja"
PARTS = ("vocab", "merges")  # what messages begin with
HINTS = {
    " ": " (a space is spelled Ġ)",
    "\ufeff": " (it is a byte order mark: save the file as UTF-8 without one)",
}
# The values that are implemented of settings in tokenizer.json, the default first.
MODEL: dict[str, tuple[Any, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (False,),
    "ignore_merges": (False,),
}
ADDED: dict[str, tuple[Any, ...]] = {
    "single_word": (False,),
    "lstrip": (False,),
    "rstrip": (False,),
}
MARKER = regex.compile(r"[<\[{|].*[>\]}|]")
SETTINGS: dict[str, tuple[Any, ...]] = {  # of tokenizer_config.json
    "add_prefix_space": (False,),
    "add_bos_token": (False,),
    "add_eos_token": (False,),
    "do_lower_case": (False,),
}
ENDS = (
    (TOKENIZER_CONFIG, "eos_token"),
    ("special_tokens_map.json", "eos_token"),
    ("generation_config.json", "eos_token_id"),
    ("config.json", "eos_token_id"),
)
# The same in a GGUF file, whose keys begin with "tokenizer.ggml.".
GGUF = {
    "model": ("gpt2",),
    "pre": ("gpt-2", "smollm"),
    "add_bos_token": (False,),
    "add_eos_token": (False,),
}
GGUF_STEPS = {"gpt-2": ["ByteLevel"], "smollm": ["Digits", "ByteLevel"]}
NORMAL, CONTROL = 1, 3  # token types

Patterns = Mapping[str, regex.Pattern[str]]


@contextmanager
def read(
    path: Path, alphabet: Collection[str], patterns: Patterns
) -> Iterator[dict[str, Any]]:
    """Read from a directory or GGUF file what a `hardway.tokenizer.Tokenizer` takes.

    alphabet: the characters that stand for bytes; patterns: the known ones, by the
    names ``ByteLevel`` and ``Digits`` of tokenizer.json. An error raised inside that
    begins with the part it is about, ``vocab:`` or ``merges:``, is prefixed with the
    file's path.
    """
    files = layout.find_vocabulary(path)
    if len(files) > 1:
        contents = read_two_files(files[0], files[1], alphabet)
    elif layout.is_gguf(files[0]):
        contents = read_gguf(files[0], patterns)
    else:
        contents = read_tokenizer_json(files[0], patterns)
    try:
        yield contents
    except ValueError as error:
        part, _, problem = str(error).partition(": ")
        if part not in PARTS:
            raise
        if len(files) > 1:
            raise ValueError(f"{files[PARTS.index(part)]}: {problem}") from error
        raise ValueError(f"{files[0]}: {error}") from error


def read_two_files(
    vocab_file: Path, merges_file: Path, alphabet: Collection[str]
) -> dict[str, Any]:
    """Read vocab and merges, which cut words as GPT-2 does, and what is beside them.

    A vocabulary that lacks a byte is not of that kind: nothing here would say how its
    words are cut, so `ValueError` is raised, as for a malformed file.
    """
    with prefix_errors(vocab_file):
        vocab = read_json_object(vocab_file)
        if missing := sorted(set(alphabet).difference(vocab)):
            raise ValueError(f"the token {missing[0]!r}, for one byte, is missing")
    with prefix_errors(merges_file):
        merges = read_merges(merges_file)
    added = read_added_beside(vocab_file.parent, vocab)
    made = {left + right for left, right in merges}.union(alphabet)
    specials = {token: id for token, id in vocab.items() if token not in made} | added
    contents = {"vocab": vocab | added, "merges": merges}
    contents |= {"specials": [*added]} if added else {}
    return contents | read_beside(vocab_file.parent, specials)


def read_added_beside(directory: Path, vocab: Mapping[str, Any]) -> dict[str, int]:
    """Read the tokens that were added to a vocabulary, from the two files that say so.

    ``added_tokens.json`` holds ids alone, tokenizer_config.json the settings, too.
    """
    found: dict[str, int] = {}
    for name, key in ((ADDED_TOKENS, None), (TOKENIZER_CONFIG, "added_tokens_decoder")):
        path = directory / name
        if path.is_file():
            with prefix_errors(path):
                raw = read_json_object(path)
                entries = raw if key is None else raw.get(key, {})
                found |= read_added(added_entries(entries), {**vocab, **found})
    return found


def added_entries(found: Any) -> list[Any]:
    """Return tokens by id, or ids by token, in the form that tokenizer.json has."""
    if not isinstance(found, dict):
        raise ValueError(f"added tokens must be an object, got {safe_repr(found)}")
    return [
        value | {"id": int(key) if key.isdecimal() else key}
        if isinstance(value, dict)
        else {"content": key, "id": value}
        for key, value in found.items()
    ]


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Read one pair per line, in the order learned; line 1 may be a version."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}") from error
    merges = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        with prefix_errors(f"line {number}"):
            merges.append(split_pair(line))
    return merges


def split_pair(line: str) -> tuple[str, str]:
    """Split the spelling of a pair at its space."""
    left, _, right = line.partition(" ")
    if not left or not right or " " in right:
        raise ValueError(f"{line[:40]!r} is not two pieces separated by one space")
    return left, right


def read_tokenizer_json(path: Path, patterns: Patterns) -> dict[str, Any]:
    """Read byte-level BPE; raise `ValueError` for any part that would change it."""
    with prefix_errors(path):
        found = read_json_object(path)
        check_settings("", found, {"normalizer": (None,)})
        for name in ("post_processor", "decoder"):
            part = found.get(name)
            if part is not None and not adds_nothing(part):
                check_settings(f"{name}.", part, {"type": ("ByteLevel",)})
        steps = split_steps(found.get("pre_tokenizer"), patterns)
        model = found.get("model")
        check_settings("model.", model, MODEL)
        vocab = entry_of("model.", model, "vocab", dict)
        merges = list(map(read_pair, entry_of("model.", model, "merges", list)))
        specials = read_added(entry_of("", found, "added_tokens", list), vocab)
    contents = {"vocab": vocab | specials, "merges": merges, "specials": [*specials]}
    contents["patterns"] = [patterns[step] for step in steps]
    return contents | read_beside(path.parent, specials)


def adds_nothing(part: Any) -> bool:
    """Return whether a post-processor is a template that is the text alone."""
    match part:
        case {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}:
            return True
    return False


def read_beside(directory: Path, specials: Mapping[str, int]) -> dict[str, Any]:
    """Read what the other files say, if they do: chat template, end of a text."""
    path = directory / TOKENIZER_CONFIG
    if path.is_file():
        with prefix_errors(path):
            check_settings("", read_json_object(path), SETTINGS)
    found = {
        "chat_template": find_template(directory),
        "end": find_end(directory, specials),
    }
    return {name: value for name, value in found.items() if value is not None}


def read_gguf(path: Path, patterns: Patterns) -> dict[str, Any]:
    """Read byte-level BPE from a GGUF file's metadata; refuse any other kind."""
    from hardway import gguf  # needs torch, which no other vocabulary does

    where = "tokenizer.ggml."
    found: dict[str, Any] = {"model": "none", "pre": "default"}  # unless it says so
    metadata = gguf.read_header(path).metadata
    for key, value in metadata.items():
        if key.startswith(where):
            found[key.removeprefix(where)] = value
    with prefix_errors(path):
        check_settings(where, found, GGUF)
        tokens = entry_of(where, found, "tokens", list)
        specials = control_tokens(tokens, entry_of(where, found, "token_type", list))
        merges = list(map(read_pair, entry_of(where, found, "merges", list)))
        end = find_special("eos_token_id", found.get("eos_token_id"), specials)
    return {
        "vocab": {token: id for id, token in enumerate(tokens)},
        "merges": merges,
        "specials": [*specials],
        "end": end,
        "patterns": [patterns[step] for step in GGUF_STEPS[found["pre"]]],
        "chat_template": metadata.get("tokenizer.chat_template"),
    }


def control_tokens(tokens: Sequence[Any], kinds: Sequence[Any]) -> dict[str, int]:
    """Return the control tokens of a GGUF file and their ids; the rest must be normal.

    Others (user-defined ones for example) would be cut out of any text.
    """
    if not all(isinstance(token, str) for token in tokens):
        raise ValueError("tokens must be strings")
    if len({*tokens}) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise ValueError(f"tokens must be distinct, got {safe_repr(twice)} twice")
    if len(kinds) != len(tokens) or any(k not in (NORMAL, CONTROL) for k in kinds):
        wanted = f"{NORMAL} (normal) or {CONTROL} (control) for each token"
        raise ValueError(f"token_type must be {wanted}, got {safe_repr(kinds)}")
    return {tokens[id]: id for id, kind in enumerate(kinds) if kind == CONTROL}


def check_settings(
    where: str, found: Any, allowed: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise `ValueError` for a setting whose value is not one that is implemented."""
    if not isinstance(found, dict):
        raise ValueError(
            f"{where.rstrip('.')} must be an object, got {safe_repr(found)}"
        )
    for key, values in allowed.items():
        if (value := found.get(key, values[0])) not in values:
            wanted = " or ".join(map(repr, values))
            raise ValueError(
                f"{where}{key} must be {wanted}, got {safe_repr(value)}: that kind of "
                "tokenizer is not implemented"
            )


def entry_of(where: str, found: Any, key: str, kind: type) -> Any:
    """Return an entry; raise `ValueError` unless it is of that type."""
    if not isinstance(value := found.get(key), kind):
        wanted = "an object" if kind is dict else "a list"
        raise ValueError(f"{where}{key} must be {wanted}, got {safe_repr(value)}")
    return value


def read_pair(pair: Any) -> tuple[str, str]:
    """Return the two pieces of a merge, which is one string or a list of two."""
    match pair:
        case str():
            with prefix_errors("merges"):
                return split_pair(pair)
        case [str(left), str(right)] if left and right:
            return left, right
    raise ValueError(f"merges: each must be a pair of pieces, got {safe_repr(pair)}")


def read_added(added: Sequence[Any], vocab: Mapping[str, Any]) -> dict[str, int]:
    """Return the added tokens and their ids; the vocabulary may have some, too.

    All become special tokens, which a text contains only where it is allowed to. One
    that isn't special to its file must look like a marker, ``<|user|>`` or ``[SEP]``:
    any other, such as a new word, is meant to be found in every text.
    """
    found: dict[str, int] = {}
    for entry in added:
        match entry:
            case {"content": str(token), "id": int(id)} if token:
                check_settings(f"added_tokens: {safe_repr(token)}: ", entry, ADDED)
            case _:
                problem = f"have an id and a content, got {safe_repr(entry)}"
                raise ValueError(f"added_tokens: each must {problem}")
        if entry.get("special") is not True and not MARKER.fullmatch(token):
            raise ValueError(
                f"added_tokens: {safe_repr(token)} must be special, or a marker such "
                "as <|user|>: a token to be found in any text is not implemented"
            )
        if token in found or vocab.get(token, id) != id:
            raise ValueError(f"added_tokens: {safe_repr(token)} must have one id")
        found[token] = id
    return found


def split_steps(entry: Any, patterns: Patterns) -> list[str]:
    """Return the names of the patterns that a pre-tokenizer applies, in their order."""
    match entry:
        case {"type": "Sequence", "pretokenizers": [*entries]}:
            pass
        case _:
            entries = [entry]
    names = {patterns["ByteLevel"].pattern: "ByteLevel", r"\p{N}": "Digits"}
    steps = [step for part in entries for step in read_step(part, names)]
    *cuts, last = steps or [""]
    if last != "bytes" or "bytes" in cuts or cuts[-1:] != ["ByteLevel"]:
        wanted = "GPT-2's pattern and ByteLevel"
        raise ValueError(f"pre_tokenizer must end in {wanted}, got {safe_repr(entry)}")
    return cuts


def read_step(part: Any, names: Mapping[str, str]) -> list[str]:
    """Return what one part of a pre-tokenizer does: patterns to cut by, or ``bytes``.

    names: the patterns that a Split may have, by their spelling.
    """
    match part:
        case {"type": "Digits", "individual_digits": True}:
            return ["Digits"]
        case {
            "type": "Split",
            "pattern": {"Regex": str(text)},
            "behavior": "Isolated",
            "invert": False,
        } if text in names:
            return [names[text]]
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return ["bytes"]
        case {"type": "ByteLevel", "add_prefix_space": False}:
            return ["ByteLevel", "bytes"]
    raise ValueError(
        f"pre_tokenizer {safe_repr(part)} is not implemented: only Digits with "
        "individual_digits, ByteLevel without add_prefix_space, and a Split by one of "
        "their patterns are"
    )


def find_end(directory: Path, specials: Mapping[str, int]) -> str | None:
    """Return the special token that ends a text; the first file that names one wins."""
    for name, key in ENDS:
        path = directory / name
        with prefix_errors(path):
            match read_json_object(path).get(key) if path.is_file() else None:
                case None:
                    continue
                case {"content": end} | [end, *_] | end:
                    return find_special(key, end, specials)
    return None


def find_template(directory: Path) -> Any:
    """Return the chat template, or None: a program in Jinja, which is never run.

    It has a file of its own, or is an entry of tokenizer_config.json.
    """
    own, config = directory / CHAT_TEMPLATE, directory / TOKENIZER_CONFIG
    if own.is_file():
        with prefix_errors(own):
            return own.read_text(encoding="utf-8")
    if not config.is_file():
        return None
    with prefix_errors(config):
        return read_json_object(config).get("chat_template")


def find_special(name: str, found: Any, specials: Mapping[str, int]) -> str:
    """Return the special token that is named by its spelling or its id."""
    for token, id in specials.items():
        if found in (token, id):
            return token
    raise ValueError(f"{name} must be a special token, got {safe_repr(found)}")


def check(
    vocab: Mapping[str, Any],
    merges: Sequence[tuple[str, str]],
    alphabet: Collection[str],
    specials: Collection[str],
) -> None:
    """Check that a vocabulary and its merges fit together.

    vocab: each token's spelling and id; merges: pairs of spellings; alphabet: the
    characters that stand for bytes; specials: the tokens that are not spelled in them.
    Ids run from 0 without gaps, and the result of every merge has one. Messages begin
    with the part they are about, ``vocab:`` or ``merges:``.
    """
    for token, id in vocab.items():
        if type(id) is not int:
            problem = f"has the id {safe_repr(id)}, which is not a whole number"
            raise ValueError(f"vocab: the token {token[:40]!r} {problem}")
    for token in specials:
        if not token or token not in vocab:
            problem = "is missing" if token else "must have at least one character"
            raise ValueError(f"vocab: the special token {safe_repr(token)} {problem}")
    plain = [token for token in vocab if token not in specials]
    check_spelling("vocab: the token", plain, alphabet)
    check_spelling(
        "merges: the piece", [piece for pair in merges for piece in pair], alphabet
    )
    if gaps := set(range(len(vocab))).difference(vocab.values()):
        raise ValueError(
            f"vocab: the ids of its {len(vocab):,} tokens must be 0 to "
            f"{len(vocab) - 1}, each once, but none has the id {min(gaps)}"
        )
    if len(set(merges)) < len(merges):
        twice = " ".join(Counter(merges).most_common(1)[0][0])
        raise ValueError(f"merges: the pair {twice[:40]!r} appears twice")
    for a, b in merges:
        if a + b not in vocab or a + b in specials:
            pair, token = f"{a} {b}"[:40], (a + b)[:40]
            problem = f"makes {token!r}, which has no id in vocab"
            raise ValueError(f"merges: the pair {pair!r} {problem}")


def check_spelling(
    what: str, spellings: Sequence[str], alphabet: Collection[str]
) -> None:
    """Raise `ValueError` for a character outside GPT-2's byte alphabet."""
    if not (foreign := set("".join(spellings)).difference(alphabet)):
        return
    spelling = next(s for s in spellings if not foreign.isdisjoint(s))
    character = next(c for c in spelling if c in foreign)
    raise ValueError(
        f"{what} {spelling[:40]!r} contains {character!a}, not in GPT-2's "
        f"byte alphabet{HINTS.get(character, '')}"
    )
