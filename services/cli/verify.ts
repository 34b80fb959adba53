/**
 * `weir verify`: a verdict for every program of eBPF objects, without loading them. Needs no privileges and no kernel that knows eBPF.
 * @module
 */
import { fileURLToPath } from "node:url";
import { Btf, ElfFile, type KernelConfig, kindOf, ObjectError } from "@weir/object";
import {
  codeName,
  type Entry,
  entryOfFailure,
  type Format,
  FORMATS,
  isRelease,
  pageNumbers,
  pageOf,
  parseCode,
  renderEntries,
  renderPage,
  UNREADABLE_FILE,
  type Verifier,
  verifierOf,
  verifyObject,
} from "@weir/report";
import { readInputFileSync } from "@weir/common/input-file";
import { flag, parse, text } from "./args.ts";
import { UsageError } from "./context.ts";
import { harmlessOutput } from "./harmless_text.ts";
import { codeLabel, verifierVersion, verifierWasmUrl } from "@weir/verifier";

/** Largest files that are read: an object, kernel types (a vmlinux with its debug information), a kernel configuration. */
const OBJECT_BYTES_MAX = 64 << 20, BTF_BYTES_MAX = 1 << 30, CONFIG_BYTES_MAX = 4 << 20;

/** Wrong usage: what was found and what is expected. */
const HINT = "weir help verify";
const wrongUsage = (message: string) => new UsageError(message, HINT);

interface Options {
  readonly paths: string[];
  readonly program?: string;
  readonly type?: string;
  readonly attach?: string;
  readonly kernel?: string;
  readonly btf?: string;
  readonly strict: boolean;
  readonly verbose: boolean;
  readonly format: Format;
}

/** Runs the command. @param args What follows `weir verify`. @returns The exit code. */
export async function verifyCommand(args: string[]): Promise<number> {
  try {
    const parsed = readArgs(args);
    if (typeof parsed === "string") {
      write(parsed);
      return 0;
    }
    const entries = await verifyPaths(parsed);
    write(renderEntries(entries, parsed.format, { verbose: parsed.verbose, version: verifierVersion }));
    return entries.length > 0 && entries.every((entry) => entry.verdict === "accepted") ? 0 : 1;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    console.error(harmlessOutput((error as Error).message));
    return 1;
  }
}

function readArgs(args: string[]): Options | string {
  // Asked for without a code: the list of all.
  if (args.at(-1) === "--explain") return listCodes();
  const parsed = parse(args, {
    program: { type: "string" },
    type: { type: "string" },
    attach: { type: "string" },
    kernel: { type: "string" },
    btf: { type: "string" },
    explain: { type: "string" },
    output: { type: "string", short: "o" },
    strict: { type: "boolean" },
    verbose: { type: "boolean", short: "v" },
  }, HINT);
  const [explain, kernel, type] = ["explain", "kernel", "type"].map((name) => text(parsed, name));
  if (explain !== undefined) return explainCode(explain);
  if (parsed.positionals.length === 0) throw wrongUsage("No object given");
  const format = text(parsed, "output") ?? "table";
  if (!(FORMATS as readonly string[]).includes(format)) {
    throw wrongUsage(`Unknown format "${format}": expected ${FORMATS.join(", ")}`);
  }
  if (kernel !== undefined && !isRelease(kernel)) {
    throw wrongUsage(`Unknown kernel release "${kernel}": expected a form like 6.1`);
  }
  if (type !== undefined && kindOf(type) === undefined) {
    throw wrongUsage(`Unknown program type "${type}": expected tc, xdp, socket, cgroup/connect4, ...`);
  }
  return {
    paths: parsed.positionals,
    program: text(parsed, "program"),
    type,
    attach: text(parsed, "attach"),
    kernel,
    btf: text(parsed, "btf"),
    strict: flag(parsed, "strict"),
    verbose: flag(parsed, "verbose"),
    format: format as Format,
  };
}

function explainCode(text: string): string {
  const code = parseCode(text);
  if (code === undefined) {
    throw wrongUsage(
      `Unknown code "${text}": expected one of the list that --explain alone prints`,
    );
  }
  return renderPage(pageOf(code)!);
}

function listCodes(): string {
  return pageNumbers().map((code) => `${codeLabel(code)}  ${codeName(code)}`).join("\n") + "\n";
}

async function verifyPaths(options: Options): Promise<Entry[]> {
  const verifier = await loadVerifier();
  const kernelBtf = readKernelBtf(options.btf);
  const config = await readKernelConfig(options.kernel);
  const entries: Entry[] = [];
  for (const path of options.paths.flatMap(expand)) {
    let data: Uint8Array;
    try {
      data = readInputFileSync(path, { bytesMax: OBJECT_BYTES_MAX });
    } catch (error) {
      entries.push(entryOfFailure(path, undefined, UNREADABLE_FILE, (error as Error).message));
      continue;
    }
    entries.push(...verifyObject(path, data, verifier, {
      program: options.program,
      type: options.type,
      attach: options.attach,
      kernel: options.kernel,
      strict: options.strict,
      kernelBtf,
      config,
      recordVisits: options.verbose || options.format !== "table",
    }));
  }
  if (entries.length === 0 && options.program !== undefined) {
    throw new Error(`Cannot find program or section "${options.program}" in ${options.paths.join(", ")}`);
  }
  if (entries.length === 0) throw new Error(`Cannot find any object: no *.o in ${options.paths.join(", ")}`);
  return entries;
}

/** Of a directory its objects, by name; of anything else itself. */
function expand(path: string): string[] {
  try {
    if (!Deno.statSync(path).isDirectory) return [path];
  } catch {
    return [path];
  }
  return [...Deno.readDirSync(path)]
    .filter((entry) => !entry.isDirectory && entry.name.endsWith(".o"))
    .map((entry) => `${path.replace(/\/$/, "")}/${entry.name}`)
    .sort();
}

/** The verifier module, built when it is not there. */
async function loadVerifier(): Promise<Verifier> {
  let bytes: Uint8Array<ArrayBuffer>;
  try {
    bytes = Deno.readFileSync(verifierWasmUrl);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const { buildVerifier } = await import("@weir/verifier/build");
    await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
    bytes = Deno.readFileSync(verifierWasmUrl);
  }
  return verifierOf(await WebAssembly.compile(bytes));
}

function readKernelBtf(path: string | undefined): Btf | undefined {
  let data: Uint8Array;
  try {
    data = readInputFileSync(path ?? "/sys/kernel/btf/vmlinux", { bytesMax: BTF_BYTES_MAX });
  } catch (error) {
    // Without all permissions Deno opens nothing below /sys: scripts/weir opens it then, and hands it over.
    if (path === undefined && Deno.env.get("WEIR_KERNEL_BTF") === "stdin") return btfOfStdin();
    if (path === undefined) return undefined;
    throw new Error(`Cannot take kernel types: ${(error as Error).message}`);
  }
  try {
    // A vmlinux image, or a raw file as in /sys/kernel/btf.
    const section = ElfFile.isElf(data) ? ElfFile.sectionOf(data, ".BTF") : data;
    if (section === undefined) {
      throw wrongUsage(`Cannot read kernel types from ${path}: no section .BTF`);
    }
    return Btf.parse(section);
  } catch (error) {
    if (path === undefined && error instanceof ObjectError) return undefined;
    throw error;
  }
}

function btfOfStdin(): Btf | undefined {
  const parts: Uint8Array[] = [];
  let length = 0;
  const part = new Uint8Array(1 << 20);
  for (let count = Deno.stdin.readSync(part); count !== null; count = Deno.stdin.readSync(part)) {
    parts.push(part.slice(0, count));
    length += count;
    if (length > BTF_BYTES_MAX) return undefined;
  }
  const data = new Uint8Array(length);
  let at = 0;
  for (const bytes of parts) {
    data.set(bytes, at);
    at += bytes.length;
  }
  try {
    return Btf.parse(data);
  } catch (error) {
    if (error instanceof ObjectError) return undefined;
    throw error;
  }
}

/** Version and configuration: of the release asked for the version only, else of the running kernel what can be read. */
async function readKernelConfig(release: string | undefined): Promise<KernelConfig | undefined> {
  const [major, minor, patch] = (release ?? Deno.osRelease()).split(/[.-]/).map((part) =>
    Number.parseInt(part, 10)
  );
  if (!(major >= 3) || !(minor >= 0)) return undefined;
  const version = (major << 16) + (minor << 8) + Math.min(255, patch >= 0 ? patch : 0);
  if (release !== undefined) return { version, values: new Map() };
  let text = "";
  for (const path of [`/boot/config-${Deno.osRelease()}`, "/proc/config.gz"]) {
    try {
      const data = readInputFileSync(path, { bytesMax: CONFIG_BYTES_MAX });
      const stream = new Blob([data]).stream();
      text = path.endsWith(".gz")
        ? await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text()
        : new TextDecoder().decode(data);
      break;
    } catch {
      // Not there or not readable: values then count as unknown.
    }
  }
  const values = new Map(
    [...text.matchAll(/^(CONFIG_\w+)=(.*)$/gm)].map((found) => [found[1], found[2]] as const),
  );
  return { version, values };
}

function write(text: string): void {
  const bytes = new TextEncoder().encode(harmlessOutput(text));
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}
