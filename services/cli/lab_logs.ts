/**
 * `weir lab logs NODE|POD|SERVICE`: what a node's services, a pod's commands or one service on every node have written.
 *
 * @module
 */
import { flag, parse, text } from "./args.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { didYouMean } from "./suggestion.ts";

const HINT = "weir help lab";
const LINES_DEFAULT = 200;
const POLL_MS = 200;
const BYTES_MAX = 16 << 20;
const SERVICES = [
  "agent",
  "certificate-authority",
  "datapath",
  "endpoint-manager",
  "flow-exporter",
  "flow-history",
  "identity-allocator",
  "lab",
  "load-balancer",
  "policy-engine",
  "relay",
  "ui",
];

/** A log file, and which of its lines are meant. */
interface Source {
  readonly path: string;
  /** Stands before each line where several files are shown. */
  readonly label: string;
  readonly service?: string;
}

/** Runs the command. */
export async function labLogs(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, {
    tail: { type: "string" },
    follow: { type: "boolean", short: "f" },
  }, HINT);
  const tail = text(parsed, "tail") ?? String(LINES_DEFAULT);
  if (tail !== "all" && !/^\d{1,7}$/.test(tail)) {
    throw new UsageError(`--tail is "${tail}": expected a number of lines, or all`, HINT);
  }
  const [name, ...more] = parsed.positionals;
  if (more.length > 0) throw new UsageError("Say one node, pod or service", HINT);
  const lab = context.lab();
  if (lab === undefined) throw new UsageError("No lab is up", "weir lab up");
  const directory = `${context.run.path}/lab/${lab.name}`;
  const files = (await namesIn(`${directory}/logs`)).sort();
  const sources = sourcesOf(name, { files, nodes: lab.nodes, directory, node: context.flags.node });
  const shown = sources.map((source) => ({ source, reader: new LogReader(source) }));
  const many = sources.length > 1;
  const print = (source: Source, lines: readonly string[]) => {
    for (const line of lines) context.io.out(`${many ? `[${source.label}] ` : ""}${line}\n`);
  };
  for (const { source, reader } of shown) {
    const lines = await reader.newLines();
    print(source, tail === "all" ? lines : Number(tail) === 0 ? [] : lines.slice(-Number(tail)));
  }
  while (flag(parsed, "follow") && !context.io.interrupted.aborted) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    for (const { source, reader } of shown) print(source, await reader.newLines());
  }
  return 0;
}

/** The files that a name means: a node, a pod (of "default" where no namespace is said), or a service. @throws {UsageError} */
export function sourcesOf(
  name: string | undefined,
  { files, nodes, directory, node }: {
    files: readonly string[];
    nodes: readonly string[];
    directory: string;
    node?: string;
  },
): Source[] {
  const agents = nodes.filter((one) => node === undefined || one === node).map((one): Source => ({
    path: `${directory}/logs/${one}.agent.log`,
    label: one,
  }));
  const pods = files.filter((file) => !file.endsWith(".agent.log")).map((file) => {
    const [namespace, pod, ...container] = file.replace(/\.log$/, "").split(".");
    return {
      path: `${directory}/logs/${file}`,
      name: `${namespace}/${pod}`,
      pod,
      container: container.join("."),
    };
  });
  if (name === undefined && node !== undefined) return agents;
  if (name === "lab") return [{ path: `${directory}/lab.log`, label: "lab" }];
  if (name !== undefined && nodes.includes(name)) {
    return [{ path: `${directory}/logs/${name}.agent.log`, label: name }];
  }
  if (name !== undefined && SERVICES.includes(name)) {
    return agents.map((source) => ({ ...source, service: name }));
  }
  const exact = pods.filter((pod) => pod.name === (name?.includes("/") ? name : `default/${name}`));
  const found = exact.length > 0 ? exact : pods.filter(({ pod }) => pod === name);
  const names = new Set(found.map((pod) => pod.name));
  if (names.size === 1) return found.map(({ path, container }) => ({ path, label: container }));
  if (names.size > 1) throw new UsageError(`"${name}" may be ${[...names].join(" or ")}: say which`, HINT);
  const known = [...nodes, ...new Set(pods.map((pod) => pod.name)), ...SERVICES];
  throw new UsageError(
    name === undefined
      ? `Say whose logs: a node, a pod or a service of ${known.join(", ")}`
      : `Cannot find logs of "${name}"${
        didYouMean(name, [...known, ...pods.map(({ pod }) => pod)])
      }: expected one of ${known.join(", ")}`,
    HINT,
  );
}

/** Reads a growing file line by line; of a long one only its end. */
class LogReader {
  readonly #source: Source;
  #position: number | undefined;
  #rest = "";

  constructor(source: Source) {
    this.#source = source;
  }

  /** Whole lines that came since the last call. A file that is not there yet has none. */
  async newLines(): Promise<string[]> {
    let file: Deno.FsFile;
    try {
      file = await Deno.open(this.#source.path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
    try {
      const { size } = await file.stat();
      const from = this.#position === undefined || size < this.#position
        ? Math.max(0, size - BYTES_MAX)
        : this.#position;
      await file.seek(from, Deno.SeekMode.Start);
      const bytes = new Uint8Array(Math.min(size - from, BYTES_MAX));
      let filled = 0;
      while (filled < bytes.length) {
        const read = await file.read(bytes.subarray(filled));
        if (read === null) break;
        filled += read;
      }
      this.#position = from + filled;
      const lines = (this.#rest + new TextDecoder().decode(bytes.subarray(0, filled))).split("\n");
      this.#rest = lines.pop()!;
      return lines.filter((line) => isOf(line, this.#source.service));
    } finally {
      file.close();
    }
  }
}

/** Services write a line of JSON each; what is none is the agent's own. */
function isOf(line: string, service: string | undefined): boolean {
  if (service === undefined) return true;
  const [, who] = /^\{.*?"service":"([^"]+)"/.exec(line) ?? [];
  return service === "agent" ? who === undefined || who === "agent" : who === service;
}

async function namesIn(directory: string): Promise<string[]> {
  const names: string[] = [];
  try {
    for await (const { name, isFile } of Deno.readDir(directory)) {
      if (isFile && name.endsWith(".log")) names.push(name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names;
}
