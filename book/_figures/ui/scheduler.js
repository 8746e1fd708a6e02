/** Chapter 12: requests arrive at the reader's click, and share the pages of a cache. */
SETUPS.scheduler = (figure) => {
  const MOST = 12; // requests
  const happen = (/** @type {string} */ events) => figure.change({ events: figure.state.events + events });
  const full = () => [...figure.state.events].filter((event) => event !== ".").length >= MOST;
  figure.addButton("Add a request with the shared prefix", () => happen("s"), full);
  figure.addButton("Add a longer request of its own", () => happen("l"), full);
  const steps = () => figure.state.events.split(".").length > 500;
  figure.addButton("One step", () => happen("."), steps);
  figure.addButton("Ten steps", () => happen(".........."), steps);
  figure.addButton("Start over", () => figure.change({ events: "" }), () => !figure.state.events);
  const pages = h("ul", { class: "pages", "aria-label": "Pages of the KV cache" });
  const box = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Requests" });
  figure.view.append(pages, box);
  figure.ask = ({ events, kinds, n_pages, page_size, max_batch, budget }) =>
    ask("schedule", { events, kinds, n_pages, page_size, max_batch, budget });
  const color = (/** @type {string} */ name) => `c${name.charCodeAt(0) % 4}`;
  figure.show = (answer) => {
    const { page_size: size } = figure.state;
    pages.replaceChildren(...answer.pages.map((/** @type {any} */ { owners, kept, held }, /** @type {number} */ page) => {
      const mixed = owners.map((/** @type {string} */ owner, /** @type {number} */ i) =>
        `color-mix(in srgb, var(--${color(owner)}) var(--strength), var(--pst-color-background)) ${(100 * i) / owners.length}% ${(100 * (i + 1)) / owners.length}%`);
      const cells = Array.from({ length: size }, (_, i) => h("span", {
        class: i < held ? (owners.length ? color(owners[0]) : "old") : "",
        style: i < held && owners.length > 1 ? `background: linear-gradient(135deg, ${mixed.join(", ")})` : "",
      }));
      const whose = owners.length ? owners.join(" + ") : kept ? "free, kept" : "free";
      return h("li", { class: owners.length > 1 ? "shared" : "" },
        h("b", {}, `page ${page}`), h("span", { class: "slots", "aria-hidden": true }, ...cells),
        h("span", {}, whose), h("small", {}, `${held} of ${size} tokens`));
    }));
    const rows = answer.requests.map((/** @type {any} */ request) => [
      h("span", { class: `chip ${color(request.name)}` }, request.name), request.status,
      `${request.computed} of ${request.tokens}`, `${request.new} of ${request.most}`, request.pages.join(", ") || "–",
    ]);
    box.replaceChildren(plainTable("Requests, in order of arrival", ["Request", "State", "Computed", "New tokens", "Pages"], rows));
    const newest = answer.requests[answer.requests.length - 1];
    const came = newest && !figure.state.events.endsWith(".") ? `${newest.name} has arrived: ${newest.status}.` : "";
    const plan = answer.plan.map((/** @type {[string, number]} */ [name, n]) => `${n} of ${name}`).join(", ");
    const last = answer.steps ? `Step ${answer.steps} computed ${plan || "nothing"}.` : "Nothing has happened yet.";
    figure.say(`${last} ${answer.free} of ${answer.pages.length} pages are free. So far, ${count(answer.computed, "token")} computed, ${answer.hits} found in shared pages, ${count(answer.preemptions, "preemption")}.`, came);
    figure.setTask("let requests arrive until one is preempted: sent back to wait, without its pages.",
      answer.preemptions ? `after step ${answer.steps}, one was sent back` : undefined,
      "none was sent back so far");
  };
};
