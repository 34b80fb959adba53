/** The plugin by itself: what it asks, what it makes of answers that lie, and deletions that wait. It needs no privileges. */
import assert from "node:assert/strict";
import { CniAnswer, CniRequest } from "@weir/proto/endpoint";

const PLUGIN = new URL("../../../../.build/cni/weir-cni", import.meta.url).pathname;
const CONFIG = { cniVersion: "1.1.0", name: "weir", type: "weir-cni" };

interface Ran {
  code: number;
  out: string;
}

/** A directory with a socket and a queue, and a server on the socket that says `answer` to whatever it is asked. */
class Bed implements AsyncDisposable {
  readonly root: string = Deno.makeTempDirSync();
  readonly socket: string = `${this.root}/cni.sock`;
  readonly queue: string = `${this.root}/queue`;
  /** What was asked. */
  readonly asked: Uint8Array[] = [];
  #listener: Deno.UnixListener | undefined;
  readonly #held: Deno.Conn[] = [];

  /**
   * @param answer undefined: it says nothing, and keeps the connection
   * @param heard what is read before: all of the request, or nothing
   */
  serve(answer: Uint8Array | undefined, heard: "all" | "nothing" = "all"): void {
    const listener = this.#listener = Deno.listen({ transport: "unix", path: this.socket });
    (async () => {
      for await (const connection of listener) {
        this.asked.push(heard === "all" ? await readRequest(connection) : new Uint8Array());
        if (answer === undefined) this.#held.push(connection);
        else {
          await writeAll(connection, answer).catch(() => {}); // it has heard enough
          connection.close();
        }
      }
    })();
  }

  async run(command: string, { config = CONFIG, env = {}, stdin }: {
    config?: object;
    env?: Record<string, string>;
    stdin?: Uint8Array;
  } = {}): Promise<Ran> {
    const child = new Deno.Command(PLUGIN, {
      clearEnv: true,
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: "c1",
        CNI_NETNS: "/run/netns/c1",
        CNI_IFNAME: "eth0",
        ...env,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const text = JSON.stringify({ ...config, socket: this.socket, deletions: this.queue });
    const writer = child.stdin.getWriter();
    await writer.write(stdin ?? new TextEncoder().encode(text)).catch(() => {});
    await writer.close().catch(() => {});
    const { code, stdout } = await child.output();
    return { code, out: new TextDecoder().decode(stdout) };
  }

  queued(): string[] {
    return Array.from(Deno.readDirSync(this.queue), ({ name }) => name).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener?.close();
    for (const connection of this.#held) connection.close();
    await Deno.remove(this.root, { recursive: true });
  }
}

/** A whole request, head and body; what came of it when it ends before. */
async function readRequest(from: Deno.Conn): Promise<Uint8Array> {
  const bytes = new Uint8Array(8 << 20);
  let length = 0;
  for (;;) {
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, Math.min(length, 1024)));
    const bodyBytes = Number(/^Content-Length: ([0-9]+)\r$/m.exec(text)?.[1] ?? NaN);
    if (length >= text.indexOf("\r\n\r\n") + 4 + bodyBytes) return bytes.subarray(0, length);
    const count = await from.read(bytes.subarray(length));
    if (count === null) return bytes.subarray(0, length);
    length += count;
  }
}

async function writeAll(to: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

const http = (body: Uint8Array | string, status = "200 OK"): Uint8Array => {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  return new Uint8Array([...new TextEncoder().encode(`HTTP/1.1 ${status}\r\nx: y\r\n\r\n`), ...bytes]);
};
const failure = ({ code, out }: Ran): { code: number; msg: string } => {
  assert.equal(code, 1, out);
  return JSON.parse(out);
};

Deno.test("weir-cni passes on what it is given, and prints and ends as it is told", async () => {
  await using bed = new Bed();
  const answer = CniAnswer.encode({ exitCode: 1, output: '{"code":7,"msg":"ä"}\n' });
  // A field of a newer agent, of each kind that may be passed over.
  bed.serve(http(new Uint8Array([...answer, 0x98, 0x06, 0x05, 0xa2, 0x06, 0x02, 1, 2])));
  const given = {
    ...CONFIG,
    labels: ['a="b\\'],
    "socket\\u0000": "/no",
    args: { socket: "/no", cniVersion: "9" },
  };
  const ran = await bed.run("ADD", { config: given, env: { CNI_ARGS: 'A="1";B=\u00e4' } });
  assert.deepEqual(ran, { code: 1, out: '{"code":7,"msg":"ä"}\n' });
  const text = new TextDecoder("latin1").decode(bed.asked[0]);
  assert.match(text, /^POST \/v1\/cni:add HTTP\/1\.0\r\n/);
  const { config, pluginVersion: _, ...request } = CniRequest.decode(
    bed.asked[0].subarray(text.indexOf("\r\n\r\n") + 4),
  );
  assert.deepEqual(request, { containerId: "c1", netns: "/run/netns/c1", ifname: "eth0", args: 'A="1";B=ä' });
  assert.deepEqual(JSON.parse(new TextDecoder().decode(config)), {
    ...given,
    socket: bed.socket,
    deletions: bed.queue,
  });
});

Deno.test("weir-cni takes the answer of who closes before it has heard all", async () => {
  await using bed = new Bed();
  bed.serve(http("too large", "413 Content Too Large"), "nothing");
  const padding = "x".repeat(1 << 20);
  const { msg } = failure(await bed.run("ADD", { config: { ...CONFIG, padding } }));
  assert.match(msg, /answered HTTP 413: too large/);
});

Deno.test("weir-cni says its versions without an agent, in the version that it is asked in", async () => {
  await using bed = new Bed();
  const { code, out } = await bed.run("VERSION", { config: { cniVersion: "0.4.0" } });
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(out), {
    cniVersion: "0.4.0",
    supportedVersions: ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
});

Deno.test("weir-cni makes errors of CNI out of answers that are none, also of an agent that never answers", async () => {
  const cases: [string, Uint8Array | undefined, RegExp][] = [
    ["nothing", new Uint8Array(), /broke off its answer/],
    ["half a head", new TextEncoder().encode("HTTP/1.1 200 OK\r\nx:"), /broke off its answer/],
    ["no HTTP", new TextEncoder().encode("hello\r\n\r\nyou"), /answered HTTP 0: you/],
    [
      "an older agent",
      http('{"detail":"no \\"such\\" route"}', "404 Not Found"),
      /HTTP 404: \{"detail":"no \\"such\\" route"\}/,
    ],
    ["no message", http("no message"), /cannot be read \(10 bytes\)/],
    ["a length beyond the end", http(Uint8Array.of(0x12, 0xff, 0xff, 0xff, 0xff, 0x7f, 1)), /cannot be read/],
    ["a varint without an end", http(new Uint8Array(20).fill(0xff)), /cannot be read/],
    ["too much", http(new Uint8Array((4 << 20) + 1)), /did not answer on .*Message too long/],
    ["silence", undefined, /did not answer on .*Connection timed out/],
  ];
  await Promise.all(cases.map(async ([name, answer, message]) => {
    await using bed = new Bed();
    bed.serve(answer);
    const { code, msg } = failure(await bed.run("STATUS"));
    assert.equal(code, 50, name);
    assert.match(msg, message, name);
  }));
});

Deno.test("weir-cni refuses input without an end, values that are too long, and paths that it cannot take", async () => {
  await using bed = new Bed();
  assert.match(
    failure(await bed.run("ADD", { stdin: new Uint8Array((4 << 20) + 1).fill(0x20) })).msg,
    /more than 4194304/,
  );
  const long = { CNI_ARGS: "x".repeat(33_000) };
  assert.deepEqual(failure(await bed.run("DEL", { env: long })).code, 4);
  assert.equal(failure(await bed.run("NONE")).code, 4);
  const stdin = new TextEncoder().encode(JSON.stringify({ socket: `/${"x".repeat(200)}` }));
  assert.equal(failure(await bed.run("STATUS", { stdin })).code, 6);
  for (const text of ["", "{", '{"socket', '{"socket":"/a\\', "]]]]", '"\\']) {
    const { code, msg } = failure(await bed.run("STATUS", { stdin: new TextEncoder().encode(text) }));
    assert.equal(code, 50, text);
    assert.match(msg, /nobody answers on/);
  }
});

Deno.test("weir-cni queues a deletion that nobody takes, whole and in order, up to a bound", async () => {
  await using bed = new Bed();
  assert.deepEqual(
    await bed.run("DEL"),
    { code: 0, out: "" },
    "without a queue there is no Weir: the pod may go",
  );
  await Deno.mkdir(bed.queue);
  const containers = ["c3", "c1", "c2"];
  for (const CNI_CONTAINERID of containers) {
    assert.deepEqual(await bed.run("DEL", { env: { CNI_CONTAINERID } }), { code: 0, out: "" });
  }
  const read = (name: string) => CniRequest.decode(Deno.readFileSync(`${bed.queue}/${name}`));
  assert.deepEqual(bed.queued().map((name) => read(name).containerId), containers);
  assert.equal(read(bed.queued()[0]).config.length, 0, "a queue of configurations would be without bounds");

  // An agent of before knows no such route; one that hangs is the same as none, but for the time.
  bed.serve(http("{}", "404 Not Found"));
  assert.deepEqual(await bed.run("DEL"), { code: 0, out: "" });
  assert.equal(bed.queued().length, 4);

  for (let i = 4; i < 4096; i++) await Deno.writeTextFile(`${bed.queue}/${i}`, "");
  const { code, msg } = failure(await bed.run("DEL"));
  assert.equal(code, 11);
  assert.match(msg, /holds 4096 of 4096 deletions/);
  assert.equal(bed.queued().length, 4096);
});

Deno.test("weir-cni writes through no link that stands in the queue's place", async () => {
  await using bed = new Bed();
  await Deno.mkdir(`${bed.root}/elsewhere`);
  await Deno.symlink(`${bed.root}/elsewhere`, bed.queue);
  const { code, msg } = failure(await bed.run("DEL"));
  assert.equal(code, 5);
  assert.match(msg, /cannot be opened/);
  assert.deepEqual(Array.from(Deno.readDirSync(`${bed.root}/elsewhere`)), []);
});
