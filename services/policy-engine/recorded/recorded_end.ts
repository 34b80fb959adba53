/**
 * Who the ends of recorded connections were: workloads by the labels that they had then, nodes and other reserved identities, and addresses
 * outside. What a record says of an end is checked here, whoever wrote the record.
 * @module
 */
import {
  IpAddress,
  isReservedIdentity,
  LABEL_CLUSTER,
  LABEL_NAMESPACE,
  LabelError,
  LabelSet,
  RESERVED_IDENTITIES,
  reservedIdentityName,
  SOURCE_CIDR,
  SOURCE_FQDN,
  SOURCE_KUBERNETES,
  SOURCE_RESERVED,
  workloadOf,
} from "@weir/common";

/**
 * `pod`: has labels, and policies select it; `reserved`: a node and the like; `address`: outside of the cluster; `labelled`: outside, and
 * known by more than its address, as an API server is; `unknown`: a number whose labels nobody said.
 */
export type EndKind = "pod" | "reserved" | "address" | "labelled" | "unknown";

/** What a flow says of one end, apart from its address. */
export interface EndFacts {
  readonly kind: EndKind;
  readonly labels: LabelSet;
  readonly identity: number;
  readonly namespace: string;
  readonly pod: string;
  /** `web`, or the pod's name where it belongs to nobody; "" for no pod. */
  readonly workload: string;
  /** Names that the labels say, of an identity that names made. */
  readonly names: readonly string[];
  /** Tells it from all others; of addresses it is the address that does. */
  readonly key: string;
}

/** One end of recorded connections: all pods of a workload that have the same labels. */
export interface RecordedEnd extends Omit<EndFacts, "names" | "pod"> {
  readonly index: number;
  readonly name: string;
  /** Of outside ends. */
  readonly address: IpAddress | undefined;
  /** DNS names of an outside end. */
  readonly names: Set<string>;
  /** Nodes where it has pods, as far as flows say. */
  readonly nodes: Set<string>;
}

/** A flow that is not what flows are. */
export class RecordError extends Error {
  override readonly name = "RecordError";
  constructor(readonly path: string, found: unknown, expected: string) {
    const text = typeof found === "object" && found !== null ? "an object" : String(found).slice(0, 60);
    super(`${path} is ${text}, expected ${expected}`);
  }
}

/** Most ends that are told apart. */
export const ENDS_MAX = 262_144;
/** Most workloads: each has a number of an identity. */
export const PODS_MAX = 60_000;
/** Most characters of all their labels. */
export const LABELS_LENGTH_MAX = 64 << 20;
const NAMES_MAX = 16, NODES_MAX = 4096;

const NO_FACTS: EndFacts = {
  kind: "unknown",
  labels: LabelSet.empty,
  identity: 0,
  namespace: "",
  pod: "",
  workload: "",
  names: [],
  key: "identity:0",
};

/** What the `source` or `destination` of a flow in JSON says. @throws {RecordError} */
export function readEndFacts(value: unknown, path: string): EndFacts {
  if (value === undefined || value === null) return NO_FACTS;
  if (typeof value !== "object" || Array.isArray(value)) throw new RecordError(path, value, "an object");
  const given = value as Record<string, unknown>;
  const texts = given.labels ?? [];
  if (!Array.isArray(texts) || texts.some((text) => typeof text !== "string")) {
    throw new RecordError(`${path}.labels`, texts, "a list of texts");
  }
  const identity = given.identity ?? 0;
  if (typeof identity !== "number" || !Number.isInteger(identity) || identity < 0) {
    throw new RecordError(`${path}.identity`, identity, "a number");
  }
  const [first] = Array.isArray(given.workloads) ? given.workloads : [];
  return endFacts({
    labels: texts,
    identity,
    namespace: textOf(given.namespace, `${path}.namespace`),
    pod: textOf(given.pod_name, `${path}.pod_name`),
    workload: textOf((first as Record<string, unknown> | undefined)?.name, `${path}.workloads[0].name`),
    path,
  });
}

/** The same from what was read already. @throws {RecordError} its labels are none */
export function endFacts(
  { labels: texts, identity, namespace, pod, workload, path }: {
    labels: readonly string[];
    identity: number;
    namespace: string;
    pod: string;
    workload: string;
    path: string;
  },
): EndFacts {
  let labels: LabelSet;
  try {
    labels = LabelSet.parse(texts);
  } catch (error) {
    if (!(error instanceof LabelError)) throw error;
    throw new RecordError(`${path}.labels`, error.subject, error.expected);
  }
  const own = { labels, identity, namespace, pod, names: [] };
  const reserved = [...labels].filter(({ source }) => source === SOURCE_RESERVED).map(({ key }) => key);
  const isPod = labels.has(SOURCE_KUBERNETES, LABEL_NAMESPACE) ||
    reserved.length === 0 &&
      [...labels].some(({ source }) => source !== SOURCE_CIDR && source !== SOURCE_FQDN);
  if (isPod) {
    const place = labels.get(SOURCE_KUBERNETES, LABEL_NAMESPACE) || namespace || "default";
    const shown = workload || workloadOf(pod)?.name || "";
    return { ...own, kind: "pod", namespace: place, workload: shown, key: `${place}/${shown}/${labels.key}` };
  }
  const isOutside = reserved.some((key) => key.startsWith("world")) ||
    [...labels].some(({ source }) => source === SOURCE_CIDR || source === SOURCE_FQDN);
  const isServer = reserved.includes("kube-apiserver");
  if (isOutside && !isServer) {
    const names = [...labels].filter(({ source, key }) => source === SOURCE_FQDN && !key.includes("*"));
    return { ...own, kind: "address", workload: "", names: names.map(({ key }) => key), key: "" };
  }
  if (isOutside) return { ...own, kind: "labelled", workload: "", key: `labels:${labels.key}` };
  const number = reservedNumber(isServer ? "kube-apiserver" : reserved[0], identity);
  if (number === RESERVED_IDENTITIES.world) return { ...own, kind: "address", workload: "", key: "" };
  if (number !== undefined && number !== 0) {
    return { ...own, kind: "reserved", identity: number, workload: "", key: `reserved:${number}` };
  }
  return { ...own, kind: "unknown", workload: "", key: `identity:${identity}` };
}

function reservedNumber(name: string | undefined, identity: number): number | undefined {
  const known = name !== undefined && Object.hasOwn(RESERVED_IDENTITIES, name)
    ? RESERVED_IDENTITIES[name as keyof typeof RESERVED_IDENTITIES]
    : isReservedIdentity(identity) && reservedIdentityName(identity) !== undefined
    ? identity
    : undefined;
  return known === RESERVED_IDENTITIES["world-ipv4"] || known === RESERVED_IDENTITIES["world-ipv6"]
    ? RESERVED_IDENTITIES.world
    : known;
}

function textOf(value: unknown, path: string): string {
  if (value === undefined || value === null) return "";
  if (typeof value !== "string") throw new RecordError(path, value, "a text");
  if (value.length > 1024) throw new RecordError(path, `${value.length} characters`, "at most 1024");
  return value;
}

/** All ends, each once. */
export class EndBook {
  readonly ends: RecordedEnd[] = [];
  readonly #byKey = new Map<string, RecordedEnd>();
  /** Labels of identities, for flows that have the number alone. */
  readonly #byIdentity = new Map<number, RecordedEnd>();
  readonly #endsMax: number;
  #pods = 0;
  #length = 0;

  constructor(endsMax: number = ENDS_MAX) {
    this.#endsMax = endsMax;
  }

  /**
   * The end of these facts and, where it is outside, this address. Undefined: there is no room for another, or the address is none.
   */
  endOf(facts: EndFacts, address: string): RecordedEnd | undefined {
    const key = facts.kind === "address" ? address : facts.key;
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      for (const name of facts.names) this.addName(known, name);
      return known;
    }
    const isPod = facts.kind === "pod", ip = isPod ? undefined : IpAddress.tryParse(address);
    if (facts.kind === "address" && ip === undefined) return undefined;
    if (this.ends.length >= this.#endsMax || isPod && this.#pods >= PODS_MAX) return undefined;
    if (this.#length + key.length > LABELS_LENGTH_MAX) return undefined;
    const { kind, labels, identity, namespace, workload } = facts;
    const end: RecordedEnd = {
      index: this.ends.length,
      ...{ kind, labels, identity, namespace, workload, key },
      name: nameOf(facts, ip),
      address: ip,
      names: new Set(facts.names),
      nodes: new Set(),
    };
    this.ends.push(end);
    this.#byKey.set(key, end);
    this.#length += key.length;
    if (isPod) {
      this.#pods++;
      if (identity !== 0 && !this.#byIdentity.has(identity)) this.#byIdentity.set(identity, end);
    }
    return end;
  }

  /** An end by its number alone is whom others say the number is. */
  known(end: RecordedEnd): RecordedEnd {
    return end.kind === "unknown" ? this.#byIdentity.get(end.identity) ?? end : end;
  }

  addName({ names }: RecordedEnd, name: string): void {
    if (names.size < NAMES_MAX && name !== "" && name.length <= 255) names.add(name);
  }

  addNode({ nodes }: RecordedEnd, node: string): void {
    if (nodes.size < NODES_MAX) nodes.add(node);
  }
}

function nameOf(
  { kind, namespace, workload, labels, identity }: EndFacts,
  address: IpAddress | undefined,
): string {
  if (kind === "pod") {
    const own = [...labels].filter(({ key }) => !key.startsWith("io.")).map(({ key, value }) =>
      `${key}=${value}`
    );
    return workload === "" ? `${own.join(",") || "a pod"} in ${namespace}` : `${namespace}/${workload}`;
  }
  if (kind === "reserved") return reservedIdentityName(identity) ?? `identity ${identity}`;
  if (kind === "labelled") return "kube-apiserver";
  return kind === "address" ? address!.text : `identity ${identity}`;
}

/** The cluster that most workloads say they are of: policies are about it. Undefined: none says. */
export function clusterOf(ends: Iterable<RecordedEnd>): string | undefined {
  const counts = new Map<string, number>();
  for (const { labels } of ends) {
    const name = labels.get(SOURCE_KUBERNETES, LABEL_CLUSTER);
    if (name !== undefined && name !== "") counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))[0]?.[0];
}
