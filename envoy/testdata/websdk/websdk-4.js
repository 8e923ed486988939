import sdk from "websdk-4";
import axiosSDK from "websdk-4/axios.js";
import { version } from "websdk-4/package.json";
import { expose } from "./frontend.js";

expose({
  version,
  init(how, { refreshHeaders, ...options }, client) {
    const chosen = how === "axios" ? axiosSDK : sdk;
    chosen.init({ ...options, refreshAPICustomHeaders: refreshHeaders });
    if (how === "axios") chosen.makeSuper(client);
  },
  exists: async () => sdk.doesSessionExist(),
  refresh: () => sdk.attemptRefreshingSession(),
});
