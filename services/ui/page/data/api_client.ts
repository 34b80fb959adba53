/**
 * The server's API: questions with a deadline, and streams that come back by themselves.
 * @module
 */
import type { Problem } from "../../api.ts";

/** Longest wait for an answer. */
const DEADLINE_MS = 15_000, QUESTION_MS = 65_000;
/** A stream says something at least every 5 s; after three times that it is taken for dead. */
export const SILENT_MS = 16_000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000] as const;
/** Longest line of a stream that is taken: the largest map is some 4 MiB. */
const LINE_MAX = 32 * 1024 * 1024;

/** What went wrong, for people. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly action: string;
  constructor(problem: Problem) {
    super(problem.detail);
    this.code = problem.code;
    this.status = problem.status;
    this.action = problem.action ?? "";
  }
}

/** Address of a route below the base path. */
export function apiUrl(path: string, parameters: Iterable<readonly [string, string]> = []): string {
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [name, value] of parameters) url.searchParams.append(name, value);
  return url.href;
}

/** Asks once. @throws {ApiError} what the server, or the way there, says */
export async function fetchJson<T>(url: string, signal?: AbortSignal): Promise<T> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const response = await open(url, signal ? AbortSignal.any([signal, deadline]) : deadline);
  try {
    return await response.json() as T;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable(error);
  }
}

/** Asks what is too long for an address, and may take long. @throws {ApiError} as {@link fetchJson} */
export async function askJson<T>(url: string, question: object, signal: AbortSignal): Promise<T> {
  const headers = { "content-type": "application/json" }, deadline = AbortSignal.timeout(QUESTION_MS);
  const response = await open(url, AbortSignal.any([signal, deadline]), {
    method: "POST",
    headers,
    body: JSON.stringify(question),
  });
  return await response.json() as T;
}

async function open(url: string, signal: AbortSignal, more: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { signal, credentials: "same-origin", cache: "no-store", ...more });
  } catch (error) {
    throw unreachable(error);
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => undefined) as Partial<Problem> | undefined;
  throw new ApiError({
    status: response.status,
    code: problem?.code ?? `HTTP_${response.status}`,
    detail: problem?.detail ?? `The server answered ${response.status} ${response.statusText}`,
    action: problem?.action,
  });
}

function unreachable(error: unknown): ApiError {
  const late = error instanceof DOMException && error.name === "TimeoutError";
  return new ApiError({
    status: 0,
    code: late ? "TIMEOUT" : "UNREACHABLE",
    detail: late ? "The server did not answer in time" : "The server cannot be reached",
    action: "Does the service ui run (weir status)? The page goes on by itself when it answers again.",
  });
}

/** How a stream is. */
export type StreamState =
  | { readonly kind: "connecting" }
  | { readonly kind: "open"; readonly heardMs: number }
  | { readonly kind: "broken"; readonly error: ApiError; readonly retryAtMs: number };

/**
 * Follows a stream until the signal ends it; a stream that breaks, or is silent, is opened anew.
 * @param onLine Gets each object; what it throws ends that connection.
 * @param onState Hears how it is, at most once a second while all is well.
 */
export async function followStream<T>(
  url: string,
  { signal, onLine, onState }: {
    signal: AbortSignal;
    onLine: (value: T) => void;
    onState: (state: StreamState) => void;
  },
): Promise<void> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      onState({ kind: "connecting" });
      await readStream<T>(url, signal, (value) => {
        failures = 0;
        onLine(value);
      }, (heardMs) => onState({ kind: "open", heardMs }));
      if (signal.aborted) return;
      throw unreachable(undefined);
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof ApiError ? error : unreachable(error);
      const waitMs = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
      onState({ kind: "broken", error: known, retryAtMs: Date.now() + waitMs });
      // A question that is wrong stays wrong.
      if (known.status >= 400 && known.status < 500 && known.status !== 429) return;
      await wait(waitMs, signal);
    }
  }
}

async function readStream<T>(
  url: string,
  signal: AbortSignal,
  onLine: (value: T) => void,
  onHeard: (atMs: number) => void,
): Promise<void> {
  const silent = new AbortController();
  let timer = setTimeout(() => silent.abort(), SILENT_MS);
  try {
    const response = await open(url, AbortSignal.any([signal, silent.signal]));
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    const parts: string[] = [];
    let length = 0, toldMs = 0;
    while (true) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(), SILENT_MS);
      const now = Date.now();
      if (now - toldMs > 1000) onHeard(toldMs = now);
      let from = 0;
      for (let end = value.indexOf("\n"); end >= 0; end = value.indexOf("\n", from)) {
        parts.push(value.slice(from, end));
        const line = parts.join("");
        parts.length = length = 0;
        from = end + 1;
        if (line !== "") onLine(JSON.parse(line) as T);
      }
      if (from < value.length) {
        parts.push(value.slice(from));
        length += value.length - from;
        if (length > LINE_MAX) throw new Error("A line of the stream is too long");
      }
    }
  } finally {
    clearTimeout(timer);
    silent.abort();
  }
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
