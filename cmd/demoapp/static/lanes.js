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
    this.dot = element.querySelector(".dot");
    this.went = element.querySelector(".went");
    this.verdict = element.querySelector(".verdict");
    this.answer = element.querySelector(".answer");
  }

  show() {
    this.element.hidden = false;
  }

  // draw shows a request whose outcome is to come, and returns the outcome when it has
  // been drawn: { label, tone, status, at, lost }.
  async draw(request, coming) {
    const { dataset } = this.element;
    this.request.textContent = request;
    for (const name of ["tone", "at", "outcome", "lost"]) delete dataset[name];
    this.verdict.textContent = this.answer.textContent = "";
    this.#stopAt(stations.browser);
    dataset.under = "way";
    await this.#run(stations.browser, stations.gate, 480);
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

// Log lists what happened, newest first.
export class Log {
  constructor(list) {
    this.list = list;
  }

  add(who, request, { label, tone, status, text }) {
    const item = document.createElement("li");
    item.dataset.who = who;
    item.dataset.tone = tone;
    const part = (name, className, content) => {
      const element = document.createElement(name);
      element.className = className;
      element.textContent = content;
      return element;
    };
    const time = part("time", "", new Date().toLocaleTimeString("en-GB"));
    item.append(
      time,
      part("span", "who", who === "thief" ? "Thief" : "You"),
      part("code", "", request),
      part("span", "chip", status && String(status) !== label ? `${status} ${label}` : label),
      part("p", "", text),
    );
    this.list.prepend(item);
    while (this.list.children.length > kept) this.list.lastElementChild.remove();
  }
}
