/** `weir sysdump`: one archive of everything that tells how Weir is, and the same commands on it later. @module */
import { noWords, parse, takeGlobalFlags, text } from "../args.ts";
import { type Command, type CommandContext, UsageError } from "../context.ts";
import { KUBERNETES_OPTIONS, meansKubernetes } from "../kubernetes_options.ts";
import { stopClock } from "../now.ts";
import { numbered } from "../output.ts";
import { didYouMean } from "../suggestion.ts";
import { ArchiveError, packArchive, unpackArchive } from "./archive.ts";
import { collect, type CollectOptions, type DumpSource, machineSource } from "./collect.ts";
import { type Manifest, readManifest } from "./manifest.ts";
import { OfflineContext } from "./offline.ts";

const HINT = "weir help sysdump";
const FLOWS_DEFAULT = 2000, FLOWS_MAX = 4095;
const ANSWER_S_DEFAULT = 10, ANSWER_S_MAX = 120;
const WHOLE_MS_MAX = 180_000;
/** Failures that are listed one by one. */
const FAILURES_SHOWN = 20;

/** Commands that read alone. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  status: async () => (await import("../status.ts")).statusCommand,
  endpoint: async () => (await import("../endpoint.ts")).endpointCommand,
  identity: async () => (await import("../identity.ts")).identityCommand,
  policy: async () => (await import("../policy.ts")).policyCommand,
  explain: async () => (await import("../explain/command.ts")).explainCommand,
  service: async () => (await import("../service.ts")).serviceCommand,
  bpf: async () => (await import("../bpf.ts")).bpfCommand,
  top: async () => (await import("../top.ts")).topCommand,
  observe: async () => (await import("../observe/command.ts")).observeCommand,
};

/** Runs the command. */
export async function sysdumpCommand(args: string[], context: CommandContext): Promise<number> {
  if (args[0] === "explain") return await explainSysdump(args.slice(1), context);
  const parsed = parse(args, {
    file: { type: "string", short: "o" },
    flows: { type: "string" },
    timeout: { type: "string" },
    ...KUBERNETES_OPTIONS,
  }, HINT);
  noWords(parsed, HINT);
  const flows = numberOf(text(parsed, "flows"), FLOWS_DEFAULT, FLOWS_MAX, "flows");
  const answerS = numberOf(text(parsed, "timeout"), ANSWER_S_DEFAULT, ANSWER_S_MAX, "timeout");
  if (context.flags.server !== undefined) throw new UsageError("weir sysdump takes no --server", HINT);
  const options = { flows, answerMsMax: answerS * 1000, wholeMsMax: WHOLE_MS_MAX };
  const file = text(parsed, "file");
  if (meansKubernetes(context, parsed)) {
    const { openDumpedCluster } = await import("./cluster_source.ts");
    await using cluster = await openDumpedCluster(context, HINT, parsed);
    return await write(file ?? fileName(cluster.name), cluster.context, cluster.source, options);
  }
  const name = context.lab()?.name ?? context.node().node;
  return await write(file ?? fileName(name), context, machineSource(context), options);
}

async function write(
  path: string,
  context: CommandContext,
  source: DumpSource,
  options: CollectOptions,
): Promise<number> {
  // Before anything is asked: a place that cannot be written to should not cost a minute.
  const file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 }).catch((error) => {
    throw new Error(
      `Cannot write ${path}: ${
        error instanceof Deno.errors.AlreadyExists ? "it is there already" : error.message
      }`,
    );
  });
  try {
    const { files, manifest } = await collect(context, source, options);
    await packArchive(files, manifest.madeUnixMs / 1000).pipeTo(file.writable);
    context.io.out(
      `${path}: ${files.size} files, ${(await Deno.stat(path)).size} bytes\n${failuresText(manifest)}`,
    );
    return 0;
  } catch (error) {
    await Deno.remove(path).catch(() => {});
    throw error;
  }
}

async function explainSysdump(args: string[], context: CommandContext): Promise<number> {
  const [path, ...words] = args;
  if (path === undefined || path.startsWith("-")) {
    parse(args, {}, HINT);
    throw new UsageError("Say the file: weir sysdump explain FILE [COMMAND...]", HINT);
  }
  const { manifest, files } = await openSysdump(path);
  const { flags, rest } = takeGlobalFlags(words[0] === "--" ? words.slice(1) : words);
  const [name, ...more] = rest;
  const offline = new OfflineContext(context.io, { node: flags.node ?? context.flags.node }, manifest, files);
  stopClock(manifest.madeUnixMs);
  try {
    if (name === undefined) {
      context.io.out(headText(manifest));
      const status = await COMMANDS.status();
      return await status([], offline);
    }
    if (!Object.hasOwn(COMMANDS, name)) {
      const known = Object.keys(COMMANDS);
      throw new UsageError(
        `Cannot run ${JSON.stringify(name)} on a sysdump${didYouMean(name, known)}: expected ${
          known.join(", ")
        }`,
        HINT,
      );
    }
    if (more.some((word) => /^(-f|-w|--follow|--watch|--wait)$/.test(word)) && name !== "policy") {
      throw new UsageError("A sysdump does not go on: leave out --follow, --watch and --wait", HINT);
    }
    return await (await COMMANDS[name]())(more, offline);
  } finally {
    stopClock(undefined);
  }
}

/** @throws {Error} it is not there, or no sysdump */
async function openSysdump(path: string): Promise<{ manifest: Manifest; files: Map<string, Uint8Array> }> {
  try {
    const files = await unpackArchive((await Deno.open(path)).readable);
    return { manifest: readManifest(files), files };
  } catch (error) {
    const why = error instanceof Deno.errors.NotFound
      ? "it is not there"
      : error instanceof ArchiveError
      ? error.message
      : undefined;
    if (why === undefined) throw error;
    throw new Error(`Cannot read ${path}: ${why}`);
  }
}

function numberOf(given: string | undefined, otherwise: number, most: number, name: string): number {
  const value = given === undefined ? otherwise : Number(given.replace(/s$/, ""));
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new UsageError(`--${name} is "${given}": expected 1 to ${most}`, HINT);
}

function fileName(name: string, at: Date = new Date()): string {
  const who = name.replaceAll(/[^A-Za-z0-9.-]/g, "_");
  return `weir-sysdump-${who}-${at.toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}Z.tar.gz`;
}

function headText(manifest: Manifest): string {
  const { madeUnixMs, version, lab, kubernetes, nodes } = manifest;
  const what = kubernetes !== undefined
    ? `cluster ${kubernetes}:`
    : lab !== undefined
    ? `lab ${lab}:`
    : "host";
  const of = `${what} ${nodes.join(", ")}`;
  return `sysdump of ${of}, made ${new Date(madeUnixMs).toISOString()} by weir ${version}\n${
    failuresText(manifest)
  }\n`;
}

function failuresText({ failures }: Manifest): string {
  if (failures.length === 0) return "";
  const lines = failures.slice(0, FAILURES_SHOWN).map(({ file, kind, error }) =>
    `  ${file}: ${kind}: ${error}`
  );
  const more = failures.length - lines.length;
  return [
    `it lacks ${numbered(failures.length, "answer", "answers")}:`,
    ...lines,
    ...(more > 0 ? [`  and ${more} more`] : []),
  ].join(
    "\n",
  ) + "\n";
}
