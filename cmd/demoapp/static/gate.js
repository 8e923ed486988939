// What a page without an SDK has to do: keep the anti-csrf header, send it back,
// and on 440 refresh once and repeat the request.

export const antiCSRF = "anti-csrf"; // the header's name, and where its value is kept
export const refreshPath = "/auth/session/refresh";

export const hasAntiCSRF = () => localStorage.getItem(antiCSRF) !== null;
export const forgetAntiCSRF = () => localStorage.removeItem(antiCSRF);

// request sends one request and keeps the anti-csrf token of its answer. A redirect
// is not followed: it is the gate's way to the sign-in page, not an answer. Below the auth
// path it sends a browser with a bound session to prove its key first, and is followed.
export async function request(method, path, init = {}) {
  const headers = new Headers(init.headers);
  headers.set("accept", "application/json");
  const token = localStorage.getItem(antiCSRF);
  if (token) headers.set(antiCSRF, token);
  const response = await fetch(path, { ...init, method, headers, redirect: path.startsWith("/auth/") ? "follow" : "manual", cache: "no-store" });
  const fresh = response.headers.get(antiCSRF);
  if (fresh) localStorage.setItem(antiCSRF, fresh);
  return response;
}

// alone runs work in one tab at a time: two refreshes would only get the same answer.
export const alone = (work) => (navigator.locks ? navigator.locks.request("session-refresh", work) : work());

// told is what the headers of a sign-in or refresh tell scripts.
export const told = (response) => read(response.headers.get("front-token"));

// read reads such a header: the session, the token hashes in its access token, whether that
// was made for a proof of the device's key, and how long it is good, in seconds.
export function read(front) {
  if (!front || front === "remove") return null;
  const bytes = Uint8Array.from(atob(front), (c) => c.charCodeAt(0));
  const { up } = JSON.parse(new TextDecoder().decode(bytes));
  return { session: up.sid, own: up.sg.own, parent: up.sg.parent, bound: up.sg.bnd === 1, expiresIn: up.exp - up.iat };
}
