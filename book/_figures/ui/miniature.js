/** Chapter 0: all numbers of the miniature; light one's inputs, or change it. */
SETUPS.miniature = (figure) => {
  Object.assign(figure.state, { at: "output.0", changes: {} });
  Object.assign(figure.initial, { at: "output.0", changes: {} });
  figure.addText("text", "A prompt", "Run");
  const output = h("span", { "aria-hidden": true }), label = h("span");
  const slider = h("input", {
    type: "range", min: -4, max: 4, step: 0.1,
    input: () => figure.change({ changes: { ...figure.state.changes, [figure.state.at]: Number(slider.value) } }),
  });
  figure.controls.append(h("label", { class: "slider" }, h("span", {}, label, " ", output), slider));
  figure.addButton("Undo changes", () => figure.change({ changes: {} }), () =>
    !Object.keys(figure.state.changes).length);
  const grids = h("div", { class: "scroll numbers" }), formula = h("p", { class: "detail" });
  const next = h("p", { class: "next" });
  figure.view.append(h("p", { class: "hint" }, "Point at a number to see what it is computed from; click it to move it with the slider."), grids, formula, next);

  /** Return which numbers a number is computed from, and how. */
  const inputsOf = (/** @type {string} */ name, /** @type {number} */ T) => {
    const [vector, a, b] = name.split(".");
    const all = (/** @type {string} */ of, n = 8) => Array.from({ length: n }, (_, i) => `${of}.${i}`);
    /** @type {Record<string, [string[], string]>} */
    const known = {
      embedding: [[], "a row of the embedding matrix"],
      q: [all(`embedding.${T - 1}`), "the last token's embedding times a column of W_Q"],
      k: [all(`embedding.${a}`), "this token's embedding times a column of W_K"],
      v: [all(`embedding.${a}`), "this token's embedding times a column of W_V"],
      scores: [[...all("q"), ...all(`k.${a}`)], "the query times this token's key, divided by √8"],
      weights: [all("scores", T), "softmax of all scores"],
      output: [[...all("weights", T), ...Array.from({ length: T }, (_, t) => `v.${t}.${a}`)], "the values' average, by the attention weights"],
      hidden: [all("output"), "the output times a column of W_up, or 0 if that is negative"],
    };
    return b === undefined || vector in known ? known[vector] : known.q;
  };
  figure.ask = async ({ text, changes }) => {
    const encoded = await ask("encode", { text });
    const ids = encoded.ids.slice(0, 6), pieces = encoded.pieces.slice(0, 6);
    return { pieces, dropped: encoded.ids.length - ids.length, ...(await ask("miniature", { ids, changes })) };
  };
  /** @type {string | undefined} */
  let usual;
  let usualText = "";
  figure.show = (answer) => {
    const { pieces, rivals } = answer, T = pieces.length, { changes } = figure.state;
    /** @type {[string, string, number[]][]} */
    const vectors = [
      ...pieces.map((/** @type {string} */ piece, /** @type {number} */ t) => [`embedding of ${piece}`, `embedding.${t}`, answer.embeddings[t]]),
      ["query", "q", answer.q],
      ...pieces.map((/** @type {string} */ piece, /** @type {number} */ t) => [`key of ${piece}`, `k.${t}`, answer.k[t]]),
      ["scores", "scores", answer.scores],
      ["attention weights", "weights", answer.weights],
      ...pieces.map((/** @type {string} */ piece, /** @type {number} */ t) => [`value of ${piece}`, `v.${t}`, answer.v[t]]),
      ["output", "output", answer.output],
      ["hidden, 1 to 8", "hidden", answer.hidden.slice(0, 8)],
      ["hidden, 9 to 16", "hidden", answer.hidden.slice(8)],
    ];
    const nameOf = (/** @type {number} */ row, /** @type {number} */ c) =>
      `${vectors[row][1]}.${vectors[row][0].startsWith("hidden, 9") ? c + 8 : c}`;
    /** @type {Map<string, {row: number, c: number, number: number}>} */
    const known = new Map(vectors.flatMap(([, , numbers], row) =>
      numbers.map((number, c) => [nameOf(row, c), { row, c, number }])));
    if (!known.has(figure.state.at)) figure.state.at = "output.0";
    const { at } = figure.state;
    const rows = vectors.map(([title, , numbers], r) => ({
      label: title,
      cells: Array.from({ length: 8 }, (_, c) => (c < numbers.length
        ? { text: numbers[c].toFixed(2), title: `${title}, number ${c + 1}: ${numbers[c].toFixed(2)}` }
        : { text: "", class: "none" })),
    }));
    const light = (/** @type {string} */ name) => {
      const place = known.get(name);
      if (!place) return;
      const [inputs, how] = inputsOf(name, T);
      for (const [each, { row, c }] of known) {
        const classes = /** @type {Element} */ (grids.querySelector(`td[data-at="${row},${c}"]`)).classList;
        classes.toggle("chosen", each === at);
        classes.toggle("looked", each === name);
        classes.toggle("input", inputs.includes(each));
        classes.toggle("changed", each in changes);
      }
      const title = vectors[place.row][0], number = place.number.toFixed(2);
      formula.textContent = `${number} (${title}): ${name in changes ? "you chose it" : how}.`;
    };
    const chosen = /** @type {{row: number, c: number, number: number}} */ (known.get(at));
    drawGrid(grids, "The numbers of the machine, in the order in which they are computed",
      Array.from({ length: 8 }, (_, i) => String(i + 1)), rows,
      (r, c) => light(nameOf(r, c)), (r, c) => known.has(nameOf(r, c)) && figure.change({ at: nameOf(r, c) }), `${chosen.row},${chosen.c}`);
    light(at);
    label.textContent = `The chosen number (${vectors[chosen.row][0]}):`;
    output.textContent = chosen.number.toFixed(2);
    slider.value = chosen.number;
    slider.setAttribute("aria-valuetext", output.textContent);
    const [[, piece, p]] = rivals;
    next.replaceChildren("Most probable: ", h("strong", {}, listed(rivals)));
    if (!Object.keys(changes).length) [usual, usualText] = [piece, figure.state.text];
    const names = Object.keys(changes), count = names.length;
    figure.say(`${count ? `With ${count} of its numbers changed, the` : "The"} machine finds ${piece} most probable, at ${percent(p)}.${tellDropped(answer.dropped)}`);
    const right = count === 1 && names[0].startsWith("embedding.");
    const moved = right && usualText === figure.state.text && usual && piece !== usual;
    const missing = right ? `it prefers ${piece} as before` : count > 1 ? "more than one number is changed" : "that number isn't of an embedding";
    figure.setTask("change one number of an embedding so that the machine prefers another token.",
      moved ? `${piece} instead of ${usual}` : undefined, count ? missing : undefined);
  };
};
