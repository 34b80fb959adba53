/** One run at a time on a cluster: two would take each other's pods away. @module */
import { setTimeout as delay } from "node:timers/promises";
import type { ApiClient } from "@weir/kubernetes/api";
import { LeaderElection } from "@weir/kubernetes/lease";
import { TargetError } from "../target.ts";

const NAME = "weir-connectivity-test";
/** A run that was cut off holds its Lease for 15 s more. */
const WAIT_MS_MAX = 20_000, POLL_MS = 50;

/** Holds the Lease of runs, in this namespace, until it is disposed of. @throws {TargetError} another run holds it */
export async function holdRun(client: ApiClient, namespace: string): Promise<AsyncDisposable> {
  const election = new LeaderElection(client, {
    namespace,
    name: NAME,
    holder: `${Deno.hostname()}-${Deno.pid}-${crypto.randomUUID().slice(0, 8)}`,
    lead: (term) =>
      new Promise((resolve) => term.signal.addEventListener("abort", () => resolve(), { once: true })),
  }).start();
  const endMs = performance.now() + WAIT_MS_MAX;
  while (!election.isLeading) {
    if (performance.now() > endMs) {
      const why = election.error?.message ??
        `weir connectivity test runs there already, as ${election.holder}`;
      await election.stop();
      throw new TargetError(`Cannot begin: ${why}`);
    }
    await delay(POLL_MS);
  }
  return { [Symbol.asyncDispose]: () => election.stop() };
}
