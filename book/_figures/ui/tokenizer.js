/** Chapter 2: a text's tokens, and how they were merged. */
SETUPS.tokenizer = (figure) => {
  Object.assign(figure.state, { step: 99, chosen: -1 });
  Object.assign(figure.initial, { step: 99, chosen: -1 });
  const SAMPLES = {
    English: "The rabbit-hole went straight on like a tunnel",
    Deutsch: "Es war einmal ein Eichhörnchen",
    日本語: "むかしむかし、あるところに",
    हिन्दी: "एक समय की बात है",
    Code: "for i in range(10):\n    print(i)",
    Numbers: "3.14159 and 1,000,000",
  };
  figure.addText("text", "A text", "Tokenize");
  const samples = h("div", { class: "samples", role: "group", "aria-label": "Samples" }, ...Object.entries(SAMPLES).map(([name, text]) =>
    h("button", { type: "button", click: () => figure.change({ text, step: 99, chosen: -1 }) }, name)));
  figure.controls.append(samples);
  let most = 0;
  const slider = figure.addSlider("step", "Merges done in each word:", { min: 0, max: 99, step: 1 }, (step) =>
    step >= most ? `${most} (all)` : String(step));
  const chips = h("p", { class: "chips" }), detail = h("p", { class: "detail" });
  const box = h("details", {}, h("summary", {}, "The same as a table"), h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Tokens as a table" }));
  const reach = rove(chips, "Tokens");
  figure.view.append(chips, detail, box);
  figure.ask = ({ text }) => ask("merges", { text });
  figure.show = (words) => {
    most = Math.max(0, ...words.map((/** @type {any[]} */ steps) => steps.length - 1));
    slider.max = most;
    const step = Math.min(figure.state.step, most);
    slider.value = step;
    figure.followers.forEach((follow) => follow());
    /** @type {any[]} */
    const tokens = [];
    const hadFocus = chips.contains(document.activeElement);
    chips.replaceChildren(...words.map((/** @type {any[]} */ steps) => h("span", { class: "group" },
      ...steps[Math.min(step, steps.length - 1)].map((/** @type {any} */ token) => {
        const i = tokens.push(token) - 1;
        return h("button", {
          type: "button", class: `chip c${i % 4}`, "aria-pressed": i === figure.state.chosen,
          click: () => figure.change({ chosen: i }),
        }, h("span", {}, token.piece), h("small", {}, token.id));
      }))));
    const token = tokens[figure.state.chosen];
    reach(Math.max(0, figure.state.chosen));
    if (hadFocus) chips.querySelectorAll("button")[figure.state.chosen]?.focus();
    const bytes = (/** @type {any} */ { bytes }) => bytes.map((/** @type {number} */ byte) => byte.toString(16).padStart(2, "0")).join(" ");
    detail.textContent = token ? `${token.piece} has the id ${token.id} and the bytes ${bytes(token)}.` : "Choose a token to see its bytes.";
    box.lastChild.replaceChildren(plainTable("Every token", ["Token", "Id", "Bytes"], tokens.map((each) => [each.piece, String(each.id), bytes(each)])));
    const characters = [...figure.state.text].length;
    const stage = step < most ? `After ${step} of ${most} merges` : "All merges done";
    figure.say(`${stage}: ${count(characters, "character")} make ${count(tokens.length, "token")}.`, token ? detail.textContent : "");
    const many = step === most && tokens.length > characters;
    const found = `${count(tokens.length, "token")} for ${count(characters, "character")}`;
    figure.setTask("write something that takes more tokens than it has characters, after all merges.", many ? found : undefined, step < most ? "some merges are taken back" : found);
  };
};
