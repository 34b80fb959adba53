/** How the API server is reached, and by whom. @module */
import { type Clock, systemClock } from "@weir/common/clock";
import { readInputTextSync } from "@weir/common/input-file";
import { hostPort } from "@weir/common/join-token";
import { ProblemError } from "@weir/common/problem";

/** Where the API server is, whom it is believed to be, and what is shown to it. */
export interface ApiAccess {
  /** Base URL without a final slash. */
  readonly server: string;
  /** PEM certificates of authorities; none: those that the runtime believes. */
  readonly authorities: readonly string[];
  /** PEM of a client certificate and its key. */
  readonly certificate?: { readonly certPem: string; readonly keyPem: string };
  readonly token?: TokenSource;
  /** Namespace that is meant where none is said. */
  readonly namespace?: string;
}

/** Gives the bearer token as it is now. */
export interface TokenSource {
  get(): string | Promise<string>;
  /** The token was refused: the next `get` must not give it from memory. */
  refused(): void;
}

/** Where a pod finds its service account. */
export const SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";
const FILE_BYTES_MAX = 1 << 20;
/** A token is read again after so long: kubelet replaces it when four fifths of its life are over, an hour by default. */
const TOKEN_AGE_MS_MAX = 30_000;

/** A token in a file that is replaced from time to time. */
export class TokenFile implements TokenSource {
  #token = "";
  #readMs = -Infinity;

  constructor(readonly path: string, readonly clock: Clock = systemClock) {}

  /** @throws {ProblemError} TOKEN_UNREADABLE */
  get(): string {
    const nowMs = this.clock.monotonicMs();
    if (nowMs - this.#readMs < TOKEN_AGE_MS_MAX) return this.#token;
    try {
      const token = readInputTextSync(this.path, { bytesMax: FILE_BYTES_MAX }).trim();
      if (token === "") throw new Error("the file is empty");
      this.#token = token;
      this.#readMs = nowMs;
    } catch (cause) {
      // A file that is being replaced may be away for a moment: the token before is good as long as it is taken.
      if (this.#token === "") {
        throw new ProblemError("TOKEN_UNREADABLE", {
          status: 503,
          detail: `Cannot read the token ${this.path}: ${(cause as Error).message}`,
          cause,
        });
      }
    }
    return this.#token;
  }

  refused(): void {
    this.#readMs = -Infinity;
  }
}

/** A token that never changes. */
export class FixedToken implements TokenSource {
  readonly #token: string;
  constructor(token: string) {
    this.#token = token;
  }
  get(): string {
    return this.#token;
  }
  refused(): void {}
}

/** Options of {@link inClusterAccess}. */
export interface InClusterOptions {
  /** URL of the API server, in place of the service's address: without it that one leads nowhere on a fresh node. */
  server?: string;
  /** Default {@link SERVICE_ACCOUNT_DIRECTORY}. */
  directory?: string;
  env?: (name: string) => string | undefined;
  clock?: Clock;
}

/** Whether this process runs in a pod of a cluster. */
export function isInCluster(env: (name: string) => string | undefined): boolean {
  return Boolean(env("KUBERNETES_SERVICE_HOST"));
}

/**
 * The access of a pod: its service account's token and authority.
 * @throws {ProblemError} NOT_IN_CLUSTER; AUTHORITY_UNREADABLE
 */
export function inClusterAccess(options: InClusterOptions = {}): ApiAccess {
  const env = options.env ?? ((name) => Deno.env.get(name));
  const directory = options.directory ?? SERVICE_ACCOUNT_DIRECTORY;
  const host = env("KUBERNETES_SERVICE_HOST");
  const port = Number(env("KUBERNETES_SERVICE_PORT_HTTPS") ?? env("KUBERNETES_SERVICE_PORT") ?? 443);
  const server = options.server ?? (host ? `https://${hostPort(host, port)}` : undefined);
  if (server === undefined) {
    throw new ProblemError("NOT_IN_CLUSTER", {
      detail: "Cannot find the API server: this process does not run in a pod, and no URL was given",
      expected: "KUBERNETES_SERVICE_HOST in the environment",
      action: "Say where it is: --kubernetes-api-server https://HOST:6443, or a kubeconfig",
    });
  }
  let authority: string;
  try {
    authority = readInputTextSync(`${directory}/ca.crt`, { bytesMax: FILE_BYTES_MAX });
  } catch (cause) {
    throw new ProblemError("AUTHORITY_UNREADABLE", {
      status: 503,
      detail: `Cannot read the API server's authority: ${(cause as Error).message}`,
      action: "The pod needs its service account's token: automountServiceAccountToken must not be false",
      cause,
    });
  }
  return {
    server: checkServer(server),
    authorities: certificatesOf(authority),
    token: new TokenFile(`${directory}/token`, options.clock),
  };
}

/**
 * A URL of an API server, without a final slash.
 * @throws {ProblemError} API_SERVER_INVALID: no URL, or one on which a token would be read by others
 */
export function checkServer(text: string): string {
  const url = URL.parse(text);
  const isLocal = url !== null && /^(localhost|127\.[\d.]+|\[::1\])$/.test(url.hostname);
  const isGood = url !== null && url.username === "" && url.search === "" && url.hash === "" &&
    (url.protocol === "https:" || (url.protocol === "http:" && isLocal));
  if (isGood) return url.href.replace(/\/+$/, "");
  throw new ProblemError("API_SERVER_INVALID", {
    detail: `Cannot use the API server "${text.slice(0, 200)}"`,
    found: text.slice(0, 200),
    expected: "https://HOST[:PORT], or http:// on loopback",
  });
}

/** The certificates of a PEM text, one by one: the runtime takes only the first of a text. */
export function certificatesOf(pem: string): string[] {
  return pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
}
