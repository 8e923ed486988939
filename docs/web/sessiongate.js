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
// Not AbortSignal.timeout: older browsers have Web Locks without it.
const within = (ms) => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
};

export function sessionFetch({
  api,
  refresh = "/auth/session/refresh",
  expired = 440,
  limit = 5000,
  onSignedOut,
} = {}) {
  // Read now: a page may then put the wrapper in the place of window.fetch.
  const { fetch } = globalThis;
  // Asked at each call: the server that renders a page imports this too, and has no location.
  const here = () => globalThis.location?.origin;
  const home = () => (api ? new URL(api).origin : here());
  // A redirect to another origin would take the token along.
  const guard = () => (home() === here() ? { mode: "same-origin" } : { redirect: "error" });
  // Names of a lock and of items in storage, one set for each API. Those of the page's own origin
  // are used by the page that sessiongate answers 440 with, too.
  const key = (name) => "sessiongate." + name + (home() === here() ? "" : " " + home());

  let told = false; // that no one is signed in
  let refreshing = null; // for all calls of this tab

  const signedOut = () => {
    write(key("anti-csrf"), "");
    if (!told && onSignedOut) queueMicrotask(onSignedOut);
    told = true;
  };

  const send = async (request) => {
    const token = read(key("anti-csrf"));
    if (token) request.headers.set("anti-csrf", token);
    const answer = await fetch(request);
    if (answer.ok) told = false;
    const next = answer.headers.get("anti-csrf");
    if (next) write(key("anti-csrf"), next);
    return answer;
  };

  // One tab refreshes at a time. One that hangs with the lock does not hold the others for ever.
  const alone = async (work) => {
    try {
      return await new Promise((resume, fail) => {
        const held = async () => {
          const before = read(key("refreshed"));
          resume(await work());
          // Tabs are processes: the next one gets the lock sooner than it sees the stamp.
          if (read(key("refreshed")) !== before) await sleep(200);
        };
        const signal = within(2 * limit);
        navigator.locks.request(key("refresh"), { signal }, held).catch(fail);
      });
    } catch {
      return work(); // no Web Locks, or too long a wait; work itself does not throw
    }
  };

  // "renewed", "ended", or after how many ms to ask again.
  const ask = async (before) => {
    if (read(key("refreshed")) !== before) return "renewed"; // by another tab or call, since this one was sent
    try {
      const address = home() + refresh;
      const options = { ...guard(), method: "POST", credentials: "include", signal: within(limit) };
      const answer = await send(new Request(address, options));
      // A session that is bound to a device is sent to prove, at the same path. Any other redirect
      // is no answer.
      if (answer.redirected && !answer.url.startsWith(address)) return 1000;
      if (answer.ok) write(key("refreshed"), String(Date.now()));
      if (answer.ok || answer.status === 409) return "renewed"; // 409: another's answer counts
      if (answer.status === expired) return "ended";
      return 1000 * (Number(answer.headers.get("retry-after")) || 1);
    } catch {
      return 1000;
    }
  };

  const renew = async (before) => {
    const said = await alone(() => ask(before));
    if (!(said <= 2 * limit)) return said; // words, and a wait that is too long for a person
    await sleep(said);
    return alone(() => ask(before));
  };

  return async (input, init) => {
    // On a server all users would share one memory: there it is fetch, and no more. And no other
    // origin gets the token. Request resolves an address as fetch does.
    const address = input instanceof Request ? input.url : input;
    const origin = () => new URL(new Request(address).url).origin;
    if (!here() || origin() !== home()) return fetch(input, init);
    const request = new Request(input, { ...init, ...guard(), credentials: "include" });
    // A stream can be sent once. Everything else is copied without being read.
    const again = init?.body instanceof ReadableStream ? null : request.clone();
    const before = read(key("refreshed"));
    let answer = await send(request);
    if (answer.status === expired) {
      refreshing ??= renew(before).finally(() => (refreshing = null));
      const { signal } = request;
      const aborted = new Promise((_, fail) => {
        signal.addEventListener("abort", () => fail(signal.reason));
      });
      const said = await Promise.race([refreshing, aborted]);
      if (said === "ended") signedOut();
      if (said !== "renewed" || !again) return answer;
      answer = await send(again);
    }
    if (answer.status === 401 && expired !== 401) signedOut();
    return answer;
  };
}
