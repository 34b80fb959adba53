/**
 * The labels that say between whom a flow was, by Hubble's context options: `sourceContext=workload|reserved-identity` makes a label
 * `source` of the first of these that is not empty, `sourceEgressContext` one for what the reporting endpoint began,
 * `labelsContext=source_pod,destination_namespace` labels of these names.
 * @module
 */
import type { CountedEnd, CountedFlow } from "./counted_flow.ts";
import { namespaceThing, podThing, workloadThing } from "./pod_lifetimes.ts";
import { type END_LABELS, type IdentifierName, LABELS_CONTEXT, SIDES } from "./option_words.ts";
import type { MetricLabel } from "./series_table.ts";

/** Who somebody is, by one way to say it. */
interface Identifier {
  readonly text: (end: CountedEnd) => string;
  /** What must be there for the text to mean anything, "" for nothing. */
  readonly thing?: (end: CountedEnd) => string;
}

const podOf = (end: CountedEnd) => end.podName === "" ? "" : podThing(end.namespace, end.podName);
const workloadNamed = ({ workload, namespace }: CountedEnd) =>
  workload === undefined ? "" : workloadThing(namespace, workload.name);
const namespaceOf = ({ namespace }: CountedEnd) => namespace === "" ? "" : namespaceThing(namespace);
const within = (namespace: string, name: string) =>
  namespace === "" || name === "" ? name : `${namespace}/${name}`;

const BY_NAME: Readonly<Record<IdentifierName, Identifier>> = {
  identity: { text: (end) => end.labels.join(",") },
  namespace: { text: (end) => end.namespace, thing: namespaceOf },
  pod: { text: (end) => within(end.namespace, end.podName), thing: podOf },
  "pod-name": { text: (end) => end.podName, thing: podOf },
  dns: { text: (end) => end.names.join(",") },
  ip: { text: (end) => end.ip, thing: podOf },
  "reserved-identity": { text: reservedOf },
  workload: { text: (end) => within(end.namespace, end.workload?.name ?? ""), thing: workloadNamed },
  "workload-name": { text: (end) => end.workload?.name ?? "", thing: workloadNamed },
  app: { text: appOf },
};

/** Labels of `labelsContext` by what follows `source_` and `destination_`. */
const BY_LABEL: Readonly<Record<typeof END_LABELS[number], Identifier>> = {
  ip: BY_NAME.ip,
  pod: BY_NAME["pod-name"],
  namespace: BY_NAME.namespace,
  workload: BY_NAME["workload-name"],
  workload_kind: { text: (end) => end.workload?.kind ?? "", thing: workloadNamed },
  app: BY_NAME.app,
};

const KUBE_API_SERVER = "reserved:kube-apiserver";

function reservedOf({ labels }: CountedEnd): string {
  if (labels.includes(KUBE_API_SERVER)) return KUBE_API_SERVER;
  return labels.find((label) => label.startsWith("reserved:")) ?? "";
}

const APP_LABELS = ["k8s:app.kubernetes.io/name=", "k8s:k8s-app=", "k8s:app="];

function appOf({ labels }: CountedEnd): string {
  for (const label of labels) {
    const start = APP_LABELS.find((each) => label.startsWith(each));
    if (start !== undefined && label.length > start.length) return label.slice(start.length);
  }
  return "";
}

type Side = typeof SIDES[number];
const other = (side: Side): Side => side === "source" ? "destination" : "source";

interface ContextLabel extends MetricLabel {
  /** Which way to say it, of this flow; undefined for none. */
  readonly side: Side | undefined;
  readonly pick: (flow: CountedFlow, end: CountedEnd) => { text: string; identifier?: Identifier };
}

/** Labels of a metric that say between whom. */
export class ContextOptions {
  readonly labels: readonly ContextLabel[];

  /** @param options as `readMetricWords()` gives them */
  constructor(options: ReadonlyMap<string, string>) {
    const wanted = options.get("labelscontext")?.split(",") ?? [];
    this.labels = [
      ...LABELS_CONTEXT.filter((name) => wanted.includes(name)).map(namedLabel),
      ...SIDES.flatMap((side) => sideLabel(side, options) ?? []),
    ];
  }

  /** One value of each label; `swapped`: the sides of an answer, told as of its question. */
  values(flow: CountedFlow, swapped = false): string[] {
    return this.labels.map(({ side, pick }) => pick(flow, endOf(flow, side, swapped)).text);
  }

  /** What the values name, that may be gone some day. */
  things(flow: CountedFlow, swapped = false): string[] {
    return this.labels.map(({ side, pick }) => {
      const end = endOf(flow, side, swapped), { text, identifier } = pick(flow, end);
      return text === "" ? "" : identifier?.thing?.(end) ?? "";
    }).filter((thing) => thing !== "");
  }
}

function endOf(flow: CountedFlow, side: Side | undefined, swapped: boolean): CountedEnd {
  return flow[swapped ? other(side ?? "source") : side ?? "source"];
}

function namedLabel(name: string): ContextLabel {
  if (name === "traffic_direction") {
    return { name, side: undefined, pick: (flow) => ({ text: directionText(flow) }) };
  }
  const side = SIDES.find((each) => name.startsWith(`${each}_`))!;
  const identifier = BY_LABEL[name.slice(side.length + 1) as keyof typeof BY_LABEL];
  return {
    name,
    side,
    isOpen: true,
    pick: (_, end) => ({ text: identifier.text(end), identifier }),
  };
}

function sideLabel(side: Side, options: ReadonlyMap<string, string>): ContextLabel | undefined {
  const read = (suffix: string) => readIdentifiers(options.get(`${side}${suffix}context`));
  const both = read(""), egress = read("egress") ?? both, ingress = read("ingress") ?? both;
  if (egress === undefined && ingress === undefined) return undefined;
  return {
    name: side,
    side,
    isOpen: true,
    pick(flow, end) {
      const { direction } = flow;
      const ways = direction === "EGRESS" ? egress : direction === "INGRESS" ? ingress : both;
      for (const identifier of ways ?? []) {
        const text = identifier.text(end);
        if (text !== "") return { text, identifier };
      }
      return { text: "" };
    },
  };
}

function readIdentifiers(value: string | undefined): Identifier[] | undefined {
  return value?.split("|").map((name) => BY_NAME[name as IdentifierName]);
}

/** "egress", "ingress" or "unknown". */
export function directionText({ direction }: CountedFlow): string {
  return direction === "EGRESS" ? "egress" : direction === "INGRESS" ? "ingress" : "unknown";
}
