/** Asks a service whether it lives, and what it waits for. @module */
import { ProblemError } from "@weir/common/problem";
import type { SignOfLife } from "@weir/common/supervised-process";
import type { WeirClient } from "./client.ts";

/** What the service answers. Rejects when it does not, or `signal` aborts. */
export async function askSignOfLife(client: WeirClient, signal: AbortSignal): Promise<SignOfLife> {
  try {
    const answer = await client.send("/livez", { signal });
    await answer.body?.cancel();
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== "HTTP_ERROR") throw error;
    return { stuck: error.problem.detail.trim() };
  }
  const { ready, text } = await client.readiness(signal);
  signal.throwIfAborted();
  return ready ? {} : { waitsFor: firstWait(text) };
}

/** The first condition of a readiness text that does not hold. */
function firstWait(text: string): string {
  const line = text.split("\n").find((line) => line.startsWith("[-]"));
  return line?.slice(4) ?? text.split("\n")[0];
}
