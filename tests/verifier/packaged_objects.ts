/**
 * Objects that Debian's packages ship: programs that people run, written without a thought of us. They are downloaded at
 * test time, stay under `.build/packaged` and are never committed. Some are files of their own, most lie inside of the
 * executable that loads them, as `bpftool gen skeleton` and Go's `embed` put them there.
 *
 * ```text
 *  apt-get download PACKAGE ─▶ dpkg-deb -x ─▶ each file ─▶ every ELF header with machine "BPF" in it ─▶ PACKAGE/NAME[@OFFSET].o
 * ```
 *
 * @module
 */

const DIR = new URL("../../.build/packaged/", import.meta.url).pathname;

/** Packages of Debian 12 with eBPF objects in them, and of which kind. */
const PACKAGES = [
  "xdp-tools", // XDP forwarder, filter, monitors
  "libxdp1", // the dispatcher and AF_XDP's default program
  "xdp-tests",
  "libbpf-tools", // tracing tools, each with its object inside
  "qemu-system-x86", // receive-side scaling as a socket filter
  "libknot13", // AF_XDP of the Knot DNS server
  "golang-github-cilium-ebpf-dev", // a loader's test objects
  "ir-keytable", // infrared decoders
];

/** An object of a package. */
export interface PackagedObject {
  readonly package: string;
  /** File and, inside of another file, where. */
  readonly path: string;
  /** Type of its programs where their sections do not say it. */
  readonly type?: string;
}

/** Types that the program which loads an object says, not the object. */
const TYPES: Readonly<Record<string, string>> = { "qemu-system-x86": "socket" };

/** What could be had: objects by package, and the packages that could not be downloaded. */
export interface PackagedObjects {
  readonly objects: PackagedObject[];
  readonly missing: string[];
}

/** Gives the objects, from disk if they were fetched before. */
export async function providePackagedObjects(): Promise<PackagedObjects> {
  const objects: PackagedObject[] = [], missing: string[] = [];
  Deno.mkdirSync(DIR, { recursive: true });
  let updated = false;
  for (const name of PACKAGES) {
    const dir = `${DIR}${name}`;
    let there = exists(`${dir}/done`);
    // Where even new lists of packages do not help, the network is not there: the others are not waited for.
    if (!there && (!updated || objects.length > 0)) there = await fetchPackage(name, dir);
    if (!there && !updated) {
      updated = true;
      there = await run(["apt-get", "-qq", "update"], DIR) && await fetchPackage(name, dir);
    }
    if (!there) {
      missing.push(name);
      continue;
    }
    for (const file of [...Deno.readDirSync(dir)].map((entry) => entry.name).sort()) {
      if (file.endsWith(".o")) objects.push({ package: name, path: `${dir}/${file}`, type: TYPES[name] });
    }
  }
  return { objects, missing };
}

async function fetchPackage(name: string, dir: string): Promise<boolean> {
  const work = `${DIR}${name}.part`;
  Deno.mkdirSync(work, { recursive: true });
  try {
    if (!await run(["apt-get", "-q", "download", name], work)) return false;
    const deb = [...Deno.readDirSync(work)].map((entry) => entry.name).find((file) => file.endsWith(".deb"));
    if (deb === undefined || !await run(["dpkg-deb", "-x", deb, "root"], work)) return false;
    Deno.mkdirSync(dir, { recursive: true });
    for (const path of filesBelow(`${work}/root`)) extract(path, dir);
    Deno.writeTextFileSync(`${dir}/done`, deb);
    return true;
  } finally {
    Deno.removeSync(work, { recursive: true });
  }
}

/** Copies every eBPF object in a file to `dir`. */
function extract(path: string, dir: string): void {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const name = path.slice(path.lastIndexOf("/") + 1).replace(/\.(o|elf)$/, "");
  for (let at = bytes.indexOf(0x7f); at >= 0 && at + 64 <= bytes.length; at = bytes.indexOf(0x7f, at + 1)) {
    // "\x7fELF", 64 bits, little endian, version 1; relocatable, machine 247
    if (view.getUint32(at) !== 0x7f454c46 || view.getUint32(at + 4) >>> 8 !== 0x020101) continue;
    if (view.getUint16(at + 16, true) !== 1 || view.getUint16(at + 18, true) !== 247) continue;
    const length = objectLength(new DataView(bytes.buffer, at));
    if (length === 0) continue;
    Deno.writeFileSync(
      `${dir}/${name}${at === 0 ? "" : `@${at}`}.o`,
      bytes.subarray(at, at + length),
    );
  }
}

/** Where an object ends that lies inside of something else: after its sections and their table. */
function objectLength(view: DataView): number {
  const table = Number(view.getBigUint64(40, true)), each = view.getUint16(58, true);
  const count = view.getUint16(60, true);
  let end = table + count * each;
  if (each !== 64 || end > view.byteLength) return 0;
  for (let k = 0; k < count; k++) {
    const at = table + k * each;
    const bits = 8; // SHT_NOBITS: nothing in the file
    if (view.getUint32(at + 4, true) === bits) continue;
    end = Math.max(
      end,
      Number(view.getBigUint64(at + 24, true)) + Number(view.getBigUint64(at + 32, true)),
    );
  }
  return end > view.byteLength ? 0 : end;
}

function* filesBelow(dir: string): Generator<string> {
  for (const entry of Deno.readDirSync(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) yield* filesBelow(path);
    else if (entry.isFile) yield path;
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

async function run(command: string[], cwd: string): Promise<boolean> {
  try {
    const options = { args: command.slice(1), cwd, stdout: "null", stderr: "null" } as const;
    return (await new Deno.Command(command[0], options).output()).success;
  } catch {
    return false;
  }
}
