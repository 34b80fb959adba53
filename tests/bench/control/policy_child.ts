/**
 * One version of the policy engine's repository and tables under load, in a process of its own; prints its figures as one
 * line of JSON. Started by policy.ts with the root of the version's tree; everything of the version is imported from
 * there.
 * @module
 */
import process from "node:process";
import type { Place } from "./compare.ts";

/** Figures of one version. CPU milliseconds of the whole process, memory in MiB of heap after a collection. */
export interface PolicyFigures {
  loadCpuMs: number;
  loadedMib: number;
  identityCpuMs: number;
  ruleCpuMs: number;
  clusterwideCpuMs: number;
  clusterwideMib: number;
  clusterwideIdentityCpuMs: number;
  clusterwideRuleCpuMs: number;
  clusterwideChangeCpuMs: number;
  syncCpuMs: number;
  syncMib: number;
  nodeCpuMs: number;
  clientCpuMs: number;
  clientMib: number;
  clientChangeCpuMs: number;
  clientChangeMib: number;
  /** Entries of all map states without clusterwide rules, so that two versions can be seen to say as much. */
  entries: number;
}

/** What is loaded. */
interface PolicyLoad extends Place {
  identities: number;
  rules: number;
  clusterwide: number;
  clients: number;
}

if (import.meta.main) {
  const load = JSON.parse(Deno.args[0]) as PolicyLoad;
  console.log(JSON.stringify(await measure(load)));
  Deno.exit(0);
}

async function measure(load: PolicyLoad): Promise<PolicyFigures> {
  const from = (path: string) => import(`${load.root}/${path}`);
  const { readManifests } = await from("services/policy-engine/manifest.ts");
  const { PolicyRepository } = await from("services/policy-engine/policy_repository.ts");
  const { Publisher } = await from("services/policy-engine/publisher.ts");
  const { Reflector, WeirClient } = await from("services/client/mod.ts");
  const { ApiServer, LabelSet, MetricsRegistry, systemClock } = await from("services/common/mod.ts");
  const { MapState } = await from("proto/gen/weir_policy_v1.ts");
  // As the service gives it out: versions that have no message of their own for it encode the plain one.
  const { SHARED_MAP_STATE = MapState, mapStateParts } = await from("services/policy-engine/policy_group.ts");
  const repository = new PolicyRepository();
  const publisher = new Publisher(repository, new MetricsRegistry(), systemClock);
  const apps = Math.max(1, load.rules);
  const addIdentity = (index: number) =>
    repository.upsertIdentity(
      1000 + index,
      LabelSet.parse([
        `k8s:app=a${index % apps}`,
        `k8s:team=t${index % 10}`,
        `k8s:pod=p${index}`,
        `k8s:io.kubernetes.pod.namespace=n${index % 20}`,
        "k8s:io.cilium.k8s.policy.cluster=default",
      ]),
    );
  const put = (kind: string, name: string, spec: string) => {
    const text = `{apiVersion: cilium.io/v2, kind: ${kind}, metadata: {name: ${name}}, spec: ${spec}}`;
    const { policies, faults } = readManifests(text);
    if (faults.length > 0) throw new Error(JSON.stringify(faults));
    for (const policy of policies) repository.upsertPolicy(policy);
  };
  const putRule = (index: number, port: number) =>
    put(
      "CiliumClusterwideNetworkPolicy",
      `rule-${index}`,
      `{endpointSelector: {matchLabels: {app: a${index}}}, ingress: [{fromEndpoints: [{matchLabels: {app: a${
        (index + 1) % apps
      }}}], toPorts: [{ports: [{port: "${port}", protocol: TCP}]}]}]}`,
    );
  /** Of ten, one is for everyone in the cluster, the others for a team each. */
  const putClusterwide = (index: number, port: number) => {
    const peer = index % 10 === 0 ? "{}" : `{matchLabels: {team: t${index % 10}}}`;
    put(
      "CiliumClusterwideNetworkPolicy",
      `everyone-${index}`,
      `{endpointSelector: {}, ingress: [{fromEndpoints: [${peer}], toPorts: [{ports: [{port: "${port}", protocol: TCP}]}]}]}`,
    );
  };
  const timed = (work: () => void) => {
    const startMs = cpu();
    work();
    publisher.publish();
    return cpu() - startMs;
  };
  const median = (work: (round: number) => void) => {
    const each = Array.from({ length: 5 }, (_, round) => timed(() => work(round)));
    return each.sort((a, b) => a - b)[2];
  };
  /** What one node reads: the map states of its share of the identities, each encoded. */
  const read = (client: number) => {
    const startMs = cpu();
    let entries = 0;
    for (let i = client; i < load.identities; i += load.clients) {
      const state = publisher.mapStates.get(String(1000 + i));
      SHARED_MAP_STATE.encode(state);
    }
    const cpuMs = cpu() - startMs;
    for (let i = client; i < load.identities; i += load.clients) {
      entries += publisher.mapStates.get(String(1000 + i)).entries.length;
    }
    return { entries, cpuMs };
  };
  /** One node's client, in step; `read()` answers CPU of both ends and bytes since it was last called. */
  const follow = () => {
    const api = new ApiServer({ name: "policy-engine" });
    api.collection({
      name: "mapstates",
      message: SHARED_MAP_STATE,
      table: publisher.mapStates,
      partsOf: mapStateParts,
      filters: {
        identity: (text: string) => (state: { identity: number }) => String(state.identity) === text,
      },
    });
    let bytes = 0, startMs = cpu();
    const handler = async (request: Request) => {
      const response: Response = await api.fetch(request);
      const counted = new TransformStream<Uint8Array, Uint8Array>({
        transform: (chunk, controller) => {
          bytes += chunk.length;
          controller.enqueue(chunk);
        },
      });
      return new Response(response.body!.pipeThrough(counted), response);
    };
    const names = Array.from(
      { length: load.identities / load.clients },
      (_, i) => `${1000 + i * load.clients}`,
    );
    const states = new WeirClient({ handler }).collection("mapstates", MapState);
    let told = 0;
    const onChange = () => void told++;
    const options = "setNames" in Reflector.prototype ? { names } : { query: { identity: names } };
    const reflector = new Reflector(states, { ...options, onChange }).start();
    const read = async () => {
      while (told < names.length) await new Promise((resolve) => setTimeout(resolve, 1));
      const figures = { cpuMs: cpu() - startMs, mib: bytes / 2 ** 20 };
      told = bytes = 0;
      startMs = cpu();
      return figures;
    };
    return { read, stop: () => reflector.stop() };
  };
  const empty = heapMib();
  const loadCpuMs = timed(() => {
    for (let i = 0; i < load.identities; i++) addIdentity(i);
    for (let i = 0; i < load.rules; i++) putRule(i, 80);
  });
  const loadedMib = heapMib() - empty;
  const identityCpuMs = median((round) => addIdentity(load.identities + round));
  const ruleCpuMs = median((round) => putRule(round, 81));
  let entries = 0, syncCpuMs = 0;
  for (let client = 0; client < load.clients; client++) {
    const one = read(client);
    entries += one.entries;
    syncCpuMs += one.cpuMs;
  }
  const syncMib = heapMib() - empty;
  const clusterwideCpuMs = timed(() => {
    for (let i = 0; i < load.clusterwide; i++) putClusterwide(i, 8000 + i);
  });
  const clusterwideMib = heapMib() - empty;
  const clusterwideIdentityCpuMs = median((round) => addIdentity(load.identities + 5 + round));
  const clusterwideRuleCpuMs = median((round) => putRule(round, 82));
  const clusterwideChangeCpuMs = median((round) => putClusterwide(1, 9000 + round));
  const nodeCpuMs = read(0).cpuMs;
  const client = follow();
  const first = await client.read();
  addIdentity(load.identities + 10);
  publisher.publish();
  const change = await client.read();
  await client.stop();
  return {
    loadCpuMs,
    loadedMib,
    identityCpuMs,
    ruleCpuMs,
    clusterwideCpuMs,
    clusterwideMib,
    clusterwideIdentityCpuMs,
    clusterwideRuleCpuMs,
    clusterwideChangeCpuMs,
    syncCpuMs,
    syncMib,
    nodeCpuMs,
    clientCpuMs: first.cpuMs,
    clientMib: first.mib,
    clientChangeCpuMs: change.cpuMs,
    clientChangeMib: change.mib,
    entries,
  };
}

/** CPU of the whole process, milliseconds. */
function cpu(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function heapMib(): number {
  (globalThis as unknown as { gc(): void }).gc();
  return Deno.memoryUsage().heapUsed / 2 ** 20;
}
