/**
 * The places of the benchmark: a client and a server with a router between them, which is where kube-proxy's rules would
 * be. All of it is gone after `dispose`.
 * @module
 */
import { run } from "../../e2e/weir.ts";

/** Ports of one server that are the backends of a probed service. */
export const SERVER_PORT = 7001, SERVER_PORTS = 5;
/** Ports that every server listens on. */
const LISTEN_PORTS = 100;
/**
 * The port for those who ask the server itself. No two ways from one client may lead to one port: what the second way
 * asks would meet what the first has left (TIME_WAIT, with other timestamps), and be asked again 10 ms later.
 */
export const DIRECT_PORT: number = SERVER_PORT + LISTEN_PORTS - 1;

/** Runs a program; its failure is an error with what it said. */
export async function must(command: string, args: string[], stdin = ""): Promise<string> {
  const ran = await run(command, args, stdin);
  if (ran.code !== 0) {
    throw new Error(`${command} ${args.slice(0, 8).join(" ")}: exit ${ran.code}\n${ran.err}`);
  }
  return ran.out;
}

/** Words before a command so that it runs in a network namespace. */
export const inside = (netns: string): string[] => ["nsenter", `--net=${netns}`];

/** True when a program can be found. */
export async function has(program: string): Promise<boolean> {
  return (await run("sh", ["-c", `command -v ${program}`])).code === 0;
}

/** A client, a router and a server. */
export interface Triple {
  client: string;
  router: string;
  server: string;
  serverAddress: string;
}

/** Makes namespaces and servers and takes them away again. */
export class Places {
  readonly #namespaces: string[] = [];
  readonly #servers: Deno.ChildProcess[] = [];

  /** @param load path of the built `load.c` */
  constructor(readonly load: string) {}

  async namespace(name: string): Promise<string> {
    const full = `wbs${Deno.pid}${name}`;
    await must("ip", ["netns", "add", full]);
    this.#namespaces.push(full);
    await must("ip", ["-n", full, "link", "set", "lo", "up"]);
    return full;
  }

  /** Three namespaces in a row, the one in the middle routes, and a server at the end. */
  async triple(tag: string): Promise<Triple> {
    const [client, router, server] = [
      await this.namespace(`${tag}c`),
      await this.namespace(`${tag}r`),
      await this.namespace(`${tag}s`),
    ];
    const ip = (text: string) => must("ip", text.split(" "));
    for (const [ns, net] of [[client, 1], [server, 2]] as const) {
      await ip(`link add name e0 netns ${ns} type veth peer name e${net} netns ${router}`);
      await ip(`-n ${ns} addr add 198.18.${net}.2/24 dev e0`);
      await ip(`-n ${ns} link set e0 up`);
      await ip(`-n ${router} addr add 198.18.${net}.1/24 dev e${net}`);
      await ip(`-n ${router} link set e${net} up`);
      await ip(`-n ${ns} route add default via 198.18.${net}.1`);
    }
    const path = (name: string) => `/run/netns/${name}`;
    await must("nsenter", [`--net=${path(router)}`, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    this.serve(path(server));
    return {
      client: path(client),
      router: path(router),
      server: path(server),
      serverAddress: "198.18.2.2",
    };
  }

  /** Starts the server of the benchmark in a namespace. */
  serve(netns: string): void {
    const [command, ...args] = [
      ...inside(netns),
      ...["taskset", "-c", "0", this.load, "server", `${SERVER_PORT}`, `${LISTEN_PORTS}`],
    ];
    this.#servers.push(
      new Deno.Command(command, { args, stdin: "null", stdout: "null", stderr: "inherit" }).spawn(),
    );
  }

  async dispose(): Promise<void> {
    for (const server of this.#servers) {
      try {
        server.kill("SIGKILL");
      } catch { /* it has ended */ }
      await server.status;
    }
    for (const name of this.#namespaces) await run("ip", ["netns", "delete", name]);
  }
}
