/** Compiles C for tests with the distribution's clang. @module */
import { execFileSync } from "node:child_process";

/** The compiler, or why there is none. */
export const clang: { readonly command: string; readonly missing: boolean } = findClang();

function findClang(): { command: string; missing: boolean } {
  for (const command of ["clang-19", "clang"]) {
    try {
      execFileSync(command, ["--version"], { stdio: "ignore" });
      return { command, missing: false };
    } catch {
      // Try the next name.
    }
  }
  console.log("SKIP no clang: tests on compiled objects are left out");
  return { command: "", missing: true };
}

/** Compiles a source file for eBPF. @returns The object's bytes. */
export function compile(source: URL, flags: readonly string[] = []): Uint8Array {
  const directory = Deno.makeTempDirSync({ prefix: "weir-object-" });
  try {
    const out = `${directory}/out.o`;
    const include = `/usr/include/${Deno.build.arch}-linux-gnu`;
    execFileSync(clang.command, [
      "-target",
      "bpf",
      "-O2",
      "-g",
      "-mcpu=v3",
      `-I${include}`,
      ...flags,
      "-c",
      source.pathname,
      "-o",
      out,
    ]);
    return Deno.readFileSync(out);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
