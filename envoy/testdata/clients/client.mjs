// Node's fetch, which keeps no cookies, with tough-cookie around it. Each line of standard input is a method, a path and perhaps a body; each
// line of the output a status and a body. The anti-CSRF token is that of the answer that had one last.

import { createInterface } from "node:readline";
import { CookieJar, version } from "tough-cookie";

const jar = new CookieJar();
let antiCSRF;

async function send(method, url, body) {
  const headers = { cookie: await jar.getCookieString(url) };
  if (antiCSRF) headers["anti-csrf"] = antiCSRF;
  const answer = await fetch(url, { method, headers, body: method === "POST" ? body : undefined });
  for (const line of answer.headers.getSetCookie()) await jar.setCookie(line, url);
  antiCSRF = answer.headers.get("anti-csrf") ?? antiCSRF;
  return `${answer.status} ${await answer.text()}`;
}

console.log(`tough-cookie ${version}, Node ${process.version}`);
for await (const line of createInterface({ input: process.stdin })) {
  const [method, path, ...body] = line.split(" ");
  console.log((await send(method, process.argv[2] + path, body.join(" "))).replaceAll("\n", " "));
}
