/**
 * The images of a cluster without a registry. Their names have a host that is none: upstream's tests are told by
 * KUBE_TEST_REPO_LIST that it is theirs.
 * @module
 */
import { writeSelfSigned } from "../cluster/certificates.ts";
import { type Cache, exists, isUpToDate } from "../cluster/layout.ts";
import { ok } from "../cluster/process.ts";
import { type ImageConfig, writeImage } from "./archive.ts";
import { rootFileSystem, unpackPackages } from "./packages.ts";

/** Host of every image's name. */
export const REGISTRY = "bed.test";

/** Name of each image, by the name of its archive. Versions are those that upstream's tests of this release ask for. */
export const IMAGES = {
  pause: `${REGISTRY}/pause:3.10.2`,
  busybox: `${REGISTRY}/e2e/busybox:1.37.0-2`,
  agnhost: `${REGISTRY}/e2e/agnhost:2.66.1`,
  "glibc-dns-testing": `${REGISTRY}/e2e/glibc-dns-testing:2.1.1`,
  coredns: `${REGISTRY}/coredns:1.15.0`,
  regression: `${REGISTRY}/e2e/regression-issue-74839:1.5`,
} as const;

export type ImageName = keyof typeof IMAGES;

/** Images whose lowest layer is {@link debian}. */
const ON_DEBIAN: ReadonlySet<ImageName> = new Set(["agnhost", "glibc-dns-testing"]);

export const PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Tools that upstream's tests start in pods, and people too. */
const DEBIAN_PACKAGES = [
  ...["dash", "bash", "coreutils", "grep", "sed", "mawk", "findutils", "procps", "hostname", "util-linux"],
  ...["curl", "wget", "netcat-openbsd", "iproute2", "bind9-dnsutils", "iputils-ping", "iperf3", "socat"],
  // getent is in libc-bin.
  ...["tcpdump", "ca-certificates", "libc-bin"],
];

/** Makes the archives that are not there, or whose programs are newer; then the store is to be made anew. */
export async function makeImages(cache: Cache, say: (text: string) => void): Promise<void> {
  await Deno.mkdir(cache.images, { recursive: true });
  const work = await Deno.makeTempDir({ prefix: "weir-images-" });
  /** @param program goes to the image's root */
  const image = async (name: ImageName, config: ImageConfig, program: string | undefined, fill?: Fill) => {
    const archive = archiveOf(cache, name);
    const programs = program === undefined ? [] : [`${cache.bin}/${program}`];
    if (isUpToDate(archive, [...programs, ...ON_DEBIAN.has(name) ? [await debian(cache)] : []])) return;
    say(`image ${IMAGES[name]}`);
    await ok(["rm", "-rf", cache.store]);
    const folder = `${work}/${name}`;
    await Deno.mkdir(folder);
    for (const path of programs) await Deno.copyFile(path, `${folder}/${program}`);
    const below = await fill?.(folder) ?? [];
    await writeImage({ name: IMAGES[name], config, layers: [...below, folder] }, archive);
  };
  try {
    await image("pause", { Entrypoint: ["/pause"], User: "65535:65535" }, "pause");
    await image("busybox", { Cmd: ["sh"], Env: ["PATH=/bin"] }, undefined, busybox);
    await image("coredns", { Entrypoint: ["/coredns"] }, "coredns");
    await image("regression", { Entrypoint: ["/regression"] }, "regression");
    await image(
      "agnhost",
      { Entrypoint: ["/agnhost"], Cmd: ["pause"], Env: [PATH] },
      "agnhost",
      async (folder) => {
        await Deno.mkdir(`${folder}/uploads`);
        // For its ports with TLS.
        await writeSelfSigned(folder);
        // A name server of a test's own.
        await Deno.copyFile(`${cache.bin}/coredns`, `${folder}/coredns`);
        // Tests start one by the other.
        await Deno.symlink("agnhost", `${folder}/agnhost-2`);
        return [await debian(cache)];
      },
    );
    // A Debian whose resolver and dig are asked.
    await image("glibc-dns-testing", { Env: [PATH] }, undefined, async () => [await debian(cache)]);
  } finally {
    await ok(["rm", "-rf", work]);
  }
}

/** Fills the folder of an image; the layers below it, if any. */
type Fill = (folder: string) => Promise<string[] | void>;

/** The layer that images share; another one for another list of packages. */
export async function debian(cache: Cache): Promise<string> {
  const packages = new TextEncoder().encode(DEBIAN_PACKAGES.join());
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", packages)).toHex().slice(0, 12);
  const archive = `${cache.images}/debian-${digest}.tar`;
  if (!exists(archive)) await rootFileSystem(DEBIAN_PACKAGES, archive);
  return archive;
}

export function archiveOf(cache: Cache, name: ImageName): string {
  return `${cache.images}/${name}.tar`;
}

async function busybox(folder: string): Promise<void> {
  const unpacked = await Deno.makeTempDir({ prefix: "weir-busybox-" });
  try {
    await unpackPackages(["busybox-static"], unpacked);
    for (const name of ["bin", "etc", "tmp", "usr"]) await Deno.mkdir(`${folder}/${name}`);
    const found = ["usr/bin/busybox", "bin/busybox"].map((path) => `${unpacked}/${path}`).find(exists);
    if (!found) throw new Error("Cannot find busybox in the package busybox-static");
    await Deno.copyFile(found, `${folder}/bin/busybox`);
    for (const name of (await ok([found, "--list"])).trim().split("\n")) {
      if (name !== "busybox") await Deno.symlink("busybox", `${folder}/bin/${name}`);
    }
    await Deno.symlink("../bin", `${folder}/usr/bin`);
    await Deno.writeTextFile(`${folder}/etc/passwd`, "root:x:0:0:root:/:/bin/sh\n");
  } finally {
    await Deno.remove(unpacked, { recursive: true });
  }
}
