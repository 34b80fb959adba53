/**
 * What the tests of faults share: a small cast with a policy, its processes by name, traffic that must go on and traffic that
 * must stay out.
 * @module
 */
import assert from "node:assert/strict";
import { PodStream } from "../e2e/stream.ts";
import { type Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";

const server = new URL("../e2e/testdata/server.py", import.meta.url).pathname;
const weir = new URL("../../scripts/weir", import.meta.url).pathname;

/** A pod of one command; its label `app` is its name up to the dash. */
export function pod(name: string, node: number, command = "sleep, infinity"): string {
  return `apiVersion: v1\nkind: Pod\nmetadata: { name: ${name}, namespace: default, labels: { app: ${
    name.split("-")[0]
  } } }\n` +
    `spec: { nodeName: node-${node}, containers: [{ name: main, command: [${command}] }] }\n`;
}

/** Lets these apps, and nobody else, speak to the servers. */
export function clients(...apps: string[]): string {
  return "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: clients, namespace: default }\n" +
    "spec: { endpointSelector: { matchLabels: { app: server } }, ingress: [{ fromEndpoints: [" +
    apps.map((app) => `{ matchLabels: { app: ${app} } }`).join(", ") + "] }] }\n";
}

/** A server on each node, a client that may and a stranger that may not. */
export const CAST: string = [
  pod("server-1", 1, `python3, "${server}", "80/TCP"`),
  pod("server-2", 2, `python3, "${server}", "80/TCP"`),
  pod("client-1", 1),
  pod("stranger-1", 1),
  clients("client"),
].join("---\n");

/** What {@link CAST} may and may not, for `weir lab test`. */
export const TRAFFIC: string[] = [
  "from: client-1, to: server-1, port: 80, expect: allow",
  "from: client-1, to: server-2, port: 80, expect: allow",
  "from: stranger-1, to: server-1, port: 80, expect: deny",
  "from: stranger-1, to: server-2, port: 80, expect: deny",
];

/** A process of a lab. */
export interface ProcessRow {
  role: string;
  name: string;
  node: string;
  pid: number;
}

/** Every process that `weir lab list` names. */
export async function processes(lab: Lab): Promise<ProcessRow[]> {
  const labs: { name: string; processes: ProcessRow[] }[] = JSON.parse(
    await lab.ok(["lab", "list", "-o", "json"]),
  );
  return labs.find(({ name }) => name === lab.name)!.processes;
}

/** Process id of a service; waits for one that is just being started anew. */
export async function pidOf(lab: Lab, name: string, node: string): Promise<number> {
  let row: ProcessRow | undefined;
  await until(`lab list names a ${name} of ${node} that runs`, async () => {
    row = (await processes(lab)).find((row) => row.name === name && row.node === node && row.pid > 0);
    return row !== undefined;
  });
  return row!.pid;
}

/** Sends a signal; a process that has ended meanwhile is no error. */
export function signal(pid: number, name: Deno.Signal): void {
  try {
    Deno.kill(pid, name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** What the agent of a node says of one service, "" in `lastError` when it never ended. */
export async function processOf(
  lab: Lab,
  node: string,
  name: string,
): Promise<{ state: string; pid: number; restarts: number; lastError: string }> {
  const { out } = await run("curl", [
    ...["-s", "-m", "20", "--unix-socket", `/run/weir/${lab.name}-${node}/agent.sock`],
    `http://x/v1/processes/${name}`,
  ]);
  return { restarts: 0, lastError: "", ...JSON.parse(out) };
}

/** Address of a pod's endpoint; waits for the node's endpoint manager, which the test before may have started anew. */
export async function addressOf(lab: Lab, name: string, node: string): Promise<string> {
  let address = "";
  await until(`${node} says the address of ${name}`, async () => {
    const text = await lab.ok(["endpoint", "get", `default/${name}`, "--node", node, "-o", "json"]);
    address = JSON.parse(text).status.ipv4;
    return address !== "";
  });
  return address;
}

/** Connections out of a pod, one after another: `made` has a "y" or an "n" for each. */
export class Attempts {
  made = "";
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  /** @param patienceS how long one attempt may take: short where it is to be refused */
  constructor(lab: Lab, pod: string, address: string, patienceS: number) {
    const program = `import socket,time
while True:
    try:
        socket.create_connection(('${address}',80),${patienceS}).close(); print('y',end='',flush=True)
    except OSError: print('n',end='',flush=True)
    time.sleep(0.1)`;
    this.#child = new Deno.Command(weir, {
      args: ["--lab", lab.name, "lab", "exec", `default/${pod}`, "--", "python3", "-c", program],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reading = this.#read();
  }

  async #read(): Promise<void> {
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) this.made += chunk;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch { /* it has ended */ }
    await this.#child.status;
    await this.#reading;
  }
}

/** A stream and new connections that must go on, and connections that must stay out, while a block runs. */
export class Witness implements AsyncDisposable {
  private constructor(
    readonly stream: PodStream,
    readonly allowed: Attempts,
    readonly denied: Attempts,
  ) {}

  static async begin(lab: Lab): Promise<Witness> {
    const near = await addressOf(lab, "server-1", "node-1"), far = await addressOf(lab, "server-2", "node-2");
    const witness = new Witness(
      new PodStream(lab, "default/client-1", far, 80),
      new Attempts(lab, "client-1", near, 20),
      new Attempts(lab, "stranger-1", near, 0.5),
    );
    await witness.goesOn("before the fault");
    return witness;
  }

  /** Waits until every kind of traffic was seen again, and asserts what came of all of it so far. */
  async goesOn(when: string): Promise<void> {
    const count = this.stream.count, made = this.allowed.made.length, denied = this.denied.made.length;
    await until(
      `traffic goes on ${when}`,
      () =>
        this.stream.count > count + 3 && this.allowed.made.length > made + 2 &&
        this.denied.made.length > denied + 2,
    );
    this.holds(when);
  }

  holds(when: string): void {
    assert.equal(this.stream.stopped, false, `the stream stopped ${when}: ...${this.stream.said.slice(-60)}`);
    assert.match(this.allowed.made, /^y*$/, `who may always can ${when}`);
    assert.match(this.denied.made, /^n*$/, `who may not never can ${when}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.stream, this.allowed, this.denied].map((each) => each[Symbol.asyncDispose]()));
  }
}

/** Waits until `weir status` finds nothing wrong and traffic is as it should be. */
export async function isWell(lab: Lab): Promise<void> {
  const { code, out } = await lab.weir(["status", "--wait", "--timeout", "300"]);
  assert.equal(code, 0, `weir status: ${out}`);
  await lab.expect(TRAFFIC);
}
