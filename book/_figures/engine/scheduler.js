/**
 * Continuous batching on a paged KV cache: who runs, and which pages they hold.
 *
 * There are only numbers here, no keys and values, and no model.
 */

/**
 * A request: its tokens so far, how many of them are computed, and its pages.
 *
 * @typedef {object} Queued
 * @property {string} name
 * @property {number[]} ids
 * @property {number} prompt how many of them are the prompt
 * @property {number} most new tokens
 * @property {number} computed
 * @property {number[]} pages
 */

/** Reference counts of the pages, and an index of the full ones by their keys. */
class PagePool {
  /** @param {number} nPages */
  constructor(nPages) {
    this.owners = new Array(nPages).fill(0);
    this.free = Array.from(this.owners, (_, page) => page); // the next to be reused first
    /** @type {Map<string, number>} */
    this.pageOf = new Map();
    /** @type {Map<number, string>} */
    this.keyOf = new Map();
  }

  /** Take the first free page, and forget what it held. */
  allocate() {
    const page = /** @type {number} */ (this.free.shift());
    const key = this.keyOf.get(page);
    if (key !== undefined) this.pageOf.delete(key);
    this.keyOf.delete(page);
    this.owners[page] = 1;
    return page;
  }

  /**
   * Add an owner to the page with this key, in use or free.
   *
   * @param {string} key
   */
  share(key) {
    const page = this.pageOf.get(key);
    if (page === undefined) return undefined;
    this.free = this.free.filter((each) => each !== page);
    this.owners[page] += 1;
    return page;
  }

  /**
   * Let others share a page, once all of its keys and values are computed.
   *
   * @param {number} page
   * @param {string} key
   */
  publish(page, key) {
    if (this.pageOf.has(key)) return; // another request may have computed the same
    this.pageOf.set(key, page);
    this.keyOf.set(page, key);
  }

  /**
   * Take an owner away. Without owners a page is free, but keeps what it holds.
   *
   * @param {number} page
   */
  release(page) {
    this.owners[page] -= 1;
    if (this.owners[page]) return;
    if (this.keyOf.has(page)) this.free.push(page);
    else this.free.unshift(page); // it can't be found again: reused first
  }
}

/** The waiting and the running requests, in order of arrival, and their pages. */
class Scheduler {
  /** @param {{n_pages: number, page_size: number, max_batch: number, budget: number}} sizes */
  constructor({ n_pages, page_size, max_batch, budget }) {
    this.pool = new PagePool(n_pages);
    this.pageSize = page_size;
    this.maxBatch = max_batch;
    this.budget = budget;
    /** @type {Queued[]} */
    this.waiting = [];
    /** @type {Queued[]} */
    this.running = [];
    this.hits = 0;
    this.preemptions = 0;
  }

  /**
   * Plan a step: hand out the budget to running requests, then to waiting ones.
   *
   * @returns {[Queued, number][]} requests, and how many tokens of each to compute
   */
  schedule() {
    /** @type {[Queued, number][]} */
    const plan = [];
    let left = this.budget;
    for (const request of [...this.running]) {
      const n = Math.min(request.ids.length - request.computed, left);
      if (!this.running.includes(request) || !this.makeRoom(request, n)) continue;
      plan.push([request, n]);
      left -= n;
    }
    while (left && this.admit()) {
      const request = this.running[this.running.length - 1];
      const n = Math.min(request.ids.length - request.computed, left);
      this.makeRoom(request, n);
      plan.push([request, n]);
      left -= n;
    }
    return plan;
  }

  /**
   * Allocate pages for the next ``n`` tokens; return false if the request is preempted.
   *
   * @param {Queued} request
   * @param {number} n
   */
  makeRoom(request, n) {
    while (request.pages.length * this.pageSize < request.computed + n) {
      if (this.pool.free.length) request.pages.push(this.pool.allocate());
      else if (this.preempt(this.running[this.running.length - 1]) === request) return false;
    }
    return true;
  }

  /**
   * Send a running request back to the head of the queue, without its pages.
   *
   * @param {Queued} request
   */
  preempt(request) {
    this.retire(request);
    this.waiting.unshift(request);
    this.preemptions += 1;
    return request;
  }

  /** Let the first waiting request run, if there is room for all of its tokens. */
  admit() {
    if (!this.waiting.length || this.running.length === this.maxBatch) return false;
    const request = this.waiting[0];
    for (let i = 0; i < Math.floor((request.ids.length - 1) / this.pageSize); i++) {
      const page = this.pool.share(this.key(request, i));
      if (page === undefined) break;
      request.pages.push(page);
    }
    const shared = request.pages.length;
    if (Math.ceil(request.ids.length / this.pageSize) - shared > this.pool.free.length) {
      this.release(request);
      return false;
    }
    request.computed = shared * this.pageSize;
    this.hits += request.computed;
    this.running.push(/** @type {Queued} */ (this.waiting.shift()));
    return true;
  }

  /**
   * Count ``n`` more tokens as computed, and publish the pages that they have filled.
   *
   * @param {Queued} request
   * @param {number} n
   */
  computed(request, n) {
    const first = Math.floor(request.computed / this.pageSize);
    request.computed += n;
    for (let i = first; i < Math.floor(request.computed / this.pageSize); i++) {
      this.pool.publish(request.pages[i], this.key(request, i));
    }
  }

  /**
   * Name a full page by all tokens up to its end; the library hashes them.
   *
   * @param {Queued} request
   * @param {number} i
   */
  key(request, i) {
    return request.ids.slice(0, (i + 1) * this.pageSize).join();
  }

  /**
   * Take a running request out, and release its pages at once.
   *
   * @param {Queued} request
   */
  retire(request) {
    this.running = this.running.filter((each) => each !== request);
    this.release(request);
  }

  /**
   * Give back all pages, the last first: a beginning is shared more often.
   *
   * @param {Queued} request
   */
  release(request) {
    for (const page of request.pages.reverse()) this.pool.release(page);
    request.pages = [];
    request.computed = 0;
  }
}

/**
 * Play what happened: a letter is a request of that kind, a dot is a step.
 *
 * A kind is how many tokens of the common beginning a prompt has, how many of its own,
 * and how many new ones it asks for. Which tokens come doesn't matter here, so every new
 * one is different from all others.
 *
 * @param {string} events
 * @param {Record<string, [number, number, number]>} kinds
 * @param {{n_pages: number, page_size: number, max_batch: number, budget: number}} sizes
 */
function play(events, kinds, sizes) {
  const scheduler = new Scheduler(sizes);
  /** @type {Queued[]} */
  const requests = [];
  /** @type {[Queued, number][]} */
  let plan = [];
  let steps = 0, total = 0, other = 1000;
  for (const event of events) {
    if (event in kinds) {
      const [common, own, most] = kinds[event];
      const ids = Array.from({ length: common + own }, (_, i) => (i < common ? i : other++));
      const name = String.fromCharCode(65 + requests.length);
      requests.push({ name, ids, prompt: ids.length, most, computed: 0, pages: [] });
      scheduler.waiting.push(requests[requests.length - 1]);
    } else {
      plan = scheduler.schedule();
      steps += Number(plan.length > 0);
      for (const [request, n] of plan) {
        scheduler.computed(request, n);
        total += n;
      }
      for (const [request] of plan.filter(([each]) => each.computed === each.ids.length)) {
        request.ids.push(other++);
        if (request.ids.length - request.prompt === request.most) scheduler.retire(request);
      }
    }
  }
  return { scheduler, requests, plan, steps, total };
}
