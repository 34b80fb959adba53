/**
 * Bundles: the code of an unprivileged service in one file that its user may read, wherever the sources lie.
 *
 * A service that runs as an unprivileged user can neither read a checkout under a closed home directory nor share
 * root's module cache. So the agent bundles each service (a third of a second, only when a source is newer) and puts
 * the file, named by the hash of its content, where everybody may read it. Starting from one file is also quicker.
 *
 * @module
 */

/** Where the workspace of the sources begins. */
export const ROOT: string = new URL("../../", import.meta.url).pathname;

const SOURCES = ["proto", "services", "deno.json", "deno.lock"];

/** Bundling failed: the sources do not compile. */
export class BundleError extends Error {
  override readonly name = "BundleError";
}

/**
 * Path of the bundle of `entry` (relative to the workspace) below `directory`, made now if a source is newer than the
 * one that is there. Several agents may do this at once: one of them bundles, and files appear by rename, whole.
 */
export async function ensureBundle(entry: string, directory: string, newestMs: number): Promise<string> {
  const name = entry.replace(/\/main\.ts$/, "").replaceAll("/", "-");
  const path = `${directory}/${name}.js`;
  const fresh = async () =>
    ((await Deno.stat(path).catch(() => undefined))?.mtime?.getTime() ?? 0) > newestMs;
  if (await fresh()) return path;
  // One agent bundles, the others wait for it.
  using lock = await Deno.open(`${directory}/.${name}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await fresh()) return path;
  const temporary = `${directory}/.${name}.${Deno.pid}.js`;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "bundle",
      "--quiet",
      "--platform=deno",
      "--config",
      `${ROOT}deno.json`,
      "-o",
      temporary,
      `${ROOT}${entry}`,
    ],
    cwd: ROOT,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code !== 0) {
    await Deno.remove(temporary).catch(() => {});
    throw new BundleError(`Cannot bundle ${entry}: ${new TextDecoder().decode(stderr).trim()}`);
  }
  await Deno.chmod(temporary, 0o644);
  await Deno.rename(temporary, path);
  return path;
}

/** Modification time of the newest source, in milliseconds since 1970. */
export async function newestSourceMs(): Promise<number> {
  let newest = 0;
  const visit = async (path: string): Promise<void> => {
    const info = await Deno.stat(path).catch(() => undefined);
    if (info === undefined) return;
    if (!info.isDirectory) {
      if (/\.(ts|js|json|lock)$/.test(path) && !path.endsWith("_test.ts")) {
        newest = Math.max(newest, info.mtime?.getTime() ?? 0);
      }
      return;
    }
    for await (const entry of Deno.readDir(path)) {
      if (entry.name.startsWith(".") || entry.name === "testdata") continue;
      await visit(`${path}/${entry.name}`);
    }
  };
  for (const source of SOURCES) await visit(`${ROOT}${source}`);
  return newest;
}
