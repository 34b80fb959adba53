/** A node's proxy: an unprivileged process on the handles' port, and what the datapath service prepares for it. @module */
import { attachCgroup, type BpfLink } from "@weir/loader";
import * as abi from "@weir/maps";
import { Netns, netnsCookie } from "@weir/net";
import { inCgroup } from "../../services/agent/proxy_cgroup.ts";
import { cgroupRootHere } from "../cgroup_root.ts";
import type { Cluster, Place } from "./cluster.ts";
import { ipv4Number } from "./packet.ts";
import { newCgroup } from "./own_cgroup.ts";
import { SOCKET_HOOKS } from "./socket_node.ts";

export const PROXY_PORT = 15001, PROXY_UID = 65534;
export const HANDLES_V4 = "240.0.0.0/8", HANDLES_V6 = "fd57:4c37::/64";

/** What a proxy passes on. */
export type ProxyKind = "connections" | "datagrams";

/** Routes, record and hooks of handles, and a process that splices, in a control group of its own. Everything goes with `close()`. */
export class Proxy {
  readonly #links: BpfLink[] = [];
  #process: Deno.ChildProcess | undefined;
  #reader: ReadableStreamDefaultReader<string> | undefined;
  #read = "";
  #cgroup = "";

  private constructor(
    readonly cluster: Cluster,
    readonly n: 1 | 2,
    readonly kind: ProxyKind,
    readonly sockets: number,
  ) {}

  /**
   * For node `n`.
   * @param options run: start the process too (default); kind: of connections (default) or datagrams; sockets: of datagrams, default one
   */
  static async open(
    cluster: Cluster,
    n: 1 | 2,
    options: { run?: boolean; kind?: ProxyKind; sockets?: number } = {},
  ): Promise<Proxy> {
    const proxy = new Proxy(cluster, n, options.kind ?? "connections", options.sockets ?? 1),
      host: Place = `node${n}`,
      node = cluster.nodes[n - 1];
    const root = cgroupRootHere();
    if (root === undefined) {
      throw new Error("Cannot hang programs on sockets: no unified hierarchy of cgroups");
    }
    try {
      proxy.#cgroup = newCgroup("proxy");
      await cluster.ip(host, "route", "add", "local", HANDLES_V4, "dev", "lo");
      await cluster.ip(host, "route", "add", "local", HANDLES_V6, "dev", "lo");
      using netns = Netns.open(`/run/netns/${cluster.netns(host)}`);
      node.writeConfig({
        netnsCookie: netns.enter(() => netnsCookie()) ?? 0n,
        handleIpv4Be: ipv4Number("240.0.0.0"),
        handleMaskIpv4: 0xffffff,
        handleIpv6: new DataView(Uint8Array.from([0xfd, 0x57, 0x4c, 0x37, 0, 0, 0, 0]).buffer).getBigUint64(
          0,
          true,
        ),
        proxyUid: PROXY_UID,
        proxyPort: PROXY_PORT,
        proxySockets: proxy.sockets,
        proxyCgroup: BigInt(Deno.statSync(proxy.#cgroup).ino!),
      });
      for (const [name, type] of Object.entries(SOCKET_HOOKS)) {
        proxy.#links.push(attachCgroup(node.program(name).fd, root, type));
      }
      if (options.run ?? true) await proxy.start();
      return proxy;
    } catch (error) {
      await proxy.close();
      throw error;
    }
  }

  /** Words that run a command as the proxy is run; `isMember`: in its control group too, else as another service of its user. */
  as(isMember: boolean, ...command: string[]): string[] {
    const nobody = ["setpriv", `--reuid=${PROXY_UID}`, `--regid=${PROXY_UID}`, "--clear-groups"];
    const words = ["ip", "netns", "exec", this.cluster.netns(`node${this.n}`), ...nobody, ...command];
    // Before `ip`, which hides /sys.
    return isMember ? inCgroup(this.#cgroup, words) : words;
  }

  /** Starts the process. */
  async start(): Promise<void> {
    const file = this.kind === "datagrams" ? "datagram_proxy.ts" : "handle_proxy.ts";
    const script = new URL(`testdata/${file}`, import.meta.url).pathname;
    const deno = [Deno.execPath(), "run", "--no-config", "--no-lock", "--allow-net", "-"];
    const ports = Array.from({ length: this.sockets }, (_, at) => `${PROXY_PORT + at}`);
    const [command, ...args] = this.as(true, ...deno, ...ports);
    this.#process = new Deno.Command(command, {
      args,
      env: { DENO_DIR: "/nonexistent", HOME: "/nonexistent", DENO_NO_UPDATE_CHECK: "1" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    // Its user need not be able to read the tests.
    const writer = this.#process.stdin.getWriter();
    await writer.write(Deno.readFileSync(script));
    await writer.close();
    this.#reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const line = await this.line();
    if (line !== "ready") throw new Error(`The proxy did not start: ${line}`);
  }

  /** What it has said next. */
  async line(): Promise<string> {
    while (!this.#read.includes("\n")) {
      const { value } = await this.#reader!.read();
      if (value === undefined) return this.#read;
      this.#read += value;
    }
    const end = this.#read.indexOf("\n"), line = this.#read.slice(0, end);
    this.#read = this.#read.slice(end + 1);
    return line;
  }

  /** Kills the process; the rest stays. */
  async kill(): Promise<void> {
    const process = this.#process;
    if (process === undefined) return;
    this.#process = undefined;
    try {
      process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await process.status;
    await this.#reader?.cancel();
    this.#read = "";
  }

  /** Records of handles that are in use. */
  handles(): abi.Handle[] {
    return this.cluster.nodes[this.n - 1].map("weir_handles").entries()
      .map(([, value]) => abi.Handle.decode(value)).filter(({ taken }) => taken !== 0);
  }

  async close(): Promise<void> {
    await this.kill();
    for (const link of this.#links) link.close();
    if (this.#cgroup !== "") Deno.removeSync(this.#cgroup);
  }
}
