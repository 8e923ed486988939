export interface Options {
  /** The API's origin, where it is not the page's own. No other origin is ever sent the token. */
  api?: string;
  /** The path to refresh at: `paths.refresh`. Default: `/auth/session/refresh`. */
  refresh?: string;
  /** The status that asks for a refresh: `responses.session_expired_status`. Default: 440. */
  expired?: number;
  /** How long a refresh may take, in ms: half of `session.refresh_attempt_max`. Default: 5000. */
  limit?: number;
  /**
   * No one is signed in: a refresh said so, or the API answered 401. It is called once, and again
   * only after an answer that was a success.
   */
  onSignedOut?: () => void;
}

/**
 * A `fetch` that keeps the session. On the session-expired status it refreshes, once for all tabs,
 * and repeats the request once. You always get the answer to your own request.
 * It may take the place of `window.fetch`: it calls the one that was there when it was made.
 */
export declare function sessionFetch(options?: Options): typeof globalThis.fetch;
