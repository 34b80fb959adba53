/** One host with its own agent and control plane, in a network namespace of its own, for benches. Root. @module */
import { WeirClient } from "@weir/client";
import { Process } from "@weir/proto/agent";

const root = new URL("../../../", import.meta.url).pathname;
/** Name of the host's only node. */
export const BENCH_NODE = "server";

/** A host that runs Weir; disposed of, nothing of it is left. */
export class BenchHost {
  /** Beginning of the names of everything that a bench makes beside the host. */
  readonly tag = `wb-${Deno.pid}`;
  readonly #instance = `b${Deno.pid}`;
  readonly #directory = `/run/${this.tag}`;
  readonly #env = {
    WEIR_RUN_DIR: this.#directory,
    WEIR_STATE_DIR: `${this.#directory}/state`,
    WEIR_INSTANCE: this.#instance,
  };
  readonly #spaces: string[] = [];
  #agent: Deno.ChildProcess | undefined;

  /** Starts everything, until the agent says that it is ready. */
  async start(): Promise<void> {
    const server = await this.addNamespace("server");
    await this.run("ip", "-n", server, "link", "set", "lo", "up");
    await this.run("ip", "-n", server, "link", "add", "eth0", "type", "veth", "peer", "name", "far0");
    for (const device of ["eth0", "far0"]) await this.run("ip", "-n", server, "link", "set", device, "up");
    await this.run("ip", "-n", server, "address", "add", "192.0.2.1/24", "dev", "eth0");
    const words = [`--net=/run/netns/${server}`, "--", `${root}scripts/weir`, "agent", "--control-plane"];
    this.#agent = new Deno.Command("nsenter", {
      args: [...words, "--node-name", BENCH_NODE, "--ipv4", "192.0.2.1"],
      env: this.#env,
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = this.#agent.stdout.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; !text.includes("Weir is ready");) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`The agent ended: ${text}`);
      text += value;
    }
    (async () => {
      while (!(await reader.read()).done);
    })();
  }

  /** Makes a network namespace; answers its name. */
  async addNamespace(name: string): Promise<string> {
    const full = `${this.tag}-${name}`;
    await this.run("ip", "netns", "add", full);
    this.#spaces.push(full);
    return full;
  }

  /** A client of one of the host's services. */
  client(service: string): WeirClient {
    return new WeirClient(`unix:${this.#directory}/${this.#instance}/${service}.sock`);
  }

  /** Process ids by service, the agent's included. */
  async pids(): Promise<Map<string, number>> {
    const supervisor = this.client("agent");
    try {
      const { items } = await supervisor.collection("processes", Process).list();
      return new Map([["agent", this.#agent!.pid], ...items.map(({ name, pid }) => [name, pid] as const)]);
    } finally {
      supervisor.close();
    }
  }

  /** Runs a command with the host's surroundings. @throws when it fails */
  async run(...words: string[]): Promise<void> {
    const { code, stderr } = await new Deno.Command(words[0], {
      args: words.slice(1),
      env: this.#env,
      stdout: "null",
    }).output();
    if (code !== 0) throw new Error(`${words.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent?.kill("SIGTERM");
    await this.#agent?.status;
    await this.run(`${root}scripts/weir`, "uninstall", "--instance", this.#instance).catch(() => {});
    for (const name of this.#spaces) await this.run("ip", "netns", "delete", name).catch(() => {});
    await Deno.remove(this.#directory, { recursive: true }).catch(() => {});
  }
}
