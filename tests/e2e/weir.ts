/**
 * The command `weir` as the tests use it: as a user would, through the shell's eyes.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";

const root = new URL("../../", import.meta.url).pathname;

/** What a command left behind. */
export interface Ran {
  code: number;
  out: string;
  err: string;
}

/** Runs a program to its end; `env` is added to this process's variables. */
export async function run(
  command: string,
  args: string[],
  stdin = "",
  env: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  const child = new Deno.Command(command, {
    args,
    env,
    cwd: root,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin)).catch(() => {});
  await writer.close().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

/** How long policies may take to be in force: as long as a slow machine takes. */
const IN_FORCE_MAX = "5m";

/** One lab, by name. Everything a test does goes through the command line. */
export class Lab {
  constructor(readonly name: string) {}

  /** `weir --lab NAME ...`, whatever comes of it. */
  weir(args: string[], stdin = ""): Promise<Ran> {
    return run(`${root}scripts/weir`, ["--lab", this.name, ...args], stdin);
  }

  /** Like {@link Lab.weir}, and it must end with 0. */
  async ok(args: string[], stdin = ""): Promise<string> {
    const ran = await this.weir(args, stdin);
    assert.equal(ran.code, 0, `weir ${args.join(" ")}: exit ${ran.code}\n${ran.out}${ran.err}`);
    return ran.out;
  }

  /** Brings the lab up with these manifests; `options` are more words of `weir lab up`. */
  async up(nodes: number, manifests: string, options: string[] = []): Promise<void> {
    const file = await Deno.makeTempFile({ suffix: ".yaml" });
    try {
      await Deno.writeTextFile(file, manifests);
      await this.upFrom(nodes, file, options);
    } finally {
      await Deno.remove(file);
    }
  }

  /** Likewise with the manifests of a file or a directory. */
  async upFrom(nodes: number, path: string, options: string[] = []): Promise<void> {
    const words = ["lab", "up", "--lab", this.name, "--nodes", `${nodes}`, "-f", path, ...options];
    const ran = await run(`${root}scripts/weir`, words);
    assert.equal(ran.code, 0, `weir lab up: exit ${ran.code}\n${ran.out}${ran.err}`);
    await this.#catchUp(ran.out);
  }

  /** Applies manifests of pods and more with `weir lab apply`. */
  async put(manifests: string): Promise<void> {
    await this.#catchUp(await this.ok(["lab", "apply", "-f", "-"], manifests));
  }

  /** The lab waits for its nodes, but not for as long as a slow machine may take; then it says who is behind. */
  async #catchUp(said: string): Promise<void> {
    if (/^note: .*(see weir status|is not known: )/m.test(said)) await this.inForce();
  }

  async down(): Promise<void> {
    const ran = await run(`${root}scripts/weir`, ["lab", "down", "--lab", this.name]);
    assert.equal(ran.code, 0, `weir lab down: exit ${ran.code}\n${ran.out}${ran.err}`);
  }

  /** Applies policies; the command ends when they are in force on every node. */
  async apply(manifests: string): Promise<void> {
    await this.ok(["policy", "apply", "-f", "-", "--timeout", IN_FORCE_MAX], manifests);
  }

  /** Deletes policies by name ("cnp:shop/x"), likewise. */
  async drop(...names: string[]): Promise<void> {
    await this.ok(["policy", "delete", "--timeout", IN_FORCE_MAX, ...names]);
  }

  /** Waits until the kernel of every node has what the policies make of its endpoints: for changes of pods and labels. */
  async inForce(): Promise<void> {
    const words = [
      "scripts/wait-policy.ts",
      "--timeout",
      `${parseInt(IN_FORCE_MAX) * 60}`,
      "--lab",
      this.name,
    ];
    const ran = await run("deno", ["run", "-A", "--no-check", ...words]);
    assert.equal(ran.code, 0, `wait-policy: exit ${ran.code}\n${ran.out}${ran.err}`);
  }

  /** Sends real traffic and asserts what comes of it; lines as in `weir lab test`. */
  async expect(lines: string[]): Promise<void> {
    const ran = await this.weir(["lab", "test", "-"], lines.map((l) => `- { ${l} }\n`).join(""));
    assert.equal(ran.code, 0, `weir lab test: exit ${ran.code}\n${ran.out}${ran.err}`);
  }

  /** Flows, newest last, as `weir observe` prints them in JSON. */
  async flows(...filters: string[]): Promise<Flow[]> {
    const out = await this.ok(["observe", "--last", "200", "-o", "jsonpb", ...filters]);
    return out.split("\n").filter((l) => l.startsWith("{")).map((l) => JSON.parse(l).flow).filter((f) => f);
  }

  /** Waits for a flow that the test wants; the datapath's ring is polled, so it may take a moment. */
  async flow(what: string, wanted: (flow: Flow) => boolean, ...filters: string[]): Promise<Flow> {
    let seen: Flow[] = [], found: Flow | undefined;
    const inVain = () =>
      `a flow that shows ${what}; the last of ${seen.length} with ${filters.join(" ")}:\n` +
      seen.slice(-5).map((f) => JSON.stringify(f)).join("\n");
    await until(inVain, async () => {
      seen = await this.flows(...filters);
      found = seen.findLast(wanted);
      return found !== undefined;
    });
    return found!;
  }
}

/** The parts of a flow that tests look at; proto names, as Hubble prints them. */
export interface Flow {
  readonly destination_names?: readonly string[];
  verdict: string;
  drop_reason_desc?: string;
  traffic_direction?: string;
  is_reply?: boolean;
  node_name?: string;
  IP?: { source: string; destination: string; ipVersion: string };
  l4?: Record<string, { source_port?: number; destination_port?: number; type?: number }>;
  source?: { pod_name?: string; namespace?: string; labels?: string[]; identity?: number };
  destination?: { pod_name?: string; namespace?: string; labels?: string[]; identity?: number };
  destination_service?: { name: string; namespace: string };
  event_type?: { type: number; sub_type?: number };
  ingress_allowed_by?: PolicyRef[];
  ingress_denied_by?: PolicyRef[];
  egress_allowed_by?: PolicyRef[];
  egress_denied_by?: PolicyRef[];
}
interface PolicyRef {
  name: string;
  namespace?: string;
  kind?: string;
}

/** True when a policy list names the policy. */
export const names = (list: PolicyRef[] | undefined, name: string): boolean =>
  list?.some((p) => p.name === name) ?? false;

/** True for root on a machine that can make namespaces and load eBPF. */
export const canRun: boolean = Deno.uid() === 0;
if (!canRun) console.log("SKIP tests/e2e: a lab needs root");
