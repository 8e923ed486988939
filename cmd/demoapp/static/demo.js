// The page of a signed-in user: it sends requests, has them drawn where each was answered,
// and tells what happened in a sentence. What belongs to the stage (spoiling a token,
// copying one, losing an answer, killing a process) is told as the stage's, never as a
// request of the user.

import { alone, antiCSRF, forgetAntiCSRF, hasAntiCSRF, read, refreshPath, request, told } from "./gate.js";
import { allow, ended, noAnswer, ofCheck, ofCopy, ofLaptop, ofLoss, ofMe, ofRefresh, ofSignOut, ofTabs, otherSession, unavailable } from "./answers.js";
import { Lane, Log, bringIntoView } from "./lanes.js";
import { Player, chapters } from "./story.js";
import { Switches } from "./switches.js";
import { Wire, named } from "./wire.js";
import { Chain } from "./chain.js";
import { Tokens } from "./tokens.js";

const $ = (id) => document.getElementById(id);
const { own, parent, expiresIn, bound: provenNow, attempt, network } = $("demo").dataset;
const grace = Number(attempt); // G in ms, 0 if not known
const every = 3000; // ms, of the timer
const [asks, askAgain] = [10, 200]; // times, ms: until all processes have heard of an end
const manyTabs = 20;

let { session, first, proof } = $("demo").dataset;
let chain = new Chain(session);
let spoiled = false; // the access token, by this page
let thief = null; // its name
let thiefCalls = false; // it has an access token
let laptop = null; // its name
let robber = null; // the name of the laptop's thief
let finished = false; // the session has ended, or is no longer this page's
let replaced = false; // the browser has another session than this page
let doubtful = false; // whether the session has ended or was replaced
let busy = false;
let saidWeight = 0; // of the sentence that is shown, among those of one action

const lanes = { you: new Lane($("lane-you")), thief: new Lane($("lane-thief")), laptop: new Lane($("lane-laptop")) };
const tokens = new Tokens($("hero").querySelector(".links"));
const wire = new Wire({ shown: $("wire-shown"), which: $("wire-which"), copied: $("copied") }, () => render());
const log = new Log($("log"), (name, title) => wire.show(name, title));
const powered = ["postgres", "replica"];
const switches = new Switches(
  Object.fromEntries(powered.map((name) => [name, { input: $(`power-${name}`), state: $(`state-${name}`) }])),
  () => render(),
);

const seconds = (ms) => (Math.ceil(ms / 1000) === 1 ? "1 second" : `${Math.ceil(ms / 1000)} seconds`);
const later = (ms) => new Promise((done) => setTimeout(done, ms));

// --- Sending, drawing, telling ---

// send is a request of the user, under a name on the wire.
function send(method, path, init = {}) {
  const name = proof ? named() : ""; // without the network nothing is told of it
  const headers = new Headers(init.headers);
  if (name) headers.set("x-stage-request", name);
  return { name, answer: request(method, path, { ...init, headers }) };
}

// follow draws a request whose answer is being explained, then tells what happened.
async function follow(who, what, explaining, { quiet = false, name, many } = {}) {
  $("demo").dataset.acting = who;
  const event = await lanes[who].draw(what, explaining.catch(noAnswer), many);
  log.add(who, many > 1 ? `${what} ×${many}` : what, event, name);
  tell(event, quiet);
  if (!event.otherSession) chain.save();
  render();
  return event;
}

// acted tells what the stage did.
function acted(what, text, tone = "") {
  log.add("stage", what, { tone, text });
  tell({ text, tone });
  render();
}

// tell says what happened. Of one action the sentence that matters most stays, though less
// important answers follow it. A call by the timer that changes nothing is not announced.
function tell({ text, tone, weight = 1 }, quiet = false) {
  if (document.activeElement === $("wait")) $("refresh").focus({ preventScroll: true });
  $("wait").hidden = true;
  if (quiet || weight < saidWeight) return;
  saidWeight = weight;
  $("event").textContent = text;
  $("event").dataset.tone = tone;
}

// sendChecked sends a request that Envoy checks, and explains the answer.
function sendChecked(method, path, { allowed = () => "The check let it pass.", quiet, init } = {}) {
  const { name, answer } = send(method, path, init);
  return follow("you", `${method} ${path}`, answer.then((response) => ofCheck(response, { session, spoiled, allowed })), { quiet, name });
}

// call sends a request; on 440 it refreshes and repeats it, once.
async function call(method, path, options) {
  let event = await sendChecked(method, path, options);
  if (event.status === 440) {
    const refreshed = await refresh();
    if (refreshed.status !== 200 && refreshed.status !== 409) return refreshed;
    event = await sendChecked(method, path, { ...options, quiet: false });
  }
  if (event.end) await finish(event);
  return event;
}

// fromApp is what the app tells of the access token that it was sent.
const fromApp = (seen) => seen && { own: seen.own, parent: seen.parent, bound: Boolean(seen.bound), expiresIn: seen.expires_in };

// me is a call whose answer tells what the app was told.
async function me(how, options = {}) {
  let meaning = {};
  const allowed = (said) => (meaning = ofMe(chain, "you", fromApp(said.chain))).text;
  const weighed = async (response) => {
    const event = await ofCheck(response, { session, spoiled, allowed });
    return { ...event, weight: meaning.weight ?? event.weight };
  };
  const { name, answer } = send("GET", "/api/me");
  return follow("you", "GET /api/me", answer.then(how ? (response) => how(weighed, response) : weighed), { ...options, name });
}

async function callMe(options) {
  let event = await me(null, options);
  if (event.status === 440) {
    const refreshed = await refresh();
    if (refreshed.status !== 200 && refreshed.status !== 409) return refreshed;
    event = await me();
  }
  if (event.end) await finish(event);
  return event;
}

async function refreshed(response) {
  const { error } = await response.json().catch(() => ({}));
  const news = told(response);
  const denial = response.headers.get("x-sessiongate-denial");
  return { status: response.status, told: news, error, denial, redirected: response.redirected, other: Boolean(news) && news.session !== session, ok: response.ok };
}

async function readRefresh(response) {
  const answer = await refreshed(response);
  if (answer.other) return otherSession(answer.status, "gate");
  if (answer.ok) spoiled = false;
  return ofRefresh(chain, "you", answer);
}

const sendRefresh = () => {
  const { name, answer } = send("POST", refreshPath);
  return follow("you", `POST ${refreshPath}`, answer.then(readRefresh), { name });
};

async function refresh() {
  const event = await alone(sendRefresh);
  if (event.end) await finish(event);
  return event;
}

// refreshMany is what a browser does that has many tabs, and no lock between them.
async function refreshMany() {
  const all = Array.from({ length: manyTabs }, () => send("POST", refreshPath));
  const explaining = Promise.all(all.map(({ answer }) => answer.then(refreshed))).then((answers) => {
    if (answers.some(({ other }) => other)) return otherSession(200, "gate");
    if (answers.some(({ ok }) => ok)) spoiled = false;
    return ofTabs(chain, answers);
  });
  const event = await alone(() => follow("you", `POST ${refreshPath}`, explaining, { name: all[0].name, many: manyTabs }));
  if (event.end) await finish(event);
  return event;
}

// lose has the network lose the answer of a refresh: the browser gets a gateway's timeout
// instead, and its cookies stay as they are.
async function lose() {
  const losing = async (response) => {
    if (response.status !== 504) return readRefresh(response);
    const { lost: status, front_token: front } = await response.json().catch(() => ({}));
    if (!status) return unavailable(504);
    const news = read(front);
    if (news && news.session !== session) return otherSession(status, "gate");
    if (news?.bound) spoiled = false; // the proof has brought another one
    return ofLoss(chain, status, news);
  };
  const event = await alone(() => {
    const { name, answer } = send("POST", refreshPath, { headers: { "x-stage-lose": "1" } });
    return follow("you", `POST ${refreshPath}`, answer.then(losing), { name });
  });
  if (event.end) await finish(event);
  if (event.young && chain.grace(grace)) $("wait").hidden = false;
  return event;
}

// --- The stage ---

// play asks the stage to break something, of this page's session alone.
async function play(path) {
  const response = await fetch(path, { method: "POST", body: JSON.stringify({ handle: session, proof }), headers: { "content-type": "application/json" } });
  const said = await response.json().catch(() => ({}));
  if (response.ok) return said;
  if (said.handle) {
    const event = otherSession(response.status, "gate");
    tell(event);
    await finish(event);
  } else {
    tell({ tone: "warn", weight: 3, text: said.message ?? "The stage could not do it." });
  }
  return null;
}

async function expire() {
  if (!(await play("/stage/expire"))) return;
  spoiled = true;
  acted("expire the access token", "The stage replaced your access token by a text that is none. It cannot make one that expired; to the check, spoiled and expired are the same.", "warn");
}

async function openThief() {
  const said = await play("/stage/thief");
  if (!said) return;
  ({ thief } = said);
  chain.held.thief = first;
  lanes.thief.say("has a copy of the refresh token of your sign-in");
  $("demo").dataset.acting = "thief";
  chain.save();
  const worth = chain.bound ? "It is worth nothing without your browser’s key: let the thief refresh." : "Who refreshes first?";
  acted("copy the refresh token", `A thief has copied the refresh token that was issued to you at sign-in. ${worth}`, "bad");
}

// command has an actor send a request. Without cookies: what the thief does must not
// depend on the owner's, and once the thief is caught the owner has none.
async function command(what, actor, name) {
  const response = await fetch(`/stage/${what}`, {
    method: "POST", credentials: "omit", body: JSON.stringify({ actor, request: name }), headers: { "content-type": "application/json" },
  });
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(said.message ?? "no answer");
  return said;
}

async function thiefRefresh() {
  const name = named();
  const explaining = command("thief/refresh", thief, name).then(({ status, error, denial, chain: seen }) => {
    if (status === 200) thiefCalls = true;
    return ofRefresh(chain, "thief", { status, told: fromApp(seen), error, denial });
  });
  const event = await follow("thief", `POST ${refreshPath}`, explaining, { name });
  if (event.end) await finish(event, "thief");
  if (event.lostKey) {
    thief = null; // its copy is gone; it may steal another
    delete chain.held.thief;
    render();
  }
  return event;
}

async function thiefCall() {
  const name = named();
  const explaining = command("thief/call", thief, name).then(({ status, chain: seen }) => {
    switch (status) {
      case 200: {
        const { text, weight } = ofMe(chain, "thief", fromApp(seen));
        return { ...allow(status, text), ...(weight && { weight }) };
      }
      case 440:
        return { label: "TRY_REFRESH", tone: "warn", at: "gate", status, text: "The thief’s access token lost to yours, or expired. The thief would have to refresh." };
      case 401:
        return { ...ended(status), text: "The thief is out, too: the stolen access token names a session that has ended." };
    }
    return unavailable(status);
  });
  return follow("thief", "GET /api/me", explaining, { name });
}

// --- A bound session: the app plays a laptop that can ---

const laptopPaths = { signin: "/login", bind: "/auth/session/bind", prove: "/auth/session/bound" };

async function openLaptop() {
  const said = await play("/stage/laptop");
  if (!said) return false;
  ({ laptop } = said);
  robber = null;
  $("demo").dataset.scene = "bound";
  return true;
}

function laptopDoes(what) {
  const name = named();
  const explaining = command(`laptop/${what}`, laptop, name).then((said) => ofLaptop(what, said));
  return follow("laptop", `POST ${laptopPaths[what]}`, explaining, { name });
}

// steal gives a thief every cookie of the laptop. It is not the thief who may have a copy of
// this page's refresh token.
async function steal() {
  ({ thief: robber } = await command("laptop/steal", laptop));
  lanes.thief.say("has a copy of every cookie of the laptop");
  $("demo").dataset.acting = "thief";
  acted("copy every cookie of the laptop", "A thief has copied all cookies of the laptop: access token, refresh token, all.", "bad");
}

function robberCall() {
  const name = named();
  return follow("thief", "GET /api/me", command("thief/call", robber, name).then(ofCopy), { name });
}

function robberOutlives() {
  const name = named();
  const explaining = command("thief/outlive", robber, name).then((said) => ofRefresh(chain, "thief", said));
  return follow("thief", `POST ${refreshPath}`, explaining, { name });
}

// bound plays it all: what a thief gets who has every cookie of a bound session.
async function bound() {
  if (!(await openLaptop())) return;
  for (const what of ["signin", "bind", "prove"]) if ((await laptopDoes(what)).status !== 200) return;
  await steal();
  await robberCall();
  acted("let the copied access token end", "The stage threw the thief’s copy of the access token away, as if its 10 minutes had passed.", "warn");
  await robberOutlives();
  await laptopDoes("prove");
}

const parts = { postgres: "Postgres", replica: "replica 1" };

// power kills a part, or brings it back.
async function power(name, on) {
  const failed = await switches.turn(name, on, { handle: session, proof });
  if (failed) {
    tell({ tone: "warn", weight: 3, text: failed });
    return false;
  }
  const text = {
    postgres: on ? "Postgres is back. Nothing has to be restarted." : "Postgres was killed. Requests pass as before; what needs the database has to wait.",
    replica: on ? "Replica 1 is starting. It reads its keys from the database, and takes its share." : "Replica 1 was killed. The other one answers for both: any replica can.",
  };
  acted(`${on ? "start" : "kill"} ${parts[name]}`, text[name], on ? "good" : "warn");
  return true;
}

// --- The end, and a new beginning ---

// finish shows that the session has ended, also to the one of the two that has not asked.
async function finish({ theft = false, lostKey = false, otherSession: other = false }, who = "you") {
  if (finished) return;
  finished = true;
  replaced = other;
  if (theft && who === "thief") {
    const hears = async (weighed, response) => {
      const event = await weighed(response);
      if (event.label === "ALLOW") return { ...event, text: "Passed once more: this process has not heard of it yet. All have within a second." };
      return event.end && !event.otherSession ? { ...event, text: "You are out, too: your access token names a session that has ended." } : event;
    };
    for (let n = 0; n < asks; n++) {
      const event = await me(hears);
      replaced ||= Boolean(event.otherSession);
      // A spoiled or expired access token says nothing of its session.
      if (event.status === 440) replaced ||= Boolean((await sendRefresh()).otherSession);
      if (event.label !== "ALLOW") break;
      await later(askAgain);
    }
  }
  if (theft && who === "you" && thiefCalls) {
    for (let n = 0; n < asks && (await thiefCall()).label === "ALLOW"; n++) await later(askAgain);
  }
  if (!replaced) forgetAntiCSRF(); // else it belongs to the other session
  $("timer").checked = false;
  $("ended-title").textContent = theft ? "Caught. The session has ended, for you and for the thief." : "Your session has ended.";
  $("ended-text").textContent = theft
    ? "sessiongate cannot know which of the two is you. Only you can sign in again."
    : "You signed out, here or elsewhere, or its time was up.";
  if (lostKey) {
    $("ended-title").textContent = "You have to sign in.";
    $("ended-text").textContent = "Your browser has lost the key of this session, so no one can use it.";
  }
  $("ended-link").textContent = "Sign in again";
  $("ended-link").href = "/login";
  if (other) {
    $("ended-title").textContent = "This browser is now signed in as another user.";
    $("ended-text").textContent = "Another tab has begun a new session. This page knows nothing of it until it is loaded again.";
    $("ended-link").textContent = "Reload";
    $("ended-link").href = "/";
  }
  $("ended").hidden = false;
  render();
  if (player.plays) return;
  $("ended-link").focus({ preventScroll: true });
  bringIntoView($("ended"));
}

// signIn begins a new session on this page, for the story. It tells of rotation, so no browser is to
// bind it.
async function signIn(user) {
  let begun = null;
  const { name, answer } = send("POST", "/login", { headers: { "content-type": "application/json", "x-stage-unbound": "1" }, body: JSON.stringify({ user }) });
  const explaining = answer.then(async (response) => {
    const status = response.status;
    if (!response.ok) {
      const { message } = await response.json().catch(() => ({}));
      return { label: "no session", tone: "warn", at: "app", status, weight: 2, text: message ?? "Signing in does not work at the moment." };
    }
    begun = { told: told(response), proof: response.headers.get("x-stage-proof") ?? "" };
    return { label: "not checked", tone: "good", at: "app", status, weight: 2, text: "The app knows the user, asks sessiongate for a session, and copies its cookies to the browser." };
  });
  lanes.thief.reset("has no token yet");
  delete $("demo").dataset.scene;
  const event = await follow("you", "POST /login", explaining, { name });
  if (!begun?.told) return event;
  ({ proof } = begun);
  session = begun.told.session;
  first = begun.told.own;
  chain = Chain.signedIn(begun.told);
  [spoiled, thief, thiefCalls, finished, replaced, doubtful] = [false, null, false, false, false, false];
  $("user").textContent = user;
  $("handle").textContent = session;
  $("ended").hidden = true;
  render();
  return event;
}

async function signOut(form) {
  const path = form.id === "signout" ? "/auth/signout" : "/logout-everywhere";
  const signedOut = async () => {
    if (form.id === "everywhere") {
      return call("POST", path, { allowed: () => "The app had sessiongate end every session of yours." });
    }
    const { name, answer } = send("POST", path);
    return follow("you", `POST ${path}`, answer.then(ofSignOut), { name });
  };
  const event = await signedOut();
  if (event.status !== 200) return;
  forgetAntiCSRF();
  location.assign("/login");
}

// --- The story ---

// step runs a part of the story like a press of a button.
const step = (work) => async (...args) => {
  let failure = null;
  while (busy) await later(50);
  await during(async () => {
    try {
      await work(...args);
    } catch (error) {
      failure = error;
    }
  });
  if (failure) throw failure;
};

// answered repeats what was not answered in time. On a busy machine a check may take longer
// than Envoy waits; that is no verdict, so the story does what every client should do.
async function answered(want, work) {
  let event = await work();
  const wanted = () => event?.status === want || event?.label === want;
  for (let n = 0; n < asks && [429, 503, 502].includes(event?.status) && !wanted(); n++) {
    await later(askAgain);
    event = await work();
  }
  if (!wanted()) throw new Error(event?.text ?? "the stage could not do it.");
}

const did = (done) => {
  if (!done) throw new Error($("event").textContent);
};

const stage = {
  begin: step(async () => {
    if (!proof) throw new Error(elsewhere());
    await switches.look();
    for (const name of powered) if (!switches.reason(name) && switches.state(name) === "off") await power(name, true);
  }),
  signIn: step((user) => answered(200, () => signIn(user))),
  call: step((status) => answered(status, () => me())),
  expire: step(() => expire().then(() => did(spoiled))),
  refresh: step((status) => answered(status, refresh)),
  lose: step(() => answered(200, lose)),
  tabs: step((status) => answered(status, refreshMany)),
  openThief: step(() => openThief().then(() => did(thief))),
  thiefRefresh: step((status) => answered(status, thiefRefresh)),
  bindLaptop: step(async () => {
    did(await openLaptop());
    for (const what of ["signin", "bind", "prove"]) await answered(200, () => laptopDoes(what));
  }),
  stealFromLaptop: step((status) => steal().then(() => answered(status, robberCall))),
  outlive: step((label) => answered(label, robberOutlives)),
  proveLaptop: step((status) => answered(status, () => laptopDoes("prove"))),
  power: step((name, on) => power(name, on).then(did)),
  cannot: (name) => Boolean(switches.reason(name)),
  graceOver: async () => {
    for (let left; (left = chain.grace(grace)); ) await later(Math.min(left, 100));
    await later(grace ? 150 : 0); // the store's clock and this one's begin a little apart
  },
};

const player = new Player(stage, {
  told: (chapter, caption) => {
    $("caption").textContent = caption;
    [...$("chapters").children].forEach((item, n) => {
      item.dataset.state = n < chapter ? "told" : n === chapter ? "now" : "";
      if (n === chapter) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
  },
  changed: () => render(),
});

function playStory() {
  if (player.state === "playing") return player.pause();
  if (player.state === "paused") return player.resume();
  $("timer").checked = false;
  scrollTo({ top: 0, behavior: "instant" });
  return player.play();
}

// --- The page ---

const actions = {
  call: () => callMe(),
  refresh,
  expire,
  lose,
  tabs: refreshMany,
  wait: async () => {
    for (let left; (left = chain.grace(grace)); await later(Math.min(left, 250))) {
      $("wait").textContent = `Losing it again in ${seconds(left)}`;
    }
    await lose();
  },
  "thief-open": openThief,
  "thief-refresh": thiefRefresh,
  "thief-call": thiefCall,
  bound,
};

// during lets one action run at a time. Buttons stay focusable meanwhile.
async function during(work) {
  if (busy) return;
  busy = true;
  saidWeight = 0;
  render();
  try {
    await work();
    while (doubtful && !finished) {
      doubtful = false;
      await callMe({ quiet: true });
    }
  } catch {
    saidWeight = 0;
    tell(noAnswer());
  } finally {
    busy = false;
    render();
  }
}

const elsewhere = () => (network
  ? `this page was opened at Envoy itself. Open it at ${network}, behind the network that can lose answers and copy tokens.`
  : "there is no network before Envoy that can lose answers and copy tokens.");

// why says for what reason a control is off, "" if it is on.
function why(id) {
  if (player.plays && id !== "play" && id !== "stop" && id !== "copy") return "The story is playing. Stop it, and this is yours.";
  if (id.startsWith("power-")) {
    const name = id.slice("power-".length);
    if (!proof) return `Not here: ${elsewhere()}`;
    return switches.reason(name) || (switches.state(name) === "starting" ? "It is starting." : busy ? "A request is under way." : "");
  }
  if (id === "play") return proof || player.plays ? "" : `Not here: ${elsewhere()}`;
  if (id === "copy") return wire.curl ? "" : "Choose a request first.";
  if (replaced) return "Another user has signed in to this browser. Reload the page.";
  if (finished) return "The session has ended. Sign in again.";
  if (["lose", "expire", "thief-open", "thief-refresh", "thief-call", "bound"].includes(id) && !proof) return `Not here: ${elsewhere()}`;
  if (id === "thief-open" && thief) return "The thief has a copy already.";
  if (["thief-refresh", "thief-call"].includes(id) && !thief) return "The thief has no token yet. Let the thief steal a copy first.";
  if (id === "thief-call" && !thiefCalls) return "The thief has no access token yet. Let the thief refresh first.";
  return busy ? "A request is under way." : "";
}

const controls = [...Object.keys(actions), "play", "copy", "timer", ...powered.map((name) => `power-${name}`)];
const forms = ["signout", "everywhere"];

// explain puts a control's reason where eyes and screen readers find it.
function explain(control, id, reason) {
  let note = $(`why-${id}`);
  if (!note) {
    note = Object.assign(document.createElement("span"), { id: `why-${id}`, className: "unseen" });
    $("demo").append(note);
    control.setAttribute("aria-describedby", [control.getAttribute("aria-describedby"), note.id].filter(Boolean).join(" "));
  }
  if (note.textContent !== reason) note.textContent = reason;
  control.title = reason;
  control.setAttribute("aria-disabled", Boolean(reason));
}

// press runs an action, or says why it cannot.
function press(id, action) {
  const reason = why(id);
  if (!reason) return action();
  if (!busy && !player.plays) {
    saidWeight = 0;
    tell({ text: reason, tone: "warn" });
  }
}

for (const [id, action] of Object.entries(actions)) {
  $(id).addEventListener("click", () => press(id, () => {
    bringIntoView($(id.startsWith("thief") ? "lane-thief" : id === "bound" ? "window-laptop" : "lane-you"));
    during(action);
  }));
}
for (const id of forms) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    press(id, () => during(() => signOut(event.target)));
  });
}
for (const name of powered) {
  $(`power-${name}`).addEventListener("click", (event) => {
    const on = event.target.checked;
    event.preventDefault(); // it shows what is, and the browser sets it back after this
    press(`power-${name}`, () => during(() => power(name, on)));
    setTimeout(() => switches.draw());
  });
}
$("timer").addEventListener("click", (event) => {
  const reason = why("timer");
  if (reason && !busy) {
    event.preventDefault();
    press("timer");
  }
});
$("play").addEventListener("click", () => press("play", playStory));
$("stop").addEventListener("click", () => player.stop());
$("copy").addEventListener("click", () => press("copy", () => wire.copyCurl()));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.defaultPrevented || !player.plays) return;
  playStory();
});

setInterval(() => {
  if ($("timer").checked && !busy && !finished && !document.hidden && !player.plays) during(() => callMe({ quiet: true }));
}, every);

const playNames = { idle: "Play the story", playing: "Pause", paused: "Go on", done: "Play it again" };

function render() {
  for (const id of controls) explain($(id), id, why(id));
  for (const id of forms) explain($(id).querySelector("button"), id, why(id));
  $("demo").dataset.busy = busy;
  $("demo").dataset.story = player.state;
  $("demo").dataset.plays = player.plays;
  $("play-name").textContent = playNames[player.state];
  $("stop").hidden = !player.plays;
  $("play-how").hidden = player.plays;
  $("event").setAttribute("aria-live", player.plays ? "off" : "polite"); // the captions tell the story
  if (location.protocol === "https:") {
    $("bound-how").textContent = `The demo app plays this laptop, and has its key. ${chain.bound
      ? "Your browser has bound your own session, too: the thief above gets no token either."
      : "Your browser has not bound your own session: not every browser can, and the story’s sign-ins do not offer it."}`;
  }
  tokens.draw(chain, finished && !replaced);
  $("window-you").dataset.ended = finished;
  tick();
}

// hint says what the copy is worth.
function hint() {
  if (finished) return "";
  if (!thief) return "What is a copy of your refresh token worth?";
  if (chain.bound) return "Your session is bound. The copy needs a signature by the key of your device, and no cookie has that.";
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
  if (chain.bound) return "proves your key";
  if (young === null) return "";
  if (state === "child") return "uses the child";
  if (state !== "current") return "";
  if (young > 0) return `keeps the token (${Math.ceil(young / 1000)} s)`;
  const child = chain.tokens.findLast((token) => chain.state(token) === "child");
  if (child && child.hash === chain.held.thief) return "";
  return child ? "repeats the child" : "generates a child";
}

const set = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

// tick shows what goes with time.
function tick() {
  set($("thief-how"), hint());
  const left = (chain.accessEnds ?? 0) - Date.now();
  set($("access"), finished || chain.accessEnds === null
    ? "none"
    : spoiled
      ? "spoiled by the stage"
      : left <= 0
        ? "expired"
        : left > 120_000
          ? `good for ${Math.floor(left / 60_000)} minutes`
          : `good for ${seconds(left)}`);
  const young = chain.grace(grace);
  set($("grace"), finished ? "is refused" : wouldDo(young) || "–");
  tokens.grace(finished ? 0 : (young ?? 0), grace);
  if (!busy) set($("wait"), young ? `Wait ${seconds(young)}, then lose it again` : "Lose it again");
}

// The page itself passed the check: its navigation is the first request to draw. It may
// have come by way of the page that a 440 shows, which refreshes and reloads.
async function begin() {
  chain.begin();
  if (first && !chain.token(first)) {
    if (!parent || parent === first) chain.tokens.unshift({ hash: first, sure: false });
  }
  const before = chain.held.you;
  const seen = own ? { own, parent, bound: Boolean(provenNow), expiresIn: Number(expiresIn) } : null;
  const passed = seen ? ofMe(chain, "you", seen).text : "Passed.";
  const renewed = before && seen && before !== own;
  await follow("you", "GET /", Promise.resolve(allow(200, renewed ? `Refreshed on the way, by the page that a 440 shows. ${passed}` : passed)));
}

delete chain.held.thief;
for (const name of chapters) $("chapters").append(Object.assign(document.createElement("li"), { textContent: name }));
$("deck").hidden = false;
if (location.protocol === "https:") {
  $("play-how").textContent += " Its sign-ins do not offer to bind: it tells of rotation, and of a laptop that is bound.";
}
document.querySelector(".player").hidden = false;
if (!proof) {
  $("elsewhere").textContent = `Some things do not work here: ${elsewhere()}`;
  $("elsewhere").hidden = false;
} else {
  switches.look();
}
addEventListener("storage", ({ key }) => {
  const { thief: thiefs } = chain.held;
  chain.load();
  if (thiefs) chain.held.thief = thiefs;
  render();
  // Another tab has signed out, or another user in.
  if (finished || player.plays || !(chain.replaced() || (key === antiCSRF && !hasAntiCSRF()))) return;
  doubtful = true;
  if (!busy) during(() => {});
});
setInterval(tick, 500);
render();
const story = location.hash === "#story";
if (story) history.replaceState(null, "", location.pathname);
await begin();
if (story) playStory();
