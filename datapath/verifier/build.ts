/**
 * Compiles `assembly/` to one WebAssembly module without imports; skips when nothing changed.
 * @module
 */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const ASSEMBLY = fileURLToPath(new URL("./assembly/", import.meta.url));

/**
 * Options in force; they are part of the hash that decides whether to build. A small program stays within the first two
 * pages, which the sandbox clears without asking the system; larger ones grow, which they do not notice.
 */
const OPTIONS = ["-O3", "--noAssert", "--runtime", "stub", "--use", "abort=", "--initialMemory", "2"];

/** What to build. */
export interface BuildOptions {
  /** Where the module goes. */
  out: string;
  /** Changes a source file before it is compiled, for tests of the tests. */
  edit?: (name: string, source: string) => string;
}

/** Builds the module; `built` tells whether anything had to be done. Throws with the compiler's messages. */
export async function buildVerifier({ out, edit }: BuildOptions): Promise<{ built: boolean }> {
  const sources = new Map<string, string>();
  for (const dir of ["", "gen/"]) {
    for (const entry of Deno.readDirSync(ASSEMBLY + dir)) {
      if (entry.isFile && entry.name.endsWith(".ts")) {
        const source = Deno.readTextFileSync(ASSEMBLY + dir + entry.name);
        sources.set(dir + entry.name, edit === undefined ? source : edit(dir + entry.name, source));
      }
    }
  }
  const hash = createHash("sha256").update(OPTIONS.join(" "));
  for (const name of [...sources.keys()].sort()) hash.update(name).update("\0").update(sources.get(name)!);
  const digest = hash.digest("hex");
  const stamp = out + ".sources";
  try {
    if (Deno.readTextFileSync(stamp) === digest && Deno.statSync(out).isFile) return { built: false };
  } catch {
    // not built yet
  }
  const { error, stderr } = await asc.main(["index.ts", "--outFile", "verifier.wasm", ...OPTIONS], {
    readFile: (name: string) => sources.get(name.replace(/^\.\//, "")) ?? null,
    writeFile: (name: string, contents: Uint8Array | string) => {
      if (!name.endsWith(".wasm")) return;
      Deno.mkdirSync(dirname(out), { recursive: true });
      // rename: a reader never sees half a module
      const part = join(dirname(out), `.verifier-${Deno.pid}.wasm`);
      Deno.writeFileSync(part, contents as Uint8Array);
      Deno.renameSync(part, out);
    },
    listFiles: () => [],
  });
  if (error) throw new Error(`Cannot build verifier: ${error.message}\n${stderr.toString()}`);
  Deno.writeTextFileSync(stamp, digest);
  return { built: true };
}

if (import.meta.main) {
  const out = fileURLToPath(new URL("../../.build/verifier.wasm", import.meta.url));
  const start = performance.now();
  const { built } = await buildVerifier({ out });
  console.log(built ? `built ${out} in ${Math.round(performance.now() - start)} ms` : `${out} is up to date`);
}
