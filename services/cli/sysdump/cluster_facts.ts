/**
 * What a sysdump says of a cluster of Kubernetes beside what Weir's services answer: objects and events of the API server, logs of
 * Weir's pods, and, by a program in the pod of each node, its kernel and network. Secrets are never asked for.
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import type { WeirPod } from "@weir/connectivity/weir-pods";
import { type ApiClient, fetchPodLog, type KubernetesObject, type Resource } from "@weir/kubernetes/api";
import { Process } from "@weir/proto/agent";
import { KINDS } from "../install/kinds.ts";
import { type Fact, type MachineFact, machineFacts, nodeFacts, OUTPUT_BYTES_MAX } from "./machine_facts.ts";
import { isSecretVariable, REDACTED } from "./redact.ts";

/** Objects of one kind that are kept. */
const OBJECTS_MAX = 5000;
const EVENTS_MAX = 2000;
const LOG_LINES = 5000;
const CONTAINER = "weir";
const EVENT: Resource = { group: "", version: "v1", kind: "Event", plural: "events", namespaced: true };
/** Copies of manifests in annotations, with whatever they hold. */
const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/** Kinds of the whole cluster, which hold nothing that is secret. */
const WHOLE: readonly Resource[] = [
  KINDS.Node,
  KINDS.Namespace,
  KINDS.Service,
  KINDS.EndpointSlice,
  KINDS.NetworkPolicy,
  KINDS.CiliumNetworkPolicy,
  KINDS.CiliumClusterwideNetworkPolicy,
  KINDS.CiliumCIDRGroup,
  KINDS.CiliumIdentity,
  KINDS.CiliumEndpoint,
  KINDS.CiliumEndpointSlice,
  KINDS.CiliumNode,
  KINDS.CiliumLoadBalancerIPPool,
];
/** Kinds of which Weir's own namespace alone is looked at. */
const OWN: readonly Resource[] = [KINDS.Deployment, KINDS.DaemonSet, KINDS.ConfigMap, KINDS.Lease];

/** A pod of Weir in whatever state. */
export interface AnyPod {
  readonly name: string;
  /** "" until it is on one. */
  readonly node: string;
  /** "node", "control-plane", "uninstall". */
  readonly component: string;
  readonly restarts: number;
}

/** Every pod of Weir, those that do not get ready too. @throws {ApiServerError} */
export async function anyPods(client: ApiClient, namespace: string): Promise<AnyPod[]> {
  const found: AnyPod[] = [];
  const selection = { namespace, labelSelector: "app.kubernetes.io/name=weir" };
  for await (const { items } of client.pages(KINDS.Pod, selection)) {
    for (const { metadata: { name, labels }, spec, status } of items) {
      found.push({
        name,
        node: spec?.nodeName ?? "",
        component: labels?.["app.kubernetes.io/component"] ?? "",
        restarts: status?.containerStatuses?.[0]?.restartCount ?? 0,
      });
    }
  }
  return found;
}

/** Everything of a cluster. @param logged pods whose logs are wanted @param plane that answers; undefined: none does */
export function clusterFacts(
  client: ApiClient,
  { namespace, plane, logged }: { namespace: string; plane: WeirPod | undefined; logged: readonly AnyPod[] },
): Fact[] {
  const objects = (resource: Resource, options: ObjectOptions = {}): Fact => ({
    file: `cluster/objects/${options.file ?? resource.plural}.json`,
    gather: (msMax) => objectsText(client, resource, options, msMax),
  });
  return [
    {
      file: "cluster/objects/version.json",
      gather: (msMax) => client.text("/version", { deadlineMs: msMax }),
    },
    ...WHOLE.map((resource) => objects(resource)),
    ...OWN.map((resource) => objects(resource, { namespace })),
    objects(KINDS.Pod, { namespace, file: "pods-of-weir" }),
    // Of others what says where they are and how: no environment, no arguments.
    objects(KINDS.Pod, { prune: placeOf }),
    objects(KINDS.CustomResourceDefinition, { metadataOnly: true }),
    objects(EVENT, { most: EVENTS_MAX }),
    ...(plane === undefined ? [] : [agentFact(plane)]),
    ...logged.flatMap((pod) => logFacts(client, namespace, pod)),
  ];
}

/** What programs on a node say, all by one program in its pod. @returns their texts by file; those that are missing did not end */
export async function nodeTexts(
  client: ApiClient,
  { namespace, node, pod, msMax }: { namespace: string; node: string; pod: string; msMax: number },
): Promise<Map<string, string>> {
  const facts = [
    ...machineFacts().map((fact) => ({ ...fact, file: `nodes/${node}/${fact.file}` })),
    ...nodeFacts(node, []),
  ];
  const boundary = `-- ${crypto.randomUUID()}`;
  const command = ["sh", "-c", scriptOf(facts, boundary, Math.ceil(msMax / 1000))];
  const limits = { deadlineMs: msMax };
  using session = await client.exec({ namespace, pod, container: CONTAINER, command }, limits);
  session.endInput();
  // The programs have their deadlines one after the other; most end at once.
  const stop = setTimeout(() => session.close(), msMax * 3);
  let text = "";
  try {
    for await (const piece of session.stdout.pipeThrough(new TextDecoderStream())) text += piece;
  } catch (error) {
    if (text === "") throw error;
  } finally {
    clearTimeout(stop);
  }
  return textsOf(text, facts, boundary);
}

/** A shell's program that runs all of them, each behind a line of its number. */
export function scriptOf(facts: readonly MachineFact[], boundary: string, secondsMax: number): string {
  const quote = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`;
  return facts.map(({ words }, index) =>
    `echo; echo ${quote(`${boundary} ${index}`)}; timeout -s KILL ${secondsMax} ${
      words.map(quote).join(" ")
    } </dev/null 2>&1 || echo "exit code $?"`
  ).join("\n");
}

/** The texts of such a program, by file. */
export function textsOf(text: string, facts: readonly MachineFact[], boundary: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of `\n${text}`.split(`\n${boundary} `).slice(1)) {
    const end = part.indexOf("\n"), fact = facts[Number(part.slice(0, end))];
    const said = part.slice(end + 1);
    if (end < 0 || fact === undefined) continue;
    found.set(
      fact.file,
      said.length <= OUTPUT_BYTES_MAX ? said : `${said.slice(0, OUTPUT_BYTES_MAX)}\n(cut off here)\n`,
    );
  }
  return found;
}

interface ObjectOptions {
  readonly namespace?: string;
  /** Name of the file without its end; default: the kind's plural. */
  readonly file?: string;
  readonly metadataOnly?: boolean;
  readonly most?: number;
  readonly prune?: (object: KubernetesObject) => KubernetesObject;
}

async function objectsText(
  client: ApiClient,
  resource: Resource,
  { namespace, metadataOnly, most = OBJECTS_MAX, prune = (object) => object }: ObjectOptions,
  msMax: number,
): Promise<string> {
  const items: KubernetesObject[] = [];
  let isWhole = true;
  for await (const page of client.pages(resource, { namespace, metadataOnly, deadlineMs: msMax })) {
    for (const item of page.items) {
      if (items.length < most) items.push(withoutSecrets(prune(item)));
      else isWhole = false;
    }
    if (!isWhole) break;
  }
  return JSON.stringify({ isWhole, items }, null, 1) + "\n";
}

/** The object without what nobody needs, and without values that may be secret. */
export function withoutSecrets(object: KubernetesObject): KubernetesObject {
  const { managedFields: _, annotations, ...metadata } = object.metadata as KubernetesObject["metadata"] & {
    managedFields?: unknown;
  };
  const { [LAST_APPLIED]: _applied, ...others } = annotations ?? {};
  const text = JSON.stringify(
    { ...object, metadata: { ...metadata, annotations: others } },
    (_key, value) =>
      isVariable(value) && isSecretVariable(value.name) ? { name: value.name, value: REDACTED } : value,
  );
  return JSON.parse(text);
}

function isVariable(value: unknown): value is { name: string; value: string } {
  const { name, value: text } = (value ?? {}) as Record<string, unknown>;
  return typeof value === "object" && typeof name === "string" && typeof text === "string";
}

function placeOf({ apiVersion, kind, metadata, spec, status }: KubernetesObject): KubernetesObject {
  const { nodeName, hostNetwork, serviceAccountName } = spec ?? {};
  const { phase, podIPs, conditions, containerStatuses } = status ?? {};
  return {
    apiVersion,
    kind,
    metadata,
    spec: { nodeName, hostNetwork, serviceAccountName },
    status: {
      phase,
      podIPs,
      conditions,
      containerStatuses: containerStatuses?.map(
        ({ name, ready, restartCount, state }: Record<string, unknown>) => ({
          name,
          ready,
          restartCount,
          state,
        }),
      ),
    },
  };
}

function agentFact(plane: WeirPod): Fact {
  return {
    file: "cluster/agent/processes.json",
    async gather(msMax) {
      const handler = (request: Request) => plane.services.fetch("agent", request);
      const client = new WeirClient({ handler }, { deadlineMs: msMax });
      try {
        const { items } = await client.collection("processes", Process).list();
        return JSON.stringify({ items: items.map((item) => Process.toJson(item)) }, null, 1) + "\n";
      } finally {
        client.close();
      }
    },
  };
}

/** What a pod wrote, and, where its container began anew, what it wrote before that. */
function logFacts(client: ApiClient, namespace: string, pod: AnyPod): Fact[] {
  const file = pod.component === "node" && pod.node !== ""
    ? `nodes/${pod.node}/agent`
    : `cluster/logs/${pod.name}`;
  const log = (name: string, isPrevious: boolean): Fact => ({
    file: `${name}.log`,
    gather: (msMax) =>
      fetchPodLog(client, {
        namespace,
        pod: pod.name,
        container: CONTAINER,
        tailLines: LOG_LINES,
        isPrevious,
        bytesMax: OUTPUT_BYTES_MAX,
      }, { deadlineMs: msMax }),
  });
  return [log(file, false), ...(pod.restarts > 0 ? [log(`${file}-before`, true)] : [])];
}
