/**
 * Bundles: the code of an unprivileged service in one file that its user may read, wherever the sources lie.
 *
 * A service that runs as an unprivileged user can neither read a checkout under a closed home directory nor share
 * root's module cache. So the agent bundles each service (a third of a second, only when it has other sources) and puts
 * the file where everybody may read it. Its last line says which sources it was made from: those of an older version may
 * have been bundled later than these were written. Starting from one file is also quicker.
 *
 * The bundle is a CommonJS module, NAME.cjs, that a starter of a few lines, NAME.js, runs: what is imported Deno parses
 * itself first, to find further imports, and the tree of a megabyte of code stays in the memory of a process that has no
 * cache to keep the result in (36 MiB of 59 each, measured; see tests/bench/control/memory.ts).
 *
 * @module
 */
import { systemClock, withDeadline } from "@weir/common";

/** Where the workspace of the sources begins. */
export const ROOT: string = new URL("../../", import.meta.url).pathname;

/** Bundling takes a third of a second; a bundler that hangs must not keep the node's services from starting. */
const BUNDLE_MS_MAX = 120_000;
/** Where an installation has the bundles that it came with: there is no bundler. */
export const SHIPPED: string = `${ROOT}bundles`;
const SOURCES = ["proto", "services", "deno.json", "deno.lock"];

/** Bundling failed: the sources do not compile. */
export class BundleError extends Error {
  override readonly name = "BundleError";
}

/**
 * Path of the bundle of `entry` (relative to the workspace) below `directory`, made now if the one that is there is not of
 * these `sources`; an installation has its own. Several agents may do this at once: one of them bundles, and files appear
 * by rename, whole.
 *
 * @param sources see {@link sourcesDigest}
 */
export async function ensureBundle(entry: string, directory: string, sources: string): Promise<string> {
  const shipped = `${SHIPPED}/${bundleName(entry)}`;
  if (await Deno.stat(shipped).then(() => true, () => false)) return shipped;
  const path = `${directory}/${bundleName(entry)}`;
  const mark = `\n// sources ${sources}\n`;
  const fresh = async () => await endsWith(codeOf(path), mark) && await endsWith(path, starterOf(path));
  if (await fresh()) return path;
  // One agent bundles, the others wait for it.
  using lock = await Deno.open(`${directory}/.${bundleName(entry)}.lock`, { create: true, write: true });
  await within(lock.lock(true), `another agent bundles ${entry}`);
  if (await fresh()) return path;
  const temporary = `${directory}/.${Deno.pid}.${bundleName(entry)}`;
  try {
    await bundle(entry, temporary);
    await Deno.writeTextFile(temporary, mark, { append: true });
    await publish(temporary, codeOf(path));
    await Deno.writeTextFile(temporary, starterOf(path));
    await publish(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
  return path;
}

/** "../../home/me/.cache/deno/npm/registry.example/" in the names of modules and in comments. */
const MODULE_CACHE_PATH = /(?:\.\.\/)+[^"'\n ]*?\/npm\/[^/"'\n ]+\//g;

/** Makes a whole bundle of `entry` for an installation: starter and code in `directory`. @throws {BundleError} */
export async function shipBundle(entry: string, directory: string): Promise<void> {
  const path = `${directory}/${bundleName(entry)}`;
  await bundle(entry, codeOf(path));
  // Where the builder's module cache is says nothing: the same sources give the same bytes.
  const code = await Deno.readTextFile(codeOf(path));
  await Deno.writeTextFile(codeOf(path), code.replace(MODULE_CACHE_PATH, "npm/"));
  await Deno.writeTextFile(path, starterOf(path));
  for (const file of [path, codeOf(path)]) await Deno.chmod(file, 0o644);
}

/** File name of the starter of `entry`, which is what is run: "services-policy-engine.js". */
export function bundleName(entry: string): string {
  return `${entry.replace(/\/main\.ts$/, "").replaceAll("/", "-")}.js`;
}

/** The file with the code, which the service must be allowed to read, beside its starter. */
export function codeOf(starter: string): string {
  return starter.replace(/\.js$/, ".cjs");
}

/** Not `require()`, which looks for packages in every directory on the way and would have to be allowed to. */
function starterOf(path: string): string {
  const code = codeOf(path).slice(path.lastIndexOf("/") + 1);
  return [
    'import { createRequire } from "node:module";',
    `const text = Deno.readTextFileSync(new URL("./${code}", import.meta.url));`,
    `const run = new Function("require", "module", "exports", text + "\\n//# sourceURL=${code}");`,
    "const module = { exports: {} };",
    "run(createRequire(import.meta.url), module, module.exports);",
    "",
  ].join("\n");
}

async function publish(temporary: string, path: string): Promise<void> {
  await Deno.chmod(temporary, 0o644);
  await Deno.rename(temporary, path);
}

/** Deno 2.9.6's bundler ends with "all goroutines are asleep" now and then on a busy machine, and not the next time. */
const BUNDLE_TRIES_MAX = 3;

async function bundle(entry: string, to: string): Promise<void> {
  for (let tries = 1;; tries++) {
    const fault = await bundleOnce(entry, to);
    if (fault === "") return;
    if (tries >= BUNDLE_TRIES_MAX || !fault.includes("goroutines are asleep")) {
      throw new BundleError(`Cannot bundle ${entry}: ${fault}`);
    }
  }
}

/** @returns why not; "" when it is done */
async function bundleOnce(entry: string, to: string): Promise<string> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "bundle",
      "--quiet",
      "--platform=deno",
      "--format=cjs",
      "--config",
      `${ROOT}deno.json`,
      "-o",
      to,
      `${ROOT}${entry}`,
    ],
    cwd: ROOT,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    signal: AbortSignal.timeout(BUNDLE_MS_MAX),
  }).output();
  return code === 0 ? "" : new TextDecoder().decode(stderr).trim() || `exit code ${code}`;
}

function within(promise: Promise<void>, what: string): Promise<void> {
  const error = () => new BundleError(`Cannot go on: ${what}, for ${BUNDLE_MS_MAX / 1000} s now`);
  return withDeadline({ clock: systemClock, ms: BUNDLE_MS_MAX, error }, () => promise);
}

/** True when the file is there and ends in `text`, which is ASCII. */
async function endsWith(path: string, text: string): Promise<boolean> {
  const all = await Deno.readTextFile(path).catch(() => "");
  return all.endsWith(text);
}

/** Digest of path, size and modification time of every source: another checkout has another. 64 hexadecimal digits. */
export async function sourcesDigest(root: string = ROOT): Promise<string> {
  const found: string[] = [];
  const visit = async (path: string): Promise<void> => {
    const info = await Deno.stat(path).catch(() => undefined);
    if (info === undefined) return;
    if (!info.isDirectory) {
      if (/\.(ts|js|json|lock)$/.test(path) && !path.endsWith("_test.ts")) {
        found.push(`${path} ${info.size} ${info.mtime?.getTime() ?? 0}`);
      }
      return;
    }
    for await (const entry of Deno.readDir(path)) {
      if (entry.name.startsWith(".") || entry.name === "testdata") continue;
      await visit(`${path}/${entry.name}`);
    }
  };
  for (const source of SOURCES) await visit(`${root}${source}`);
  const text = new TextEncoder().encode(found.sort().join("\n"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", text)).toHex();
}
