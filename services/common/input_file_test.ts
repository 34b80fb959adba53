import assert from "node:assert/strict";
import { InputFileError, readInput, readInputFileSync, readInputTextSync, readStream } from "./input_file.ts";

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
async function inDirectory(use: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
async function fifo(path: string): Promise<string> {
  assert.ok((await new Deno.Command("mkfifo", { args: [path] }).output()).success);
  return path;
}
const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof InputFileError);
  assert.match(error.message, pattern);
  return true;
};

Deno.test("readInputFileSync() reads what fits, and refuses the rest before it is read", () =>
  inDirectory((directory) => {
    const path = `${directory}/f`;
    for (const size of [0, 1, 1000, 1 << 18, (1 << 18) + 1, 700_000]) {
      Deno.writeFileSync(path, new Uint8Array(size).fill(7));
      const bytes = readInputFileSync(path, { bytesMax: 700_000 });
      assert.deepEqual([bytes.length, bytes.every((b) => b === 7)], [size, true]);
    }
    assert.throws(
      () => readInputFileSync(path, { bytesMax: 699_999 }),
      refused(/Cannot read .*\/f: it has 700000 bytes, expected at most 699999/),
    );
    // sparse: a terabyte that nobody could read
    Deno.truncateSync(path, 2 ** 40);
    const before = Deno.memoryUsage().rss;
    assert.throws(() => readInputFileSync(path, { bytesMax: 1 << 20 }), refused(/1099511627776 bytes/));
    assert.ok(Deno.memoryUsage().rss - before < 64 << 20);
    assert.equal(readInputTextSync("/etc/hostname", { bytesMax: 4096 }).length > 0, true);
  }));

Deno.test("readInputFileSync() takes nothing but regular files, and does not wait for a pipe's writer", () =>
  inDirectory(async (directory) => {
    const pipe = await fifo(`${directory}/pipe`);
    const cases: [string, RegExp][] = [
      [pipe, /it is a pipe, expected a regular file/],
      ["/dev/zero", /it is a device, expected a regular file/],
      [directory, /it is a directory/],
      [`${directory}/none`, /there is no such file or directory/],
    ];
    for (const [path, pattern] of cases) {
      assert.throws(() => readInputFileSync(path, { bytesMax: 100 }), refused(pattern));
    }
    // A file whose size is not known beforehand.
    assert.match(readInputTextSync("/proc/self/status", { bytesMax: 65_536 }), /^Name:/);
    assert.throws(
      () => readInputFileSync("/proc/self/status", { bytesMax: 10 }),
      refused(/more than 10 bytes/),
    );
  }));

Deno.test("readInput() reads a pipe to its end, but not for ever and not without end", () =>
  inDirectory(async (directory) => {
    const pipe = await fifo(`${directory}/pipe`);
    const write = (script: string) =>
      new Deno.Command("sh", { args: ["-c", `exec >"$0"; ${script}`, pipe], stdin: "null" }).spawn();
    let writer = write("printf one; sleep 0.1; printf two");
    assert.equal(text(await readInput(pipe, { bytesMax: 100 })), "onetwo");
    await writer.status;
    writer = write("cat /dev/zero 2>/dev/null");
    await assert.rejects(readInput(pipe, { bytesMax: 1 << 20 }), refused(/more than 1048576 bytes/));
    await writer.status;
    writer = write("printf one; exec sleep 60");
    await assert.rejects(
      readInput(pipe, { bytesMax: 100, silenceMsMax: 200 }),
      refused(/nothing has come for 0.2 s/),
    );
    writer.kill("SIGKILL");
    await writer.status;
    await assert.rejects(readInput("/dev/zero", { bytesMax: 1000 }), refused(/more than 1000 bytes/));
    assert.equal((await readInput("/dev/null", { bytesMax: 1000 })).length, 0);
    await assert.rejects(
      readInput(directory, { bytesMax: 1000 }),
      refused(/a directory, expected a file or a pipe/),
    );
    // Last: the open that it gives up waits on, until this writer releases it.
    await assert.rejects(
      readInput(pipe, { bytesMax: 100, openMsMax: 100 }),
      refused(/nobody has opened the pipe for writing/),
    );
    await write("true").status;
  }));

Deno.test("readStream() waits for a person at a terminal", async () => {
  const parts = ["a", "b"];
  const source = {
    isTerminal: () => true,
    async read(to: Uint8Array): Promise<number | null> {
      await new Promise((resolve) => setTimeout(resolve, 30));
      const next = parts.shift();
      return next === undefined ? null : new TextEncoder().encodeInto(next, to).written;
    },
  };
  assert.equal(text(await readStream("stdin", source, { bytesMax: 10, silenceMsMax: 1 })), "ab");
});
