// Keeps a page's session with sessiongate: see docs/frontends/single-page.md.

// Where storage is forbidden, this tab remembers by itself.
const memory = {};
const read = (key) => {
  try {
    return memory[key] ?? localStorage.getItem(key);
  } catch {
    return null;
  }
};
const write = (key, value) => {
  try {
    localStorage.setItem(key, value);
    delete memory[key];
  } catch {
    memory[key] = value;
  }
};

const sleep = (ms) => new Promise((resume) => setTimeout(resume, ms));
const within = (ms) => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
};

export function sessionFetch({ api, refresh = "/auth/session/refresh", expired = 440, limit = 5000, onSignedOut } = {}) {
  // Read now: a page may then put the wrapper in the place of window.fetch.
  const { fetch } = globalThis;
  // Asked at each call: the server that renders a page imports this too, and has no location.
  const here = () => globalThis.location?.origin;
  const home = () => (api ? new URL(api).origin : here());
  // The names of the lock and of the stamp are those of sessiongate's own page, which refreshes with us.
  const key = (name) => "sessiongate." + name + (home() === here() ? "" : " " + home());

  let told = false; // that nobody is signed in
  let refreshing = null;

  const signedOut = () => {
    write(key("anti-csrf"), "");
    if (!told && onSignedOut) queueMicrotask(onSignedOut);
    told = true;
  };

  const send = async (request) => {
    const token = read(key("anti-csrf"));
    if (token) {
      request.headers.set("anti-csrf", token);
      told = false;
    }
    const answer = await fetch(request);
    const next = answer.headers.get("anti-csrf");
    if (next) write(key("anti-csrf"), next);
    return answer;
  };

  // One tab refreshes at a time. One that hangs with the lock does not hold the others.
  const alone = async (work) => {
    try {
      return await navigator.locks.request(key("refresh"), { signal: within(2 * limit) }, work);
    } catch {
      return work(); // no Web Locks, or too long a wait; work itself does not throw
    }
  };

  // "renewed", "over", or after how many ms to ask again.
  const ask = async (before) => {
    if (read(key("refreshed")) !== before) return "renewed"; // by somebody, since the request was sent
    try {
      const answer = await send(new Request(home() + refresh, { method: "POST", credentials: "include", redirect: "error", signal: within(limit) }));
      if (answer.ok) write(key("refreshed"), String(Date.now()));
      if (answer.ok || answer.status === 409) return "renewed"; // 409: another client's answer counts
      if (answer.status === expired) return "over";
      return 1000 * (Number(answer.headers.get("retry-after")) || 1);
    } catch {
      return 1000;
    }
  };

  const renew = async (before) => {
    const said = await alone(() => ask(before));
    if (!(said <= 2 * limit)) return said; // also where the wait is too long for whoever waits here
    await sleep(said);
    return alone(() => ask(before));
  };

  return async (input, init) => {
    // On a server, where all users would share one memory, it is fetch and no more. Request reads an address as fetch does.
    if (!here() || new URL(new Request(input.url ?? input).url).origin !== home()) return fetch(input, init);
    // A redirect to a foreign origin would take the token along.
    const guard = home() === here() ? { mode: "same-origin" } : { redirect: "error" };
    const request = new Request(input, { ...init, ...guard, credentials: "include" });
    const again = init?.body instanceof ReadableStream ? null : request.clone();
    const before = read(key("refreshed"));
    let answer = await send(request);
    if (answer.status === expired) {
      refreshing ??= renew(before).finally(() => (refreshing = null));
      const aborted = new Promise((_, fail) => request.signal.addEventListener("abort", () => fail(request.signal.reason)));
      const said = await Promise.race([refreshing, aborted]);
      if (said === "over") signedOut();
      if (said !== "renewed" || !again) return answer;
      answer = await send(again);
    }
    if (answer.status === 401 && expired !== 401) signedOut();
    return answer;
  };
}
