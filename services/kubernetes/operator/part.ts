/** One of the operator's tasks, for one term. @module */
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import type { ApiClient } from "../api/mod.ts";
import type { Feeds } from "./feeds.ts";
import type { Term } from "./term.ts";
import type { OnWrite, Writer } from "./writer.ts";

/** What a part is made with. */
export interface PartContext {
  client: ApiClient;
  term: Term;
  feeds: Feeds;
  clock: Clock;
  log?: Logger;
  onWrite?: OnWrite;
}

/** What a part is: it begins when what it needs is known, whatever the others wait for. */
export interface Part {
  // What each of them keeps of its objects is its own matter.
  // deno-lint-ignore no-explicit-any
  writers: Writer<any>[];
  /** Has to be known before anything is written. */
  needs: { waitSynced(signal: AbortSignal): Promise<void> }[];
  /** When all of that is known, before the writers begin. */
  prepare?: () => void;
}

/** Runs a part until its term ends. */
export async function runPart({ writers, needs, prepare }: Part, term: Term): Promise<void> {
  const { signal } = term;
  const begin = async () => {
    await Promise.all([
      ...needs.map((feed) => feed.waitSynced(signal)),
      ...writers.map((writer) => writer.read(signal)),
    ]);
    if (signal.aborted) return;
    prepare?.();
    for (const writer of writers) writer.begin();
  };
  await Promise.all([begin(), ...writers.map((writer) => writer.run())]);
}
