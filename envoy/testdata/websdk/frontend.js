// What the tests ask of a page, whichever SDK runs in it and whether it calls by fetch or by axios. Answers and errors come back as plain
// objects: {status, body, thrown}, and {thrown, message} for what is no answer.
import axios from "axios";

const answered = async (r, thrown = false) => ({ status: r.status, body: r.text ? await r.text() : r.data, thrown });

const failed = (e) => {
  if (e instanceof Response) return answered(e, true); // how the SDKs hand on a refresh that failed
  if (e.response) return answered(e.response);
  return { thrown: true, message: String(e.message ?? e) };
};

const client = axios.create({ responseType: "text", transformResponse: (text) => text });

const by = {
  fetch: (method, url, headers, body) => fetch(url, { method, headers, body }),
  axios: (method, url, headers, data) => client.request({ method, url, headers, data }),
};

export function expose(sdk) {
  const events = [];
  window.frontend = {
    ...sdk,
    events,
    init: (how, options) => sdk.init(how, { ...options, onHandleEvent: (e) => events.push(e) }, client),
    send: (how, method, url, headers = {}, body = undefined) => by[how](method, url, headers, body).then((r) => answered(r), failed),
  };
}
