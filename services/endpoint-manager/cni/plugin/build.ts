/**
 * Compiles the CNI plugin: `buildCniPlugin({ out })` writes `out/weir-cni`, static, so that it runs on every host whatever C
 * library that has. Unchanged sources are skipped by hash.
 * @module
 */
import { createHash } from "node:crypto";
import { WEIR_VERSION } from "@weir/common/version";
import { CNI_VERSIONS } from "../versions.ts";

const FOLDER = new URL("./", import.meta.url).pathname;
const SOURCES = ["weir_cni.c", "deletions.h", "exchange.h", "config.h", "output.h"].map((name) =>
  FOLDER + name
);
const FLAGS = ["-static", "-O2", "-s", "-std=gnu11", "-Wall", "-Wextra", "-Werror"];

/** Where it goes, and what compiles it. */
export interface BuildCniPluginOptions {
  /** Folder of the program; made if missing. */
  out: string;
  /** A clang or gcc that makes programs of this machine. */
  compiler: string;
}

/** Builds `out/weir-cni`; answers with its path. @throws {Error} with what the compiler says */
export async function buildCniPlugin({ out, compiler }: BuildCniPluginOptions): Promise<string> {
  await Deno.mkdir(out, { recursive: true });
  const program = `${out}/weir-cni`;
  const versions = CNI_VERSIONS.map((version) => `\\"${version}\\"`).join(",");
  const args = [...FLAGS, `-DCNI_VERSIONS="${versions}"`, `-DWEIR_VERSION="${WEIR_VERSION}"`];
  const hash = createHash("sha256").update(`${compiler} ${args.join(" ")}\0`);
  for (const source of SOURCES) hash.update(await Deno.readFile(source));
  const digest = hash.digest("hex");
  const isThere = await Deno.stat(program).then(({ isFile }) => isFile, () => false);
  if (isThere && await Deno.readTextFile(`${program}.hash`).catch(() => "") === digest) return program;
  // Written beside and renamed: a program that runs is never written to.
  const fresh = `${program}.${Deno.pid}.tmp`;
  const { success, stderr } = await new Deno.Command(compiler, { args: [...args, SOURCES[0], "-o", fresh] })
    .output();
  if (!success) throw new Error(`Cannot compile ${SOURCES[0]}:\n${new TextDecoder().decode(stderr)}`);
  await Deno.rename(fresh, program);
  await Deno.writeTextFile(`${program}.hash`, digest);
  console.log(`CNI plugin: ${program} (${(await Deno.stat(program)).size} bytes)`);
  return program;
}
