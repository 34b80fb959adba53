/**
 * What every command is given: where to write, and where the services are.
 *
 * A command is a function `(args, context) => Promise<exit code>`. `args` are the words after the command's name,
 * without the global flags (`--lab`, `--node`, `--server`), which the context has already taken in. It answers 0 done,
 * 1 failed, 2 wrong usage, 3 "denied"; it may throw: `UsageError` becomes 2, every other error 1 with its message on
 * stderr.
 *
 * @module
 */
import { type PlaneService, planeTarget, readMembership, SERVICE_PORTS } from "@weir/common/membership";
import type { Handler } from "@weir/common/handler";
import { readStream } from "@weir/common/input-file";
import { harmlessOutput } from "./harmless_text.ts";
import { type LabRecord, RunDirectory } from "./run_directory.ts";

/** Services that a command may talk to; each has the socket `<name>.sock` in its instance's directory. */
export type ServiceName =
  | "certificate-authority"
  | "identity-allocator"
  | "policy-engine"
  | "load-balancer"
  | "endpoint-manager"
  | "datapath"
  | "flow-exporter"
  | "l7-proxy"
  | "flow-history"
  | "kubernetes"
  | "relay"
  | "ui"
  | "agent";

const CLUSTER_SERVICES: ReadonlySet<ServiceName> = new Set([
  "certificate-authority",
  "identity-allocator",
  "policy-engine",
  "load-balancer",
  "flow-history",
  "kubernetes",
  "ui",
]);

/** The signature of every command, for example `policyCommand(args, context)`. */
export type Command = (args: string[], context: CommandContext) => Promise<number>;

/** Wrong usage: exit code 2. `hint` names the help to read. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  constructor(message: string, readonly hint?: string) {
    super(message);
  }
}

/** One node that a command means. */
export interface NodeTarget {
  /** Name of the node, as people write it: "node-1"; the host's name for the host's own Weir. */
  readonly node: string;
  /** Instance: names the pins and the directory with the sockets: "LAB-node-1", or "host". */
  readonly instance: string;
  /** Directory with the sockets of the instance. */
  readonly directory: string;
}

/** Input and output of a command; tests give their own. */
export interface CommandIo {
  /** Writes to stdout as given (no newline is added), but for what a terminal would obey. */
  out(text: string): void;
  /** Writes to stderr in the same way; only errors and progress go there. */
  err(text: string): void;
  /** True where a person looks: colours and redrawing are welcome. */
  readonly terminal: boolean;
  /** All of stdin, for `-f -`; refuses more than this many bytes. */
  readStdin(bytesMax: number): Promise<string>;
  /** Asks the person at the terminal; undefined where there is none to ask. */
  readonly confirm?: (question: string) => boolean;
  /** Ends when the person presses Ctrl-C; follow and watch commands stop then and answer 0. */
  readonly interrupted: AbortSignal;
}

/** Global flags, after parsing. */
export interface GlobalFlags {
  readonly lab?: string;
  readonly node?: string;
  readonly server?: string;
  /** A cluster of Kubernetes is meant; undefined: none of its flags was given. */
  readonly kubernetes?: KubernetesFlags;
}

/** Which cluster of Kubernetes. */
export interface KubernetesFlags {
  /** File; default: that of the environment. */
  readonly kubeconfig?: string;
  /** Default: its current one. */
  readonly context?: string;
  /** Where Weir is. */
  readonly namespace?: string;
}

/** What a command knows of the world: its output and the addresses of the services. */
export class CommandContext {
  constructor(
    readonly io: CommandIo,
    readonly flags: GlobalFlags = {},
    readonly run: RunDirectory = new RunDirectory(),
  ) {}

  /** How long a service may take to answer a call; undefined: as long as a client waits. */
  readonly answerMsMax?: number;

  /** The same of one question of `weir status`, which ends soon whatever hangs. */
  readonly statusMsMax?: number;

  /** The lab that is meant: `--lab`, else the only lab there is, else none (the host's own Weir). */
  lab(): LabRecord | undefined {
    const labs = this.run.labs();
    if (this.flags.lab !== undefined) {
      const lab = labs.find((lab) => lab.name === this.flags.lab);
      if (lab === undefined) {
        const known = labs.map((lab) => lab.name).join(", ") || "none";
        throw new UsageError(
          `Cannot find lab "${this.flags.lab}": labs that are up: ${known}`,
          "weir lab list",
        );
      }
      return lab;
    }
    if (labs.length === 1) return labs[0];
    if (labs.length > 1 && this.flags.server === undefined && !this.run.hasInstance(hostInstance())) {
      const names = labs.map((lab) => lab.name).join(", ");
      throw new UsageError(`Several labs are up (${names}): say which one with --lab NAME`);
    }
    return undefined;
  }

  /** Every node that the command means: all of the lab, only `--node`'s, or the host. */
  nodes(): NodeTarget[] {
    const lab = this.lab();
    if (lab === undefined) return [this.#target(this.flags.node ?? hostname(), hostInstance())];
    const targets = lab.nodes.map((node) => this.#target(node, `${lab.name}-${node}`));
    if (this.flags.node === undefined) return targets;
    const target = targets.find((target) => target.node === this.flags.node);
    if (target === undefined) {
      throw new UsageError(
        `Cannot find node "${this.flags.node}" in lab "${lab.name}": it has ${lab.nodes.join(", ")}`,
      );
    }
    return [target];
  }

  /** The one node that is meant: `--node`'s, else the first. */
  node(): NodeTarget {
    return this.nodes()[0];
  }

  /**
   * Address of a service: `unix:/run/weir/<instance>/<service>.sock`, or what `--server` says. Cluster services answer
   * from the lab's control plane whatever the node is; on a machine that joined a cluster, from that cluster's.
   */
  address(service: ServiceName, target?: NodeTarget): string {
    if (this.flags.server !== undefined) return this.flags.server;
    if (CLUSTER_SERVICES.has(service)) {
      const lab = this.lab();
      const instance = lab === undefined ? hostInstance() : lab.controlPlane;
      return (lab === undefined && this.#remotePlane(service)) ||
        `unix:${this.run.path}/${instance}/${service}.sock`;
    }
    return `unix:${(target ?? this.node()).directory}/${service}.sock`;
  }

  /** What answers in place of the service; undefined: the service itself at its address. */
  handler(_service: ServiceName, _target?: NodeTarget): Handler | undefined {
    return undefined;
  }

  /** Target of a cluster service for a machine that joined as a node; undefined elsewhere. */
  #remotePlane(service: ServiceName): string | undefined {
    let membership;
    try {
      membership = readMembership(stateDirectory());
    } catch {
      return undefined; // root's file: others get the words about the socket
    }
    if (membership?.role !== "node" || !(service in SERVICE_PORTS)) return undefined;
    return planeTarget(membership.addresses, service as PlaneService, stateDirectory());
  }

  #target(node: string, instance: string): NodeTarget {
    return { node, instance, directory: `${this.run.path}/${instance}` };
  }
}

/** Instance of the host's own Weir: "host", as for the agent, unless `WEIR_INSTANCE` names another. */
export function hostInstance(): string {
  return Deno.env.get("WEIR_INSTANCE") || "host";
}

/** State of the host's own Weir: /var/lib/weir/host, as for the agent. */
export function stateDirectory(instance: string = hostInstance()): string {
  return `${Deno.env.get("WEIR_STATE_DIR") || "/var/lib/weir"}/${instance}`;
}

/** The host's name. */
export function hostname(): string {
  try {
    return Deno.hostname();
  } catch {
    return "host";
  }
}

/** The process's own stdout, stderr and stdin. */
export function processIo(): CommandIo {
  const interrupted = new AbortController();
  return {
    out: (text) => writeAll(Deno.stdout, harmlessOutput(text)),
    err: (text) => writeAll(Deno.stderr, harmlessOutput(text)),
    terminal: Deno.stdout.isTerminal() && !Deno.env.get("NO_COLOR"),
    confirm: Deno.stdin.isTerminal() ? (question) => confirm(question) : undefined,
    readStdin: async (bytesMax) =>
      new TextDecoder().decode(await readStream("stdin", Deno.stdin, { bytesMax })),
    get interrupted() {
      if (!listening) {
        listening = true;
        Deno.addSignalListener("SIGINT", () => interrupted.abort());
        Deno.addSignalListener("SIGTERM", () => interrupted.abort());
      }
      return interrupted.signal;
    },
  };
}

let listening = false;
const encoder = new TextEncoder();

function writeAll(stream: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = encoder.encode(text);
  for (let written = 0; written < bytes.length;) {
    try {
      written += stream.writeSync(bytes.subarray(written));
    } catch (error) {
      // `weir observe | head`: the reader is gone, and that is a normal end.
      if (error instanceof Deno.errors.BrokenPipe) Deno.exit(0);
      throw error;
    }
  }
}
