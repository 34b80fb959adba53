/**
 * One request of OTLP over HTTP, and what its answer means (opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response"): 429, 502, 503 and 504
 * may be tried again, after what Retry-After says; 413 is too large; every other is final. Nothing takes longer than its deadline.
 * @module
 */
import { type Clock, errorText } from "@weir/common";
import { withDeadline } from "@weir/common/deadline";
import type { OtlpClient } from "./otlp_client.ts";

/** What became of a request. */
export type Outcome =
  | { readonly kind: "taken"; readonly rejected: number; readonly why: string }
  | { readonly kind: "later"; readonly afterMs: number | undefined; readonly why: string }
  | { readonly kind: "too large" | "refused"; readonly why: string };

/** Where requests go. */
export interface OtlpTarget {
  /** "http://127.0.0.1:4318", below which are /v1/logs and /v1/metrics. */
  readonly endpoint: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly compression: "gzip" | "none";
  /** Absent: the system's certificate authorities. */
  readonly client?: OtlpClient;
}

/** How long a request may take. */
export const REQUEST_MS_MAX = 10_000;
/** No Retry-After is waited for longer. */
export const RETRY_AFTER_MS_MAX = 300_000;
const ANSWER_BYTES_MAX = 1 << 16;
const LATER: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** Sends a body of JSON; never throws. */
export async function sendOtlp(
  { endpoint, headers, compression, client }: OtlpTarget,
  signal: "logs" | "metrics",
  body: string,
  { clock, stop, deadlineMs = REQUEST_MS_MAX }: { clock: Clock; stop?: AbortSignal; deadlineMs?: number },
): Promise<Outcome> {
  const url = `${endpoint}/v1/${signal}`;
  try {
    return await withDeadline(
      {
        clock,
        ms: deadlineMs,
        signal: stop,
        error: () => new Error(`no answer within ${deadlineMs / 1000} s`),
      },
      async (signal) => {
        const response = await fetch(url, {
          method: "POST",
          headers: {
            ...headers,
            "content-type": "application/json",
            ...(compression === "gzip" ? { "content-encoding": "gzip" } : {}),
          },
          body: compression === "gzip" ? await gzip(body) : body,
          signal,
          ...(client === undefined ? {} : { client: await client() }),
          // It could lead to where this process may not speak, with our headers.
          redirect: "manual",
        });
        return outcomeOf(response, await readStart(response), clock.nowMs());
      },
    );
  } catch (error) {
    return { kind: "later", afterMs: undefined, why: `${url}: ${errorText(error)}` };
  }
}

async function gzip(text: string): Promise<Uint8Array<ArrayBuffer>> {
  const packed = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

function outcomeOf(response: Response, text: string, nowMs: number): Outcome {
  const { status } = response;
  if (status >= 200 && status < 300) return { kind: "taken", ...partialSuccess(text) };
  const why = `${response.url} answered ${status}${text === "" ? "" : `: ${text.slice(0, 200)}`}`;
  if (LATER.has(status)) {
    return { kind: "later", afterMs: retryAfterMs(response.headers.get("retry-after"), nowMs), why };
  }
  return { kind: status === 413 ? "too large" : "refused", why };
}

/** "120", or a date. */
function retryAfterMs(text: string | null, nowMs: number): number | undefined {
  if (text === null) return undefined;
  const ms = /^\s*\d+\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return Number.isNaN(ms) ? undefined : Math.min(RETRY_AFTER_MS_MAX, Math.max(0, ms));
}

function partialSuccess(text: string): { rejected: number; why: string } {
  try {
    const { partialSuccess } = JSON.parse(text);
    const rejected = Number(partialSuccess?.rejectedLogRecords ?? partialSuccess?.rejectedDataPoints ?? 0);
    return {
      rejected: rejected > 0 ? rejected : 0,
      why: String(partialSuccess?.errorMessage ?? "").slice(0, 200),
    };
  } catch {
    return { rejected: 0, why: "" };
  }
}

/** The beginning of an answer, whatever its length. */
async function readStart(response: Response): Promise<string> {
  const reader = response.body?.getReader(), decoder = new TextDecoder();
  let text = "", bytes = 0;
  while (reader !== undefined && bytes < ANSWER_BYTES_MAX) {
    const { value, done } = await reader.read();
    if (done) return text;
    bytes += value.length;
    text += decoder.decode(value, { stream: true });
  }
  await reader?.cancel();
  return text;
}
