/**
 * Container images as archives: an OCI image layout in a tar, with the manifest.json beside that `docker load` reads. The same
 * content gives the same bytes.
 *
 *     oci-layout  index.json  manifest.json  blobs/sha256/<digest> (manifest, configuration, layers)
 *
 * @module
 */
import { createHash } from "node:crypto";
import { run } from "./run.ts";

/** A layer in the layout. */
export interface Layer {
  /** "sha256:..." of the blob. */
  readonly digest: string;
  /** "sha256:..." of the tar in it. */
  readonly diffId: string;
  readonly bytes: number;
  readonly mediaType: string;
}

/** What an image is beside its layers. */
export interface ImageConfig {
  /** Full name with its tag. */
  readonly reference: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly environment: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** As OCI says it: "amd64", "arm64". */
  readonly architecture: string;
  /** Unix time in seconds. */
  readonly createdUnixS: number;
}

/** Packs a directory as root's, in the order of names and without times, as a blob of the layout. Set-user-id bits are dropped. */
export async function addLayer(root: string, layout: string, compress: boolean): Promise<Layer> {
  await Deno.mkdir(`${layout}/blobs/sha256`, { recursive: true });
  const tar = `${layout}/layer.tar`;
  await run([
    "tar",
    "--sort=name",
    "--mtime=@0",
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--format=gnu",
    "--mode=a-s",
    "-C",
    root,
    "-cf",
    tar,
    ".",
  ]);
  const diffId = await digestOf(tar);
  if (compress) await run(["gzip", "--no-name", "--fast", "--force", tar]);
  const blob = compress ? `${tar}.gz` : tar;
  const digest = compress ? await digestOf(blob) : diffId;
  const bytes = (await Deno.stat(blob)).size;
  await Deno.rename(blob, blobPath(layout, digest));
  const mediaType = `application/vnd.oci.image.layer.v1.tar${compress ? "+gzip" : ""}`;
  return { digest, diffId, bytes, mediaType };
}

/**
 * Writes the archive of an image whose layers are in `layout`.
 * @returns digest of its manifest, by which registries and runtimes know it
 */
export async function writeArchive(
  path: string,
  image: ImageConfig,
  layers: readonly Layer[],
  layout: string,
): Promise<string> {
  const config = await addBlob(layout, {
    created: new Date(image.createdUnixS * 1000).toISOString(),
    architecture: image.architecture,
    os: "linux",
    config: {
      Env: image.environment,
      Entrypoint: image.entrypoint,
      Cmd: image.command,
      Labels: image.labels,
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
  });
  const manifest = await addBlob(layout, {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
    layers: layers.map(({ mediaType, digest, bytes }) => ({ mediaType, digest, size: bytes })),
  });
  const tag = image.reference.slice(image.reference.lastIndexOf(":") + 1);
  const files: Record<string, unknown> = {
    "oci-layout": { imageLayoutVersion: "1.0.0" },
    "index.json": {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.index.v1+json",
      manifests: [{
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        ...manifest,
        annotations: {
          "io.containerd.image.name": image.reference,
          "org.opencontainers.image.ref.name": tag,
        },
        platform: { architecture: image.architecture, os: "linux" },
      }],
    },
    "manifest.json": [{
      Config: blobPath("", config.digest).slice(1),
      RepoTags: [image.reference],
      Layers: layers.map(({ digest }) => blobPath("", digest).slice(1)),
    }],
  };
  for (const [name, value] of Object.entries(files)) {
    await Deno.writeTextFile(`${layout}/${name}`, JSON.stringify(value));
  }
  const blobs = [...new Set([config.digest, manifest.digest, ...layers.map(({ digest }) => digest)])].sort();
  const names = [...Object.keys(files), ...blobs.map((digest) => blobPath("", digest).slice(1))];
  const plain = ["--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu", "--mode=0644"];
  await run(["tar", ...plain, "-C", layout, "-cf", `${path}.new`, ...names]);
  await Deno.rename(`${path}.new`, path);
  return manifest.digest;
}

async function addBlob(layout: string, value: unknown): Promise<{ digest: string; size: number }> {
  const bytes = new TextEncoder().encode(JSON.stringify(value));
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  await Deno.writeFile(blobPath(layout, digest), bytes);
  return { digest, size: bytes.length };
}

function blobPath(layout: string, digest: string): string {
  return `${layout}/blobs/${digest.replace(":", "/")}`;
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  using file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}
