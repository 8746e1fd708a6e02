/**
 * Arithmetic on plain arrays, in place of torch.
 *
 * A matrix is one Float32Array, row after row. Sums run in float64, because that is
 * how JavaScript calculates, and are stored as float32.
 */

/**
 * A linear layer, its matrix transposed: the weights of one output are a row.
 *
 * @typedef {object} Linear
 * @property {Float32Array} weight [nOut, nIn]
 * @property {Float32Array} bias [nOut]
 */

/**
 * The weights of a layer norm.
 *
 * @typedef {object} Norm
 * @property {Float32Array} weight [n]
 * @property {Float32Array} bias [n]
 */

/**
 * Return row ``i`` of a matrix, without copying it.
 *
 * @param {Float32Array} matrix [rows, n]
 * @param {number} i
 * @param {number} n
 */
function row(matrix, i, n) {
  return matrix.subarray(i * n, (i + 1) * n);
}

/**
 * Linear layer: one dot product for each output.
 *
 * Four outputs at a time use each input, and each has two sums, over the even and the
 * odd inputs: a processor works on all eight at once, where one would wait for itself.
 *
 * @param {Float32Array} x [T, nIn], nIn even
 * @param {Linear} layer
 * @returns {Float32Array} [T, nOut]
 */
function linear(x, { weight, bias }) {
  const nOut = bias.length, nIn = weight.length / nOut, T = x.length / nIn;
  const out = new Float32Array(T * nOut);
  for (let t = 0; t < T; t++) {
    const input = row(x, t, nIn), output = row(out, t, nOut);
    let i = 0;
    for (; i + 4 <= nOut; i += 4) {
      let a0 = bias[i], b0 = bias[i + 1], c0 = bias[i + 2], d0 = bias[i + 3];
      let a1 = 0, b1 = 0, c1 = 0, d1 = 0;
      for (let j = 0, w = i * nIn; j < nIn; j += 2, w += 2) {
        const even = input[j], odd = input[j + 1];
        a0 += weight[w] * even;
        a1 += weight[w + 1] * odd;
        b0 += weight[w + nIn] * even;
        b1 += weight[w + nIn + 1] * odd;
        c0 += weight[w + 2 * nIn] * even;
        c1 += weight[w + 2 * nIn + 1] * odd;
        d0 += weight[w + 3 * nIn] * even;
        d1 += weight[w + 3 * nIn + 1] * odd;
      }
      output[i] = a0 + a1;
      output[i + 1] = b0 + b1;
      output[i + 2] = c0 + c1;
      output[i + 3] = d0 + d1;
    }
    for (; i < nOut; i++) output[i] = bias[i] + dot(row(weight, i, nIn), input);
  }
  return out;
}

/**
 * Dot product of two vectors.
 *
 * @param {Float32Array} a [n]
 * @param {Float32Array} b [n]
 */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * Add two arrays of one size, number by number.
 *
 * @param {Float32Array} a
 * @param {Float32Array} b
 */
function add(a, b) {
  return a.map((number, i) => number + b[i]);
}

/**
 * Softmax: positive, and summing to 1.
 *
 * @template {Float32Array | Float64Array} Numbers
 * @param {Numbers} scores [n]
 * @returns {Numbers} [n]
 */
function softmax(scores) {
  let largest = -Infinity;
  for (const score of scores) if (score > largest) largest = score;
  const powers = scores.slice();
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += powers[i] = Math.exp(scores[i] - largest);
  for (let i = 0; i < scores.length; i++) powers[i] /= sum;
  return /** @type {Numbers} */ (powers);
}

/**
 * Layer norm: give each row mean 0 and variance 1, then scale and shift it.
 *
 * @param {Float32Array} x [T, n]
 * @param {Norm} norm
 * @param {number} epsilon
 * @returns {Float32Array} [T, n]
 */
function layerNorm(x, { weight, bias }, epsilon) {
  const n = bias.length, out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += n) {
    let mean = 0, variance = 0;
    for (let i = 0; i < n; i++) mean += x[start + i] / n;
    for (let i = 0; i < n; i++) variance += (x[start + i] - mean) ** 2 / n;
    const deviation = Math.sqrt(variance + epsilon);
    for (let i = 0; i < n; i++) {
      out[start + i] = ((x[start + i] - mean) / deviation) * weight[i] + bias[i];
    }
  }
  return out;
}

/**
 * GELU activation, by GPT-2's tanh approximation.
 *
 * @param {Float32Array} x any shape, kept
 */
function gelu(x) {
  const c = Math.sqrt(2 / Math.PI);
  return x.map((a) => 0.5 * a * (1 + Math.tanh(c * (a + 0.044715 * a ** 3))));
}
