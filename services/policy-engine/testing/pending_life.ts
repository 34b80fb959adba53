/** Engines with changes that wait to be confirmed, and what is asked of them. @module */
import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { ApiServer, type Clock, Logger, type ProblemError, systemClock, WatchedTable } from "@weir/common";
import { Database } from "@weir/common/state";
import { postgresMissing, TestPostgres } from "@weir/common/testing/postgres";
import { Identity, IpcacheEntry } from "@weir/proto/identity";
import { ApplyRequest, ApplyResponse, CidrIdentity, ConfirmRequest, Policy } from "@weir/proto/policy";
import { createPolicyEngine } from "../create_policy_engine.ts";
import type { PolicyEngine } from "../policy_engine.ts";

/** A policy that lets a prefix in. */
export const policy = (name: string, cidr: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: ${name}, namespace: shop }\nspec:\n` +
  `  endpointSelector: {}\n  ingress:\n  - fromCIDR: [${cidr}]\n`;

function allocator(): WeirClient {
  const api = new ApiServer({ name: "identity-allocator" });
  api.collection({ name: "identities", message: Identity, table: new WatchedTable({ name: "identities" }) });
  api.collection({ name: "ipcache", message: IpcacheEntry, table: new WatchedTable({ name: "ipcache" }) });
  return new WeirClient({ handler: api.fetch });
}
const ALLOCATOR = allocator();

/** A wall clock that is ahead. */
export function ahead(seconds: number): Clock {
  return { ...systemClock, nowMs: () => Date.now() + seconds * 1000 };
}

export interface Life {
  readonly engine: PolicyEngine;
  readonly client: WeirClient;
}

export async function live<R>(
  url: string,
  body: (life: Life) => Promise<R>,
  clock: Clock = systemClock,
  log: Logger = Logger.silent(),
): Promise<R> {
  const database = new Database(url);
  const engine = createPolicyEngine({ database, allocator: ALLOCATOR, clock, log });
  engine.start();
  try {
    await engine.waitReady();
    return await body({ engine, client: new WeirClient({ handler: engine.handler }) });
  } finally {
    await engine.stop();
    await database.close();
  }
}

export const apply = (client: WeirClient, value: Partial<ApplyRequest>) =>
  client.call("/v1/policies:apply", {
    request: { message: ApplyRequest, value: ApplyRequest.create(value) },
    response: ApplyResponse,
  });
export const end = (client: WeirClient, verb: "confirm" | "rollback", id = "") =>
  client.call(`/v1/policies:${verb}`, {
    request: { message: ConfirmRequest, value: { id } },
    response: ApplyResponse,
  });
export const fails = (what: Promise<unknown>) =>
  what.then(() => assert.fail("it was taken"), (error: ProblemError) => error);

/** What is stored, but for the number that only goes up; and the numbers of prefixes. */
export async function stored(client: WeirClient): Promise<unknown> {
  const policies = (await client.collection("policies", Policy).list()).items;
  const cidrs = (await client.collection("cidridentities", CidrIdentity).list()).items;
  return {
    policies: policies.map((one) => ({ ...one, policyRevision: 0 })).sort((a, b) => a.name < b.name ? -1 : 1),
    cidrs: cidrs.map(({ prefix, identity }) => `${prefix} ${identity}`).sort(),
  };
}

export async function until(what: () => boolean | Promise<boolean>): Promise<void> {
  while (!await what()) await new Promise((resolve) => setTimeout(resolve, 20));
}

export async function withUrl(body: (url: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "weir-pending-" });
  try {
    await body(`sqlite:${directory}/policy.db`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** A test of a database file, and of PostgreSQL where that is there. */
export function onDatabases(name: string, body: (url: string) => Promise<void>): void {
  Deno.test(`${name}, on SQLite`, () => withUrl(body));
  Deno.test({
    name: `${name}, on PostgreSQL`,
    ignore: postgresMissing() !== undefined,
    fn: async () => {
      const postgres = await TestPostgres.start();
      try {
        await body(await postgres.createDatabase("pending"));
      } finally {
        await postgres.close();
      }
    },
  });
}

export const OLD = `${policy("changed", "192.0.2.0/24")}---\n${policy("stays", "198.51.100.0/24")}`;
export const NEW = { file: "new.yaml", manifest: policy("changed", "203.0.113.0/24") };
export const MORE = { file: "more.yaml", manifest: policy("created", "203.0.113.128/25") };
