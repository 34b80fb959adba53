/**
 * Services in a lab, asked by real clients.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import type { Lab, Ran } from "./weir.ts";

/** Path of a program of the tests. */
export const program = (name: string) => new URL(`testdata/${name}`, import.meta.url).pathname;

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

/** Seconds that an answer may take: far more than it does, on a machine that is slow. */
const PATIENCE_S = 20;
/** Where no answer is to come. */
export const DENIED_S = 2;

/** Asks and reports; see `testdata/ask.py`. @param patienceS how long one answer may take */
export async function ask(
  lab: Lab,
  from: From,
  how: "tcp" | "udp" | "bulk" | "peer",
  address: string,
  port: number,
  count = 1,
  patienceS = PATIENCE_S,
): Promise<Answers> {
  const args = [how, address, `${port}`, `${count}`, `${patienceS}`];
  const ran = await at(lab, from, ["python3", program("ask.py"), ...args]);
  assert.equal(ran.code, 0, `ask.py ${args.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
  return JSON.parse(ran.out);
}

/** Waits until a service answers: it does in moments, not at once. */
export async function answers(lab: Lab, from: From, address: string, port: number): Promise<void> {
  await until(
    `${address} ${port} answers`,
    async () => (await ask(lab, from, "tcp", address, port, 1, DENIED_S)).failed.length === 0,
  );
}

/** Asks on and on, until it is stopped. */
export class Asking implements AsyncDisposable {
  readonly #file = Deno.makeTempFileSync({ prefix: "weir-asking-" });
  readonly #ran: Promise<Ran>;

  /** @param how by a fresh connection each time, or by one connected socket */
  constructor(lab: Lab, from: From, how: "tcp" | "connected-udp", address: string, port: number) {
    const patienceS = how === "tcp" ? 10 : 1;
    const args = [how, address, `${port}`, "0", `${patienceS}`, this.#file];
    this.#ran = at(lab, from, ["python3", program("ask.py"), ...args]);
  }

  /** What it has seen so far. */
  async seen(): Promise<Answers> {
    return JSON.parse(await Deno.readTextFile(`${this.#file}.state`));
  }

  /** Waits until all of these have answered. */
  async heard(...names: string[]): Promise<void> {
    await until(`${names} answer`, async () => {
      const { by } = await this.seen();
      return names.every((name) => by[name] > 0);
    });
  }

  async stop(): Promise<Answers> {
    await Deno.remove(this.#file);
    const { code, out, err } = await this.#ran;
    assert.equal(code, 0, err);
    return JSON.parse(out);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#file).catch(() => {});
    await this.#ran;
    await Deno.remove(`${this.#file}.state`).catch(() => {});
  }
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
