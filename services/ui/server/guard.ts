/**
 * Who may ask, and what a browser may do with the answer. The page shows who talks to whom in a cluster: no other page, no
 * name that somebody points at this address, and beyond loopback nobody without a token or a certificate may read it.
 *
 *     request ── long? method? ── Host known? ── from our own page? ── token or certificate? ── room? ─▶ handler
 *
 * @module
 */
import { type Handler, isLoopback, ProblemError, problemResponse } from "@weir/common";
import { isSame, type Sessions, type Tickets } from "./sessions.ts";
import { tellingEnd } from "./stream_end.ts";

/** Named maxima; each has a default. */
export interface GuardLimits {
  /** Longest path and query, in bytes. */
  readonly targetBytesMax: number;
  /** Requests that are being answered at once, streams among them. */
  readonly requestsMax: number;
  /** Wrong tokens in a minute; from then on all are refused until it is over. */
  readonly wrongTokensMax: number;
}

/** Defaults. */
export const GUARD_LIMITS: GuardLimits = { targetBytesMax: 8192, requestsMax: 256, wrongTokensMax: 60 };

/** Options of {@link guard}. */
export interface GuardOptions {
  /** "/" or "/weir/". */
  readonly base: string;
  /** Names in `Host` that are ours, without port, in lower case. Those of loopback are where `loopback` is set. */
  readonly hosts: readonly string[];
  readonly loopback: boolean;
  /** What must be shown, or a ticket, or a certificate. Where nothing of these is taken, everybody may read. */
  readonly token?: string;
  readonly tickets?: Tickets;
  readonly takesCertificates?: boolean;
  /** Those who have shown one. */
  readonly sessions: Sessions;
  /** The cookie goes over TLS alone. */
  readonly tls: boolean;
  readonly limits?: Partial<GuardLimits>;
  readonly nowMs: () => number;
  /** Told of each refusal, by code. */
  readonly onRefused?: (code: string) => void;
}

/** Nothing but what comes from here: no inline script, no eval, no foreign address, in no other page. */
const HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "worker-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "base-uri 'self'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join("; "),
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), microphone=(), geolocation=()",
};

/** A handler that asks `handler` only what it may be asked. `isTrusted`: the connection has shown a good certificate. */
export function guard(
  handler: Handler,
  options: GuardOptions,
): (request: Request, isTrusted?: boolean) => Promise<Response> {
  const limits = { ...GUARD_LIMITS, ...options.limits };
  const wrong = new WrongTokens(limits.wrongTokensMax, options.nowMs);
  let open = 0;
  const check = (request: Request, isTrusted: boolean): Response | undefined => {
    const url = new URL(request.url);
    if (url.pathname.length + url.search.length > limits.targetBytesMax) {
      throw refused("TARGET_TOO_LONG", 414, `the address has more than ${limits.targetBytesMax} bytes`);
    }
    if (request.method !== "GET" && request.method !== "HEAD" && !isQuestion(request, url, options)) {
      throw refused("READ_ONLY", 405, `${request.method} is not answered here: the page only reads`);
    }
    checkHost(request, options);
    const { token, tickets, sessions } = options;
    const isOpen = token === undefined && tickets === undefined && !options.takesCertificates;
    if (isOpen || isTrusted) return checkOrigin(request, url, options);
    const shown = url.searchParams.get("token");
    if (sessions.holds(cookieOf(request, sessions.cookie) ?? "")) {
      return shown === null ? checkOrigin(request, url, options) : withoutToken(url);
    }
    const given = shown ?? bearerOf(request);
    if (given === undefined) throw unknownCaller("no token was shown", options);
    if (!tickets?.take(given)) {
      if (token === undefined) {
        throw unknownCaller("this token was shown before, is too old, or is none", options);
      }
      wrong.check();
      if (!isSame(given, token)) {
        wrong.add();
        throw refused("UNAUTHENTICATED", 401, "the token is wrong");
      }
    }
    return shown === null ? checkOrigin(request, url, options) : welcome(url, options);
  };
  return async (request, isTrusted = false) => {
    let response: Response;
    try {
      const answer = check(request, isTrusted);
      if (answer === undefined && open >= limits.requestsMax) {
        throw refused("TOO_MANY_REQUESTS", 503, `${open} requests are being answered, the most there may be`);
      }
      response = answer ?? await counted(() => handler(request), (by) => open += by);
    } catch (error) {
      if (error instanceof ProblemError) options.onRefused?.(error.code);
      response = problemResponse(error);
    }
    for (const [name, value] of Object.entries(HEADERS)) response.headers.set(name, value);
    if (!response.headers.has("cache-control")) response.headers.set("cache-control", "no-store");
    return response;
  };
}

/** Questions whose words are too long for an address. They change nothing. */
const QUESTIONS: ReadonlySet<string> = new Set(["api/preview"]);

/** Of JSON alone: another page could not ask so without a question before, which is not answered. */
function isQuestion({ method, headers }: Request, { pathname }: URL, { base }: GuardOptions): boolean {
  return method === "POST" && pathname.startsWith(base) && QUESTIONS.has(pathname.slice(base.length)) &&
    headers.get("content-type") === "application/json";
}

/** Counts an exchange until its body has ended, or was given up. */
async function counted(
  answer: () => Promise<Response> | Response,
  count: (by: number) => void,
): Promise<Response> {
  count(1);
  let response: Response;
  try {
    response = await answer();
  } catch (error) {
    count(-1);
    throw error;
  }
  if (response.body === null) {
    count(-1);
    return response;
  }
  return new Response(tellingEnd(response.body, () => count(-1)), response);
}

/** A name that somebody points at our address (DNS rebinding) is not ours. */
function checkHost(request: Request, { hosts, loopback }: GuardOptions): void {
  const header = request.headers.get("host") ?? "";
  const name = hostNameOf(header);
  if (name !== undefined && (hosts.includes(name) || (loopback && isLoopback(name)))) return;
  throw new ProblemError("HOST_UNKNOWN", {
    status: 421,
    detail: `Cannot answer for "${header.slice(0, 100)}": this page has other names`,
    expected: [...hosts, ...(loopback ? ["localhost"] : [])].join(", "),
    action: "Use one of them, or start with --host NAME",
  });
}

function hostNameOf(header: string): string | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?$/.exec(header);
  return (match?.[1] ?? match?.[2])?.toLowerCase();
}

/** What another page asks for gets no answer; a person who follows a link gets the page. */
function checkOrigin(request: Request, url: URL, { base }: GuardOptions): undefined {
  const site = request.headers.get("sec-fetch-site");
  const isPage = !url.pathname.startsWith(`${base}api/`);
  if (site === null || site === "same-origin" || site === "none" || isPage) return undefined;
  throw refused("CROSS_SITE", 403, "another page asks");
}

function unknownCaller(why: string, { tickets }: GuardOptions): ProblemError {
  return new ProblemError("UNAUTHENTICATED", {
    status: 401,
    detail: `Cannot answer: ${why}`,
    expected: "?token=TOKEN once, or Authorization: Bearer TOKEN, or a client certificate",
    action: tickets === undefined
      ? "Open the address with ?token=TOKEN"
      : "weir ui gives an address with a new one",
  });
}

/** The token goes out of the address at once, into a cookie that scripts cannot read. */
function welcome(url: URL, { base, tls, sessions }: GuardOptions): Response {
  const response = withoutToken(url), { cookie } = sessions;
  response.headers.set(
    "set-cookie",
    `${cookie}=${sessions.begin()}; Path=${base}; HttpOnly; SameSite=Strict${tls ? "; Secure" : ""}`,
  );
  return response;
}

function withoutToken(url: URL): Response {
  const query = new URLSearchParams(url.searchParams);
  query.delete("token");
  const to = url.pathname + (query.size === 0 ? "" : `?${query}`);
  // "//host/" would lead away.
  return new Response(null, { status: 303, headers: { location: `/${to.replace(/^\/+/, "")}` } });
}

function bearerOf(request: Request): string | undefined {
  return /^Bearer (.+)$/.exec(request.headers.get("authorization") ?? "")?.[1];
}

function cookieOf(request: Request, wanted: string): string | undefined {
  for (const part of (request.headers.get("cookie") ?? "").split(";")) {
    const [name, value] = part.trim().split("=", 2);
    if (name === wanted) return value;
  }
  return undefined;
}

/** Wrong tokens of the minute that runs. */
class WrongTokens {
  #sinceMs = 0;
  #count = 0;
  constructor(readonly max: number, readonly nowMs: () => number) {}

  check(): void {
    if (this.nowMs() - this.#sinceMs > 60_000) this.#count = 0;
    if (this.#count >= this.max) {
      throw refused("TOO_MANY_TOKENS", 429, `${this.#count} wrong tokens came within a minute`);
    }
  }

  add(): void {
    if (this.#count++ === 0) this.#sinceMs = this.nowMs();
  }
}

function refused(code: string, status: number, why: string): ProblemError {
  return new ProblemError(code, { status, detail: `Cannot answer: ${why}` });
}
