// What an answer means, in a sentence. Rules (R1 to R8, V1 to V5) are named only where an
// answer shows which it was.
//
// An event is { label, tone, at, status, text, weight }: at is the station that answered,
// weight says how much the sentence matters among those of one action.

const [small, large, decisive] = [1, 2, 3];

export const allow = (status, text) => ({ label: "ALLOW", tone: "good", at: "app", status, text, weight: small });

export const unavailable = (status) => ({
  label: "UNAVAILABLE", tone: "warn", at: "gate", status, weight: large,
  text: "The gate cannot decide at the moment. That is no verdict: nothing is lost, try again.",
});

// ofForeign explains why sessiongate refuses what a page of another origin sends. This page has another one
// than Envoy knows where TLS ends before the demo.
const ofForeign = (status) => ({
  label: "FORBIDDEN", tone: "bad", at: "gate", status, weight: large,
  text: `Refused: TLS ends before Envoy, which therefore does not know this page’s origin. sessiongate needs SESSIONGATE_ALLOWED_ORIGINS=${location.origin}`,
});

// ofSignOut explains the answer to a sign-out.
export function ofSignOut({ status }) {
  if (status === 200) return { label: "signed out", tone: "good", at: "gate", status, text: "The session is ended, and a copy of its tokens is worth nothing." };
  return status === 403 ? ofForeign(status) : unavailable(status);
}

export const noAnswer = () => ({ label: "no answer", tone: "warn", at: "browser", status: "", weight: large, text: "The network failed: no answer came." });

export const ended = (status) => ({
  label: "UNAUTHORISED", tone: "bad", at: "gate", status, end: true, weight: large,
  text: "No session: it has ended, or this browser was signed out.",
});

// otherSession explains an answer about another session than this page's: another user has
// signed in since, in another tab. What it tells is not of this chain.
export const otherSession = (status, at) => ({
  label: "not yours", tone: "bad", at, status, end: true, otherSession: true, weight: decisive,
  text: "This browser is now signed in as another user.",
});

// ofCheck explains the answer to a request that Envoy has checked. allowed explains what
// the app said.
export async function ofCheck(response, { session, spoiled, allowed }) {
  const status = response.type === "opaqueredirect" ? 302 : response.status;
  const why = response.headers.get("x-sessiongate-denial"); // with responses.denial_header
  switch (status) {
    case 440:
      return {
        label: "TRY_REFRESH", tone: "warn", at: "gate", status, weight: small,
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
      return { label: "FORBIDDEN", tone: "bad", at: "gate", status, weight: large, text: `Not allowed${why ? ` (${why})` : ""}.` };
    case 502:
    case 503:
      return unavailable(status);
  }
  const said = await response.json().catch(() => ({}));
  if (said.handle && said.handle !== session) return otherSession(status, "app");
  if (!response.ok) {
    return { label: "ALLOW", tone: "warn", at: "app", status, weight: small, text: said.message ?? "The check let it pass, but the app could not do it." };
  }
  return allow(status, allowed(said));
}

// ofMe explains a call that passed: { own, parent, expiresIn } of its access token.
export function ofMe(chain, who, seen) {
  if (!seen) return { text: "The check let it pass and told the app the user's identity." };
  if (who === "you" && seen.bound && !chain.bound) {
    chain.used(who, seen);
    return { weight: large, text: "Passed. Your browser has bound this session to its device (B1), and proved its key (B4): from now on a refresh needs the key." };
  }
  const firstUse = chain.used(who, seen);
  const whose = who === "you" ? "your" : "the thief’s";
  if (firstUse) {
    return { weight: large, text: `Passed (V4). It was the first use of what the last refresh brought: ${whose} refresh token is now the current one, and the one before it is retired.` };
  }
  return { text: "Passed: verified in memory, without a query. The app was told the user's identity." };
}

// ofRefresh explains the answer to a refresh: { status, told, error, denial, redirected }.
export function ofRefresh(chain, who, { status, told: news, error, denial, redirected }) {
  const you = who === "you";
  if (denial === "unproven") return you ? ofWaiting(status) : ofUnproven(status);
  if (denial === "key_lost") return ofLostKey(status, you);
  if (you && status === 200 && news?.bound) {
    chain.kept(who, news);
    return {
      label: "proven", tone: "good", at: "gate", status, weight: large,
      text: redirected
        ? "The refresh was sent to prove the key (B9), and your browser signed by itself (B4): a new access token. The refresh token stays: without the key it is worth nothing."
        : "Your browser proved its key only moments ago (B8): the access token of that proof stays, and so does the refresh token.",
    };
  }
  if (status === 200 && news?.parent) {
    const { known, lost } = chain.issued(who, news);
    const answer = { label: "new tokens", tone: "good", at: "gate", status, weight: large };
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
    const answer = { label: "access token", tone: "good", at: "gate", status, weight: large };
    if (state === "child") {
      answer.text = `${you ? "Your" : "The thief’s"} refresh token was a child. This is its first use, which makes it current; it stays, and a new access token came.`;
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
        label: "superseded", tone: "warn", at: "gate", status, weight: large,
        text: you
          ? "Another client’s refresh was faster, moments ago. No token, no alarm: the session lives, but another client holds its current token."
          : "Too early to judge. It could be the owner on a second network, so there is no token and no alarm; the session lives.",
      };
    case 502:
    case 503:
      return { ...unavailable(status), text: "A refresh has to wait: it needs the database. That is no verdict, so no cookie changes and no one is signed out." };
    case 429:
      return unavailable(status);
    case 403:
      return ofForeign(status);
  }
  if (error === "token theft detected") {
    return {
      label: "THEFT", tone: "bad", at: "gate", status, end: true, theft: true, weight: decisive,
      text: you
        ? "Theft (R8). Your retired refresh token was reused, so another client has a copy of it. sessiongate ends the session, for both."
        : "Theft (R8). The copy is retired, and an honest browser would not reuse it. sessiongate ends the session, for both.",
    };
  }
  if (error) return { label: "ended", tone: "bad", at: "gate", status, end: true, weight: large, text: "The session has ended. Its tokens are worth nothing now." };
  return { label: String(status), tone: "warn", at: "gate", status, weight: large, text: "An answer that this page does not expect." };
}

// ofUnproven explains what a client gets that has only the cookies of a bound session.
export const ofUnproven = (status) => ({
  label: "UNPROVEN", tone: "bad", at: "gate", status, weight: decisive,
  text: "No token (B10): the session is bound, and a refresh needs a signature by its key. Cookies are all that the thief has. The session goes on, and a thief cannot end it either.",
});

// ofWaiting explains the same to the session's own browser, which did not prove its key: it may be out of
// signatures, without its key, or there is no database.
const ofWaiting = (status) => ({
  label: "UNPROVEN", tone: "warn", at: "gate", status, weight: large,
  text: "A refresh has to wait (B10): the session is bound, and your browser could not prove its key now. That is no verdict, so no cookie changes and no one is signed out.",
});

// ofLostKey explains what a client gets that waited for too long. The session goes on.
const ofLostKey = (status, you) => ({
  label: "key lost", tone: "bad", at: "gate", status, end: you, lostKey: true, weight: decisive,
  text: you
    ? "For ten minutes your browser could not prove the key of this session (B10). You have to sign in."
    : "For ten minutes the thief could not prove the key (B10): it is told to sign in, and its cookies are gone. Your session goes on.",
});

// ofLaptop explains an answer to the laptop: { status, denial }.
export function ofLaptop(what, { status, denial }) {
  if (status !== 200) return { ...unavailable(status), text: `The laptop got ${status}${denial ? ` (${denial})` : ""}.` };
  const good = { tone: "good", status, weight: large };
  switch (what) {
    case "signin":
      return { ...good, label: "not checked", at: "app", text: "The answer offers the laptop’s browser to bind the session. The app copied that header, like all others." };
    case "bind":
      return { ...good, label: "key kept", at: "gate", text: "The browser made a key, and registered its public half by itself (B1). The private half never leaves the laptop." };
  }
  return { ...good, label: "proven", at: "gate", text: "sessiongate sent a challenge, and the browser signed it (B4): an access token for 10 minutes. The refresh token need not change: alone it is worth nothing." };
}

// ofCopy explains a call with the copied access token of a bound session: { status }.
export const ofCopy = ({ status }) => (status === 200
  ? { ...allow(status, "Passed: the copied access token is good until it ends, 10 minutes at most. Then it needs a refresh."), weight: large }
  : unavailable(status));

// ofLoss explains a refresh whose answer got lost: the stage knows what was in it, the
// browser does not.
export function ofLoss(chain, status, news) {
  const lost = { label: "new tokens", tone: "warn", at: "gate", status, lost: true, weight: large };
  if (status === 200 && news?.bound) {
    chain.kept("you", news);
    return {
      ...lost, label: "access token", tone: "good",
      text: "The network lost the answer, and nothing with it: the access token came before, when your browser proved its key (B4). The refresh token stays.",
    };
  }
  if (status !== 200 || !news) {
    return { ...lost, label: String(status), text: `An answer with the status ${status} got lost. Your browser knows nothing of it, and asks again.` };
  }
  if (news.parent) {
    return {
      ...lost,
      text: chain.lost(news)
        ? "The same child (R5), and its answer got lost, too. The child still waits. Refresh now."
        : "A child was generated (R4), and the network lost the answer: no client has the child. Refresh now.",
    };
  }
  const before = chain.stayed(news);
  return {
    ...lost, label: "access token", young: before === "current",
    text: before === "child"
      ? "The network lost a new access token. The refresh was the first use of your child, which is current now."
      : "The network lost a new access token, and no more. The refresh token became current only moments ago, so it stays (R3).",
  };
}

// ofTabs explains refreshes that were sent at once: their answers, as ofRefresh gets them.
export function ofTabs(chain, answers) {
  const good = answers.filter(({ status }) => status === 200);
  const first = good.find(({ told }) => told?.parent) ?? good[0] ?? answers[0];
  const event = ofRefresh(chain, "you", first);
  // A browser sends a few at a time. The later ones carry the child itself: its first use (R6).
  const used = first.told?.parent && good.find(({ told }) => told && !told.parent && told.own === first.told.own);
  if (used) chain.kept("you", used.told);
  const different = new Set(good.map(({ told }) => told?.own)).size;
  if (good.length < answers.length || different !== 1) {
    return good.length === 0 ? event : { ...event, text: `${good.length} of ${answers.length} were answered with ${different === 1 ? "one" : different} refresh token. ${event.text}` };
  }
  if (first.told.bound) {
    return { ...event, text: `${answers.length} answers, and your browser proved its key for all of them (B8, B9). The refresh token stays. No tab is left with a dead token.` };
  }
  return {
    ...event,
    text: first.told.parent
      ? `${answers.length} answers, and all of them are for one and the same child (R5${used ? "; the later tabs sent the child itself, R6" : ""}). No tab is left with a dead token.`
      : `${answers.length} new access tokens, and the refresh token stays: it became current only moments ago. No tab is left with a dead token.`,
  };
}
