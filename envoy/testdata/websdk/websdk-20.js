import sdk from "websdk-20";
import { version } from "websdk-20/package.json";
import { expose } from "./frontend.js";

expose({
  version,
  // Takes fetch and XMLHttpRequest, and with it axios.
  init: (how, { refreshHeaders = {}, ...options }) =>
    sdk.init({
      ...options,
      preAPIHook: async ({ action, url, requestInit }) => {
        if (action !== "REFRESH_SESSION") return { url, requestInit };
        const headers = new Headers(requestInit.headers);
        for (const [name, value] of Object.entries(refreshHeaders)) headers.set(name, value);
        return { url, requestInit: { ...requestInit, headers } };
      },
    }),
  exists: () => sdk.doesSessionExist(),
  refresh: () => sdk.attemptRefreshingSession(),
  payload: () => sdk.getAccessTokenPayloadSecurely(),
  user: () => sdk.getUserId(),
  signOut: () => sdk.signOut(),
  accessToken: () => sdk.getAccessToken(),
});
