/**
 * A question to a service that is always answered: with the service's answer, or with how it failed to give one.
 *
 * @module
 */
import type { WeirClient } from "../client.ts";
import { errorText } from "@weir/common/log";
import { ProblemError } from "@weir/common/problem";

/** What came of a question. */
export type Answer<T> =
  | { readonly kind: "answered"; readonly value: T }
  /** The process is there, takes the question and does not answer. */
  | { readonly kind: "hung"; readonly error: string }
  /** Nobody listens there. */
  | { readonly kind: "away"; readonly error: string }
  /** It answers that it cannot. */
  | { readonly kind: "refused"; readonly error: string };

/** How long an answer may take. */
export const ANSWER_MS_MAX = 2000;
/** The deadline counts in steps of this: a machine that gives us no time either does not make others late. */
const STEP_MS = 100;

/** Asks, and closes the client. Never rejects, and resolves within the deadline. */
export async function question<T>(
  client: WeirClient,
  ask: (client: WeirClient) => Promise<T>,
  deadlineMs: number = ANSWER_MS_MAX,
): Promise<Answer<T>> {
  const { address } = client;
  const late = deadline(deadlineMs);
  try {
    return await Promise.race([
      ask(client).then((value): Answer<T> => ({ kind: "answered", value }), failure),
      late.passed.then((): Answer<T> => ({
        kind: "hung",
        error: `${address} does not answer within ${deadlineMs / 1000} s`,
      })),
    ]);
  } finally {
    late.cancel();
    client.close();
  }
}

function failure(error: unknown): Answer<never> {
  const code = error instanceof ProblemError ? error.code : "";
  if (code === "UNREACHABLE" || code === "POD_UNREACHABLE") return { kind: "away", error: errorText(error) };
  if (code === "DEADLINE_EXCEEDED" || code === "STREAM_SILENT") {
    return { kind: "hung", error: errorText(error) };
  }
  return { kind: "refused", error: errorText(error) };
}

function deadline(ms: number): { passed: Promise<void>; cancel: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const passed = new Promise<void>((resolve) => {
    const step = (leftMs: number) => {
      if (leftMs <= 0) return resolve();
      timer = setTimeout(() => step(leftMs - STEP_MS), Math.min(STEP_MS, leftMs));
    };
    step(ms);
  });
  return { passed, cancel: () => clearTimeout(timer) };
}
