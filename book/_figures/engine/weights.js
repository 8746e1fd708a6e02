/**
 * Read the model's file: safetensors, matrices as 8-bit codes with a scale for each row.
 */

const ARRAYS = { F32: Float32Array, I8: Int8Array, U16: Uint16Array };

/**
 * A tensor of the file.
 *
 * @typedef {object} Tensor
 * @property {Float32Array | Int8Array | Uint16Array} data row after row
 * @property {number[]} shape
 */

/**
 * Read a safetensors file: the header's length, the header in JSON, the numbers.
 *
 * @param {ArrayBuffer} buffer
 * @returns {{tensors: Record<string, Tensor>, metadata: Record<string, string>}}
 */
function loadFile(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const { __metadata__: metadata, ...entries } = header;
  /** @type {Record<string, Tensor>} */
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(entries)) {
    const bytes = buffer.slice(8 + length + data_offsets[0], 8 + length + data_offsets[1]);
    const kind = /** @type {keyof typeof ARRAYS} */ (dtype);
    tensors[name] = { data: new ARRAYS[kind](bytes), shape };
  }
  return { tensors, metadata };
}

/**
 * Return what a matrix's codes stand for: each code times the scale of its row.
 *
 * @param {Tensor} codes int8 [rows, n]
 * @param {Tensor} scales float32 [rows]
 */
function dequantize(codes, scales) {
  const [rows, n] = codes.shape;
  const matrix = new Float32Array(rows * n);
  for (let i = 0, j = 0; i < rows; i++) {
    for (const end = j + n; j < end; j++) matrix[j] = codes.data[j] * scales.data[i];
  }
  return matrix;
}

/**
 * Return the weights by the checkpoint's names, as float32.
 *
 * @param {Record<string, Tensor>} tensors
 * @returns {Record<string, Float32Array>}
 */
function dequantizeAll(tensors) {
  /** @type {Record<string, Float32Array>} */
  const weights = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    if (name.endsWith(".scales")) continue;
    const scales = tensors[`${name}.scales`];
    weights[name] = scales
      ? dequantize(tensor, scales)
      : /** @type {Float32Array} */ (tensor.data);
  }
  return weights;
}
