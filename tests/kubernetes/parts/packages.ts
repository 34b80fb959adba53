/** Debian packages, unpacked without being installed: nothing starts, and the machine's own are left alone. @module */
import { exists } from "../cluster/layout.ts";
import { ok, run } from "../cluster/process.ts";

/** As much of a Debian package manager as this needs. */
const APT = ["apt-get", "-qq", "-y", "-o", "APT::Sandbox::User=root"];
const DOWNLOAD_SECONDS_MAX = 900;

/** Whether this machine has Debian packages. */
export async function hasApt(): Promise<boolean> {
  return await run(["sh", "-c", "command -v apt-get && command -v dpkg-deb"]).then(({ code }) => code === 0);
}

/** Runs what downloads; where it fails, once more with newer lists, for on a fresh machine there are none. */
async function downloading(words: readonly string[], directory: string): Promise<void> {
  const options = { directory, seconds: DOWNLOAD_SECONDS_MAX, env: { DEBIAN_FRONTEND: "noninteractive" } };
  const { code } = await run(words, options);
  if (code === 0) return;
  await run([...APT, "update"], options);
  await ok(words, options);
}

/** Unpacks these packages alone, without what they depend on, below `directory`. */
export async function unpackPackages(names: readonly string[], directory: string): Promise<void> {
  const work = await Deno.makeTempDir({ prefix: "weir-packages-" });
  try {
    await downloading([...APT, "download", ...names], work);
    await Deno.mkdir(directory, { recursive: true });
    for (const { name } of Deno.readDirSync(work)) await ok(["dpkg-deb", "-x", `${work}/${name}`, directory]);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Left out of a root file system: nothing that runs reads it. */
const LEFT_OUT = ["doc", "man", "locale", "info", "lintian", "zoneinfo", "bash-completion"].map((name) =>
  `usr/share/${name}`
);

/**
 * Writes an archive of a Debian root file system: these packages and what they depend on. Their install scripts do not run; what
 * those would have done and images need is in here.
 */
export async function rootFileSystem(names: readonly string[], archive: string): Promise<void> {
  const work = await Deno.makeTempDir({ prefix: "weir-rootfs-" });
  const root = `${work}/root`, debs = `${work}/debs`;
  try {
    await Deno.mkdir(`${debs}/partial`, { recursive: true });
    // As if nothing were installed, so that everything is fetched.
    const nothing = ["-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=1"];
    const fetch = [...nothing, "-o", `Dir::Cache::archives=${debs}`, "--no-install-recommends"];
    await downloading([...APT, ...fetch, "--download-only", "install", ...names], work);
    for (
      const folder of [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "root",
        "tmp",
        "proc",
        "sys",
        "dev",
        "run",
      ]
    ) {
      await Deno.mkdir(`${root}/${folder}`, { recursive: true });
    }
    for (const name of ["bin", "sbin", "lib", "lib64"]) await Deno.symlink(`usr/${name}`, `${root}/${name}`);
    for (const { name } of Deno.readDirSync(debs)) {
      if (!name.endsWith(".deb")) continue;
      const unpack = 'dpkg-deb --fsys-tarfile "$0" | tar -x --keep-directory-symlink -C "$1" -f -';
      await ok(["sh", "-c", unpack, `${debs}/${name}`, root]);
    }
    await ok(["rm", "-rf", ...LEFT_OUT.map((path) => `${root}/${path}`)]);
    await settle(root);
    await ok(["tar", ...ARCHIVE, "-C", root, "-cf", `${archive}.new`, "."]);
    await Deno.rename(`${archive}.new`, archive);
  } finally {
    await ok(["rm", "-rf", work]);
  }
}

/** Archives of equal trees are equal. */
export const ARCHIVE: readonly string[] = [
  "--numeric-owner",
  "--owner=0",
  "--group=0",
  "--sort=name",
  "--mtime=@0",
];

/** What install scripts make. */
async function settle(root: string): Promise<void> {
  const files = {
    passwd: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    group: "root:x:0:\nnogroup:x:65534:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  };
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${root}/etc/${name}`, text);
  await Deno.chmod(`${root}/tmp`, 0o1777);
  const links = { sh: "dash", nc: "nc.openbsd", awk: "mawk", iperf: "iperf3" };
  for (const [name, target] of Object.entries(links)) {
    if (!exists(`${root}/usr/bin/${name}`) && exists(`${root}/usr/bin/${target}`)) {
      await Deno.symlink(target, `${root}/usr/bin/${name}`);
    }
  }
}
