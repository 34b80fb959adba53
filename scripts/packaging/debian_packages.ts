/**
 * The distribution's packages as files: downloaded with all that they depend on, unpacked without their install scripts.
 *
 * @module
 */
import { run } from "./run.ts";

/** Of what a package brings, only licences are kept: no manuals, translations, examples. */
const UNUSED = [
  "usr/share/man",
  "usr/share/locale",
  "usr/share/info",
  "usr/share/lintian",
  "usr/share/bash-completion",
];
/** What directories at the root are links to, as the distribution has it. */
const MERGED = ["bin", "sbin", "lib", "lib64"];

/** Downloads packages and all that they depend on into a directory. Needs no root. @returns paths, sorted */
export async function downloadPackages(names: readonly string[], directory: string): Promise<string[]> {
  await Deno.mkdir(`${directory}/archives/partial`, { recursive: true });
  await run([
    "apt-get",
    "-qq",
    "-y",
    // As on a system with nothing installed.
    ...[
      "Dir::State::status=/dev/null",
      `Dir::Cache=${directory}`,
      "Debug::NoLocking=1",
      "APT::Sandbox::User=root",
    ]
      .flatMap((option) => ["-o", option]),
    "--no-install-recommends",
    "--download-only",
    "install",
    ...names,
  ]);
  const found: string[] = [];
  for await (const { name } of Deno.readDir(`${directory}/archives`)) {
    if (name.endsWith(".deb")) found.push(`${directory}/archives/${name}`);
  }
  return found.sort();
}

/** Unpacks packages into a root directory, which is made, and writes down what they are where scanners look for it. */
export async function unpackPackages(packages: readonly string[], root: string): Promise<void> {
  for (const name of MERGED) {
    await Deno.mkdir(`${root}/usr/${name}`, { recursive: true });
    await Deno.symlink(`usr/${name}`, `${root}/${name}`);
  }
  await Deno.mkdir(`${root}/var/lib/dpkg/status.d`, { recursive: true });
  for (const path of packages) {
    const pipe =
      'set -o pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xp --no-same-owner --keep-directory-symlink -C "$2" -f -';
    await run(["bash", "-c", pipe, "unpack", path, root]);
    const control = await run(["dpkg-deb", "--field", path]);
    const name = /^Package: (.+)$/m.exec(control)![1];
    await Deno.writeTextFile(`${root}/var/lib/dpkg/status.d/${name}`, control);
  }
  for (const path of UNUSED) await removeTree(`${root}/${path}`);
  await keepCopyrights(`${root}/usr/share/doc`);
}

async function keepCopyrights(doc: string): Promise<void> {
  for await (const { name, isDirectory } of readDirectory(doc)) {
    if (!isDirectory) continue; // a link to another package's
    for await (const inside of Deno.readDir(`${doc}/${name}`)) {
      if (inside.name !== "copyright") await removeTree(`${doc}/${name}/${inside.name}`);
    }
  }
}

async function* readDirectory(path: string): AsyncIterable<Deno.DirEntry> {
  try {
    yield* Deno.readDir(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function removeTree(path: string): Promise<void> {
  await Deno.remove(path, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
