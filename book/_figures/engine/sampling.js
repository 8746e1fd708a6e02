/**
 * Choose the next token: temperature, top-k, top-p, min-p, and a draw.
 */

/**
 * @typedef {object} Options
 * @property {number} [temperature] 0 is greedy
 * @property {number} [topK]
 * @property {number} [topP]
 * @property {number} [minP]
 */

/**
 * The Mersenne Twister of Matsumoto and Nishimura, which torch draws from on a CPU.
 *
 * The same seed gives the same numbers here as ``torch.Generator().manual_seed(seed)``.
 */
class MersenneTwister {
  /** @param {number} seed below 2**32 */
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const last = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, last ^ (last >>> 30)) + i;
    }
    this.used = 624;
  }

  /** Mix all 624 numbers of the state once. */
  twist() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.used = 0;
  }

  /** Return 32 random bits, as a whole number. */
  bits() {
    if (this.used === 624) this.twist();
    let y = this.state[this.used++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** Return a number from 0 to below 1, from 53 bits: torch's ``rand`` in float64. */
  random() {
    const high = this.bits() & 0x1fffff;
    return (high * 2 ** 32 + this.bits()) / 2 ** 53;
  }

  /**
   * Return normally distributed numbers, at least 16: torch's ``randn`` in float32.
   *
   * Box and Muller's method, on blocks of 16; the last block ends where the array does.
   *
   * @param {number} n
   */
  randn(n) {
    const uniform = () => (this.bits() & 0xffffff) / 2 ** 24;
    const out = new Float32Array(n).map(uniform);
    const starts = Array.from({ length: Math.floor(n / 16) }, (_, i) => 16 * i);
    if (n % 16) starts.push(n - 16);
    for (const start of starts) {
      const block = out.subarray(start, start + 16);
      if (start % 16) block.set(block.map(uniform));
      for (let i = 0; i < 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - block[i]));
        const angle = 2 * Math.PI * block[i + 8];
        block[i] = radius * Math.cos(angle);
        block[i + 8] = radius * Math.sin(angle);
      }
    }
    return out;
  }
}

/**
 * Return the index of the largest number, of equals the first.
 *
 * @param {Float32Array | Float64Array} numbers
 */
function argmax(numbers) {
  let best = 0;
  for (let i = 1; i < numbers.length; i++) if (numbers[i] > numbers[best]) best = i;
  return best;
}

/**
 * Return the indices of the ``k`` largest numbers, largest first.
 *
 * @param {Float32Array | Float64Array} numbers
 * @param {number} k
 */
function topk(numbers, k) {
  /** @type {number[]} */
  const best = [];
  for (let i = 0; i < numbers.length; i++) {
    if (best.length === k && numbers[i] <= numbers[best[k - 1]]) continue;
    let place = best.length;
    while (place > 0 && numbers[best[place - 1]] < numbers[i]) place--;
    best.splice(place, 0, i);
    if (best.length > k) best.pop();
  }
  return best;
}

/**
 * Divide the logits: below 1 sharpens the distribution, above 1 flattens it.
 *
 * @param {Float64Array} logits [n_vocab]
 * @param {number} temperature
 */
function applyTemperature(logits, temperature) {
  const largest = logits[argmax(logits)];
  return logits.map((logit) => (logit - largest) / temperature);
}

/**
 * Top-k: keep the ``k`` highest logits, and those that tie with the last of them.
 *
 * @param {Float64Array} logits [n_vocab]
 * @param {number} k
 */
function keepTopK(logits, k) {
  const kth = logits.slice().sort()[Math.max(logits.length - k, 0)];
  return logits.map((logit) => (logit < kth ? -Infinity : logit));
}

/**
 * Top-p: keep the most probable tokens, as few as together hold at least ``p``.
 *
 * @param {Float64Array} logits [n_vocab]
 * @param {number} p
 */
function keepTopP(logits, p) {
  const order = Uint32Array.from(logits, (_, i) => i);
  order.sort((a, b) => logits[a] - logits[b] || a - b);
  const ordered = softmax(Float64Array.from(order, (i) => logits[i]));
  const kept = logits.slice();
  let held = 0; // by each token and those below it
  for (let i = 0; i + 1 < order.length; i++) {
    held += ordered[i];
    if (held > 1 - p) break;
    kept[order[i]] = -Infinity;
  }
  return kept;
}

/**
 * Min-p: keep the tokens at least ``p`` times as probable as the most probable one.
 *
 * @param {Float64Array} logits [n_vocab]
 * @param {number} p
 */
function keepMinP(logits, p) {
  const probabilities = softmax(logits);
  const threshold = p * probabilities[argmax(probabilities)];
  return logits.map((logit, i) => (probabilities[i] < threshold ? -Infinity : logit));
}

/**
 * Return the distribution that the next token is drawn from.
 *
 * @param {Float32Array} logits [n_vocab]
 * @param {Options} options
 */
function distribution(logits, { temperature = 0, topK, topP, minP }) {
  let processed = Float64Array.from(logits);
  if (temperature === 0) {
    const greedy = processed.fill(0);
    greedy[argmax(logits)] = 1;
    return greedy;
  }
  processed = applyTemperature(processed, temperature);
  if (topK !== undefined) processed = keepTopK(processed, topK);
  if (topP !== undefined) processed = keepTopP(processed, topP);
  if (minP !== undefined) processed = keepMinP(processed, minP);
  return softmax(processed);
}

/**
 * Inverse-CDF sampling: return the token whose interval contains ``u``.
 *
 * @param {Float64Array} probabilities [n_vocab]
 * @param {number} u from 0 to below 1
 */
function sample(probabilities, u) {
  const ends = probabilities.slice();
  for (let i = 1; i < ends.length; i++) ends[i] += ends[i - 1];
  return ends.findIndex((end) => end > u * ends[ends.length - 1]);
}
