/**
 * Compiles the eBPF programs: `buildPrograms({ out })` writes `out/weir.o`, one object with every program and map.
 * Runs alone too: `deno run -A datapath/bpf/build.ts [OUT]`. Unchanged sources are skipped by hash.
 * @module
 */
import { createHash } from "node:crypto";

/** Where the objects go, and whether to compile even if nothing changed. */
export interface BuildProgramsOptions {
  /** Folder for the objects; made if missing. */
  out: string;
  /** Compile even when sources, compiler and flags are those of the object that is there. */
  force?: boolean;
}

const sources = new URL("./", import.meta.url).pathname;
const flags = [
  "-target",
  "bpf",
  "-O2",
  "-g",
  "-mcpu=v3",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-fno-stack-protector",
];

/** Newest clang of this machine (19 preferred). Throws when there is none that can compile for eBPF. */
export function findClang(): string {
  for (const name of ["clang-19", "clang-21", "clang-20", "clang-18", "clang-17", "clang-16", "clang"]) {
    try {
      const { success } = new Deno.Command(name, { args: ["--version"], stdout: "null", stderr: "null" })
        .outputSync();
      if (success) return name;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new Error("Cannot compile the eBPF programs: no clang found, install clang-19");
}

/** Header folders that `-target bpf` needs: asm/ lies in the host's multiarch folder. */
function includes(): string[] {
  const machine = Deno.build.arch === "aarch64" ? "aarch64" : "x86_64";
  return [`-I/usr/include/${machine}-linux-gnu`, `-I${sources}`];
}

function hashOf(paths: string[], salt: string): string {
  const hash = createHash("sha256").update(salt);
  for (const path of paths) {
    hash.update(path.slice(sources.length)).update("\0").update(Deno.readFileSync(path));
  }
  return hash.digest("hex");
}

/** Compiles one source into one object, unless `OBJECT.hash` says that it is the same already. */
export async function compile(
  source: string,
  object: string,
  options: { inputs: string[]; include?: string[]; force?: boolean },
): Promise<boolean> {
  const clang = findClang();
  const args = [...flags, ...includes(), ...(options.include ?? []).map((folder) => `-I${folder}`)];
  const hash = hashOf([...new Set([...options.inputs, source])].sort(), `${clang} ${flags.join(" ")}`);
  if (!options.force) {
    try {
      if (Deno.readTextFileSync(`${object}.hash`) === hash && Deno.statSync(object).isFile) return false;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  // Written beside and renamed: a second builder, or a reader, never sees half an object.
  const fresh = `${object}.${Deno.pid}.tmp`;
  const { success, stderr } = await new Deno.Command(clang, {
    args: [...args, "-c", source, "-o", fresh],
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`Cannot compile ${source}:\n${new TextDecoder().decode(stderr)}`);
  Deno.renameSync(fresh, object);
  Deno.writeTextFileSync(`${object}.hash`, hash);
  return true;
}

/** Files of the programs: bpf/*.c, bpf/lib/*.h and what is generated, bpf/gen/*.h. */
function programSources(): string[] {
  const files: string[] = [];
  for (const folder of [sources, `${sources}lib/`, `${sources}gen/`]) {
    for (const entry of Deno.readDirSync(folder)) {
      if (entry.isFile && /\.[ch]$/.test(entry.name)) files.push(folder + entry.name);
    }
  }
  return files.sort();
}

/** Builds `out/weir.o`; answers with its path. */
export async function buildPrograms(options: BuildProgramsOptions): Promise<string> {
  Deno.mkdirSync(options.out, { recursive: true });
  const object = `${options.out}/weir.o`;
  const built = await compile(`${sources}weir.c`, object, { inputs: programSources(), force: options.force });
  if (built) console.log(`eBPF: ${object} (${Deno.statSync(object).size} bytes)`);
  return object;
}

if (import.meta.main) {
  await buildPrograms({ out: Deno.args[0] ?? new URL("../../.build/bpf", import.meta.url).pathname });
}
