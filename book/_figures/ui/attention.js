/** Chapter 4: every head of the model, on the reader's own sentence. */
SETUPS.attention = (figure) => {
  const own = { query: -1, stage: "weights", masked: true, scaled: true, silenced: [] };
  Object.assign(figure.state, own);
  Object.assign(figure.initial, own);
  figure.addText("text", "A sentence", "Run");
  figure.addChoice("stage", "What the table shows, step by step", [
    ["scores", "scores q · k"], ["scaled", "÷ √d"], ["masked", "masked"], ["weights", "weights (softmax)"],
  ]);
  figure.addCheck("masked", "Causal mask");
  figure.addCheck("scaled", "Divide by √d");
  const name = () => `${figure.state.layer}.${figure.state.head}`;
  const silent = h("input", {
    type: "checkbox",
    change: () => {
      const others = figure.state.silenced.filter((/** @type {string} */ head) => head !== name());
      figure.change({ silenced: silent.checked ? [...others, name()].sort() : others });
    },
  });
  const silentLabel = h("span");
  figure.controls.append(h("label", {}, silent, silentLabel));
  figure.followers.push(() => {
    silent.checked = figure.state.silenced.includes(name());
    silentLabel.textContent = `Silence head ${figure.state.head} of block ${figure.state.layer}`;
  });
  const heads = h("div", { class: "heads", role: "group", "aria-label": "Heads: a row for each block" });
  heads.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const moves = { ArrowUp: -4, ArrowDown: 4, ArrowLeft: -1, ArrowRight: 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const step = moves[/** @type {keyof typeof moves} */ (event.key)];
    const next = heads.children[[...heads.children].indexOf(document.activeElement) + step];
    next?.click();
    next?.focus();
  });
  const sentence = h("p", { class: "sentence" });
  const grid = h("div", { class: "scroll matrix" });
  const next = h("p", { class: "next" });
  const hint = (/** @type {string} */ text) => h("p", { class: "hint" }, text);
  figure.view.append(
    h("div", {}, hint("Heads: a row per block"), heads),
    h("div", { class: "one" }, hint("Point at a row, or use the arrow keys; a click or Enter locks it."), sentence, grid, next));

  let pointed = Infinity; // the query last pointed at; at first, one in the middle

  /** Return what a head computes at a stage: [T, T], -Infinity where it's masked. */
  const computed = (/** @type {any} */ answer, /** @type {number} */ l, /** @type {number} */ head, /** @type {string} */ stage) => {
    const T = answer.pieces.length, { masked, scaled } = figure.state;
    const divisor = scaled ? Math.sqrt(answer.d_head) : 1;
    const rows = Array.from({ length: T }, (_, t) => answer.scores[l][head].slice(t * T, (t + 1) * T));
    if (stage === "scores") return rows;
    const divided = rows.map((scores) => scores.map((/** @type {number} */ score) => score / divisor));
    if (stage === "scaled") return divided;
    const visible = divided.map((scores, t) => scores.map((/** @type {number} */ score, /** @type {number} */ s) =>
      masked && s > t ? -Infinity : score));
    return stage === "masked" ? visible : visible.map((scores) => Array.from(softmax(Float64Array.from(scores))));
  };
  const written = (/** @type {number} */ number, /** @type {string} */ stage) => {
    if (number === -Infinity) return "−∞";
    if (stage !== "weights") return number.toFixed(1);
    return number ? number.toFixed(2).replace(/^0/, "") : "0";
  };
  const thumbnail = (/** @type {HTMLCanvasElement} */ canvas, /** @type {number[][]} */ weights) => {
    const T = weights.length, pixels = new ImageData(T, T);
    canvas.width = canvas.height = T;
    weights.flat().forEach((weight, i) => pixels.data.set([47, 125, 225, 255 * Math.sqrt(weight)], 4 * i));
    canvas.getContext("2d")?.putImageData(pixels, 0, 0);
  };
  const showHeads = (/** @type {any} */ answer) => {
    answer.scores.forEach((/** @type {any[]} */ layer, /** @type {number} */ l) => layer.forEach((_, i) => {
      const order = l * layer.length + i;
      const button = heads.children[order] ?? heads.appendChild(h("button", {
        type: "button", "aria-label": `Block ${l}, head ${i}`,
        click: () => figure.change({ layer: l, head: i }),
      }, h("canvas")));
      const isChosen = l === figure.state.layer && i === figure.state.head;
      button.setAttribute("aria-pressed", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1; // the arrow keys lead to the others
      button.classList.toggle("silenced", figure.state.silenced.includes(`${l}.${i}`));
      thumbnail(button.firstChild, computed(answer, l, i, "weights"));
    }));
  };
  const showSentence = (/** @type {any} */ answer, /** @type {number[]} */ weights, /** @type {number} */ q, /** @type {boolean} */ locked, /** @type {string | undefined} */ heard) => {
    const { pieces } = answer, best = argmax(Float64Array.from(weights));
    sentence.replaceChildren(...pieces.map((/** @type {string} */ piece, /** @type {number} */ s) => h("span", {
      class: `word${s === q ? " asks" : ""}${s > q ? (figure.state.masked ? " hidden" : " ahead") : ""}`,
      style: `--shade: ${100 * weights[s]}%`,
    }, piece)));
    const ahead = weights.slice(q + 1).reduce((sum, weight) => sum + weight, 0);
    const peeks = figure.state.masked ? "" : ` ${percent(ahead)} goes to tokens that come after it.`;
    figure.say(`Block ${figure.state.layer}, head ${figure.state.head}: ${pieces[q]} asks${locked ? " (locked)" : ""}, and gives ${percent(weights[best])} of its attention to ${best === q ? "itself" : pieces[best]}.${peeks}${tellDropped(answer.dropped)}`, heard);
  };
  const list = (/** @type {Rival[]} */ rivals) => rivals.slice(0, 3).map(([, piece, p]) => `${piece} ${percent(p)}`).join(", ");
  const showMatrix = (/** @type {any} */ answer) => {
    const { layer, head, stage } = figure.state, T = answer.pieces.length;
    const numbers = computed(answer, layer, head, stage), weights = computed(answer, layer, head, "weights");
    const finite = numbers.flat().filter(Number.isFinite);
    const largest = Math.max(...finite.map(Math.abs), 1e-9);
    if (pointed >= T) pointed = T >> 1;
    const isLocked = figure.state.query >= 0 && figure.state.query < T;
    const query = () => (isLocked ? figure.state.query : pointed);
    const rows = numbers.map((row, t) => ({
      label: answer.pieces[t],
      cells: row.map((/** @type {number} */ number, /** @type {number} */ s) => ({
        text: written(number, stage),
        shade: Number.isFinite(number) ? Math.max(0, stage === "weights" ? number : number / largest) : undefined,
        class: s <= t || (stage !== "masked" && stage !== "weights") ? "" : figure.state.masked ? "unseen" : "ahead",
        title: `${answer.pieces[t]} asks ${answer.pieces[s]}: ${Number.isFinite(number) ? number.toFixed(2) : "masked"}`,
      })),
    }));
    const mark = (/** @type {string | undefined} */ heard) => {
      for (const cell of grid.querySelectorAll("td[data-at]")) {
        cell.classList.toggle("locked", Number(cell.dataset.at?.split(",")[0]) === query());
      }
      showSentence(answer, weights[query()], query(), isLocked, heard);
    };
    const point = (/** @type {number} */ t) => {
      pointed = t;
      mark(undefined);
    };
    drawGrid(grid, "Rows ask (queries), columns are looked at (keys); Enter locks a query", answer.pieces, rows, point,
      (t) => figure.change({ query: figure.state.query === t ? -1 : t }), `${query()},0`);
    mark(`Next token: ${list(answer.rivals)}.`);
    return weights;
  };
  figure.ask = async ({ text, limit, masked, scaled, silenced }) => {
    const question = { text, limit, unmasked: !masked, unscaled: !scaled, silenced };
    const plain = { text, limit, unmasked: false, unscaled: false, silenced: [] };
    return Promise.all([ask("attention", question), ask("attention", plain)]);
  };
  figure.show = ([answer, plain]) => {
    showHeads(answer);
    const weights = showMatrix(answer);
    const same = figure.state.masked && figure.state.scaled && !figure.state.silenced.length;
    next.replaceChildren("Next token: ", h("strong", {}, listed(answer.rivals.slice(0, 3))), same ? "" : `. Without your changes: ${listed(plain.rivals.slice(0, 3))}`);
    const before = weights.slice(1).map((row, t) => row[t]);
    const mean = before.reduce((sum, weight) => sum + weight / before.length, 0);
    figure.setTask("find a head that gives the previous token at least 40% on average.",
      mean >= 0.4 ? `head ${figure.state.head} of block ${figure.state.layer}: ${percent(mean)} on average` : undefined,
      `this one gives it ${percent(mean)}`);
  };
};
