import assert from "node:assert/strict";
import { WeirClient } from "@weir/client";
import { until } from "@weir/common/testing/until";

const MAIN = new URL("main.ts", import.meta.url).pathname;

/** A process of the proxy at a port, which knows no handle: it takes connections and closes them. */
class ProxyProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #client: WeirClient;

  constructor(directory: string, name: string, port: number, ...more: string[]) {
    const socket = `${directory}/${name}.sock`;
    this.#client = new WeirClient({ socket });
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--unstable-net", MAIN, "--socket", socket, "--port", `${port}`],
        ...["--datapath", `unix:${directory}/datapath.sock`, ...more],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  async text(path: string): Promise<string> {
    return await (await this.#client.send(path)).text();
  }

  /** Connections that it has taken. */
  async taken(): Promise<number> {
    const lines = (await this.text("/metrics")).matchAll(/^weir_l7_connections_ended_total\{.*\} (\d+)$/gm);
    return [...lines].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.#child.status;
  }
}

/** A datapath that has nothing of what it is asked for. */
class Datapath implements AsyncDisposable {
  readonly #server: Deno.HttpServer;

  constructor(directory: string) {
    const path = `${directory}/datapath.sock`;
    this.#server = Deno.serve({ path, onListen: () => {} }, () => new Response("{}", { status: 404 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** Connects, and waits for the end. */
async function connect(port: number): Promise<void> {
  using socket = await Deno.connect({ hostname: "127.0.0.1", port });
  await socket.read(new Uint8Array(1)).catch(() => {});
}

Deno.test("processes with --shared-port divide the connections of one port; the others have all when one is killed", async () => {
  const directory = await Deno.makeTempDir();
  const free = [0, 0].map((port) => Deno.listen({ hostname: "127.0.0.1", port }));
  const [port, other] = free.map(({ addr }) => addr.port);
  for (const one of free) one.close();
  try {
    await using _datapath = new Datapath(directory);
    await using first = new ProxyProcess(directory, "a", port, "--shared-port");
    const second = new ProxyProcess(directory, "b", port, "--shared-port", "--datagram-port", `${other}`);
    try {
      for (const one of [first, second]) {
        await until("it listens", async () => /^\[\+\] listener/m.test(await one.text("/readyz?verbose")));
      }
      const count = 64;
      for (let at = 0; at < count; at++) await connect(port);
      let taken: number[] = [];
      await until(() => `each has taken some of ${count}: ${taken}`, async () => {
        taken = await Promise.all([first.taken(), second.taken()]);
        return taken[0] + taken[1] === count && Math.min(...taken) > 0;
      });
      await second[Symbol.asyncDispose]();
      for (let at = 0; at < 16; at++) await connect(port);
      await until("the other has taken them all", async () => await first.taken() === taken[0] + 16);
    } finally {
      await second[Symbol.asyncDispose]();
    }
    // One that does not share has no part of it, and says so.
    await using alone = new ProxyProcess(directory, "c", port);
    await until("it says why it is not ready", async () => {
      // Not to be ready is an error to the client.
      const said = await alone.text("/readyz?verbose").catch(({ message }) => message);
      return /\[-\] listener: .*in use/.test(said);
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a process listens when the datapath has answered, and goes on when that is away again", async () => {
  const directory = await Deno.makeTempDir();
  const free = Deno.listen({ hostname: "127.0.0.1", port: 0 }), { port } = free.addr;
  free.close();
  try {
    await using early = new ProxyProcess(directory, "a", port);
    const said = () => early.text("/readyz?verbose").catch(({ message }) => message);
    for (const part of ["listener", "datagrams"]) {
      await until(
        `${part} says what it waits for`,
        async () => (await said()).includes(`[-] ${part}: the datapath has not answered yet`),
      );
    }
    await assert.rejects(connect(port), Deno.errors.ConnectionRefused);
    {
      await using _datapath = new Datapath(directory);
      await until("it listens", async () => /^\[\+\] listener/m.test(await said()));
    }
    await connect(port);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
