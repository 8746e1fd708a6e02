/**
 * What the figures ask the model, each question a method with one argument.
 *
 * Where the page is served, this runs in a worker, so that the page never waits.
 */

/**
 * A token among those that could come next: its id, how it is shown, its probability.
 *
 * @typedef {[number, string, number]} Rival
 */

/**
 * Make a token visible: a space as ␣, the unprintable and cut characters as escapes.
 *
 * @param {Uint8Array} bytes
 */
function display(bytes) {
  const escape = (/** @type {number} */ code) => {
    const digits = code.toString(16);
    if (code < 256) return `\\x${digits.padStart(2, "0")}`;
    return code < 65536 ? `\\u${digits.padStart(4, "0")}` : `\\U${digits.padStart(8, "0")}`;
  };
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return Array.from(bytes, (byte) =>
      byte > 32 && byte < 127 ? String.fromCharCode(byte) : byte === 32 ? "␣" : escape(byte)).join("");
  }
  return text.replaceAll(" ", "␣").replaceAll("\n", "\\n").replace(/[\p{C}\p{Z}]/gu, (c) =>
    escape(/** @type {number} */ (c.codePointAt(0))));
}

/**
 * Turn arrays of numbers into lists, in whatever holds them.
 *
 * @param {any} value
 * @returns {any}
 */
function lists(value) {
  if (value instanceof Float32Array) return Array.from(value);
  if (Array.isArray(value)) return value.map(lists);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, lists(each)]));
}

class Service {
  /** @param {(name: "weights" | "tokenizer") => Promise<ArrayBuffer>} load */
  constructor(load) {
    this.load = load;
    /** @type {Map<string, Promise<any>>} */
    this.loaded = new Map();
    /** @type {KVCache | undefined} */
    this.cache = undefined;
    /** @type {number[]} */
    this.cached = []; // the ids whose keys and values the cache holds
    /** @type {{ran: string, cache: KVCache} | undefined} */
    this.steps = undefined; // the cache of the last step, and what it holds
    /** @type {ReturnType<typeof randomWeights> | undefined} */
    this.random = undefined; // the miniature's weights
  }

  /**
   * Return what a file becomes, read once; after a failure it is tried again.
   *
   * @template Made
   * @param {"weights" | "tokenizer"} name
   * @param {(contents: ReturnType<typeof loadFile>) => Made} make
   * @returns {Promise<Made>}
   */
  once(name, make) {
    let made = this.loaded.get(name);
    if (!made) {
      made = this.load(name).then((buffer) => make(loadFile(buffer)));
      made.catch(() => this.loaded.delete(name));
      this.loaded.set(name, made);
    }
    return made;
  }

  tokenizer() {
    return this.once("tokenizer", ({ tensors: { bytes, merges } }) =>
      new Tokenizer(/** @type {Uint16Array} */ (bytes.data), /** @type {Uint16Array} */ (merges.data)));
  }

  model() {
    return this.once("weights", ({ tensors, metadata }) =>
      new GPT2(JSON.parse(metadata.config), dequantizeAll(tensors)));
  }

  /**
   * Return a text's ids and pieces, at most ``limit``.
   *
   * @param {{text: string, limit?: number}} question
   */
  async encode({ text, limit = Infinity }) {
    const tokenizer = await this.tokenizer();
    const all = tokenizer.encode(text);
    const ids = all.slice(0, limit);
    return { ids, pieces: ids.map((id) => display(tokenizer.pieces[id])), dropped: all.length - ids.length };
  }

  /**
   * Return the ``k`` most probable tokens.
   *
   * @param {Float32Array} logits [n_vocab]
   * @param {number} k
   * @returns {Promise<Rival[]>}
   */
  async rivals(logits, k) {
    const { pieces } = await this.tokenizer(), probabilities = softmax(logits);
    return topk(logits, k).map((id) => [id, display(pieces[id]), probabilities[id]]);
  }

  /**
   * Return the logits after some ids; what they share with the last ones isn't run again.
   *
   * @param {number[]} ids
   */
  async logits(ids) {
    const model = await this.model();
    this.cache ??= new KVCache(model.config, model.config.n_ctx);
    let shared = 0;
    while (shared < ids.length - 1 && ids[shared] === this.cached[shared]) shared++;
    this.cache.length = shared;
    this.cached = ids.slice(0, shared); // all there is, should an id be refused
    const logits = model.next(ids.slice(shared), this.cache);
    this.cached = ids;
    return logits;
  }

  /**
   * Return the rivals for the next token.
   *
   * @param {{ids: number[]}} question
   */
  async next({ ids }) {
    return this.rivals(await this.logits(ids), 10);
  }

  /**
   * Return q · k of every head for the tokens of a text, and the rivals for the next.
   *
   * @param {{text: string, limit: number} & Changes} question
   */
  async attention({ text, limit, ...changes }) {
    const model = await this.model(), { ids, ...said } = await this.encode({ text, limit });
    const { residual, attention } = model.trace(ids, changes);
    const last = residual[residual.length - 1].subarray(-model.config.n_embd);
    const scores = attention.map((layer) => layer.scores.map((head) => Array.from(head)));
    return { ...said, d_head: model.d_head, scores, rivals: await this.rivals(model.logits(last), 5) };
  }

  /**
   * Logit lens: what every layer would predict after every token of a text.
   *
   * Surprisal is in bits, of each token but the first.
   *
   * @param {{text: string, limit: number}} question
   */
  async lens({ text, limit }) {
    const model = await this.model(), { ids, ...said } = await this.encode({ text, limit });
    const { residual } = model.trace(ids), n = model.config.n_embd;
    const last = residual.length - 1;
    const logits = residual.map((x) => ids.map((_, t) => model.logits(row(x, t, n))));
    const cells = await Promise.all(logits.map((layer) =>
      Promise.all(layer.map((each) => this.rivals(each, 5)))));
    const finals = logits[last].map(argmax);
    const ranks = logits.map((layer) => layer.map((each, t) =>
      1 + each.reduce((above, logit) => above + Number(logit > each[finals[t]]), 0)));
    const surprisal = ids.slice(1).map((id, t) => -Math.log2(softmax(logits[last][t])[id]));
    return { ...said, cells, ranks, surprisal };
  }

  /**
   * Run a text's next token through the sampler: each rival before and after the
   * filters, and where on the line from 0 to 1 it lies; then draw some.
   *
   * @param {{text: string, seed: number, draws: number} & Options} question
   */
  async bench({ text, seed, draws, ...options }) {
    const { ids } = await this.encode({ text }), { pieces } = await this.tokenizer();
    const logits = await this.logits(ids), before = softmax(Float64Array.from(logits));
    const after = distribution(logits, options);
    const kept = after.reduce((count, p) => count + Number(p > 0), 0);
    const starts = new Float64Array(after.length);
    for (let id = 1; id < starts.length; id++) starts[id] = starts[id - 1] + after[id - 1];
    const rows = topk(logits, 12).map((id) => ({
      id, piece: display(pieces[id]), before: before[id], after: after[id], start: starts[id],
    }));
    const generator = new MersenneTwister(seed);
    const drawn = Array.from({ length: draws }, () => {
      const u = generator.random(), id = sample(after, u);
      return { u, id, piece: display(pieces[id]) };
    });
    return { rows, kept, drawn };
  }

  /**
   * Split a text into words, and replay how each was merged.
   *
   * @param {{text: string}} question
   */
  async merges({ text }) {
    const tokenizer = await this.tokenizer();
    tokenizer.encode(text); // refuses what can't be encoded
    const shown = (/** @type {number[]} */ ids) =>
      ids.map((id) => ({ id, piece: display(tokenizer.pieces[id]), bytes: [...tokenizer.pieces[id]] }));
    return splitWords(text).map((word) => [...tokenizer.mergeSteps(word)].map(shown));
  }

  /**
   * Run the next forward pass with a cache and again without, and time both.
   *
   * The cache is that of the step before, if this one follows it. ``misplaced`` gives
   * every token after the ``prompt`` first ones position 0.
   *
   * @param {{ids: number[], prompt: number, misplaced: boolean}} question
   */
  async step({ ids, prompt, misplaced }) {
    const model = await this.model(), past = ids.length > prompt ? ids.length - 1 : 0;
    const positions = ids.map((_, i) => (misplaced && i >= prompt ? 0 : i));
    const before = JSON.stringify([positions, ids].map((each) => each.slice(0, past)));
    if (!this.steps || this.steps.ran !== before) {
      this.steps = { ran: before, cache: new KVCache(model.config, model.config.n_ctx) };
      if (past) model.forward(ids.slice(0, past), this.steps.cache, {}, positions);
    }
    const started = performance.now();
    const logits = model.next(ids.slice(past), this.steps.cache, {}, positions.slice(past));
    const between = performance.now();
    model.next(ids);
    const uncached = performance.now() - between;
    this.steps.ran = JSON.stringify([positions, ids]);
    return { rivals: await this.rivals(logits, 5), cached: between - started, uncached };
  }

  /**
   * Run the miniature of chapter 0 on some tokens.
   *
   * @param {{ids: number[], changes: Record<string, number>}} question
   */
  async miniature({ ids, changes }) {
    const { pieces } = await this.tokenizer();
    this.random ??= randomWeights(pieces.length, 0);
    const { logits, ...numbers } = miniature(this.random, ids, changes);
    const rivals = await this.rivals(logits, 5);
    return { ...lists(numbers), rivals, logits: rivals.map(([id]) => logits[id]) };
  }

  /**
   * Play what requests and steps do to the pages, and tell how it stands at the end.
   *
   * @param {{events: string, kinds: Record<string, [number, number, number]>,
   *   n_pages: number, page_size: number, max_batch: number, budget: number}} question
   */
  async schedule({ events, kinds, ...sizes }) {
    const { scheduler, requests, plan, steps, total } = play(events, kinds, sizes);
    const { pool, running, waiting, hits, preemptions } = scheduler;
    const pages = pool.owners.map((_, page) => {
      const owners = requests.filter((request) => request.pages.includes(page));
      const held = owners.map(({ pages, computed }) => computed - pages.indexOf(page) * sizes.page_size);
      const kept = pool.keyOf.has(page);
      const filled = kept ? sizes.page_size : Math.min(sizes.page_size, Math.max(0, ...held));
      return { owners: owners.map(({ name }) => name), kept, held: filled };
    });
    const told = requests.map((request) => {
      const { name, ids, prompt, computed, pages, most } = request;
      const isDone = !running.includes(request) && !waiting.includes(request);
      const status = isDone ? "finished" : running.includes(request) ? "running" : "waiting";
      return { name, status, tokens: ids.length, computed, new: ids.length - prompt, most, pages: [...pages] };
    });
    return {
      pages, requests: told, plan: plan.map(([{ name }, n]) => [name, n]),
      steps, computed: total, hits, preemptions, free: pool.free.length,
    };
  }

  /**
   * Return the text of some ids.
   *
   * @param {{ids: number[]}} question
   */
  async decode({ ids }) {
    return (await this.tokenizer()).decode(ids);
  }

  /**
   * Return the text that follows some ids, as ``hardway.generate`` chooses it.
   *
   * @param {{ids: number[], tokens: number, options: Options & {seed?: number}}} question
   */
  async generate({ ids, tokens, options }) {
    return this.decode({ ids: [...stream(await this.model(), ids, tokens, options)] });
  }
}
