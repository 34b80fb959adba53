/** What the service's tests and the attach benchmark share: a datapath process in a node's namespace, pods, requests. @module */

import { until } from "@weir/common/testing/until";
import { Netns } from "@weir/net";
import { uninstall } from "./uninstall.ts";

const MAIN = new URL("main.ts", import.meta.url).pathname;
const CONFIG = new URL("../../deno.json", import.meta.url).pathname;
/** Shared by all runs: the programs are verified once, not once per test. */
const VERDICTS = new URL("../../.build/verdicts", import.meta.url).pathname;
const OBJECT = new URL("../../.build/bpf/weir.o", import.meta.url).pathname;

/** A namespace that stands for a node, with pods, and a datapath process in it. Everything goes with `close()`. */
export class TestNode {
  readonly socket: string;
  readonly #pods: string[] = [];
  readonly #directory = Deno.makeTempDirSync({ prefix: "wt-dp-" });
  #process: Deno.ChildProcess | undefined;
  #client: Deno.HttpClient | undefined;
  #log = "";

  private constructor(readonly netns: string, readonly instance: string) {
    this.socket = `${this.#directory}/dp.sock`;
  }

  /** Why it cannot run here, undefined when it can. */
  static skipped(): string | undefined {
    if (Deno.uid() !== 0) return "not root";
    try {
      Deno.statSync(OBJECT);
      return undefined;
    } catch {
      return "the programs are not built";
    }
  }

  /** @param name short, unique among the tests of one process */
  static async create(name: string): Promise<TestNode> {
    const node = new TestNode(`wt-dp-${Deno.pid}-${name}`, `wt-${Deno.pid}-${name}`);
    await run("ip", "netns", "add", node.netns);
    await node.exec("ip", "link", "set", "lo", "up");
    // The underlay: a veth whose other end stays down, so that the node has an outer device with an address.
    await node.exec("ip", "link", "add", "under0", "type", "veth", "peer", "name", "under1");
    await node.exec("ip", "addr", "add", "192.0.2.1/24", "dev", "under0");
    await node.exec("ip", "link", "set", "under0", "up");
    await node.exec("ip", "link", "set", "under1", "up");
    return node;
  }

  /** Joins the underlays of two nodes: this one is 192.0.2.1 (2001:db8::1), the other 192.0.2.2 (2001:db8::2). */
  async join(other: TestNode): Promise<void> {
    await other.exec("ip", "link", "del", "under0");
    await this.exec("ip", "link", "set", "under1", "netns", other.netns, "name", "under0");
    await other.exec("ip", "addr", "add", "192.0.2.2/24", "dev", "under0");
    await other.exec("ip", "addr", "add", "2001:db8::2/64", "dev", "under0", "nodad");
    await other.exec("ip", "link", "set", "under0", "up");
    await this.exec("ip", "addr", "add", "2001:db8::1/64", "dev", "under0", "nodad");
  }

  /** Starts the datapath and waits until it answers. */
  async start(...args: string[]): Promise<void> {
    this.#process = new Deno.Command("nsenter", {
      args: [
        `--net=/run/netns/${this.netns}`,
        Deno.execPath(),
        "run",
        "-A",
        "--config",
        CONFIG,
        MAIN,
        "--socket",
        this.socket,
        "--instance",
        this.instance,
        "--supervised",
        "--verdicts",
        VERDICTS,
        ...args,
      ],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#collect(this.#process.stderr);
    this.#client = Deno.createHttpClient({ proxy: { transport: "unix", path: this.socket } });
    let ended = false;
    this.#process.status.then(() => ended = true);
    // As long as it lives: on a busy machine a start takes long.
    while (!ended && !/Cannot start/.test(this.#log)) {
      try {
        const response = await this.#fetch("/livez");
        await response.body?.cancel();
        return;
      } catch {
        await sleep(50);
      }
    }
    throw new Error(`The datapath does not answer: ${this.#log}`);
  }

  /** Ends the process: `SIGKILL` as a crash, else an orderly stop. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    this.#client?.close();
    this.#client = undefined;
    if (process === undefined) return;
    try {
      process.kill(signal);
    } catch {
      // It ended by itself: its log says why.
    }
    await process.stdin.close().catch(() => {});
    await process.status;
  }

  /** The process's number while it runs. */
  get pid(): number {
    return this.#process!.pid;
  }

  /** Sends a signal to the process: SIGSTOP and SIGCONT make it slow. */
  signal(signal: Deno.Signal): void {
    this.#process?.kill(signal);
  }

  /** Asks; JSON in and out. Throws for an answer that is an error, with the problem as `problem`. */
  // deno-lint-ignore no-explicit-any
  async request(method: string, path: string, body?: unknown): Promise<any> {
    const response = await this.#fetch(path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { "content-type": "application/json", "accept": "application/json" },
    });
    const text = await response.text();
    if (response.ok) return text === "" ? undefined : JSON.parse(text);
    throw Object.assign(new Error(`${method} ${path}: ${text}`), { problem: JSON.parse(text) });
  }

  /** Configures the node in direct routing mode. */
  async configure(change: Record<string, unknown> = {}): Promise<void> {
    await this.request("PUT", "/v1/nodeconfig/node", {
      nodeName: "node-1",
      ipv4: "192.0.2.1",
      podCidrV4: "10.44.0.0/24",
      podCidrV6: "fd44::/112",
      gatewayV4: "10.44.0.1",
      gatewayV6: "fd44::1",
      routingMode: "DIRECT",
      mtu: 1500,
      ...change,
    });
  }

  /** A namespace for a pod. */
  async pod(name: string): Promise<string> {
    const netns = `${this.netns}-${name}`;
    await run("ip", "netns", "add", netns);
    this.#pods.push(netns);
    return netns;
  }

  /** Body of an endpoint. */
  endpoint(id: number, netns: string, change: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      id,
      kind: "NETNS",
      netns: `/run/netns/${netns}`,
      containerDevice: "eth0",
      ipv4: `10.44.0.${id}`,
      ipv6: `fd44::${id.toString(16)}`,
      identity: 1000 + id,
      ...change,
    };
  }

  /** Runs a command in the node's namespace, or a pod's. */
  async exec(...command: string[]): Promise<string> {
    return await run("nsenter", `--net=/run/netns/${this.netns}`, ...command);
  }

  /** Log of the process so far. */
  get log(): string {
    return this.#log;
  }

  /** Runs `main.ts uninstall` of this instance. */
  async uninstall(): Promise<void> {
    await run(
      "nsenter",
      `--net=/run/netns/${this.netns}`,
      Deno.execPath(),
      "run",
      "-A",
      "--config",
      CONFIG,
      MAIN,
      "uninstall",
      "--instance",
      this.instance,
    );
  }

  /** Removes everything. */
  async close(): Promise<void> {
    await this.stop("SIGTERM");
    try {
      using netns = Netns.open(`/run/netns/${this.netns}`);
      netns.enter(() => uninstall(this.instance));
    } catch (error) {
      console.error(error);
    }
    await Promise.all(
      [...this.#pods, this.netns].map((netns) => run("ip", "netns", "del", netns).catch(() => {})),
    );
    await Deno.remove(this.#directory, { recursive: true });
  }

  #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(`http://localhost${path}`, { ...init, client: this.#client } as RequestInit);
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.#log += decoder.decode(chunk, { stream: true });
  }
}

/** True when `ping` from a pod reaches an address: `count` answers within 20 s, the first packet's or later ones'. See {@link isSilent}. */
export async function pings(netns: string, address: string, count = 1): Promise<boolean> {
  return await ping(netns, address, "-c", `${count}`, "-w", "20");
}

/** True when `ping` from a pod gets no answer for a second. */
export async function isSilent(netns: string, address: string): Promise<boolean> {
  return !await ping(netns, address, "-c", "1", "-W", "1");
}

async function ping(netns: string, address: string, ...how: string[]): Promise<boolean> {
  const words = ["netns", "exec", netns, "ping", "-n", "-i", "0.2", ...how, address];
  return await run("ip", ...words).then(() => true, () => false);
}

/** `ping` that goes on until it is stopped. */
export class PingStream implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #said = "";

  constructor(netns: string, address: string, intervalS: number) {
    this.#child = new Deno.Command("ip", {
      args: ["netns", "exec", netns, "ping", "-n", "-i", `${intervalS}`, address],
      stdin: "null",
      stdout: "piped",
    }).spawn();
    this.#reading = this.#read();
  }

  /** Numbers of the packets that were answered. */
  get answered(): number[] {
    return [...this.#said.matchAll(/icmp_seq=(\d+) ttl/g)].map(([, number]) => Number(number));
  }

  /** Waits for some more answers, then says which of all before the last one never came. */
  async missing(): Promise<number[]> {
    const before = this.answered.length;
    await until("answers go on", () => this.answered.length > before + 3);
    const answered = new Set(this.answered), last = Math.max(...answered);
    return Array.from({ length: last }, (_, i) => i + 1).filter((number) => !answered.has(number));
  }

  async #read(): Promise<void> {
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) this.#said += text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#reading;
  }
}

/** Runs a command; rejects with its output when it fails. */
export async function run(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  const text = new TextDecoder().decode(stdout);
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}${text}`);
  return text;
}

/** Waits. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

let nodes = 0;

/** A test on a configured node of its own; says SKIP where it cannot run. */
export function nodeTest(name: string, body: (node: TestNode) => Promise<void>): void {
  const skipped = TestNode.skipped();
  if (skipped !== undefined) console.log(`SKIP ${name}: ${skipped}`);
  Deno.test({
    name,
    ignore: skipped !== undefined,
    // Child processes and their pipes live as long as the node.
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const node = await TestNode.create(`n${nodes++}`);
      try {
        await node.start();
        await node.configure();
        await body(node);
      } catch (error) {
        console.error(node.log);
        throw error;
      } finally {
        await node.close();
      }
    },
  });
}

/** Rows of a dump, as columns. */
export async function rowsOf(node: TestNode, map: string): Promise<Record<string, string>[]> {
  const { rows = [] } = await node.request("GET", `/v1/maps/${map}`);
  return rows.map((row: { fields: Record<string, string> }) => row.fields);
}
