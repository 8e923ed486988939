import { headers } from "next/headers";

// What sessiongate found out about the request that is being answered. Envoy removes what a client claims.
const identity = ["x-session-user-id", "x-session-handle", "x-session-claims"];

// api calls the API where it listens inside, as the user of the page.
export async function api(path, options = {}) {
  const incoming = await headers();
  const outgoing = new Headers(options.headers);
  for (const name of identity) outgoing.set(name, incoming.get(name) ?? "");
  const answer = await fetch(process.env.API_URL + path, { ...options, headers: outgoing, cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// looped calls the API where browsers call it, through Envoy.
export async function looped(path, options = {}) {
  const outgoing = new Headers(options.headers);
  outgoing.set("cookie", (await headers()).get("cookie") ?? "");
  outgoing.set("origin", process.env.PUBLIC_URL); // this server vouches for its call, as a browser does
  const answer = await fetch(process.env.PUBLIC_URL + path, { ...options, headers: outgoing, cache: "no-store", redirect: "error" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}
