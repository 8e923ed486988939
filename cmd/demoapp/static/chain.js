// The token chain of a session (docs/glossary.md), as far as answers have told of it.
// Tokens are known by their hashes, which are public. Nothing is guessed: what no answer
// has told is not here.

const key = "demo.chain";

export class Chain {
  // tokens are oldest first: { hash, parent, sure, lost }. sure: an answer said that it
  // is current; lost: the answer that brought it did not arrive.
  tokens = [];
  current = null; // hash
  held = {}; // by "you" and "thief": the hash of the refresh token that each has
  movedAt = null; // when another token became current, if this browser saw it
  accessEnds = null; // when your access token expires
  bound = false; // your browser has proved the key of its device: no session goes back

  constructor(session) {
    this.session = session;
    this.load();
  }

  // signedIn begins the chain of a new session.
  static signedIn(told) {
    const chain = new Chain(told.session);
    chain.kept("you", told);
    chain.movedAt = Date.now();
    chain.begin();
    return chain;
  }

  #stored() {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  }

  // load takes what another page of this browser has learnt of the session.
  load() {
    const stored = this.#stored();
    if (stored?.session === this.session) Object.assign(this, stored);
  }

  // begin makes this chain the browser's.
  begin() {
    localStorage.setItem(key, JSON.stringify(this));
  }

  // replaced: another session has begun in this browser.
  replaced() {
    const stored = this.#stored();
    return Boolean(stored) && stored.session !== this.session;
  }

  save() {
    if (!this.replaced()) this.begin();
  }

  token(hash) {
    return this.tokens.find((token) => token.hash === hash);
  }

  #know(hash, parent) {
    let token = this.token(hash);
    if (!token) this.tokens.push((token = { hash, sure: false }));
    if (parent) token.parent = parent;
    return token;
  }

  #moveTo(hash) {
    if (this.current === hash) return;
    if (this.current) this.movedAt = Date.now();
    this.current = hash;
  }

  #hold(who, told) {
    this.held[who] = told.own;
    if (who !== "you") return;
    this.accessEnds = Date.now() + told.expiresIn * 1000;
    this.bound ||= Boolean(told.bound);
  }

  // issued: an answer brought a child. It returns whether that is known already, and
  // whether its last answer got lost.
  issued(who, told) {
    const { hash, lost } = this.token(told.own) ?? {};
    this.#know(told.parent).sure = true;
    this.#moveTo(told.parent);
    delete this.#know(told.own, told.parent).lost;
    this.#hold(who, told);
    return { known: Boolean(hash), lost };
  }

  // lost: the same, but the answer did not reach you. It returns whether it is known.
  lost(told) {
    const known = Boolean(this.token(told.own));
    this.#know(told.own, told.parent).lost = true;
    return known;
  }

  // stayed: an answer that brought an access token alone got lost. It returns what its
  // refresh token was before.
  stayed(told) {
    const before = this.state(this.token(told.own));
    this.#know(told.own).sure = true;
    this.#moveTo(told.own);
    return before;
  }

  // kept: an answer brought an access token alone; its own refresh token is current.
  // It returns what that was before.
  kept(who, told) {
    const before = { state: this.state(this.token(told.own)), sure: this.token(told.own)?.sure };
    this.#know(told.own).sure = true;
    this.#moveTo(told.own);
    this.#hold(who, told);
    return before;
  }

  // used: an access token passed the check. It returns whether that was the first
  // use of a child, which makes it current (V4).
  used(who, told) {
    const before = this.token(told.own);
    // An access token goes on naming the parent when another client has moved the chain on.
    const first = Boolean(told.parent) && this.current !== told.own && (!before || before.parent === this.current);
    if (told.parent) this.#know(told.parent);
    this.#know(told.own, told.parent);
    if (first || !this.current) this.#moveTo(told.own);
    this.#hold(who, told);
    return first;
  }

  state(token) {
    if (!token) return "unknown";
    if (token.hash === this.current) return "current";
    if (token.parent === this.current) return "child";
    if (token.parent && token.parent === this.token(this.current)?.parent) return "superseded";
    return "retired";
  }

  // grace is how long (ms) the current token stays, 0 if a refresh generates a child, null
  // if this page cannot know. A bound session has none: its token always stays.
  grace(attempt) {
    if (this.bound) return 0;
    if (!attempt || !this.movedAt) return null;
    return Math.max(0, this.movedAt + attempt - Date.now());
  }
}
