import { deepEqual, equal } from "node:assert/strict";
import { createHash } from "node:crypto";
import { addLayer, writeArchive } from "./oci_archive.ts";
import { run } from "./run.ts";

const IMAGE = {
  reference: "localhost/x:1",
  entrypoint: ["/x"],
  command: [],
  environment: [],
  labels: {},
  architecture: "amd64",
  createdUnixS: 0,
};

Deno.test("writeArchive() gives the same bytes for the same content, every blob under its own digest", async () => {
  const work = await Deno.makeTempDir();
  try {
    const digests: string[] = [];
    for (const [index, compress] of [[0, true], [1, true], [2, false]] as const) {
      const root = `${work}/root${index}`, layout = `${work}/layout${index}`;
      await Deno.mkdir(`${root}/etc`, { recursive: true });
      // In another order, and at another time.
      for (const name of index === 0 ? ["a", "b"] : ["b", "a"]) {
        await Deno.writeTextFile(`${root}/etc/${name}`, name);
      }
      await Deno.utime(`${root}/etc/a`, index, index);
      await Deno.symlink("etc/a", `${root}/link`);
      await Deno.chmod(`${root}/etc/b`, 0o4755);
      const layer = await addLayer(root, layout, compress);
      digests.push(await writeArchive(`${work}/${index}.tar`, IMAGE, [layer], layout));
    }
    equal(digests[0], digests[1]);
    const bytes = await Promise.all([0, 1].map((index) => Deno.readFile(`${work}/${index}.tar`)));
    deepEqual(bytes[0], bytes[1]);

    const out = `${work}/out`;
    await Deno.mkdir(out);
    await run(["tar", "-xf", `${work}/2.tar`, "-C", out]);
    const names = [...Deno.readDirSync(`${out}/blobs/sha256`)].map(({ name }) => name);
    equal(names.length, 3);
    for (const name of names) {
      equal(
        createHash("sha256").update(await Deno.readFile(`${out}/blobs/sha256/${name}`)).digest("hex"),
        name,
      );
    }
    const json = async (path: string) => JSON.parse(await Deno.readTextFile(`${out}/${path}`));
    const { manifests: [entry] } = await json("index.json");
    equal(entry.digest, digests[2]);
    equal(entry.annotations["io.containerd.image.name"], "localhost/x:1");
    const manifest = await json(`blobs/${entry.digest.replace(":", "/")}`);
    const [layer] = manifest.layers;
    const config = await json(`blobs/${manifest.config.digest.replace(":", "/")}`);
    deepEqual(config.rootfs.diff_ids, [layer.digest]);
    const list = await run(["tar", "-tvf", `${out}/blobs/${layer.digest.replace(":", "/")}`]);
    equal(/^-rwxr-xr-x 0\/0 .* 1970-01-01 .*\.\/etc\/b$/m.test(list), true, list);
    const [docker] = await json("manifest.json");
    deepEqual(docker.Layers, [`blobs/${layer.digest.replace(":", "/")}`]);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
});
