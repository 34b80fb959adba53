/** Container images as archives that `ctr images import` takes: no registry is asked. @module */
import { ARCHIVE } from "./packages.ts";
import { ok } from "../cluster/process.ts";

/** What an image runs. */
export interface ImageConfig {
  Entrypoint?: string[];
  Cmd?: string[];
  Env?: string[];
  User?: string;
}

/** An image. */
export interface Image {
  /** `host/path:tag`. A tag other than `latest`, so that no kubelet tries to pull it. */
  name: string;
  config: ImageConfig;
  /** Folders, packed as root's, and archives (.tar), taken as they are; the first is the lowest. */
  layers: readonly string[];
}

/** Writes the archive of an image: its layers, its configuration and a manifest. Equal images make equal archives. */
export async function writeImage(image: Image, archive: string): Promise<void> {
  const work = await Deno.makeTempDir({ prefix: "weir-image-" });
  try {
    const layers: string[] = [], digests: string[] = [];
    for (const [index, source] of image.layers.entries()) {
      const name = `layer-${index}.tar`;
      if (source.endsWith(".tar")) await Deno.symlink(source, `${work}/${name}`);
      else await ok(["tar", ...ARCHIVE, "-C", source, "-cf", `${work}/${name}`, "."]);
      layers.push(name);
      digests.push(`sha256:${(await ok(["sha256sum", `${work}/${name}`])).slice(0, 64)}`);
    }
    const config = {
      architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
      os: "linux",
      created: "1970-01-01T00:00:00Z",
      config: image.config,
      rootfs: { type: "layers", diff_ids: digests },
      history: [],
    };
    const manifest = [{ Config: "config.json", RepoTags: [image.name], Layers: layers }];
    await Deno.writeTextFile(`${work}/config.json`, JSON.stringify(config));
    await Deno.writeTextFile(`${work}/manifest.json`, JSON.stringify(manifest));
    const files = ["manifest.json", "config.json", ...layers];
    await ok(["tar", "--dereference", ...ARCHIVE, "-C", work, "-cf", `${archive}.new`, ...files], {
      seconds: 600,
    });
    await Deno.rename(`${archive}.new`, archive);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
