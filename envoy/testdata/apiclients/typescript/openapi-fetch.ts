// A program with a client that openapi-typescript and openapi-fetch have made of openapi.json. The
// tests run it, and docs/api.md shows lines of it.
import createClient from "openapi-fetch";
import type { paths } from "./sessiongate.js";

const client = createClient<paths>({
  baseUrl: process.env.SESSIONS_URL,
  headers: { Authorization: `Bearer ${process.env.SESSIONS_API_KEY}` },
});

const user = "ada";
const browser = { address: "203.0.113.7", user_agent: "Mozilla/5.0" };
const created = await client.POST("/v1/sessions", {
  body: { user_id: user, claims: { plan: "pro" }, data: { cart: ["tea"] }, transport: "cookie", client: browser },
});
if (!created.data) throw new Error(`creating: ${created.response.status}`);
const { session, tokens, set_cookie } = created.data;
const cart = session.data.cart as string[];
console.log("created", session.user_id, session.claims.plan, cart[0], set_cookie!.length > 0);

const verified = await client.POST("/v1/sessions/verify", {
  body: { access_token: tokens.access_token, anti_csrf: tokens.anti_csrf },
});
if (!verified.data) throw new Error(`verifying: ${verified.response.status}`); // only 200 allows
console.log("verified", verified.data.session.user_id, verified.data.session.claims.plan);
const denied = await client.POST("/v1/sessions/verify", { body: { access_token: "x" } });
if (denied.data) throw new Error("another token is allowed");
console.log("denied", denied.response.status, denied.error.outcome);

const refreshed = await client.POST("/v1/sessions/refresh", {
  body: { refresh_token: tokens.refresh_token, client: browser },
});
if (!refreshed.data) throw new Error(`refreshing: ${refreshed.response.status}`);
console.log("refreshed", refreshed.data.session.user_id);

const path = { handle: session.handle };
const updated = await client.PATCH("/v1/sessions/{handle}", { params: { path }, body: { claims: { plan: "free" } } });
if (!updated.data) throw new Error(`updating: ${updated.response.status}`);
console.log("updated", updated.data.session.claims.plan);

const list = await client.GET("/v1/users/{user_id}/sessions", { params: { path: { user_id: user }, query: { limit: 10 } } });
if (!list.data) throw new Error(`listing: ${list.response.status}`);
console.log("listed", list.data.sessions.length, list.data.sessions[0]?.claims.plan, list.data.more);

const ended = await client.DELETE("/v1/sessions/{handle}", { params: { path } });
if (!ended.data) throw new Error(`ending: ${ended.response.status}`);
console.log("ended", ended.data.ended);
