/**
 * Requests to a service that runs in several places. One place is used until it fails; a place that cannot be reached,
 * says that it is not ready, or is silent (its /livez too) is left for the next one.
 * @module
 */
import type { Clock } from "@weir/common/clock";
import type { TlsCredentials, TlsFiles } from "@weir/common/tls-files";
import type { Transport } from "./transport.ts";

/** A place that has not begun to answer after this time is asked for a sign of life, in milliseconds. */
export const SILENT_MS = 3000;
/** How long it has to give one. */
export const LIFE_SIGN_MS_MAX = 2000;
/** Idle connections are kept this long: shorter than servers keep theirs, so that none is used as it closes. */
const POOL_IDLE_MS = 60_000;

/** No place answered. */
export class TransportError extends Error {
  override readonly name = "TransportError";
}

/** What the places have in common. */
export interface ReplicaOptions {
  clock: Clock;
  token?: string;
  ca?: string[];
  files?: TlsFiles;
  /** Index of the place to begin with; default: any, so that clients spread. */
  first?: number;
  /** Default {@link SILENT_MS}. */
  silentMs?: number;
  /** How one place is asked; default: the runtime's `fetch`. */
  fetch?: (url: string, init: RequestInit) => Promise<Response>;
}

type DenoInit = RequestInit & { client?: Deno.HttpClient };

/** Requests to a service that runs in several places. `urls` are base URLs without a final slash, at least one. */
export class ReplicaTransport implements Transport {
  readonly address: string;
  readonly #urls: readonly string[];
  readonly #options: ReplicaOptions;
  readonly #fetch: (url: string, init: RequestInit) => Promise<Response>;
  #current: number;
  #client: Deno.HttpClient | undefined;
  #retired: Deno.HttpClient | undefined;
  #credentials: TlsCredentials | undefined;

  constructor(urls: readonly string[], options: ReplicaOptions) {
    if (urls.length === 0) throw new TransportError("Cannot connect: there is no URL");
    this.#urls = urls;
    this.#options = options;
    this.#fetch = options.fetch ?? ((url, init) => fetch(url, init));
    this.#current = (options.first ?? crypto.getRandomValues(new Uint32Array(1))[0]) % urls.length;
    this.address = urls.join(",");
    if (options.files === undefined && options.ca !== undefined) {
      this.#client = Deno.createHttpClient({ caCerts: options.ca, poolIdleTimeout: POOL_IDLE_MS });
    }
  }

  async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const replayable = !(init.body instanceof ReadableStream);
    const begin = this.#current;
    const faults: string[] = [];
    let cause: unknown;
    for (let step = 0; step < this.#urls.length; step++) {
      const index = (begin + step) % this.#urls.length;
      const last = step === this.#urls.length - 1 || !replayable;
      try {
        const answer = await this.#ask(this.#urls[index], path, init, last);
        if (answer.status === 503 && !last) {
          faults.push(`${this.#urls[index]}: not ready`);
          await answer.body?.cancel();
          continue;
        }
        if (answer.status !== 503) this.#current = index;
        return answer;
      } catch (error) {
        if (init.signal?.aborted) throw error;
        cause = error;
        faults.push(`${this.#urls[index]}: ${reasonOf(error)}`);
        if (last) break;
      }
    }
    // The next request begins somewhere else: this one may have met a place that comes back last.
    this.#current = (begin + 1) % this.#urls.length;
    throw new TransportError(faults.join("; "), { cause });
  }

  close(): void {
    this.#client?.close();
    this.#retired?.close();
    this.#client = this.#retired = undefined;
  }

  async #ask(url: string, path: string, init: RequestInit, last: boolean): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#options.token !== undefined) headers.set("authorization", `Bearer ${this.#options.token}`);
    const client = this.#clientNow();
    if (last) return await this.#fetch(url + path, { ...init, headers, client } as DenoInit);
    const silent = new AbortController(), answered = new AbortController();
    const signal = init.signal ? AbortSignal.any([init.signal, silent.signal]) : silent.signal;
    this.#watchSilence(url, client, answered.signal).then((dead) => {
      if (dead) silent.abort(new TransportError("it is silent"));
    });
    try {
      return await this.#fetch(url + path, { ...init, headers, client, signal } as DenoInit);
    } finally {
      answered.abort();
    }
  }

  /** Resolves with true when the place gives no sign of life, with false once it answered. */
  async #watchSilence(
    url: string,
    client: Deno.HttpClient | undefined,
    answered: AbortSignal,
  ): Promise<boolean> {
    const { clock, silentMs = SILENT_MS } = this.#options;
    while (true) {
      await clock.sleep(silentMs, answered);
      if (answered.aborted) return false;
      const late = new AbortController();
      clock.sleep(LIFE_SIGN_MS_MAX, answered).then(() => late.abort());
      try {
        const answer = await this.#fetch(`${url}/livez`, { client, signal: late.signal } as DenoInit);
        await answer.body?.cancel();
      } catch {
        return !answered.aborted;
      }
    }
  }

  /** A client with the certificates as they are now. */
  #clientNow(): Deno.HttpClient | undefined {
    const { files, clock } = this.#options;
    if (files === undefined) return this.#client;
    const credentials = files.get(clock.monotonicMs());
    if (credentials === this.#credentials && this.#client !== undefined) return this.#client;
    const { cert, key, authority } = credentials;
    const client = Deno.createHttpClient({ caCerts: [authority], cert, key, poolIdleTimeout: POOL_IDLE_MS });
    // Closing a client ends its streams. The one before the last has none that live: its certificate has expired.
    this.#retired?.close();
    this.#retired = this.#client;
    this.#client = client;
    this.#credentials = credentials;
    return client;
  }
}

/** Why a fetch failed, as far down as it is told. */
function reasonOf(error: unknown): string {
  let deepest = error as Error;
  while (deepest.cause instanceof Error) deepest = deepest.cause;
  const text = deepest.message || String(error);
  return text.replace(/^error sending request( for url \([^)]*\))?: /, "").replace(
    /^client error \(Connect\): /,
    "",
  );
}
