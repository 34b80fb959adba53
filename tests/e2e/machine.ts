/**
 * A server for tests: its own mounts (/run, /var/lib/weir, bpffs), network and host name, no systemd. It is told exactly what a
 * person would type.
 * @module
 */
import assert from "node:assert/strict";
import { type Ran, run } from "./weir.ts";

const root = new URL("../../", import.meta.url).pathname;

/** A server: a process that holds its namespaces, and the agent. */
export class Machine {
  #holder!: Deno.ChildProcess;
  #agent: Deno.ChildProcess | undefined;
  #others: Deno.ChildProcess[] = [];

  constructor(readonly name: string, readonly address: string) {}

  async up(): Promise<void> {
    const script =
      `mount -t tmpfs none /run && mkdir -p /run/netns /var/lib/weir && mount -t tmpfs none /var/lib/weir &&
      mount -t sysfs none /sys && mount -t bpf none /sys/fs/bpf && { mount -t cgroup2 none /sys/fs/cgroup || true; } &&
      hostname ${this.name} && ip link set lo up && echo up && exec cat`;
    this.#holder = new Deno.Command("unshare", {
      args: ["--mount", "--net", "--uts", "--propagation", "private", "sh", "-c", script],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = this.#holder.stdout.getReader();
    const { value } = await reader.read();
    assert.match(new TextDecoder().decode(value), /up/);
    reader.releaseLock();
  }

  get pid(): number {
    return this.#holder.pid;
  }

  /** Words that run in this machine. */
  words(...words: string[]): string[] {
    return ["nsenter", "-t", String(this.pid), "--mount", "--net", "--uts", "--", ...words];
  }

  run(words: string[], stdin?: string): Promise<Ran> {
    const [program, ...args] = this.words(...words);
    return run(program, args, stdin);
  }

  async ok(words: string[], stdin?: string): Promise<string> {
    const ran = await this.run(words, stdin);
    assert.equal(ran.code, 0, `${this.name}: ${words.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
    return ran.out;
  }

  weir(words: string[], stdin?: string): Promise<string> {
    return this.ok([`${root}scripts/weir`, ...words], stdin);
  }

  /** The command's errors; it must fail. */
  async refused(...words: string[]): Promise<string> {
    const ran = await this.run([`${root}scripts/weir`, ...words]);
    assert.notEqual(ran.code, 0, `${words.join(" ")} went through:\n${ran.out}`);
    return ran.err;
  }

  async startAgent(...more: string[]): Promise<void> {
    const [program, ...args] = this.words(`${root}scripts/weir`, "agent", "--ipv4", this.address, ...more);
    const log = await Deno.makeTempFile({ prefix: `weir-join-${this.name}-` });
    const agent = new Deno.Command("sh", {
      args: ["-c", 'log=$0; exec "$@" 2>"$log"', log, program, ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#agent = agent;
    let text = "";
    const reader = agent.stdout.pipeThrough(new TextDecoderStream()).getReader();
    while (!text.includes("Weir is ready")) {
      const { value, done } = await reader.read();
      if (done) {
        assert.fail(
          `the agent of ${this.name} ended:\n${text}${(await Deno.readTextFile(log)).slice(-4000)}`,
        );
      }
      text += value;
    }
    (async () => {
      while (!(await reader.read()).done);
    })();
  }

  /** What the agent's processes are; the agent first. */
  async processes(): Promise<number[]> {
    const socket = "/run/weir/host/agent.sock";
    const out = await this.ok([
      "curl",
      "-s",
      "--max-time",
      "20",
      "--unix-socket",
      socket,
      "http://x/v1/processes",
    ]);
    const services = JSON.parse(out).items.map(({ pid }: { pid: number }) => pid).filter((pid: number) =>
      pid > 0
    );
    return [this.#agent!.pid, ...services];
  }

  /** The agent has ended, or is about to. */
  async agentEnds(): Promise<void> {
    await this.#agent?.status;
    this.#agent = undefined;
  }

  async stopAgent(): Promise<void> {
    this.#agent?.kill("SIGTERM");
    await this.#agent?.status;
    this.#agent = undefined;
  }

  /** As if it were killed by the kernel: its services end by themselves. */
  async killAgent(): Promise<void> {
    this.#agent?.kill("SIGKILL");
    await this.#agent?.status;
    this.#agent = undefined;
  }

  background(...words: string[]): void {
    const [program, ...args] = this.words(...words);
    this.#others.push(
      new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn(),
    );
  }

  async down(): Promise<void> {
    await this.stopAgent();
    for (const process of this.#others) {
      try {
        process.kill("SIGKILL");
      } catch { /* it has ended */ }
      await process.status;
    }
    await this.run([`${root}scripts/weir`, "uninstall"]);
    await this.end();
  }

  /** Ends what holds its namespaces. */
  async end(): Promise<void> {
    await this.#holder.stdin.close();
    await this.#holder.status;
  }

  /** A request to the control plane with this machine's certificate (or `credentials`), as somebody hostile would send it. */
  async curl(url: string, ...more: string[]): Promise<{ status: number; code?: string }> {
    const out = await this.ok([
      "curl",
      "-s",
      "--max-time",
      "20",
      "-w",
      "\n%{http_code}",
      "--cacert",
      "/var/lib/weir/host/ca.crt",
      ...more,
      url,
    ]);
    const at = out.lastIndexOf("\n"), body = out.slice(0, at);
    return { status: Number(out.slice(at + 1)), code: /"code":"([A-Z_]+)"/.exec(body)?.[1] };
  }
}

/** Machines on one switch, each at its device eth0. Disposing of it takes the machines down, the last one first. */
export class MachineNetwork implements AsyncDisposable {
  readonly #switch = new Machine("switch", "");

  private constructor(readonly machines: readonly Machine[]) {}

  static async up(...machines: Machine[]): Promise<MachineNetwork> {
    const network = new MachineNetwork(machines), bridge = network.#switch;
    await bridge.up();
    await bridge.ok(["ip", "link", "add", "br0", "type", "bridge"]);
    await bridge.ok(["ip", "link", "set", "br0", "up"]);
    for (const [index, machine] of machines.entries()) {
      await machine.up();
      const port = `port${index}`, far = ["type", "veth", "peer", "name", port, "netns", String(bridge.pid)];
      await machine.ok(["ip", "link", "add", "eth0", ...far]);
      await bridge.ok(["ip", "link", "set", port, "master", "br0", "up"]);
      await machine.ok(["ip", "address", "add", `${machine.address}/24`, "dev", "eth0"]);
      await machine.ok(["ip", "link", "set", "eth0", "up"]);
    }
    return network;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const machine of this.machines.toReversed()) await machine.down();
    await this.#switch.end();
  }
}
