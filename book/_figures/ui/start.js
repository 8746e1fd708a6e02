/** Start the worker's part, or the figures of the page. */
if (typeof document === "undefined") {
  serve();
} else {
  // For readers' consoles: await hardway.generate("Once upon a time", 20)
  const idsOf = async (/** @type {string | number[]} */ prompt) =>
    typeof prompt === "string" ? (await ask("encode", { text: prompt })).ids : [...prompt];
  Object.assign(globalThis, {
    hardway: {
      receive,
      ask,
      encode: idsOf,
      decode: (/** @type {number[]} */ ids) => ask("decode", { ids }),
      logits: async (/** @type {string | number[]} */ prompt) => ask("logits", await idsOf(prompt)),
      generate: async (/** @type {string | number[]} */ prompt, tokens = 20, options = {}) =>
        ask("generate", { ids: await idsOf(prompt), tokens, options }),
    },
  });
  addEventListener("DOMContentLoaded", () => {
    for (const element of document.querySelectorAll("[data-figure]")) {
      const name = /** @type {HTMLElement} */ (element).dataset.figure ?? "";
      if (!(name in SETUPS)) continue;
      const figure = new Figure(/** @type {HTMLElement} */ (element), name);
      SETUPS[name](figure);
      figure.start();
    }
  });
}
