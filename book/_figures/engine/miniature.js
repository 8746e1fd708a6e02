/**
 * The machine of chapter 0, with the same random weights.
 */

/**
 * Draw all weights at random, as ``hardway.miniature.random_weights`` does.
 *
 * The matrices are [n_in, n_out], row after row.
 *
 * @param {number} nVocab
 * @param {number} seed
 */
function randomWeights(nVocab, seed) {
  const generator = new MersenneTwister(seed);
  const matrix = (/** @type {number} */ rows, /** @type {number} */ columns) =>
    generator.randn(rows * columns).map((number) => number / Math.sqrt(rows));
  return {
    embedding: matrix(nVocab, 8).map((number) => number * Math.sqrt(nVocab)),
    q: matrix(8, 8),
    k: matrix(8, 8),
    v: matrix(8, 8),
    up: matrix(8, 16),
    down: matrix(16, 8),
    out: matrix(8, nVocab),
  };
}

/**
 * Multiply a vector by a matrix.
 *
 * @param {Float32Array} x [nIn]
 * @param {Float32Array} weight [nIn, nOut]
 */
function multiply(x, weight) {
  const nOut = weight.length / x.length, out = new Float32Array(nOut);
  x.forEach((number, i) => {
    for (let j = 0, w = i * nOut; j < nOut; j++, w++) out[j] += number * weight[w];
  });
  return out;
}

/**
 * Run the machine; ``changes`` gives some of its numbers another value.
 *
 * A number's name is that of its vector and its place in it: "q.3", "k.0.5".
 *
 * @param {ReturnType<typeof randomWeights>} weights
 * @param {number[]} tokens
 * @param {Record<string, number>} changes
 */
function miniature(weights, tokens, changes) {
  const changed = (/** @type {string} */ name, /** @type {Float32Array} */ x) =>
    x.map((number, i) => changes[`${name}.${i}`] ?? number);
  const embeddings = tokens.map((token, t) =>
    changed(`embedding.${t}`, row(weights.embedding, token, 8)));
  const k = embeddings.map((x, t) => changed(`k.${t}`, multiply(x, weights.k)));
  const v = embeddings.map((x, t) => changed(`v.${t}`, multiply(x, weights.v)));
  const q = changed("q", multiply(embeddings[embeddings.length - 1], weights.q));
  const scores = changed("scores", Float32Array.from(k, (key) => dot(key, q) / Math.sqrt(8)));
  const attnWeights = changed("weights", softmax(scores));
  const output = changed("output", new Float32Array(8).map((_, i) =>
    v.reduce((sum, value, t) => sum + attnWeights[t] * value[i], 0)));
  const relu = multiply(output, weights.up).map((number) => Math.max(number, 0));
  const hidden = changed("hidden", relu);
  const logits = multiply(multiply(hidden, weights.down), weights.out);
  return { embeddings, q, k, v, scores, weights: attnWeights, output, hidden, logits };
}
