// The story, as data: what is said, what is done, and what has to be true before. Nothing
// of it is faked: each step does what the buttons of the page do.
//
// A step is { chapter, caption, until, act }. The stage (demo.js) gives until and act what
// they need. act throws where the answer is not the one that the caption tells of.

export const chapters = ["Sign in", "Expiry", "Lost answer", "Twenty tabs", "Theft", "Bound", "Outage"];

export const steps = [
  {
    chapter: 0, caption: "Ada signs in. Her browser gets an access token, and a refresh token to renew it.",
    act: (stage) => stage.signIn("ada"),
  },
  {
    chapter: 0, caption: "Envoy asks sessiongate about each request. The app only reads who the user is.",
    act: (stage) => stage.call(200),
  },
  {
    chapter: 1, caption: "The access token expires. Her next request is told to refresh first.",
    until: (stage) => stage.graceOver(),
    act: (stage) => stage.expire().then(() => stage.call(440)),
  },
  {
    chapter: 1, caption: "The refresh brings a child token. Its parent stays good until the child is used.",
    act: (stage) => stage.refresh(200),
  },
  {
    chapter: 1, caption: "The first use promotes the child: it is current now, and its parent is retired.",
    act: (stage) => stage.call(200),
  },
  {
    chapter: 2, caption: "Now the network loses the answer of a refresh. Elsewhere that signs Ada out.",
    until: (stage) => stage.graceOver(),
    act: (stage) => stage.lose(),
  },
  {
    chapter: 2, caption: "Here her browser asks again, and gets the very same child. Nothing is lost.",
    act: (stage) => stage.refresh(200).then(() => stage.call(200)),
  },
  {
    chapter: 3, caption: "Twenty tabs refresh at once, at two replicas. All get one and the same token.",
    until: (stage) => stage.graceOver(),
    act: (stage) => stage.tabs(200).then(() => stage.call(200)),
  },
  {
    chapter: 4, caption: "A thief has a copy of Ada’s first refresh token. Her browser has replaced it since.",
    act: (stage) => stage.openThief(),
  },
  {
    chapter: 4, caption: "The thief uses it. So two parties hold one token: the session ends, for both.",
    act: (stage) => stage.thiefRefresh(440),
  },
  {
    chapter: 5, caption: "On a laptop, Ada’s browser binds her session to a key. The demo app plays it.",
    act: (stage) => stage.bindLaptop(),
  },
  {
    chapter: 5, caption: "A thief copies all its cookies. The access token works, for ten minutes at most.",
    act: (stage) => stage.stealFromLaptop(200),
  },
  {
    chapter: 5, caption: "Then the thief has to refresh, and has no key. No token comes, and nothing ends.",
    act: (stage) => stage.outlive("UNPROVEN"),
  },
  {
    chapter: 5, caption: "The laptop signs with its key, and goes on. What was stolen is worth nothing now.",
    act: (stage) => stage.proveLaptop(200),
  },
  {
    chapter: 6, caption: "Ada signs in again, which the thief cannot. Then the database is killed.",
    act: (stage) => stage.signIn("ada").then(() => stage.power("postgres", false)),
    unless: (stage) => stage.cannot("postgres"),
    instead: "Ada signs in again. The database cannot be killed from this page: its switch says why.",
    otherwise: (stage) => stage.signIn("ada"),
  },
  {
    chapter: 6, caption: "Her requests still pass: access tokens are verified in memory.",
    act: (stage) => stage.call(200),
    unless: (stage) => stage.cannot("postgres"),
    instead: "Her requests would still pass: access tokens are verified in memory.",
    otherwise: (stage) => stage.call(200),
  },
  {
    chapter: 6, caption: "A refresh has to wait. An outage is no verdict, so no one is signed out.",
    act: (stage) => stage.refresh(503),
    unless: (stage) => stage.cannot("postgres"),
    instead: "A refresh would wait: 503, try again. An outage is no verdict, so no one is signed out.",
  },
  {
    chapter: 6, caption: "The database is back. The refresh works again, and Ada has noticed nothing.",
    act: (stage) => stage.power("postgres", true).then(() => stage.refresh(200)),
    unless: (stage) => stage.cannot("postgres"),
    instead: "Once the database is back, the refresh works again by itself.",
    otherwise: (stage) => stage.refresh(200),
  },
];

export const epilogue = "That is the story: nothing but the theft ended her session. Now break things yourself.";

const lead = 500; // ms from a caption to what it tells of
const rest = (caption) => 400 + 12 * caption.length; // ms to read on, when it has happened

// Player plays the steps. state is idle, playing, paused or done.
export class Player {
  state = "idle";
  #wake = null; // ends a pause
  #ended = null; // stops a wait

  constructor(stage, { told, changed }) {
    this.stage = stage;
    this.told = told; // (chapter, caption): what is said now
    this.changed = changed;
  }

  get plays() {
    return this.state === "playing" || this.state === "paused";
  }

  #become(state) {
    this.state = state;
    this.changed();
  }

  // play returns when the story has ended, was stopped or could not go on.
  async play() {
    const ending = new AbortController();
    this.#ended = ending.signal;
    this.stop = () => (ending.abort(), this.resume());
    this.#become("playing");
    try {
      await this.stage.begin();
      for (const { chapter, caption, until, act, unless, instead, otherwise } of steps) {
        const changed = unless?.(this.stage);
        const words = changed ? instead : caption;
        await this.#turn();
        if (ending.signal.aborted) break;
        this.told(chapter, words);
        await Promise.all([this.#pass(lead), until?.(this.stage)]);
        await this.#turn();
        if (ending.signal.aborted) break;
        await (changed ? otherwise : act)?.(this.stage);
        await this.#pass(rest(words));
      }
      await this.#turn();
      if (ending.signal.aborted) this.told(-1, "You stopped the story. Go on by yourself, or play it again.");
      else this.told(chapters.length, epilogue);
      this.#become(ending.signal.aborted ? "idle" : "done");
    } catch (failure) {
      this.told(-1, `The story cannot go on: ${failure.message}`);
      this.#become("idle");
    }
  }

  stop = () => {};

  pause() {
    if (this.state === "playing") this.#become("paused");
  }

  resume() {
    if (this.state !== "paused") return;
    this.#become("playing");
    this.#wake?.();
  }

  // #turn waits out a pause.
  async #turn() {
    while (this.state === "paused" && !this.#ended.aborted) await new Promise((wake) => (this.#wake = wake));
  }

  // #pass lets time for reading pass. A pause is none of it.
  async #pass(ms) {
    const slice = 50;
    for (let left = ms; left > 0 && !this.#ended.aborted; left -= slice) {
      await new Promise((done) => setTimeout(done, slice));
      await this.#turn();
    }
  }
}
