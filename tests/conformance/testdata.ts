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
