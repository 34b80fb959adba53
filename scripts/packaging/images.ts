/**
 * Weir's container images, see scripts/images. What is in them says deploy/images/images.json; the layers:
 *
 *     base   the distribution's packages that everything needs, users
 *     weir   deno, sources, bundles of the services, modules: what both images share
 *     node   what only a node needs: libbpf, iproute2, Wasmtime, eBPF programs, the CNI plugin
 *
 * @module
 */
import { parseArgs } from "node:util";
import { WEIR_VERSION } from "../../services/common/version.ts";
import { downloadPackages, unpackPackages } from "./debian_packages.ts";
import { addLayer, type Layer, writeArchive } from "./oci_archive.ts";
import { run } from "./run.ts";
import { stage } from "./stage.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** Built parts that a node alone uses. */
const NODE_PARTS = ["bpf", "wasmtime", "cni"];
/** As OCI and Debian say it. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64" };

interface Images {
  readonly user: { readonly name: string; readonly id: number };
  /** Layer -> packages. */
  readonly layers: Readonly<Record<string, readonly string[]>>;
  readonly images: Readonly<
    Record<string, { title: string; layers: readonly string[]; command: readonly string[] }>
  >;
}

/** How images are built. */
export interface ImageOptions {
  /** Directory of the archives. */
  readonly output: string;
  /** What names begin with: "localhost". */
  readonly repository: string;
  readonly tag: string;
  readonly compress: boolean;
  /** Which; default all. */
  readonly names?: readonly string[];
}

/** One image that was built. */
export interface BuiltImage {
  readonly path: string;
  readonly reference: string;
  readonly digest: string;
  readonly bytes: number;
}

/** Builds the images. Needs apt, dpkg-deb and tar, and no root. */
export async function buildImages(options: ImageOptions): Promise<BuiltImage[]> {
  const plan = JSON.parse(await Deno.readTextFile(`${ROOT}deploy/images/images.json`)) as Images;
  const names = options.names?.length ? options.names : Object.keys(plan.images);
  const unknown = names.find((name) => plan.images[name] === undefined);
  if (unknown !== undefined) {
    throw new Error(`Cannot build ${unknown}: expected ${Object.keys(plan.images).join(" or ")}`);
  }
  await Deno.mkdir(options.output, { recursive: true });
  const work = await Deno.makeTempDir({ prefix: "weir-images." });
  try {
    const layers = await buildLayers(plan, names, work, options.compress);
    const [architecture, createdUnixS, revision] = await facts();
    const built: BuiltImage[] = [];
    for (const name of names) {
      const { title, command, layers: own } = plan.images[name];
      const reference = `${options.repository}/${name}:${options.tag}`,
        path = `${options.output}/${name}.tar`;
      const digest = await writeArchive(
        path,
        {
          reference,
          entrypoint: ["/usr/bin/weir"],
          command,
          environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
          labels: {
            "org.opencontainers.image.title": title,
            "org.opencontainers.image.version": WEIR_VERSION,
            "org.opencontainers.image.licenses": "Apache-2.0",
            ...(revision === "" ? {} : { "org.opencontainers.image.revision": revision }),
          },
          architecture,
          createdUnixS,
        },
        own.map((layer) => layers.get(layer)!),
        `${work}/layout`,
      );
      built.push({ path, reference, digest, bytes: (await Deno.stat(path)).size });
    }
    return built;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** The layers that these images need, each once. */
async function buildLayers(
  plan: Images,
  names: readonly string[],
  work: string,
  compress: boolean,
): Promise<Map<string, Layer>> {
  const needed = new Set(names.flatMap((name) => plan.images[name].layers));
  const base = await downloadPackages(plan.layers.base, `${work}/base-packages`);
  await unpackPackages(base, `${work}/base`);
  await writeBase(`${work}/base`, plan.user);
  await Deno.mkdir(`${work}/weir`);
  await stage(`${work}/staged`);
  await Deno.mkdir(`${work}/weir/usr/bin`, { recursive: true });
  await Deno.mkdir(`${work}/weir/usr/lib`, { recursive: true });
  await Deno.rename(`${work}/staged/usr/lib/weir`, `${work}/weir/usr/lib/weir`);
  await Deno.rename(`${work}/staged/usr/bin/weir`, `${work}/weir/usr/bin/weir`);
  if (needed.has("node")) {
    const packages = await downloadPackages(plan.layers.node, `${work}/node-packages`);
    const there = new Set(base.map(fileName));
    await unpackPackages(packages.filter((path) => !there.has(fileName(path))), `${work}/node`);
    await Deno.mkdir(`${work}/node/usr/lib/weir/.build`, { recursive: true });
  }
  for (const part of NODE_PARTS) await movePart(`usr/lib/weir/.build/${part}`, work, needed.has("node"));
  const layers = new Map<string, Layer>();
  for (const layer of needed) {
    layers.set(layer, await addLayer(`${work}/${layer}`, `${work}/layout`, compress));
  }
  return layers;
}

/** From the layer `weir` into the layer `node`, or away where no image has it. */
async function movePart(part: string, work: string, hasNode: boolean): Promise<void> {
  try {
    if (hasNode) await Deno.rename(`${work}/weir/${part}`, `${work}/node/${part}`);
    else await Deno.remove(`${work}/weir/${part}`, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // not every checkout builds every part
  }
}

async function writeBase(root: string, { name, id }: Images["user"]): Promise<void> {
  const files: Record<string, string> = {
    "etc/passwd":
      `root:x:0:0:root:/root:/bin/bash\n${name}:x:${id}:${id}:Weir's services:/nonexistent:/usr/sbin/nologin\n`,
    "etc/group": `root:x:0:\n${name}:x:${id}:\n`,
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  await Deno.mkdir(`${root}/etc`, { recursive: true });
  for (const [path, text] of Object.entries(files)) await Deno.writeTextFile(`${root}/${path}`, text);
  for (
    const path of ["proc", "sys", "dev", "run", "tmp", "root", "var/lib/weir", "var/cache/weir", "var/tmp"]
  ) {
    await Deno.mkdir(`${root}/${path}`, { recursive: true });
  }
  await Deno.remove(`${root}/var/run`, { recursive: true }).catch(() => {});
  await Deno.symlink("/run", `${root}/var/run`);
  for (const path of ["tmp", "var/tmp"]) await Deno.chmod(`${root}/${path}`, 0o1777);
  // What the packages' install scripts would have linked.
  await Deno.lstat(`${root}/usr/bin/sh`).catch(() => Deno.symlink("dash", `${root}/usr/bin/sh`));
}

/** Architecture, time and commit: SOURCE_DATE_EPOCH, else the commit's. */
async function facts(): Promise<[architecture: string, createdUnixS: number, revision: string]> {
  const given = Number(Deno.env.get("SOURCE_DATE_EPOCH") || "0");
  const git = await run(["git", "-C", ROOT, "log", "-1", "--format=%ct %H"]).catch(() => "0 ");
  const [commitUnixS, revision] = git.trim().split(" ");
  return [ARCHITECTURES[Deno.build.arch], given || Number(commitUnixS), revision ?? ""];
}

const fileName = (path: string) => path.slice(path.lastIndexOf("/") + 1);

if (import.meta.main) {
  try {
    const { values, positionals } = parseArgs({
      args: Deno.args,
      allowPositionals: true,
      options: {
        "output": { type: "string", default: `${ROOT}.build/images` },
        "repository": { type: "string", default: "localhost" },
        "tag": { type: "string", default: WEIR_VERSION },
        "no-compression": { type: "boolean", default: false },
      },
    });
    const built = await buildImages({
      output: values.output.replace(/\/$/, ""),
      repository: values.repository,
      tag: values.tag,
      compress: !values["no-compression"],
      names: positionals,
    });
    for (const { path, reference, digest, bytes } of built) {
      console.log(`images: ${reference} ${digest} in ${path} (${Math.ceil(bytes / (1 << 20))} MiB)`);
    }
  } catch (error) {
    console.error(`images: ${(error as Error).message}`);
    Deno.exit(1);
  }
}
