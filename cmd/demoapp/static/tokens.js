// The token chain as it is seen. The current token always stands in the same place: when
// a child is promoted, the chain moves on by one, and the child arrives there. A ring
// around that place is the grace. Each element stays the same token's, so that what moves
// is seen to move; a user who prefers less motion sees where it went.

const still = matchMedia("(prefers-reduced-motion: reduce)");
const before = 4; // tokens before the current one that are shown; fewer where it is narrow

const states = {
  current: "current",
  child: "not used yet",
  retired: "retired",
  superseded: "lost to its sibling",
};

const short = (hash) => hash.slice(0, 6);

function coin() {
  const element = Object.assign(document.createElement("span"), { className: "coin" });
  const [icon, use] = ["svg", "use"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name));
  use.setAttribute("href", "#icon-key");
  icon.append(use);
  icon.setAttribute("aria-hidden", "true");
  element.append(icon);
  return element;
}

export class Tokens {
  #items = new Map(); // by hash
  #running = null; // the ring's animation
  #until = 0;

  constructor(element) {
    this.element = element;
    this.list = element.querySelector(".chain");
    this.more = element.querySelector("#more");
    this.ring = element.querySelector(".ring circle");
    this.holders = { you: element.querySelector(".holder.you"), thief: element.querySelector(".holder.thief") };
  }

  // draw shows a chain. ended: the session has ended, and with it each token.
  draw(chain, ended) {
    const places = this.#places(chain);
    const shown = chain.tokens.filter(({ hash }) => places.get(hash) >= -before);
    for (const [hash, item] of this.#items) {
      if (shown.some((token) => token.hash === hash)) continue;
      item.remove();
      this.#items.delete(hash);
    }
    for (const token of shown) {
      const item = this.#items.get(token.hash) ?? this.#add(token, places.get(token.parent));
      this.#show(item, token, chain, ended);
      this.#move(item, places.get(token.hash));
    }
    this.list.append(...shown.map(({ hash }) => this.#items.get(hash)).filter((item, at) => this.list.children[at] !== item));
    const hidden = chain.tokens.length - shown.length;
    this.more.textContent = hidden === 0 ? "" : `(+${hidden})`;
    this.element.dataset.ended = Boolean(ended);
    this.element.dataset.child = shown.some((token) => chain.state(token) === "child");

    const together = chain.held.you === chain.held.thief;
    for (const [who, holder] of Object.entries(this.holders)) {
      const at = places.get(chain.held[who]);
      holder.hidden = at === undefined || at < -before;
      holder.dataset.together = together;
      if (!holder.hidden) this.#move(holder, at);
    }
  }

  // #places are where the tokens stand, in steps from the current one.
  #places(chain) {
    const places = new Map();
    const former = chain.tokens.filter((token) => ["retired", "superseded"].includes(chain.state(token)));
    former.forEach(({ hash }, n) => places.set(hash, n - former.length));
    chain.tokens.filter((token) => chain.state(token) === "child").forEach(({ hash }, n) => places.set(hash, n + 1));
    if (chain.current) places.set(chain.current, 0);
    return places;
  }

  #add({ hash }, parentAt) {
    const item = document.createElement("li");
    item.append(
      coin(),
      Object.assign(document.createElement("code"), { textContent: short(hash) }), " ",
      Object.assign(document.createElement("span"), { className: "tag" }), " ",
      Object.assign(document.createElement("span"), { className: "unseen" }),
    );
    this.#items.set(hash, item);
    this.list.append(item);
    if (parentAt !== undefined && !still.matches) {
      // It comes out of its parent.
      item.classList.add("born");
      this.#move(item, parentAt);
      item.getBoundingClientRect();
      item.classList.remove("born");
    }
    return item;
  }

  #show(item, token, chain, ended) {
    const state = chain.state(token);
    item.className = `token ${state}`;
    item.dataset.state = state;
    const holders = Object.keys(chain.held).filter((who) => chain.held[who] === token.hash);
    if (holders.length) item.dataset.held = holders.join(" ");
    else delete item.dataset.held;
    const said = { you: "in your browser", thief: "held by the thief" };
    const gone = ended && ["current", "child"].includes(state);
    item.querySelector(".tag").textContent = gone ? "ended" : token.lost ? "answer lost" : states[state];
    item.querySelector(".unseen").textContent = holders.map((who) => said[who]).join(" and ");
    item.dataset.lost = Boolean(token.lost);
  }

  #move(element, at) {
    element.style.setProperty("--at", at);
    element.classList.toggle("far", at < -2);
  }

  // grace shows for how long (ms) of its whole the current token still stays.
  grace(left, whole) {
    this.element.dataset.grace = left > 0;
    const until = left > 0 ? Date.now() + left : 0;
    if (Math.abs(until - this.#until) < 300) return;
    this.#until = until;
    this.#running?.cancel();
    this.#running = null;
    if (left > 0 && !still.matches) {
      const gone = 100 * (1 - left / whole);
      this.#running = this.ring.animate({ strokeDashoffset: [`${gone}`, "100"] }, { duration: left, fill: "forwards" });
    }
  }
}
