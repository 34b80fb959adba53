import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { ArchiveError, packArchive, unpackArchive } from "./archive.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const gathered = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>) =>
  await new Response(stream).bytes();
const streamOf = (...chunks: Uint8Array<ArrayBuffer>[]) => ReadableStream.from(chunks);
const gzip = (...chunks: Uint8Array<ArrayBuffer>[]) =>
  streamOf(...chunks).pipeThrough(new CompressionStream("gzip"));

/** The unpacked tar of one file, with bytes of its header changed and its checksum made right. */
async function tarWith(
  change: (header: Uint8Array) => void,
  name = "a/b.txt",
): Promise<Uint8Array<ArrayBuffer>> {
  const packed = packArchive(new Map([[name, bytes("hello")]]), 1);
  const tar = await gathered(packed.pipeThrough(new DecompressionStream("gzip")));
  const header = tar.subarray(0, 512);
  change(header);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((all, byte) => all + byte, 0);
  header.set(bytes(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
  return tar;
}
const named = (name: string) =>
  tarWith((header) => {
    header.fill(0, 0, 100);
    header.set(bytes(name), 0);
  });

Deno.test("unpackArchive() gives back what packArchive() packed, and tar reads it", async () => {
  const files = new Map([["a.txt", bytes("hello")], ["b/c.json", new Uint8Array(1024).fill(120)], [
    "empty",
    bytes(""),
  ]]);
  const packed = await gathered(packArchive(files, 1_700_000_000));
  deepEqual([...await unpackArchive(streamOf(packed))], [...files]);
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, packed);
    const { stdout, code } = await new Deno.Command("tar", { args: ["tzf", path] }).output();
    equal(code, 0);
    equal(new TextDecoder().decode(stdout), "a.txt\nb/c.json\nempty\n");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("packArchive() refuses names that leave the archive", async () => {
  for (const name of ["../x", "/x", "a//b", "a/../b", ".hidden", "", "x".repeat(101)]) {
    await rejects(() => gathered(packArchive(new Map([[name, bytes("")]]), 1)), ArchiveError, name);
  }
});

Deno.test("unpackArchive() refuses names that leave the archive", async () => {
  for (const name of ["../../etc/passwd", "/etc/passwd", "a/../../b", "a/./b", "C:\\x", "a\nb", "-rf"]) {
    await rejects(async () => unpackArchive(gzip(await named(name))), /leaves the archive/, name);
  }
  // The name's beginning may stand in another field.
  const prefixed = await tarWith((header) => header.set(bytes(".."), 345));
  await rejects(() => unpackArchive(gzip(prefixed)), /leaves the archive/);
});

Deno.test("unpackArchive() refuses links, devices and directories", async () => {
  for (const kind of ["1", "2", "3", "5", "6", "L", "x"]) {
    const tar = await tarWith((header) => header.set(bytes(kind), 156));
    await rejects(() => unpackArchive(gzip(tar)), /no ordinary file/, kind);
  }
});

Deno.test("unpackArchive() refuses bombs by what they hold, before all of it is there", async () => {
  let pulled = 0;
  const zeros = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      pulled++;
      controller.enqueue(new Uint8Array(1 << 20));
    },
  });
  const limits = { filesMax: 10, fileBytesMax: 1 << 20, bytesMax: 8 << 20 };
  await rejects(
    () => unpackArchive(zeros.pipeThrough(new CompressionStream("gzip")), limits),
    /more than 8388608 bytes/,
  );
  equal(pulled < 200, true, `${pulled} MiB were read`);
  const large = await tarWith((header) => header.set(bytes("77777777777\0"), 124));
  await rejects(() => unpackArchive(gzip(large), limits), /expected at most 1048576/);
  const many = new Map(Array.from({ length: 11 }, (_, index) => [`f${index}`, bytes("")]));
  await rejects(() => unpackArchive(packArchive(many, 1), limits), /more than 10 files/);
});

Deno.test("unpackArchive() refuses what is cut off, damaged, doubled or something else", async () => {
  const packed = await gathered(packArchive(new Map([["a", new Uint8Array(5000)]]), 1));
  for (let length = 0; length < packed.length; length++) {
    await rejects(() => unpackArchive(streamOf(packed.slice(0, length))), ArchiveError, `${length} bytes`);
  }
  const tar = await gathered(streamOf(packed).pipeThrough(new DecompressionStream("gzip")));
  for (const length of [0, 100, 512, 1024, 5632, tar.length - 1024]) {
    await rejects(() => unpackArchive(gzip(tar.slice(0, length))), /cut off/, `${length} bytes of tar`);
  }
  const damaged = tar.slice();
  damaged[10] ^= 1;
  await rejects(() => unpackArchive(gzip(damaged)), /damaged/);
  await rejects(() => unpackArchive(streamOf(bytes("PK\x03\x04 no gzip"))), /not gzipped/);
  const one = tar.slice(0, tar.length - 1024);
  const error = await unpackArchive(gzip(one, tar)).then(() => undefined, (error) => error);
  match(String(error), /two files a/);
});
