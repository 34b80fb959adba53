/** Test helpers: an allocator with its client on a clock of the test's, and cases that run on both databases. @module */
import { setTimeout as delay } from "node:timers/promises";
import {
  AllocateRequest,
  AllocateResponse,
  type Claim,
  ClaimRequest,
  ClaimResponse,
  HeartbeatRequest,
  HeartbeatResponse,
  Identity,
  IpcacheBatch,
  IpcacheBatchResponse,
  IpcacheEntry,
  Node,
} from "@weir/proto/identity";
import type { Init } from "@weir/proto";
import { WeirClient } from "@weir/client";
import type { Position } from "@weir/common";
import { Database } from "@weir/common/state";
import { FakeClock } from "@weir/common/testing/fake_clock";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { createIdentityAllocator, type IdentityAllocatorConfig } from "./mod.ts";

/** An allocator on the database with its client; the test owns the clock. */
// deno-lint-ignore explicit-function-return-type
export async function open(
  url: string,
  config: Partial<IdentityAllocatorConfig> = {},
  clock: FakeClock = new FakeClock(),
  random?: () => number,
) {
  const database = new Database(url);
  const allocator = createIdentityAllocator({ database, clock, config, random });
  await allocator.start();
  // No test fails because the machine is slow.
  const client = new WeirClient({ handler: allocator.api.fetch }, { deadlineMs: 300_000 });
  return {
    allocator,
    clock,
    client,
    database,
    identities: client.collection("identities", Identity),
    nodes: client.collection("nodes", Node),
    ipcache: client.collection("ipcache", IpcacheEntry),
    allocate: (labels: string[], holder = labels.join(), node = "node-1", seen: Partial<Position> = {}) =>
      client.call("/v1/identities:allocate", {
        request: { message: AllocateRequest, value: { labels, node, holder, ...seen } },
        response: AllocateResponse,
      }).then((answer) => ({ ...answer.identity!, created: answer.created })),
    release: (holder: string, node = "node-1") => allocator.release({ node, holder }),
    claim: (node: string, claims: Init<Claim>[]) =>
      client.call("/v1/identities:claim", {
        request: { message: ClaimRequest, value: { node, claims } },
        response: ClaimResponse,
      }).then((answer) => answer.results),
    heartbeat: (node: string, seen: Partial<Position> = {}) =>
      client.call("/v1/nodes:heartbeat", {
        request: { message: HeartbeatRequest, value: { node, ...seen } },
        response: HeartbeatResponse,
      }),
    updateIpcache: (batch: Init<IpcacheBatch>) =>
      client.call("/v1/ipcache:update", {
        request: { message: IpcacheBatch, value: batch },
        response: IpcacheBatchResponse,
      }),
    async close() {
      await allocator.stop();
      await database.close();
    },
  };
}

/** Waits for something that happens in the background. */
export async function until(what: () => boolean | Promise<boolean>, ms = 15_000): Promise<void> {
  const end = performance.now() + ms;
  while (!await what()) {
    if (performance.now() > end) throw new Error(`Not within ${ms} ms: ${what}`);
    await delay(10);
  }
}

/** A test that is given the URL of an empty database. */
export type Case = (url: string) => Promise<void>;

/** Registers the cases on SQLite, and on a PostgreSQL of its own those and `replicated`, which open it more than once. */
export function testOnBoth(
  subject: string,
  cases: Record<string, Case>,
  replicated: Record<string, (postgres: TestPostgres) => Promise<void>> = {},
): void {
  const missing = postgresMissing();
  if (missing) console.log(`SKIP ${subject} on PostgreSQL: ${missing}`);
  for (const [claim, check] of Object.entries(cases)) {
    Deno.test(`${subject} on SQLite: ${claim}`, async () => {
      const directory = await Deno.makeTempDir();
      await check(`sqlite:${directory}/x.db`);
      await Deno.remove(directory, { recursive: true });
    });
  }
  Deno.test({
    name: `${subject} on PostgreSQL`,
    ignore: missing !== undefined,
    async fn(t) {
      const postgres = await TestPostgres.start();
      let number = 0;
      try {
        for (const [claim, check] of Object.entries(cases)) {
          await t.step(claim, async () => await check(await postgres.createDatabase(`case_${number++}`)));
        }
        for (const [claim, check] of Object.entries(replicated)) {
          await t.step(claim, async () => await check(postgres));
        }
      } finally {
        await postgres.close();
      }
    },
  });
}
