/**
 * The kernel's own verifier selftests, version 6.12, as compiled objects. They come from Debian's source
 * package, are compiled here and stay under `.build/selftests`: nothing of them is ever committed.
 *
 * ```text
 *  apt-get download linux-source-6.12 ─▶ tools/testing/selftests/bpf, headers ─▶ clang ─▶ .build/selftests/6.12/obj/*.o
 * ```
 *
 * @module
 */

import { availableParallelism } from "node:os";

const PACKAGE = "linux-source-6.12";
const ROOT = new URL("../../", import.meta.url).pathname;
const DIR = `${ROOT}.build/selftests/6.12`;
const STAMP = `${DIR}/stamp`;

/** What of the source tree is needed: the tests, libbpf's headers, the UAPI headers, the helper list's generator. */
const PATHS = [
  "tools/testing/selftests/bpf",
  "tools/lib/bpf",
  "tools/include",
  "include/uapi/linux",
  "scripts/bpf_doc.py",
];

/** Either the objects, or why there are none. */
export type Selftests = { objects: string[]; version: string } | { skip: string };

/** Gives the paths of the compiled, annotated selftest objects; downloads and compiles what is not there yet. */
export async function provideSelftests(): Promise<Selftests> {
  const clang = await findClang();
  if (clang === null) return { skip: "no clang with a BPF target" };
  const wanted = `${clang} ${Deno.build.arch} 3`;
  const [stamp, version] = readStamp();
  if (stamp !== wanted) {
    try {
      const version = await fetchSource();
      await compile(clang);
      Deno.writeTextFileSync(STAMP, `${wanted}\n${version}\n`);
    } catch (error) {
      if (error instanceof Unavailable) return { skip: error.message };
      throw error;
    }
  }
  const objects = [...Deno.readDirSync(`${DIR}/obj`)].map((entry) => entry.name).filter((name) =>
    name.endsWith(".o")
  )
    .sort().map((name) => `${DIR}/obj/${name}`);
  return { objects, version: version || readStamp()[1] };
}

/** Something that the machine does not have: the tests are skipped with the message. */
class Unavailable extends Error {}

function readStamp(): string[] {
  try {
    return Deno.readTextFileSync(STAMP).split("\n");
  } catch {
    return ["", ""];
  }
}

async function findClang(): Promise<string | null> {
  for (const name of ["clang-19", "clang-20", "clang-21", "clang-18", "clang-17"]) {
    if ((await run(["sh", "-c", `command -v ${name}`], ROOT)).ok) return name;
  }
  return null;
}

/** Downloads the package and unpacks what is needed of it; returns its version. */
async function fetchSource(): Promise<string> {
  Deno.mkdirSync(DIR, { recursive: true });
  let got = await run(["apt-get", "-q", "download", PACKAGE], DIR);
  if (!got.ok) {
    await run(["apt-get", "-qq", "update"], DIR);
    got = await run(["apt-get", "-q", "download", PACKAGE], DIR);
  }
  const deb = [...Deno.readDirSync(DIR)].map((entry) => entry.name).filter((name) => name.endsWith(".deb"))
    .sort().at(-1);
  if (!got.ok || deb === undefined) throw new Unavailable(`the package ${PACKAGE} cannot be had`);
  const paths = PATHS.map((path) => `${PACKAGE}/${path}`).join(" ");
  const unpacked = await run([
    "bash",
    "-c",
    `set -o pipefail; dpkg-deb --fsys-tarfile ${deb} | tar -xO ./usr/src/${PACKAGE}.tar.xz |
     tar -xJ --strip-components=1 ${paths}`,
  ], DIR);
  if (!unpacked.ok) {
    throw new Unavailable(`the package ${PACKAGE} cannot be unpacked: ${unpacked.stderr.slice(-300)}`);
  }
  // 150 MB that nothing reads again.
  for (const entry of Deno.readDirSync(DIR)) {
    if (entry.name.endsWith(".deb")) Deno.removeSync(`${DIR}/${entry.name}`);
  }
  return deb.split("_")[1];
}

/** Makes the generated headers and compiles every test with an annotation. */
async function compile(clang: string): Promise<void> {
  Deno.mkdirSync(`${DIR}/inc`, { recursive: true });
  Deno.mkdirSync(`${DIR}/obj`, { recursive: true });
  await run(["ln", "-sfn", "../tools/lib/bpf", "inc/bpf"], DIR);
  await header(
    "python3 scripts/bpf_doc.py --header --file include/uapi/linux/bpf.h > tools/lib/bpf/bpf_helper_defs.h",
  );
  await header("bpftool btf dump file /sys/kernel/btf/vmlinux format c > inc/vmlinux.h");
  const tests = `${DIR}/tools/testing/selftests/bpf/progs`;
  // Nothing but types: some tests are relocated against them.
  const types = "btf__core_reloc_bitfields.c";
  const sources = [...Deno.readDirSync(tests)].map((entry) => entry.name)
    .filter((name) =>
      name.endsWith(".c") &&
      (name === types || /\b__(success|failure)\b/.test(Deno.readTextFileSync(`${tests}/${name}`)))
    );
  const failed: string[] = [];
  await inParallel(sources, async (name) => {
    const result = await run([
      clang,
      ..."-g -O2 --target=bpfel -mcpu=v3 -std=gnu11 -D__TARGET_ARCH_x86 -mlittle-endian".split(" "),
      ..."-DENABLE_ATOMICS_TESTS -fno-strict-aliasing -Wno-everything -Iinc".split(" "),
      ..."-Itools/testing/selftests/bpf -Itools/testing/selftests/bpf/progs".split(" "),
      ..."-Itools/include/uapi -Iinclude/uapi -Itools/include".split(" "),
      ..."-idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include".split(" "),
      ...["-c", `${tests}/${name}`, "-o", `obj/${name.replace(/\.c$/, ".o")}`],
    ], DIR);
    if (!result.ok) {
      failed.push(`${name}: ${result.stderr.split("\n").find((line) => line.includes("error")) ?? ""}`);
    }
  });
  if (failed.length > 0) {
    console.log(
      `  ${failed.length} of ${sources.length} selftests do not compile:\n  ${failed.join("\n  ")}`,
    );
  }
  // A few may fail with another clang or kernel; with most of them gone the result would say nothing.
  if (failed.length > sources.length / 10) {
    throw new Unavailable(`${failed.length} of ${sources.length} do not compile`);
  }
}

async function header(command: string): Promise<void> {
  const result = await run(["bash", "-c", command], DIR);
  if (!result.ok) throw new Unavailable(`a header cannot be made: ${result.stderr.slice(-300)}`);
}

/** Runs `work` on every item, as many at a time as there are processors. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < items.length) await work(items[next++]);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

async function run(command: string[], cwd: string): Promise<{ ok: boolean; stderr: string }> {
  try {
    const { success, stderr } = await new Deno.Command(command[0], {
      args: command.slice(1),
      cwd,
      stdout: "null",
      stderr: "piped",
    }).output();
    return { ok: success, stderr: new TextDecoder().decode(stderr) };
  } catch (error) {
    return { ok: false, stderr: (error as Error).message };
  }
}
