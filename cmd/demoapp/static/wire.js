// What passed on the wire, as the network and the app tell: a page's script can read
// neither the cookies that it sends nor those that it gets. The tokens come shortened.

// named gives a request a name that no one can guess: it is asked for by that name.
export const named = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

const make = (tag, className, text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

export class Wire {
  #name = null;
  #curl = "";

  constructor({ shown, which, copied }, changed) {
    Object.assign(this, { shown, which, copied, changed });
  }

  // show asks for a request by its name, and shows it.
  async show(name, title) {
    this.#name = name;
    this.copied.textContent = "";
    const response = await fetch(`/stage/wire/${name}`, { cache: "no-store" }).catch(() => null);
    const passed = response?.ok ? await response.json() : null;
    if (this.#name !== name) return; // another one was chosen meanwhile
    this.which.textContent = title;
    this.#curl = (passed?.curl ?? "").replace("http://", `${location.protocol}//`); // where TLS ends before the network
    this.changed();
    if (!passed?.request) {
      this.shown.replaceChildren(make("p", "quiet", "Nothing is known of this request any more."));
      return;
    }
    this.shown.replaceChildren(
      this.#message("Sent", passed.request),
      passed.app ? this.#message("What the app received", passed.app) : this.#nothing(passed),
      this.#message(passed.lost ? "Answered, and lost on the way" : "Answered", passed.answer),
    );
  }

  #message(title, message) {
    const part = make("section", "message");
    part.append(make("h3", "", title));
    if (!message) {
      part.append(make("p", "quiet", "nothing yet"));
      return part;
    }
    const list = make("dl", "headers");
    for (const { name, value, by } of message.headers) {
      const row = make("div", by === "sessiongate" ? "ours" : "");
      const term = make("dt", "", `${name}:`);
      if (by) term.append(" ", make("span", "by", by));
      row.append(term, make("dd", "", value));
      list.append(row);
    }
    part.append(make("p", "line", message.line), list);
    return part;
  }

  #nothing({ request }) {
    const part = make("section", "message");
    const asked = request.line.includes("/auth/");
    part.append(make("h3", "", "What the app received"), make("p", "quiet", asked
      ? "Nothing. This path is sessiongate’s alone, so the app never sees a refresh token."
      : "Nothing. The request was answered before it got there."));
    return part;
  }

  get curl() {
    return this.#curl;
  }

  async copyCurl() {
    try {
      await navigator.clipboard.writeText(this.#curl);
      this.copied.textContent = "Copied. Set the variables in it to your own tokens: ACCESS_TOKEN, REFRESH_TOKEN, ANTI_CSRF.";
    } catch {
      // Without the right to the clipboard the command is shown, to be copied by hand.
      const command = make("pre", "command", this.#curl);
      command.tabIndex = 0;
      this.shown.append(command);
      getSelection().selectAllChildren(command);
      this.copied.textContent = "The browser does not let this page copy. The command is selected below: copy it.";
    }
  }
}
