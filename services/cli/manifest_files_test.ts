import assert from "node:assert/strict";
import { type CommandIo, UsageError } from "./context.ts";
import { MANIFEST_BYTES_MAX, readManifest, readManifests } from "./manifest_files.ts";

const io: CommandIo = {
  out() {},
  err() {},
  terminal: false,
  readStdin: (bytesMax) => Promise.resolve(`from stdin, at most ${bytesMax}`),
  interrupted: new AbortController().signal,
};

async function inDirectory(use: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.realPath(await Deno.makeTempDir());
  try {
    await use(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("readManifests() takes files, directories, stdin and pipes", () =>
  inDirectory(async (directory) => {
    Deno.writeTextFileSync(`${directory}/b.yaml`, "b");
    Deno.writeTextFileSync(`${directory}/a.json`, "a");
    Deno.writeTextFileSync(`${directory}/notes.txt`, "no");
    Deno.symlinkSync(`${directory}/b.yaml`, `${directory}/c.yml`);
    await new Deno.Command("mkfifo", { args: [`${directory}/d.yaml`] }).output();
    const texts = async (...paths: string[]) => (await readManifests(paths, io)).map(({ text }) => text);
    assert.deepEqual(await texts(directory), ["a", "b", "b"], "a pipe in a directory is left alone");
    assert.deepEqual(await texts(`${directory}/b.yaml`, directory), ["b", "a", "b", "b"]);
    for (const name of ["-", "/dev/stdin", "/dev/fd/0"]) {
      const [stdin] = await readManifests([name], io);
      assert.deepEqual(
        [stdin.file, stdin.directory, stdin.text],
        ["stdin", Deno.cwd(), `from stdin, at most ${MANIFEST_BYTES_MAX}`],
      );
    }
    assert.deepEqual((await readManifest(`${directory}/b.yaml`, io)).directory, directory);
    const writer = new Deno.Command("sh", { args: ["-c", `printf piped >"$0"`, `${directory}/d.yaml`] })
      .spawn();
    const piped = await readManifest(`${directory}/d.yaml`, io);
    assert.deepEqual([piped.text, piped.directory], ["piped", Deno.cwd()]);
    await writer.status;
  }));

Deno.test("readManifests() says what it cannot read as wrong usage", () =>
  inDirectory(async (directory) => {
    Deno.mkdirSync(`${directory}/empty`);
    Deno.writeTextFileSync(`${directory}/large.yaml`, "");
    Deno.truncateSync(`${directory}/large.yaml`, MANIFEST_BYTES_MAX + 1);
    const cases: [string, RegExp][] = [
      [`${directory}/none`, /there is no such file or directory/],
      [`${directory}/empty`, /no \.yaml, \.yml or \.json file in it/],
      [`${directory}/large.yaml`, /16777217 bytes, expected at most 16777216/],
      ["/dev/zero", /more than 16777216 bytes/],
    ];
    for (const [path, pattern] of cases) {
      await assert.rejects(readManifests([path], io), (error) => {
        assert.ok(error instanceof UsageError);
        assert.match(error.message, pattern);
        return true;
      });
    }
  }));

Deno.test("weir policy apply reads what a shell's <(...) and - give it", async () => {
  const policy = (name: string, app: string) =>
    `{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: ${name}}, ` +
    `spec: {endpointSelector: {matchLabels: {app: ${app}}}, ingress: [{}]}}`;
  const weir = new URL("../../scripts/weir", import.meta.url).pathname;
  const ran = await new Deno.Command("bash", {
    args: [
      "-c",
      `printf '%s' "$1" | timeout 60 "$0" policy apply --server unix:/none.sock -f - -f <(printf '%s' "$2")`,
      weir,
      policy("a", "x"),
      policy("b", "y"),
    ],
    stdin: "null",
  }).output();
  const said = new TextDecoder().decode(ran.stderr);
  // Both were read: what is missing is only somebody to give them to.
  assert.match(said, /\/none\.sock/, said);
});
