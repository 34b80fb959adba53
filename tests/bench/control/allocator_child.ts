/**
 * One version of the identity allocator under load, in a process of its own; prints its figures as one line of JSON.
 * Started by allocator.ts with the root of the version's tree; everything of the version is imported from there.
 * @module
 */
import type { Place } from "./compare.ts";

/** Figures of one version. Times in milliseconds, memory in MiB, CPU is that of the whole process. */
export interface AllocatorFigures {
  loadMs: number;
  loadCpuMs: number;
  loadedMib: number;
  putMs: number;
  putCpuMs: number;
  putWatchedCpuMs: number;
  hundredMs: number;
  deleteNodeMs: number;
  sweepMs: number;
  firstHeartbeatsCpuMs: number;
  heartbeatsMs: number;
  heartbeatsCpuMs: number;
  allocateMs: number;
}

/** What is loaded, and how often is measured. */
interface AllocatorLoad extends Place {
  nodes: number;
  podsPerNode: number;
  identities: number;
  watchers: number;
  rounds: number;
}

if (import.meta.main) {
  const load = JSON.parse(Deno.args[0]) as AllocatorLoad;
  console.log(JSON.stringify(await measure(load)));
  Deno.exit(0);
}

async function measure(load: AllocatorLoad): Promise<AllocatorFigures> {
  const from = (path: string) => import(`${load.root}/${path}`);
  const { createIdentityAllocator } = await from("services/identity-allocator/mod.ts");
  const { Database } = await from("services/common/database.ts");
  const { Identity, IpcacheEntry, Node } = await from("proto/gen/weir_identity_v1.ts");
  const open = async () => {
    const database = new Database(`sqlite:${load.directory}/bench.db`);
    const allocator = createIdentityAllocator({ database, config: { claimGraceS: 0 } });
    await allocator.start();
    return { database, allocator };
  };
  const empty = await open();
  await fill(empty.database, load, { Identity, IpcacheEntry, Node });
  await empty.allocator.stop();
  await empty.database.close();

  collect();
  const before = Deno.memoryUsage().heapUsed;
  const startMs = performance.now(), startCpuMs = cpu();
  const { allocator } = await open();
  const loadMs = performance.now() - startMs, loadCpuMs = cpu() - startCpuMs;
  collect();
  const loadedMib = (Deno.memoryUsage().heapUsed - before) / 2 ** 20;

  const json = { "content-type": "application/json" };
  const call = async (method: string, path: string, body?: unknown) => {
    const response = await allocator.api.fetch(
      new Request(`http://localhost${path}`, {
        method,
        headers: json,
        body: body === undefined ? undefined : JSON.stringify(body),
      }),
    );
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return await response.text();
  };
  const put = (i: number) =>
    call("PUT", `/v1/ipcache/${encodeURIComponent(prefixOf(i))}`, {
      identity: 300 + Math.floor(Math.random() * 1000),
      node: `node-${i % load.nodes}`,
      labels: [`k8s:app=changed-${Math.random()}`],
    });
  const many = async (count: number, action: (i: number) => Promise<unknown>) => {
    const wallMs = performance.now(), cpuMs = cpu();
    for (let i = 0; i < count; i++) await action(i);
    return { ms: (performance.now() - wallMs) / count, cpuMs: (cpu() - cpuMs) / count };
  };
  await many(20, put); // warm
  const puts = await many(load.rounds, put);

  const readers: Promise<void>[] = [];
  const stop: AbortController = new AbortController();
  let seen = 0;
  for (let i = 0; i < load.watchers; i++) {
    const { headers } = await allocator.api.fetch(new Request("http://localhost/v1/ipcache/10.0.0.0%2F32"));
    const revision = headers.get("weir-revision") ?? allocator.ipcache.revision;
    const response = await allocator.api.fetch(
      new Request(`http://localhost/v1/ipcache?watch=true&revision=${revision}`, {
        headers: { accept: "application/x-protobuf" },
      }),
    );
    const reader = response.body!.getReader();
    stop.signal.addEventListener("abort", () => void reader.cancel());
    readers.push((async () => {
      while (!(await reader.read()).done) seen++;
    })());
  }
  await settle();
  const watchedRounds = Math.min(20, load.rounds), seenBefore = seen;
  const cpuMs = cpu();
  for (let i = 0; i < watchedRounds; i++) {
    await put(i);
    const wanted = seenBefore + (i + 1) * load.watchers;
    const endMs = performance.now() + 5000;
    while (seen < wanted && performance.now() < endMs) await settle();
  }
  const putWatchedCpuMs = (cpu() - cpuMs) / watchedRounds;
  stop.abort();
  await Promise.allSettled(readers);

  const heartbeat = allocator.heartbeat === undefined
    ? (i: number) => call("PUT", `/v1/nodes/node-${i}`, {})
    : (i: number) => call("POST", "/v1/nodes:heartbeat", { node: `node-${i}` });
  // The first one of each node computes its digest.
  const firsts = await many(load.nodes, heartbeat);
  const heartbeats = await many(load.nodes, heartbeat);
  const batch = (round: number) =>
    Array.from({ length: 100 }, (_, i) => ({
      prefix: `10.250.${round % 250}.${i}/32`,
      identity: 300,
      node: "node-1",
    }));
  const hundred = await many(10, async (round) => {
    if (allocator.updateIpcache !== undefined) {
      return await call("POST", "/v1/ipcache:update", { node: "node-1", upserts: batch(round) });
    }
    for (const entry of batch(round)) {
      await call("PUT", `/v1/ipcache/${encodeURIComponent(entry.prefix)}`, entry);
    }
  });
  const sweep = await many(3, () => allocator.sweep());
  const deletes = await many(20, (i) => call("DELETE", `/v1/nodes/node-${100 + i}`));
  const allocated = await many(100, (i) =>
    call("POST", "/v1/identities:allocate", {
      labels: [`k8s:app=new-${i}`],
      node: `node-${200 + i}`,
      holder: `new-${i}`,
    }));
  return {
    loadMs,
    loadCpuMs,
    loadedMib,
    putMs: puts.ms,
    putCpuMs: puts.cpuMs,
    putWatchedCpuMs,
    hundredMs: hundred.ms,
    deleteNodeMs: deletes.ms,
    sweepMs: sweep.ms,
    firstHeartbeatsCpuMs: firsts.cpuMs * load.nodes,
    heartbeatsMs: heartbeats.ms * load.nodes,
    heartbeatsCpuMs: heartbeats.cpuMs * load.nodes,
    allocateMs: allocated.ms,
  };
}

/** Rows as both versions have them, in one transaction. */
async function fill(
  // deno-lint-ignore no-explicit-any
  database: any,
  load: AllocatorLoad,
  // deno-lint-ignore no-explicit-any
  { Identity, IpcacheEntry, Node }: any,
): Promise<void> {
  await database.close();
  const { DatabaseSync } = await import("node:sqlite");
  const db = new DatabaseSync(`${load.directory}/bench.db`);
  db.exec("begin");
  const object = db.prepare(
    "insert into weir_objects (collection, name, revision, body) values (?, ?, 1, ?)",
  );
  const identity = db.prepare("insert into weir_identity (number, labels, released_unix_s) values (?, ?, 0)");
  const holder = db.prepare("insert into weir_holder (node, holder, number) values (?, ?, ?)");
  const cidr = db.prepare("insert into weir_pod_cidr (cidr, node, family) values (?, ?, ?)");
  const labelsOf = (i: number) => [
    `k8s:app=app-${i}`,
    "k8s:io.cilium.k8s.policy.cluster=default",
    `k8s:io.kubernetes.pod.namespace=namespace-${i % 500}`,
  ];
  for (let i = 0; i < load.identities; i++) {
    const number = 256 + i, labels = labelsOf(i);
    identity.run(number, labels.join(";"));
    object.run("identities", String(number), Identity.encode({ number, labels }));
  }
  for (let i = 0; i < load.nodes; i++) {
    const name = `node-${i}`, podCidrV4 = `10.${i >> 8}.${i & 255}.0/24`;
    const podCidrV6 = `fd57:6569:7200::${(i + 1).toString(16)}:0/112`;
    cidr.run(podCidrV4, name, 4);
    cidr.run(podCidrV6, name, 6);
    object.run("nodes", name, Node.encode({ name, podCidrV4, podCidrV6 }));
  }
  for (let i = 0; i < load.nodes * load.podsPerNode; i++) {
    const node = `node-${i % load.nodes}`, number = 256 + i % load.identities, name = `shop/pod-${i}`;
    holder.run(node, name, number);
    const prefix = prefixOf(i);
    object.run(
      "ipcache",
      prefix,
      IpcacheEntry.encode({
        prefix,
        identity: number,
        node,
        nodeIpv4: "192.0.2.1",
        endpoint: name,
        labels: labelsOf(i % load.identities),
      }),
    );
  }
  db.exec("commit");
  db.close();
}

/** Address of a pod, outside the ranges that are measured with. */
function prefixOf(i: number): string {
  return `100.${64 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`;
}

function cpu(): number {
  // Whole process: the garbage collector's threads belong to the cost.
  const fields = Deno.readTextFileSync("/proc/self/stat").split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function collect(): void {
  (globalThis as { gc?: () => void }).gc?.();
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
