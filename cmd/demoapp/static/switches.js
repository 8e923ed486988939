// The switches that kill a part of the demo and bring it back. They show what is, not what
// was asked for.

const said = { on: "is running", off: "was killed", starting: "is starting" };
const again = 700; // ms, while something is starting

export class Switches {
  #reasons = {};
  #states = {};

  constructor(parts, changed) {
    this.parts = parts; // by name: { input, state }
    this.changed = changed;
  }

  // reason is why a part cannot be switched, "" if it can.
  reason(name) {
    return this.#reasons[name] ?? "";
  }

  state(name) {
    return this.#states[name] ?? "";
  }

  // look asks what is, and again for as long as something is starting.
  async look() {
    const response = await fetch("/stage/switches", { cache: "no-store" }).catch(() => null);
    const all = response?.ok ? await response.json().catch(() => []) : [];
    for (const name of Object.keys(this.parts)) {
      const { state = "", reason = "" } = all.find((part) => part.name === name) ?? { reason: "The demo does not answer." };
      this.#reasons[name] = reason;
      this.#show(name, state);
    }
    if (all.some(({ state }) => state === "starting")) setTimeout(() => this.look(), again);
  }

  #show(name, state) {
    this.#states[name] = state;
    const { state: text } = this.parts[name];
    text.textContent = said[state] ?? "";
    text.dataset.state = state;
    this.draw();
    this.changed();
  }

  // draw sets each switch to what is.
  draw() {
    for (const [name, { input }] of Object.entries(this.parts)) input.checked = this.#states[name] !== "off";
  }

  // turn switches a part, and returns why it could not.
  async turn(name, on, page) {
    this.#show(name, on ? "starting" : "off");
    const response = await fetch(`/stage/switches/${name}`, {
      method: "POST", body: JSON.stringify({ ...page, on }), headers: { "content-type": "application/json" },
    }).catch(() => null);
    const { message } = response?.ok ? {} : ((await response?.json().catch(() => null)) ?? { message: "The demo does not answer." });
    await this.look();
    return message ?? "";
  }
}
