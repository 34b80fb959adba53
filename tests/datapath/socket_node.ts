/** A namespace that stands for a node with a pod beside it, and processes whose sockets do what a test says. @module */
import { attachCgroup, AttachType, type BpfLink } from "@weir/loader";
import { ADDRESS_HOST } from "@weir/maps";
import { Netns, netnsCookie } from "@weir/net";
import { TestNode } from "./node.ts";

/** Programs of bpf_socket.c and where each hangs. */
export const SOCKET_HOOKS: Record<string, number> = {
  socket_create: AttachType.CGROUP_INET_SOCK_CREATE,
  socket_bind4: AttachType.CGROUP_INET4_BIND,
  socket_bind6: AttachType.CGROUP_INET6_BIND,
  socket_connect4: AttachType.CGROUP_INET4_CONNECT,
  socket_connect6: AttachType.CGROUP_INET6_CONNECT,
  socket_sendmsg4: AttachType.CGROUP_UDP4_SENDMSG,
  socket_sendmsg6: AttachType.CGROUP_UDP6_SENDMSG,
  socket_recvmsg4: AttachType.CGROUP_UDP4_RECVMSG,
  socket_recvmsg6: AttachType.CGROUP_UDP6_RECVMSG,
  socket_getpeername4: AttachType.CGROUP_INET4_GETPEERNAME,
  socket_getpeername6: AttachType.CGROUP_INET6_GETPEERNAME,
};

/** Backends in the pod's namespace; the node is 10.9.0.254 and fd00:9::fe to them. */
export const BACKENDS = ["10.9.0.1", "10.9.0.2", "fd00:9::1", "fd00:9::2"];

/** What a command gave: `errno` when it failed (-1: nothing came). */
export interface Answer {
  peer?: [string, number];
  from?: [string, number];
  answer?: string;
  errno?: number;
  ms: number;
}

/** A process whose sockets do as told. */
export class SocketClient {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #read = "";

  constructor(netns: string, cgroup: string) {
    const script = new URL("testdata/socket_client.py", import.meta.url).pathname;
    this.#process = new Deno.Command("sh", {
      args: [
        "-c",
        `echo $$ > ${cgroup}/cgroup.procs && exec nsenter --net=/run/netns/${netns} python3 -u ${script}`,
      ],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  async do(op: string, options: Record<string, unknown> = {}): Promise<Answer> {
    await this.#writer.write(new TextEncoder().encode(JSON.stringify({ op, ...options }) + "\n"));
    while (!this.#read.includes("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) throw new Error("The client has ended");
      this.#read += value;
    }
    const end = this.#read.indexOf("\n");
    const line = this.#read.slice(0, end);
    this.#read = this.#read.slice(end + 1);
    return JSON.parse(line);
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#process.status;
  }
}

/**
 * A namespace that stands for a node with a pod beside it, and processes whose sockets do what a test says.
 * Everything goes with `close()`.
 */
export class SocketNode {
  readonly #links: BpfLink[] = [];
  readonly #clients: SocketClient[] = [];
  #server: Deno.ChildProcess | undefined;

  private constructor(
    readonly node: TestNode,
    readonly host: string,
    readonly pod: string,
    readonly cgroup: string,
  ) {}

  static async open(root: string): Promise<SocketNode> {
    const name = (what: string) => `wt-socket-${Deno.pid}-${what}`;
    const made = new SocketNode(await TestNode.open(), name("host"), name("pod"), `${root}/${name("cg")}`);
    try {
      await made.#prepare();
      return made;
    } catch (error) {
      await made.close();
      throw error;
    }
  }

  /** A process in a namespace, by default the node's own. */
  client(netns = this.host): SocketClient {
    const client = new SocketClient(netns, this.cgroup);
    this.#clients.push(client);
    return client;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) await client.close();
    if (this.#server) {
      this.#server.kill("SIGKILL");
      await this.#server.status;
    }
    for (const link of this.#links) link.close();
    for (const netns of [this.host, this.pod]) await run("ip", "netns", "del", netns).catch(() => {});
    // A cgroup is busy until the kernel has buried the last of its processes.
    for (let tries = 0; tries < 100; tries++) {
      try {
        Deno.removeSync(this.cgroup);
        break;
      } catch {
        await new Promise((done) => setTimeout(done, 20));
      }
    }
    this.node[Symbol.dispose]();
  }

  async #prepare(): Promise<void> {
    const { host, pod, node } = this;
    for (const netns of [host, pod]) {
      await run("ip", "netns", "add", netns);
      await run("ip", "-n", netns, "link", "set", "lo", "up");
    }
    await run("ip", "-n", host, "link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", pod);
    await run("ip", "-n", host, "address", "add", "10.9.0.254/24", "dev", "pod0");
    await run("ip", "-n", host, "address", "add", "fd00:9::fe/64", "dev", "pod0", "nodad");
    await run("ip", "-n", host, "link", "set", "pod0", "up");
    for (const backend of BACKENDS) {
      const six = backend.includes(":");
      const option = six ? ["nodad"] : [];
      await run("ip", "-n", pod, "address", "add", `${backend}/${six ? 64 : 24}`, "dev", "eth0", ...option);
    }
    await run("ip", "-n", pod, "link", "set", "eth0", "up");
    using netns = Netns.open(`/run/netns/${host}`);
    node.writeConfig({ netnsCookie: netnsCookie(netns)! });
    for (const own of ["10.9.0.254", "fd00:9::fe"]) {
      node.setAddress(own, { endpoint: 0, flags: ADDRESS_HOST });
    }
    Deno.mkdirSync(this.cgroup);
    for (const [program, type] of Object.entries(SOCKET_HOOKS)) {
      this.#links.push(attachCgroup(node.program(program).fd, this.cgroup, type));
    }
    const script = new URL("testdata/socket_server.py", import.meta.url).pathname;
    this.#server = new Deno.Command("ip", {
      args: ["netns", "exec", pod, "python3", "-u", script, ...BACKENDS],
      stdout: "piped",
    }).spawn();
    const reader = this.#server.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    // Neighbours are asked for as soon as the link is ready, which takes a moment.
    for (const backend of BACKENDS) {
      await run("ip", "netns", "exec", host, "ping", "-nqc", "1", "-i", "0.2", "-w", "5", backend);
    }
  }
}

async function run(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(args[0], { args: args.slice(1), stderr: "piped" })
    .output();
  if (!success) throw new Error(`${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}
