/** Chapter 7: the sampler's settings, and what is drawn under them. */
SETUPS.sampling = (figure) => {
  const K = [1, 2, 3, 5, 10, 20, 40, 100, 1000, 10000, 50257];
  const MOST = 1000; // draws
  figure.addText("text", "A beginning", "Predict");
  figure.addSlider("temperature", "Temperature", { min: 0, max: 2, step: 0.05 }, (t) =>
    t ? t.toFixed(2) : "0 (greedy)");
  const k = figure.addSlider("topK", "Top-k", { min: 0, max: K.length - 1, step: 1 }, () =>
    `${figure.state.topK.toLocaleString("en")}${figure.state.topK < 50257 ? "" : " (all)"}`);
  figure.followers.push(() => (k.value = K.findIndex((value) => value >= figure.state.topK)));
  k.addEventListener("input", (/** @type {Event} */ event) => {
    event.stopImmediatePropagation();
    figure.change({ topK: K[k.value] });
  }, { capture: true });
  figure.addSlider("topP", "Top-p", { min: 0.05, max: 1, step: 0.01 }, (p) => p.toFixed(2));
  figure.addSlider("minP", "Min-p", { min: 0, max: 1, step: 0.01 }, (p) => p.toFixed(2));
  const seed = h("input", {
    type: "number", min: 0, max: 4294967295, step: 1,
    change: () => figure.change({ seed: Math.abs(Math.trunc(Number(seed.value))) % 2 ** 32, draws: 1 }),
  });
  figure.controls.append(h("label", {}, "Seed", seed));
  figure.followers.push(() => (seed.value = figure.state.seed));
  const draw = (/** @type {number} */ n) =>
    figure.change({ draws: figure.state.draws + n > MOST ? n : figure.state.draws + n });
  figure.addButton("Draw one", () => draw(1));
  figure.addButton("Draw 100", () => draw(100));
  let warm = DEFAULTS.sampling.temperature;
  const greedy = h("input", {
    type: "checkbox",
    change: () => {
      warm = figure.state.temperature || warm;
      figure.change({ temperature: greedy.checked ? 0 : warm });
    },
  });
  figure.controls.append(h("label", {}, greedy, "Greedy"));
  figure.followers.push(() => (greedy.checked = figure.state.temperature === 0));
  const line = h("div", { class: "line", "aria-hidden": "true" }), box = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tokens and their probabilities" });
  figure.view.append(line, h("p", { class: "ends", "aria-hidden": "true" }, h("span", {}, "0"), h("span", {}, "u"), h("span", {}, "1")), box);
  figure.ask = ({ text, temperature, topK, topP, minP, seed, draws }) =>
    ask("bench", { text, temperature, topK, topP, minP, seed, draws });
  figure.show = ({ rows, kept, drawn }) => {
    const last = drawn[drawn.length - 1];
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const { id } of drawn) counts.set(id, (counts.get(id) ?? 0) + 1);
    const parts = rows.filter((/** @type {any} */ row) => row.after > 0.004).map((/** @type {any} */ row) =>
      h("span", {
        class: row.id === last.id ? "part drawn" : "part",
        style: `left: ${100 * row.start}%; width: ${100 * row.after}%`,
      }, row.after * line.clientWidth > 8 * row.piece.length + 6 ? row.piece : ""));
    const marks = drawn.slice(-100).map((/** @type {any} */ { u }, /** @type {number} */ i, /** @type {any[]} */ all) =>
      h("span", { class: i === all.length - 1 ? "u last" : "u", style: `left: ${100 * u}%` }));
    line.replaceChildren(...parts, ...marks);
    const known = rows.map((/** @type {any} */ { id, piece, before, after, start }) => [
      piece, percent(before),
      after ? h("span", { class: "bar", style: `--shade: ${100 * after}%` }, percent(after)) : "–",
      after ? `${start.toFixed(3)}–${(start + after).toFixed(3)}` : "–",
      String(counts.get(id) ?? 0),
    ]);
    const sum = (/** @type {string} */ key) => rows.reduce((/** @type {number} */ total, /** @type {any} */ row) => total + row[key], 0);
    const others = drawn.filter((/** @type {any} */ { id }) => !rows.some((/** @type {any} */ row) => row.id === id)).length;
    known.push([`${(50257 - rows.length).toLocaleString("en")} others`, percent(Math.max(0, 1 - sum("before"))), percent(Math.max(0, 1 - sum("after"))), "between them", String(others)]);
    box.replaceChildren(plainTable("Sorted by probability; the line above is in the order of ids", ["Token", "Before", "After", "Interval", "Drawn"], known));
    const how = figure.state.temperature ? `u = ${last.u.toFixed(4)} fell into the interval of ${last.piece}` : `Greedy takes the most probable token: ${last.piece}`;
    figure.say(`${count(kept, "token")} left after the filters. Draw ${drawn.length} with seed ${figure.state.seed}: ${how}.`);
    const alone = kept === 1 && figure.state.temperature > 0;
    figure.setTask("leave a single token to draw from, without lowering the temperature to 0.", alone ? `only ${last.piece} is left` : undefined,
      kept === 1 ? "the temperature is 0" : `${kept.toLocaleString("en")} are left`);
  };
};
