/**
 * The conformance data under testdata/, gzip of JSON. Each file has a `legend` that says what its values mean.
 * @module
 */

/** Reads one file of testdata/ by its name without `.json.gz`. */
export async function readTestdata<T>(name: string): Promise<T> {
  const file = await Deno.open(new URL(`./testdata/${name}.json.gz`, import.meta.url));
  const text = await new Response(file.readable.pipeThrough(new DecompressionStream("gzip"))).text();
  return JSON.parse(text) as T;
}

/** A pod of a model. */
export interface ModelPod {
  namespace: string;
  name: string;
  labels: Record<string, string> | null;
  ip: string;
  ports: { name: string; port: number; protocol: string }[];
}

/** Namespaces, pods and addresses outside that a case is about. */
export interface Model {
  namespaces: Record<string, Record<string, string>>;
  pods: ModelPod[];
  externals?: string[];
}

/** Expected verdicts for one port: rows are sources, columns destinations; `.` allowed, `X` blocked, `-` not served. */
export interface Table {
  port: number;
  protocol: string;
  portName?: string;
  ingress: string[];
  egress: string[];
  combined: string[];
  fromExternal?: string[];
  toExternal?: string[];
  worldOnlyIngress?: string[];
  worldOnlyEgress?: string[];
  worldOnlyCombined?: string[];
}

/** One state of a case's policies with what follows from it. */
export interface Step {
  policies: Record<string, unknown>[] | null;
  model?: Model;
  tables: Table[];
}

/** A file of kubernetes-*.json.gz. */
export interface KubernetesFile {
  legend: string;
  model?: Model;
  cases: { id: string; description: string; steps: Step[] }[];
}

/** The verdicts of a table, by what a CIDR means: only addresses outside, or pods too. */
export function tablesOf(
  table: Table,
  mode: "world" | "pods",
): { ingress: string[]; egress: string[]; combined: string[] } {
  if (mode === "pods") return table;
  return {
    ingress: table.worldOnlyIngress ?? table.ingress,
    egress: table.worldOnlyEgress ?? table.egress,
    combined: table.worldOnlyCombined ?? table.combined,
  };
}

/** The number of a table's port at a pod with these ports; undefined: the pod has none of that name. */
export function portAt(table: Table, ports: Model["pods"][number]["ports"]): number | undefined {
  if (table.portName === undefined || table.portName === "") return table.port;
  return ports.find((port) => port.name === table.portName && port.protocol === table.protocol)?.port;
}

/** One letter for each identity, by port; see the legend of a file of cilium-*.json.gz. */
export type Verdicts = Record<"ingress" | "egress", Record<string, string>>;

/** An identity of cilium-*.json.gz. */
export interface CiliumIdentity {
  id: number;
  name: string;
  labels: string[];
}

/** cilium-random.json.gz. */
export interface CiliumRandomFile {
  identities: CiliumIdentity[];
  cases: {
    id: string;
    policies: { policy: Record<string, unknown>; rejected?: string }[];
    /** With an error in place of verdicts where rules ask for different authentication. */
    endpoints: { subject: string; verdicts: Verdicts; error?: string }[];
  }[];
}

/** Layer 7 rules and authentication say how, not whether, a connection is allowed at layer 4. */
export function withoutProxy(key: string, value: unknown): unknown {
  return ["rules", "authentication", "serverNames", "listener", "terminatingTLS", "originatingTLS"].includes(
      key,
    )
    ? undefined
    : value;
}
