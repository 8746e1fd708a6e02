/** The first page's figure: type a beginning, and overrule the model. */
SETUPS.generate = (figure) => {
  Object.assign(figure.state, { overruled: {} });
  Object.assign(figure.initial, { overruled: {} });
  figure.addText("text", "A beginning", "Write");
  const MOST = 240; // tokens
  const written = h("p", { class: "written" }), panel = h("div", { class: "rivals" });
  /** @type {number | undefined} */
  let open = 0;
  /** @type {any[]} */
  let steps = [];
  let text = figure.state.text;
  const natural = (/** @type {string} */ piece) => piece.replaceAll("␣", " ");

  const showRivals = () => {
    if (open === undefined || !steps[open]) return panel.replaceChildren();
    const { rivals, id } = steps[open], at = open;
    const choices = rivals.map((/** @type {Rival} */ [rival, piece, p]) => h("li", {}, h("button", {
      type: "button",
      "aria-pressed": rival === id,
      disabled: rival === id,
      style: `--shade: ${100 * p}%`,
      click: () => {
        const kept = Object.entries(figure.state.overruled).filter(([i]) => Number(i) < at);
        figure.change({ overruled: { ...Object.fromEntries(kept), [at]: rival } });
      },
    }, h("span", {}, piece), h("span", {}, percent(p)))));
    panel.replaceChildren(h("p", {}, "Ten candidates for this place; choose another one:"), h("ol", {}, ...choices));
  };
  const showText = () => {
    const tokens = steps.flatMap(({ piece, p, overruled }, i) => [piece.length > 1 && piece[0] === "␣" ? " " : "", h("button", {
      type: "button",
      class: overruled ? "token overruled" : "token",
      "aria-expanded": open === i,
      title: `${percent(p)}`,
      click: () => {
        open = open === i ? undefined : i;
        showText();
        written.querySelectorAll("button")[i].focus();
      },
    }, natural(piece.length > 1 ? piece.replace(/^␣/, "") : piece))]);
    written.replaceChildren(text, ...tokens);
    showRivals();
  };
  // The choices belong to a beginning, so they go with it; a link brings both.
  figure.change = (state) => {
    if (!("text" in state) || state.text === text) return Figure.prototype.change.call(figure, state);
    open = 0;
    return Figure.prototype.change.call(figure, { ...state, overruled: {} });
  };
  figure.ask = async (state) => {
    const turn = figure.turn, ids = [...(await ask("encode", { text: state.text })).ids];
    text = state.text;
    const fresh = [];
    for (let i = 0; i < state.tokens; i++) {
      const rivals = await ask("next", { ids: [...ids] });
      if (turn !== figure.turn) return;
      const id = state.overruled[i] ?? rivals[0][0];
      const chosen = rivals.find((/** @type {Rival} */ [rival]) => rival === id) ?? rivals[0];
      fresh.push({ rivals, id: chosen[0], piece: chosen[1], p: chosen[2], overruled: chosen !== rivals[0] });
      ids.push(chosen[0]);
      if (connection) {
        steps = fresh;
        showText();
      }
      if (chosen[1] === "<|endoftext|>") break;
    }
    steps = fresh;
  };
  figure.show = () => {
    if (!steps.length) return;
    showText();
    const bits = steps.reduce((sum, { p }) => sum - Math.log2(Math.max(p, 1e-4)), 0) / steps.length;
    const overruled = steps.filter((step) => step.overruled).length;
    figure.say(`${count(steps.length, "new token")}, ${overruled} of them yours. The average surprisal is ${bits.toFixed(1)} bits.`);
    const other = steps.find(({ overruled, p }) => overruled && p < 0.01);
    figure.setTask("choose a token that the model gives less than 1%, and read on.", other && `${other.piece}, at ${percent(other.p)}`);
  };
  figure.view.append(written, panel);
  figure.addButton("Write more", () => figure.change({ tokens: Math.min(figure.state.tokens + 24, MOST) }), () =>
    figure.state.tokens === MOST);
  figure.addButton("Start over", () => {
    open = 0;
    figure.change({ ...figure.initial, overruled: {} });
  }, () => JSON.stringify(figure.state) === JSON.stringify(figure.initial));
};
