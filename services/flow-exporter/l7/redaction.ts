/** What of an application's words is taken out before anybody sees it; options, defaults and the word in its place are Hubble's. @module */

/** What is put in the place of what is taken out. */
export const REDACTED = "HUBBLE_REDACTED";

/** What of HTTP is taken out. */
export interface HttpRedaction {
  /** The query of a URL. */
  readonly urlQuery: boolean;
  /** The password in a URL. */
  readonly userInfo: boolean;
  /** Names of headers whose values stay, all others go; empty: see `headersDeny`. */
  readonly headersAllow: ReadonlySet<string>;
  /** Names of headers whose values go. */
  readonly headersDeny: ReadonlySet<string>;
}

/** Options as they are given. */
export interface RedactionConfig {
  readonly hubbleRedactEnabled: boolean;
  readonly hubbleRedactHttpUrlquery: boolean;
  readonly hubbleRedactHttpUserinfo: boolean;
  readonly hubbleRedactHttpHeadersAllow: string;
  readonly hubbleRedactHttpHeadersDeny: string;
}

/** Reads the options. @returns undefined: nothing is taken out @throws {Error} both lists of headers */
export function readRedaction(config: RedactionConfig): HttpRedaction | undefined {
  if (!config.hubbleRedactEnabled) return undefined;
  const headersAllow = namesOf(config.hubbleRedactHttpHeadersAllow);
  const headersDeny = namesOf(config.hubbleRedactHttpHeadersDeny);
  if (headersAllow.size > 0 && headersDeny.size > 0) {
    throw new Error(
      "Cannot take both --hubble-redact-http-headers-allow and --hubble-redact-http-headers-deny: expected one of them",
    );
  }
  return {
    urlQuery: config.hubbleRedactHttpUrlquery,
    userInfo: config.hubbleRedactHttpUserinfo,
    headersAllow,
    headersDeny,
  };
}

function namesOf(text: string): Set<string> {
  return new Set(text.split(/[ ,]+/).map((name) => name.toLowerCase()).filter((name) => name !== ""));
}

/** The request or answer without what is taken out. */
export function redactHttp<T extends { url: string; headers: { key: string; value: string }[] }>(
  http: T,
  { urlQuery, userInfo, headersAllow, headersDeny }: HttpRedaction,
): T {
  let { url } = http;
  if (urlQuery) url = url.replace(/\?.*$/s, "");
  if (userInfo) url = url.replace(/^([a-z]+:\/\/[^/?#@:]*):[^/?#@]*@/i, `$1:${REDACTED}@`);
  const goes = (key: string) =>
    headersAllow.size > 0 ? !headersAllow.has(key.toLowerCase()) : headersDeny.has(key.toLowerCase());
  return {
    ...http,
    url,
    headers: http.headers.map(({ key, value }) => ({ key, value: goes(key) ? REDACTED : value })),
  };
}
