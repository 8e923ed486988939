import { sessionFetch } from "./sessiongate.js";

export const call = sessionFetch({ onSignedOut: () => location.assign("/login") });
