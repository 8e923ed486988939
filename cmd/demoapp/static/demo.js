// The page of a signed-in user: it sends requests, draws where each was answered,
// and says why in a sentence. Rules (R1 to R8, V1 to V5) are named only where an
// answer shows which it was.

import { alone, antiCSRF, forgetAntiCSRF, hasAntiCSRF, refreshPath, request, told } from "./gate.js";
import { Lane, Log, bringIntoView } from "./lanes.js";
import { Chain, draw } from "./chain.js";

const $ = (id) => document.getElementById(id);
const { session, first, own, parent, expiresIn, attempt, thief: thiefCanBePlayed } = $("demo").dataset;
const grace = Number(attempt); // G in ms, 0 if not known
const every = 3000; // ms, of the timer
const [asks, askAgain] = [10, 200]; // times, ms: until all processes have heard of an end

const chain = new Chain(session);
const lanes = { you: new Lane($("lane-you")), thief: new Lane($("lane-thief")) };
const log = new Log($("log"));
let spoiled = false; // the access token, by this page
let thief = null; // its name
let thiefCalls = false; // it has an access token
let finished = false; // the session has ended, or is no longer this page's
let replaced = false; // the browser has another session than this page
let doubtful = false; // whether the session has ended or was replaced
let busy = false;

const seconds = (ms) => (Math.ceil(ms / 1000) === 1 ? "1 second" : `${Math.ceil(ms / 1000)} seconds`);

// --- What an answer means ---

const allow = (status, text) => ({ label: "ALLOW", tone: "good", at: "app", status, text });
const unavailable = (status) => ({
  label: "UNAVAILABLE", tone: "warn", at: "gate", status,
  text: "The gate cannot decide at the moment. That is no verdict: nothing is lost, try again.",
});
const noAnswer = () => ({ label: "no answer", tone: "warn", at: "browser", status: "", text: "The network failed: no answer came." });
const ended = (status) => ({
  label: "UNAUTHORISED", tone: "bad", at: "gate", status, end: true,
  text: "No session: it has ended, or this browser was signed out.",
});

// otherSession explains an answer about another session than this page's: another user has
// signed in since, in another tab. What it tells is not of this chain.
const otherSession = (status, at) => ({
  label: "not yours", tone: "bad", at, status, end: true, otherSession: true,
  text: "This browser is now signed in as another user.",
});

// ofCheck explains the answer to a request that Envoy has checked. allowed explains what
// the app said.
async function ofCheck(response, allowed) {
  const status = response.type === "opaqueredirect" ? 302 : response.status;
  const why = response.headers.get("x-sessiongate-denial"); // with responses.denial_header
  switch (status) {
    case 440:
      return {
        label: "TRY_REFRESH", tone: "warn", at: "gate", status,
        text: why === "anti_csrf"
          ? "The browser does not say which site sent this, so the check needs the anti-CSRF token. This page has none yet. A refresh brings one."
          : spoiled
            ? `The access token is not good (${why ?? "V1"}): expired or spoiled, the check says the same. Refresh, then repeat.`
            : `The access token is no longer good${why ? ` (${why})` : ""}: it expired, or lost to a sibling. Refresh, then repeat.`,
      };
    case 302:
    case 401:
      return ended(status);
    case 403:
      return { label: "FORBIDDEN", tone: "bad", at: "gate", status, text: `Not allowed${why ? ` (${why})` : ""}.` };
    case 503:
      return unavailable(status);
  }
  const said = await response.json().catch(() => ({}));
  if (said.handle && said.handle !== session) return otherSession(status, "app");
  if (!response.ok) {
    return { label: "ALLOW", tone: "warn", at: "app", status, text: said.message ?? "The check let it pass, but the app could not do it." };
  }
  return allow(status, allowed(said));
}

// fromApp is what the app tells of the access token that it was sent.
const fromApp = (seen) => seen && { own: seen.own, parent: seen.parent, expiresIn: seen.expires_in };

// use notes that an access token has passed, whatever it was sent for.
const use = (said) => said.chain && chain.used("you", fromApp(said.chain));

function ofMe(who, seen) {
  if (!seen) return "The check let it pass and told the app the user's identity.";
  const firstUse = chain.used(who, seen);
  const whose = who === "you" ? "your" : "the thief’s";
  if (firstUse) {
    return `Passed (V4). It was the first use of what the last refresh brought: ${whose} refresh token is now the current one, and the one before it is retired.`;
  }
  return "Passed: verified in memory, without a query. The app was told the user's identity.";
}

// ofRefresh explains the answer to a refresh: { status, told, error }.
function ofRefresh(who, { status, told: news, error }) {
  const you = who === "you";
  if (status === 200 && news?.parent) {
    const { known, lost } = chain.issued(who, news);
    const answer = { label: "new tokens", tone: "good", at: "gate", status };
    if (lost) {
      answer.text = "The same child that got lost (R5). The lost answer did no harm, and no one is signed out.";
    } else if (known) {
      answer.text = "The same child again (R5): it was issued moments ago and not used since.";
    } else if (you) {
      answer.text = "A child was generated (R4). Its parent stays current until the child is used, in case this answer had got lost.";
    } else {
      answer.text = "The copy was still the current token, so the thief was given a child of it (R4). This is no proof of theft yet: the owner may be on another network.";
    }
    return answer;
  }
  if (status === 200 && news) {
    const { state, sure } = chain.kept(who, news);
    const answer = { label: "access token", tone: "good", at: "gate", status };
    if (state === "child") {
      answer.text = "Your refresh token was a child. This is its first use, which makes it current; it stays, and a new access token came.";
      if (!you) answer.text = answer.text.replace("Your", "The thief’s");
    } else if (state === "current" && sure) {
      answer.text = "A new access token; the refresh token stays (R3). It became current only moments ago, and answers that were under way then may still arrive.";
    } else {
      answer.text = "A new access token; the refresh token stays, because it became current only moments ago.";
    }
    return answer;
  }
  switch (status) {
    case 409:
      return {
        label: "superseded", tone: "warn", at: "gate", status,
        text: you
          ? "Another client’s refresh was faster, moments ago. No token, no alarm: the session lives, but another client holds its current token."
          : "Too early to judge. It could be the owner on a second network, so there is no token and no alarm; the session lives.",
      };
    case 503:
    case 429:
      return unavailable(status);
  }
  if (error === "token theft detected") {
    return {
      label: "THEFT", tone: "bad", at: "gate", status, end: true, theft: true,
      text: you
        ? "Theft (R8). Your retired refresh token was reused, so another client has a copy of it. sessiongate ends the session, for both."
        : "Theft (R8). The copy is retired, and an honest browser would not reuse it. sessiongate ends the session, for both.",
    };
  }
  if (error) return { label: "ended", tone: "bad", at: "gate", status, end: true, text: "The session has ended. Its tokens are worth nothing now." };
  return { label: String(status), tone: "warn", at: "gate", status, text: "An answer that this page does not expect." };
}

// --- Sending, drawing, telling ---

// follow draws a request whose answer is being explained, then tells what happened.
async function follow(who, what, explaining, { quiet = false } = {}) {
  const event = await lanes[who].draw(what, explaining.catch(noAnswer));
  log.add(who, what, event);
  tell(event, quiet);
  if (!event.otherSession) chain.save();
  render();
  return event;
}

// tell says what happened. A call by the timer that changes nothing is not announced.
function tell({ text, tone }, quiet = false) {
  if (document.activeElement === $("wait")) $("refresh").focus({ preventScroll: true });
  $("wait").hidden = true;
  if (quiet) return;
  $("event").textContent = text;
  $("event").dataset.tone = tone;
}

// playing asks the app to break something, of this page's session alone.
const page = { headers: { "content-type": "application/json" }, body: JSON.stringify({ handle: session }) };
const playing = (path) => request("POST", path, page);

// call sends a request; on 440 it refreshes and repeats it, once.
async function call(method, path, { allowed, quiet, init } = {}) {
  const what = `${method} ${path}`;
  const send = async () => ofCheck(await request(method, path, init), allowed ?? (() => "The check let it pass."));
  let event = await follow("you", what, send(), { quiet });
  if (event.status === 440) {
    const refreshed = await refresh();
    if (refreshed.status !== 200 && refreshed.status !== 409) return refreshed;
    event = await follow("you", what, send());
  }
  if (event.end) await finish(event);
  return event;
}

const callMe = (options) =>
  call("GET", "/api/me", { allowed: (said) => ofMe("you", fromApp(said.chain)), ...options });

async function readRefresh(response) {
  const { error } = await response.json().catch(() => ({}));
  const news = told(response);
  if (news && news.session !== session) return otherSession(response.status, "gate");
  const event = ofRefresh("you", { status: response.status, told: news, error });
  if (response.ok) spoiled = false;
  return event;
}

async function refresh() {
  const event = await alone(() => follow("you", `POST ${refreshPath}`, request("POST", refreshPath).then(readRefresh)));
  if (event.end) await finish(event);
  return event;
}

// lose plays a bad network. A page cannot stop an answer whose headers are there, so
// the app puts back the cookies from before: to sessiongate there is no difference. It
// knows those of the sign-in alone. And it must not be asked with the new access token,
// for that would be the use of the child: it gives a ticket first, and takes it at the
// sign-in's address, which is not checked.
async function lose({ again: repeated = false } = {}) {
  if (chain.held.you !== first || chain.current !== first) {
    tell({ tone: "warn", text: "The app can put back the refresh token of your sign-in and no other, and that token is retired. To play this again, sign out and in." });
    return;
  }
  let ticket;
  const given = await ofCheck(await playing("/api/again"), (said) => (ticket = said.again));
  if (given.status === 440) {
    // Within the grace a refresh leaves the chain as it is (R3); after the grace, it generates a child.
    if (!repeated && chain.grace(grace)) {
      if ((await refresh()).status === 200) await lose({ again: true });
      return;
    }
    tell({ tone: "warn", text: "This needs a good access token, and the refresh that brings one generates a child. Sign out and in to play this." });
    return;
  }
  if (!ticket) {
    tell(given);
    if (given.end) await finish(given);
    return;
  }
  const losing = async () => {
    const response = await request("POST", refreshPath);
    const news = response.ok ? told(response) : null;
    if (!news || news.session !== session) return readRefresh(response);
    const lost = { label: "new tokens", tone: "warn", at: "gate", status: response.status, lost: true };
    if (!news.parent) {
      chain.kept("you", news);
      return {
        ...lost, label: "access token", tone: "good", lost: false, young: true,
        text: "There is nothing to lose yet: you signed in only moments ago, so the refresh token stays (R3).",
      };
    }
    const headers = { "content-type": "application/json" };
    const back = await request("POST", "/login", { headers, body: JSON.stringify({ again: ticket }) });
    if (!back.ok) {
      chain.issued("you", news);
      return { ...lost, lost: false, text: "A child was generated, but the app could not put the old cookies back: nothing got lost." };
    }
    spoiled = false;
    return {
      ...lost,
      text: chain.lost(news)
        ? "The same child (R5), and the app has put the old cookies back once more. The child still waits. Refresh now."
        : "A child was generated (R4). Then the app put the old cookies back, as if the answer had got lost: no client has the child. Refresh now.",
    };
  };
  const event = await alone(() => follow("you", `POST ${refreshPath}`, losing()));
  if (event.end) await finish(event);
  if (event.young && chain.grace(grace)) $("wait").hidden = false;
}

// --- The thief ---

async function command(what) {
  // Without cookies: what the thief does must not depend on the owner's access token,
  // and once the thief is caught the owner has none.
  const response = await fetch(`/optional/thief/${what}`, {
    method: "POST", credentials: "omit", body: JSON.stringify({ thief }), headers: { "content-type": "application/json" },
  });
  if (!response.ok) throw new Error("no answer");
  return response.json();
}

async function openThief() {
  const text = "A thief has copied the refresh token that was issued to you at sign-in. Who refreshes first?";
  const allowed = (said) => {
    ({ thief } = said);
    use(said);
    return text;
  };
  await call("POST", "/api/thief", { init: page, allowed });
  if (!thief) return;
  chain.held.thief = first;
  lanes.thief.show();
  for (const id of ["thief-refresh", "thief-call", "thief-how"]) $(id).hidden = false;
  $("thief-refresh").focus({ preventScroll: true });
  $("thief-open").hidden = true;
  tell({ tone: "bad", text });
  chain.save();
  render();
}

async function thiefRefresh() {
  const explaining = command("refresh").then(({ status, error, chain: seen }) => {
    if (status === 200) thiefCalls = true;
    return ofRefresh("thief", { status, told: fromApp(seen), error });
  });
  const event = await follow("thief", `POST ${refreshPath}`, explaining);
  if (event.end) await finish(event, "thief");
}

async function thiefCall() {
  const explaining = command("call").then(({ status, chain: seen }) => {
    switch (status) {
      case 200:
        return allow(status, ofMe("thief", fromApp(seen)));
      case 440:
        return { label: "TRY_REFRESH", tone: "warn", at: "gate", status, text: "The thief’s access token lost to yours, or expired. The thief would have to refresh." };
      case 401:
        return { ...ended(status), text: "The thief is out, too: the stolen access token names a session that has ended." };
    }
    return unavailable(status);
  });
  return follow("thief", "GET /api/me", explaining);
}

// --- The end ---

// finish shows that the session has ended, also to the one of the two that has not asked.
async function finish({ theft = false, otherSession: other = false }, who = "you") {
  if (finished) return;
  finished = true;
  replaced = other;
  if (theft && who === "thief") {
    const hears = async () => {
      const event = await ofCheck(await request("GET", "/api/me"), () => "Passed once more: this process has not heard of it yet. All have within a second.");
      return event.end && !event.otherSession ? { ...event, text: "You are out, too: your access token names a session that has ended." } : event;
    };
    for (let n = 0; n < asks; n++) {
      const event = await follow("you", "GET /api/me", hears());
      replaced ||= Boolean(event.otherSession);
      // A spoiled or expired access token says nothing of its session.
      if (event.status === 440) {
        const refreshed = await follow("you", `POST ${refreshPath}`, request("POST", refreshPath).then(readRefresh));
        replaced ||= Boolean(refreshed.otherSession);
      }
      if (event.label !== "ALLOW") break;
      await later(askAgain);
    }
  }
  if (theft && who === "you" && thiefCalls) {
    for (let n = 0; n < asks && (await thiefCall()).label === "ALLOW"; n++) await later(askAgain);
  }
  if (!replaced) forgetAntiCSRF(); // else it belongs to the other session
  $("timer").checked = false;
  $("timer").disabled = true;
  $("ended-title").textContent = theft ? "Caught. The session has ended, for you and for the thief." : "Your session has ended.";
  $("ended-text").textContent = theft
    ? "sessiongate cannot know which of the two is you, so both have to sign in again. Only you can."
    : "You signed out, here or elsewhere, or its time was up.";
  if (other) {
    $("ended-title").textContent = "This browser is now signed in as another user.";
    $("ended-text").textContent = "Another tab has begun a new session. This page knows nothing of it until it is loaded again.";
    $("ended-link").textContent = "Reload";
    $("ended-link").href = "/";
  }
  $("ended").hidden = false;
  $("ended-link").focus();
  render();
}

async function signOut(form) {
  const path = form.id === "signout" ? "/auth/signout" : "/logout-everywhere";
  const signedOut = async () => {
    if (form.id === "everywhere") {
      return call("POST", path, { allowed: () => "The app had sessiongate end every session of yours." });
    }
    const send = async () => {
      const { status } = await request("POST", path);
      return status === 200
        ? { label: "signed out", tone: "good", at: "gate", status, text: "The session is ended, and a copy of its tokens is worth nothing." }
        : unavailable(status);
    };
    return follow("you", `POST ${path}`, send());
  };
  const event = await signedOut();
  if (event.status !== 200) return;
  forgetAntiCSRF();
  location.assign("/login");
}

// --- The page ---

const later = (ms) => new Promise((done) => setTimeout(done, ms));

const actions = {
  call: () => callMe(),
  refresh,
  expire: async () => {
    const event = await call("POST", "/api/expire", {
      init: page,
      allowed: (said) => {
        use(said);
        return "The app replaced the cookie by one that is no token. It cannot make an expired one; to the check, spoiled and expired are the same.";
      },
    });
    spoiled = event.label === "ALLOW" && event.tone === "good";
    render();
  },
  lose,
  wait: async () => {
    for (let left; (left = chain.grace(grace)); await later(Math.min(left, 250))) {
      $("wait").textContent = `Losing it again in ${seconds(left)}`;
    }
    await lose();
  },
  "thief-open": openThief,
  "thief-refresh": thiefRefresh,
  "thief-call": thiefCall,
};

// during lets one action run at a time. Buttons stay focusable meanwhile.
async function during(work) {
  if (busy) return;
  busy = true;
  render();
  try {
    await work();
    while (doubtful && !finished) {
      doubtful = false;
      await callMe({ quiet: true });
    }
  } catch {
    tell(noAnswer());
  } finally {
    busy = false;
    render();
  }
}

for (const [id, action] of Object.entries(actions)) {
  $(id).addEventListener("click", () => {
    if (off(id)) return;
    bringIntoView($("stage"));
    during(action);
  });
}
for (const id of ["signout", "everywhere"]) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    if (!finished) during(() => signOut(event.target));
  });
}

setInterval(() => {
  if ($("timer").checked && !busy && !finished && !document.hidden) during(() => callMe({ quiet: true }));
}, every);

const off = (id) => busy || finished || (id === "thief-call" && !thiefCalls);

function render() {
  for (const id of Object.keys(actions)) $(id).setAttribute("aria-disabled", off(id));
  for (const id of ["signout", "everywhere"]) $(id).querySelector("button").setAttribute("aria-disabled", busy || finished);
  $("demo").dataset.busy = busy;
  draw(chain, $("chain"), finished && !replaced);
  $("chain").dataset.ended = finished;
  tick();
}

// hint says what the copy is worth.
function hint() {
  if (finished) return "";
  const holds = chain.token(chain.held.thief);
  switch (chain.state(holds)) {
    case "current":
      return chain.held.you === chain.held.thief
        ? "You both hold the current token. Let the thief refresh and call first, or refresh and call yourself: the second to refresh reuses a retired token."
        : "The thief holds the current token. Nothing tells, until you refresh: then your retired token is the one that is reused.";
    case "child":
      return "The thief holds a child that was not used yet. If the thief calls the API with it, it becomes current and yours is retired.";
    case "retired":
      // The grace is that of the token just before the current one (R7).
      return holds.hash === chain.token(chain.current)?.parent && chain.grace(grace) !== 0
        ? "The thief’s token is retired. After the grace, reusing it is theft. Before that it might be an honest late request, and is refused without alarm."
        : "The thief’s token is retired: reusing it is theft.";
    case "superseded":
      return "The thief’s child lost to its sibling and is retired: reusing it is theft.";
    default:
      return "Let the thief refresh.";
  }
}

// wouldDo says what a refresh would do to the refresh token, "" if that is unknown to this
// page to know.
function wouldDo(young) {
  const state = chain.state(chain.token(chain.held.you));
  if (young === null) return "";
  if (state === "child") return "uses the child";
  if (state !== "current") return "";
  if (young > 0) return `keeps the token (${Math.ceil(young / 1000)} s)`;
  const child = chain.tokens.findLast((token) => chain.state(token) === "child");
  if (child && child.hash === chain.held.thief) return "";
  return child ? "repeats the child" : "generates a child";
}

// tick shows what goes with time.
function tick() {
  if (thief) $("thief-how").textContent = hint();
  const left = (chain.accessEnds ?? 0) - Date.now();
  $("access").textContent = finished || chain.accessEnds === null
    ? "none"
    : spoiled
      ? "spoiled by you"
      : left <= 0
        ? "expired"
        : left > 120_000
          ? `good for ${Math.floor(left / 60_000)} minutes`
          : `good for ${seconds(left)}`;
  const young = chain.grace(grace);
  const would = wouldDo(young);
  $("grace").closest("div").hidden = !would || finished;
  $("grace").textContent = would;
  if (!busy) $("wait").textContent = young ? `Wait ${seconds(young)}, then lose it again` : "Lose it again";
}

// The page itself passed the check: its navigation is the first request to draw. It may
// have come by way of the page that a 440 shows, which refreshes and reloads.
function begin() {
  chain.begin();
  if (first && !chain.token(first)) {
    if (!parent || parent === first) chain.tokens.unshift({ hash: first, sure: false });
  }
  const before = chain.held.you;
  const seen = own ? { own, parent, expiresIn: Number(expiresIn) } : null;
  const passed = seen ? ofMe("you", seen) : "Passed.";
  const renewed = before && seen && before !== own;
  follow("you", "GET /", Promise.resolve(allow(200, renewed ? `Refreshed on the way, by the page that a 440 shows. ${passed}` : passed)));
}

delete chain.held.thief;
$("thief-open").hidden = !thiefCanBePlayed;
$("thief-group").hidden = !thiefCanBePlayed;
$("deck").hidden = false;
addEventListener("storage", ({ key }) => {
  const { thief: thiefs } = chain.held;
  chain.load();
  if (thiefs) chain.held.thief = thiefs;
  render();
  // Another tab has signed out, or another user in.
  if (finished || !(chain.replaced() || (key === antiCSRF && !hasAntiCSRF()))) return;
  doubtful = true;
  if (!busy) during(() => {});
});
setInterval(tick, 500);
render();
begin();
