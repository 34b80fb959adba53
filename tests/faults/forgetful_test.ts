/**
 * A control plane that forgets: its databases are gone, or yesterday's. The nodes fill the directory again with what they
 * run, traffic goes on, what is denied stays denied, and what cannot be known is said.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { Database } from "@weir/common/state";
import { WeirClient } from "@weir/client";
import { createPolicyEngine } from "@weir/policy-engine";
import { ApplyRequest, ApplyResponse } from "@weir/proto/policy";
import { CAST, clients, isWell, pidOf, pod, processes, signal, TRAFFIC, Witness } from "./faulty_lab.ts";

const lab = new Lab(`forget${Deno.pid}`);
/** Where the lab keeps its state, given by `WEIR_STATE_DIR`. */
let state = "";
const databaseOf = (service: string, file: string) => `${state}/${lab.name}-node-1/${service}/${file}`;

interface EndpointRow {
  name: string;
  status: { identity: number; ipv4: string; state: string; conditions?: { kind: string; message: string }[] };
}
/** Those with addresses: a node itself is an endpoint that the ipcache has otherwise. */
async function endpoints(): Promise<EndpointRow[]> {
  const rows: EndpointRow[] = [];
  for (const node of ["node-1", "node-2"]) {
    const { items = [] } = await ask(node, "endpoint-manager", "endpoints");
    rows.push(...items as EndpointRow[]);
  }
  return rows.filter(({ name }) => name !== "reserved:host").sort((a, b) => a.name < b.name ? -1 : 1);
}
const numbers = (rows: EndpointRow[]) =>
  rows.map(({ name, status }) => `${name} ${status.identity} ${status.ipv4}`);

async function ask(node: string, service: string, path: string): Promise<{ items?: unknown[] }> {
  const socket = `/run/weir/${lab.name}-${node}/${service}.sock`;
  const { out } = await run("curl", ["-s", "-m", "20", "--unix-socket", socket, `http://x/v1/${path}`]);
  return JSON.parse(out);
}

/** Puts other files in the place of a service's database while it stands still, and starts the service anew. */
async function replaceDatabase(service: string, file: string, from: string | undefined): Promise<void> {
  const pid = await pidOf(lab, service, "node-1"), path = databaseOf(service, file);
  signal(pid, "SIGSTOP");
  for (const suffix of ["", "-wal", "-shm"]) {
    await Deno.remove(path + suffix).catch(() => {});
    if (from !== undefined) await run("cp", ["-p", `${from}${suffix}`, `${path}${suffix}`]);
  }
  signal(pid, "SIGKILL");
  await until(`the ${service} is there anew`, async () => {
    const row = (await processes(lab)).find((row) => row.name === service && row.node === "node-1");
    return row !== undefined && row.pid > 0 && row.pid !== pid;
  });
}

/** Copies a database as it is, its service standing still meanwhile. */
async function backup(service: string, file: string): Promise<string> {
  const pid = await pidOf(lab, service, "node-1"), to = `${state}/backup-${file}`;
  signal(pid, "SIGSTOP");
  for (const suffix of ["", "-wal", "-shm"]) {
    await run("cp", ["-p", databaseOf(service, file) + suffix, to + suffix]);
  }
  signal(pid, "SIGCONT");
  return to;
}

/** Writes policies into a copy of the policy engine's database, as an engine that runs on it does. */
async function writeInto(path: string, texts: readonly string[]): Promise<void> {
  const database = new Database(`sqlite:${path}`);
  const allocator = new WeirClient({ socket: `/run/weir/${lab.name}-node-1/identity-allocator.sock` });
  const engine = createPolicyEngine({ database, allocator });
  engine.start();
  try {
    await engine.waitReady();
    const client = new WeirClient({ handler: engine.handler });
    for (const manifest of texts) {
      const request = { message: ApplyRequest, value: { manifest } };
      await client.call("/v1/policies:apply", { request, response: ApplyResponse });
    }
  } finally {
    await engine.stop();
    allocator.close();
    await database.close();
  }
}

/** The newest policy set that the engine of the lab has, and the one that a node holds with its tag. */
async function policySets(): Promise<{ engine: number; node: number }> {
  const { policyRevision } = await ask("node-1", "policy-engine", "revision") as { policyRevision?: string };
  const kept = await Deno.readTextFile(`${state}/${lab.name}-node-2/endpoint-manager/policy-set.json`);
  return { engine: Number(policyRevision), node: Number(JSON.parse(kept).policyRevision) };
}

async function isReady(pod: string): Promise<void> {
  await until(
    `${pod} is ready`,
    async () => (await endpoints()).some((e) => e.name === `default/${pod}` && e.status.state === "READY"),
  );
}

/** Waits until the directory knows all that the nodes run, by the numbers that they run with. */
async function isFilled(): Promise<void> {
  await until("the directory knows every endpoint again", async () => {
    const rows = await endpoints();
    const { items = [] } = await ask("node-1", "identity-allocator", "ipcache");
    const told = new Map(
      (items as { prefix: string; identity: number }[]).map((e) => [e.prefix, e.identity]),
    );
    const { items: held = [] } = await ask("node-1", "identity-allocator", "holders");
    const holders = new Map((held as { holder: string; number: number }[]).map((h) => [h.holder, h.number]));
    const { items: nodes = [] } = await ask("node-1", "identity-allocator", "nodes");
    return nodes.length === 2 &&
      rows.every(({ name, status }) =>
        status.state === "READY" && told.get(`${status.ipv4}/32`) === status.identity &&
        holders.get(name) === status.identity
      );
  });
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    state = await Deno.makeTempDir({ prefix: "weir-state-" });
    await Deno.chmod(state, 0o755);
    Deno.env.set("WEIR_STATE_DIR", state);
    await lab.up(2, CAST);
    await lab.inForce();
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    Deno.env.delete("WEIR_STATE_DIR");
    await Deno.remove(state, { recursive: true });
  });
}
const fault = (name: string, fn: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn });

fault(
  "the allocator's database is gone: nodes fill it again with the same numbers, and nothing is interrupted",
  async () => {
    await using witness = await Witness.begin(lab);
    const before = numbers(await endpoints());
    await replaceDatabase("identity-allocator", "identity.db", undefined);
    await witness.goesOn("while the directory is empty");
    await isFilled();
    assert.deepEqual(numbers(await endpoints()), before);
    await lab.put(pod("new-1", 1));
    await isReady("new-1");
    const [first, ...rest] = (await endpoints()).map((e) => e.status.identity).sort();
    assert.equal(new Set([first, ...rest]).size, 4, "servers share one, and nobody else does");
    await lab.expect([...TRAFFIC, "from: new-1, to: server-1, port: 80, expect: deny"]);
    await lab.ok(["lab", "delete", "pod/default/new-1"]);
    await witness.goesOn("after it was filled again");
    await isWell(lab);
  },
);

fault(
  "the allocator's database is yesterday's: what came since is told again, what went since does not come back",
  async () => {
    await lab.put(pod("yesterday-1", 2));
    await isReady("yesterday-1");
    const old = await backup("identity-allocator", "identity.db");
    await lab.ok(["lab", "delete", "pod/default/yesterday-1"]);
    await lab.put(pod("today-1", 2));
    await lab.apply(clients("client", "today"));
    await lab.expect(["from: today-1, to: server-1, port: 80, expect: allow"]);
    await using witness = await Witness.begin(lab);
    const before = numbers(await endpoints());
    await replaceDatabase("identity-allocator", "identity.db", old);
    await isFilled();
    assert.deepEqual(numbers(await endpoints()), before);
    await until("yesterday's pod is gone again", async () => {
      const { items = [] } = await ask("node-1", "identity-allocator", "ipcache");
      return !(items as { endpoint: string }[]).some((e) => e.endpoint === "default/yesterday-1");
    });
    await lab.expect([...TRAFFIC, "from: today-1, to: server-1, port: 80, expect: allow"]);
    const taken = (await endpoints()).map(({ status }) => status.identity);
    await lab.put(pod("new-1", 1));
    await isReady("new-1");
    const fresh = (await endpoints()).find(({ name }) => name === "default/new-1")!.status.identity;
    assert.equal(taken.includes(fresh), false, `${fresh} is nobody else's`);
    await lab.expect(["from: new-1, to: server-2, port: 80, expect: deny"]);
    await witness.goesOn("with yesterday's directory");
    await isWell(lab);
    await lab.ok(["lab", "delete", "pod/default/today-1", "pod/default/new-1"]);
    await lab.apply(clients("client"));
  },
);

fault(
  "the policy engine's database is yesterday's and was written to past its old numbers: nothing of it opens before it is accepted",
  async () => {
    await lab.put(pod("yesterday-1", 2));
    await isReady("yesterday-1");
    await lab.apply(clients("client", "yesterday"));
    await lab.expect(["from: yesterday-1, to: server-1, port: 80, expect: allow"]);
    const old = await backup("policy-engine", "policy.db");
    await lab.apply(clients("client"));
    const closed = [
      "from: yesterday-1, to: server-1, port: 80, expect: deny",
      "from: yesterday-1, to: server-2, port: 80, expect: deny",
    ];
    await lab.expect(closed);
    let now = 0;
    await until("the nodes were told which policy set they hold", async () => {
      const { engine, node } = await policySets();
      now = engine;
      return node === engine;
    });
    const fillers = Array.from(
      { length: 8 },
      (_, i) => clients("client").replace("name: clients", `name: more-${i}`),
    );
    await writeInto(old, fillers);
    await using witness = await Witness.begin(lab);
    await replaceDatabase("policy-engine", "policy.db", old);
    await until(
      "the nodes say that the policy engine is older than what is in force",
      async () =>
        (await endpoints()).some(({ status }) =>
          status.conditions?.some((c) =>
            c.kind === "POLICY_FAILED" && /older than what is in force on node-\d/.test(c.message)
          )
        ),
    );
    assert.ok((await policySets()).engine > now, "its numbers are the greater ones");
    const listed = await lab.weir(["policy", "list"]);
    assert.match(listed.err, /older than what is in force on node-\d.*weir policy accept-database/);
    await lab.expect([...TRAFFIC, ...closed]);
    // A node whose process begins anew opens nothing either.
    signal(await pidOf(lab, "endpoint-manager", "node-2"), "SIGKILL");
    await witness.goesOn("while the database is in doubt");
    await lab.expect([...TRAFFIC, ...closed]);
    await lab.ok(["policy", "accept-database"]);
    await lab.apply(clients("client"));
    await lab.drop(...fillers.map((_, i) => `cnp:default/more-${i}`));
    await until(
      "the policy is in force",
      async () => (await endpoints()).every(({ status }) => !status.conditions?.length),
    );
    await lab.expect([...TRAFFIC, ...closed]);
    await witness.goesOn("after the database was accepted");
    await lab.ok(["lab", "delete", "pod/default/yesterday-1"]);
    await isWell(lab);
  },
);

fault(
  "the policy engine's database is gone: nothing opens before the policies can be applied again, and it is said",
  async () => {
    await using witness = await Witness.begin(lab);
    await replaceDatabase("policy-engine", "policy.db", undefined);
    await until(
      "the nodes say that the policy engine is older than what is in force",
      async () =>
        (await endpoints()).some(({ name, status }) =>
          name === "default/server-1" &&
          status.conditions?.some((c) =>
            c.kind === "POLICY_FAILED" && /older than what is in force on node-\d/.test(c.message)
          )
        ),
    );
    const listed = await lab.weir(["policy", "list"]);
    assert.match(listed.err, /older than what is in force on node-\d.*weir policy accept-database/);
    await witness.goesOn("while the policy engine has nothing");
    // One policy applied is not all that was in force: only who knows says that it is.
    const applied = await lab.weir(["policy", "apply", "-f", "-", "--timeout", "3s"], clients("client"));
    assert.equal(applied.code, 1, "it is stored, and not in force before the database is accepted");
    assert.match(applied.err, /accept-database/);
    await witness.goesOn("while the database is in doubt");
    await lab.ok(["policy", "accept-database"]);
    await until(
      "the policy is in force",
      async () => (await endpoints()).every(({ status }) => !status.conditions?.length),
    );
    await witness.goesOn("after the policy was applied again");
    await lab.expect(TRAFFIC);
  },
);
