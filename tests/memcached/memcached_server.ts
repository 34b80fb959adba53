/** A real memcached on loopback. @module */

const CACHE = Deno.env.get("WEIR_MEMCACHED_CACHE") ??
  new URL("../../.build/memcached", import.meta.url).pathname;
const ROOT = `${CACHE}/root/usr`;

/** Python with both clients. */
export const PYTHON = `${CACHE}/venv/bin/python`;

/** Whether the build script has run. */
export function memcachedIsBuilt(): boolean {
  try {
    return Deno.statSync(PYTHON).isFile;
  } catch {
    return false;
  }
}

/** A server that runs. */
export class MemcachedServer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess, readonly port: number) {
    this.#child = child;
  }

  /** On a port that is free. */
  static async start(): Promise<MemcachedServer> {
    const port = freePort();
    const fetched = (() => {
      try {
        return Deno.statSync(ROOT).isDirectory;
      } catch {
        return false;
      }
    })();
    const libraries = `${ROOT}/lib/${Deno.build.arch}-linux-gnu`;
    const child = new Deno.Command(fetched ? `${ROOT}/bin/memcached` : "memcached", {
      args: ["-l", "127.0.0.1", "-p", `${port}`, "-U", "0", "-m", "32", "-t", "1", "-u", "nobody"],
      env: fetched ? { LD_LIBRARY_PATH: libraries } : {},
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    for (;;) {
      try {
        (await Deno.connect({ port })).close();
        return new MemcachedServer(child, port);
      } catch (error) {
        const ended = await Promise.race([
          child.status,
          new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 20)),
        ]);
        if (ended !== undefined) throw new Error(`memcached ended with ${ended.code}`, { cause: error });
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}
