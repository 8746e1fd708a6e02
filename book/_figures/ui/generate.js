/** The first page's figure: type a beginning, and overrule the model. */
SETUPS.generate = (figure) => {
  Object.assign(figure.state, { overruled: {} });
  Object.assign(figure.initial, { overruled: {} });
  figure.addText("text", "A beginning", "Write");
  const MOST = 240; // tokens
  const written = h("p", { class: "written" }), panel = h("div", { class: "rivals" });
  const reach = rove(written, "The text, token by token");
  /** @type {number | undefined} */
  let held; // the token that has the focus, or gets it once it's written
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
    panel.replaceChildren(h("p", {}, "Ten candidates for this place (␣ is a space); choose another one:"), h("ol", {}, ...choices));
  };
  const showText = () => {
    const focused = document.activeElement;
    if (panel.contains(focused)) held = open;
    else if (written.contains(focused)) held = [...written.children].findIndex((token) => token === focused);
    else if (focused !== document.body) held = undefined;
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
    reach(held ?? open ?? 0);
    if (held !== undefined) written.querySelectorAll("button")[held]?.focus({ preventScroll: true });
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
    figure.say(`${count(steps.length, "new token")}, ${overruled} of them yours. The average surprisal is ${bits.toFixed(1)} bits (0: the model was certain).`);
    const [other] = steps.filter((step) => step.overruled).sort((a, b) => a.p - b.p);
    const found = other && `${other.piece}, at ${percent(other.p)}`;
    figure.setTask("choose a token that the model gives less than 1%, and read on.", other?.p < 0.01 ? found : undefined, found);
  };
  figure.view.append(written, panel);
  figure.addButton("Write more", () => figure.change({ tokens: Math.min(figure.state.tokens + 24, MOST) }), () =>
    figure.state.tokens === MOST);
  figure.addButton("Start over", () => {
    open = 0;
    figure.change({ ...figure.initial, overruled: {} });
  }, () => JSON.stringify(figure.state) === JSON.stringify(figure.initial));
};
