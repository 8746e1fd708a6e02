"""Regular expressions over bytes, and their derivatives.

An expression is a value, made of nested tuples: equal expressions are equal, and can be
looked up. The derivative of an expression by a byte describes what may follow that
byte, so it is what an automaton calls the next state. Papers: Brzozowski 1964, Owens et
al. 2009.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple


class Bytes(NamedTuple):
    """Any one of some bytes."""

    values: frozenset[int]


class Then(NamedTuple):
    """Several expressions, one after the other."""

    parts: tuple["Expression", ...]


class Either(NamedTuple):
    """Any one of several expressions."""

    options: frozenset["Expression"]


class Repeat(NamedTuple):
    """An expression from ``low`` to ``high`` times; None is without end."""

    part: "Expression"
    low: int
    high: int | None


Expression = Bytes | Then | Either | Repeat
NOTHING = Bytes(frozenset())  # no text matches
EMPTY = Then(())  # the empty text matches, and no other


def literal(text: str) -> Expression:
    """Match just this text."""
    return then(*(Bytes(frozenset({byte})) for byte in text.encode()))


def then(*expressions: Expression) -> Expression:
    """Match the expressions one after the other; flat, so that equals are equal."""
    parts: list[Expression] = []
    for part in expressions:
        parts += part.parts if isinstance(part, Then) else [part]
    if NOTHING in parts:
        return NOTHING
    return parts[0] if len(parts) == 1 else Then(tuple(parts))


def either(*expressions: Expression) -> Expression:
    """Match any of the expressions: flat, with all that match one byte joined."""
    options: set[Expression] = set()
    values: frozenset[int] = frozenset()
    for option in expressions:
        for one in option.options if isinstance(option, Either) else [option]:
            if isinstance(one, Bytes):
                values |= one.values
            else:
                options.add(one)
    if values or not options:
        options.add(Bytes(values))
    return options.pop() if len(options) == 1 else Either(frozenset(options))


def repeat(part: Expression, low: int = 0, high: int | None = None) -> Expression:
    """Match an expression from ``low`` to ``high`` times."""
    if high == 0 or part == EMPTY or (part == NOTHING and low == 0):
        return EMPTY
    if part == NOTHING or (low, high) == (1, 1):
        return part
    is_star = isinstance(part, Repeat) and (part.low, part.high) == (0, None)
    return part if is_star and high is None else Repeat(part, low, high)


def shortest(expression: Expression) -> int:
    """Return how many bytes the shortest text has that matches.

    That text is empty where an expression matches already, as the end of a text. Not
    for ``NOTHING``, which no text matches.
    """
    match expression:
        case Bytes():
            return 1
        case Then(parts):
            return sum(map(shortest, parts))
        case Either(options):
            return min(map(shortest, options))
        case Repeat(part, low):
            return low * shortest(part) if low else 0


def derivative(expression: Expression, byte: int) -> Expression:
    """Return what may follow a byte, where it begins a text that matches.

    It is ``NOTHING`` for a byte that begins none. Source: Brzozowski 1964.
    """
    match expression:
        case Bytes(values):
            return EMPTY if byte in values else NOTHING
        case Either(options):
            return either(*(derivative(option, byte) for option in options))
        case Repeat(part, low, high):
            rest = repeat(part, max(low - 1, 0), None if high is None else high - 1)
            return then(derivative(part, byte), rest)
        case Then(parts):
            found = []
            for i, part in enumerate(parts):
                if (rest := derivative(part, byte)) != NOTHING:
                    found.append(then(rest, *parts[i + 1 :]))
                if shortest(part) > 0:  # else the byte may be the next part's
                    break
            return either(*found)


def byte_sets(expression: Expression) -> set[frozenset[int]]:
    """Return every set of bytes in an expression."""
    match expression:
        case Bytes(values):
            return {values}
        case Repeat(part):
            return byte_sets(part)
        case Then(parts) | Either(parts):
            return set[frozenset[int]]().union(*map(byte_sets, parts))


def restrict(expression: Expression, missing: Collection[int]) -> Expression:
    """Take some bytes out of an expression: no text with one of them matches."""
    match expression:
        case Bytes(values):
            return Bytes(values - frozenset(missing))
        case Repeat(part, low, high):
            return repeat(restrict(part, missing), low, high)
        case Then(parts):
            return then(*(restrict(part, missing) for part in parts))
        case Either(options):
            return either(*(restrict(option, missing) for option in options))


def characters(ranges: Iterable[tuple[int, int]]) -> Expression:
    """Match one character, as the bytes of its UTF-8.

    ranges: the first and last code point of each run; surrogates aren't characters.
    """
    return _join([seq for low, high in ranges for seq in byte_sequences(low, high)])


def byte_sequences(low: int, high: int) -> Iterator[tuple[frozenset[int], ...]]:
    """Cut a range of code points so that in each part, any byte goes with any other.

    Each part is a set of bytes for every place. The characters U+0000 to U+007F take
    one byte, those to U+07FF two, to U+FFFF three; six bits are in each byte but the
    first.
    """
    for end in (0x7F, 0x7FF, 0xFFFF):
        if low <= end < high:
            yield from (*byte_sequences(low, end), *byte_sequences(end + 1, high))
            return
    for bits in (6, 12, 18) if high > 0x7F else ():
        last = (1 << bits) - 1
        if low >> bits != high >> bits:
            cuts = (low | last) if low & last else (high & ~last) - 1
            if low & last or high & last != last:
                yield from byte_sequences(low, cuts)
                yield from byte_sequences(cuts + 1, high)
                return
    ends = zip(chr(low).encode(), chr(high).encode(), strict=True)
    yield tuple(frozenset(range(first, last + 1)) for first, last in ends)


def _join(sequences: Collection[tuple[frozenset[int], ...]]) -> Expression:
    """Match any of some sequences; those that go on alike have one beginning."""
    if not all(sequences):
        return EMPTY
    rests: dict[int, set[tuple[frozenset[int], ...]]] = {}
    for first, *rest in sequences:
        for byte in first:
            rests.setdefault(byte, set()).add(tuple(rest))
    begins: dict[frozenset[tuple[frozenset[int], ...]], set[int]] = {}
    for byte, following in rests.items():
        begins.setdefault(frozenset(following), set()).add(byte)
    options = (then(Bytes(frozenset(b)), _join(rest)) for rest, b in begins.items())
    return either(*options)
