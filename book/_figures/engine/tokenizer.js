/**
 * Byte-level byte-pair encoding: text to ids and back.
 *
 * The file has the ids alone: GPT-2 numbers the bytes first, then the results of the
 * merges in the order in which they were learned.
 */

const WORD =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/**
 * Split text into words, which merges never cross.
 *
 * JavaScript's ``\s`` isn't Unicode's white space, so the pattern names that.
 *
 * @param {string} text
 * @returns {string[]}
 */
function splitWords(text) {
  return text.match(WORD) ?? [];
}

/**
 * Join every occurrence of a pair, from left to right, into one piece.
 *
 * @param {number[]} ids
 * @param {number} left
 * @param {number} right
 * @param {number} merged
 */
function mergePair(ids, left, right, merged) {
  const out = [];
  for (let i = 0; i < ids.length; i++) {
    const found = ids[i] === left && ids[i + 1] === right;
    out.push(found ? merged : ids[i]);
    if (found) i++;
  }
  return out;
}

class Tokenizer {
  /**
   * @param {Uint16Array | number[]} bytes the byte of each of the first 256 ids
   * @param {Uint16Array | number[]} merges pairs of ids, in the order learned
   */
  constructor(bytes, merges) {
    /** @type {Uint8Array[]} */
    this.pieces = Array.from(bytes, (byte) => Uint8Array.of(byte));
    this.idOfByte = new Map(Array.from(bytes, (byte, id) => [byte, id]));
    /** @type {Map<number, number>} */
    this.merged = new Map(); // from a pair, as one number, to the id of the result
    for (let i = 0; i < merges.length; i += 2) {
      const left = merges[i], right = merges[i + 1];
      this.merged.set(left * 65536 + right, this.pieces.length);
      this.pieces.push(Uint8Array.of(...this.pieces[left], ...this.pieces[right]));
    }
    this.endOfText = this.pieces.length;
    this.pieces.push(new TextEncoder().encode("<|endoftext|>"));
  }

  /**
   * Yield every step of merging a word: its ids at first, and after each merge.
   *
   * The pair that was learned first has the lowest id, and is merged first.
   *
   * @param {string} word
   * @returns {Generator<number[]>}
   */
  *mergeSteps(word) {
    let ids = Array.from(new TextEncoder().encode(word), (byte) => this.id(byte));
    yield ids;
    for (;;) {
      let best = Infinity, at = 0;
      for (let i = 0; i + 1 < ids.length; i++) {
        const merged = this.merged.get(ids[i] * 65536 + ids[i + 1]) ?? Infinity;
        if (merged < best) [best, at] = [merged, i];
      }
      if (best === Infinity) return;
      ids = mergePair(ids, ids[at], ids[at + 1], best);
      yield ids;
    }
  }

  /** @param {number} byte */
  id(byte) {
    return /** @type {number} */ (this.idOfByte.get(byte));
  }

  /**
   * Return the ids of a text. A lone surrogate, which UTF-8 can't encode, is an error.
   *
   * @param {string} text
   * @returns {number[]}
   */
  encode(text) {
    if (/\p{Surrogate}/u.test(text)) throw new RangeError("text has a lone surrogate");
    /** @type {number[]} */
    const ids = [];
    for (const word of splitWords(text)) {
      let pieces;
      for (pieces of this.mergeSteps(word));
      for (const id of pieces ?? []) ids.push(id);
    }
    return ids;
  }

  /**
   * Return the bytes of some ids.
   *
   * @param {number[]} ids
   */
  decodeBytes(ids) {
    return Uint8Array.from(ids.flatMap((id) => [...this.pieces[id]]));
  }

  /**
   * Return the text of some ids; bytes that aren't UTF-8 become U+FFFD.
   *
   * @param {number[]} ids
   */
  decode(ids) {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.decodeBytes(ids));
  }
}
