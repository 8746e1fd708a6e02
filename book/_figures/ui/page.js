/**
 * What all figures share: who answers their questions, their controls, their frame.
 */

/** @typedef {Record<string, any>} State */

const BASE = typeof document === "undefined" ? self.location.href : scriptAddress();
/** @type {Map<string, any>} */
const recorded = new Map(); // answers of the library, by their questions
/** @type {Map<string, (contents: string) => void>} */
const awaited = new Map(); // files that come as scripts, by name
/** @type {Set<(text: string) => void>} */
const watching = new Set(); // figures that tell how far a file is

function scriptAddress() {
  return /** @type {HTMLScriptElement} */ (document.currentScript).src;
}

/**
 * Take what a script hands over: recorded answers, or a file in base64.
 *
 * @param {string} name
 * @param {any} value
 */
function receive(name, value) {
  if (name !== "recorded") return awaited.get(name)?.(value);
  for (const [method, question, answer] of value) {
    recorded.set(JSON.stringify([method, question]), answer);
  }
}

/**
 * Fetch a file, from the browser's cache if it was fetched before.
 *
 * @param {"weights" | "tokenizer"} name
 * @param {(text: string) => void} tell
 */
async function fetchFile(name, tell) {
  const { file, bytes } = FILES[name], url = new URL(`${file}.bin`, BASE);
  const kept = await globalThis.caches?.open("hardway").catch(() => undefined);
  let response = await kept?.match(url);
  if (!response) {
    response = await fetch(url);
    if (!response.ok) throw new Error(`the model can't be loaded (${response.status}): ${url}`);
    await Promise.all((await kept?.keys() ?? []).map((old) =>
      old.url.includes(`/${name}-`) && kept?.delete(old)));
    kept?.put(url, response.clone()).catch(() => undefined); // no room: fetched again next time
  }
  const buffer = new Uint8Array(bytes);
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  for (let at = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return buffer.buffer;
    buffer.set(value, at);
    at += value.length;
    tell(`Loading the model: ${(at / 1e6).toFixed(1)} of ${(bytes / 1e6).toFixed(1)} MB`);
  }
}

/**
 * Load a file's twin, a script, where a page can't fetch: it was opened as a file.
 *
 * @param {"weights" | "tokenizer"} name
 * @returns {Promise<ArrayBuffer>}
 */
function loadTwin(name) {
  const { file } = FILES[name], script = document.createElement("script");
  script.src = new URL(`${file}.js`, BASE).href;
  watching.forEach((tell) => tell("Loading the model…"));
  return new Promise((resolve, reject) => {
    awaited.set(file, (base64) => {
      const text = atob(base64), bytes = new Uint8Array(text.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
      resolve(bytes.buffer);
    });
    script.onerror = () => reject(new Error(`the model can't be loaded: ${script.src}`));
    script.onload = () => script.remove();
    document.head.append(script);
  });
}

/** In a worker: answer the page's questions one after the other. */
function serve() {
  const tell = (/** @type {string} */ progress) => postMessage({ progress });
  const service = new Service((name) => fetchFile(name, tell));
  onmessage = async ({ data: { id, method, question } }) => {
    try {
      postMessage({ id, answer: await /** @type {any} */ (service)[method](question) });
    } catch (error) {
      postMessage({ id, error: /** @type {Error} */ (error).message });
    }
  };
}

/**
 * Return a function that asks the model: in a worker, or here if the page is a file.
 *
 * @returns {(method: string, question: any) => Promise<any>}
 */
function connect() {
  if (location.protocol === "file:") {
    const service = new Service(loadTwin);
    return async (method, question) => {
      await new Promise((resolve) => setTimeout(resolve)); // let the page be drawn
      return /** @type {any} */ (service)[method](question);
    };
  }
  const worker = new Worker(BASE);
  /** @type {Map<number, {resolve: (answer: any) => void, reject: (error: Error) => void}>} */
  const asked = new Map();
  worker.onmessage = ({ data: { id, progress, answer, error } }) => {
    if (progress) return watching.forEach((tell) => tell(progress));
    if (error) asked.get(id)?.reject(new Error(error));
    else asked.get(id)?.resolve(answer);
    asked.delete(id);
  };
  let last = 0;
  return (method, question) => new Promise((resolve, reject) => {
    asked.set(++last, { resolve, reject });
    worker.postMessage({ id: last, method, question });
  });
}

/** @type {ReturnType<typeof connect> | undefined} */
let connection;

/**
 * Ask the model; what was recorded at the build is answered at once.
 *
 * @param {string} method
 * @param {any} question
 * @returns {Promise<any>}
 */
async function ask(method, question) {
  const answer = recorded.get(JSON.stringify([method, question]));
  return answer ?? (connection ??= connect())(method, question);
}

/**
 * Make an element; a function as an attribute listens to that event, and false leaves
 * out an attribute that isn't ARIA's.
 *
 * @param {string} tag
 * @param {Record<string, any>} attributes
 * @param {...(Node | string)} children
 * @returns {any}
 */
function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (name === "style") made.style.cssText = value;
    else if (name.startsWith("aria-") && value !== undefined) made.setAttribute(name, String(value));
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/** @param {number} p a probability */
function percent(p) {
  if (p > 0 && p < 0.001) return `${(100 * p).toPrecision(2)}%`;
  return p >= 0.9995 ? "100%" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)}%`;
}

/**
 * List tokens with their probabilities; a comma may itself be a token.
 *
 * @param {Rival[]} rivals
 */
function listed(rivals) {
  return rivals.map(([, piece, p]) => `${piece}\u00a0${percent(p)}`).join(" · ");
}

/**
 * @param {number} n
 * @param {string} noun
 */
function count(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** A figure on the page: its state, its controls, and what it says. */
class Figure {
  /**
   * @param {HTMLElement} element
   * @param {string} name
   */
  constructor(element, name) {
    this.element = element;
    this.name = name;
    /** @type {State} */
    this.state = { ...DEFAULTS[name] };
    this.initial = { ...this.state };
    this.turn = 0;
    /** @type {(() => void)[]} */
    this.followers = []; // controls that show the state
    this.said = h("p", { class: "said", role: "status" });
    this.task = h("p", { class: "task" });
    this.link = h("a", { class: "permalink", href: `#${name}` }, "Link to this state");
    this.controls = h("div", { class: "controls" });
    this.view = h("div", { class: "view" });
    /** @type {(state: State) => Promise<any>} */
    this.ask = async () => undefined;
    /** @type {(answer: any) => void} */
    this.show = () => undefined;
  }

  /** Keep the table of the build for paper, and show the first answer. */
  start() {
    if (this.readLink()) addEventListener("load", () => this.element.scrollIntoView());
    const parts = [this.controls, this.said, this.view, this.task, this.link];
    const paper = h("div", { class: "paper" }, ...this.element.childNodes);
    this.element.replaceChildren(h("div", { class: "live" }, ...parts), paper);
    addEventListener("hashchange", () => this.readLink() && this.refresh());
    return this.refresh();
  }

  /** Take the state from the page's address, if that is a link to this figure. */
  readLink() {
    const [name, query] = location.hash.slice(1).split("?");
    if (name !== this.name || query === undefined) return false;
    for (const [key, text] of new URLSearchParams(query)) {
      if (!(key in this.initial)) continue;
      const known = typeof this.initial[key];
      try {
        const value = known === "string" ? text : JSON.parse(text);
        if (typeof value === known && value !== null && (text || key !== "text")) this.state[key] = value;
      } catch {
        // not a state that this figure ever had: what is known stays
      }
    }
    this.element.scrollIntoView();
    return true;
  }

  /**
   * Change the state, by a control.
   *
   * @param {State} state
   */
  change(state) {
    Object.assign(this.state, state);
    return this.refresh();
  }

  /** Ask for what the state needs, and show it, unless the state changed meanwhile. */
  async refresh() {
    const turn = ++this.turn;
    this.followers.forEach((follow) => follow());
    const changed = Object.entries(this.state).filter(([key, value]) =>
      JSON.stringify(value) !== JSON.stringify(this.initial[key]));
    const query = new URLSearchParams(changed.map(([key, value]) =>
      [key, typeof value === "string" ? value : JSON.stringify(value)]));
    this.link.href = `#${this.name}?${query}`;
    const tell = (/** @type {string} */ progress) => this.tell(progress);
    watching.add(tell);
    try {
      const answer = await this.ask(this.state);
      if (turn === this.turn) this.show(answer);
    } catch (error) {
      if (turn === this.turn) this.say(`That didn't work: ${/** @type {Error} */ (error).message}.`);
    } finally {
      watching.delete(tell);
    }
  }

  /**
   * Say what the figure shows, to eyes and to screen readers.
   *
   * @param {string} text
   * @param {string} [heard] what eyes find elsewhere in the figure
   */
  say(text, heard) {
    if (heard === undefined && this.said.firstChild?.textContent === text) return;
    const both = heard ? [text, h("span", { class: "heard" }, ` ${heard}`)] : [text];
    if (this.said.textContent !== (heard ? `${text} ${heard}` : text)) this.said.replaceChildren(...both);
  }

  /**
   * Tell how far a file is: numbers to eyes, but to screen readers only that it's loading.
   *
   * @param {string} progress
   */
  tell(progress) {
    const [text, numbers = ""] = progress.split(":"), known = this.said.querySelector(".far");
    if (known) known.textContent = `:${numbers}`;
    else this.said.replaceChildren(text, h("span", { class: "far", "aria-hidden": true }, numbers && `:${numbers}`));
  }

  /**
   * Set the task, which checks itself.
   *
   * @param {string} text
   * @param {string} [solved] what was found, once it is
   * @param {string} [missing] what isn't right yet, until it is
   */
  setTask(text, solved, missing) {
    if (solved && !this.solved) this.said.append(h("span", { class: "heard" }, ` Task solved: ${solved}.`));
    if (solved) this.solved = solved;
    const state = this.solved ? h("strong", {}, ` ✓ ${this.solved}`) : missing ? ` Not yet: ${missing}.` : "";
    this.task.replaceChildren(h("em", {}, "Try it: "), text, state);
  }

  /**
   * Add a field for text, which answers Enter and its button.
   *
   * @param {string} key
   * @param {string} label
   * @param {string} verb of the button
   */
  addText(key, label, verb) {
    const input = h("input", { type: "text", name: key, autocomplete: "off", spellcheck: "false", maxlength: 2000 });
    const submit = (/** @type {Event} */ event) => {
      event.preventDefault();
      if (input.value) this.change({ [key]: input.value });
      else this.say("Type at least one character.");
    };
    this.controls.append(h("form", { submit }, h("label", {}, label, input), h("button", {}, verb)));
    this.followers.push(() => (input.value = this.state[key]));
  }

  /**
   * Add a slider.
   *
   * @param {string} key
   * @param {string} label
   * @param {{min: number, max: number, step: number}} range
   * @param {(value: number) => string} format
   */
  addSlider(key, label, range, format = String) {
    const output = h("span", { "aria-hidden": true }); // the slider itself says it
    const input = h("input", {
      type: "range", name: key, ...range,
      input: () => this.change({ [key]: Number(input.value) }),
    });
    this.controls.append(h("label", { class: "slider" }, h("span", {}, `${label} `, output), input));
    this.followers.push(() => {
      input.value = this.state[key];
      output.textContent = format(this.state[key]);
      input.setAttribute("aria-valuetext", output.textContent);
    });
    return input;
  }

  /**
   * Add a box to tick.
   *
   * @param {string} key
   * @param {string} label
   */
  addCheck(key, label) {
    const input = h("input", {
      type: "checkbox", name: key, change: () => this.change({ [key]: input.checked }),
    });
    this.controls.append(h("label", {}, input, label));
    this.followers.push(() => (input.checked = this.state[key]));
    return input;
  }

  /**
   * Add a choice of one among several.
   *
   * @param {string} key
   * @param {string} legend
   * @param {[any, string][]} choices values, and how they are called
   */
  addChoice(key, legend, choices) {
    const inputs = choices.map(([value]) => h("input", {
      type: "radio", name: `${this.name}-${key}`, change: () => this.change({ [key]: value }),
    }));
    const labels = choices.map(([, text], i) => h("label", {}, inputs[i], text));
    this.controls.append(h("fieldset", {}, h("legend", {}, legend), ...labels));
    this.followers.push(() =>
      choices.forEach(([value], i) => (inputs[i].checked = this.state[key] === value)));
  }

  /**
   * Add a button.
   *
   * @param {string} label
   * @param {() => void} click
   * @param {() => boolean} idle whether it would change nothing
   */
  addButton(label, click, idle = () => false) {
    const follow = () => {
      const hasFocus = button === document.activeElement; // it would be lost
      button.disabled = idle() && !hasFocus;
      button.setAttribute("aria-disabled", String(idle()));
    };
    const button = h("button", { type: "button", click: () => idle() || click(), blur: () => setTimeout(follow) }, label);
    this.controls.append(button);
    this.followers.push(follow);
  }
}

/**
 * A cell of a grid.
 *
 * @typedef {object} Cell
 * @property {string} text
 * @property {number} [shade] from 0 to 1
 * @property {string} [class]
 * @property {string} [title] what a screen reader says instead of the text
 */

/**
 * Draw a table through which arrow keys move; hovering, focus and a tap do the same.
 *
 * @param {HTMLElement} box what held it before; it keeps the focus
 * @param {string} caption
 * @param {string[]} head
 * @param {{label: string, cells: Cell[]}[]} rows
 * @param {(row: number, column: number) => void} point
 * @param {(row: number, column: number) => void} pick Enter, or a click
 * @param {string} start where Tab leads at first: row, column
 */
function drawGrid(box, caption, head, rows, point, pick, start) {
  const focused = box.contains(document.activeElement) ? document.activeElement : null;
  const place = /** @type {HTMLElement} */ (focused ?? box.querySelector("td[tabindex='0']"));
  const [r0, c0] = (place?.dataset.at ?? start).split(",").map(Number);
  const at = (/** @type {number} */ r, /** @type {number} */ c) =>
    `${Math.max(0, Math.min(r, rows.length - 1))},${Math.max(0, Math.min(c, rows[0].cells.length - 1))}`;
  const current = at(r0, c0);
  const cell = (/** @type {Cell} */ { text, shade, title, ...rest }, /** @type {number} */ r, /** @type {number} */ c) =>
    h("td", {
      tabindex: current === `${r},${c}` ? 0 : -1,
      "data-at": `${r},${c}`,
      "aria-label": title,
      class: rest.class,
      style: shade === undefined ? "" : `--shade: ${(100 * shade).toFixed(1)}%`,
    }, text);
  const table = h("table", { role: "grid", "aria-label": caption },
    h("thead", {}, h("tr", {}, h("td"), ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(({ label, cells }, r) =>
      h("tr", {}, h("th", { scope: "row" }, label), ...cells.map((each, c) => cell(each, r, c))))));
  const placed = (/** @type {Event} */ event, /** @type {typeof point} */ use) => {
    const target = /** @type {HTMLElement} */ (event.target).closest("td[data-at]");
    if (!target) return;
    const [r, c] = /** @type {HTMLElement} */ (target).dataset.at?.split(",").map(Number) ?? [];
    use(r, c);
  };
  const focus = (/** @type {string} */ to) => {
    const next = table.querySelector(`td[data-at="${to}"]`);
    table.querySelector("td[tabindex='0']")?.setAttribute("tabindex", "-1");
    next.tabIndex = 0;
    next.focus();
  };
  table.addEventListener("pointerover", (/** @type {Event} */ event) => placed(event, point));
  table.addEventListener("focusin", (/** @type {Event} */ event) => placed(event, point));
  table.addEventListener("click", (/** @type {Event} */ event) => placed(event, pick));
  table.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => placed(event, (r, c) => {
    const far = rows[0].cells.length;
    /** @type {Record<string, [number, number]>} */
    const moves = { ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1],
      ArrowRight: [r, c + 1], Home: [r, 0], End: [r, far] };
    if (event.key in moves) focus(at(...moves[event.key]));
    else if (event.key === "Enter" || event.key === " ") pick(r, c);
    else return;
    event.preventDefault();
  }));
  box.replaceChildren(table);
  if (focused) focus(current);
}

/**
 * Let the arrow keys lead from button to button in a box, of which Tab reaches one.
 *
 * @param {HTMLElement} box whose buttons are made anew at times
 * @param {string} label
 * @returns {(at: number) => void} call it after they were made, with the one for Tab
 */
function rove(box, label) {
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `${label}; arrow keys lead from one to the next`);
  const reach = (/** @type {number} */ at) => {
    const buttons = box.querySelectorAll("button");
    buttons.forEach((button, i) => (button.tabIndex = i === Math.max(0, Math.min(at, buttons.length - 1)) ? 0 : -1));
  };
  box.addEventListener("keydown", (event) => {
    const buttons = [...box.querySelectorAll("button")], last = buttons.length - 1;
    const i = buttons.findIndex((button) => button === document.activeElement);
    /** @type {Record<string, number>} */
    const moves = { ArrowLeft: i - 1, ArrowUp: i - 1, ArrowRight: i + 1, ArrowDown: i + 1, Home: 0, End: last };
    if (i < 0 || !(event.key in moves)) return;
    event.preventDefault();
    buttons[Math.max(0, Math.min(moves[event.key], last))].focus();
  });
  box.addEventListener("focusin", (event) =>
    reach([...box.querySelectorAll("button")].findIndex((button) => button === event.target)));
  return reach;
}

/**
 * Make a table that is only read.
 *
 * @param {string} caption
 * @param {string[]} head
 * @param {(string | Node)[][]} rows the first cell of each is its heading
 */
function plainTable(caption, head, rows) {
  return h("table", {}, h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(([first, ...rest]) =>
      h("tr", {}, h("th", { scope: "row" }, first), ...rest.map((text) => h("td", {}, text))))));
}

/**
 * Say that only the first tokens are shown.
 *
 * @param {number} dropped
 */
function tellDropped(dropped) {
  return dropped ? ` The last ${dropped} tokens aren't shown: there is no room.` : "";
}

/**
 * How each figure is set up, by its name.
 *
 * @type {Record<string, (figure: Figure) => void>}
 */
const SETUPS = {};
