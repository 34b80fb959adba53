/** A history for tests, with its routes and without a relay. @module */
import type { FakeClock } from "@weir/common/testing/fake_clock";
import { ApiServer, type Clock, Health, Logger, MetricsRegistry } from "@weir/common";
import { WeirClient } from "@weir/client";
import { Database } from "@weir/common/state";
import { FlowHistory } from "../history.ts";
import type { PreviewSources } from "../preview.ts";
import { mountHistory } from "../routes.ts";

/** A history with its routes. */
export interface TestHistory {
  readonly history: FlowHistory;
  readonly health: Health;
  /** Why it would begin anew. */
  readonly lost: string[];
  /** The answer in JSON, whatever its status. */
  // deno-lint-ignore no-explicit-any
  get(path: string): Promise<any>;
  /** All flows of all pages. */
  // deno-lint-ignore no-explicit-any
  pages(path: string, list: "flows" | "connections"): Promise<any[]>;
  /** The answer to a message in JSON. */
  // deno-lint-ignore no-explicit-any
  post(path: string, body: object): Promise<any>;
  close(): Promise<void>;
}

/** Policies and identities that nobody tells of. */
export const NOBODY: PreviewSources = {
  allocator: new WeirClient({ handler: () => new Response(null, { status: 404 }) }),
  policyEngine: new WeirClient({ handler: () => new Response(null, { status: 404 }) }),
};

/** Makes one on this database. */
export function testHistory(
  clock: Clock,
  url = "sqlite::memory:",
  {
    flowsPerSMax = 1_000_000,
    bytesMax = 1 << 30,
    ageMsMax = 7 * 86_400_000,
    owner = "one",
    sources = NOBODY,
  } = {},
): TestHistory {
  const database = new Database(url, { clock }), health = new Health(), lost: string[] = [];
  const history = new FlowHistory({
    ...{ database, clock, health, log: Logger.silent(), metrics: new MetricsRegistry(), flowsPerSMax, owner },
    onLost: (why) => lost.push(why),
    limits: { ageMsMax, rollupAgeMsMax: 30 * 86_400_000, bytesMax },
  });
  const api = new ApiServer({ name: "flow-history", clock });
  mountHistory(api, history, { clock, relayAway: () => "", ...sources });
  const get = async (path: string) => await (await api.fetch(new Request(`http://h${path}`))).json();
  return {
    history,
    health,
    lost,
    get,
    async post(path, body) {
      const headers = { "content-type": "application/json", accept: "application/json" };
      const request = new Request(`http://h${path}`, { method: "POST", headers, body: JSON.stringify(body) });
      return await (await api.fetch(request)).json();
    },
    async pages(path, list) {
      const all = [];
      for (let after = "";;) {
        const page = await get(`${path}${after === "" ? "" : `&after=${encodeURIComponent(after)}`}`);
        if (page.code !== undefined) throw new Error(`${path}: ${page.detail}`);
        all.push(...page[list] ?? []);
        if (!page.next) return all;
        after = page.next;
      }
    },
    close: () => database.close(),
  };
}

/** Gives a path for a database file, in a directory that goes afterwards. */
export async function withFile(walk: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await walk(`${directory}/history.db`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Advances the clock until it is settled. @param realStepMs real time for each 100 ms of the clock */
export async function settled<R>(
  clock: FakeClock,
  promise: Promise<R>,
  realStepMs = 1,
): Promise<PromiseSettledResult<R>> {
  let result: PromiseSettledResult<R> | undefined;
  Promise.allSettled([promise]).then(([one]) => result = one);
  while (result === undefined) {
    await clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve, realStepMs));
  }
  return result;
}
