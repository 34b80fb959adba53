/**
 * Services in a lab, asked by real clients.
 * @module
 */
import assert from "node:assert/strict";
import type { Lab, Ran } from "./weir.ts";

const program = (name: string) => new URL(`testdata/${name}`, import.meta.url).pathname;

/** What `ask.py` saw. */
export interface Answers {
  /** Connections or datagrams by who answered. */
  by: Record<string, number>;
  /** The same by the address that the answering side saw. */
  clients: Record<string, number>;
  failed: string[];
  /** Who answered, repeats left out. */
  order: string[];
  asked: number;
  seconds: number;
}

/** Who asks: "pod shop/client", "node node-1", "outside". */
export type From = { pod: string } | { node: string } | "outside";

function place(from: From): string[] {
  if (from === "outside") return ["--outside"];
  return "pod" in from ? [from.pod] : ["--node", from.node];
}

/** Runs a command where `from` says. */
export function at(lab: Lab, from: From, command: string[]): Promise<Ran> {
  return lab.weir(["lab", "exec", ...place(from), "--", ...command]);
}

/** Asks and reports; see `testdata/ask.py`. */
export async function ask(
  lab: Lab,
  from: From,
  how: "tcp" | "udp" | "connected-udp" | "bulk" | "peer",
  address: string,
  port: number,
  count = 1,
  seconds?: number,
): Promise<Answers> {
  const args = [how, address, `${port}`, `${count}`, ...(seconds === undefined ? [] : [`${seconds}`])];
  const ran = await at(lab, from, ["python3", program("ask.py"), ...args]);
  assert.equal(ran.code, 0, `ask.py ${args.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return JSON.parse(ran.out);
}

/** Asks until the answers are as wanted; state reaches nodes in moments, not at once. */
export async function eventually(
  what: string,
  body: () => Promise<boolean>,
  msMax = 10_000,
): Promise<void> {
  const deadline = Date.now() + msMax;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      if (await body()) return;
    } catch (error) {
      last = error;
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.fail(`${what}: not within ${msMax} ms${last ? `, last: ${last}` : ""}`);
}

/** A pod that says who it is on these ports. */
export function whoami(name: string, node: number, labels: string, ports: string[], more = ""): string {
  const words = ["python3", program("whoami.py"), name, ...ports].map((word) => JSON.stringify(word));
  const tcp = ports.find((port) => port.endsWith("/TCP"));
  const probe = tcp && `, readinessProbe: { tcpSocket: { port: ${parseInt(tcp)} } }`;
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { ${labels} } }
spec:
  nodeName: node-${node}
  terminationGracePeriodSeconds: 3
  containers:
    - { name: main, command: [${words.join(", ")}]${probe ?? ""}${more && `, ${more}`} }
`;
}

/** A pod that only asks. */
export function client(name: string, node: number): string {
  return `apiVersion: v1
kind: Pod
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec: { nodeName: node-${node}, containers: [{ name: main, command: [sleep, infinity] }] }
`;
}

/** A Service of namespace shop. */
export function service(name: string, spec: string, annotations = ""): string {
  return `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop${annotations && `, annotations: { ${annotations} }`} }
spec: { ${spec} }
`;
}
