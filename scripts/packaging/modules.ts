/**
 * The modules of other people that Weir runs with, from Deno's module cache into a `node_modules`, in the versions that
 * `deno.lock` names: so an installed Weir resolves nothing and asks no registry.
 *
 * @module
 */

/** The part of deno.lock that is read: packages by "NAME@VERSION" or "NAME@VERSION_PEERS". */
export interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly npm: Readonly<
    Record<string, { readonly dependencies?: readonly string[]; readonly optionalPeers?: readonly string[] }>
  >;
}

/** The packages that are imported, each once: "protobufjs" of "protobufjs/light", "@bufbuild/cel" of itself. */
export function packagesOf(specifiers: readonly string[]): string[] {
  return [
    ...new Set(specifiers.map((name) => name.split("/").slice(0, name.startsWith("@") ? 2 : 1).join("/"))),
  ];
}

/**
 * What `names` need: path below `node_modules` -> "NAME/VERSION". The first version of a package lies at the top; who needs
 * another has it below itself, where the runtime looks first: `tsyringe/node_modules/tslib`.
 * @throws {Error} when deno.lock does not say which version is meant
 */
export function neededModules(lock: Lock, names: readonly string[]): Map<string, string> {
  const keys = Object.keys(lock.npm);
  const placed = new Map<string, string>();
  const visit = (dependency: string, dependent: string): void => {
    // "long", or "pg-pool@3.14.0" where there are several.
    const found = keys.filter((key) =>
      key === dependency || nameOf(key) === dependency || key.startsWith(`${dependency}_`)
    );
    if (found.length !== 1) {
      throw new Error(
        `Cannot tell which ${dependency} is meant: deno.lock has ${found.join(", ") || "none"}`,
      );
    }
    const name = nameOf(found[0]), module = `${name}/${found[0].slice(name.length + 1).split("_")[0]}`;
    const seen = seenFrom(dependent, name).map((path) => placed.get(path)).find((at) => at !== undefined);
    if (seen === module) return;
    const path = seen === undefined ? name : `${dependent}/node_modules/${name}`;
    if (seen !== undefined && dependent === "") throw new Error(`Cannot place ${module} beside ${seen}`);
    placed.set(path, module);
    for (const next of lock.npm[found[0]].dependencies ?? []) visit(next, path);
  };
  for (const name of names) visit(name, "");
  return placed;
}

/** Where the module at `path` looks for another: below itself, then below each that it lies in, then at the top. */
function seenFrom(path: string, name: string): string[] {
  const looked: string[] = [];
  for (let at = path; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    looked.push(`${at}/node_modules/${name}`);
  }
  return [...looked, name];
}

function nameOf(key: string): string {
  return key.slice(0, key.indexOf("@", 1));
}

/** Copies what `names` need from the cache into `to`. */
export async function copyModules(
  lock: Lock,
  names: readonly string[],
  cache: string,
  to: string,
): Promise<void> {
  for (const [path, module] of neededModules(lock, names)) {
    const from = await findModule(cache, module);
    if (from === undefined) {
      throw new Error(`Cannot find ${module} in ${cache}: run scripts/setup first`);
    }
    await copyFolder(from, `${to}/${path}`);
  }
}

/** Deno's module cache of this user. */
export async function moduleCache(): Promise<string> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"], stderr: "null" })
    .output();
  return (JSON.parse(new TextDecoder().decode(stdout)) as { npmCache: string }).npmCache;
}

/** Below the cache there is a folder for each registry. */
async function findModule(cache: string, path: string): Promise<string | undefined> {
  for await (const { name } of Deno.readDir(cache)) {
    const folder = `${cache}/${name}/${path}`;
    if (await Deno.stat(`${folder}/package.json`).then(() => true, () => false)) return folder;
  }
  return undefined;
}

/** Code and licences; no maps to sources, no types. */
const UNUSED = /\.(map|d\.[cm]?ts|ts|md|markdown)$/i;

async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory, isFile } of Deno.readDir(from)) {
    if (isDirectory) await copyFolder(`${from}/${name}`, `${to}/${name}`);
    else if (isFile && !UNUSED.test(name)) {
      await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
      await Deno.chmod(`${to}/${name}`, 0o644);
    }
  }
}
