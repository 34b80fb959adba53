/**
 * Errors as a person should read them: what went wrong, what was found, what to do; never a stack trace.
 *
 * @module
 */
import { transportText } from "./transport_text.ts";

interface ProblemLike {
  readonly detail?: string;
  readonly code?: string;
  readonly action?: string;
  readonly problem?: ProblemLike;
  readonly causes?: readonly { path: string; detail: string }[];
}

const WRONG_USAGE = new Set([
  "QUERY_INVALID",
  "FILTER_INVALID",
  "FILTER_NOT_SUPPORTED",
  "FIELD_MASK_INVALID",
]);

/** Whether a service refused what the command line had to say to it, as wrong usage. */
export function isWrongUsage(error: unknown): boolean {
  const code = error instanceof Error ? (error as Error & ProblemLike).code : undefined;
  return WRONG_USAGE.has(code ?? "");
}

/** Text of an error for stderr, with its causes and what to do. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (Deno.env.get("WEIR_DEBUG")) return error.stack ?? error.message;
  const transport = transportText(error);
  if (transport !== undefined) return transport;
  const lines = [error.message];
  const problem = (error as Error & ProblemLike).problem ?? (error as Error & ProblemLike);
  for (const cause of problem.causes ?? []) lines.push(`  ${cause.path}: ${cause.detail}`);
  for (
    let cause = error.cause, depth = 0;
    cause instanceof Error && depth < 4;
    cause = cause.cause, depth++
  ) {
    if (!lines[0].includes(cause.message)) lines.push(`  because: ${cause.message}`);
  }
  if (problem.action) lines.push(`  ${problem.action}`);
  return lines.join("\n");
}
