/** Chapter 8: what each new token costs, with a cache and without. */
SETUPS["kv-cache"] = (figure) => {
  const own = { steps: 0, cached: true, misplaced: false };
  Object.assign(figure.state, own);
  Object.assign(figure.initial, own);
  const SHOWN = 14, MOST = 60, BYTES = 2 * 6 * 128 * 4; // keys and values, layers, numbers, bytes of each
  figure.addText("text", "A beginning", "Prefill");
  const full = () => figure.state.steps === MOST;
  figure.addButton("One token", () => figure.change({ steps: Math.min(figure.state.steps + 1, MOST) }), full);
  figure.addButton("Ten tokens", () => figure.change({ steps: Math.min(figure.state.steps + 10, MOST) }), full);
  figure.addButton("Start over", () => figure.change({ steps: 0 }), () => figure.state.steps === 0);
  figure.addCheck("cached", "Use the cache");
  figure.addCheck("misplaced", "Wrong positions: each new token at 0");
  const written = h("p", { class: "written" });
  const box = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Forward passes" });
  figure.view.append(written, box);
  /** @type {{key: string, ids: number[], steps: any[]}} */
  let run = { key: "", ids: [], steps: [] };
  figure.ask = async ({ text, steps, misplaced }) => {
    const turn = figure.turn, key = JSON.stringify([text, misplaced]);
    const { ids, pieces } = await ask("encode", { text });
    if (turn !== figure.turn) return;
    if (run.key !== key || run.steps.length > steps) run = { key, ids: [...ids], steps: [] };
    while (run.steps.length < steps) {
      const answer = await ask("step", { ids: [...run.ids], prompt: ids.length, misplaced });
      if (turn !== figure.turn) return;
      const [id, piece] = answer.rivals[0];
      run.ids.push(id);
      run.steps.push({ ...answer, piece });
    }
    return { pieces };
  };
  figure.show = ({ pieces }) => {
    const { cached } = figure.state, prompt = pieces.length, n = run.steps.length;
    const computedBy = (/** @type {number} */ i) => (cached && i ? 1 : prompt + i);
    const total = (/** @type {boolean} */ withCache) => Array.from({ length: n + 1 }, (_, i) =>
      withCache && i ? 1 : prompt + i).slice(0, Math.max(n, 1)).reduce((a, b) => a + b, 0);
    const mean = (/** @type {string} */ key) => run.steps.slice(1).reduce((sum, step) => sum + step[key] / (n - 1), 0);
    written.replaceChildren(pieces.join("").replaceAll("␣", " "), h("strong", {}, run.steps.map(({ piece }) => piece).join("").replaceAll("␣", " ")));
    const passes = run.steps.length ? run.steps.map((step, i) => ({ ...step, i })) : [{ piece: "…", i: 0 }];
    const rows = passes.slice(-SHOWN).map(({ piece, i, cached: fast, uncached: slow }) => {
      const width = prompt + i, now = computedBy(i);
      const cells = h("span", { class: "cells", "aria-hidden": "true", style: `--all: ${prompt + n}` },
        h("span", { class: "old", style: `--n: ${width - now}` }), h("span", { class: "new", style: `--n: ${now}` }));
      const ms = cached ? fast : slow;
      return [`${i + 1}`, cells, String(now), String(width - now), ms === undefined ? "–" : `${ms.toFixed(1)} ms`, piece];
    });
    box.replaceChildren(plainTable("Forward passes. Blue: computed now. Gray: read from the cache.",
      ["Pass", "Positions", "Computed", "Read", "Time", "Token"], rows));
    const times = n > 1 ? ` Here a token takes ${mean("cached").toFixed(1)} ms with the cache, ${mean("uncached").toFixed(1)} ms without.` : "";
    const size = cached ? `The cache holds ${prompt + Math.max(n - 1, 0)} positions in ${((prompt + Math.max(n - 1, 0)) * BYTES).toLocaleString("en")} bytes.` : "There is no cache.";
    figure.say(`${total(true)} positions computed with the cache, ${total(false).toLocaleString("en")} without. ${size}${figure.state.misplaced ? " Every new token claims to be the first." : ""}${times}`, n ? `Token ${n}: ${run.steps[n - 1].piece}.` : "");
    const tenfold = total(false) > 10 * total(true);
    figure.setTask("go on until the cache saves nine tenths of the positions.", tenfold ? `${total(true)} instead of ${total(false).toLocaleString("en")}` : undefined,
      n > 1 ? `it saves ${percent(1 - total(true) / total(false))}` : undefined);
  };
};
