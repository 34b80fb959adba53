/**
 * Lays out what an installed Weir is, as files below a directory: `deno run -A scripts/packaging/stage.ts DIRECTORY`.
 *
 *     usr/bin/weir -> ../lib/weir/scripts/weir
 *     usr/lib/weir/         sources, bundles of the services, node_modules, deno, .build (eBPF, verifier, Wasmtime, page)
 *     lib/systemd/system/weir.service
 *     usr/lib/{systemd/networkd.conf.d,systemd/network,NetworkManager/conf.d}/
 *     etc/weir/weir.yaml
 *     usr/share/            man pages, completion, documentation
 *
 * Nothing of it is fetched: it comes from the checkout, its build and the module cache that `scripts/setup` filled.
 *
 * @module
 */
import { shipBundle } from "../../services/agent/bundle.ts";
import { MANUALS } from "../../services/cli/commands.ts";
import { completionScript } from "../../services/cli/completion.ts";
import { manPages } from "../../services/cli/man_page.ts";
import { WEIR_VERSION } from "../../services/common/version.ts";
import { copyModules, moduleCache, packagesOf } from "./modules.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const BUILT = ["verifier.wasm", "bpf/weir.o", "wasmtime/libwasmtime.so", "wasmtime/version"];
const PROGRAMS = ["cni/weir-cni"];
/** What keeps a host's own network managers away from Weir's devices, routes and rules. */
const NETWORK_FILES: Readonly<Record<string, string>> = {
  "networkd.conf": "systemd/networkd.conf.d/50-weir.conf",
  "weir.network": "systemd/network/05-weir.network",
  "NetworkManager.conf": "NetworkManager/conf.d/50-weir.conf",
};
/** Packages that only building and tests need. */
const BUILD_ONLY =
  /^(@types\/|@xyflow\/|@tanstack\/|@fontsource|react|elkjs|uplot|axe-core|playwright|assemblyscript$|undici$)/;

interface Workspace {
  workspace: string[];
  imports: Record<string, string>;
  [key: string]: unknown;
}

/** Writes the tree; the directory must be empty or absent. */
export async function stage(directory: string): Promise<void> {
  const lib = `${directory}/usr/lib/weir`;
  await Deno.mkdir(lib, { recursive: true });
  await copySources(lib);
  await copyBuild(lib);
  await copyPage(lib);
  await writeBundles(`${lib}/bundles`);
  await copyFile(Deno.execPath(), `${lib}/bin/deno`, 0o755);
  await copyFile(`${ROOT}scripts/weir`, `${lib}/scripts/weir`, 0o755);
  await Deno.mkdir(`${directory}/usr/bin`, { recursive: true });
  await Deno.symlink("../lib/weir/scripts/weir", `${directory}/usr/bin/weir`);
  await copyFile(`${ROOT}deploy/systemd/weir.service`, `${directory}/lib/systemd/system/weir.service`);
  await copyFile(`${ROOT}deploy/systemd/weir.yaml`, `${directory}/etc/weir/weir.yaml`);
  for (const [file, path] of Object.entries(NETWORK_FILES)) {
    await copyFile(`${ROOT}deploy/network/${file}`, `${directory}/usr/lib/${path}`);
  }
  await writeShared(`${directory}/usr/share`);
}

/** TypeScript with the tables it reads; neither tests nor what is compiled already. */
async function copySources(lib: string): Promise<void> {
  const config = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`)) as Workspace;
  const folders = config.workspace.map((path) => path.replace("./", "")).filter((path) => path !== "tests");
  for (const folder of folders) await copyFolder(`${ROOT}${folder}`, `${lib}/${folder}`);
  const imports = Object.fromEntries(
    Object.entries(config.imports).filter(([name]) => !BUILD_ONLY.test(name)),
  );
  const installed = {
    workspace: folders.map((folder) => `./${folder}`),
    imports,
    compilerOptions: config.compilerOptions,
    nodeModulesDir: "manual",
    lock: false,
  };
  await Deno.writeTextFile(`${lib}/deno.json`, JSON.stringify(installed, null, 2) + "\n");
  const lock = JSON.parse(await Deno.readTextFile(`${ROOT}deno.lock`));
  await copyModules(lock, packagesOf(Object.keys(imports)), await moduleCache(), `${lib}/node_modules`);
}

const SOURCE = /\.(ts|tsv|json|proto)$|\/profile\/[^/]*\.txt$/;

async function copyFolder(from: string, to: string): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    const [source, target] = [`${from}/${name}`, `${to}/${name}`];
    if (isDirectory) {
      if (name !== "testdata" && name !== "assembly" && !name.startsWith(".")) {
        await copyFolder(source, target);
      }
    } else if (SOURCE.test(source) && !name.endsWith("_test.ts")) await copyFile(source, target);
  }
}

async function copyBuild(lib: string): Promise<void> {
  for (
    const [name, mode] of [
      ...BUILT.map((name) => [name, 0o644] as const),
      ...PROGRAMS.map((name) => [name, 0o755] as const),
    ]
  ) {
    await copyFile(`${ROOT}.build/${name}`, `${lib}/.build/${name}`, mode).catch((cause) => {
      throw new Error(`Cannot find .build/${name}: run scripts/setup first`, { cause });
    });
  }
}

/** The built page. */
async function copyPage(lib: string): Promise<void> {
  for (const folder of ["", "assets/"]) {
    for await (const { name, isFile } of Deno.readDir(`${ROOT}.build/ui/${folder}`)) {
      if (isFile) await copyFile(`${ROOT}.build/ui/${folder}${name}`, `${lib}/.build/ui/${folder}${name}`);
    }
  }
}

/** The services that run as an unprivileged user, which start from bundles. */
async function writeBundles(directory: string): Promise<void> {
  await Deno.mkdir(directory, { recursive: true });
  for await (const { name } of Deno.readDir(`${ROOT}services`)) {
    if (["agent", "cli", "lab"].includes(name)) continue;
    const entry = `services/${name}/main.ts`;
    if (await Deno.stat(`${ROOT}${entry}`).then(() => false, () => true)) continue;
    await shipBundle(entry, directory);
  }
}

async function writeShared(share: string): Promise<void> {
  const completions = {
    bash: "bash-completion/completions/weir",
    zsh: "zsh/vendor-completions/_weir",
    fish: "fish/vendor_completions.d/weir.fish",
  };
  for (const [shell, path] of Object.entries(completions)) {
    await writeFile(`${share}/${path}`, new TextEncoder().encode(completionScript(shell, MANUALS)));
  }
  for (const [name, roff] of manPages(MANUALS, WEIR_VERSION)) {
    await writeFile(`${share}/man/man1/${name}.gz`, await gzip(new TextEncoder().encode(roff)));
  }
  await copyFile(`${ROOT}LICENSE`, `${share}/doc/weir/copyright`);
  await copyFile(`${ROOT}deploy/systemd/README.md`, `${share}/doc/weir/README.md`);
  const changes = await Deno.readFile(`${ROOT}CHANGELOG.md`);
  await writeFile(`${share}/doc/weir/changelog.gz`, await gzip(changes));
  const examples = "deploy/examples";
  const copyAll = async (folder: string): Promise<void> => {
    for await (const { name, isDirectory } of Deno.readDir(`${ROOT}${folder}`)) {
      if (isDirectory) await copyAll(`${folder}/${name}`);
      else {
        const inside = folder.slice(examples.length);
        await copyFile(`${ROOT}${folder}/${name}`, `${share}/doc/weir/examples${inside}/${name}`);
      }
    }
  };
  await copyAll(examples);
}

async function gzip(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function copyFile(from: string, to: string, mode = 0o644): Promise<void> {
  await Deno.mkdir(to.slice(0, to.lastIndexOf("/")), { recursive: true });
  await Deno.copyFile(from, to);
  await Deno.chmod(to, mode);
}

async function writeFile(path: string, bytes: Uint8Array): Promise<void> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeFile(path, bytes, { mode: 0o644 });
}

if (import.meta.main) {
  const [directory] = Deno.args;
  if (directory === undefined) {
    console.error("stage: say into which directory");
    Deno.exit(2);
  }
  try {
    await stage(directory.replace(/\/$/, ""));
  } catch (error) {
    console.error(`stage: ${(error as Error).message}`);
    Deno.exit(1);
  }
}
