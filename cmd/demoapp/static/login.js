// Signing in by script, because of a plain form's answer a page cannot read the
// anti-csrf header. Without scripts the form itself does it.

import { request, told } from "./gate.js";
import { Chain } from "./chain.js";

const form = document.getElementById("login");
const note = document.getElementById("note");
const button = form.querySelector("button");

function say(text) {
  note.textContent = text;
  note.hidden = !text;
  button.disabled = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    const response = await request("POST", "/login", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user: form.elements.user.value, return_to: form.elements.return_to.value }),
    });
    if (response.ok) {
      const session = told(response);
      if (session) Chain.signedIn(session);
      location.assign(form.elements.return_to.value);
      return;
    }
    const { message } = await response.json().catch(() => ({}));
    say(message ?? "Signing in does not work at the moment. Please try again.");
  } catch {
    say("The network failed. Please try again.");
  }
});
