import { deepEqual, equal, rejects } from "node:assert/strict";
import { RotatingFile, type RotatingFileOptions } from "./rotating_file.ts";

const bytes = (text: string) => new TextEncoder().encode(text);
const START_MS = Date.parse("2026-11-29T00:43:01.123Z");

async function withFile(
  options: Partial<RotatingFileOptions>,
  test: (file: RotatingFile, directory: string, path: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir(), path = `${directory}/events.log`;
  const file = new RotatingFile({
    path,
    bytesMax: 100,
    backupsMax: 2,
    compress: false,
    nowMs: () => START_MS,
    ...options,
  });
  try {
    await test(file, directory, path);
  } finally {
    await file.close();
    await Deno.remove(directory, { recursive: true });
  }
}

const namesIn = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
const line = (n: number) => `${n}`.padStart(59, ".") + "\n";

Deno.test("RotatingFile puts a full file aside, keeps so many and no others, and leaves strange files alone", async () => {
  await withFile({}, async (file, directory, path) => {
    Deno.writeTextFileSync(`${directory}/events-notes.log`, "mine");
    Deno.writeTextFileSync(`${directory}/events-2026-11-28T00-00-00.000.log.gz.part`, "cut off");
    for (let n = 0; n < 5; n++) await file.append(bytes(line(n)));
    await file.settled();
    equal(Deno.readTextFileSync(path), line(4));
    deepEqual(namesIn(directory), [
      // Within one millisecond the next is free.
      "events-2026-11-29T00-43-01.125.log",
      "events-2026-11-29T00-43-01.126.log",
      "events-notes.log",
      "events.log",
    ]);
    equal(Deno.readTextFileSync(`${directory}/events-2026-11-29T00-43-01.126.log`), line(3));
  });
});

Deno.test("RotatingFile compresses what it put aside, also what a process before it left", async () => {
  await withFile({ compress: true, backupsMax: 5 }, async (file, directory) => {
    Deno.writeTextFileSync(`${directory}/events-2026-11-28T00-00-00.000.log`, "before\n");
    for (let n = 0; n < 2; n++) await file.append(bytes(line(n)));
    await file.settled();
    await file.close();
    deepEqual(namesIn(directory), [
      "events-2026-11-28T00-00-00.000.log.gz",
      "events-2026-11-29T00-43-01.123.log.gz",
      "events.log",
    ]);
    const stream = Deno.openSync(`${directory}/events-2026-11-29T00-43-01.123.log.gz`).readable;
    equal(await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text(), line(0));
  });
});

Deno.test("RotatingFile goes on in a new file when its own is moved or removed, and in the same when it is truncated", async () => {
  await withFile({}, async (file, directory, path) => {
    await file.append(bytes("a\n"));
    Deno.renameSync(path, `${directory}/events.log.1`);
    await file.append(bytes("b\n"));
    equal(Deno.readTextFileSync(`${directory}/events.log.1`), "a\n");
    equal(Deno.readTextFileSync(path), "b\n");
    Deno.removeSync(path);
    await file.append(bytes("c\n"));
    equal(Deno.readTextFileSync(path), "c\n");
    Deno.truncateSync(path);
    await file.append(bytes("d\n"));
    equal(Deno.readTextFileSync(path), "d\n");
  });
});

Deno.test("RotatingFile ends a line that was left half written before it writes its own", async () => {
  await withFile({}, async (file, _directory, path) => {
    Deno.writeTextFileSync(path, '{"flow":{"ti');
    await file.append(bytes("a\n"));
    equal(Deno.readTextFileSync(path), '{"flow":{"ti\na\n');
  });
});

Deno.test("RotatingFile says what is wrong with its path, and goes on when it is mended", async () => {
  await withFile({}, async (file, directory, path) => {
    await file.append(bytes("a\n"));
    Deno.removeSync(directory, { recursive: true });
    await rejects(file.append(bytes("b\n")), /No such file or directory/);
    Deno.mkdirSync(directory);
    await file.append(bytes("c\n"));
    equal(Deno.readTextFileSync(path), "c\n");
    await file.close();
    Deno.removeSync(path);
    // To open a pipe would be to wait for its reader.
    equal((await new Deno.Command("mkfifo", { args: [path] }).output()).code, 0);
    await rejects(file.append(bytes("d\n")), /no regular file/);
    Deno.removeSync(path);
    for (const target of [`${directory}/elsewhere`, "/dev/null", "nowhere"]) {
      Deno.writeTextFileSync(`${directory}/elsewhere`, "theirs\n");
      Deno.symlinkSync(target, path);
      await rejects(file.append(bytes("l\n")), /no regular file/);
      equal(Deno.readTextFileSync(`${directory}/elsewhere`), "theirs\n");
      Deno.removeSync(path);
    }
    Deno.mkdirSync(path);
    await rejects(file.append(bytes("e\n")), /no regular file/);
  });
});

Deno.test({
  name: "RotatingFile leaves whole lines only on a full disk, and goes on when there is room",
  ignore: Deno.uid() !== 0,
  fn: () =>
    withFile({ bytesMax: 1 << 20 }, async (file, directory, path) => {
      const of = (letter: string, count: number) => bytes((letter.repeat(99) + "\n").repeat(count));
      const mount = ["-t", "tmpfs", "-o", "size=64k", "none", directory];
      equal((await new Deno.Command("mount", { args: mount }).output()).code, 0);
      try {
        await file.append(of("a", 300));
        await rejects(file.append(of("b", 1000)), /No space left on device/);
        equal(Deno.readTextFileSync(path), ("a".repeat(99) + "\n").repeat(300));
        Deno.truncateSync(path);
        await file.append(of("c", 300));
        equal(Deno.readTextFileSync(path).length, 30_000);
        await file.close();
        equal((await new Deno.Command("mount", { args: ["-o", "remount,ro", directory] }).output()).code, 0);
        await rejects(file.append(of("d", 1)), /Read-only file system/);
      } finally {
        await new Deno.Command("umount", { args: ["--lazy", directory] }).output();
      }
    }),
});
