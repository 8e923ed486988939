// Signing in by script, because of a plain form's answer a page cannot read the
// anti-csrf header. Without scripts the form itself does it.

import { request, told } from "./gate.js";
import { Chain } from "./chain.js";

const form = document.getElementById("login");
const note = document.getElementById("note");
const button = form.querySelector("button");
const story = document.getElementById("story");

function say(text) {
  note.textContent = text;
  note.hidden = !text;
  button.disabled = story.disabled = false;
}

async function signIn(user, next) {
  button.disabled = story.disabled = true;
  try {
    const response = await request("POST", "/login", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user, return_to: next }),
    });
    if (response.ok) {
      const session = told(response);
      if (session) Chain.signedIn(session);
      location.assign(next);
      return;
    }
    const { message } = await response.json().catch(() => ({}));
    say(message ?? "Signing in does not work at the moment. Please try again.");
  } catch {
    say("The network failed. Please try again.");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(form.elements.user.value, form.elements.return_to.value);
});

// The story begins with a sign-in of its own; this one is for the page that tells it.
story.addEventListener("click", () => signIn("ada", "/#story"));
story.hidden = false;
addEventListener("pageshow", () => say(note.textContent));
