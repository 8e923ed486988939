import { sessionFetch } from "./sessiongate.js";

// Before the page hydrates: Next.js fetches by this what a navigation needs.
window.fetch = sessionFetch({ onSignedOut: () => location.assign("/login") });
