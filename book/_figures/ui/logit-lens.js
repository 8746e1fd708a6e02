/** Chapter 6: what every layer would predict, and how surprised the model is. */
SETUPS["logit-lens"] = (figure) => {
  Object.assign(figure.state, { at: "" });
  Object.assign(figure.initial, { at: "" });
  figure.addText("text", "A sentence", "Run");
  const grid = h("div", { class: "scroll lens" }), detail = h("div", { class: "detail" });
  const shaded = h("p", { class: "sentence" });
  figure.view.append(h("p", { class: "hint" }, "Point at a cell to see its five best tokens."), grid, detail, h("p", { class: "note" }, "The sentence again: the stronger the color, the more surprised the model was (bits below)."), shaded);
  figure.ask = ({ text, limit }) => ask("lens", { text, limit });
  figure.show = (answer) => {
    const { pieces, cells, ranks, surprisal } = answer, last = cells.length - 1;
    const name = (/** @type {number} */ l) => (l ? `block ${l - 1}` : "embeddings");
    const rows = cells.map((/** @type {Rival[][]} */ layer, /** @type {number} */ l) => ({
      label: name(l),
      cells: layer.map(([[, piece, p]], t) => ({
        text: piece, shade: p, class: ranks[l][t] === 1 ? "final" : "",
        title: `After ${name(l)}, at ${pieces[t]}: ${piece}, ${percent(p)}`,
      })),
    })).reverse();
    const look = (/** @type {number} */ row, /** @type {number} */ t) => {
      const l = last - row, five = listed(cells[l][t]);
      for (const cell of grid.querySelectorAll("td[data-at]")) cell.classList.toggle("looked", cell.dataset.at === `${row},${t}`);
      const [, final] = cells[last][t][0];
      detail.textContent = `After ${name(l)}, at ${pieces[t]}: ${five}`;
      figure.say(`The final answer after ${pieces[t]} is ${final}. After ${name(l)}, it ranks ${ranks[l][t]} of 50,257.${tellDropped(answer.dropped)}`);
      const early = l <= last / 2 && ranks[l][t] === 1;
      figure.setTask("find a place where half of the blocks were enough: the final answer is already first.",
        early ? `${final}, after ${name(l)}` : undefined,
        ranks[l][t] > 1 ? `here it ranks ${ranks[l][t]}` : `here it took ${l} of ${last} blocks`);
    };
    drawGrid(grid, "The most probable token at each layer and position; framed where it is the final answer",
      pieces, rows, look, (row, t) => figure.change({ at: `${row},${t}` }), `0,${pieces.length - 1}`);
    const [row, t] = figure.state.at.split(",").map(Number);
    const known = figure.state.at && row <= last && t < pieces.length;
    look(known ? row : 0, known ? t : pieces.length - 1);
    if (!known) grid.scrollLeft = grid.scrollWidth; // on a phone, to the cell that is told
    const most = Math.max(...surprisal, 1);
    shaded.replaceChildren(...pieces.map((/** @type {string} */ piece, /** @type {number} */ i) => h("span", {
      class: "word bits", style: `--shade: ${i ? (100 * surprisal[i - 1]) / most : 0}%`,
    }, piece, h("small", {}, i ? surprisal[i - 1].toFixed(1) : "–"))));
  };
};
