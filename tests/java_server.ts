/**
 * A real server in Java for the tests: one process with its data in a folder that goes with it, and what `build` of its tests has fetched.
 * @module
 */

/** Slow machines under load need most of it. */
const START_DEADLINE_MS = 300_000;

/** Where `tests/<name>/build` puts things. */
export function cacheOf(name: string): string {
  return Deno.env.get(`WEIR_${name.toUpperCase()}_CACHE`) ??
    new URL(`../.build/${name}`, import.meta.url).pathname;
}

/** Whether `tests/<name>/build` has run. */
export function isBuilt(name: string): boolean {
  try {
    return [...Deno.readDirSync(cacheOf(name))].some((it) => it.name.endsWith(".done"));
  } catch {
    return false;
  }
}

/** Arguments of deno that run a client of npm; beside them what it is to import. Outside of the workspace, whose lock file it is not in. */
export function npmClient(script: string, module: string): string[] {
  return ["run", "-A", "--quiet", "--no-config", "--no-lock", script, module];
}

/** How one is started. */
export interface JavaServerOptions {
  /** As its tests are called. */
  readonly name: string;
  /** On 127.0.0.1; it is up when it listens there. */
  readonly port: number;
  /** Its files by name, for its folder. */
  readonly files: (directory: string) => Readonly<Record<string, string>>;
  /** Runs before it, in its folder. @returns arguments of java */
  readonly prepare?: (directory: string) => string[];
  /** @returns arguments of java */
  readonly command: (directory: string) => string[];
  /** File of its folder that says why it does not come up. */
  readonly log?: string;
}

/** A server that runs. */
export class JavaServer implements AsyncDisposable {
  private constructor(readonly directory: string, readonly process: Deno.ChildProcess) {}

  /** Starts one. Throws with the end of its log where it does not come up. */
  static async start(options: JavaServerOptions): Promise<JavaServer> {
    const directory = await Deno.makeTempDir({ prefix: `weir-${options.name}-${Deno.pid}-` });
    for (const [name, text] of Object.entries(options.files(directory))) {
      await Deno.writeTextFile(`${directory}/${name}`, text);
    }
    const java = (args: string[]) => ({ args: ["java", ...args], cwd: directory, stdin: "null" as const });
    if (options.prepare !== undefined) {
      const { code, stderr } = await new Deno.Command("nice", java(options.prepare(directory))).output();
      const said = new TextDecoder().decode(stderr);
      if (code !== 0) throw new Error(`Cannot prepare ${options.name}: ${said.slice(-2000)}`);
    }
    const command = new Deno.Command("nice", {
      ...java(options.command(directory)),
      stdout: "null",
      stderr: "null",
    });
    const server = new JavaServer(directory, command.spawn());
    try {
      await server.#ready(options);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
    return server;
  }

  async #ready({ name, port, log }: JavaServerOptions): Promise<void> {
    let ended = false;
    this.process.status.then(() => ended = true);
    for (const end = Date.now() + START_DEADLINE_MS; Date.now() < end && !ended;) {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port })).close();
        return;
      } catch {
        await new Promise((done) => setTimeout(done, 250));
      }
    }
    const said = log === undefined ? "" : await Deno.readTextFile(`${this.directory}/${log}`).catch(() => "");
    throw new Error(
      `${name} does not listen on port ${port}: ${
        said.slice(-3000) || `no log; has tests/${name}/build run to its end?`
      }`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch { /* it has ended */ }
    await this.process.status;
    await Deno.remove(this.directory, { recursive: true }).catch(() => {});
  }
}
