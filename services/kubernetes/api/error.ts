/** What the API server refuses, and what keeps it from answering, as errors. @module */
import { ProblemError, type ProblemInit } from "@weir/common/problem";

/** Codes by the reason that a `Status` gives. */
const CODE_OF_REASON: Record<string, string> = {
  Unauthorized: "UNAUTHENTICATED",
  Forbidden: "FORBIDDEN",
  NotFound: "NOT_FOUND",
  AlreadyExists: "ALREADY_EXISTS",
  Conflict: "CONFLICT",
  Gone: "EXPIRED",
  Expired: "EXPIRED",
  Invalid: "INVALID",
  BadRequest: "INVALID",
  TooManyRequests: "TOO_MANY_REQUESTS",
  Timeout: "API_SERVER_TIMEOUT",
  ServerTimeout: "API_SERVER_TIMEOUT",
};
const CODE_OF_STATUS: Record<number, string> = {
  400: "INVALID",
  401: "UNAUTHENTICATED",
  403: "FORBIDDEN",
  404: "NOT_FOUND",
  409: "CONFLICT",
  410: "EXPIRED",
  422: "INVALID",
  429: "TOO_MANY_REQUESTS",
};
const DETAIL_CHARS_MAX = 1000;
const CAUSES_MAX = 16;

/**
 * A request to the API server failed. `code` is one of those above for what it refused, `API_SERVER_ERROR` for what it
 * could not do, `API_SERVER_UNREACHABLE` and `DEADLINE_EXCEEDED` where it did not answer, `STREAM_SILENT` and `STREAM_CUT`
 * of a watch, `ANSWER_INVALID` and `ANSWER_TOO_LARGE` of what nobody can read.
 */
export class ApiServerError extends ProblemError {
  override readonly name = "ApiServerError";
  /** How long it asks to be left alone, milliseconds; 0: it does not say. */
  readonly retryAfterMs: number;

  constructor(code: string, init: ProblemInit & { retryAfterMs?: number }) {
    super(code, init);
    this.retryAfterMs = init.retryAfterMs ?? 0;
  }

  /** True when the API server gave no answer at all: nobody can tell what it did. */
  get isUnanswered(): boolean {
    return this.code === "API_SERVER_UNREACHABLE" || this.code === "DEADLINE_EXCEEDED";
  }
}

/** The error that a `Status` object means. `text` is the body where it is none. */
export function statusError(
  action: string,
  answer: { status: number; body: unknown; text?: string; retryAfter?: string | null },
): ApiServerError {
  const body = (typeof answer.body === "object" && answer.body !== null ? answer.body : {}) as {
    kind?: unknown;
    code?: unknown;
    reason?: unknown;
    message?: unknown;
    details?: { retryAfterSeconds?: unknown; causes?: unknown };
  };
  const isStatus = body.kind === "Status";
  const status = isStatus && typeof body.code === "number" && body.code >= 400 ? body.code : answer.status;
  const reason = isStatus && typeof body.reason === "string" ? body.reason : "";
  const message = isStatus && typeof body.message === "string" ? body.message : answer.text ?? "";
  const causes = isStatus && Array.isArray(body.details?.causes) ? body.details.causes : [];
  const seconds = Number(body.details?.retryAfterSeconds ?? answer.retryAfter ?? 0);
  return new ApiServerError(CODE_OF_REASON[reason] ?? CODE_OF_STATUS[status] ?? "API_SERVER_ERROR", {
    status,
    detail: `Cannot ${action}: ${message.trim().slice(0, DETAIL_CHARS_MAX) || `HTTP status ${status}`}`,
    found: reason || status,
    causes: causes.slice(0, CAUSES_MAX).map((cause) => ({
      path: String(cause?.field ?? ""),
      detail: String(cause?.message ?? "").slice(0, DETAIL_CHARS_MAX),
    })),
    retryAfterMs: seconds > 0 && seconds < 3600 ? seconds * 1000 : 0,
  });
}
