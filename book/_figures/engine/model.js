/**
 * GPT-2: embeddings, a stack of blocks, and a logit for every token.
 */

/**
 * The sizes of a model.
 *
 * @typedef {object} Config
 * @property {number} n_layer
 * @property {number} n_head
 * @property {number} n_embd
 * @property {number} n_ctx
 * @property {number} n_vocab
 * @property {number} layer_norm_epsilon
 */

/**
 * What a reader may change in a forward pass.
 *
 * @typedef {object} Changes
 * @property {boolean} [unmasked] every query sees every key
 * @property {boolean} [unscaled] scores aren't divided
 * @property {string[]} [silenced] heads that add nothing, as "layer.head"
 */

/**
 * What attention computed in one layer: q · k, the attention weights, and each head's
 * average of the values.
 *
 * @typedef {object} Attention
 * @property {Float32Array[]} scores for each head, [T, S]
 * @property {Float32Array[]} weights for each head, [T, S]
 * @property {Float32Array} mixed [T, n_embd], the heads side by side
 */

/** Room for the keys and values of every layer; ``length`` positions are filled. */
class KVCache {
  /**
   * @param {Config} config
   * @param {number} maxLen
   */
  constructor({ n_layer, n_embd }, maxLen) {
    const room = () => Array.from({ length: n_layer }, () => new Float32Array(maxLen * n_embd));
    this.keys = room();
    this.values = room();
    this.length = 0;
  }
}

/**
 * Scaled dot-product attention of one head, whose numbers start at ``from`` in a row.
 *
 * The queries are the last T of S positions.
 *
 * @param {Float32Array} q [T, n_embd]
 * @param {Float32Array} k [S, n_embd]
 * @param {Float32Array} v [S, n_embd]
 * @param {number} from
 * @param {{n_embd: number, d_head: number}} sizes
 * @param {Changes} changes
 * @param {Float32Array} mixed [T, n_embd], where the averages of the values go
 */
function attention(q, k, v, from, { n_embd, d_head }, changes, mixed) {
  const T = q.length / n_embd, S = k.length / n_embd;
  const scores = new Float32Array(T * S), weights = new Float32Array(T * S);
  const head = (/** @type {Float32Array} */ x, /** @type {number} */ i) =>
    row(x, i, n_embd).subarray(from, from + d_head);
  const divisor = changes.unscaled ? 1 : Math.sqrt(d_head);
  for (let t = 0; t < T; t++) {
    for (let s = 0; s < S; s++) scores[t * S + s] = dot(head(q, t), head(k, s));
    const visible = changes.unmasked ? S : S - T + t + 1;
    const scaled = row(scores, t, S).subarray(0, visible).map((score) => score / divisor);
    row(weights, t, S).set(softmax(scaled));
    const average = head(mixed, t);
    for (let s = 0; s < visible; s++) {
      const value = head(v, s), weight = weights[t * S + s];
      for (let i = 0; i < d_head; i++) average[i] += weight * value[i];
    }
  }
  return { scores, weights };
}

class GPT2 {
  /**
   * @param {Config} config
   * @param {Record<string, Float32Array>} weights by the checkpoint's names
   */
  constructor(config, weights) {
    this.config = config;
    this.weights = weights;
    this.d_head = config.n_embd / config.n_head;
  }

  /**
   * Return a layer by its name: its weight and its bias.
   *
   * @param {string} name
   */
  layer(name) {
    return { weight: this.weights[`${name}.weight`], bias: this.weights[`${name}.bias`] };
  }

  /**
   * Look up each token's embedding and add the embedding of its position.
   *
   * Throws `RangeError` for no tokens, for too many, and for an id that isn't known.
   *
   * @param {number[]} tokens
   * @param {number[]} positions
   * @returns {Float32Array} [T, n_embd]
   */
  embed(tokens, positions) {
    const { n_embd: n, n_ctx, n_vocab } = this.config;
    const isKnown = (/** @type {number} */ id) => Number.isInteger(id) && id >= 0 && id < n_vocab;
    if (!tokens.length) throw new RangeError("the text must have at least one token");
    if (!tokens.every(isKnown)) throw new RangeError(`ids must be from 0 to ${n_vocab - 1}`);
    if (!positions.every((position) => position < n_ctx)) {
      throw new RangeError(`the text is too long: at most ${n_ctx} tokens`);
    }
    const x = new Float32Array(tokens.length * n);
    tokens.forEach((token, t) => {
      const position = row(this.weights["wpe.weight"], positions[t], n);
      row(x, t, n).set(add(row(this.weights["wte.weight"], token, n), position));
    });
    return x;
  }

  /**
   * Multi-head self-attention: project to Q, K and V, attend per head, project back.
   *
   * @param {Float32Array} x [T, n_embd]
   * @param {number} l the layer
   * @param {KVCache} cache new keys and values go behind its past ones
   * @param {Changes} changes
   * @returns {{attended: Float32Array, attention: Attention}}
   */
  selfAttention(x, l, cache, changes) {
    const { n_embd: n, n_head } = this.config, T = x.length / n;
    const qkv = linear(x, this.layer(`h.${l}.attn.c_attn`)); // [T, 3 · n_embd]
    const q = new Float32Array(x.length), mixed = new Float32Array(x.length);
    const keys = cache.keys[l], values = cache.values[l], S = cache.length + T;
    for (let t = 0; t < T; t++) {
      const parts = row(qkv, t, 3 * n);
      q.set(row(parts, 0, n), t * n);
      keys.set(row(parts, 1, n), (cache.length + t) * n);
      values.set(row(parts, 2, n), (cache.length + t) * n);
    }
    const [k, v] = [keys.subarray(0, S * n), values.subarray(0, S * n)];
    const sizes = { n_embd: n, d_head: this.d_head };
    const heads = Array.from({ length: n_head }, (_, h) =>
      attention(q, k, v, h * this.d_head, sizes, changes, mixed));
    this.silence(mixed, l, changes);
    const [scores, weights] = [heads.map((h) => h.scores), heads.map((h) => h.weights)];
    const attended = linear(mixed, this.layer(`h.${l}.attn.c_proj`));
    return { attended, attention: { scores, weights, mixed } };
  }

  /**
   * Ablation: replace what some heads found by zeros.
   *
   * @param {Float32Array} mixed [T, n_embd], the heads side by side
   * @param {number} l the layer
   * @param {Changes} changes
   */
  silence(mixed, l, { silenced = [] }) {
    for (let h = 0; h < this.config.n_head; h++) {
      if (!silenced.includes(`${l}.${h}`)) continue;
      for (let i = h * this.d_head; i < mixed.length; i += this.config.n_embd) {
        mixed.fill(0, i, i + this.d_head);
      }
    }
  }

  /**
   * Position-wise MLP: expand 4×, GELU, project back.
   *
   * @param {Float32Array} x [T, n_embd]
   * @param {number} l the layer
   */
  mlp(x, l) {
    const hidden = gelu(linear(x, this.layer(`h.${l}.mlp.c_fc`)));
    return linear(hidden, this.layer(`h.${l}.mlp.c_proj`));
  }

  /**
   * Embed the tokens and run the blocks, yielding the stream after each.
   *
   * @param {number[]} tokens
   * @param {KVCache} [cache] the positions before; theirs are added
   * @param {Changes} [changes]
   * @param {number[]} [positions] those after the cache's, if none are given
   * @returns {Generator<{x: Float32Array, attention?: Attention}>} x: [T, n_embd]
   */
  *residualStream(tokens, cache, changes = {}, positions) {
    const { n_layer, layer_norm_epsilon: epsilon } = this.config, T = tokens.length;
    cache ??= new KVCache(this.config, T);
    const past = cache.length;
    let x = this.embed(tokens, positions ?? tokens.map((_, t) => past + t));
    yield { x };
    for (let l = 0; l < n_layer; l++) {
      let normed = layerNorm(x, this.layer(`h.${l}.ln_1`), epsilon);
      const { attended, attention } = this.selfAttention(normed, l, cache, changes);
      x = add(x, attended);
      normed = layerNorm(x, this.layer(`h.${l}.ln_2`), epsilon);
      x = add(x, this.mlp(normed, l));
      yield { x, attention };
    }
    cache.length += T;
  }

  /**
   * Apply the final layer norm, then one dot product with each row of ``wte``.
   *
   * Of the stream after any block, this is the logit lens.
   *
   * @param {Float32Array} x [n_embd], one position
   * @returns {Float32Array} [n_vocab]
   */
  logits(x) {
    const normed = layerNorm(x, this.layer("ln_f"), this.config.layer_norm_epsilon);
    const bias = new Float32Array(this.config.n_vocab);
    return linear(normed, { weight: this.weights["wte.weight"], bias });
  }

  /**
   * Return the stream after the last block.
   *
   * @param {number[]} tokens
   * @param {KVCache} [cache]
   * @param {Changes} [changes]
   * @param {number[]} [positions]
   * @returns {Float32Array} [T, n_embd]
   */
  forward(tokens, cache, changes, positions) {
    /** @type {Float32Array} */
    let x = new Float32Array();
    for ({ x } of this.residualStream(tokens, cache, changes, positions));
    return x;
  }

  /**
   * Return the logits of the token after the last one.
   *
   * @param {number[]} tokens
   * @param {KVCache} [cache]
   * @param {Changes} [changes]
   * @param {number[]} [positions]
   * @returns {Float32Array} [n_vocab]
   */
  next(tokens, cache, changes, positions) {
    const x = this.forward(tokens, cache, changes, positions);
    return this.logits(x.subarray(-this.config.n_embd));
  }

  /**
   * Run tokens and keep every intermediate.
   *
   * @param {number[]} tokens
   * @param {Changes} [changes]
   */
  trace(tokens, changes) {
    /** @type {Float32Array[]} */
    const residual = [];
    /** @type {Attention[]} */
    const attention = [];
    for (const step of this.residualStream(tokens, undefined, changes)) {
      residual.push(step.x);
      if (step.attention) attention.push(step.attention);
    }
    return { residual, attention };
  }
}

/**
 * Yield new tokens: sample, append, repeat, with a KV cache.
 *
 * @param {GPT2} model
 * @param {number[]} promptIds
 * @param {number} maxNewTokens
 * @param {Options & {seed?: number, stopId?: number}} options
 * @returns {Generator<number>}
 */
function* stream(model, promptIds, maxNewTokens, options = {}) {
  const generator = new MersenneTwister(options.seed ?? 0);
  const cache = new KVCache(model.config, promptIds.length + maxNewTokens);
  let tokens = promptIds;
  for (let i = 0; i < maxNewTokens; i++) {
    const probabilities = distribution(model.next(tokens, cache), options);
    const greedy = !options.temperature;
    const id = greedy ? argmax(probabilities) : sample(probabilities, generator.random());
    yield id;
    if (id === options.stopId) return;
    tokens = [id];
  }
}
