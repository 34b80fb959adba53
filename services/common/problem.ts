/** Operating errors as RFC 9457 problem details, the one error form of every API. @module */

/** Media type of a problem in JSON. */
export const PROBLEM_JSON = "application/problem+json";

/** The fields of a problem; `code` is stable, upper snake case. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: string;
  found?: string;
  expected?: string;
  action?: string;
  causes?: ProblemCause[];
}
/** One reason among several: where, and what is wrong there. */
export interface ProblemCause {
  path: string;
  detail: string;
}

/** What the constructor of {@link ProblemError} takes; all but `detail` have defaults by code. */
export interface ProblemInit {
  /** HTTP status, default 400. */
  status?: number;
  title?: string;
  detail: string;
  found?: string | number;
  expected?: string | number;
  action?: string;
  causes?: ProblemCause[];
  cause?: unknown;
}

/** An operating error: typed by `code`, with what was found, what was expected and what to do. */
export class ProblemError extends Error {
  readonly code: string;
  readonly problem: Problem;

  constructor(code: string, init: ProblemInit) {
    super(init.detail, init.cause === undefined ? undefined : { cause: init.cause });
    this.name = "ProblemError";
    this.code = code;
    this.problem = {
      type: `urn:weir:problem:${code.toLowerCase().replaceAll("_", "-")}`,
      title: init.title ?? titleOf(code),
      status: init.status ?? 400,
      detail: init.detail,
      code,
      ...(init.found === undefined ? {} : { found: String(init.found) }),
      ...(init.expected === undefined ? {} : { expected: String(init.expected) }),
      ...(init.action === undefined ? {} : { action: init.action }),
      ...(init.causes === undefined ? {} : { causes: init.causes }),
    };
  }

  /** HTTP status of this problem. */
  get status(): number {
    return this.problem.status;
  }

  /** The error that a problem document describes; fields that are missing or of a wrong type get defaults. */
  static fromProblem(document: unknown, status: number): ProblemError {
    const p = (typeof document === "object" && document !== null ? document : {}) as Record<string, unknown>;
    const text = (key: string) => typeof p[key] === "string" && p[key] !== "" ? p[key] as string : undefined;
    return new ProblemError(text("code") ?? "HTTP_ERROR", {
      status: typeof p.status === "number" && p.status >= 400 ? p.status : status,
      title: text("title"),
      detail: text("detail") ?? `HTTP status ${status}`,
      found: text("found"),
      expected: text("expected"),
      action: text("action"),
      causes: Array.isArray(p.causes)
        ? p.causes.map((c) => ({ path: String(c?.path ?? ""), detail: String(c?.detail ?? "") }))
        : undefined,
    });
  }
}

/** Any thrown value as a problem; what is not a {@link ProblemError} is an INTERNAL_ERROR of status 500. */
export function toProblem(error: unknown): ProblemError {
  if (error instanceof ProblemError) return error;
  return new ProblemError("INTERNAL_ERROR", {
    status: 500,
    detail: error instanceof Error ? error.message : String(error),
    action: "See the log of the service; this is a defect of Weir if it repeats",
    cause: error,
  });
}

/** The HTTP answer for an error. */
export function problemResponse(error: unknown): Response {
  const { problem } = toProblem(error);
  return new Response(JSON.stringify(problem) + "\n", {
    status: problem.status,
    headers: { "content-type": PROBLEM_JSON },
  });
}

/** NOT_FOUND of one object. */
export function notFound(collection: string, name: string): ProblemError {
  return new ProblemError("NOT_FOUND", {
    status: 404,
    detail: `Cannot find ${collection} ${JSON.stringify(name)}: there is no object of this name`,
    found: "nothing",
    expected: name,
    action: `GET /v1/${collection} lists the names there are`,
  });
}

/** INVALID_ARGUMENT: a request that names something wrong; `found` and `expected` say what. */
export function invalidArgument(detail: string, more: Omit<ProblemInit, "detail"> = {}): ProblemError {
  return new ProblemError("INVALID_ARGUMENT", { status: 400, detail, ...more });
}

function titleOf(code: string): string {
  const words = code.toLowerCase().replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
