// Requests as they pass: a dot runs along a lane of four stations and stops at the one
// that answers. A user who prefers less motion sees at once where it stopped.

const stations = { browser: 12.5, envoy: 37.5, gate: 62.5, app: 87.5 }; // % of the width
const still = matchMedia("(prefers-reduced-motion: reduce)");

// bringIntoView moves the page no farther than it takes to see what is about to happen.
export const bringIntoView = (element) => element.scrollIntoView({ block: "nearest", behavior: still.matches ? "instant" : "smooth" });

export class Lane {
  constructor(element) {
    this.element = element;
    this.request = element.querySelector(".request");
    this.track = element.querySelector(".track");
    this.dot = element.querySelector(".dot");
    this.went = element.querySelector(".went");
    this.verdict = element.querySelector(".verdict");
    this.answer = element.querySelector(".answer");
  }

  // draw shows a request whose outcome is to come, and returns the outcome when it has
  // been drawn: { label, tone, status, at, lost }. Many requests are drawn as many dots.
  async draw(request, coming, many = 1) {
    const { dataset } = this.element;
    this.request.textContent = many > 1 ? `${request} ×${many}` : request;
    for (const name of ["tone", "at", "outcome", "lost"]) delete dataset[name];
    this.verdict.textContent = this.answer.textContent = "";
    this.#stopAt(stations.browser);
    dataset.under = "way";
    await Promise.all([this.#run(stations.browser, stations.gate, 480), this.#swarm(many - 1)]);
    const outcome = await coming;
    dataset.tone = outcome.tone;
    this.verdict.textContent = outcome.label;
    if (outcome.at === "app") await this.#run(stations.gate, stations.app, 280);
    if (outcome.lost) await this.#run(stations.gate, (stations.browser + stations.envoy) / 2, 480);
    if (outcome.at === "envoy") this.#stopAt(stations.envoy);
    this.answer.textContent = outcome.lost ? "answer lost" : outcome.status;
    if (outcome.lost) dataset.lost = "";
    delete dataset.under;
    dataset.at = outcome.at;
    dataset.outcome = outcome.label;
    return outcome;
  }

  // say shows a text in the place of a request.
  say(text) {
    this.request.textContent = text;
  }

  // reset forgets the last request.
  reset(text) {
    const { dataset } = this.element;
    for (const name of ["tone", "at", "outcome", "lost", "under"]) delete dataset[name];
    this.verdict.textContent = this.answer.textContent = "";
    this.#stopAt(stations.browser);
    this.say(text);
  }

  // #swarm runs more dots along the first one.
  async #swarm(count) {
    if (still.matches || document.hidden) return;
    const dots = Array.from({ length: count }, (_, n) => {
      const dot = document.createElement("i");
      dot.className = "dot more";
      this.track.append(dot);
      const height = ((n * 7) % 19) - 9; // px, about the middle of the track
      const move = dot.animate(
        { left: [`${stations.browser}%`, `${stations.gate}%`], translate: [`0 ${height}px`, `0 ${height}px`], opacity: [0.9, 0.9] },
        { duration: 520, delay: n * 28, easing: "ease-in-out", fill: "backwards" },
      );
      return move.finished.then(() => dot.remove());
    });
    await Promise.all(dots);
  }

  async #run(from, to, duration) {
    this.#stopAt(to);
    if (still.matches || document.hidden) return;
    const timing = { duration, easing: "ease-in-out" };
    const moves = [this.dot.animate({ left: [`${from}%`, `${to}%`] }, timing)];
    if (to > from) {
      const width = (at) => `${at - stations.browser}%`;
      moves.push(this.went.animate({ width: [width(from), width(to)] }, timing));
    }
    await Promise.all(moves.map((move) => move.finished));
  }

  #stopAt(at) {
    this.dot.style.left = `${at}%`;
    if (at >= stations.envoy || at === stations.browser) this.went.style.width = `${at - stations.browser}%`;
  }
}

const kept = 40;
const names = { you: "You", thief: "Thief", laptop: "Laptop", stage: "Stage" };

// Log lists what happened, newest first. A request can be chosen, to see it on the wire.
export class Log {
  constructor(list, chosen) {
    this.list = list;
    this.chosen = chosen;
  }

  // add lists a request under its name on the wire, or what the stage did, which has none.
  add(who, what, { label = "", tone, status = "", text }, name) {
    const item = document.createElement("li");
    item.dataset.who = who;
    item.dataset.tone = tone;
    const part = (tag, className, content) => Object.assign(document.createElement(tag), { className, textContent: content });
    const request = part("code", "", what);
    const choice = part("button", "pick", "");
    choice.type = "button";
    choice.append(request);
    choice.addEventListener("click", () => this.choose(item, name));
    const chip = part("span", "chip", status && String(status) !== label ? `${status} ${label}` : label);
    item.append(
      part("time", "", new Date().toLocaleTimeString("en-GB")),
      part("span", "who", names[who]),
      name ? choice : request,
      ...(label ? [chip] : []),
      part("p", "", text),
    );
    this.list.prepend(item);
    while (this.list.children.length > kept) this.list.lastElementChild.remove();
    if (name && !this.held) this.#mark(item, name);
  }

  // choose keeps a request chosen, though others come.
  choose(item, name) {
    this.held = item !== this.list.querySelector("li:has(.pick)");
    this.#mark(item, name);
  }

  #mark(item, name) {
    for (const other of this.list.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    item.setAttribute("aria-current", "true");
    const [who, what] = [item.querySelector(".who").textContent, item.querySelector("code").textContent];
    this.chosen(name, `${who}: ${what}`);
  }
}
