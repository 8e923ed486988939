// What a page without an SDK has to do: keep the anti-csrf header, send it back,
// and on 440 refresh once and repeat the request.

const key = "anti-csrf";
const refreshPath = "/auth/session/refresh";

// request sends one request and keeps the anti-csrf token of its answer. A redirect
// is not followed: it is the gate's way to the sign-in page, not an answer.
async function request(method, path, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("accept", "application/json");
  const token = localStorage.getItem(key);
  if (token) headers.set(key, token);
  const response = await fetch(path, { ...init, method, headers, redirect: "manual" });
  const fresh = response.headers.get(key);
  if (fresh) localStorage.setItem(key, fresh);
  return response;
}

// refresh asks for new tokens. One tab at a time: two would only get the same answer.
function refresh() {
  const send = async () => {
    const response = await request("POST", refreshPath);
    show("POST", refreshPath, response, {
      200: "New tokens are here.",
      409: "Another tab was faster; the session lives on.",
      440: "The session is over. Please sign in again.",
    });
    return response;
  };
  return navigator.locks ? navigator.locks.request("session-refresh", send) : send();
}

// call sends a request; on 440 it refreshes and repeats it, once.
async function call(method, path, sentences) {
  let response = await request(method, path);
  show(method, path, response, { 440: "The access token is no longer good: refresh, then repeat.", ...sentences });
  if (response.status !== 440) return response;
  const refreshed = await refresh();
  if (!refreshed.ok && refreshed.status !== 409) return refreshed;
  response = await request(method, path);
  show(method, path, response, { 440: "Still refused after the refresh.", ...sentences });
  return response;
}

// show adds a line for a request, newest first.
function show(method, path, response, sentences = {}) {
  const list = document.getElementById("requests");
  if (!list) return;
  const redirected = response.type === "opaqueredirect";
  const known = {
    200: "Done.",
    401: "Nobody is signed in.",
    403: "Not allowed.",
    429: "Too many requests. Wait a little.",
    503: "The gate cannot decide at the moment. Nothing is lost; try again.",
    ...sentences,
  };
  const line = document.createElement("li");
  const head = document.createElement("div");
  const status = document.createElement("span");
  status.className = response.ok ? "status good" : "status";
  status.textContent = redirected ? "redirect" : response.status;
  const what = document.createElement("code");
  what.textContent = `${method} ${path} `;
  head.append(what, status);
  const sentence = document.createElement("p");
  sentence.textContent = redirected
    ? "The session is over; the gate points to the sign-in page."
    : (known[response.status] ?? "An answer that this page does not expect.");
  line.append(head, sentence);
  list.prepend(line);
}

// failed adds a line for a request that got no answer.
function failed(method, path) {
  show(method, path, { status: "no answer" }, { "no answer": "The network failed. Try again." });
}

// during disables a button while its work runs.
async function during(button, method, path, work) {
  button.disabled = true;
  try {
    await work();
  } catch {
    failed(method, path);
  } finally {
    button.disabled = false;
  }
}

document.getElementById("call")?.addEventListener("click", (event) =>
  during(event.currentTarget, "GET", "/api/me", () =>
    call("GET", "/api/me", { 200: "The gate let it pass and told the API who asks." })));

document.getElementById("refresh")?.addEventListener("click", (event) =>
  during(event.currentTarget, "POST", refreshPath, refresh));

for (const id of ["signout", "everywhere"]) {
  const form = document.getElementById(id);
  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const path = new URL(form.action).pathname;
    during(form.querySelector("button"), "POST", path, async () => {
      const response = await call("POST", path);
      if (!response.ok) return;
      localStorage.removeItem(key);
      location.assign("/login");
    });
  });
}

// Signing in by script, because of a plain form's answer a page cannot read the
// anti-csrf header. Without scripts the form itself does it.
const login = document.getElementById("login");
login?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const note = document.getElementById("note");
  const button = login.querySelector("button");
  const say = (text) => {
    note.textContent = text;
    note.hidden = !text;
    button.disabled = false;
  };
  button.disabled = true;
  try {
    const response = await request("POST", "/login", {
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user: login.elements.user.value, return_to: login.elements.return_to.value }),
    });
    if (response.ok) {
      location.assign(login.elements.return_to.value);
      return;
    }
    const { message } = await response.json().catch(() => ({}));
    say(message ?? "Signing in does not work at the moment. Please try again.");
  } catch {
    say("The network failed. Please try again.");
  }
});
